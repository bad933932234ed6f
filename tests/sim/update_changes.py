# SPDX-License-Identifier: GPL-2.0-or-later
"""Random changes of a boot directory: what an update, or its owner, does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import update_files as files
from tpm_sim.boot_directory import default_kernel_args
from tpm_sim.models import (
    MachineModel,
    PolicyRule,
    Processor,
    TbootModel,
    TrenchbootModel,
)
from update_setups import (
    INITRAMFS,
    KERNEL,
    SKL,
    TBOOT,
    XEN,
    XEN_EFI,
    Form,
    Loaded,
    Menu,
    Setup,
)

_XEN_WORDS = "placeholder console=none dom0_mem=min:1024M dom0_mem=max:4096M ucode=scan"
_TRENCHBOOT_WORDS = f"{_XEN_WORDS} no-real-mode edd=off"
_MOST_MODULES = 6
_EXTRAS = ("/ucode.bin", "/policy.data", "/extra.bin")
_PLAIN_WORDS = (
    "quiet",
    "a=b",
    "dom0_mem=max:2048M",
    "loglvl=all",
    "x=1,2:3",
    "ro",
    "-",
)
_GRUB_WORDS = (
    *_PLAIN_WORDS,
    '"two words"',
    "'single $quoted'",
    '"$set and ${unset}"',
    "$set",
    "back\\\\slash",
    'quote\\"d',
    "é",
    "''",
)
_TBOOT_OPTIONS = ("extpol=sha256", "measure_nv=true", "pcr_map=da", "force_pmrs=true")


@dataclass(frozen=True)
class Machine:
    """What a change may know of the machine: its model, and its earlier setups."""

    model: MachineModel
    earlier: Sequence[Setup]

    @property
    def has_policy(self) -> bool:
        """Whether its owner put a policy for tboot into the TPM."""
        return isinstance(self.model, TbootModel) and bool(self.model.policy_rules)


_POLICIES = (
    (PolicyRule("0", "none", lists_hash=True), PolicyRule("any", "19")),
    (PolicyRule("0", "none"), PolicyRule("any", "17")),
    (PolicyRule("0", "18"), PolicyRule("1", "19"), PolicyRule("any", "18")),
)

Change = Callable[[Random, Setup, Machine], Setup]


def first_setup(random: Random, model: MachineModel) -> Setup:
    """Return what is in /boot when the story begins."""
    form = Form.of(model)
    kernel_words = f"placeholder {default_kernel_args()}"
    loaded = {KERNEL: files.kernel(random), INITRAMFS: files.initramfs(random)}
    modules = [Loaded(KERNEL, kernel_words), Loaded(INITRAMFS)]
    if isinstance(model, TrenchbootModel):
        is_efi = form is Form.UEFI
        if model.processor is Processor.AMD:
            launched = {SKL: files.skl(Random(0), model.skl_header)}
        else:
            launched = files.first_sinit(model)
        path = XEN_EFI if is_efi else XEN
        content = {path: files.first_xen(is_efi=is_efi), **loaded, **launched}
        kernel = Loaded(path, _TRENCHBOOT_WORDS)
        return Setup(form, content, kernel, tuple(modules), tuple(launched))
    assert isinstance(model, TbootModel)
    sinit = {f"/{name}": acm.content for name, acm in model.sinit_files}
    tboot = files.tboot_of(model.tboot_version)
    # tb_polgen, which makes the owner's policy, unpacks as one would by hand: gzip.
    xen = files.debians_xen() if model.policy_rules else files.tboots_xen(random)
    content = {TBOOT: tboot, XEN: xen, **loaded, **sinit}
    modules = [Loaded(XEN, _XEN_WORDS), *modules, *map(Loaded, sinit)]
    words = "placeholder logging=memory,serial"
    return Setup(form, content, Loaded(TBOOT, words), tuple(modules))


def changed(random: Random, before: Setup, machine: Machine) -> tuple[Setup, list[str]]:
    """Return a setup after one to four changes, and their names."""
    table = {Form.TBOOT: _TBOOT, Form.MULTIBOOT: _MULTIBOOT, Form.UEFI: _UEFI}
    weights = table[before.form]
    count = random.choice((1, 1, 1, 2, 2, 3, 4))
    drawn = random.choices(list(weights), list(weights.values()), k=count)
    after = before
    for change in drawn:
        after = change(random, after, machine)
    return after, [change.__name__.strip("_") for change in drawn]


# Files


def _new_xen(random: Random, before: Setup, machine: Machine) -> Setup:
    makers = {
        Form.TBOOT: files.tboots_xen,
        Form.MULTIBOOT: files.launchable_xen,
        Form.UEFI: files.efi_xen,
    }
    path = XEN_EFI if before.form is Form.UEFI else XEN
    return before.with_file(path, makers[before.form](random))


def _new_kernel(random: Random, before: Setup, machine: Machine) -> Setup:
    return before.with_file(KERNEL, files.kernel(random))


def _new_initramfs(random: Random, before: Setup, machine: Machine) -> Setup:
    return before.with_file(INITRAMFS, files.initramfs(random))


def _rebuild(random: Random, before: Setup, machine: Machine) -> Setup:
    """Put another build of the same length in the place of a kernel or initramfs.

    Not where the packed file is loaded as it is: that would be of another length.
    """
    path = random.choice((KERNEL, INITRAMFS))
    is_packed = any(each.path == path and each.nounzip for each in before.modules)
    if path not in before.files or is_packed:
        return before
    is_raw = before.form is Form.UEFI
    content = files.rebuilt(random, before.files[path], is_raw=is_raw)
    return before.with_file(path, content)


def _repack(random: Random, before: Setup, machine: Machine) -> Setup:
    paths = sorted({m.path for m in before.modules} & before.files.keys())
    path = random.choice(paths)
    return before.with_file(path, files.repacked(random, before.files[path]))


def _new_tboot(random: Random, before: Setup, machine: Machine) -> Setup:
    return before.with_file(TBOOT, files.tboot(random))


def _other_version(random: Random, before: Setup, machine: Machine) -> Setup:
    version = random.choice(files.TBOOT_VERSIONS)
    return before.with_file(TBOOT, files.tboot_of(version))


def _new_skl(random: Random, before: Setup, machine: Machine) -> Setup:
    model = machine.model
    if not isinstance(model, TrenchbootModel) or model.processor is Processor.INTEL:
        return _new_sinit(random, before, machine)
    return before.with_file(SKL, files.skl(random, model.skl_header))


def _new_sinit(random: Random, before: Setup, machine: Machine) -> Setup:
    """Overwrite a SINIT module, or load another one besides."""
    model = machine.model
    assert isinstance(model, TbootModel | TrenchbootModel)
    if model.platform is None:
        return before
    paths = [path for path in sorted(before.files) if "SINIT" in path]
    is_more = not paths or random.random() < 0.15
    path = "/NEW_SINIT.bin" if is_more else random.choice(paths)
    after = before.with_file(path, files.sinit(random, model.platform))
    if path in after.used_paths:
        return after
    if before.form is Form.TBOOT:
        return after.with_modules([*after.modules, Loaded(path)])
    return replace(after, slaunch_modules=(*after.slaunch_modules, path))


def _reorder_sinit(random: Random, before: Setup, machine: Machine) -> Setup:
    launch = list(before.slaunch_modules)
    if len(launch) > 1 and random.random() < 0.5:
        launch.remove(random.choice(launch))
    random.shuffle(launch)
    return replace(before, slaunch_modules=tuple(launch))


# Lines of the entry


def _words(random: Random, before: Setup) -> str:
    pool = _PLAIN_WORDS if before.form is Form.UEFI else _GRUB_WORDS
    return " ".join(random.choices(pool, k=random.randrange(5)))


def _module_words(random: Random, before: Setup, machine: Machine) -> Setup:
    """Give a module another command line; of a UEFI Xen only the kernel has one."""
    number = random.randrange(len(before.modules))
    if before.form is Form.UEFI:
        number = 0
    return before.with_module(number, words=_words(random, before))


def _kernel_words(random: Random, before: Setup, machine: Machine) -> Setup:
    """Give tboot, or TrenchBoot's Xen, other words."""
    words = "placeholder logging=memory"
    if before.form is not Form.TBOOT:
        words = _TRENCHBOOT_WORDS
    more = " ".join(random.choices(_PLAIN_WORDS, k=random.randrange(3)))
    return replace(before, kernel=replace(before.kernel, words=f"{words} {more}"))


def _tboot_option(random: Random, before: Setup, machine: Machine) -> Setup:
    """Give tboot an option that decides what it extends."""
    words = f"{before.kernel.words} {random.choice(_TBOOT_OPTIONS)}"
    return replace(before, kernel=replace(before.kernel, words=words))


def _toggle_nounzip(random: Random, before: Setup, machine: Machine) -> Setup:
    number = random.randrange(len(before.modules))
    nounzip = before.modules[number].nounzip
    return before.with_module(number, nounzip=not nounzip)


def _add_module(random: Random, before: Setup, machine: Machine) -> Setup:
    """Load one file more: behind the kernel, or as a UEFI Xen's microcode."""
    if len(before.modules) >= _MOST_MODULES:
        return before
    path = "/ucode.bin" if before.form is Form.UEFI else random.choice(_EXTRAS)
    make = files.policy_data if path == "/policy.data" else files.anything
    after = before.with_file(path, make(random))
    if path in after.used_paths:
        return after
    if before.form is Form.UEFI:
        return after.with_modules([*after.modules, Loaded(path)])
    modules = list(after.modules)
    at = random.randrange(2, len(modules) + 1)
    modules.insert(at, Loaded(path, _words(random, before)))
    return after.with_modules(modules)


def _remove_module(random: Random, before: Setup, machine: Machine) -> Setup:
    """Load one file less, but Xen and a kernel; a policy's modules stay."""
    has_policy = machine.has_policy or bool(before.policy)
    least = 3 if has_policy or before.form is not Form.TBOOT else 2
    modules = list(before.modules)
    if len(modules) > least or (before.form is Form.UEFI and len(modules) > 2):
        del modules[
            -1 if before.form is Form.UEFI else random.randrange(2, len(modules))
        ]
    return before.with_modules(modules)


def _reorder(random: Random, before: Setup, machine: Machine) -> Setup:
    """Load what is behind the kernel in another order, or everything on tboot."""
    modules = list(before.modules)
    first = 0 if before.form is Form.TBOOT and random.random() < 0.3 else 2
    behind = modules[first:]
    random.shuffle(behind)
    return before.with_modules([*modules[:first], *behind])


# The rest of grub.cfg, and nothing of it


def _edit_menu(random: Random, before: Setup, machine: Machine) -> Setup:
    """Lay the menu out anew, as grub-mkconfig does after a new kernel."""
    menu = Menu(
        title=random.choice(("AEM Qubes, with Xen hypervisor", "AEM $Qubes", "AEM é")),
        before=random.randrange(3),
        chosen=random.choice(("number", "id", "title")),
        is_next=random.random() < 0.3,
        comment=random.choice(("", "made by grub-mkconfig")),
    )
    return replace(before, menu=menu)


def _edit_variables(random: Random, before: Setup, machine: Machine) -> Setup:
    text = random.choice(("", "no-real-mode edd=off", "one two", '"quoted"'))
    return replace(before, variables={"set": text})


def _edit_note(random: Random, before: Setup, machine: Machine) -> Setup:
    """Write a comment into a UEFI Xen's configuration."""
    return replace(before, note=random.choice(("", "a note", "b note", "longer note")))


def _change_nothing(random: Random, before: Setup, machine: Machine) -> Setup:
    return before


def _roll_back(random: Random, before: Setup, machine: Machine) -> Setup:
    return random.choice(machine.earlier)


def _new_policy(random: Random, before: Setup, machine: Machine) -> Setup:
    """Have the owner make a policy for tboot anew, by other rules or by the same."""
    model = machine.model
    if not isinstance(model, TbootModel) or model.is_tpm12:
        return before
    if not machine.has_policy and random.random() < 0.9:  # most never have one
        return before
    rules = random.choice(_POLICIES)
    number = before.policy_number + 1 + random.randrange(1000)
    return replace(before, policy=rules, policy_number=number)


# What does not boot, or is not measured


def _boot_plainly(random: Random, before: Setup, machine: Machine) -> Setup:
    return replace(before, menu=replace(before.menu, chosen="plain", is_next=False))


def _lose_a_file(random: Random, before: Setup, machine: Machine) -> Setup:
    return before.without_file(random.choice(sorted(before.used_paths)))


def _spoil_the_launcher(random: Random, before: Setup, machine: Machine) -> Setup:
    """Put something in tboot's or Xen's place that is neither, or cut it short."""
    path = before.kernel.path
    content = random.choice((b"MZ", b"\x1f\x8b\x08\x00", b"", b"no ELF file" * 99))
    return before.with_file(path, content)


def _without_slaunch(random: Random, before: Setup, machine: Machine) -> Setup:
    return replace(before, has_slaunch=False, slaunch_modules=())


_ANY: dict[Change, float] = {
    _edit_menu: 8,
    _edit_variables: 4,
    _change_nothing: 2,
    _roll_back: 6,
    _boot_plainly: 0.5,
    _lose_a_file: 0.5,
    _spoil_the_launcher: 0.5,
}
_TBOOT: dict[Change, float] = {
    **_ANY,
    _new_xen: 12,
    _new_kernel: 10,
    _new_initramfs: 12,
    _rebuild: 4,
    _repack: 5,
    _new_tboot: 8,
    _other_version: 3,
    _tboot_option: 0.5,
    _new_sinit: 4,
    _new_policy: 4,
    _module_words: 10,
    _kernel_words: 4,
    _toggle_nounzip: 4,
    _add_module: 6,
    _remove_module: 3,
    _reorder: 4,
}
_MULTIBOOT: dict[Change, float] = {
    **_ANY,
    _rebuild: 30,
    _new_xen: 3,
    _new_kernel: 1.5,
    _new_initramfs: 1.5,
    _repack: 6,
    _new_skl: 10,
    _reorder_sinit: 1,
    _module_words: 2,
    _kernel_words: 1.5,
    _toggle_nounzip: 2,
    _add_module: 2,
    _remove_module: 1,
    _reorder: 2,
    _without_slaunch: 0.5,
}
_UEFI: dict[Change, float] = {
    **_ANY,
    _rebuild: 30,
    _new_xen: 3,
    _new_kernel: 1.5,
    _new_initramfs: 1.5,
    _repack: 1,
    _new_skl: 8,
    _reorder_sinit: 1,
    _module_words: 2,
    _kernel_words: 2,
    _add_module: 2,
    _remove_module: 1,
    _edit_note: 2,
    _without_slaunch: 0.5,
}

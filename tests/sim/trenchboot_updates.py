# SPDX-License-Identifier: GPL-2.0-or-later
"""Random updates of a machine that TrenchBoot launches: its files are overwritten."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from tpm_sim.boot_directory import BootDirectory
from tpm_sim.cache import Cache
from tpm_sim.efi_image import launchable as launchable_efi
from tpm_sim.models import Processor, TrenchbootModel
from tpm_sim.slr import make_skl
from tpm_sim.trenchboot_directory import make_trenchboot_directory
from tpm_sim.unpacked import unpacked
from tpm_sim.xen_image import launchable

_HARMLESS_AT = 0x100000
"""In code that nothing here runs: bytes that may differ between builds."""


@dataclass
class Updated:
    """A machine's boot directory under change, by one source of chance."""

    random: Random
    model: TrenchbootModel
    made: BootDirectory

    @classmethod
    def install(cls, random: Random, model: TrenchbootModel, root: Path) -> Updated:
        """Make a directory with a small kernel and a small initramfs."""
        files = []
        for name in ("kernel", "initramfs"):
            path = root / f"first-{name}"
            path.write_bytes(random.randbytes(random.randrange(3000, 9000)))
            files.append(path)
        made = make_trenchboot_directory(
            root, model, kernel=files[0], initramfs=files[1]
        )
        return cls(random, model, made)

    @property
    def is_efi(self) -> bool:
        """Whether Xen is a UEFI program."""
        return self.made.xen_config is not None

    @property
    def words_file(self) -> Path:
        """The file that holds the command lines of Xen and its modules."""
        return self.made.xen_config or self.made.grub_cfg

    def replace_text(self, path: Path, old: str, new: str) -> None:
        """Replace the first of some words in a file."""
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def insert_line(self, path: Path, before: str, line: str) -> None:
        """Put a line in front of the first that begins with these words."""
        lines = path.read_text(encoding="utf-8").split("\n")
        at = next(n for n, each in enumerate(lines) if each.lstrip().startswith(before))
        lines.insert(at, line)
        path.write_text("\n".join(lines), encoding="utf-8")


Change = Callable[[Updated], None]


def rebuild_kernel(state: Updated) -> None:
    """A kernel of the same size."""
    _rebuild(state, state.made.kernel)


def rebuild_initramfs(state: Updated) -> None:
    """An initramfs of the same size."""
    _rebuild(state, state.made.initramfs)


def grow_kernel(state: Updated) -> None:
    """A kernel of another size."""
    _resize(state, state.made.kernel)


def grow_initramfs(state: Updated) -> None:
    """An initramfs of another size."""
    _resize(state, state.made.initramfs)


def update_xen(state: Updated) -> None:
    """Another release or another build of Xen."""
    _write_xen(state, state.random.random() < 0.5, state.random.randrange(1, 200))


def reinstall_xen(state: Updated) -> None:
    """The first Xen again: often a step back, or nothing."""
    _write_xen(state, is_new=False, build=0)


def change_xens_words(state: Updated) -> None:
    """Other options for Xen."""
    word = state.random.choice(("quiet", "noapic", "smt=off", "loglvl=all"))
    state.replace_text(state.words_file, "console=none", f"console=none {word}")


def change_kernels_words(state: Updated) -> None:
    """Another command line for dom0's kernel."""
    state.replace_text(
        state.words_file, " rd.luks", f" a={state.random.randrange(99)} rd.luks"
    )


def swap_words(state: Updated) -> None:
    """Words of the same length: under multiboot nothing but the words moves."""
    text = state.words_file.read_text(encoding="utf-8")
    old = "ucode=scan" if "ucode=scan" in text else "ucode=SCAN"
    new = "ucode=SCAN" if old == "ucode=scan" else "ucode=scan"
    state.replace_text(state.words_file, old, new)


def add_module(state: Updated) -> None:
    """One module more behind the initramfs."""
    if b"ucode.bin" in state.words_file.read_bytes():
        return
    path = state.made.initramfs.parent / "ucode.bin"
    path.write_bytes(state.random.randbytes(700))
    if state.is_efi:
        with state.words_file.open("a", encoding="utf-8") as config:
            config.write("    ucode=ucode.bin\n")
    else:
        line = "\tmodule2\t/ucode.bin words"
        state.insert_line(state.words_file, "slaunch_module", line)


def comment(state: Updated) -> None:
    """A comment in grub.cfg, of no effect."""
    state.insert_line(state.made.grub_cfg, "menuentry", f"# {state.random.random()}")


def comment_config(state: Updated) -> None:
    """A comment in the file with the command lines: its length changes."""
    before = "[" if state.is_efi else "menuentry"
    state.insert_line(state.words_file, before, f"# {state.random.randrange(10**6)}")


def retitle(state: Updated) -> None:
    """Another title of the entry."""
    number = state.random.randrange(99)
    state.replace_text(state.made.grub_cfg, "'AEM Qubes", f"'AEM {number} Qubes")


def update_loader(state: Updated) -> None:
    """Another skl.bin, or other SINIT modules."""
    if state.model.processor is Processor.AMD:
        _update_skl(state)
    else:
        _update_sinit(state)


def _update_skl(state: Updated) -> None:
    random = state.random
    length = random.choice((0xC4D4, 0xC4D4, 0xB000))
    data = random.choice((0xE4D4, 0xE4D4, 0xE000))
    state.made.launch_modules[0].write_bytes(
        make_skl(
            state.model.skl_header,
            version=random.randrange(9),
            length=length,
            bootloader_data=data,
            unmeasured=random.choice((b"", b"tail")),
        )
    )


def _update_sinit(state: Updated) -> None:
    random = state.random
    number = random.randrange(len(state.model.sinit_files))
    name, acm = state.model.sinit_files[number]
    date = random.choice((acm.date, acm.date + 0x10000, acm.date - 0x10000))
    other = replace(
        acm,
        date=date,
        build=random.randrange(50, 99),
        key=random.choice((acm.key, acm.key, 7)),
        capabilities=random.choice((acm.capabilities, 0x36A, 0x77E)),
    )
    (state.made.root / "boot" / name).write_bytes(other.content)


USUAL = (
    *(rebuild_kernel, rebuild_initramfs) * 3,
    *(comment, retitle, update_loader) * 2,
)
"""What moves nothing, for the most part."""

ANY = (
    *USUAL,
    grow_kernel,
    grow_initramfs,
    update_xen,
    update_xen,
    reinstall_xen,
    change_xens_words,
    change_kernels_words,
    swap_words,
    add_module,
    comment_config,
)


def _rebuild(state: Updated, path: Path) -> None:
    path.write_bytes(state.random.randbytes(path.stat().st_size))


def _resize(state: Updated, path: Path) -> None:
    size = path.stat().st_size + state.random.randrange(1, 9000)
    path.write_bytes(state.random.randbytes(size))


def _write_xen(state: Updated, is_new: bool, build: int) -> None:
    content = _xen(state.is_efi, is_new, build)
    state.made.xen.write_bytes(content)


@cache
def _xen(is_efi: bool, is_new: bool, build: int) -> bytes:
    """Return Xen as TrenchBoot launches it; `build` 0 is as the package has it."""
    there = Cache.default()
    if is_efi:
        path = there.xen_new_efi if is_new else there.xen_old_efi
    else:
        path = there.xen_new if is_new else there.xen_old
    content = bytearray(unpacked(path.read_bytes()))
    if build:
        content[_HARMLESS_AT] ^= build
        id_at = content.index(b"RSDS" if is_efi else b"GNU\0", _HARMLESS_AT) + 4
        content[id_at] ^= build
    if is_efi:
        return launchable_efi(bytes(content))
    return gzip.compress(launchable(bytes(content)), 1, mtime=0)

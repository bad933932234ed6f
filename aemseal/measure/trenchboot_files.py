# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file makes which of TrenchBoot's digests, under each generation's rules.

- multiboot: Xen as GRUB lays it out (the MLE's range), every module as GRUB hands it
  over; the command lines are only in the multiboot information, which no file gives.
- UEFI: every module as it is on disk, and each command line by itself; Xen is hashed as
  it lies in memory after it has run, which no file gives either.
- SKINIT: the secure kernel loader's measured bytes, and Xen's entry point by itself.

Source: GRUB loader/multiboot_elfxx.c and multiboot_mbi2.c; Xen arch/x86/slaunch.c and
efi/efi-boot.h; secure-kernel-loader main.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aemseal.formats.slaunch_mle import VIEWS, MleRule
from aemseal.measure.boot_entry import (
    BootEntry,
    BootModule,
    Launcher,
    Loader,
    Role,
)
from aemseal.measure.claims import Source, SourceKind
from aemseal.measure.launch import Facts, MeasuredFile, file_source
from aemseal.measure.trenchboot_tables import SKINIT, Part
from aemseal.words.digest import HashAlgorithm
from aemseal.words.wanted import (
    NOTE_SKL_SLRT_SIZE,
    NOTE_XEN_VERSION,
    View,
    Wanted,
)

NOTE_XEN_CMDLINE = "xen_cmdline"
"""In the source of Xen's command line under UEFI: whether it begins with the name."""

NOTE_XEN_CONFIGS = "xen_configs"
"""In the source of a command line under UEFI: the lengths of all files read for it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One reading of what differs between generations and no log tells.

    `mle_rule` is how much of Xen GRUB calls its MLE (multiboot); `names_image`
    whether Xen's command line begins with the image's name (UEFI, Xen 4.17).
    """

    stack: str
    is_efi: bool
    mle_rule: MleRule
    names_image: bool

    @property
    def parts_of_files(self) -> tuple[Part, ...]:
        """The parts in front of the modules that a file or its entry gives."""
        loader = (Part.LOADER, Part.ENTRY) if self.stack == SKINIT else ()
        return (*loader, Part.XEN_CMDLINE if self.is_efi else Part.IMAGE)

    @property
    def loader(self) -> Loader:
        """The command of GRUB's that loads Xen."""
        return Loader.CHAINLOADER if self.is_efi else Loader.MULTIBOOT2

    @property
    def xen_cmdline_form(self) -> str:
        """The form of Xen's command line under UEFI: its NOTE_XEN_CMDLINE."""
        return "named" if self.names_image else "plain"

    def require_own(self, role: Role, source: Source) -> None:
        """Raise KeyError for a source that another reading made.

        Its digest is right by itself, and says nothing for this reading: with it the
        next Xen would be hashed by a rule that was never seen to hold.
        """
        form = source.notes.get(NOTE_XEN_CMDLINE, self.xen_cmdline_form)
        is_other_view = role is Role.XEN and source.view is not VIEWS[self.mle_rule]
        if is_other_view or form != self.xen_cmdline_form:
            raise KeyError(f"{role} was measured by another rule")


def every_rule(stack: str, *, is_efi: bool) -> Iterator[Rules]:
    """Yield every reading, the newest generation's first."""
    if is_efi:
        for names_image in (False, True):
            yield Rules(stack, is_efi, next(iter(MleRule)), names_image)
        return
    for mle_rule in MleRule:
        yield Rules(stack, is_efi, mle_rule, names_image=False)


def measured_files(
    rules: Rules, entry: BootEntry, facts: Facts, algorithm: HashAlgorithm
) -> tuple[MeasuredFile, ...]:
    """Return what a boot entry makes TrenchBoot measure under one reading.

    In the order of Rules.parts_of_files, then the modules, each behind its command
    line under UEFI. Nothing for an entry that is launched in another way; a file
    without facts has no digest.
    """
    if entry.launcher is not Launcher.SLAUNCH or entry.loader is not rules.loader:
        return ()
    make = _Maker(rules, entry, facts, algorithm)
    front = [_FRONT[part](make) for part in rules.parts_of_files]
    strings = [make.string(module) for module in entry.modules if rules.is_efi]
    modules = [
        make.file(module_role(number), module, module.wanted)
        for number, module in enumerate(entry.modules)
    ]
    if not strings:
        return *front, *modules
    pairs = zip(strings, modules, strict=True)
    return *front, *(each for pair in pairs for each in pair)


def module_role(number: int) -> Role:
    """Return the role of a module by its number, from 0: kernel, initramfs, others."""
    return _MODULE_ROLES[number] if number < len(_MODULE_ROLES) else Role.MODULE


_MODULE_ROLES = (Role.KERNEL, Role.INITRAMFS)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the measurements of one entry."""

    rules: Rules
    entry: BootEntry
    facts: Facts
    algorithm: HashAlgorithm

    def file(self, role: Role, module: BootModule, wanted: Wanted) -> MeasuredFile:
        """Return a file whose view's bytes are what is hashed."""
        known = self.facts.get(wanted)
        source = file_source(module, wanted, known, NOTE_XEN_VERSION)
        return MeasuredFile(role, source.file_digests.get(self.algorithm), source)

    def image(self) -> MeasuredFile:
        """Return Xen, as much of it as the rule says."""
        wanted = self.entry.slaunch_mle_wanted(self.rules.mle_rule)
        return self.file(Role.XEN, self.entry.kernel, wanted)

    def entry_point(self) -> MeasuredFile:
        """Return Xen's entry point, which the secure kernel loader hashes by itself."""
        wanted = self.entry.slaunch_entry_wanted
        return self.file(Role.MLE, self.entry.kernel, wanted)

    def loader(self) -> MeasuredFile:
        """Return the secure kernel loader: the last file GRUB would take for one."""
        found = [
            wanted
            for wanted in self.entry.slaunch_modules_wanted
            if wanted.view is View.SKL and self._is_skl(wanted)
        ]
        if not found:
            return MeasuredFile(Role.SKL, None, _NO_LOADER)
        module = BootModule(found[-1].path, b"", role=Role.SKL)
        return self.file(Role.SKL, module, found[-1])

    def _is_skl(self, wanted: Wanted) -> bool:
        known = self.facts.get(wanted)
        return known is not None and NOTE_SKL_SLRT_SIZE in known.notes

    def xen_cmdline(self) -> MeasuredFile:
        """Return Xen's own command line, as this generation of Xen hashes it."""
        named = self.entry.named_cmdline if self.rules.names_image else None
        made = self._text(self.entry.kernel.cmdline if named is None else named)
        form = {NOTE_XEN_CMDLINE: self.rules.xen_cmdline_form}
        notes = {**made.source.notes, **form}
        return replace(made, source=replace(made.source, notes=notes))

    def string(self, module: BootModule) -> MeasuredFile:
        """Return a module's name and options, as xen.efi's configuration has them."""
        return self._text(module.cmdline)

    def _text(self, cmdline: bytes) -> MeasuredFile:
        configs = [Wanted(path, View.RAW) for path in self.entry.configs]
        config, known = configs[0], self.facts.get(configs[0])
        sizes = [str(self.facts[e].size) if e in self.facts else "?" for e in configs]
        source = Source(
            SourceKind.CMDLINE,
            path=config.path,
            cmdline=cmdline,
            file_digests=known.digests if known else {},
            view=config.view,
            size=known.size if known else None,
            notes={NOTE_XEN_CONFIGS: " ".join(sizes)},
        )
        return MeasuredFile(Role.CMDLINE, self.algorithm.hash(cmdline), source)


_NO_LOADER = Source(SourceKind.FILE, path="a secure kernel loader (skl.bin)")
_FRONT = {
    Part.LOADER: _Maker.loader,
    Part.ENTRY: _Maker.entry_point,
    Part.IMAGE: _Maker.image,
    Part.XEN_CMDLINE: _Maker.xen_cmdline,
}

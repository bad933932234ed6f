# SPDX-License-Identifier: GPL-2.0-or-later
"""TrenchBoot on Intel TXT and on AMD SKINIT: which record is of which part of the boot.

The processor, SINIT or the secure kernel loader extend their own records and Xen's
image; Xen then extends what GRUB handed over: under multiboot the multiboot
information (PCR 18) and every module (PCR 17), under UEFI the command lines (18) and
every module (17). Which file makes which digest: trenchboot_files.py.
Source: Xen arch/x86/slaunch.c (tpm_measure_slrt, tpm_process_drtm_policy) and tpm.c
(tpm_extend_mbi); secure-kernel-loader main.c; GRUB loader/slaunch and i386/txt.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.measure.amd_table import table_source
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.claims import Calibrated, Measurement, Source
from aemseal.measure.launch import (
    Facts,
    LoggedExtend,
    MeasuredFile,
    RunningSystem,
    carried,
    from_source,
    require_all_verified,
)
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.trenchboot_files import (
    Rules,
    every_rule,
    measured_files,
    module_role,
)
from aemseal.measure.trenchboot_tables import (
    DATA_PCR,
    EFI_PARTS,
    LAUNCH_PCR,
    SKINIT,
    TXT,
    Part,
    part_of_type,
    part_with_text,
)
from aemseal.words.digest import DYNAMIC_PCRS, Digest, HashAlgorithm
from aemseal.words.errors import PredictionError
from aemseal.words.events import (
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_MLE_HASH,
    TXT_SINIT_PUBKEY_HASH,
    Event,
)

_SINIT_TYPES = range(0x400, 0x500)
_IDENTITY_TYPES = frozenset({TXT_HASH_START, TXT_COMBINED_HASH, TXT_SINIT_PUBKEY_HASH})
_ROLES = {
    Part.LOADER: Role.SKL,
    Part.ENTRY: Role.MLE,
    Part.IMAGE: Role.XEN,
    Part.BOOT_INFO: Role.BOOT_INFO,
    Part.XEN_CMDLINE: Role.CMDLINE,
    Part.MODULE_STRING: Role.CMDLINE,
}
Logged = tuple[Part, LoggedExtend]


@dataclass(frozen=True, slots=True)
class TrenchBootLaunch:
    """A verified log read by TrenchBoot's rules: every extend with its part, in order.

    `rules` are one reading of what the log does not tell (see `every_rule`).
    """

    algorithm: HashAlgorithm
    parts: tuple[Logged, ...]
    rules: Rules
    system: RunningSystem

    @property
    def stack(self) -> str:
        """The launcher: "trenchboot-txt" or "trenchboot-skinit"."""
        return self.rules.stack

    @property
    def map(self) -> str:
        """The PCR map: GRUB always asks SINIT for details and authorities ("da")."""
        return "da"

    @property
    def default_pcrs(self) -> frozenset[int]:
        """Both PCRs that TrenchBoot extends."""
        return frozenset({LAUNCH_PCR, DATA_PCR})

    @property
    def module_roles(self) -> frozenset[Role]:
        """All modules are hashed as they are; Xen is none of them."""
        return frozenset({Role.KERNEL, Role.INITRAMFS, Role.MODULE})

    @property
    def extends(self) -> tuple[LoggedExtend, ...]:
        """All of them, in the order of the log."""
        return tuple(extend for _, extend in self.parts)

    @property
    def of_files(self) -> tuple[LoggedExtend, ...]:
        """The loader, the entry point, Xen; then the modules. See trenchboot_files."""
        order = self.rules.parts_of_files
        first = [
            extend for part in order for found, extend in self.parts if found is part
        ]
        strings = self.all_of(Part.MODULE_STRING) if self.rules.is_efi else ()
        modules = self.all_of(Part.MODULE)
        if not strings:
            return *first, *modules
        pairs = zip(strings, modules, strict=True)
        return *first, *(each for pair in pairs for each in pair)

    def all_of(self, part: Part) -> tuple[LoggedExtend, ...]:
        """Return the extends of one part, in order."""
        return tuple(extend for found, extend in self.parts if found is part)

    def files(self, entry: BootEntry, facts: Facts) -> tuple[MeasuredFile, ...]:
        """Return what a boot entry makes TrenchBoot measure, in `of_files`' order."""
        return measured_files(self.rules, entry, facts, self.algorithm)

    def digest_of(self, role: Role, source: Source) -> Digest:
        """Return the digest of a command line, or of a file's bytes as they are.

        KeyError also for what was kept by the rules of another generation.
        """
        self.rules.require_own(role, source)
        if role is Role.CMDLINE:
            return self.algorithm.hash(source.cmdline or b"")
        return source.file_digests[self.algorithm]

    def explain(
        self, extend: LoggedExtend, files: Sequence[Measurement]
    ) -> Measurement:
        """Explain AMD's table by the loader it tells of, all else as carried over.

        The secure kernel loader is the first of `files`.
        """
        is_table = (Part.PLATFORM, extend) in self.parts
        if not is_table or self.rules.stack != SKINIT:
            return carried(extend, Calibrated.NOW)
        source = table_source(files[0].source, extend.digest)
        if source is None:
            return carried(extend, Calibrated.NOW)
        return from_source(extend, source, Calibrated.NOW)


def read_launches(
    verified: VerifiedLog, system: RunningSystem
) -> tuple[TrenchBootLaunch, ...]:
    """Give every extend its part; one launch for each reading of the rules.

    PredictionError, naming the event, for a record that is no part of a launch of Xen,
    for parts that are missing or in another order, and for a PCR that does not replay.
    """
    require_all_verified(verified)
    logged = [
        (event, digests[verified.algorithm])
        for event, digests in verified.extends
        if event.pcr in DYNAMIC_PCRS
    ]
    stack = TXT if any(_is_sinit(event) for event, _ in logged) else SKINIT
    found = [_part(event) for event, _ in logged]
    named = _name_silent(logged, found)
    _require_shape(stack, named, logged)
    parts = _with_roles(named, logged)
    is_efi = any(part in EFI_PARTS for part in named)
    return tuple(
        TrenchBootLaunch(verified.algorithm, parts, rules, system)
        for rules in every_rule(stack, is_efi=is_efi)
    )


def _is_sinit(event: Event) -> bool:
    return event.untrusted_type in _SINIT_TYPES


def _part(event: Event) -> Part | None:
    """Return the part that a record's own type or text names, None for a silent one."""
    if event.untrusted_type == TXT_MLE_HASH:
        return Part.IMAGE
    if _is_sinit(event):
        return Part.FIRMWARE
    old = part_of_type(event.untrusted_type, event.pcr)
    if old is not None:
        return old
    text = event.untrusted_data.rstrip(b"\0")
    if not text and event.pcr == DATA_PCR:
        return None
    part = part_with_text(text, event.pcr)
    if part is None:
        shown = text.decode("utf-8", "backslashreplace")
        raise PredictionError(
            f"event {event.number} ({event.name}, {shown!r}) in PCR {event.pcr} is no "
            "part of a launch of Xen that is known",
            "TrenchBoot is supported as the launcher of Xen, as Anti Evil Maid uses it",
        )
    return part


def _name_silent(
    logged: list[tuple[Event, Digest]], found: list[Part | None]
) -> list[Part]:
    """Name the records without a text by their place.

    Xen extends the multiboot information first, where there is one, then the
    platform's table: nothing else of its has no text.
    """
    silent = [Part.PLATFORM]
    if not any(part in EFI_PARTS for part in found) and Part.BOOT_INFO not in found:
        silent = [Part.BOOT_INFO, Part.PLATFORM]
    named = []
    for (event, _), part in zip(logged, found, strict=True):
        if part is None:
            if not silent:
                raise PredictionError(
                    f"event {event.number} in PCR {event.pcr} has no text and is none "
                    "of the records that Xen leaves without one"
                )
            part = silent.pop(0)
        named.append(part)
    return named


def _require_shape(
    stack: str, named: list[Part], logged: list[tuple[Event, Digest]]
) -> None:
    """Refuse a launch whose parts are not those of TrenchBoot, or not in its order."""
    is_efi = any(part in EFI_PARTS for part in named)
    once = {Part.IMAGE, Part.XEN_CMDLINE if is_efi else Part.BOOT_INFO}
    if stack == SKINIT:
        once |= {Part.LOADER, Part.ENTRY}
    for part in once:
        if named.count(part) != 1:
            raise PredictionError(
                f"the log of a launch by TrenchBoot tells {named.count(part)} times of "
                f"{part.value}, not once"
            )
    modules, strings = named.count(Part.MODULE), named.count(Part.MODULE_STRING)
    if not modules or (is_efi and strings != modules):
        raise PredictionError(
            f"the log tells of {modules} modules and of {strings} command lines of "
            "modules: not what Xen measures"
        )
    for pcr, last in ((LAUNCH_PCR, Part.MODULE), (DATA_PCR, Part.MODULE_STRING)):
        _require_last(pcr, last, named, logged)


def _require_last(
    pcr: int, last: Part, named: list[Part], logged: list[tuple[Event, Digest]]
) -> None:
    """Refuse a record behind the modules': more of them come between, next time."""
    in_pcr = [
        (event, part)
        for (event, _), part in zip(logged, named, strict=True)
        if event.pcr == pcr
    ]
    seen = False
    for event, part in in_pcr:
        if seen and part is not last:
            raise PredictionError(
                f"event {event.number} follows {last.value} in PCR {pcr}: nothing is "
                "known about who extended it"
            )
        seen = seen or part is last


def _with_roles(
    named: list[Part], logged: list[tuple[Event, Digest]]
) -> tuple[Logged, ...]:
    parts: list[Logged] = []
    modules = 0
    for part, (event, digest) in zip(named, logged, strict=True):
        role = _ROLES.get(part, Role.PLATFORM)
        if part is Part.MODULE:
            role = module_role(modules)
            modules += 1
        elif event.untrusted_type in _IDENTITY_TYPES:
            role = Role.SINIT
        parts.append((part, LoggedExtend(event, digest, role)))
    return tuple(parts)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of machine: what differs between firmware, launchers and their logs.

Only the forms are here; the machines themselves are data in `machines.py` and in what
it imports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum

from aemseal.words.digest import Digests, HashAlgorithm
from tpm_sim.acm import Acm, Platform
from tpm_sim.eventlog import LogFormat
from tpm_sim.heap import SinitTable
from tpm_sim.memory import MemoryRange

SHA1 = HashAlgorithm.SHA1
SHA256 = HashAlgorithm.SHA256
SHA384 = HashAlgorithm.SHA384


@dataclass(frozen=True, slots=True)
class MachineModel(ABC):
    """What any machine has: a name, and the banks of its TPM."""

    name: str
    banks: tuple[HashAlgorithm, ...]

    @property
    @abstractmethod
    def log_path(self) -> str:
        """Where a measured boot leaves the launch's log, below the machine's root."""


# Machines that tboot launches


class Map(Enum):
    """Which PCR tboot extends for what."""

    LEGACY = "legacy"
    DETAILS_AUTHORITIES = "da"


class HashStart(Enum):
    """What the logged digest of the HASH_START event is; it depends on the SINIT."""

    EXT = "ext"
    """H(data): what the TPM extends."""

    SET = "set"
    """H(00.. || H(data)): what PCR 17 is then."""


@dataclass(frozen=True, slots=True)
class SinitEvent:
    """An event of SINIT's. Its digests are H(data), unless `digests` says others.

    The MLE's, the combined one's and the capabilities' are those of what is at hand,
    as is the key's where a module's file is launched. `banks` are those that it is
    extended in, all of SINIT's when empty; `is_random` gives it new data each time.
    """

    pcr: int
    type: int
    data: bytes = b""
    digests: Digests = field(default_factory=dict)
    banks: tuple[HashAlgorithm, ...] = ()
    is_random: bool = False


_WRAPPED = (LogFormat.TXT_HEAP, LogFormat.TBOOT_TEXT, LogFormat.TBOOT_MEMORY)
"""Where a log is kept that has a form of its own."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule of a policy in the TPM: a module's number ("any"), and a PCR ("none").

    With `lists_hash` the module's hash is in the policy, as it was when it was made.
    """

    module: str
    pcr: str
    lists_hash: bool = False


@dataclass(frozen=True, slots=True)
class TbootModel(MachineModel):
    """A machine that tboot launches. `tboot_banks` are those that tboot extends.

    `modules_pcr` is where the built-in policy puts all modules but Xen.
    """

    map: Map
    log_format: LogFormat
    """How the log is kept."""

    tboot_banks: tuple[HashAlgorithm, ...]
    hash_start_data: bytes
    """What is hashed of the firmware's SINIT module, unless one here is launched."""

    hash_start: HashStart
    sinit: tuple[SinitEvent, ...]
    policy_pcrs: tuple[int, ...]
    xen_pcr: int
    modules_pcr: int
    kept_form: LogFormat | None = LogFormat.TCG_AGILE
    """The log's own form where it is kept in the heap or as text; None: there is
    none, only the tables tell."""

    more_logs: tuple[LogFormat, ...] = ()
    """Other places that keep it, too."""

    is_tpm12: bool = False
    """Whether tboot takes the TPM for a TPM 1.2; it is a TPM 2.0 all the same."""

    sinit_banks: tuple[HashAlgorithm, ...] = ()
    """The banks that SINIT can hash for; all when empty."""

    lists_caps: bool = False
    """Whether SINIT logs that it closed the banks that it cannot hash for."""

    hash_start_times: int = 1
    """How often the log lists HASH_START."""

    table: SinitTable = field(default_factory=SinitTable)
    has_mle_in_policy: bool = False
    """Whether the launch control policy's hash is the MLE's (ThinkPad X200)."""

    tboot_version: str = ""
    """The version patched into the tboot that is installed; else the package's."""

    module_capabilities: int = 0x36E
    """What the firmware's SINIT module can."""

    platform: Platform | None = None
    sinit_files: tuple[tuple[str, Acm], ...] = ()
    firmware_sinit: Acm | None = None
    policy_rules: tuple[PolicyRule, ...] = ()
    """The policy that the owner put into the TPM; none when empty."""

    policy_type: str = "nonfatal"
    policy: Digests = field(default_factory=dict)
    """What tboot extends for its policy, where it is not the digest of the policy."""

    @property
    def event_log(self) -> LogFormat | None:
        """The form of the log, wherever it is kept."""
        return self.kept_form if self.log_format in _WRAPPED else self.log_format

    @property
    def log_path(self) -> str:
        """The file below the root that holds the log."""
        return self.log_format.path


# Machines that TrenchBoot launches


class Processor(Enum):
    """Whose dynamic launch it is: GETSEC[SENTER] of Intel TXT, or SKINIT of AMD."""

    INTEL = "txt"
    AMD = "skinit"


class Firmware(Enum):
    """How Xen is started: by GRUB's multiboot2, or as a UEFI program."""

    LEGACY = "legacy"
    UEFI = "uefi"


class Generation(Enum):
    """A GRUB and a Xen of TrenchBoot's Anti Evil Maid that belong together."""

    V0_3 = "v0.3"
    V0_4 = "v0.4"
    V0_4_1 = "v0.4.1"
    V0_5 = "v0.5"
    V0_5_3 = "v0.5.3"
    """Xen 4.21 in the place of 4.17."""

    @property
    def has_xen_of_v0_5(self) -> bool:
        """Whether Xen measures AMD's platform information, and the long Intel one."""
        return self in (Generation.V0_5, Generation.V0_5_3)

    @property
    def has_exact_mle(self) -> bool:
        """Whether GRUB measures what the MLE header names, and no more."""
        return self not in (Generation.V0_3, Generation.V0_4)

    @property
    def has_image_name(self) -> bool:
        """Whether a UEFI Xen's command line begins with its own name."""
        return self is not Generation.V0_5_3


class SklHeader(Enum):
    """Where skl.bin keeps the offsets of its information and of the SLRT (bytes)."""

    SHORT = (4, 6)
    """TrenchBoot/secure-kernel-loader, head.S."""

    SPECIFIED = (66, 68)
    """With the 62 reserved bytes that AMD's manual demands: include/grub/i386/skinit.h
    of TrenchBoot's newer GRUB, struct skinit_sl_header of its newer Xen."""


class LogPlace(Enum):
    """Where the log of a TrenchBoot launch can be read."""

    MEMORY = "dev/mem"
    """At the physical address that Xen tells on its console."""

    FILE = "sys/kernel/security/slaunch/eventlog"
    """In the file that Linux has where it is the launched image itself."""


class ReservingLine(Enum):
    """How Xen spells the range of the log: until its series v4, and from 2026 on."""

    ROUND = "SLAUNCH: reserving event log ({start:#x} - {end:#x})"
    SQUARE = "SLAUNCH: reserving event log [{start:#x}, {end:#x})"


@dataclass(frozen=True, slots=True)
class TrenchbootModel(MachineModel):
    """A machine that TrenchBoot's GRUB launches Xen on."""

    processor: Processor
    firmware: Firmware
    generation: Generation
    memory: tuple[MemoryRange, ...]
    loader_name: str
    """GRUB's PACKAGE_STRING, part of the multiboot2 information."""

    sinit: tuple[SinitEvent, ...] = ()
    """SINIT's events behind HASH_START; its key, the capabilities and the MLE are
    those of the module and the Xen at hand."""

    platform: Platform | None = None
    sinit_files: tuple[tuple[str, Acm], ...] = ()
    """The SINIT modules that are put into /boot, in the entry's order."""

    firmware_sinit: Acm | None = None
    """The module that the firmware has, which wins when it is not older."""

    has_mask_fix: bool = False
    """Whether GRUB asks SINIT as the branch intel-txt-aem-mtrr-mask-fix does."""

    skl_header: SklHeader = SklHeader.SHORT
    log_place: LogPlace = LogPlace.MEMORY
    reserving_line: ReservingLine = ReservingLine.ROUND

    @property
    def log_path(self) -> str:
        """The file of the log, or that of the memory it is in."""
        return self.log_place.value

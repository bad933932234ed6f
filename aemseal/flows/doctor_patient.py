# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor's checks look at and what they return.

A check is one small function of a Patient. It returns a Finding, or raises
SkippedError where it cannot be made; an AemsealError that it meets is its failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from aemseal.flows.boot_menu import boot_entry, read_menu
from aemseal.flows.state import VaultState
from aemseal.flows.survey import Survey, survey
from aemseal.formats.file_list import FileList
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import AemsealError
from aemseal.world.config import Config
from aemseal.world.disks import Disks
from aemseal.world.host import Host
from aemseal.world.recording import NotToldError
from aemseal.world.store import Files

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault
    from aemseal.world.tpm import Tpm

_T = TypeVar("_T")


class Result(Enum):
    """How a check came out; the words of the command line's JSON."""

    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a sentence, and what to do about it."""

    result: Result
    message: str
    hint: str | None = None


class SkippedError(Exception):
    """A check cannot be made here; the message says why."""


def ok(message: str) -> Finding:
    """Return that all is well."""
    return Finding(Result.OK, message)


def warning(message: str, hint: str) -> Finding:
    """Return what is not as it should be, though the vault holds."""
    return Finding(Result.WARNING, message, hint)


def failed(message: str, hint: str) -> Finding:
    """Return what keeps the vault from its word, or opens it to others."""
    return Finding(Result.FAILED, message, hint)


Check = Callable[["Patient"], Finding]
Checks = tuple[tuple[str, Check], ...]


@dataclass
class Patient:
    """The machine that is looked at, each part of it once.

    What could not be read is an error in its place: `state`, `config`, and what the
    properties find. `files`, `disks` and `open_tpm` are None for a recording.
    """

    host: Host
    state: VaultState | AemsealError | None
    config: Config | AemsealError
    files: Files | None
    disks: Disks | None
    open_tpm: Callable[[], Tpm] | None
    has_program: Callable[[str], bool] | None
    _once: dict[str, object] = field(default_factory=dict)

    # --- the parts as they are: the error of one that cannot be had is raised ---

    def require_tpm(self) -> Tpm:
        """Return the TPM; TpmError where there is none."""
        if self.open_tpm is None:
            raise SkippedError("a recording has no TPM to ask")
        return self._only_once("tpm", self.open_tpm)

    def require_survey(self) -> Survey:
        """Return the running boot, verified; an EvidenceError says why it is not."""
        state = self.state if isinstance(self.state, VaultState) else None
        wish = None if state else self.selection
        return self._only_once("survey", lambda: survey(self.host, wish, state))

    def require_entry(self) -> BootEntry:
        """Return the entry that GRUB boots next; GrubError where there is none."""
        return self._only_once(
            "entry",
            lambda: boot_entry(self.host, read_menu(self.host).next_entry()),
        )

    def _only_once(self, name: str, make: Callable[[], _T]) -> _T:
        if name not in self._once:
            try:
                self._once[name] = make()
            except AemsealError as error:
                self._once[name] = error
        found = self._once[name]
        if isinstance(found, AemsealError):
            raise found
        return found  # type: ignore[return-value] # `make` made it

    # --- the same for checks that another check stands before ---

    @property
    def tpm(self) -> Tpm:
        """The TPM; skipped where there is none."""
        return _or_skipped(self.require_tpm, "no TPM answers")

    @property
    def look(self) -> Survey:
        """The running boot; skipped where it cannot be verified."""
        return _or_skipped(self.require_survey, "this boot could not be verified")

    @property
    def entry(self) -> BootEntry:
        """The next boot's entry; skipped where there is none."""
        return _or_skipped(self.require_entry, "the next boot is not known")

    @property
    def sealed(self) -> VaultState:
        """The vault; skipped where there is none."""
        if isinstance(self.state, VaultState):
            return self.state
        if self.state is None:
            raise SkippedError("nothing is sealed here")
        raise SkippedError("the state of the vault cannot be read")

    @property
    def settled(self) -> Config:
        """The configuration; skipped where it cannot be read."""
        if isinstance(self.config, Config):
            return self.config
        raise SkippedError("the configuration cannot be read")

    @property
    def owned(self) -> Files:
        """The files of the vault; skipped for a recording."""
        if self.files is None:
            raise SkippedError("a recording does not tell")
        return self.files

    @property
    def vault(self) -> Vault:
        """The vault's files and its TPM, to ask and not to move."""
        from aemseal.flows.vault import Vault  # loads the TPM's library

        return Vault(self.owned, self.tpm)

    @property
    def selection(self) -> PcrSelection | None:
        """What is sealed to, else what the configuration names, if anything."""
        if isinstance(self.state, VaultState):
            return self.state.selection
        named = self.config.pcrs if isinstance(self.config, Config) else None
        return None if named is None else PcrSelection.parse(named)

    @property
    def algorithm(self) -> HashAlgorithm:
        """The bank that is sealed to, or would be."""
        named = self.selection
        return HashAlgorithm.SHA256 if named is None else named.algorithm

    @property
    def kernel_words(self) -> list[bytes]:
        """The words of the next boot's kernel command line."""
        kernel = self.entry.of_role(Role.KERNEL)
        if kernel is None:
            raise SkippedError("the next boot has no Linux kernel")
        return kernel.cmdline.split()

    @cached_property
    def _image(self) -> FileList | str:
        initramfs = self.entry.of_role(Role.INITRAMFS)
        if initramfs is None:
            return "the next boot has no initramfs"
        try:
            return self.host.list_initramfs(initramfs.wanted)
        except AemsealError as error:
            return error.message

    @property
    def image(self) -> FileList:
        """The files inside the next boot's initramfs."""
        if isinstance(self._image, str):
            raise SkippedError(f"nobody can look inside: {self._image}")
        return self._image


def _or_skipped(get: Callable[[], _T], why: str) -> _T:
    try:
        return get()
    except NotToldError:
        raise
    except AemsealError:
        raise SkippedError(why) from None

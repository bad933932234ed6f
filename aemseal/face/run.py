# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of the command line: its arguments, and the world opened as needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aemseal.face.terminal import Terminal
from aemseal.flows.state import STATE_FILE, VaultState, nothing_sealed
from aemseal.flows.status import CutShortError, cut_short
from aemseal.words.digest import HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    AemsealError,
    LockoutError,
    TpmError,
    UsageError,
    VaultError,
)
from aemseal.world.config import Config, load_config
from aemseal.world.host import Host, LiveHost
from aemseal.world.kernel_tpm import is_tpm12
from aemseal.world.recording import RecordedHost
from aemseal.world.rooted import Rooted
from aemseal.world.store import Files

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault
    from aemseal.world.tpm import Tpm

DEFAULT_TCTI = "device:/dev/tpmrm0"


@dataclass
class Run:
    """Arguments and terminal of one run; a context manager that closes the TPM."""

    arguments: argparse.Namespace
    terminal: Terminal
    environment: Mapping[str, str]
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def is_recorded(self) -> bool:
        """Whether a recording answers in the machine's place."""
        return self.arguments.host is not None

    @cached_property
    def root(self) -> Path:
        """Where the machine's files lie."""
        root = Path(self.arguments.root or "/")
        if not root.is_dir():
            raise UsageError(f"--root: {root} is no folder")
        return root

    @cached_property
    def config(self) -> Config:
        """The machine's configuration; of a recording, the default one."""
        return Config() if self.is_recorded else load_config(self.root)

    @cached_property
    def tpm(self) -> Tpm:
        """The TPM; TpmError when there is none. Imported here: it takes a second."""
        from aemseal.world.tpm import Tpm

        tcti = self.arguments.tcti or self.environment.get("TPM2TOOLS_TCTI")
        try:
            return self._open.enter_context(Tpm(tcti or DEFAULT_TCTI))
        except TpmError:
            too_old = self.too_old_tpm
            if too_old is None:
                raise
        raise too_old

    @property
    def too_old_tpm(self) -> TpmError | None:
        """What keeps anything from being sealed here: that the TPM is a TPM 1.2."""
        tcti = self.arguments.tcti or self.environment.get("TPM2TOOLS_TCTI")
        if tcti or self.is_recorded or not is_tpm12(Rooted(self.root)):
            return None
        return TpmError(
            "sealing needs a TPM 2.0, and the one of this machine is a TPM 1.2",
            "log, predict and record work with it: --pcrs sha1:17,18,19",
        )

    @cached_property
    def host(self) -> Host:
        """The machine, or the recording of one."""
        if self.is_recorded:
            return RecordedHost(Path(self.arguments.host))
        return self.live_host()

    def live_host(self, config: Config | None = None) -> LiveHost:
        """Return the machine, of which nothing was looked at yet.

        `config` stands in for a configuration that cannot be read.
        """
        settled = self.config if config is None else config
        return LiveHost(self.root, self._read_pcrs, settled, self._read_nv)

    def _read_pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        return self.tpm.pcrs(algorithm)

    def _read_nv(self, index: int) -> bytes | None:
        from aemseal.world.tpm_nv import read_nv

        return read_nv(self.tpm, index)

    @cached_property
    def files(self) -> Files:
        """The files that are ours."""
        return Files(self.root)

    @cached_property
    def named(self) -> PcrSelection | None:
        """The selection of --pcrs or --pcr; UsageError where it cannot be read."""
        before = self.arguments.pcr or []
        pcrs = [*before, *getattr(self.arguments, "more_pcr", [])]
        if pcrs and self.arguments.pcrs is not None:
            raise UsageError("--pcrs and --pcr cannot be given together", "take one")
        if self.arguments.pcrs is not None:
            return PcrSelection.parse(self.arguments.pcrs)
        return PcrSelection.of(HashAlgorithm.SHA256, set(pcrs)) if pcrs else None

    def require_selection(self) -> None:
        """Refuse --pcrs that cannot be read, or that the vault is not sealed to.

        Every verb takes them, so that none passes over a mistake in silence; a FILE
        that is only hashed or replayed has to do with no vault.
        """
        of_a_file = getattr(self.arguments, "file", None) is not None
        if self.named is not None and not of_a_file and self.state is not None:
            self.state.selection.require_no_other(self.named)

    @property
    def asked(self) -> PcrSelection | None:
        """The selection of --pcrs, --pcr or the configuration, if any names one."""
        if self.named is not None:
            return self.named
        settled = None if self.state is not None else self.host.settled_pcrs()
        return None if settled is None else PcrSelection.parse(settled)

    @cached_property
    def state(self) -> VaultState | None:
        """What is kept of the vault, None where nothing was enrolled."""
        data = self.host.saved(STATE_FILE.rsplit("/", 1)[-1])
        return None if data is None else VaultState.parse(data)

    def require_state(self) -> VaultState:
        """Return the state; VaultError where nothing was enrolled."""
        if self.state is None:
            raise nothing_sealed()
        return self.state

    @property
    def unsettled(self) -> VaultError | None:
        """A move that was cut short and is not settled yet, as a problem."""
        if self.is_recorded:
            return None
        from aemseal.flows.journal import JOURNAL_FILE, parse_journal

        data = self.files.read(JOURNAL_FILE)
        try:
            return None if data is None else cut_short(parse_journal(data).move)
        except VaultError as error:
            return CutShortError(error.message, error.hint)

    @contextmanager
    def vault(self, *, must_settle: bool = True) -> Iterator[Vault]:
        """Hold the vault for a move: the lock, the TPM, and no move left half done.

        Without `must_settle` a move that cannot be settled is said and passed over.
        """
        from aemseal.flows.vault import Vault

        if self.is_recorded:
            raise UsageError(
                "--host: a recording cannot be sealed to", "leave --host out"
            )
        tpm = self.tpm
        with self.files.lock():
            vault = Vault(self.files, tpm)
            try:
                settled = vault.settle()
            except AemsealError as error:
                if must_settle:
                    raise
                settled = error.message
            if settled is not None:
                self.terminal.say(f"aemseal: {settled}")
            self._forget_state()
            yield vault

    def _forget_state(self) -> None:
        """Have `state` read again: settling a move may have changed it."""
        self.__dict__.pop("state", None)  # where cached_property keeps it

    @property
    def lockout(self) -> LockoutError | None:
        """The problem of a TPM in lockout; moves work in it all the same."""
        if self.is_recorded or not self.tpm.permanent().in_lockout:
            return None
        from aemseal.world.tpm import in_lockout

        return in_lockout(reset_with="aemseal confirm, in an accepted boot")

    @property
    def count_now(self) -> Callable[[VaultState], int] | None:
        """How to read the TPM's counter; None for a recording."""
        if self.is_recorded:
            return None
        from aemseal.flows.vault import Vault

        try:
            tpm = self.tpm
        except TpmError:
            return None
        return Vault(self.files, tpm).count_now

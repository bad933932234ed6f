# SPDX-License-Identifier: GPL-2.0-or-later
"""The vault's one move, and what makes it survive a power cut.

publish: sign for the counter's next value n + 1 for each medium at hand, write that
beside the acceptance for n, count up, read back, keep the new state, remove the old.
Before the count n is in force, after it n + 1: never neither, never a third thing.
The journal is written first and says what was about to happen; `settle` finishes or
undoes a move that was cut short, by what the counter says.

No number is ever signed for twice with two meanings: who copied the acceptance of a
move that was cut short would keep it for the day the counter gets there. So undoing
publishes what was in force before once more, past every number signed for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from aemseal.flows import owner, sealing
from aemseal.flows.journal import JOURNAL_FILE, Journal, Sealing, parse_journal
from aemseal.flows.luks_boots import lost_key
from aemseal.flows.publishing import (
    FROM_BACKUP,
    branches_of,
    kept_vault_file,
    load_key,
    remove_void,
    sign,
    write_acceptance,
    write_vault,
)
from aemseal.flows.state import STATE_FILE, VaultState, nothing_sealed
from aemseal.words.errors import TpmChangedError, VaultError
from aemseal.world.config import Medium
from aemseal.world.luks_headers import LuksHeaders
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm, TpmRefusedError
from aemseal.world.tpm_storage import Storage


class Vault:
    """The vault of this machine: its files, its LUKS devices, and the TPM."""

    def __init__(self, files: Files, tpm: Tpm) -> None:
        self.files = files
        self.tpm = tpm
        self.storage = Storage(tpm)
        self.headers = LuksHeaders(files)

    def load(self) -> VaultState | None:
        """Return the state as last kept, None where nothing was enrolled."""
        data = self.files.read(STATE_FILE)
        return None if data is None else VaultState.parse(data)

    def require(self) -> VaultState:
        """Return the state; VaultError where nothing was enrolled."""
        state = self.load()
        if state is None:
            raise nothing_sealed()
        return state

    # --- the one move ---

    def publish(self, state: VaultState, move: str) -> VaultState:
        """Put `state`'s accepted and staged boots in force, and all others out.

        Returns the state as kept, with its count and the media that were absent.
        VaultError when a move that was cut short is not settled yet.
        """
        if self.files.read(JOURNAL_FILE) is not None:
            raise VaultError("an earlier move was cut short", "see: aemseal status")
        return self._publish(state, move, past=state.count)

    def _publish(self, state: VaultState, move: str, *, past: int) -> VaultState:
        """Publish with the first number beyond `past`, the last one signed for.

        Every number up to it is signed for too, for a cut between two counts.
        """
        branches = branches_of(state)
        key = load_key(self.files, state.generation)
        with self.owner_session(state) as session:
            before = self.tpm.count(state.counter, session)
            self._require_open(state, before)
            after = past + 1
            at_hand = [each for each in state.media if self.files.exists(each.path)]
            absent = [each.label for each in state.media if each not in at_hand]
            if not at_hand:
                raise VaultError(
                    f"no medium is at hand ({', '.join(absent)})",
                    "mount it and try again",
                )
            state = replace(state, count=after, stale=tuple(absent), foreseen=None)
            journal = Journal(move, before, after, state)
            self.files.write(JOURNAL_FILE, journal.to_bytes())
            for medium in at_hand:
                self._refresh_vault(medium)
                for count in range(before + 1, after + 1):
                    acceptance = sign(state, medium, branches, count, key)
                    write_acceptance(self.files, medium, acceptance)
        self._count_up(journal, before)
        return state

    def _refresh_vault(self, medium: Medium) -> None:
        """Put our copy of the vault file back where it is missing or another one."""
        kept = self.files.read(kept_vault_file(medium.label))
        if kept is not None:
            write_vault(self.files, medium, kept)

    def _count_up(self, journal: Journal, count: int) -> None:
        """Count from `count` to the journal's number, and finish the move."""
        state, after = journal.state, journal.after
        with self.owner_session(state) as session:
            for _ in range(count, after):
                self.tpm.increment(state.counter, session)
            found = self.tpm.count(state.counter, session)
        if found != after:
            raise TpmChangedError(
                f"the counter went from {count} to {found} instead of {after}",
                "somebody else counts with this TPM at the same time",
            )
        self._finish(journal)

    def require_open(self, state: VaultState) -> None:
        """Raise TpmChangedError or VaultError unless the TPM is as we left it.

        Asked also before a move is called unnecessary: a vault whose counter or key
        is gone accepts no boot at all.
        """
        self._require_open(state, self.count_now(state))

    def _require_open(self, state: VaultState, count: int) -> None:
        """Refuse to sign once the counter is not where our last move left it.

        Never sign again then: the disk may be an older copy, put back together with
        a boot that was retired since, and this state would call it accepted.
        """
        if count == state.count:
            return
        if count < state.count:
            raise TpmChangedError(
                f"the TPM's counter is {count}, and was {state.count} before",
                "this is not the TPM that the vault was made with; if it was you: "
                "aemseal recover",
            )
        raise VaultError(
            f"the vault is shut: the TPM's counter is {count}, ours is {state.count}",
            "somebody counted on, or this disk is an older copy; if you know which, "
            "begin anew: aemseal recover",
        )

    def settle(self) -> str | None:
        """Finish or undo what was cut short; say which, None if there is none.

        Of a publish the counter decides: it stands before the move (undo) or in it
        (finish); VaultError when it stands elsewhere. Of a sealing, whether all was
        sealed. A change of the TPM's authorisations is always finished.
        """
        said = (owner.settle(self), self._settle_move())
        return "; ".join(each for each in said if each) or None

    def _settle_move(self) -> str | None:
        data = self.files.read(JOURNAL_FILE)
        if data is None:
            self.headers.discard_all()  # nothing was promised of any
            return None
        journal = parse_journal(data)
        finished = f"{journal.move} was cut short: finished it"
        undone = f"{journal.move} was cut short: undid it"
        if isinstance(journal, Sealing):
            if not journal.is_promised:
                sealing.undo(self, journal)
                return undone
            lost = lost_key(sealing.finish(self, journal))
            return finished if lost is None else f"{finished}; but {lost.message}"
        count = self.count_now(journal.state)
        if count == journal.before:
            self._publish(self.require(), "undo", past=journal.after)
            return undone
        if not journal.before < count <= journal.after:
            self._require_open(journal.state, count)
        self._count_up(journal, count)
        return finished

    def undefine_counter(self, state: VaultState, counter: int) -> None:
        """Take a counter of ours out of the TPM; nothing when it is not there.

        Another index in its place may be the platform's, which no owner takes out.
        """
        with self.owner_session(state) as session:
            try:
                self.tpm.undefine_counter(counter, session)
            except TpmRefusedError:
                if self.tpm.is_counter(counter):
                    raise

    def _finish(self, journal: Journal) -> None:
        state = journal.state
        self.files.write(STATE_FILE, state.to_bytes())
        for medium in state.media:
            remove_void(self.files, medium, state.count)
        self.files.remove(JOURNAL_FILE)

    # --- what the moves need ---

    def count_now(self, state: VaultState) -> int:
        """Read the counter, in a session salted to the pinned key."""
        with self.tpm.session(self.storage.pinned(state.storage)) as session:
            return self.tpm.count(state.counter, session)

    @contextmanager
    def owner_session(self, state: VaultState) -> Iterator[Any]:
        """Run a session salted to the pinned key, the owner's value at hand.

        VaultError when that value is missing or not the TPM's, before anything is
        done with it.
        """
        if not owner.kept_owners(self.files):
            raise VaultError(
                f"{owner.OWNER_FILE} is missing: the TPM takes no move without it",
                FROM_BACKUP,
            )
        with self.tpm.session(self.storage.pinned(state.storage)) as session:
            owner.authorise(self, session)
            yield session

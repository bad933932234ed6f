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

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from aemseal.flows.state import (
    DAMAGE,
    STATE_FILE,
    SealedBoot,
    VaultState,
    nothing_sealed,
)
from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    AcceptedBranch,
    acceptance_file,
    approved_policy,
)
from aemseal.formats.text_lines import slug
from aemseal.formats.tpm_policy import (
    MAX_BRANCHES,
    approval_digest,
    counter_name,
    policy_ref,
)
from aemseal.words.errors import AemsealError, TpmChangedError, VaultError
from aemseal.world.config import Medium
from aemseal.world.signing import SigningKey
from aemseal.world.store import STATE_FOLDER, Files
from aemseal.world.tpm import Hierarchy, Tpm, TpmRefusedError
from aemseal.world.tpm_storage import Storage

JOURNAL_FILE = f"{STATE_FOLDER}/journal.json"
OWNER_FILE = f"{STATE_FOLDER}/owner.auth"
LOCKOUT_FILE = f"{STATE_FOLDER}/lockout.auth"
_ACCEPTANCE_PREFIX = "acceptance."
_FROM_BACKUP = (
    "take it from a backup of the encrypted root; or take the vault down with: "
    "aemseal remove; and enrol anew"
)


def key_file(generation: int) -> str:
    """Return where the signing key of a generation lies."""
    return f"{STATE_FOLDER}/key-{generation}.pem"


@dataclass(frozen=True, slots=True)
class Journal:
    """A move under way: from which count to which, and the state it leads to.

    `after` is 0 until something is signed. `enrolling` marks the first publish:
    undone, it takes the whole enrolment back.
    """

    move: str
    before: int
    after: int
    state: VaultState
    enrolling: bool

    def to_bytes(self) -> bytes:
        """Write the journal; it holds no secret."""
        fields = {
            "format": 1,
            "move": self.move,
            "before": self.before,
            "after": self.after,
            "enrolling": self.enrolling,
            "state": self.state.to_dict(),
        }
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def parse(cls, data: bytes) -> Journal:
        """Read the journal; VaultError when it is damaged."""
        try:
            fields = json.loads(data)
            return cls(
                move=str(fields["move"]),
                before=int(fields["before"]),
                after=int(fields["after"]),
                state=VaultState.from_dict(fields["state"]),
                enrolling=bool(fields["enrolling"]),
            )
        except DAMAGE:
            raise VaultError(
                f"{JOURNAL_FILE} is damaged: what was cut short is not known",
                "take the vault down with: aemseal remove; and enrol anew",
            ) from None


class Vault:
    """The vault of this machine: its files, and the TPM when one is at hand."""

    def __init__(self, files: Files, tpm: Tpm) -> None:
        self.files = files
        self.tpm = tpm
        self.storage = Storage(tpm)

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

    def publish(
        self, state: VaultState, move: str, *, enrolling: bool = False
    ) -> VaultState:
        """Put `state`'s accepted and staged boots in force, and all others out.

        Returns the state as kept, with its count and the media that were absent.
        VaultError when a move that was cut short is not settled yet.
        """
        if not enrolling and self.files.read(JOURNAL_FILE) is not None:
            raise VaultError("an earlier move was cut short", "see: aemseal status")
        return self._publish(state, move, past=state.count, enrolling=enrolling)

    def _publish(
        self, state: VaultState, move: str, *, past: int, enrolling: bool = False
    ) -> VaultState:
        """Publish with the first number beyond `past`, the last one signed for.

        Every number up to it is signed for too, for a cut between two counts.
        """
        branches = branches_of(state)
        key = self._signing_key(state.generation)
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
            journal = Journal(move, before, after, state, enrolling)
            self.files.write(JOURNAL_FILE, journal.to_bytes())
            for medium in at_hand:
                for count in range(before + 1, after + 1):
                    acceptance = _sign(state, medium, branches, count, key)
                    self.files.write(
                        f"{medium.path}/{acceptance_file(count)}",
                        acceptance.to_bytes(),
                        mode=0o644,
                    )
        self._count_up(journal, before)
        return state

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
                "this is not the TPM that the vault was made with; enrol anew",
            )
        raise VaultError(
            f"the vault is shut: the TPM's counter is {count}, ours is {state.count}",
            "somebody counted on, or this disk is an older copy; take it down with: "
            "aemseal remove; and enrol anew",
        )

    def settle(self) -> str | None:
        """Finish or undo a move that was cut short; say which, None if there is none.

        The counter decides: it stands before the move (undo) or in it (finish).
        VaultError when it stands elsewhere: see `publish`.
        """
        data = self.files.read(JOURNAL_FILE)
        if data is None:
            return None
        journal = Journal.parse(data)
        finished = f"{journal.move} was cut short: finished it"
        undone = f"{journal.move} was cut short: undid it"
        if journal.enrolling and not self._is_published(journal):
            self.take_back_enrolment(journal.state)
            self.files.remove(JOURNAL_FILE)
            return undone
        count = self.count_now(journal.state)
        if count == journal.before:
            self._publish(self.require(), "undo", past=journal.after)
            return undone
        if not journal.before < count <= journal.after:
            self._require_open(journal.state, count)
        self._count_up(journal, count)
        return finished

    def _is_published(self, journal: Journal) -> bool:
        """Whether an enrolment got as far as its own count."""
        if journal.after == 0:
            return False
        try:
            return journal.before < self.count_now(journal.state) <= journal.after
        except TpmChangedError:
            return False  # taken back already, or the TPM was cleared since

    def take_back_enrolment(self, state: VaultState) -> None:
        """Remove what an unfinished enrolment left, except the owner's values."""
        # A TPM that was cleared since holds nothing of ours any more.
        with suppress(TpmChangedError):
            self.undefine_counter(state)
        self.remove_media_files(state)
        self.files.remove(key_file(state.generation))

    def undefine_counter(self, state: VaultState) -> None:
        """Take the counter out of the TPM."""
        with self.owner_session(state) as session:
            self.tpm.undefine_counter(state.counter, session)

    def remove_media_files(self, state: VaultState) -> None:
        """Remove the vault and every acceptance from the media at hand."""
        for medium in state.media:
            for name in self.files.names(medium.path):
                if name == VAULT_FILE or name.startswith(_ACCEPTANCE_PREFIX):
                    self.files.remove(f"{medium.path}/{name}")

    def _finish(self, journal: Journal) -> None:
        state = journal.state
        self.files.write(STATE_FILE, state.to_bytes())
        for medium in state.media:
            # The counter has made them void; whoever puts there what cannot be
            # removed shall not keep a move from ending.
            with suppress(AemsealError):
                self._remove_void(medium, state.count)
        self.files.remove(JOURNAL_FILE)

    def _remove_void(self, medium: Medium, count: int) -> None:
        kept = acceptance_file(count)
        for name in self.files.names(medium.path):
            if name.startswith(_ACCEPTANCE_PREFIX) and name != kept:
                self.files.remove(f"{medium.path}/{name}")

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
        owner = self.files.read(OWNER_FILE)
        if owner is None:
            raise VaultError(
                f"{OWNER_FILE} is missing: the TPM takes no move without it",
                _FROM_BACKUP,
            )
        salt_key = self.storage.pinned(state.storage)
        self.tpm.set_auth(Hierarchy.OWNER, owner)
        with self.tpm.session(salt_key) as session:
            try:
                self.tpm.require_authorised(Hierarchy.OWNER, session)
            except TpmRefusedError as refused:
                if not refused.is_wrong_authorisation:
                    raise
                raise VaultError(
                    f"the TPM's owner authorisation is not the one in {OWNER_FILE}",
                    "another tool has set it since: write its value there; or clear "
                    "the TPM in the firmware set-up and enrol anew",
                ) from None
            yield session

    def _signing_key(self, generation: int) -> SigningKey:
        data = self.files.read(key_file(generation))
        if data is None:
            raise VaultError(
                f"{key_file(generation)} is missing: nothing can be signed",
                _FROM_BACKUP,
            )
        try:
            return SigningKey.load(data)
        except VaultError as error:
            raise VaultError(
                f"{key_file(generation)}: {error.message}", _FROM_BACKUP
            ) from None


def branches_of(state: VaultState) -> tuple[SealedBoot, ...]:
    """Return the boots that a publish of this state accepts, in order.

    VaultError when there is none, one too many or a retired one.
    """
    boots = (*state.accepted, *state.staged)
    if not 1 <= len(boots) <= MAX_BRANCHES:
        raise VaultError(f"{len(boots)} boots cannot be accepted: 1 to {MAX_BRANCHES}")
    for boot in boots:
        if any(boot.policy == old.policy for old in state.retired):
            raise VaultError(
                f"{boot.name} is retired",
                "a retired boot is never accepted again; enrol anew to go back to it",
            )
    return boots


def _sign(
    state: VaultState,
    medium: Medium,
    boots: tuple[SealedBoot, ...],
    count: int,
    key: SigningKey,
) -> Acceptance:
    branches = tuple(AcceptedBranch(boot.policy, slug(boot.name)) for boot in boots)
    policy = approved_policy(branches, counter_name(state.counter), count)
    reference = policy_ref(state.generation, medium.label)
    return Acceptance(
        generation=state.generation,
        medium=medium.label,
        count=count,
        branches=branches,
        policy=policy,
        signature=key.sign(approval_digest(policy, reference)),
    )

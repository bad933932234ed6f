# SPDX-License-Identifier: GPL-2.0-or-later
"""A new generation in the place of the one that is sealed: recover and PIN changes.

Nothing of the one before is used again: the key that signs, the counter, the sealed
objects, the PIN, and the TPM's authorisations where they are ours (docs/adr/0010).
What is sealed is asked for anew, since nothing of it can be read back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aemseal.flows import owner
from aemseal.flows.journal import JOURNAL_FILE, Journal, parse_journal
from aemseal.flows.keyfile import with_new_header
from aemseal.flows.moves import STAGED, require_accepted
from aemseal.flows.provision import (
    HOOK_FOLDER,
    counters_of_nobody,
    free_place,
    require_guarded,
    set_lockout_if_ours,
    write_hook_files,
)
from aemseal.flows.publishing import (
    KEPT_PREFIX,
    branches_of,
    kept_vault_file,
    remove_everything,
)
from aemseal.flows.sealing import ToSeal, seal_generation
from aemseal.flows.secret import require_pin
from aemseal.flows.state import (
    RETIRED_KEPT,
    STATE_FILE,
    NextBootCheck,
    SealedBoot,
    VaultState,
)
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, TpmChangedError, TpmError, VaultError
from aemseal.world.config import Medium
from aemseal.world.luks_headers import HeaderChange
from aemseal.world.store import STATE_FOLDER


@dataclass(frozen=True, slots=True)
class Anew:
    """The state of a new generation, and what of before stays in force, in words.

    `must_build`: the initramfs does not know yet where one of the media is.
    """

    state: VaultState
    left: tuple[str, ...]
    must_build: bool = False


def begin_anew(
    vault: Vault,
    before: VaultState,
    state: VaultState,
    secrets: Sequence[ToSeal],
    move: str,
    *,
    foreign_owner: bytes | None = None,
    headers: tuple[HeaderChange, ...] = (),
) -> Anew:
    """Put a new generation in force, and take down the one before.

    `state` names the storage key, the media, the boots and the baseline; generation,
    counter and count are filled in. `foreign_owner` is what another tool keeps of the
    TPM. VaultError where a medium is absent or the boots cannot be accepted, UsageError
    for a secret without the PIN that its media call for; nothing is written then, nor
    where `require_settled` raises.
    """
    require_settled(vault)
    for each in secrets:
        require_pin(each.secret.kind, each.pin, state.media)
    state = replace(
        state,
        generation=before.generation + 1,
        counter=free_place(vault, state.media),
        count=0,
        stale=(),
    )
    branches_of(state)
    require_guarded(vault, secrets)
    must_build = _tell_the_hook(vault, state)
    left = owner.rotate(vault, state.storage, foreign_owner)
    set_lockout_if_ours(vault)
    before = _past_all_signed(vault, before)
    after = seal_generation(vault, state, secrets, move, before=before, headers=headers)
    _forget_others(vault, before.media, after.media)
    with suppress(TpmError), vault.tpm.session() as session:
        left += counters_of_nobody(vault, session, {after.counter})
    return Anew(after, tuple(left), must_build)


def _past_all_signed(vault: Vault, before: VaultState) -> VaultState:
    """Return the state with the last number that was signed for, kept as its count.

    A publish whose counter is gone has signed for more than was counted, and its
    journal goes when the new one is written.
    """
    data = vault.files.read(JOURNAL_FILE)
    if data is None:
        return before
    last = parse_journal(data).state.count
    before = replace(before, count=max(before.count, last))
    vault.files.write(STATE_FILE, before.to_bytes())
    return before


def _tell_the_hook(vault: Vault, state: VaultState) -> bool:
    """Write where the media are for the next initramfs; say whether that is new."""
    path = f"{HOOK_FOLDER}/boot.conf"
    before = vault.files.read(path)
    write_hook_files(vault, state.storage, state.selection, state.media)
    return vault.files.read(path) != before


def retired_by(before: VaultState, running: bytes) -> tuple[SealedBoot, ...]:
    """Return the boots on record as retired once the running one alone is accepted.

    All that were known, but for it: what was retired may be accepted again, by the
    person's own word, in a generation that never signed for it.
    """
    known = (*before.retired, *before.accepted, *before.staged)
    return tuple(each for each in known if each.policy != running)[-RETIRED_KEPT:]


def change_pin(
    vault: Vault,
    before: VaultState,
    running: bytes,
    secrets: Sequence[ToSeal],
    media: tuple[Medium, ...],
    *,
    foreign_owner: bytes | None = None,
    header: HeaderChange | None = None,
    since: str = "",
) -> Anew:
    """Seal anew, with another PIN or to other media, for the same boots.

    A `header` drafted for a keyfile stages each of them once more, as of `since`.
    NotAcceptedError unless the running boot may unseal now, VaultError and
    TpmChangedError unless the TPM is as we left it.
    """
    require_same_boots(vault, before, running)
    state = replace(before, media=media)
    headers: tuple[HeaderChange, ...] = ()
    if header is not None:
        state = with_new_header(vault, state, header, running, since)
        state = replace(state, checked=NextBootCheck(STAGED, since))
        headers = (header,)
    return begin_anew(
        vault,
        before,
        state,
        secrets,
        "pin",
        foreign_owner=foreign_owner,
        headers=headers,
    )


def require_same_boots(vault: Vault, before: VaultState, running: bytes) -> None:
    """Raise the errors of `change_pin` that need no answer of a person."""
    require_accepted(before, running)
    vault.require_open(before)


def require_settled(vault: Vault) -> None:
    """Raise VaultError where a move was cut short that can be settled some day.

    What it signed for or sealed must not be forgotten while the generation before may
    stay in force. A publish whose counter went elsewhere, or is gone, is none of these:
    that generation opens nothing while no counter of its Name comes to its numbers.
    """
    data = vault.files.read(JOURNAL_FILE)
    if data is None:
        return
    journal = parse_journal(data)
    if isinstance(journal, Journal):
        try:
            count = vault.count_now(journal.state)
        except TpmChangedError:
            return
        if not journal.before <= count <= journal.after:
            return
    raise VaultError(
        f"{journal.move} was cut short, and cannot be finished yet",
        "have its media at hand; or take the vault down: aemseal remove",
    )


def _forget_others(
    vault: Vault, before: Collection[Medium], after: Collection[Medium]
) -> None:
    """Remove what is left on media, and kept of media, that are not sealed to now.

    It opens nothing any more, so what cannot be removed is left.
    """
    for medium in before:
        if not any(vault.files.is_same(medium.path, each.path) for each in after):
            with suppress(AemsealError):
                remove_everything(vault.files, medium)
    labels = {medium.label for medium in after}
    for name in vault.files.names(STATE_FOLDER):
        label = name.removeprefix(KEPT_PREFIX)
        if label != name and label not in labels:
            vault.files.remove(kept_vault_file(label))

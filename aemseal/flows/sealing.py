# SPDX-License-Identifier: GPL-2.0-or-later
"""Sealing: new sealed objects on every medium, or none at all.

A sealed object leaves no trace in the TPM, so everything is sealed before anything is
promised. The journal then holds every file that the media are to get: from there on a
cut is finished, before it undone. A new generation has a key, a counter and policyRefs
of its own, and is signed for its counter's first value. On a medium one rename of
`vault` leads from the old generation to the new: either opens, and neither is missing;
the old counter goes last, and with it all that the old generation ever signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aemseal.flows.journal import JOURNAL_FILE, Generation, MediumFiles, Sealing
from aemseal.flows.luks_boots import is_lost, without_disk
from aemseal.flows.publishing import (
    branches_of,
    can_be_sealed_to,
    kept_vault_file,
    key_file,
    load_key,
    remove_void,
    sign,
    write_vault,
)
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.state import STATE_FILE, KeptSecret, LuksSlot, VaultState
from aemseal.formats.slot import (
    SealedSecret,
    VaultFile,
    acceptance_file,
    parts_of,
)
from aemseal.formats.tpm_policy import (
    name_of,
    policy_auth_value,
    policy_authorize,
    policy_ref,
)
from aemseal.words.errors import TpmChangedError, UsageError, VaultError
from aemseal.world.luks_headers import HeaderChange, HeaderLostError
from aemseal.world.signing import SigningKey

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A secret, the PIN that is asked for it (or none), and what a keyfile opens."""

    secret: Secret
    pin: Pin | None = None
    disk: LuksSlot | None = None

    @property
    def kept(self) -> KeptSecret:
        """What the state remembers of it."""
        secret = self.secret
        return KeptSecret(secret.name, secret.kind, self.pin is not None, self.disk)


def seal_generation(
    vault: Vault,
    state: VaultState,
    secrets: Sequence[ToSeal],
    move: str = "enrol",
    *,
    before: VaultState | None = None,
    headers: tuple[HeaderChange, ...] = (),
) -> VaultState:
    """Make counter, key and sealed objects of a new generation; accept its boots.

    `state` names generation, selection, storage key, media, boots and a free index as
    its counter; its count and secrets are filled in. `before` is the generation that
    it takes the place of, `headers` are drafts for the LUKS devices. VaultError when
    the boots cannot be published; nothing is written then.
    """
    branches = branches_of(state)
    state = replace(
        state, count=0, secrets=tuple(each.kept for each in secrets), foreseen=None
    )
    sealing = Sealing(
        move,
        state,
        is_new=True,
        before=_generation_of(before),
        headers=headers,
    )
    vault.files.write(JOURNAL_FILE, sealing.to_bytes())
    key = SigningKey.generate()
    vault.files.write(key_file(state.generation), key.to_bytes())
    with vault.owner_session(state) as session:
        vault.tpm.define_counter(state.counter, session)
        count = _first_count(vault, state, before, session)
        state = replace(state, count=count)
        sealed = {
            medium.label: _sealed_for(vault, state, medium.label, secrets, key, session)
            for medium in state.media
        }
    files = {
        medium.label: MediumFiles(
            _vault_file(state, medium.label, key, sealed[medium.label]).to_bytes(),
            sign(state, medium, branches, state.count, key).to_bytes(),
        )
        for medium in state.media
    }
    return finish(vault, replace(sealing, state=state, files=files))


def _first_count(
    vault: Vault, state: VaultState, before: VaultState | None, session: Any
) -> int:
    """Count a new counter past the last value that was signed for before it.

    An acceptance is named after its value: the new one would else replace the one in
    force, while the medium still has the vault file of before. And one that was signed
    for a value not come to yet, of a counter that is gone, waits for one of its Name.
    Another TPM, or a cleared one, counts from where it is: nothing of before loads.
    """
    last = 0 if before is None else before.count
    is_same = before is not None and before.storage.name == state.storage.name
    count = 0
    while count in (0, last) or (is_same and count < last):
        vault.tpm.increment(state.counter, session)
        count = vault.tpm.count(state.counter, session)
    return count


def seal_beside(
    vault: Vault,
    state: VaultState,
    added: ToSeal,
    headers: tuple[HeaderChange, ...] = (),
) -> VaultState:
    """Seal one more secret within this generation; the acceptance stays in force.

    A keyfile that opens no disk gives way to a new one. VaultError when any other one
    of this name is sealed already or a vault file is not ours.
    """
    name = added.secret.name
    others = tuple(each for each in state.secrets if each.name != name)
    if any(each.name == name and not is_lost(each) for each in state.secrets):
        raise VaultError(f"a {name} is sealed on this machine already")
    present = {
        medium.label: VaultFile.parse(kept_vault(vault, medium.label))
        for medium in state.media
    }
    state = replace(state, secrets=(*others, added.kept))
    sealing = Sealing("enrol", state, is_new=False, headers=headers)
    vault.files.write(JOURNAL_FILE, sealing.to_bytes())
    key = load_key(vault.files, state.generation)
    with vault.owner_session(state) as session:
        sealed = {
            label: _sealed_for(vault, state, label, (added,), key, session)
            for label in present
        }
    files = {
        label: MediumFiles(
            replace(
                each,
                secrets=(
                    *(kept for kept in each.secrets if kept.name != name),
                    *sealed[label],
                ),
            ).to_bytes()
        )
        for label, each in present.items()
    }
    return finish(vault, replace(sealing, files=files))


def kept_vault(vault: Vault, label: str) -> bytes:
    """Return our copy of a medium's vault file; VaultError where it is missing."""
    data = vault.files.read(kept_vault_file(label))
    if data is None:
        raise VaultError(
            f"{kept_vault_file(label)} is missing",
            "take it from a backup of the encrypted root; or begin anew with: "
            "aemseal recover",
        )
    return data


def finish(vault: Vault, sealing: Sealing) -> VaultState:
    """Put a sealing in force on every medium at hand, and take down what was before.

    VaultError while no medium is at hand, or a LUKS device absent that is to get a new
    header. A medium that is absent is stale until it is refreshed. Where a header can
    never be installed the state says that the keyfile opens no disk (lost_key).
    """
    files, state = vault.files, sealing.state
    files.write(JOURNAL_FILE, sealing.to_bytes())
    at_hand = [each for each in state.media if can_be_sealed_to(files, each)]
    absent = tuple(each.label for each in state.media if each not in at_hand)
    if not at_hand:
        raise VaultError(
            f"no medium is at hand ({', '.join(absent)})", "mount it and try again"
        )
    for medium in at_hand:  # the copy that we keep makes a new one a known one
        files.make_folder(medium.path)
    for label, each in sealing.files.items():
        files.write(kept_vault_file(label), each.vault)
    for medium in at_hand:
        new = sealing.files[medium.label]
        if new.acceptance:
            path = f"{medium.path}/{acceptance_file(state.count)}"
            files.write(path, new.acceptance, mode=0o644)
        write_vault(files, medium, new.vault)
    known = () if sealing.is_new else state.stale
    state = replace(state, stale=tuple(dict.fromkeys((*known, *absent))))
    files.write(STATE_FILE, state.to_bytes())
    for header in sealing.headers:
        state = _install(vault, state, header)
    _take_down(vault, sealing)
    for medium in at_hand:
        remove_void(files, medium, state.count)
    files.remove(JOURNAL_FILE)
    return state


def _install(vault: Vault, state: VaultState, header: HeaderChange) -> VaultState:
    """Put a header on its device; return the state, which tells where that is too late.

    All else goes on: the media hold the new generation by now, and nothing of it
    depends on the key but the keyfile.
    """
    try:
        vault.headers.install(header)
    except HeaderLostError:
        state = without_disk(state, header.uuid)
        vault.files.write(STATE_FILE, state.to_bytes())
        vault.headers.discard(header.uuid)
    return state


def undo(vault: Vault, sealing: Sealing) -> None:
    """Take back a sealing that promised nothing yet."""
    for header in sealing.headers:
        vault.headers.discard(header.uuid)
    if sealing.is_new:
        # A TPM that was cleared since holds nothing of ours any more.
        with suppress(TpmChangedError):
            vault.undefine_counter(sealing.state, sealing.state.counter)
        vault.files.remove(key_file(sealing.state.generation))
    vault.files.remove(JOURNAL_FILE)


def _take_down(vault: Vault, sealing: Sealing) -> None:
    """Take the generation before out of the TPM and the disk.

    After the TPM was cleared the new counter may be where the one before was; cleared
    since, it has neither, nor an owner.
    """
    if sealing.before is None:
        return
    if sealing.before.counter != sealing.state.counter:
        try:
            vault.undefine_counter(sealing.state, sealing.before.counter)
        except TpmChangedError:
            if vault.tpm.permanent().owner_auth_set:
                raise
    vault.files.remove(key_file(sealing.before.number))


def _generation_of(state: VaultState | None) -> Generation | None:
    return None if state is None else Generation(state.generation, state.counter)


def _vault_file(
    state: VaultState, label: str, key: SigningKey, sealed: Sequence[SealedSecret]
) -> VaultFile:
    return VaultFile(
        generation=state.generation,
        medium=label,
        counter=state.counter,
        key=key.public,
        policy_ref=policy_ref(state.generation, label),
        secrets=tuple(sealed),
    )


def _sealed_for(
    vault: Vault,
    state: VaultState,
    label: str,
    secrets: Sequence[ToSeal],
    key: SigningKey,
    session: Any,
) -> tuple[SealedSecret, ...]:
    """Seal the secrets for one medium, each in parts of what a TPM seals at once."""
    if not secrets:
        raise UsageError("there is nothing to seal")
    reference = policy_ref(state.generation, label)
    approved = policy_authorize(name_of(key.public), reference)
    parent = vault.storage.pinned(state.storage)
    sealed = []
    for each in secrets:
        pin = None if each.pin is None else each.pin.value
        policy = approved if pin is None else policy_auth_value(approved)
        kept = each.kept
        parts = tuple(
            vault.storage.seal(part, policy, parent, session, pin)
            for part in parts_of(kept.kind, each.secret.value)
        )
        sealed.append(SealedSecret(kept.name, kept.kind, pin=kept.pin, parts=parts))
    return tuple(sealed)

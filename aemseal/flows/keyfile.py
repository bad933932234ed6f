# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `enrol keyfile`: a key of our own opens a LUKS device.

Its slot changes the header, and the hook measures that: so the boots with the new
header are staged first, the key is sealed, and only then the header is installed, by
the sealing's own promise (flows/sealing.py). Cut anywhere, the passphrase opens the
disk, and the boots that are accepted are those of the header that is on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aemseal.flows.boot_menu import boot_entry, read_menu
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.luks_boots import NewHeader, staged_beside
from aemseal.flows.moves import ACCEPTED, STAGED
from aemseal.flows.provision import require_guarded
from aemseal.flows.reseal import NextBoot
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import KEYFILE, Pin, Secret
from aemseal.flows.state import LuksSlot, NextBootCheck, VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, UsageError, VaultError
from aemseal.world.host import Host
from aemseal.world.luks_headers import HeaderChange, random_key

Drafted = tuple[ToSeal, HeaderChange]
"""A new key to be sealed, and the header in which it has a slot."""


# --- the device ---


def disk_of(host: Host, title: str | None, asked: str | None) -> str:
    """Return the UUID of the LUKS device that a key is for.

    That is the one which the boot entry with this title opens (the next one, for no
    title), or of several the one that was `asked` for. UsageError where that does not
    say which, GrubError as the menu raises it.
    """
    menu = read_menu(host)
    found = menu.entry_titled(title) if title else menu.next_entry()
    entry = boot_entry(host, found)
    uuids, listed = entry.luks_uuids, ", ".join(entry.luks_uuids)
    if not uuids:
        raise VaultError(
            f"the entry {entry.title!r} opens no LUKS device",
            "its kernel's command line names none: rd.luks.uuid=",
        )
    if asked is not None:
        uuid = asked.lower().removeprefix("luks-")
        if uuid not in uuids:
            raise UsageError(
                f"--disk: the boot entry opens no LUKS device {asked}",
                f"it opens {listed}",
            )
        return uuid
    if len(uuids) > 1:
        raise UsageError(
            f"the boot entry opens {len(uuids)} LUKS devices",
            f"say which one: --disk, and one of {listed}",
        )
    return uuids[0]


# --- drafts ---


def draft_key(
    vault: Vault,
    uuid: str,
    passphrase: bytes,
    pin: Pin,
    old: LuksSlot | None = None,
) -> Drafted:
    """Make a new key, and draft the header of a LUKS device with a slot for it.

    A slot of ours that is on the same device (`old`) goes with the same draft. The
    device itself is left as it is: hand both on to be sealed. UsageError for a wrong
    passphrase, VaultError for a device that is absent, full or of LUKS1; no draft is
    left then.
    """
    key = random_key()
    headers = vault.headers
    try:
        headers.begin(uuid)
        if old is not None and old.uuid == uuid:
            headers.drop(uuid, old.slot)
        slot = headers.add(uuid, key, passphrase)
        change = headers.change(uuid)
    except AemsealError:
        headers.discard(uuid)
        raise
    secret = Secret(KEYFILE, KEYFILE, key)
    return ToSeal(secret, pin, LuksSlot(uuid, slot)), change


def draft_key_anew(
    vault: Vault, state: VaultState, passphrase: bytes, pin: Pin
) -> Drafted:
    """Draft a new key in the place of the one that is sealed: for a new generation.

    One header takes the old slot out and the new one in. VaultError where no keyfile
    that opens a disk is sealed; else as `draft_key`.
    """
    old = kept_slot(state)
    if old is None:
        raise VaultError("no key of a LUKS device is sealed")
    return draft_key(vault, old.uuid, passphrase, pin, old)


def kept_slot(state: VaultState) -> LuksSlot | None:
    """Return the slot of the keyfile that is sealed, None where none opens a disk."""
    return next((each.disk for each in state.secrets if each.disk is not None), None)


def with_new_header(
    vault: Vault, state: VaultState, change: HeaderChange, boot: bytes, since: str
) -> VaultState:
    """Return the state with its boots staged once more, with the drafted header.

    `boot` is the policy of the one that has to be among them: the running boot, or at
    the first enrolment the one that was built. Errors as luks_boots.staged_beside.
    """
    digests = vault.headers.digests(change.uuid, state.selection.algorithm)
    return staged_beside(state, NewHeader(change.uuid, *digests), boot, since)


def forget_draft(vault: Vault, uuid: str) -> None:
    """Throw a draft away that nothing was promised of: no journal tells of it."""
    if vault.files.read(JOURNAL_FILE) is None:
        vault.headers.discard(uuid)


# --- beside what is sealed ---


def require_shown_next(following: NextBoot) -> None:
    """Raise VaultError unless the next boot, as it is now, shows its secrets.

    A key slot changes it in one thing alone then, and that is drafted here. The
    prediction's own error where it cannot be known.
    """
    if following.boot is None and following.problem is not None:
        raise following.problem
    if following.standing not in (ACCEPTED, STAGED):
        raise VaultError(
            "the next boot is not an accepted one, and is none with the key either",
            "stage it first: aemseal reseal",
        )


def enrol_keyfile_beside(
    vault: Vault, state: VaultState, following: NextBoot, drafted: Drafted
) -> VaultState:
    """Seal a drafted key beside the other secrets, and install its header.

    `following` is the next boot as `require_shown_next` let it pass. Errors as
    `with_new_header`, before anything is written; lost_key tells of a header that
    changed meanwhile. The caller forgets the draft where this raises (forget_draft).
    """
    secret, change = drafted
    require_guarded(vault, (secret,))
    look = following.look
    now = look.host.now()
    state = with_new_header(vault, state, change, look.running_policy, now)
    state = vault.publish(state, "stage")
    state = replace(state, checked=NextBootCheck(STAGED, now))
    return seal_beside(vault, state, secret, (change,))


# --- taking a key off its device ---


def remove_keys(vault: Vault, states: Iterable[VaultState]) -> list[str]:
    """Take our slots off the LUKS devices themselves; return what was left, in words.

    Nothing but a slot that is marked as ours is killed. The header is another one then,
    for boots that nothing is shown in any more. `states` are all that may be on record.
    """
    left = []
    for slot in dict.fromkeys(kept_slot(state) for state in states):
        if slot is None:
            continue
        try:
            vault.headers.kill(slot.uuid, slot.slot)
        except AemsealError as error:
            left.append(
                f"the key in slot {slot.slot} of the LUKS device {slot.uuid}, which "
                f"nobody has any more: {error.message}"
            )
    vault.headers.discard_all()
    return left

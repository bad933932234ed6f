# SPDX-License-Identifier: GPL-2.0-or-later
"""Provisioning: owning the TPM, making the vault's objects, sealing the secret.

The order is what makes a power cut harmless: an authorisation value is on the
encrypted root before the TPM has it, the journal is written before the first object
of ours, and nothing is accepted before the first publish.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.flows.vault import (
    JOURNAL_FILE,
    LOCKOUT_FILE,
    OWNER_FILE,
    Journal,
    Vault,
    branches_of,
    key_file,
)
from aemseal.formats.hook_files import hook_conf
from aemseal.formats.slot import (
    MAX_PARTS,
    PART_SIZE,
    SECRET_KINDS,
    VAULT_FILE,
    SealedSecret,
    VaultFile,
)
from aemseal.formats.text_lines import is_name
from aemseal.formats.tpm_policy import name_of, policy_authorize, policy_ref
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import (
    TpmError,
    UsageError,
    VaultError,
)
from aemseal.world.config import Medium
from aemseal.world.signing import SigningKey, random_auth
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import STATE_FOLDER
from aemseal.world.tpm import NV_RANGE, Hierarchy, TpmRefusedError, in_lockout

HOOK_FOLDER = f"{STATE_FOLDER}/hook"
"""What the initramfs takes over as /etc/aemseal: hook.conf and srk.tr."""

TEXT_LIMIT = MAX_PARTS * PART_SIZE
_TYPE = "type a text that you recognise: a line or two of letters"


@dataclass(frozen=True, slots=True)
class Secret:
    """What is to be sealed; its value is in no repr and no message.

    UsageError for a value that cannot be sealed, or be shown at boot.
    """

    name: str
    kind: str
    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_name(self.name) or self.kind not in SECRET_KINDS:
            raise VaultError(f"no secret {self.name!r} of kind {self.kind!r}")
        if not self.value:
            raise UsageError("the secret is empty", _TYPE)
        if len(self.value) > TEXT_LIMIT:
            raise UsageError(f"the secret is longer than {TEXT_LIMIT} bytes", _TYPE)
        if self.kind == "text":
            _require_showable(self.value)


def _require_showable(value: bytes) -> None:
    """Raise UsageError for a text that the hook does not show as it is.

    It drops every control character but the line feed (boot-hooks/lib/screen.sh), and
    an accepted boot that shows nothing looks like one that is not.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        # from None, since the cause holds the secret
        raise UsageError("the secret is no text: it is not UTF-8", _TYPE) from None
    if any(unicodedata.category(each) == "Cc" for each in text.replace("\n", "")):
        raise UsageError(
            "the secret holds a control character (a tab, NUL, escape or the like), "
            "which is not shown at boot",
            _TYPE,
        )
    if not any(each.isprintable() and not each.isspace() for each in text):
        raise UsageError("the secret holds nothing that can be seen", _TYPE)


def require_not_enrolled(vault: Vault) -> None:
    """Raise VaultError where a vault exists: its secret would be lost."""
    if vault.load() is not None:
        raise VaultError(
            "a secret is sealed on this machine already",
            f"its state is in {STATE_FILE}; see: aemseal status",
        )


def free_place(vault: Vault, media: Sequence[Medium]) -> int:
    """Return a free NV index for the counter; VaultError where a medium is absent.

    TpmError when every index of our range is in use.
    """
    for medium in media:
        if not vault.files.has_place_for(medium.path):
            raise VaultError(
                f"the medium {medium.label} is not at hand: {medium.path}",
                "mount it and try again",
            )
    used = vault.tpm.handles(NV_RANGE.start, len(NV_RANGE))
    for index in NV_RANGE:
        if index not in used:
            return index
    raise TpmError(
        "all NV indices of our range are in use",
        f"from 0x{NV_RANGE.start:08x} on; free one that nobody needs: tpm2_nvundefine",
    )


def own_the_tpm(vault: Vault, foreign_owner: bytes | None) -> StorageKey:
    """Set owner and lockout authorisation, and provide the storage key.

    `foreign_owner` is the value that another tool (Anti Evil Maid) set and keeps on
    the same encrypted root: it is used and left in force. Raises LockoutError, and
    TpmError when the TPM has an owner whose value nobody here knows.
    """
    tpm, files = vault.tpm, vault.files
    permanent = tpm.permanent()
    if permanent.in_lockout:
        raise in_lockout()
    ours = files.read(OWNER_FILE)
    candidates = (ours, foreign_owner) if permanent.owner_auth_set else (b"",)
    key, owner = _provide(vault, candidates)
    salt_key = vault.storage.pinned(key)
    with tpm.session(salt_key) as session:
        if not permanent.owner_auth_set:
            _set_auth(vault, Hierarchy.OWNER, OWNER_FILE, session)
        elif owner != ours:
            files.write(OWNER_FILE, owner)
        if not permanent.lockout_auth_set:
            _set_auth(vault, Hierarchy.LOCKOUT, LOCKOUT_FILE, session)
    return key


def _provide(
    vault: Vault, candidates: tuple[bytes | None, ...]
) -> tuple[StorageKey, bytes]:
    for value in candidates:
        if value is None:
            continue
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        try:
            return vault.storage.provide(), value
        except TpmRefusedError as refused:
            if not refused.is_wrong_authorisation:
                raise
    raise TpmError(
        "the TPM has an owner whose authorisation is not known here",
        "name the file that holds it as owner_auth_file in /etc/aemseal.yaml, "
        "or clear the TPM in the firmware set-up",
    )


def _set_auth(vault: Vault, hierarchy: Hierarchy, path: str, session: Any) -> None:
    value = random_auth()
    vault.files.write(path, value)
    vault.tpm.change_auth(hierarchy, value, session)


def write_hook_files(vault: Vault, key: StorageKey, selection: PcrSelection) -> None:
    """Write what the initramfs must carry: the pinned key, and the selection."""
    vault.files.write(f"{HOOK_FOLDER}/srk.tr", key.serialized)
    vault.files.write(f"{HOOK_FOLDER}/hook.conf", hook_conf(selection), mode=0o644)


def seal(vault: Vault, state: VaultState, secret: Secret) -> VaultState:
    """Make the counter, the key and the sealed objects; accept the state's boots.

    `state` names selection, storage key, media and the boots; its counter and count
    are filled in here. TpmError when the owner's NV range is full, VaultError when a
    medium is absent or the boots cannot be published; nothing is written then.
    """
    require_not_enrolled(vault)
    branches_of(state)
    counter = free_place(vault, state.media)
    state = replace(state, counter=counter, count=0, secrets=(secret.name,))
    journal = Journal("enrol", before=0, after=0, state=state, enrolling=True)
    vault.files.write(JOURNAL_FILE, journal.to_bytes())
    signing_key = SigningKey.generate()
    vault.files.write(key_file(state.generation), signing_key.to_bytes())
    with vault.owner_session(state) as session:
        vault.tpm.define_counter(counter, session)
        vault.tpm.increment(counter, session)
        count = vault.tpm.count(counter, session)
        for medium in state.media:
            sealed = _seal_for(vault, state, medium, secret, signing_key, session)
            vault.files.write(
                f"{medium.path}/{VAULT_FILE}", sealed.to_bytes(), mode=0o644
            )
    return vault.publish(replace(state, count=count), "enrol", enrolling=True)


def _seal_for(
    vault: Vault,
    state: VaultState,
    medium: Medium,
    secret: Secret,
    key: SigningKey,
    session: Any,
) -> VaultFile:
    reference = policy_ref(state.generation, medium.label)
    policy = policy_authorize(name_of(key.public), reference)
    parent = vault.storage.pinned(state.storage)
    pieces = [
        secret.value[at : at + PART_SIZE]
        for at in range(0, len(secret.value), PART_SIZE)
    ]
    parts = tuple(
        vault.storage.seal(piece, policy, parent, session) for piece in pieces
    )
    return VaultFile(
        generation=state.generation,
        medium=medium.label,
        counter=state.counter,
        key=key.public,
        policy_ref=reference,
        secrets=(SealedSecret(secret.name, secret.kind, pin=False, parts=parts),),
    )

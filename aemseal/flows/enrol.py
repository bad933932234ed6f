# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `enrol`: from a verified boot to a sealed secret (docs/adr/0002).

Everything that can refuse does so before the first write: the log, the selection, the
media, the TPM's room, a trial prediction, and whether the next boot is the running one.
Then the TPM is owned, the hook's files are written, the initramfs is built with them,
and the boot that will follow is predicted, held against the running one once more, and
staged. Where the build moves what cannot be predicted nothing is sealed yet: the person
reboots into it, enrols again, and that boot is accepted (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aemseal.flows.enrol_halfway import forget_halfway
from aemseal.flows.first_boot import Setting, first_boot
from aemseal.flows.keyfile import with_new_header
from aemseal.flows.moves import ACCEPTED, STAGED
from aemseal.flows.provision import require_not_enrolled, seal
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import require_pin
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError
from aemseal.world.config import Config
from aemseal.world.luks_headers import HeaderChange


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is to be enrolled, and on what machine.

    `secret` asks for a secret of this `kind` when all that can refuse was looked at,
    and before anything is written. `header` returns the LUKS header that `secret`
    drafted, None where it drafted none.
    """

    setting: Setting
    kind: str
    secret: Callable[[], ToSeal]
    header: Callable[[], HeaderChange | None] = lambda: None


def enrol(enrolment: Enrolment) -> VaultState:
    """Seal a secret to the running boot, or to the predicted one, and return it.

    Errors as `first_boot` raises them, and VaultError when there is a vault already.
    RebootFirstError when all is built, and what the next boot measures cannot be known:
    after it, enrol again.
    """
    setting = enrolment.setting
    vault, media = setting.vault, setting.config.media
    require_not_enrolled(vault)
    secret, found = first_boot(setting, lambda _: _asked(enrolment))
    state, header = found.state(media), enrolment.header()
    if header is not None:
        state = with_header(vault, state, header)
    headers = () if header is None else (header,)
    sealed = seal(vault, state, (secret,), headers)
    forget_halfway(vault)
    return sealed


def _asked(enrolment: Enrolment) -> ToSeal:
    """Ask for the secret; UsageError without the PIN that the media call for."""
    secret = enrolment.secret()
    require_pin(enrolment.kind, secret.pin, enrolment.setting.config.media)
    return secret


def with_header(vault: Vault, state: VaultState, header: HeaderChange) -> VaultState:
    """Stage the boot with the drafted header, too: that one comes next.

    The state accepts or stages that one boot alone.
    """
    [boot] = (*state.accepted, *state.staged)
    checked = state.checked
    if checked is not None and checked.result == ACCEPTED:
        state = replace(state, checked=replace(checked, result=STAGED))
    return with_new_header(vault, state, header, boot.policy, boot.since)


def read_foreign_owner(vault: Vault, config: Config) -> bytes | None:
    """Return the owner's authorisation that another tool keeps, if it does.

    A final line end is not part of it. AemsealError when the file is named and absent.
    """
    if config.owner_auth_file is None:
        return None
    data = vault.files.read(config.owner_auth_file)
    if data is None:
        raise AemsealError(f"{config.owner_auth_file} does not exist")
    return data.rstrip(b"\n")

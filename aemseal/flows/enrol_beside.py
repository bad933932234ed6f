# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `enrol` on a machine that has a vault: one more secret beside.

It becomes another sealed object of the same generation, under the acceptance that is
in force: nothing is measured anew, and no boot is accepted that was not before.
"""

from __future__ import annotations

from aemseal.flows.luks_boots import is_lost
from aemseal.flows.moves import require_accepted
from aemseal.flows.provision import require_guarded
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import require_pin
from aemseal.flows.state import VaultState
from aemseal.flows.status import read_running
from aemseal.flows.vault import Vault
from aemseal.words.errors import NotAcceptedError, VaultError
from aemseal.world.host import Host


def require_room_beside(vault: Vault, host: Host, kind: str) -> VaultState:
    """Return the state of a vault that can take one more secret, of this kind.

    VaultError where one of the kind is there or a medium is absent; TpmChangedError or
    VaultError unless the TPM is as we left it; NotAcceptedError when the running boot
    is not an accepted one, EvidenceError when it cannot be verified. All of it is
    asked before a person is asked for the secret.
    """
    state = vault.require()
    if any(each.kind == kind and not is_lost(each) for each in state.secrets):
        raise VaultError(
            f"a {kind} is sealed on this machine already",
            "there is one of each kind; see: aemseal status",
        )
    for medium in state.media:
        if not vault.files.exists(medium.path):
            raise VaultError(
                f"the medium {medium.label} is not at hand: {medium.path}",
                "mount it and try again: a secret is sealed to every medium at once",
            )
    vault.require_open(state)
    policy = read_running(host, state).policy(state)
    if policy is None:
        raise NotAcceptedError("this boot did not run aemseal's hook")
    require_accepted(state, policy)
    return state


def enrol_beside(vault: Vault, state: VaultState, added: ToSeal) -> VaultState:
    """Seal one more secret within the generation, and return the state after it.

    UsageError for a secret without the PIN that its media call for.
    """
    require_pin(added.secret.kind, added.pin, state.media)
    require_guarded(vault, (added,))
    return seal_beside(vault, state, added)

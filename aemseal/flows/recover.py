# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `recover`: accept the running boot by the person's own word, anew.

A boot that was not accepted ran on the decrypted root, and code of it may hold what
signs for the vault. So nothing of that generation is used again (docs/adr/0010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aemseal.flows.enrol import with_header
from aemseal.flows.enrol_halfway import RebootFirstError, forget_halfway
from aemseal.flows.first_boot import Setting, first_boot
from aemseal.flows.generation import (
    Anew,
    begin_anew,
    require_settled,
    retired_by,
)
from aemseal.flows.luks_boots import is_lost, lost_key
from aemseal.flows.sealing import ToSeal
from aemseal.flows.state import VaultState
from aemseal.flows.survey import Survey
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.world.luks_headers import HeaderChange

DIGITS = 16
"""Hex digits of a boot's policy digest that name it on the command line: 64 bits, in
which no boot is sought that would be taken for another."""

_REBOOT = (
    "reboot now, then again: aemseal recover. That boot shows no secret, as the hook "
    "in it is for the vault that is not sealed yet. Expect it this once, right after "
    "this build, and only if you rebooted yourself: then type the disk passphrase"
)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the person gave: the secrets, and the LUKS header drafted for a keyfile."""

    secrets: Sequence[ToSeal]
    header: HeaderChange | None = None


def digits_of(look: Survey) -> str:
    """Return what the running boot is called on the command line.

    The first digits of its PolicyPCR digest; where no hook measured PCR 13, that one
    is as it is now.
    """
    live = look.running_bank
    values = {pcr: live.value(pcr) for pcr in look.selection.pcrs}
    return policy_pcr(look.selection, values).hex()[:DIGITS]


def kinds_to_ask(state: VaultState) -> tuple[str, ...]:
    """Return the kinds of secret that are sealed, a key that opens no disk left out.

    That key's VaultError where there is no other secret.
    """
    kinds = tuple(each.kind for each in state.secrets if not is_lost(each))
    lost = lost_key(state)
    if not kinds and lost is not None:
        raise lost
    return kinds


def recover(
    setting: Setting, before: VaultState, ask: Callable[[Survey], Answers]
) -> Anew:
    """Seal anew to the running boot, or to the one that is built here.

    `ask` shows what is about to be accepted, and raises what the person says no with;
    then it asks for every secret. Errors as `first_boot` and `begin_anew`. Which boots
    were accepted before is on record as retired: none is signed for any more.
    """
    vault = setting.vault
    require_settled(vault)
    try:
        answers, found = first_boot(setting, ask, before)
    except RebootFirstError as error:
        raise RebootFirstError(error.message, _REBOOT) from None
    state = replace(
        found.state(setting.config.media),
        retired=retired_by(before, found.boot.policy),
    )
    headers: tuple[HeaderChange, ...] = ()
    if answers.header is not None:
        state = with_header(vault, state, answers.header)
        headers = (answers.header,)
    anew = begin_anew(
        vault,
        before,
        state,
        answers.secrets,
        "recover",
        foreign_owner=setting.foreign_owner,
        headers=headers,
    )
    forget_halfway(vault)
    return anew

# SPDX-License-Identifier: GPL-2.0-or-later
"""An enrolment in two halves, with a reboot between them (docs/adr/0007).

/var/lib/aemseal/foreseen.json holds what the first half could predict of the boot that
the second accepts. It holds no secret, and is gone when something is sealed.
"""

from __future__ import annotations

import json

from aemseal.flows.state import DAMAGE, FORESEEN_FILE
from aemseal.flows.survey import Survey
from aemseal.flows.vault import Vault
from aemseal.measure.claims import Prediction
from aemseal.measure.differences import Seen, seen_in
from aemseal.measure.foreseen import Foreseen
from aemseal.measure.luks import LUKS_PCR
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import OriginError, PredictionError

_AGAIN = (
    "reboot now, then {verb} again: aemseal {command}. That boot will say "
    '"No aemseal vault was found on the boot medium. Do not type your disk '
    'passphrase." Expect it this once, right after this build, and only if you '
    "rebooted yourself: then type it"
)
_YOURSELF = f"if you changed it yourself, remove {FORESEEN_FILE} and enrol"


class RebootFirstError(PredictionError):
    """The hook is in place, but what the boot with it measures cannot be predicted."""


def keep_halfway(
    vault: Vault,
    prediction: Prediction,
    selection: PcrSelection,
    time: str,
    command: str = "enrol text",
) -> None:
    """Keep what can be known of the boot that was built, where that is not all.

    RebootFirstError then, when it is kept; `command` is what goes on from it, a verb
    and its words. Nothing happens where all is known.
    """
    foreseen = Foreseen.of(prediction, selection, time)
    if foreseen is None:
        return
    data = json.dumps(foreseen.to_json(), indent=1).encode()
    vault.files.write(FORESEEN_FILE, data)
    reasons = "; ".join(each.sentence for each in foreseen.refusals)
    again = _AGAIN.format(verb=command.split()[0], command=command)
    raise RebootFirstError(f"nothing is sealed yet: {reasons}", again)


def require_as_foreseen(vault: Vault, look: Survey) -> str | None:
    """Hold this boot against what was kept of it, and return a sentence on that.

    None where nothing was kept. OriginError, naming what it is, where something is not
    as it was predicted: somebody changed it between the two halves.
    """
    data = vault.files.read(FORESEEN_FILE)
    if data is None:
        return None
    try:
        foreseen = Foreseen.from_json(json.loads(data))
    except DAMAGE:
        raise OriginError(f"{FORESEEN_FILE} is damaged", _YOURSELF) from None
    held = foreseen.held_against(_seen(look), look.selection, with_luks=True)
    if held.is_as_foreseen:
        return (
            "all that could be predicted of this boot came as predicted: "
            f"{held.known_words or 'no file'}; nothing checked {held.unproven_words}: "
            "accepted as is"
        )
    expected, seen = held.difference.expected, held.difference.seen
    if expected is not None:
        what = f"{expected.role} (PCR {expected.pcr})"
    else:
        what = f"one more measurement into PCR {seen[0] if seen else LUKS_PCR}"
    raise OriginError(
        f"this boot is not the one that enrol built: {what} is not as predicted",
        _YOURSELF,
    )


def forget_halfway(vault: Vault) -> None:
    """Forget what was kept: something is sealed."""
    vault.files.remove(FORESEEN_FILE)


def _seen(look: Survey) -> list[Seen]:
    """Return the running boot's extends of the selection, the LUKS headers last."""
    launch = [each for each in seen_in(look.verified) if each[0] in look.selection]
    luks = () if look.hook is None else look.hook.luks
    return [*launch, *((LUKS_PCR, digest) for _, digest in luks)]

# SPDX-License-Identifier: GPL-2.0-or-later
"""When a prediction that cannot be sealed to is kept, by enrol and by reseal."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from tboot_boots import DA, SHA256, Boot, File, a_boot, facts_of
from test_state import STATE, boot

from aemseal.flows.enrol_halfway import (
    RebootFirstError,
    forget_halfway,
    keep_halfway,
    require_as_foreseen,
)
from aemseal.flows.refresh import BOOT_ID
from aemseal.flows.reseal import NextBoot, foresee
from aemseal.flows.state import FORESEEN_FILE, STATE_FILE, SealedBoot, VaultState
from aemseal.flows.survey import Survey
from aemseal.flows.vault import Vault
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Prediction, Refusal
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import OriginError

SELECTION = PcrSelection.of(SHA256, {13, 17, 18})
NOW = "2026-01-02T00:00:00Z"
UPDATED = a_boot().with_module(2, image=b"another initramfs")


class Disk:
    """The files of a vault, in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def remove(self, path: str) -> None:
        self.files.pop(path, None)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def vault(disk: Disk) -> Vault:
    return cast("Vault", SimpleNamespace(files=disk))


def predicted(following: Boot, *refusals: Refusal) -> Prediction:
    """Predict an update of a boot by tboot; it refuses what it is told to."""
    launched, facts = DA.launched(a_boot()), facts_of(following)
    before = calibrate(launched, [Candidate(a_boot().entry, facts_of(a_boot()))])
    kept = before.baseline("now")
    calibration = calibrate(launched, [Candidate(following.entry, facts)], kept)
    made = predict(calibration, following.entry, facts, hook_measures_luks=False)
    return replace(made, refusals=refusals)


REFUSED = Refusal(18, "somebody moved it", 12)
KNOWN = predicted(UPDATED)
BLIND = predicted(UPDATED, REFUSED)


# --- enrol ---


def look(running: Boot) -> Survey:
    verified = DA.launched(running)
    seen = SimpleNamespace(verified=verified, selection=SELECTION, hook=None)
    return cast("Survey", seen)


def test_a_boot_that_is_known_leaves_nothing_to_wait_for(disk: Disk) -> None:
    keep_halfway(vault(disk), KNOWN, SELECTION, NOW)
    assert disk.files == {}
    assert require_as_foreseen(vault(disk), look(a_boot())) is None


def test_one_that_is_not_is_kept_and_then_told(disk: Disk) -> None:
    with pytest.raises(RebootFirstError, match="nothing is sealed yet: PCR 18: "):
        keep_halfway(vault(disk), BLIND, SELECTION, NOW)
    assert set(disk.files) == {FORESEEN_FILE}
    told = require_as_foreseen(vault(disk), look(UPDATED))
    assert told is not None
    assert told.startswith("all that could be predicted of this boot came as predicted")
    assert told.endswith("; nothing checked the launch's own tables: accepted as is")
    forget_halfway(vault(disk))
    assert disk.files == {}


AGAIN = {
    "enrol totp": "reboot now, then enrol again: aemseal enrol totp. ",
    "recover": "reboot now, then recover again: aemseal recover. ",
}


@pytest.mark.parametrize(("command", "words"), AGAIN.items(), ids=list(AGAIN))
def test_what_goes_on_after_the_reboot_is_told_as_it_is_typed(
    disk: Disk, command: str, words: str
) -> None:
    with pytest.raises(RebootFirstError) as told:
        keep_halfway(vault(disk), BLIND, SELECTION, NOW, command)
    assert str(told.value.hint).startswith(words)


def test_something_added_between_the_halves_is_refused(disk: Disk) -> None:
    with pytest.raises(RebootFirstError):
        keep_halfway(vault(disk), BLIND, SELECTION, NOW)
    more = replace(UPDATED, modules=(*UPDATED.modules, File("/boot/evil", b"evil")))
    with pytest.raises(OriginError, match="one more measurement into PCR 17"):
        require_as_foreseen(vault(disk), look(more))


# --- reseal ---

ACCEPTED = STATE.accepted[0].policy
SEEN_IN = {BOOT_ID: b"this-boot\n"}


def following(
    prediction: Prediction,
    *,
    running: bytes = ACCEPTED,
    is_next: bool = True,
    found: SealedBoot | None = None,
) -> NextBoot:
    host = SimpleNamespace(now=lambda: NOW, small_file=SEEN_IN.get)
    made = SimpleNamespace(
        look=SimpleNamespace(running_policy=running, host=host),
        prediction=prediction,
        boot=found,
        is_next=is_next,
    )
    return cast("NextBoot", made)


def test_a_blind_boot_is_kept_with_the_state(disk: Disk) -> None:
    state = foresee(vault(disk), STATE, following(BLIND))
    assert state.foreseen is not None
    assert state.foreseen.time == NOW
    assert state.checked is not None
    assert (state.checked.result, state.checked.time) == ("unknown", NOW)
    assert VaultState.parse(disk.files[STATE_FILE]) == state
    assert state.seen is not None
    assert state.seen.boot == "this-boot"
    assert replace(state, foreseen=None, checked=STATE.checked, seen=None) == STATE


def test_that_of_another_entry_says_nothing_of_the_next_boot(disk: Disk) -> None:
    state = foresee(vault(disk), STATE, following(BLIND, is_next=False))
    assert (state.foreseen is not None, state.checked) == (True, STATE.checked)
    assert state.seen is None


@pytest.mark.parametrize(
    "what",
    [
        following(KNOWN),
        following(BLIND, running=STATE.retired[0].policy),
        following(BLIND, running=b"\xee" * 32),
        following(BLIND, found=boot("known", 7)),
    ],
    ids=["nothing refused", "a retired boot", "an unknown boot", "a boot to stage"],
)
def test_nothing_else_is_kept(disk: Disk, what: NextBoot) -> None:
    assert foresee(vault(disk), STATE, what) is STATE
    assert disk.files == {}

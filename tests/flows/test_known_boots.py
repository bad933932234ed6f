# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicted boot as one that can be staged: it must be known, and covered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from custom_policies import explained, with_policy
from tboot_boots import DA, SHA256, Boot, File, a_boot, facts_of
from tboot_policies import ANY, NONE, Entry

from aemseal.flows.known_boots import predicted_boot
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import PredictionError

POLICY = [Entry(0, NONE), Entry(1, 17), Entry(2, 17), Entry(ANY, 20)]
"""tboot's owner has Xen's first two modules in PCR 17, and any other in PCR 20."""


def test_a_file_in_a_pcr_that_is_not_sealed_to_cannot_be_staged() -> None:
    """At enrolment there was no such file; whoever changed it would see the secret."""
    machine, boot = with_policy(DA, POLICY), a_boot()
    calibration = explained(machine, boot)
    more = replace(boot, modules=(*boot.modules, File("/boot/ucode.bin", b"ucode")))

    def staged(following: Boot, *pcrs: int) -> None:
        facts = facts_of(following)
        prediction = predict(
            calibration, following.entry, facts, hook_measures_luks=True
        )
        predicted_boot(prediction, PcrSelection(SHA256, pcrs), "now")

    staged(boot, 13, 17, 18)
    with pytest.raises(PredictionError, match=r"changed module .*ucode\.bin") as why:
        staged(more, 13, 17, 18)
    assert "enrol with that PCR, too" in (why.value.hint or "")
    staged(more, 13, 17, 18, 20)

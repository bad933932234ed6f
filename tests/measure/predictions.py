# SPDX-License-Identifier: GPL-2.0-or-later
"""Calibrated boots and what is predicted from them; boots of any shape."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from tboot_boots import (
    MACHINES,
    SHA256,
    UUID,
    Boot,
    File,
    Machine,
    a_boot,
    facts_of,
    luks_record,
)

from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Calibrated, Prediction
from aemseal.measure.predict import predict

OTHER_UUID = "00000000-aaaa-bbbb-cccc-dddddddddddd"
MORE = File("/boot/ucode.bin", b"ucode", b"", {})


def running(
    machine: Machine,
    boot: Boot,
    *now: Boot,
    baseline: Baseline | None = None,
    with_luks: bool = True,
) -> Calibration:
    """Calibrate a boot, the files now being those of `now` (else the boot's own)."""
    candidates = [Candidate(each.entry, facts_of(each)) for each in now or (boot,)]
    luks = luks_record(boot) if with_luks else []
    return calibrate(machine.launched(boot), candidates, baseline, luks)


def next_boot(calibration: Calibration, boot: Boot, *, luks: bool = True) -> Prediction:
    facts = facts_of(boot)
    return predict(calibration, boot.entry, facts, hook_measures_luks=luks)


def values(prediction: Prediction) -> dict[int, bytes]:
    return {pcr: d.value for pcr, d in prediction.bank(SHA256).values.items()}


def by_role(calibration: Calibration) -> dict[Role, Calibrated]:
    return {each.role: each.calibrated for each in calibration.measured}


bytes_ = st.binary(min_size=1, max_size=8)
cmdlines = st.binary(max_size=12).map(lambda b: b.replace(b"\0", b" "))


@st.composite
def boots(draw: st.DrawFn) -> Boot:
    """A boot with one to six modules, some of them dropped, and up to two headers."""
    modules = []
    for number in range(draw(st.integers(1, 6))):
        skipped = number > 0 and draw(st.booleans()) and draw(st.booleans())
        modules.append(
            File(
                f"/boot/module-{number}",
                draw(bytes_),
                draw(cmdlines),
                {"tboot_skips": "sinit-acm"} if skipped else {},
                nounzip=draw(st.booleans()),
            )
        )
    # Options with a value may change more than the MLE: test_tboot_next_policy.py.
    words = draw(cmdlines).replace(b"=", b" ")
    tboot = replace(a_boot().tboot, image=draw(bytes_), cmdline=words)
    uuids = draw(st.sampled_from([(), (UUID,), (UUID, OTHER_UUID)]))
    return Boot(tboot, tuple(modules), tuple((uuid, draw(bytes_)) for uuid in uuids))


machines = st.sampled_from(list(MACHINES.values()))


def refused(prediction: Prediction) -> dict[int, str]:
    return {each.pcr: each.reason for each in prediction.refusals}

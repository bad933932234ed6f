# SPDX-License-Identifier: GPL-2.0-or-later
"""What the simulated tboot prints has the form of what real ones printed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tpm_sim.cache import PROJECT
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import MachineModel

Make = Callable[[MachineModel], Machine]
VECTORS = PROJECT / "../shared/vectors/drtm"
REAL = {
    "tboot-da-text": "tboot-devel_2021-08-26_E5470_tpm20_1.10.2.txt",
    "tboot-tpm12-text": "tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt",
    "tboot-gm45": "tboot-devel_2020-05-29_GM45_tpm12_1.9.12.txt",
}


def shape(line: str) -> str:
    """The line with every number made 0 and the command line left out."""
    line = re.sub(r"(command line:|transfering control).*", r"\1", line)
    line = re.sub(r"\b(0x)?[0-9a-fA-F]*\d[0-9a-fA-F]*\b|\b[a-f]{2}\b", "0", line)
    return re.sub(r"(0 )+$", "0 ", line.rstrip("\r"))


def text_of(machine: Machine) -> list[str]:
    machine.boot()
    path = machine.root / "var/log/txt-stat"
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", REAL)
def test_every_line_is_one_that_a_real_tboot_printed(laptop: Make, name: str) -> None:
    if not VECTORS.exists():
        pytest.skip("no ../shared/vectors beside the project")
    real = (VECTORS / REAL[name]).read_text(encoding="utf-8", errors="replace")
    # The GM45's log was captured on a serial line: no registers, and no txt-stat.
    if name == "tboot-gm45":
        real += (VECTORS / REAL["tboot-tpm12-text"]).read_text(encoding="utf-8")
    known = {shape(line) for line in real.splitlines()}
    strange = [
        line for line in text_of(laptop(MACHINES[name])) if shape(line) not in known
    ]
    assert strange == []


@pytest.mark.parametrize("name", REAL)
def test_the_parts_come_in_tboots_order(laptop: Make, name: str) -> None:
    text = "\n".join(text_of(laptop(MACHINES[name])))
    marks = [
        *("TBOOT log:", "command line:", "executing GETSEC[SENTER]", "command line:"),
        *("measured launch succeeded", "sinit_mle_data", "VL measurements:"),
    ]
    at = 0
    for mark in marks:
        at = text.index(mark, at) + 1
    events = len(re.findall(r"Type: 0x|event_type: 0x", text[at:]))
    assert events == (0 if name == "tboot-gm45" else text[at:].count("alg 0"))

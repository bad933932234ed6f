# SPDX-License-Identifier: GPL-2.0-or-later
"""A log made from tables says so, to a person and to a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tboot_texts import SHA1, container, measurements, os_sinit, record, sinit_mle

from aemseal.face.cli import main

OWN = [(17, {SHA1: b"\3" * 20})]
REBUILT = os_sinit(5, 2) + sinit_mle(6) + measurements(OWN)
LOGGED = (
    container([(17, 0x402, {SHA1: b"\1" * 20}, b"x")])
    + measurements(OWN)
    + record(17, 0x501, b"\3" * 20)
)
NOTE = "not all of it was logged: rebuilt from the launch's tables\n"


@pytest.mark.parametrize(("text", "rebuilt"), [(REBUILT, True), (LOGGED, False)])
def test_a_rebuilt_log_is_shown_as_such(
    text: str, rebuilt: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "txt-stat"
    path.write_text(text)
    assert main(["log", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"tboot-text log {path}: replayed, held against no TPM\n")
    assert (NOTE in printed) is rebuilt
    assert main(["log", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out).get("rebuilt", False) is rebuilt

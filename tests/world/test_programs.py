# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that tell something: what they print, and each way in which they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from aemseal.words.errors import AemsealError
from aemseal.world import programs
from aemseal.world.programs import read_program


def test_what_a_program_prints_is_returned() -> None:
    assert read_program(["printf", r"a\0b"]) == b"a\0b"


def test_its_errors_and_our_stdin_are_kept_from_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert read_program(["sh", "-c", "cat; echo secret >&2; echo told"]) == b"told\n"
    assert capfd.readouterr() == ("", "")


def test_nothing_is_run_by_a_shell() -> None:
    assert read_program(["echo", "$HOME; ls"]) == b"$HOME; ls\n"


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(AemsealError, match=r"^there is no program txt-stat-of-nobody$"):
        read_program(["txt-stat-of-nobody"])


def test_one_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "xl").write_bytes(b"no program")
    with pytest.raises(AemsealError, match="xl cannot be run: permission denied"):
        read_program([str(tmp_path / "xl")])


def test_one_that_fails_is_named_and_its_words_are_dropped() -> None:
    with pytest.raises(AemsealError, match=r"^sh failed with exit code 3$"):
        read_program(["sh", "-c", "echo half; exit 3"])


def test_one_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TELL_LIMIT", 0.05)
    with pytest.raises(AemsealError, match="sleep did not end within"):
        read_program(["sleep", "60"])


def test_one_that_prints_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "OUTPUT_LIMIT", 1 << 20)
    zeros = ["head", "-c", str(1 << 20), "/dev/zero"]
    assert len(read_program(zeros)) == 1 << 20
    with pytest.raises(AemsealError, match="head prints over 1 MiB"):
        read_program(["head", "-c", str((1 << 20) + 1), "/dev/zero"])

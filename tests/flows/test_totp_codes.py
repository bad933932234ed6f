# SPDX-License-Identifier: GPL-2.0-or-later
"""Which codes prove that a phone has the seed, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.flows.secret import TOTP
from aemseal.flows.totp import (
    CLOCK_TOLERANCE,
    DRIFT,
    HARDWARE_CLOCK,
    HOST_NAME,
    CodeCheck,
    account_name,
    clock_caution,
    new_seed,
)
from aemseal.formats.totp import STEP, totp
from aemseal.world.rooted import Rooted

SEED = b"12345678901234567890"
NOW = 1_800_000_015.5
"""In the middle of a step."""


def of(offset: float) -> str:
    """The code of a clock that is so many seconds ahead."""
    return totp(SEED, NOW + offset)


@pytest.mark.parametrize("offset", [0, -STEP, STEP])
def test_a_code_of_this_step_or_of_a_neighbour_is_right(offset: int) -> None:
    assert CodeCheck(SEED).complaint(of(offset), NOW) is None


@given(st.integers(0, 2**36), st.integers(-45, 45))
def test_whatever_the_time_a_phone_half_a_step_off_is_right(
    time: int, off: int
) -> None:
    code = totp(SEED, max(time + off * 2 // 3, 0))
    assert CodeCheck(SEED).complaint(code, time) is None


def test_a_code_may_be_typed_as_the_app_shows_it() -> None:
    code = of(0)
    assert CodeCheck(SEED).complaint(f" {code[:3]} {code[3:]}\n", NOW) is None


NO_CODES = ("", "\n", "12345", "1234567", "12345a", "-12345", "\uff11" * 6, "²" * 6)


@pytest.mark.parametrize("typed", NO_CODES)
def test_what_is_no_code_is_told_as_that(typed: str) -> None:
    assert CodeCheck(SEED).complaint(typed, NOW) == "a code is 6 digits"


OFF = {
    2 * STEP: ("1 minute", "ahead"),
    -2 * STEP: ("1 minute", "behind"),
    4 * 60: ("4 minutes", "ahead"),
    -59 * 60: ("59 minutes", "behind"),
    3600: ("60 minutes", "ahead"),
    -2 * 3600: ("2 hours", "behind"),
    23 * 3600: ("23 hours", "ahead"),
}


@pytest.mark.parametrize(("offset", "words"), OFF.items())
def test_clocks_that_differ_are_told_apart_from_a_wrong_seed(
    offset: int, words: tuple[str, str]
) -> None:
    complaint = CodeCheck(SEED).complaint(of(offset), NOW)
    assert complaint == (
        f"your phone's clock and this machine's differ by about {words[0]}, the "
        f"phone's being {words[1]}: set the one that is wrong"
    )


@pytest.mark.parametrize("offset", [(DRIFT + 1) * STEP, -(DRIFT + 1) * STEP])
def test_beyond_a_day_it_is_no_code_of_this_seed(offset: int) -> None:
    complaint = CodeCheck(SEED).complaint(of(offset), NOW)
    assert complaint == "that is no code of this seed: is it the entry added just now?"


def test_a_code_that_was_refused_does_not_become_right_by_waiting() -> None:
    check = CodeCheck(SEED)
    early = of(3 * STEP)
    assert "differ by about 2 minutes" in str(check.complaint(early, NOW))
    later = NOW + 3 * STEP
    assert check.complaint(early, later) == (
        "that code was typed before: wait for the next one"
    )
    assert CodeCheck(SEED).complaint(early, later) is None, "or else it is right"


def test_the_secret_is_the_seed_and_is_not_told() -> None:
    check = CodeCheck(SEED)
    check.complaint("123456", NOW)
    assert (check.secret.kind, check.secret.name, check.secret.value) == (
        *(TOTP, TOTP),
        SEED,
    )
    assert "1234" not in repr(check)


def test_each_seed_is_twenty_bytes_of_the_system_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {new_seed() for _ in range(20)}
    assert len(found) == 20
    assert {len(each) for each in found} == {20}
    monkeypatch.setattr("secrets.token_bytes", lambda size: b"r" * size)
    assert new_seed() == b"r" * 20


# --- what is told of the machine ---


def write(root: Path, path: str, data: bytes) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(data)


NAMES = {
    b"dom0\n": "dom0",
    b"x230": "x230",
    b"": "machine",
    b"\n": "machine",
    b"a\x1b[2J": "machine",
    b"a\nb\n": "machine",
    b"\xff": "�",
    b"x" * 5000: "machine",
}


@pytest.mark.parametrize(("data", "name"), NAMES.items(), ids=repr)
def test_the_machine_goes_by_its_host_name(
    tmp_path: Path, data: bytes, name: str
) -> None:
    write(tmp_path, HOST_NAME, data)
    assert account_name(Rooted(tmp_path)) == name


def test_a_machine_without_a_name_is_this_one(tmp_path: Path) -> None:
    assert account_name(Rooted(tmp_path)) == "machine"


CLOCKS = {
    0: None,
    CLOCK_TOLERANCE: None,
    -CLOCK_TOLERANCE: None,
    CLOCK_TOLERANCE + 1: "about 1 minute ahead of",
    -CLOCK_TOLERANCE - 1: "about 1 minute behind",
    7200: "about 2 hours ahead of",
    -3600: "about 60 minutes behind",
}


@pytest.mark.parametrize(("off", "words"), CLOCKS.items())
def test_a_hardware_clock_that_is_off_is_told_before_it_shows_at_boot(
    tmp_path: Path, off: int, words: str | None
) -> None:
    now = 1_800_000_000
    write(tmp_path, HARDWARE_CLOCK, b"%d\n" % (now + off))
    caution = clock_caution(Rooted(tmp_path), now)
    if words is None:
        assert caution is None
    else:
        assert caution is not None
        assert caution.startswith(f"the hardware clock is {words} the system's")


@pytest.mark.parametrize("data", [None, b"", b"soon\n", b"1" * 5000])
def test_a_hardware_clock_that_cannot_be_read_is_passed_over(
    tmp_path: Path, data: bytes | None
) -> None:
    if data is not None:
        write(tmp_path, HARDWARE_CLOCK, data)
    assert clock_caution(Rooted(tmp_path), NOW) is None

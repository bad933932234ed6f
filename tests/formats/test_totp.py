# SPDX-License-Identifier: GPL-2.0-or-later
"""One-time codes: the RFCs' own vectors, and what a phone is handed."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.totp import (
    STEP,
    hotp,
    in_groups,
    otpauth_uri,
    seed_text,
    step_of,
    steps_off,
    totp,
)

RFC_SEED = b"12345678901234567890"

RFC_4226 = (
    *("755224", "287082", "359152", "969429", "338314"),
    *("254676", "287922", "162583", "399871", "520489"),
)
"""Appendix D, counters 0 to 9."""

RFC_6238 = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""Appendix B, the rows of SHA-1: eight digits."""

BASE32 = {
    b"f": "MY",
    b"fo": "MZXQ",
    b"foo": "MZXW6",
    b"foob": "MZXW6YQ",
    b"fooba": "MZXW6YTB",
    b"foobar": "MZXW6YTBOI",
}
"""RFC 4648 section 10, without the padding."""

seeds = st.binary(min_size=20, max_size=20)
times = st.integers(0, 2**40)


@pytest.mark.parametrize(("counter", "code"), list(enumerate(RFC_4226)))
def test_the_codes_are_those_of_rfc_4226(counter: int, code: str) -> None:
    assert hotp(RFC_SEED, counter) == code


@pytest.mark.parametrize(("time", "code"), RFC_6238.items())
def test_the_codes_are_those_of_rfc_6238(time: int, code: str) -> None:
    assert totp(RFC_SEED, time, digits=8) == code
    assert totp(RFC_SEED, time) == code[2:]


@pytest.mark.parametrize(("data", "text"), BASE32.items())
def test_a_seed_is_told_in_base32_without_padding(data: bytes, text: str) -> None:
    assert seed_text(data) == text


@given(seeds, times)
def test_a_code_is_six_digits_and_stands_for_its_step(seed: bytes, time: int) -> None:
    code = totp(seed, time)
    assert len(code) == 6
    assert code.isdecimal()
    first = time - time % STEP
    assert totp(seed, first) == totp(seed, first + 29.999) == code


@given(seeds, times, st.integers(-20, 20))
def test_a_clock_that_is_off_is_told_by_the_nearest_step(
    seed: bytes, time: int, off: int
) -> None:
    step = step_of(time) + off
    if step < 0:
        return
    code = hotp(seed, step)
    found = steps_off(seed, code, time, reach=20)
    assert found is not None
    assert abs(found) <= abs(off)
    assert hotp(seed, step_of(time) + found) == code


def test_a_code_beyond_reach_is_nobodys() -> None:
    code = totp(RFC_SEED, 3000)
    assert steps_off(RFC_SEED, code, 3000, reach=0) == 0
    assert steps_off(RFC_SEED, code, 3000 + 90, reach=2) is None
    assert steps_off(RFC_SEED, code, 3000 + 90, reach=3) == -3
    assert steps_off(RFC_SEED, code, 3000 - 90, reach=3) == 3


def test_before_the_epoch_there_are_no_codes() -> None:
    assert steps_off(RFC_SEED, "755224", 59, reach=2) == -1
    assert steps_off(RFC_SEED, "000000", 0, reach=2) is None


def test_groups_of_four_are_typed_by_hand() -> None:
    assert in_groups("ABCDEFGHIJ") == "ABCD EFGH IJ"
    assert in_groups("") == ""


def test_the_uri_is_what_an_app_scans() -> None:
    assert otpauth_uri(RFC_SEED, "dom0") == (
        "otpauth://totp/aemseal:dom0"
        "?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=aemseal"
    )


@given(seeds, st.text(st.characters(codec="utf-8"), max_size=64))
def test_the_uri_carries_any_account_and_nothing_else(seed: bytes, name: str) -> None:
    uri = otpauth_uri(seed, name)
    assert uri.isascii()
    assert uri.isprintable()
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("otpauth", "totp", "")
    assert unquote(parts.path) == f"/aemseal:{name}"
    assert parts.path.count(":") == 1
    query = parse_qs(parts.query, strict_parsing=True)
    assert set(query) == {"secret", "issuer"}
    assert base64.b32decode(query["secret"][0]) == seed


def test_an_account_is_cut_at_64_characters() -> None:
    assert otpauth_uri(RFC_SEED, "a" * 65) == otpauth_uri(RFC_SEED, "a" * 64)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's record is what docs/slot-format.md says, and nothing beside it."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from aemseal.formats.hook_files import OUTCOMES, HookRecord
from aemseal.words.errors import FormatError

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs/slot-format.md"
SCREEN = PROJECT / "boot-hooks/lib/screen.sh"
DISK = "0f0e7a6c-1b5a-4c1e-9a53-6d0c5c2b9f11"
USED = "count 7\nbranch Xen-4.17.5\n"


def record(
    *disks: str, outcome: str = "unsealed", used: str = USED, cap: bool = True
) -> bytes:
    lines = [
        *("aemseal-record 1", "bank sha256", "pcrs 13,17,18", f"pin {'77' * 32}"),
        *(f"luks {each} {'ab' * 32}" for each in disks),
        *([f"cap {'cd' * 32}"] if cap else []),
        f"outcome {outcome}",
    ]
    return ("".join(f"{line}\n" for line in lines) + used).encode()


def refuses(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"^record: {message} at offset"):
        HookRecord.parse(data)


def test_the_outcomes_are_those_of_the_page_s_table() -> None:
    table = PAGE.read_text().split("| outcome | exit | means |")[1]
    listed = re.findall(r"^\| `([a-z-]+)` \| \d+ \|", table, re.MULTILINE)
    assert set(listed) == OUTCOMES
    assert len(listed) == len(OUTCOMES)


def test_the_hook_has_a_sentence_for_each_of_them() -> None:
    """But for the one that its last case stands for."""
    cases = re.findall(r"^        ([a-z-]+)\)$", SCREEN.read_text(), re.MULTILINE)
    assert {*cases, "failed"} == OUTCOMES


@pytest.mark.parametrize("outcome", sorted(OUTCOMES - {"unsealed"}))
def test_only_an_unsealed_secret_used_an_acceptance(outcome: str) -> None:
    assert HookRecord.parse(record(outcome=outcome, used="")).outcome == outcome
    for used in (USED, *USED.splitlines(keepends=True)):
        refuses(record(outcome=outcome, used=used), "a line too many")


def test_an_unsealed_secret_used_an_acceptance() -> None:
    found = HookRecord.parse(record())
    assert (found.count, found.branch) == (7, "Xen-4.17.5")
    refuses(record(used=""), "a line 'count' is missing")
    refuses(record(used="count 7\n"), "a line 'branch' is missing")


@pytest.mark.parametrize("word", ["accepted", "Unsealed", "un-sealed", "unsealed.", ""])
def test_another_outcome_is_refused(word: str) -> None:
    refuses(record(outcome=word, used=""), "not an outcome of the hook")


UUIDS = {
    "in upper case": DISK.upper(),
    "with a brace": f"{{{DISK[1:]}",
    "too short": DISK[:-1],
    "too long": f"{DISK}0",
    "without hyphens": DISK.replace("-", "0"),
    "of hyphens": "-" * 36,
    "of a FAT volume": "1A2B-3C4D",
}


@pytest.mark.parametrize("disk", UUIDS.values(), ids=list(UUIDS))
def test_a_uuid(disk: str) -> None:
    refuses(record(disk), "not a UUID in lower case")


def test_sixteen_headers_are_the_most() -> None:
    disks = [str(uuid.UUID(int=number)) for number in range(17)]
    found = HookRecord.parse(record(*disks[:16]))
    assert [disk for disk, _ in found.luks] == disks[:16]
    refuses(record(*disks), "over 16 LUKS headers")

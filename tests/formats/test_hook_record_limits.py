# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's record is what docs/slot-format.md says, and nothing beside it."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from aemseal.formats.hook_files import APPROVED, OUTCOMES, HookRecord
from aemseal.words.errors import FormatError

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs/slot-format.md"
SCREEN = PROJECT / "boot-hooks/lib/screen.sh"
DISK = "0f0e7a6c-1b5a-4c1e-9a53-6d0c5c2b9f11"
USED = "count 7\nbranch Xen-4.17.5\n"
OPENED = "secret text text\n"


def record(
    *disks: str,
    outcome: str = "unsealed",
    used: str = USED + OPENED,
    cap: bool = True,
    version: int = 3,
) -> bytes:
    lines = [
        *(
            f"aemseal-record {version}",
            "bank sha256",
            "pcrs 13,17,18",
            f"pin {'77' * 32}",
        ),
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


NOT_APPROVED = sorted(OUTCOMES - APPROVED)


@pytest.mark.parametrize("outcome", NOT_APPROVED)
def test_only_an_approved_boot_used_an_acceptance(outcome: str) -> None:
    found = HookRecord.parse(record(outcome=outcome, used=""))
    assert (found.outcome, found.count, found.opened) == (outcome, None, ())
    refuses(record(outcome=outcome, used="branch Xen-4.17.5\n"), "a line too many")
    refuses(record(outcome=outcome, used=OPENED), "a line too many")
    if outcome != "lockout":
        refuses(record(outcome=outcome, used=USED), "a line too many")


@pytest.mark.parametrize("outcome", sorted(APPROVED))
def test_an_approved_boot_used_an_acceptance(outcome: str) -> None:
    used = USED if outcome == "no-pin" else USED + OPENED
    found = HookRecord.parse(record(outcome=outcome, used=used))
    assert (found.count, found.branch) == (7, "Xen-4.17.5")
    refuses(record(outcome=outcome, used=""), "a line 'count' is missing")
    refuses(record(outcome=outcome, used="count 7\n"), "a line 'branch' is missing")


def test_a_pin_may_meet_lockout_after_other_secrets_had_opened() -> None:
    for used, opened in ((USED, 0), (USED + OPENED, 1)):
        found = HookRecord.parse(record(outcome="lockout", used=used))
        assert (found.branch, len(found.opened)) == ("Xen-4.17.5", opened)


def test_without_a_pin_nothing_was_unsealed() -> None:
    refuses(record(outcome="no-pin"), "a line too many")


def test_a_record_of_version_1_names_no_secret() -> None:
    found = HookRecord.parse(record(used=USED, version=1))
    assert (found.count, found.branch, found.opened) == (7, "Xen-4.17.5", ())
    refuses(record(version=1), "a line too many")
    refuses(record(outcome="lockout", used=USED, version=1), "a line too many")


@pytest.mark.parametrize("outcome", ["wrong-pin", "no-pin"])
def test_a_record_of_version_1_knows_no_pin(outcome: str) -> None:
    refuses(record(outcome=outcome, used=USED, version=1), "not an outcome of the hook")


def test_a_record_of_version_2_names_no_role() -> None:
    found = HookRecord.parse(record(version=2))
    assert (found.branch, found.before_update) == ("Xen-4.17.5", False)
    refuses(
        record(used=f"{USED}role before-update\n{OPENED}", version=2),
        "no secret is named",
    )


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_record_knows_no_two_disks(version: int) -> None:
    refuses(
        record(outcome="two-disks", used="", version=version),
        "not an outcome of the hook",
    )
    assert HookRecord.parse(record(outcome="two-disks", used="")).count is None


RECORDED = sorted((PROJECT / "tests/recorded").glob("*/hook-record"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_the_records_that_were_recorded_are_read(path: Path) -> None:
    assert HookRecord.parse(path.read_bytes()).outcome in OUTCOMES


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

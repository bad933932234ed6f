# SPDX-License-Identifier: GPL-2.0-or-later
"""What aemseal and its hook keep, damaged or gone: named, with the way out."""

from __future__ import annotations

import pytest
from laptop import KERNEL, SECRET, Laptop, MakeLaptop, changed
from refusals import JOURNAL, RECORD, STATE, refuses, status_says

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]


def damage(laptop: Laptop) -> dict[str, bytes]:
    whole = laptop.path(STATE).read_bytes()
    return {
        "no JSON in line": whole[:-30],
        "no JSON in line 1": b"",
        "a value is not what it should be": b"[]",
        "its format is 2, and this aemseal reads format 1": whole.replace(
            b'"format": 1', b'"format": 2'
        ),
        "counter is missing": whole.replace(b'"counter"', b'"encounter"'),
        f"{STATE} is damaged": b"[" * 100_000,
        "damaged: a value": whole.replace(b'"count": ', b'"count": 1e999, "x": '),
    }


def test_a_damaged_state_is_named_with_the_way_out(lent_da: Laptop) -> None:
    verbs = ("status", "predict", "plan", "explain", "reseal", "confirm", "cancel")
    for message, content in damage(lent_da).items():
        with changed(lent_da, STATE, content):
            for verb in (*verbs, "enrol text", "recover", "pin", "revoke stick"):
                hint = "from a backup of the encrypted root; or take the vault down"
                refuses(lent_da, verb, 4, message, hint, stdin=SECRET)
            assert f"{STATE} is damaged: " in lent_da.aemseal("status").error


def test_the_way_out_of_a_damaged_state_leads_out(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(STATE, b"{}")
    assert laptop.aemseal("remove").code == 0
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[" * 100_000])
def test_a_damaged_journal_is_named_with_the_way_out(
    lent_da: Laptop, content: bytes
) -> None:
    lent_da.write(JOURNAL, content)
    try:
        message = f"{JOURNAL} is damaged: what was cut short is not known"
        for verb in ("reseal", "confirm", "cancel", "enrol text"):
            refuses(lent_da, verb, 4, message, "aemseal remove", stdin=SECRET)
        report = status_says(lent_da, 4, message)
        assert report["next_step"].startswith(
            "take the vault down with: aemseal remove"
        )
    finally:
        lent_da.path(JOURNAL).unlink()


def test_the_way_out_of_a_damaged_journal_leads_out(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(JOURNAL, b"{}")
    removed = laptop.aemseal("remove")
    assert removed.code == 0
    assert f"aemseal: {JOURNAL} is damaged" in removed.told
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()


KEPT_FILES = {
    "owner.auth": "/var/lib/aemseal/owner.auth is missing: the TPM takes no move",
    "key-1.pem": "/var/lib/aemseal/key-1.pem is missing: nothing can be signed",
}


@pytest.mark.parametrize("name", KEPT_FILES)
def test_a_file_of_the_vault_that_is_gone_is_named(lent_da: Laptop, name: str) -> None:
    with (
        changed(lent_da, KERNEL, b"another kernel"),
        changed(lent_da, f"/var/lib/aemseal/{name}", None),
    ):
        command = "reseal --accept kernel"
        refuses(lent_da, command, 4, KEPT_FILES[name], "from a backup")


def test_a_signing_key_that_is_damaged_is_named(lent_da: Laptop) -> None:
    inside = "/var/lib/aemseal/key-1.pem"
    with (
        changed(lent_da, KERNEL, b"another kernel"),
        changed(lent_da, inside, b"rubbish"),
    ):
        refuses(lent_da, "reseal --accept kernel", 4, f"{inside}: ", "from a backup")


def hook_record(laptop: Laptop, old: bytes, new: bytes) -> bytes:
    record = laptop.path(RECORD).read_bytes()
    assert old in record
    return record.replace(old, new)


NEEDS_THE_RECORD = ("explain", "reseal", "confirm")


def test_a_damaged_hook_record_is_named(lent_da: Laptop) -> None:
    record = lent_da.path(RECORD).read_bytes()
    for content in (b"", b"\0\xff", record[:20], b"aemseal-record 2\n"):
        with changed(lent_da, RECORD, content):
            for verb in NEEDS_THE_RECORD:
                refuses(
                    lent_da, verb, 4, f"{RECORD}: ", "the hook writes it at each boot"
                )
            status_says(lent_da, 4, f"{RECORD}: ")


def test_the_hook_record_of_another_boot_is_told(lent_da: Laptop) -> None:
    digest = lent_da.path(RECORD).read_bytes().split(b"\nluks ")[1].split()[1]
    other = hook_record(lent_da, digest, digest[::-1])
    with changed(lent_da, RECORD, other):
        for verb in NEEDS_THE_RECORD:
            message = "the hook's record does not give PCR 13: replayed sha256:"
            refuses(lent_da, verb, 4, message, "the record is of another boot")
        status_says(lent_da, 4, "the hook's record does not give PCR 13")


def test_the_hook_record_of_another_bank_is_told(lent_da: Laptop) -> None:
    other = (
        b"aemseal-record 1\nbank sha1\npcrs 13,17\npin "
        + b"0" * 64
        + b"\noutcome failed\n"
    )
    with changed(lent_da, RECORD, other):
        for verb in (*NEEDS_THE_RECORD, "predict"):
            refuses(lent_da, verb, 4, f"{RECORD} tells of the sha1 bank, not of sha256")


def test_a_hook_record_that_is_gone_is_told(lent_da: Laptop) -> None:
    with changed(lent_da, RECORD, None):
        for verb in NEEDS_THE_RECORD:
            refuses(lent_da, verb, 4, f"{RECORD} is missing: it says what is in PCR 13")
        status_says(lent_da, 4, f"{RECORD} is missing")
        predicted = lent_da.aemseal("predict", "--json")
        assert (predicted.code, predicted.report["complete"]) == (4, False)


def test_an_accepted_boot_whose_hook_did_not_run_is_none(own: MakeLaptop) -> None:
    laptop = own()
    laptop.machine.power_off()
    laptop.machine.boot()  # no hook
    for verb in ("reseal", "confirm"):
        message = "aemseal's hook did not run in this boot: nothing is in PCR 13"
        refuses(laptop, verb, 4, message, "reboot with the initramfs that has the hook")
    explained = laptop.aemseal("explain", "--json")
    assert (explained.code, explained.report["pcr"]) == (6, 13)

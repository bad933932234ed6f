# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM that is absent, locked, cleared or another's, and what is told of it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from contract import check
from laptop import KERNEL, SECRET, Laptop, MakeLaptop, changed
from refusals import EVIDENCE_VERBS, JOURNAL, STATE, refuses, status_says

from aemseal.flows.journal import Journal
from aemseal.flows.state import VaultState

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

NO_TPM = ("device:/dev/no-such-tpm", "swtpm:path=/no/such/socket", "rubbish:here")


@pytest.mark.parametrize("tcti", NO_TPM)
def test_without_a_tpm(lent_da: Laptop, tcti: str) -> None:
    for verb in (*EVIDENCE_VERBS, "cancel", "enrol text", "remove"):
        command = f"{verb} --tcti {tcti}"
        hint = "is the TPM switched on in the firmware set-up?"
        message = f"no TPM answers at {tcti}"
        refuses(lent_da, command, 5, message, hint, stdin=SECRET)
    status_says(lent_da, 5, f"no TPM answers at {tcti}", "--tcti", tcti)


def tpm2(laptop: Laptop, *words: str, fails: bool = False) -> None:
    done = subprocess.run(
        words,
        env={**os.environ, "TPM2TOOLS_TCTI": laptop.machine.tcti},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr


def auth(laptop: Laptop, of: str) -> str:
    """A hierarchy's authorisation as tpm2-tools take it: empty, or what enrol set."""
    path = laptop.path(f"/var/lib/aemseal/{of}.auth")
    return f"hex:{path.read_bytes().hex()}" if path.exists() else ""


def lock_out(laptop: Laptop, folder: Path) -> None:
    """Guess wrong at a protected key until the TPM takes no guess any more."""
    limits = ["--max-tries=2", "--recovery-time=1000", "--lockout-recovery-time=1000"]
    tpm2(laptop, "tpm2_dictionarylockout", "-s", *limits, "-p", auth(laptop, "lockout"))
    key = str(folder / "key")
    owner = ("-C", "o", "-P", auth(laptop, "owner"))
    tpm2(laptop, "tpm2_createprimary", *owner, "-c", key, "-p", "right")
    files = ("-u", str(folder / "public"), "-r", str(folder / "private"))
    for _ in range(3):
        tpm2(laptop, "tpm2_flushcontext", "-t")
        guess = ("-C", key, "-P", "wrong")
        tpm2(laptop, "tpm2_create", *guess, *files, fails=True)
    tpm2(laptop, "tpm2_flushcontext", "-t")


def test_no_enrolment_into_a_tpm_in_lockout(own: MakeLaptop, tmp_path: Path) -> None:
    laptop = own(enrolled=False)
    lock_out(laptop, tmp_path)
    message = "the TPM is in dictionary attack lockout"
    refuses(laptop, "enrol text", 5, message, "wait until it recovers", stdin=SECRET)


def test_a_lockout_is_told_and_keeps_no_move_from_its_end(
    own: MakeLaptop, tmp_path: Path
) -> None:
    """Nothing of ours is protected against guessing, so nothing of ours is locked."""
    laptop = own()
    lock_out(laptop, tmp_path)
    report = status_says(laptop, 5, "the TPM is in dictionary attack lockout")
    assert "aemseal confirm" in report["hint"]
    assert report["next_step"].endswith("this boot is accepted: aemseal confirm")
    with changed(laptop, KERNEL, b"another kernel"):
        assert laptop.aemseal("reseal", "--accept", "kernel").code == 0


def changed_tpm(laptop: Laptop, message: str) -> None:
    hint = "this says nothing of the boot files"
    for verb in ("confirm", "reseal", "cancel", "reseal --dry-run"):
        refuses(laptop, verb, 4, message, hint)
    report = status_says(laptop, 4, message)
    assert report["next_step"] == "the TPM changed; see why: aemseal explain"
    assert report["next_boot"] == "not-accepted"
    explained = laptop.aemseal("explain", "--json")
    check(explained.report, "explain")
    assert (explained.code, explained.report["verdict"]) == (6, "tpm-changed")
    assert explained.told == f"aemseal: {message}\n"
    assert "nothing good or bad about the boot files" in explained.report["advice"]
    with changed(laptop, KERNEL, b"another kernel"):
        refuses(laptop, "reseal --accept kernel", 4, message, hint)
    assert laptop.aemseal("predict").code == 0


def test_a_tpm_that_was_cleared_is_no_changed_boot(own: MakeLaptop) -> None:
    laptop = own()
    tpm2(laptop, "tpm2_clear", "-c", "l", auth(laptop, "lockout"))
    changed_tpm(laptop, "the storage key at 0x81000001 is gone")
    assert laptop.aemseal("remove").code == 0
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()


def test_remove_helps_where_the_tpm_was_cleared_in_the_middle_of_a_move(
    own: MakeLaptop,
) -> None:
    laptop = own()
    state = VaultState.parse(laptop.path(STATE).read_bytes())
    after = replace(state, count=state.count + 1)
    journal = Journal("stage", state.count, after.count, after)
    laptop.write(JOURNAL, journal.to_bytes())
    tpm2(laptop, "tpm2_clear", "-c", "l", auth(laptop, "lockout"))
    assert laptop.aemseal("confirm").code == 4
    assert laptop.aemseal("remove").code == 0
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()


def test_a_counter_that_is_gone_is_no_changed_boot(own: MakeLaptop) -> None:
    laptop = own()
    owner = auth(laptop, "owner")
    tpm2(laptop, "tpm2_nvundefine", "-C", "o", "-P", owner, "0x1a10ae0")
    changed_tpm(laptop, "the TPM's counter at 0x01a10ae0 is gone")
    assert laptop.aemseal("remove").code == 0
    assert laptop.enrol().code == 0


def test_an_index_planted_in_the_counters_place_is_not_ours(own: MakeLaptop) -> None:
    laptop = own()
    owner = auth(laptop, "owner")
    tpm2(laptop, "tpm2_nvundefine", "-C", "o", "-P", owner, "0x1a10ae0")
    size = ("-s", "8", "-a", "ownerwrite|ownerread|authread|authwrite|no_da")
    tpm2(laptop, "tpm2_nvdefine", "-C", "o", "-P", owner, *size, "0x1a10ae0")
    payload = laptop.root / "payload"
    payload.write_bytes(bytes(8))
    tpm2(laptop, "tpm2_nvwrite", "-C", "0x1a10ae0", "-i", str(payload), "0x1a10ae0")
    ran = laptop.aemseal("confirm")
    assert ran.code == 4
    assert ran.error == (
        "the TPM's index at 0x01a10ae0 is not the counter made at enrol"
    )
    assert laptop.aemseal("explain", "--json").report["verdict"] == "tpm-changed"


def test_a_vault_that_somebody_counted_on_is_shut(own: MakeLaptop) -> None:
    laptop = own()
    owner = auth(laptop, "owner")
    tpm2(laptop, "tpm2_nvincrement", "-C", "o", "-P", owner, "0x1a10ae0")
    for verb in ("confirm", "reseal", "cancel"):
        message = "the vault is shut: the TPM's counter is 3, ours is 2"
        refuses(laptop, verb, 4, message, "aemseal recover")
    status = laptop.aemseal("status", "--json")
    assert (status.code, status.report["next_boot"]) == (3, "not-accepted")
    assert status.report["next_step"].startswith("the vault is shut: somebody counted")
    assert laptop.aemseal("remove").code == 0


def test_a_tpm_with_an_unknown_owner_is_not_taken_over(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    tpm2(laptop, "tpm2_changeauth", "-c", "o", "somebody's")
    message = "the TPM has an owner whose authorisation is not known here"
    refuses(laptop, "enrol text", 5, message, "owner_auth_file", stdin=SECRET)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused: by name, with the exit code of the contract, and nothing written.

`refuses` gives a command in both forms and holds it to all of that; the hint must say
what to do, or be empty where the message says it all.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract import check
from laptop import SECRET, Laptop, MakeLaptop, Ran, changed, run
from tpm_sim.cache import PROJECT, Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY

from aemseal.flows.state import VaultState
from aemseal.flows.vault import Journal
from aemseal.words.digest import Digest, HashAlgorithm

pytestmark = pytest.mark.tpm

LOG = "/sys/kernel/security/txt/tpm20_binary_evtlog_tcg"
RECORD = "/run/aemseal/record"
STATE = "/var/lib/aemseal/state.json"
JOURNAL = "/var/lib/aemseal/journal.json"
CONFIG = "/etc/aemseal.yaml"
GRUB = "/boot/grub/grub.cfg"
XEN, KERNEL = "/boot/xen.gz", "/boot/vmlinuz"
EVIDENCE_VERBS = ("log", "predict", "plan", "explain", "reseal", "confirm")
AEM_TITLE = "AEM Qubes, with Xen hypervisor"

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


def refuses(
    laptop: Laptop,
    command: str,
    code: int,
    message: str,
    hint: str | None = "",
    *,
    stdin: str | bytes = "",
) -> Ran:
    """Assert that a command refuses with these words and writes nothing.

    `message` and `hint` are contained; a hint of None says that there is none.
    """
    before = laptop.kept()
    words = command.split()
    ran = laptop.aemseal(*words, stdin=stdin)
    assert (ran.code, ran.out) == (code, ""), ran
    assert message in ran.error
    assert not ran.error.endswith(".")
    if hint is None:
        assert ran.hint == ""
    else:
        assert ran.hint
        assert hint in ran.hint
    as_json = laptop.aemseal(*words, "--json", stdin=stdin)
    check(as_json.report, "error")
    assert as_json.code == as_json.report["exit"] == code
    assert as_json.report["message"] == ran.error
    assert (as_json.report["hint"] or "") == ran.hint
    assert laptop.kept() == before
    return ran


def status_says(laptop: Laptop, code: int, problem: str, *more: str) -> dict[str, Any]:
    """Assert that status reports a problem, and writes nothing."""
    before = laptop.kept()
    ran = laptop.aemseal("status", "--json", *more)
    check(ran.report, "status")
    assert ran.code == code
    assert problem in ran.report["problem"]
    assert (
        f"problem:   {ran.report['problem']}\n" in laptop.aemseal("status", *more).out
    )
    assert laptop.kept() == before
    return ran.report


PROBLEM_STEP = "put right what the problem says, then look again: aemseal status"


# --- the event log ---


def truncated(log: bytes) -> bytes:
    return log[:-7]


def an_srtm_log(log: bytes) -> bytes:
    """A firmware's log, as is found where somebody names the wrong file."""
    head = log[: log.index(b"Spec ID Event03") - 32]
    spec = log[len(head) : len(head) + 32 + 28 + 2 * 4 + 1]
    event = b"EFI PCR event"
    digests = (2).to_bytes(4, "little")
    digests += (4).to_bytes(2, "little") + bytes(20)
    digests += (11).to_bytes(2, "little") + bytes(32)
    record = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + digests
    return spec + record + len(event).to_bytes(4, "little") + event


BAD_LOGS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (truncated, f"{LOG}: event 21: "),
    "a text": (
        lambda _: b"Jul  1 kernel: hello\n" * 20,
        f"{LOG}: this is no event log",
    ),
    "random bytes": (lambda _: random.Random(7).randbytes(999), f"{LOG}: this is no "),
    "empty": (lambda _: b"", f"{LOG}: the event log is empty"),
    "one byte of a digest flipped": (
        lambda log: log[:-20] + bytes([log[-20] ^ 1]) + log[-19:],
        "the event log does not give PCR 17: replayed sha256:",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_LOGS.values(), ids=list(BAD_LOGS))
def test_a_bad_log_is_named(
    lent_da: Laptop, spoil: Callable[[bytes], bytes], message: str
) -> None:
    genuine = lent_da.path(LOG).read_bytes()
    with changed(lent_da, LOG, spoil(genuine)):
        for verb in EVIDENCE_VERBS:
            refuses(lent_da, verb, 4, message)
        report = status_says(lent_da, 4, message)
        assert report["next_step"] == PROBLEM_STEP
        assert report["this_boot"] == "unknown"
        assert status_says(lent_da, 4, message, "--check")["next_boot"] == "unknown"


def test_a_firmwares_log_is_not_that_of_a_launch(lent_da: Laptop) -> None:
    with changed(lent_da, LOG, an_srtm_log(lent_da.path(LOG).read_bytes())) as path:
        assert run("log", str(path)).code == 0
        for verb in EVIDENCE_VERBS:
            refuses(lent_da, verb, 4, "nothing extends PCR 17 ")


def test_a_log_that_is_missing_is_looked_for_by_name(lent_da: Laptop) -> None:
    with changed(lent_da, LOG, None):
        for verb in EVIDENCE_VERBS:
            refuses(lent_da, verb, 4, f"no event log of the launch at {LOG}", CONFIG)
        status_says(lent_da, 4, LOG)


def test_a_named_log_that_is_foreign_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "foreign.bin"
    path.write_text("no log")
    ran = run("log", str(path))
    assert (ran.code, ran.out) == (4, "")
    assert ran.error.startswith(f"{path}: ")


def test_a_log_of_an_unknown_bank_alone_is_listed(
    lent_da: Laptop, tmp_path: Path
) -> None:
    """Its header names one algorithm, that nobody knows, with 4 bytes."""
    log = lent_da.path(LOG).read_bytes()
    head = log[: log.index(b"Spec ID Event03")]
    fixed = log[len(head) : len(head) + 24]
    body = fixed + (1).to_bytes(4, "little") + b"\x99\x99\x04\x00" + b"\x00"
    event = struct.pack("<IIIH", 17, 0x501, 1, 0x9999) + b"abcd" + bytes(4)
    path = tmp_path / "unknown.bin"
    path.write_bytes(head[:-4] + len(body).to_bytes(4, "little") + body + event)
    text, as_json = run("log", str(path)), run("log", str(path), "--json")
    assert (text.code, as_json.code) == (0, 0), text.told
    check(as_json.report, "log")
    assert as_json.report["unknown_algorithms"] == ["0x9999"]


def test_a_named_log_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    ran = run("log", str(path))
    assert (ran.code, ran.error) == (4, f"{path} has over 64 MiB: no event log")


def test_a_log_from_a_trenchboot_launch_is_refused_by_stack(lent_da: Laptop) -> None:
    """Another launch's events: no prediction is made for a stack that is unknown."""
    log = lent_da.path(LOG).read_bytes()
    tboot = bytes.fromhex("01050000")
    assert tboot in log
    slaunch = log.replace(tboot, bytes.fromhex("02050000"))
    with changed(lent_da, LOG, slaunch):
        for verb in ("predict", "plan", "reseal", "confirm"):
            message = "event 17 (0x502) is TrenchBoot's"
            refuses(lent_da, verb, 4, message, "only tboot is supported yet")


def test_the_sha1_bank_of_a_real_laptop_is_refused_by_name(
    lent_new: Laptop, tmp_path: Path
) -> None:
    """Dell Latitude E5470, tboot 1.10.2: tboot's own events are in sha256 alone."""
    log = next(VECTORS.rglob("*E5470*.bin"), None)
    if log is None:
        pytest.skip(f"no log of the E5470 below {VECTORS}")
    report = run("log", str(log), "--json").report
    assert report["coverage"]["sha1"]["17"]["complete"] is False
    folder = tmp_path / "recording"
    assert lent_new.aemseal("record", str(folder)).code == 0
    (folder / "event-log.bin").write_bytes(log.read_bytes())
    pcrs = json.loads((folder / "pcrs.json").read_bytes())
    for bank, values in report["pcrs"].items():
        pcrs[bank]["values"] |= values
    (folder / "pcrs.json").write_text(json.dumps(pcrs))
    assert run("log", "--host", str(folder), "--pcrs", "sha256:17,18").code == 0
    for verb in ("log", "predict"):
        ran = run(verb, "--host", str(folder), "--pcrs", "sha1:17,18")
        assert ran.code == 4
        assert ran.error.startswith("tboot did not extend the sha1 bank with event ")
        assert ran.hint == "use sha256"


# --- the launch ---


def test_a_boot_without_a_launch_is_told_as_such(own: MakeLaptop) -> None:
    laptop = own(unmeasured=True)
    for verb in ("log", "predict", "plan", "reseal", "confirm"):
        refuses(
            laptop,
            verb,
            4,
            "no dynamic launch took place: PCR 17 is all ff in the sha256 bank",
            "boot the entry that starts tboot",
        )
    explained = laptop.aemseal("explain", "--json")
    check(explained.report, "explain")
    assert (explained.code, explained.report["verdict"]) == (6, "unmeasured")
    assert laptop.aemseal("explain").out.startswith("Do not type the passphrase: no ")
    status = laptop.aemseal("status", "--json")
    assert (status.code, status.report["this_boot"]) == (0, "unmeasured")
    status_says(laptop, 4, "no dynamic launch took place", "--check")


def test_a_launch_that_extended_nothing_is_none(own: MakeLaptop) -> None:
    """PCR 17 is 00.. after a reset without an extend: a recording has it so."""
    laptop = own()
    folder = laptop.root / "recording"
    assert laptop.aemseal("record", str(folder)).code == 0
    pcrs = json.loads((folder / "pcrs.json").read_bytes())
    pcrs["sha256"]["values"]["17"] = "00" * 32
    (folder / "pcrs.json").write_text(json.dumps(pcrs))
    for verb in ("log", "predict", "plan"):
        ran = run(verb, "--host", str(folder))
        assert ran.code == 4
        assert "no dynamic launch took place: PCR 17 is all 00" in ran.error
    assert run("explain", "--host", str(folder)).code == 6


def test_no_enrolment_without_a_launch(own: MakeLaptop) -> None:
    laptop = own(enrolled=False, unmeasured=True)
    refuses(laptop, "enrol text", 4, "PCR 17 is all ff", "tboot", stdin=SECRET)


# --- selection and bank ---

BAD_SELECTIONS = {
    "a PCR that nothing extends": ("sha256:13,17,18,19", 4, "nothing extends PCR 19"),
    "without the LUKS headers": ("sha256:17", 4, "PCR 13 is not in the selection"),
    "without the launch": ("sha256:13", 4, "no PCR of the dynamic launch is in"),
    "a PCR that anyone resets": ("sha256:13,16,17", 4, "PCR 16 is in the selection"),
    "a PCR that does not exist": ("sha256:13,17,24", 4, "there is no PCR 24"),
    "a bank that tboot left out": (
        "sha1:13,17",
        4,
        "tboot did not extend the sha1 bank with event 17",
    ),
    "a bank that the TPM has not": ("sha384:13,17", 4, "the TPM has no sha384 bank"),
    "a bank that nobody knows": ("md5:13,17", 2, "unknown hash algorithm 'md5'"),
    "no selection": ("13-17", 2, "cannot read the PCR selection '13-17'"),
    "an empty one": ("", 2, "cannot read the PCR selection ''"),
}


@pytest.mark.parametrize(
    ("selection", "code", "message"), BAD_SELECTIONS.values(), ids=list(BAD_SELECTIONS)
)
def test_nothing_is_sealed_to(
    lent_new: Laptop, selection: str, code: int, message: str
) -> None:
    command = f"enrol text --pcrs={selection}"
    refuses(lent_new, command, code, message, stdin=SECRET)


def test_aems_own_selection_may_name_a_pcr_that_nothing_extends(
    lent_new: Laptop,
) -> None:
    line = 'SEAL="--pcr 13 --pcr 17 --pcr 18 --pcr 19"\n'
    aem = lent_new.write("/etc/anti-evil-maid.conf", line)
    try:
        for command in ("enrol text", "predict"):
            message = "nothing extends PCR 19 on this machine"
            refuses(lent_new, command, 4, message, "take 19 out", stdin=SECRET)
        aem.write_text('SEAL="$PCRS"\n')
        refuses(
            lent_new, "predict", 4, "/etc/anti-evil-maid.conf line 1: SEAL", "pcrs:"
        )
    finally:
        aem.unlink()


def test_a_selected_pcr_that_no_prediction_reaches_is_refused(
    lent_new: Laptop,
) -> None:
    ran = lent_new.aemseal("predict", "--pcrs", "sha256:13,16,17", "--json")
    check(ran.report, "predict")
    assert (ran.code, ran.report["complete"]) == (4, False)
    reasons = {each["pcr"]: each["reason"] for each in ran.report["refusals"]}
    assert reasons == {
        13: "aemseal's hook, which measures into it, did not run in this boot",
        16: "nothing that can be predicted extends it",
    }
    assert not {"13", "16"} & set(ran.report["next"]["sha256"])
    text = lent_new.aemseal("predict", "--pcrs", "sha256:13,16,17")
    assert text.code == 4
    assert "PCR 13 refused: aemseal's hook" in text.out
    assert "not known" in text.out


# --- boot files ---


def test_a_boot_file_that_is_gone_is_named(lent_da: Laptop) -> None:
    message = "/boot/xen.gz (or /xen.gz) does not exist"
    with changed(lent_da, XEN, None):
        for verb in ("predict", "plan", "reseal"):
            refuses(lent_da, verb, 4, message, "is /boot mounted, the update complete?")
        assert status_says(lent_da, 4, message, "--check")["this_boot"] == "accepted"
        assert lent_da.aemseal("explain").code == 0
        assert lent_da.aemseal("confirm").code == 0


def test_a_boot_file_that_is_a_dangling_link_is_named(lent_da: Laptop) -> None:
    with changed(lent_da, XEN, None) as path:
        path.symlink_to("/boot/no-such-xen.gz")
        refuses(lent_da, "predict", 4, "/boot/xen.gz (or /xen.gz) does not exist")
        path.unlink()


def test_a_boot_file_that_is_a_folder_is_named(lent_da: Laptop) -> None:
    with changed(lent_da, XEN, None) as path:
        path.mkdir()
        refuses(lent_da, "predict", 4, "/boot/xen.gz is not a regular file", None)
        path.rmdir()


SPOILT_FILES = {
    "an archive that is cut": (XEN, 5000, "/boot/xen.gz is no intact gzip file"),
    "a tboot that is none": (
        "/boot/tboot.gz",
        None,
        "/boot/tboot.gz: the image has no MLE header",
    ),
}


@pytest.mark.parametrize(
    ("inside", "length", "message"), SPOILT_FILES.values(), ids=list(SPOILT_FILES)
)
def test_a_boot_file_that_is_spoilt_is_named(
    lent_da: Laptop, inside: str, length: int | None, message: str
) -> None:
    content = lent_da.path(XEN).read_bytes()[:length]
    with changed(lent_da, inside, content):
        for verb in ("predict", "reseal"):
            refuses(lent_da, verb, 4, message, None)


def test_a_disk_that_is_gone_is_named(lent_da: Laptop) -> None:
    (disk,) = lent_da.path("/dev/disk/by-uuid").iterdir()
    inside = f"/dev/disk/by-uuid/{disk.name}"
    with changed(lent_da, inside, None):
        refuses(lent_da, "predict", 4, f"{inside} does not exist", "names this disk")
    with changed(lent_da, inside, b"no LUKS header"):
        refuses(lent_da, "predict", 4, inside, None)


# --- GRUB ---


def test_a_grub_cfg_that_is_gone_is_looked_for_by_name(lent_da: Laptop) -> None:
    with changed(lent_da, GRUB, None):
        for verb in ("predict", "plan", "reseal", "confirm"):
            refuses(lent_da, verb, 4, f"no grub.cfg at /boot/grub2/grub.cfg, {GRUB}")
        log = lent_da.aemseal("log")
        assert log.code == 0
        assert log.told.startswith("aemseal: the files behind the events: there is no ")


def spoilt_menu(laptop: Laptop, old: str, new: str) -> bytes:
    text = laptop.path(GRUB).read_text()
    assert old in text
    return text.replace(old, new).encode()


BAD_MENUS = {
    "a next entry that is not measured": (
        ('default="${saved_entry}"', 'default="plain-xen"'),
        "'Qubes, with Xen hypervisor' (grub.cfg line 37), is no measured boot",
        f"measured are: '{AEM_TITLE}'",
    ),
    "a single quote that is never closed": (
        ("'Loading Xen ...'", "'Loading Xen ..."),
        "grub.cfg line 37: the ' that opens here is never closed",
        f"it is {GRUB}: repair it",
    ),
    "a double quote that is never closed": (
        ("set timeout=5", 'set timeout="5'),
        "is never closed",
        f"it is {GRUB}: repair it",
    ),
    "no entry at all": (
        ("menuentry", "echo"),
        "grub.cfg",
        f"it is {GRUB}: repair it",
    ),
}


@pytest.mark.parametrize(
    ("change", "message", "hint"), BAD_MENUS.values(), ids=list(BAD_MENUS)
)
def test_a_grub_cfg_with(
    lent_da: Laptop, change: tuple[str, str], message: str, hint: str
) -> None:
    with changed(lent_da, GRUB, spoilt_menu(lent_da, *change)):
        for verb in ("predict", "plan", "reseal"):
            refuses(lent_da, verb, 4, message, hint)
        report = status_says(lent_da, 4, message, "--check")
        assert report["next_step"] == PROBLEM_STEP
        assert hint in report["hint"]


def test_an_entry_that_is_not_there_is_refused_with_those_that_are(
    lent_da: Laptop,
) -> None:
    refuses(
        lent_da,
        "predict --entry rubbish",
        4,
        "grub.cfg has no entry 'rubbish'",
        f"measured are: '{AEM_TITLE}'",
    )


def test_an_entry_whose_line_names_no_disk_is_told_by_pcr(own: MakeLaptop) -> None:
    """A running boot whose command line cannot have been /boot's of now."""
    laptop = own(enrolled=False)
    laptop.write(XEN, b"another xen, installed since")
    refuses(
        laptop,
        "enrol text",
        4,
        "no file of any boot entry gives what this boot measured as xen (PCR 17)",
        "reboot into what /boot holds now, then enrol",
        stdin=SECRET,
    )


# --- the TPM ---

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
    status_says(laptop, 5, "the TPM is in dictionary attack lockout")
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
    journal = Journal("stage", state.count, after.count, after, enrolling=False)
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
        message = "the vault is shut: the TPM's counter is 4, ours is 3"
        refuses(laptop, verb, 4, message, "aemseal remove")
    status = laptop.aemseal("status", "--json")
    assert (status.code, status.report["next_boot"]) == (3, "not-accepted")
    assert status.report["next_step"].startswith("the vault is shut: somebody counted")
    assert laptop.aemseal("remove").code == 0


def test_a_tpm_with_an_unknown_owner_is_not_taken_over(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    tpm2(laptop, "tpm2_changeauth", "-c", "o", "somebody's")
    message = "the TPM has an owner whose authorisation is not known here"
    refuses(laptop, "enrol text", 5, message, "owner_auth_file", stdin=SECRET)


# --- what aemseal keeps ---


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
            for verb in (*verbs, "enrol text", "remove"):
                hint = "from a backup of the encrypted root; or move it away, and enrol"
                refuses(lent_da, verb, 4, message, hint, stdin=SECRET)
            assert f"{STATE} is damaged: " in lent_da.aemseal("status").error


def test_the_way_out_of_a_damaged_state_leads_out(own: MakeLaptop) -> None:
    laptop = own()
    laptop.path(STATE).rename(laptop.root / "moved-away")
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
    other = b"aemseal-record 1\nbank sha1\npin " + b"0" * 64 + b"\noutcome failed\n"
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


# --- wrong at this moment ---


def test_enrolling_twice_is_refused_before_the_secret_is_asked_for(
    lent_da: Laptop,
) -> None:
    message = "a secret is sealed on this machine already"
    refuses(lent_da, "enrol text", 4, message, "aemseal status", stdin="")


@pytest.mark.parametrize(
    "verb", ["reseal", "confirm", "cancel", "explain", "plan", "remove"]
)
def test_before_enrol_there_is_nothing_to(lent_new: Laptop, verb: str) -> None:
    message = "nothing is sealed on this machine"
    refuses(lent_new, verb, 4, message, "start with: aemseal enrol text")


def test_a_change_that_is_accepted_must_exist(lent_da: Laptop) -> None:
    refuses(
        lent_da, "reseal --accept xen", 2, "--accept xen: no such change", "nothing"
    )
    with changed(lent_da, KERNEL, b"another kernel"):
        message = "--accept xen: no such change"
        refuses(
            lent_da,
            "reseal --accept xen --accept kernel",
            2,
            message,
            "changed: kernel",
        )


def test_an_unknown_origin_stops_a_reseal(lent_da: Laptop) -> None:
    with changed(lent_da, KERNEL, b"another kernel"):
        message = f"nobody answers for what changed in kernel ({KERNEL})"
        refuses(lent_da, "reseal", 4, message, "say so: --accept kernel")


SECRETS = {
    "empty": (b"", "the secret is empty"),
    "a line end alone": (b"\n", "the secret is empty"),
    "too long": (b"x" * 2049, "the secret has over 2048 bytes"),
    "far too long": (b"x" * 100_000, "the secret has over 2048 bytes"),
}


@pytest.mark.parametrize(("secret", "message"), SECRETS.values(), ids=list(SECRETS))
def test_a_secret_that_is(lent_new: Laptop, secret: bytes, message: str) -> None:
    refuses(lent_new, "enrol text", 2, message, stdin=secret)


def test_the_longest_secret_is_sealed_and_shown(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    assert laptop.aemseal("enrol", "text", stdin=b"x" * 2048 + b"\n").code == 0
    shown = laptop.reboot()
    assert shown is not None
    assert (shown.exit_code, "x" * 2048 in shown.shown) == (0, True)


# --- the disk ---


def test_an_initramfs_that_cannot_be_built_keeps_nothing_enrolled(
    own: MakeLaptop,
) -> None:
    laptop = own(enrolled=False)
    working = laptop.path(CONFIG).read_bytes()
    laptop.path(CONFIG).unlink()
    message = "how to build the initramfs with it is not configured"
    refuses(laptop, "enrol text", 4, message, "initramfs_command", stdin=SECRET)
    for program, message in {
        "/no/such/dracut": "/no/such/dracut cannot be run: no such file or directory",
        "/bin/false": "/bin/false failed with exit code 1",
    }.items():
        laptop.write(CONFIG, f"initramfs_command: [{program}]\n")
        ran = laptop.enrol()
        assert (ran.code, ran.error) == (1, message)
        assert CONFIG in ran.hint
        assert laptop.aemseal("status", "--json").report["staged"] == []
        assert not laptop.path("/boot/aemseal").exists()
    laptop.write(CONFIG, working)
    assert laptop.enrol().code == 0, "the TPM is ours already: taken up again"
    assert laptop.shows_the_secret()


def test_a_medium_that_is_not_at_hand_is_named(own: MakeLaptop) -> None:
    laptop = own()
    laptop.path("/boot/aemseal").rename(laptop.root / "unplugged")
    with changed(laptop, KERNEL, b"another kernel"):
        message = "no medium is at hand (internal)"
        refuses(laptop, "reseal --accept kernel", 4, message, "mount it and try again")


def test_a_medium_of_the_configuration_must_be_there_to_enrol(
    own: MakeLaptop,
) -> None:
    laptop = own()
    assert laptop.aemseal("remove").code == 0
    media = "media:\n  - label: stick\n    path: /media/stick/aemseal\n"
    laptop.write(CONFIG, media)
    before = laptop.kept()
    ran = laptop.enrol()
    assert ran.code == 4
    assert ran.error == "the medium stick is not at hand: /media/stick/aemseal"
    assert laptop.kept() == before


def test_a_medium_that_cannot_be_written_leaves_the_old_boot_accepted(
    own: MakeLaptop,
) -> None:
    """A file where the folder was stands for a full disk: root writes anything else."""
    laptop = own()
    kernel = laptop.path(KERNEL).read_bytes()
    beside = laptop.path("/boot/aemseal/.acceptance.4.new")
    beside.mkdir()
    laptop.write(KERNEL, b"another kernel")
    ran = laptop.aemseal("reseal", "--accept", "kernel")
    assert ran.code == 1
    assert ran.error.startswith("/boot/aemseal/acceptance.4: ")
    beside.rmdir()
    laptop.write(KERNEL, kernel)
    assert laptop.shows_the_secret()
    assert status_says(laptop, 4, "stage was cut short before its end")
    assert "undid it" in laptop.aemseal("reseal").told
    assert laptop.aemseal("status").code == 0


def test_a_full_disk_is_told_by_the_file(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own()
    before = laptop.kept()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with changed(laptop, KERNEL, b"another kernel"), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ran = laptop.aemseal("reseal", "--accept", "kernel", "--json")
    check(ran.report, "error")
    assert (ran.code, ran.report["kind"]) == (1, "io")
    assert ran.error == f"{JOURNAL}: no space left on device"
    left = laptop.path("/var/lib/aemseal/.journal.json.new")
    left.unlink(missing_ok=True)
    assert laptop.kept() == before


def test_two_at_once_are_kept_apart(lent_da: Laptop) -> None:
    from aemseal.world.store import Files

    with Files(lent_da.root).lock():
        refuses(lent_da, "confirm", 1, "another aemseal is at work", "wait until")


# --- the configuration ---

BAD_CONFIGS = {
    "no YAML": ("media: [\n", "line 2: "),
    "an unknown key": ("pcrs: sha256:13,17\nfoo: bar\n", "line 2: unknown key 'foo'"),
    "a key twice": (
        "pcrs: sha256:17\npcrs: sha256:17\n",
        "line 2: pcrs is there twice",
    ),
    "a wrong type": ("\nevent_log: 5\n", "line 2: event_log is not a text"),
    "no text": ("\xff\xfe", "line 1: "),
    "a selection that is none": ("pcrs: rubbish\n", "line 1: pcrs: cannot read"),
}


@pytest.mark.parametrize(
    ("text", "message"), BAD_CONFIGS.values(), ids=list(BAD_CONFIGS)
)
def test_a_configuration_with(lent_da: Laptop, text: str, message: str) -> None:
    with changed(lent_da, CONFIG, text.encode("latin-1")):
        for verb in ("status", "predict", "reseal", "confirm"):
            ran = lent_da.aemseal(verb)
            assert ran.code == 4
            assert ran.error.startswith(f"{CONFIG} {message}")


# --- files named on the command line ---


@pytest.mark.parametrize(
    "words", [("log",), ("hash", "mle"), ("hash", "module"), ("hash", "luks")]
)
def test_a_file_that_does_not_exist_is_a_matter_of_usage(
    words: tuple[str, ...],
) -> None:
    ran = run(*words, "/no/such/file", "--json")
    check(ran.report, "error")
    assert (ran.code, ran.error) == (2, "/no/such/file does not exist")


@pytest.mark.parametrize("words", [("log",), ("hash", "mle"), ("hash", "module")])
def test_a_folder_is_no_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = run(*words, str(tmp_path))
    assert ran.code == 4
    assert ran.error == f"{tmp_path} cannot be read: is a directory"


def test_a_file_name_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    ran = run("log", str(tmp_path / "\x1b[2Jgone"))
    assert ran.code == 2
    assert "\x1b" not in ran.told
    assert run("log", "with\0nul").code == 4


def test_over_511_bytes_of_command_line_are_refused(lent_da: Laptop) -> None:
    tboot = str(lent_da.path("/boot/tboot.gz"))
    assert run("hash", "mle", tboot, "--cmdline", "x" * 511).code == 0
    refused = run("hash", "mle", tboot, "--cmdline", "x" * 512)
    assert (refused.code, refused.error) == (2, "the command line has 512 bytes")


# --- recordings ---


def test_a_recording_goes_into_an_empty_folder(lent_da: Laptop, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    refuses(
        lent_da, f"record {tmp_path}", 2, f"{tmp_path} is not empty", "a new folder"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    refuses(lent_da, f"record {tmp_path}/mine", 2, "is no folder", "name a new folder")


@pytest.mark.parametrize("verb", ["log", "predict", "plan", "status", "explain"])
def test_a_recording_that_is_none(tmp_path: Path, verb: str) -> None:
    ran = run(verb, "--host", str(tmp_path), "--json")
    check(ran.report, "error")
    assert ran.code == 4
    assert ran.error == f"{tmp_path} is no recording: manifest.json is missing"
    absent = run(verb, "--host", str(tmp_path / "absent"))
    assert (absent.code, absent.error) == (2, f"{tmp_path / 'absent'} is no folder")


def test_a_broken_recording_is_refused_by_its_file(
    lent_da: Laptop, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"
    assert lent_da.aemseal("record", str(folder)).code == 0
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"\xff\x00rubbish"):
            path.write_bytes(content)
            ran = run("predict", "--host", str(folder))
            assert (ran.code, ran.out) == (4, ""), path.name
            assert ran.error
        path.write_bytes(whole)
    assert run("predict", "--host", str(folder)).code == 0


def test_a_root_that_is_no_folder_is_a_matter_of_usage() -> None:
    ran = run("status", "--root", "/no/such/root")
    assert (ran.code, ran.error) == (2, "--root: /no/such/root is no folder")


# --- tboot ---


def test_a_custom_tboot_policy_is_refused_by_its_event(
    cache: Cache, tmp_path: Path
) -> None:
    """A policy that somebody wrote into the TPM: no rule says what comes next."""
    import dataclasses

    sha256 = HashAlgorithm.SHA256
    custom = {sha256: Digest(sha256, bytes(range(32)))}
    model = dataclasses.replace(TBOOT_DA, policy=custom)
    with Machine(model, cache=cache) as machine:
        machine.install()
        machine.boot()
        laptop = Laptop(machine)
        before = laptop.kept()
        ran = laptop.aemseal("predict", "--json", "--pcrs", "sha256:17,18")
        assert ran.code == 4
        check(ran.report, "predict")
        assert ran.report["complete"] is False
        refusals = ran.report["refusals"]
        assert {each["pcr"] for each in refusals} == {17, 18}
        assert all("policy" in each["reason"] for each in refusals)
        assert not set(ran.report["next"]["sha256"]) & {"17", "18"}
        enrolled = laptop.enrol()
        assert enrolled.code == 4
        assert "policy" in enrolled.error
        assert laptop.kept() == before


# --- interruption, and a stdout that takes nothing ---


def in_a_shell(script: str) -> tuple[int, str]:
    """Run the command line as `aemseal` in a script; its exit code, its stderr."""
    words = f'{shlex.quote(sys.executable)} -m aemseal.face.cli "$@"'
    done = subprocess.run(
        ["bash", "-c", f"aemseal() {{ {words}; }}; {script}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_result_that_cannot_be_written_is_an_error(form: str) -> None:
    file = shlex.quote(__file__)
    full = in_a_shell(f"aemseal hash module {file} {form} > /dev/full")
    told = "aemseal: error: stdout cannot be written: no space left on device\n"
    assert full == (1, told)
    for words, code, told in (
        (f"hash module {file}", 1, ""),
        ("log /no/such/file", 2, "aemseal: error: /no/such/file does not exist\n"),
    ):
        closed = f"aemseal {words} {form} | exec true; exit ${{PIPESTATUS[0]}}"
        assert in_a_shell(f"trap '' PIPE; {closed}") == (code, told)


def test_an_interrupted_command_exits_130(
    lent_da: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = lent_da.kept()
    with monkeypatch.context() as patch:
        patch.setattr("aemseal.face.verbs.survey", interrupted)
        ran = lent_da.aemseal("predict")
        as_json = lent_da.aemseal("predict", "--json")
    assert (ran.code, ran.out, ran.told) == (130, "", "aemseal: interrupted\n")
    check(as_json.report, "error")
    assert as_json.code == as_json.report["exit"] == 130
    assert lent_da.kept() == before


def test_the_legacy_map_is_refused_alike(own: MakeLaptop) -> None:
    laptop = own(TBOOT_LEGACY)
    log = laptop.path(LOG).read_bytes()
    with changed(laptop, LOG, log[:-20] + bytes([log[-20] ^ 1]) + log[-19:]):
        refuses(laptop, "confirm", 4, "the event log does not give PCR 19: replayed ")


@pytest.fixture(autouse=True)
def _no_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err

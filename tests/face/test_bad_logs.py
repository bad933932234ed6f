# SPDX-License-Identifier: GPL-2.0-or-later
"""Event logs, launches and TPMs' banks that are refused, each by name."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from contract import check
from laptop import SECRET, Laptop, MakeLaptop, changed, run
from refusals import CONFIG, EVIDENCE_VERBS, LOG, PROBLEM_STEP, refuses, status_says
from tpm_sim.machines import TBOOT_LEGACY

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


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


def test_tboots_log_under_trenchboots_types_is_refused_by_event(
    lent_da: Laptop,
) -> None:
    """Types are not replayed: what they say must make sense, or nothing follows."""
    log = lent_da.path(LOG).read_bytes()
    tboot = bytes.fromhex("01050000")
    assert tboot in log
    slaunch = log.replace(tboot, bytes.fromhex("02050000"))
    with changed(lent_da, LOG, slaunch):
        for verb in ("predict", "plan", "reseal", "confirm"):
            message = "event 17 (SLAUNCH, '') in PCR 17 is no part of a launch of Xen"
            refuses(lent_da, verb, 4, message, "as the launcher of Xen")


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
    assert "refused: PCR 13: aemseal's hook" in text.out
    assert "not known" in text.out


# --- interruption, and a stdout that takes nothing ---


def test_the_legacy_map_is_refused_alike(own: MakeLaptop) -> None:
    laptop = own(TBOOT_LEGACY)
    log = laptop.path(LOG).read_bytes()
    with changed(laptop, LOG, log[:-20] + bytes([log[-20] ^ 1]) + log[-19:]):
        refuses(laptop, "confirm", 4, "the event log does not give PCR 19: replayed ")

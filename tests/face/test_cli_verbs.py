# SPDX-License-Identifier: GPL-2.0-or-later
"""Each verb, as text and as JSON, against the contract of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import check
from laptop import KERNEL, READING, Laptop, MakeLaptop, changed, run
from tpm_sim.cache import Cache
from tpm_sim.hashing import hash_mle
from tpm_sim.machines import TBOOT_LEGACY

from aemseal.words.digest import HashAlgorithm

pytestmark = pytest.mark.tpm


# --- text and JSON ---


@pytest.mark.parametrize("verb", READING)
def test_a_verb_that_reads_prints_one_object_of_its_schema(
    lent: Laptop, verb: str
) -> None:
    ran = lent.aemseal(verb, "--json")
    assert (ran.code, ran.told) == (0, "")
    check(ran.report, verb)


@pytest.mark.parametrize("verb", READING)
def test_its_text_goes_to_stdout_alone(lent: Laptop, verb: str) -> None:
    ran = lent.aemseal(verb)
    assert (ran.code, ran.told) == (0, "")
    assert ran.out.endswith("\n")
    assert "\x1b" not in ran.out


def test_the_log_names_the_file_behind_each_event(lent: Laptop) -> None:
    ran = lent.aemseal("log", "--json")
    files = [each["file"] for each in ran.report["events"] if "file" in each]
    boot = ["/boot/tboot.gz", "/boot/xen.gz", KERNEL, "/boot/initramfs.img"]
    assert files == boot
    assert ran.report["events"][0]["number"] == 0
    text = lent.aemseal("log").out
    assert "replays to the TPM's sha256 PCR 17" in text
    assert "sha1 PCR 17 is not complete: no digest in event " in text
    assert all(file in text for file in boot)


def test_a_log_that_is_named_is_held_against_no_tpm(lent: Laptop) -> None:
    path = str(lent.machine.log_path)
    text = run("log", path)
    assert (text.code, text.told) == (0, "")
    assert "replayed, held against no TPM" in text.out
    named, live = run("log", path, "--json"), lent.aemseal("log", "--json")
    check(named.report, "log")
    assert named.report["pcrs"] == live.report["pcrs"]


def test_a_prediction_shows_now_and_next_and_what_is_sealed_to(lent: Laptop) -> None:
    report = lent.aemseal("predict", "--json").report
    legacy = lent.machine.model is TBOOT_LEGACY
    pcrs = ["13", "17", "18", "19"] if legacy else ["13", "17", "18"]
    assert report["selection"] == f"sha256:{','.join(pcrs)}"
    assert (report["complete"], report["calibrated"]) == (True, True)
    assert report["map"] == ("legacy" if legacy else "da")
    assert report["now"] == report["next"]
    assert list(report["next"]["sha256"]) == pcrs
    text = lent.aemseal("predict").out
    assert f"(* sealed to: {report['selection']})" in text


def test_a_changed_file_is_predicted_planned_and_told(lent: Laptop) -> None:
    with changed(lent, KERNEL, b"another kernel"):
        predicted = lent.aemseal("predict", "--json")
        planned, text = lent.aemseal("plan", "--json"), lent.aemseal("plan")
    check(predicted.report, "predict")
    check(planned.report, "plan")
    pcr = 19 if lent.machine.model is TBOOT_LEGACY else 17
    now, following = (predicted.report[key]["sha256"] for key in ("now", "next"))
    assert [each for each in now if now[each] != following[each]] == [str(pcr)]
    assert (planned.code, text.code) == (3, 3)
    (change,) = planned.report["changes"]
    assert (change["role"], change["path"], change["pcrs"]) == ("kernel", KERNEL, [pcr])
    assert change["origin"]["kind"] == "unknown"
    assert f"! kernel (PCR {pcr}): nobody answers for these bytes" in text.out


def test_status_names_the_boots_and_the_one_thing_to_do(lent: Laptop) -> None:
    ran = lent.aemseal("status", "--json")
    (accepted,) = ran.report["accepted"]
    assert accepted["name"].startswith("Xen 4.")
    assert ran.report["this_boot"] == ran.report["next_boot"] == "accepted"
    text = lent.aemseal("status").out
    assert text.splitlines()[-1] == (
        "next step: nothing: the next boot will show the secret"
    )


def test_an_evil_maids_boot_is_explained_in_both_forms(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write("/boot/initramfs.img", pack_of(laptop) + bytes(512))
    laptop.reboot()
    ran, text = laptop.aemseal("explain", "--json"), laptop.aemseal("explain")
    check(ran.report, "explain")
    assert (ran.code, text.code) == (6, 6)
    assert ran.report["verdict"] == "changed"
    assert (ran.report["pcr"], ran.report["path"]) == (17, "/boot/initramfs.img")
    assert ran.report["expected"]["digests"] != ran.report["measured"]["digests"]
    assert text.out.startswith("Do not type the passphrase")
    assert "first difference: PCR 17, /boot/initramfs.img" in text.out
    status = laptop.aemseal("status", "--json")
    check(status.report, "status")
    assert (status.code, status.report["this_boot"]) == (0, "unknown")
    for verb in ("confirm", "reseal --accept initramfs", "cancel"):
        refused = laptop.aemseal(*verb.split(), "--json")
        if verb == "cancel":
            assert refused.report["cancelled"] == []
            continue
        assert refused.code == refused.report["exit"] == 6
        check(refused.report, "error")
        assert refused.report["kind"] == "not-accepted"
    assert "/boot/initramfs.img" in laptop.aemseal("confirm").hint


def pack_of(laptop: Laptop) -> bytes:
    return laptop.path("/boot/initramfs.img").read_bytes()


def test_enrol_reseal_confirm_and_cancel_print_one_object_each(
    own: MakeLaptop,
) -> None:
    laptop = own(enrolled=False)
    enrolled = laptop.enrol("--json")
    assert enrolled.code == 0
    assert enrolled.report["schema"] == "aemseal.enrol/1"
    assert enrolled.report["selection"] == "sha256:13,17,18"
    assert (enrolled.report["accepted"], len(enrolled.report["staged"])) == ([], 1)
    assert laptop.shows_the_secret()
    confirmed = laptop.aemseal("confirm", "--json")
    check(confirmed.report, "confirm")
    assert confirmed.report["accepted_as"] == enrolled.report["staged"][0]
    again = laptop.aemseal("confirm")
    assert again.out.startswith("nothing to do: Xen ")
    laptop.write(KERNEL, b"another kernel")
    staged = laptop.aemseal("reseal", "--accept", "kernel", "--json")
    assert staged.code == 0
    assert staged.report["schema"] == "aemseal.reseal/1"
    check(staged.report["plan"], "plan")
    name = staged.report["staged"]
    assert laptop.aemseal("reseal", "--json").report["next_boot"] == "staged"
    nothing = laptop.aemseal("reseal")
    assert nothing.out == f"nothing to do: {name} is staged; next step: reboot\n"
    still = laptop.aemseal("confirm")
    assert f"still staged: {name}" in still.out
    cancelled = laptop.aemseal("cancel", "--json")
    assert cancelled.report == {"schema": "aemseal.cancel/1", "cancelled": [name]}
    removed = laptop.aemseal("remove", "--json")
    assert removed.report["schema"] == "aemseal.remove/1"
    assert laptop.aemseal("status").out.endswith("seal a secret: aemseal enrol text\n")


def test_a_staged_boot_that_runs_is_not_taken_back(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(KERNEL, b"another kernel")
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()
    before = laptop.kept()
    refused = laptop.aemseal("cancel")
    assert refused.code == 4
    assert refused.error == (
        "the staged boot is the one running now: it is not taken back"
    )
    assert laptop.kept() == before


# --- hash ---


def test_files_are_hashed_as_a_launch_measures_them(
    lent_da: Laptop, cache: Cache
) -> None:
    tboot = str(lent_da.path("/boot/tboot.gz"))
    ran = run("hash", "mle", tboot, "--cmdline", "logging=memory", "--json")
    check(ran.report, "hash")
    assert set(ran.report["digests"]) == {"sha1", "sha256", "sha384", "sha512"}
    for bank in (HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA512):
        by_tool = hash_mle(cache, Path(tboot), b"logging=memory", bank)
        assert by_tool is not None
        assert ran.report["digests"][bank.label] == by_tool.hex
    text = run("hash", "mle", tboot, "--cmdline", "logging=memory").out
    assert f"sha256: {ran.report['digests']['sha256']}\n" in text


def test_the_modules_in_the_log_are_those_that_hash_gives(lent_da: Laptop) -> None:
    events = lent_da.aemseal("log", "--json").report["events"]
    measured = {
        each["file"]: each["digests"]["sha256"] for each in events if "file" in each
    }
    initramfs = str(lent_da.path("/boot/initramfs.img"))
    plain = run("hash", "module", initramfs, "--json")
    check(plain.report, "hash")
    assert plain.report["digests"]["sha256"] == measured["/boot/initramfs.img"]
    xen = str(lent_da.path("/boot/xen.gz"))
    packed = run("hash", "module", xen, "--no-decompress", "--json").report
    unpacked = run("hash", "module", xen, "--json").report
    assert packed["digests"] != unpacked["digests"]
    luks = str(next(lent_da.path("/dev/disk/by-uuid").iterdir()))
    header = run("hash", "luks", luks, "--json")
    check(header.report, "hash")
    measurements = lent_da.aemseal("predict", "--json").report["measurements"]
    (of_luks,) = [each for each in measurements if each["role"] == "luks"]
    assert header.report["digests"]["sha256"] == of_luks["digests"]["sha256"]


def test_what_is_no_acm_is_refused(lent_da: Laptop) -> None:
    refused = run("hash", "acm", str(lent_da.path("/boot/xen.gz")))
    assert refused.code == 4
    assert "/boot/xen.gz" in refused.error

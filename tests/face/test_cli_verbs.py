# SPDX-License-Identifier: GPL-2.0-or-later
"""Each verb, as text and as JSON, against the contract of the command line."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contract import check
from laptop import SECRET, Laptop, MakeLaptop, changed, run
from tpm_sim.cache import PROJECT, Cache
from tpm_sim.hashing import hash_mle
from tpm_sim.machines import TBOOT_LEGACY

import aemseal
from aemseal.face.cli import main
from aemseal.words.digest import HashAlgorithm
from aemseal.world.store import Files

pytestmark = pytest.mark.tpm

READING = ("log", "predict", "status", "plan", "explain")
VAULT_VERBS = ("enrol text", "reseal", "cancel", "confirm", "remove")
KERNEL = "/boot/vmlinuz"


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
    assert "/boot/initramfs.img" in laptop.aemseal("confirm").error


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


# --- options ---


@pytest.mark.parametrize("verb", READING)
def test_options_stand_before_the_verb_or_behind_it(lent_da: Laptop, verb: str) -> None:
    common = ("--json", "--root", str(lent_da.root), "--tcti", lent_da.machine.tcti)
    before, behind = run(*common, verb), run(verb, *common)
    assert (before.code, before.told) == (0, "")
    assert before == behind


def test_the_tpm_is_that_of_tcti_else_of_the_environment(lent_da: Laptop) -> None:
    tcti, nowhere = lent_da.machine.tcti, "device:/dev/no-such-tpm"
    root = ("log", "--json", "--root", str(lent_da.root))
    named = run(*root, "--tcti", tcti, environment={"TPM2TOOLS_TCTI": nowhere})
    assert named.code == 0
    assert run(*root, environment={"TPM2TOOLS_TCTI": tcti}) == named
    absent = run(*root, "--tcti", nowhere, environment={"TPM2TOOLS_TCTI": tcti})
    assert absent.report["message"] == f"no TPM answers at {nowhere}"


def test_an_entry_is_chosen_by_its_title(lent_da: Laptop) -> None:
    config = lent_da.path("/boot/grub/grub.cfg").read_text()
    menu = config[config.index("menuentry 'AEM") : config.index("menuentry 'Qubes")]
    other = menu.replace("'AEM Qubes", "'Rescue Qubes").replace("rhgb", "single")
    with changed(lent_da, "/boot/grub/grub.cfg", (config + other).encode()):
        usual = lent_da.aemseal("predict", "--json")
        title = "Rescue Qubes, with Xen hypervisor"
        rescue = lent_da.aemseal("predict", "--json", "--entry", title)
        planned = lent_da.aemseal("--entry", title, "plan", "--json")
        dry = lent_da.aemseal("reseal", "--dry-run", "--json", "--entry", title)
        status = lent_da.aemseal("status", "--entry", title)
    assert usual.report["entry"] == "AEM Qubes, with Xen hypervisor"
    assert rescue.report["entry"] == title
    assert rescue.report["next"] != usual.report["next"]
    assert [each["role"] for each in planned.report["changes"]] == ["kernel"]
    assert dry.report["plan"] == planned.report
    assert status.code == 0


def test_a_selection_is_read_in_both_forms(lent_new: Laptop) -> None:
    def selected(*words: str) -> str:
        found: str = lent_new.aemseal("predict", "--json", *words).report["selection"]
        return found

    assert selected() == "sha256:17,18"
    assert selected("--pcrs", "sha256:17") == "sha256:17"
    assert selected("--pcrs", "--pcr 17 --pcr 18") == "sha256:17,18"
    assert selected("--pcr", "18", "--pcr", "17") == "sha256:17,18"


def test_the_selection_of_one_machine_is_not_anothers(
    lent_new: Laptop, own: MakeLaptop
) -> None:
    """In one process: with the hook, PCR 13 is selected too; without it, never."""
    hooked = own()
    assert hooked.aemseal("remove").code == 0
    with_hook = hooked.aemseal("predict", "--json").report["selection"]
    without = lent_new.aemseal("predict", "--json").report["selection"]
    assert (with_hook, without) == ("sha256:13,17,18", "sha256:17,18")


def test_no_pcr_is_lost_between_the_verbs_two_sides(lent_new: Laptop) -> None:
    ran = lent_new.aemseal("--pcr", "18", "predict", "--pcr", "17", "--json")
    assert ran.report["selection"] == "sha256:17,18"
    for words in (("--pcrs", "sha256:17"), ("--pcr", "17")):
        other = "--pcr=17" if words[0] == "--pcrs" else "--pcrs=sha256:17"
        refused = lent_new.aemseal(*words, "predict", other)
        assert (refused.code, refused.out) == (2, "")
        assert refused.error == "--pcrs and --pcr cannot be given together"


def test_the_selection_comes_from_the_configuration_else_from_aems(
    lent_new: Laptop,
) -> None:
    aem = lent_new.write("/etc/anti-evil-maid.conf", 'SEAL="--pcr 17"\n')
    config = lent_new.path("/etc/aemseal.yaml")
    settled = config.read_bytes()
    try:
        of_aem = lent_new.aemseal("predict", "--json").report["selection"]
        config.write_bytes(settled + b'pcrs: "sha256:17,18"\n')
        of_config = lent_new.aemseal("predict", "--json").report["selection"]
    finally:
        config.write_bytes(settled)
        aem.unlink()
    assert (of_aem, of_config) == ("sha256:17", "sha256:17,18")


def test_what_is_sealed_decides_the_selection(lent_da: Laptop) -> None:
    refused = lent_da.aemseal("predict", "--pcrs", "sha256:13,17")
    assert refused.code == 4
    assert refused.error == (
        "the secret is sealed to sha256:13,17,18, not to sha256:13,17"
    )
    same = lent_da.aemseal("predict", "--pcrs", "sha256:13,17,18")
    assert same.code == 0


# --- recordings ---


@pytest.fixture
def recorded(lent: Laptop, tmp_path: Path) -> tuple[Laptop, str]:
    folder = tmp_path / "recording"
    ran = lent.aemseal("record", str(folder), "--json")
    assert ran.code == 0
    assert ran.report["schema"] == "aemseal.record/1"
    assert sorted(ran.report["files"]) == sorted(p.name for p in folder.iterdir())
    return lent, str(folder)


def test_a_recording_tells_what_the_machine_told(recorded: tuple[Laptop, str]) -> None:
    laptop, folder = recorded
    for verb in READING:
        for form in (("--json",), ()):
            live = laptop.aemseal(verb, *form)
            assert run(verb, *form, "--host", folder) == live
            assert run("--host", folder, *form, verb) == live
    status = run("status", "--check", "--host", folder)
    assert status.code == 0


def test_a_recording_of_a_changed_machine_tells_the_change(
    lent_da: Laptop, tmp_path: Path
) -> None:
    folder = str(tmp_path / "recording")
    with changed(lent_da, KERNEL, b"another kernel"):
        assert lent_da.aemseal("record", folder).code == 0
        live = lent_da.aemseal("plan", "--json")
    assert run("plan", "--json", "--host", folder) == live
    assert live.code == 3


@pytest.mark.parametrize("verb", VAULT_VERBS)
def test_nothing_is_sealed_to_a_recording(
    recorded: tuple[Laptop, str], verb: str
) -> None:
    _, folder = recorded
    refused = run(*verb.split(), "--host", folder, "--json", stdin=b"secret")
    check(refused.report, "error")
    assert refused.code == 2
    assert refused.error == "--host: a recording cannot be sealed to"


def test_what_looks_like_a_secret_in_a_recording_is_warned_of(
    lent_da: Laptop, tmp_path: Path
) -> None:
    config = lent_da.path("/boot/grub/grub.cfg").read_text()
    worded = config.replace("rhgb quiet", "rhgb rd.iscsi.password=hunter2")
    with changed(lent_da, "/boot/grub/grub.cfg", worded.encode()):
        ran = lent_da.aemseal("record", str(tmp_path / "recording"))
    assert ran.code == 0
    assert "aemseal: look before you pass this on: /boot/grub/grub.cfg" in ran.told
    assert "hunter2" not in ran.told + ran.out


# --- the terminal ---


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aemseal.face.cli", "--version"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"aemseal {aemseal.__version__}\n"


def test_help_names_every_verb_and_every_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"], {})
    text = capsys.readouterr().out
    assert left.value.code == 0
    for word in (*READING, "enrol", "reseal", "cancel", "confirm", "record", "hash"):
        assert f"\n    {word} " in text
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert f"\n  {code}  " in text


MISTAKES = {
    "no verb": (),
    "no such verb": ("rubbish",),
    "a word too many": ("status", "rubbish"),
    "an option cut short": ("status", "--jso"),
    "an option of another verb": ("confirm", "--accept", "xen"),
    "no kind of secret": ("enrol",),
    "a PCR that is no number": ("predict", "--pcr", "seventeen"),
    "no folder": ("record",),
}


@pytest.mark.parametrize("words", MISTAKES.values(), ids=list(MISTAKES))
def test_wrong_words_are_a_matter_of_usage(words: tuple[str, ...]) -> None:
    ran, text = run("--json", *words), run(*words)
    assert ran.code == text.code == 2
    check(ran.report, "error")
    assert ran.report["kind"] == "usage"
    assert text.out == ""
    assert text.hint.startswith("see: aemseal ")
    assert text.hint.endswith(" --help")


def in_a_terminal(
    laptop: Laptop, words: list[str], typed: bytes, **environment: str
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; what is typed follows the prompt."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        tcti = {"TPM2TOOLS_TCTI": laptop.machine.tcti}
        argv = [sys.executable, "-m", "aemseal.face.cli", *words]
        argv += ["--root", str(laptop.root)]
        os.execve(sys.executable, argv, {**kept, **tcti, **environment})
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        if typed and b"(not shown): " in shown:
            os.write(master, typed)
            typed = b""
    os.close(master)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_a_secret_is_asked_for_without_echo(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    typed = SECRET.encode() + b"\n"
    code, shown = in_a_terminal(laptop, ["enrol", "text"], typed, TERM="xterm")
    assert code == 0
    assert "secret text (not shown): " in shown
    assert SECRET not in shown
    assert laptop.shows_the_secret()


def test_an_end_of_file_at_the_prompt_is_an_empty_secret(lent_new: Laptop) -> None:
    code, shown = in_a_terminal(lent_new, ["enrol", "text"], b"\x04", TERM="dumb")
    assert code == 2
    assert "aemseal: error: the secret is empty" in shown


def test_ctrl_c_at_the_prompt_interrupts(lent_new: Laptop) -> None:
    code, shown = in_a_terminal(lent_new, ["enrol", "text"], b"\x03", TERM="xterm")
    assert code == 130
    assert "aemseal: interrupted" in shown
    assert "Traceback" not in shown


COLOURS = {
    "a terminal": ({"TERM": "xterm"}, True),
    "NO_COLOR": ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    "a dumb terminal": ({"TERM": "dumb"}, False),
}


@pytest.mark.parametrize(
    ("environment", "coloured"), COLOURS.values(), ids=list(COLOURS)
)
def test_colour_is_for_terminals_that_have_it(
    lent_new: Laptop, environment: dict[str, str], coloured: bool
) -> None:
    code, shown = in_a_terminal(lent_new, ["confirm"], b"", **environment)
    assert code == 4
    assert ("\x1b[" in shown) is coloured
    assert "nothing is sealed on this machine" in shown


def test_the_argv_and_the_journal_of_an_enrolment_hold_no_secret(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every program that is started, and every file that is ever written, is seen."""
    laptop = own(enrolled=False)
    seen: list[str] = []
    real_run, real_write = subprocess.run, Files.write

    def watched_run(arguments: list[str], **options: object) -> object:
        seen.append(json.dumps([arguments, str(options)], default=str))
        return real_run(arguments, **options)  # type: ignore[call-overload]  # passed on

    def watched_write(files: Files, path: str, data: bytes, mode: int = 0o600) -> None:
        seen.append(f"{path} {data!r} {data.hex()}")
        real_write(files, path, data, mode)

    monkeypatch.setattr(subprocess, "run", watched_run)
    monkeypatch.setattr(Files, "write", watched_write)
    assert laptop.enrol().code == 0
    assert any("journal.json" in each for each in seen)
    assert any("initramfs" in each for each in seen)
    for each in seen:
        assert SECRET not in each
        assert SECRET.encode().hex() not in each
    assert SECRET not in " ".join([*sys.argv, *os.environ.values()])

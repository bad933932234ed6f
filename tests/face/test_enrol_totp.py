# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialogue of `enrol totp`: nothing is sealed before the phone's code is right."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from laptop import CARRIED, KERNEL, SECRET, Laptop, MakeLaptop, Ran, changed
from phone import Answer, Phone, Sitting, code_of
from qr_matrix import decode, from_blocks
from refusals import CONFIG, refuses
from tpm_sim.initramfs import build_command
from tpm_sim.machine import Machine
from tpm_sim.swtpm import LOCALITY_OS
from unsealer import SHA256, RefusedError, unseal

from aemseal.formats.hook_files import HookRecord
from aemseal.formats.totp import otpauth_uri
from aemseal.world.store import Files

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

NO_PIN = "\n"
PIN = "heron-1998\n"
WRONG = "000000\n"
RIGHT = code_of()
DELETE = "delete the entry that your phone made just now: its seed is thrown away"
NO_CODE = "that is no code of this seed: is it the entry added just now?"
PERHAPS = "is of use only if aemseal status names a totp: else delete it"


def enrol(
    laptop: Laptop, *answers: Answer, words: str = "enrol totp", **sitting: object
) -> tuple[Ran, Phone]:
    return Sitting(**sitting).run(laptop, words, answers)  # type: ignore[arg-type]  # a test's own words


def hook_record(laptop: Laptop) -> HookRecord:
    """What the hook left of this boot; the next boot begins with an empty /run."""
    return HookRecord.parse(laptop.path("/run/aemseal/record").read_bytes())


def at_boot(
    laptop: Laptop, before: HookRecord, *asked: tuple[str, str]
) -> list[bytes | None]:
    """What the hook gets on the next boot for each name and PIN; None for a refusal.

    PCR 13 gets what the hook measured in a boot before, and nothing closes it.
    """

    def hook(machine: Machine) -> list[bytes | None]:
        for _, digest in before.luks:
            machine.tpm.extend([(13, {SHA256: digest})], LOCALITY_OS)
        return [unsealed(machine, name, pin) for name, pin in asked]

    laptop.machine.power_off()
    found = laptop.machine.boot(hook).hook_result
    assert isinstance(found, list)
    return found


def unsealed(machine: Machine, name: str, pin: str) -> bytes | None:
    folder = machine.root / "boot/aemseal"
    try:
        return unseal(machine.tcti, folder, name, pin.strip().encode())
    except RefusedError:
        return None


# --- what comes of it ---


def test_the_first_secret_may_be_a_seed(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    laptop.write("/etc/hostname", "dom0\n")
    ran, phone = enrol(laptop, PIN, PIN, RIGHT)
    assert ran.code == 0, phone.shown
    assert ran.out.splitlines()[-1] == (
        "next step: reboot; the secret is shown before the passphrase; "
        "then: aemseal confirm"
    )
    shown, _, after = phone.shown.partition("the code is right: your phone has the")
    assert "building the initramfs: " in after, "asked before the TPM is owned"
    assert phone.key in shown
    first = shown.index("\x1b[2J") + len("\x1b[2J")
    code = shown[first : shown.index("\nscan this")].splitlines()
    assert decode(from_blocks(code)) == otpauth_uri(phone.seed, "dom0").encode()
    laptop.reboot()
    record = hook_record(laptop)
    found = at_boot(laptop, record, ("totp", PIN), ("totp", ""))
    assert found == [phone.seed, None]
    with changed(laptop, KERNEL, b"another kernel"):
        assert at_boot(laptop, record, ("totp", PIN)) == [None]


def test_a_seed_beside_a_text_opens_on_the_accepted_boot_and_on_no_other(
    own: MakeLaptop,
) -> None:
    laptop = own()
    ran, phone = enrol(laptop, NO_PIN, RIGHT, words="enrol totp --json")
    assert ran.code == 0, phone.shown
    assert ran.report == {
        "schema": "aemseal.enrol/1",
        "accepted": ran.report["accepted"],
        "staged": [],
        "selection": "sha256:13,17,18",
        "secrets": ["text", "totp"],
    }
    record, both = hook_record(laptop), (("totp", ""), ("text", ""))
    assert at_boot(laptop, record, *both) == [phone.seed, SECRET.encode()]
    with changed(laptop, KERNEL, b"another kernel"):
        assert at_boot(laptop, record, *both) == [None, None]


def test_a_text_beside_a_seed_is_given_the_same_pin(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    ran, phone = enrol(laptop, PIN, PIN, RIGHT)
    laptop.reboot()
    ran, beside = enrol(laptop, PIN, PIN, "a kite over the weir\n", words="enrol text")
    assert ran.code == 0, beside.shown
    assert "type the one that you gave before. It cannot be checked here" in (
        beside.shown
    )
    assert "the PIN that you gave before (not shown), or nothing for none: " in (
        beside.shown
    )
    assert "sealed a text beside: totp\n" in ran.out
    asked = [(name, pin) for pin in (PIN, "") for name in ("totp", "text")]
    found = at_boot(laptop, hook_record(laptop), *asked)
    assert found == [phone.seed, b"a kite over the weir", None, None]


def test_the_seed_and_the_pin_are_on_the_screen_and_nowhere_else(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own(enrolled=False)
    seen: list[str] = []
    real_run, real_write = subprocess.run, Files.write

    def watched_run(arguments: list[str], **options: object) -> object:
        given = options.pop("input", None)
        seen.append(json.dumps([arguments, str(options)], default=str))
        assert given is None or arguments[0] in ("qrencode", "cpio")
        if given is not None:
            options["input"] = given
        return real_run(arguments, **options)  # type: ignore[call-overload]  # passed on

    def watched_write(files: Files, path: str, data: bytes, mode: int = 0o600) -> None:
        seen.append(f"{path} {data!r} {data.hex()}")
        real_write(files, path, data, mode)

    monkeypatch.setattr(subprocess, "run", watched_run)
    monkeypatch.setattr(Files, "write", watched_write)
    ran, phone = enrol(laptop, PIN, PIN, RIGHT, words="enrol totp --json")
    assert ran.code == 0, phone.shown
    assert any("qrencode" in each for each in seen)
    assert any("journal.json" in each for each in seen)
    files = [each for each in laptop.root.rglob("*") if each.is_file()]
    text = phone.key.replace(" ", "")
    for value in (phone.seed, PIN.strip().encode()):
        forms = {value, value.hex().encode(), base64.b64encode(value), text.encode()}
        for form in forms:
            for told in (*seen, ran.out, *os.environ.values()):
                assert form.decode("latin-1") not in told
            for path in files:
                assert path.stat().st_size > 1 << 24 or form not in path.read_bytes()
    assert phone.key not in ran.out


# --- the screen ---

ALTERNATE = ("\x1b[?1049h\x1b[H\x1b[2J", "\x1b[H\x1b[2J\x1b[?1049l")
SCREENS = {
    "xterm": ALTERNATE,
    "tmux-256color": ALTERNATE,
    "linux": ("\x1b[H\x1b[2J", "\x1b[H\x1b[2J\x1b[3J"),
}


@pytest.mark.parametrize(("term", "escapes"), SCREENS.items(), ids=list(SCREENS))
@pytest.mark.parametrize("answers", [[NO_PIN, WRONG], [NO_PIN, WRONG, WRONG, WRONG]])
def test_nothing_of_it_stays_on_the_screen(
    lent_da: Laptop, term: str, escapes: tuple[str, str], answers: Sequence[Answer]
) -> None:
    begin, end = escapes
    ran, phone = enrol(lent_da, *answers, term=term)
    assert ran.code == 2
    before, _, rest = phone.shown.partition(begin)
    private, cleared, after = rest.rpartition(end)
    assert cleared
    assert phone.key in private
    assert "█" in private
    for kept in (before, after):
        assert phone.key not in kept
        assert "█" not in kept


def test_a_dumb_terminal_gets_the_key_and_no_escapes(lent_da: Laptop) -> None:
    ran, phone = enrol(lent_da, NO_PIN, term="dumb")
    assert ran.code == 2
    assert "\x1b" not in phone.shown
    assert "no QR code can be shown: this terminal is called dumb\n" in phone.shown
    assert len(phone.seed) == 20
    assert "aemseal: this terminal cannot be cleared: close it\n" in phone.shown


@pytest.mark.parametrize("size", [(21, 80), (40, 36)])
def test_a_code_that_does_not_fit_is_not_drawn(
    lent_da: Laptop, size: tuple[int, int]
) -> None:
    rows, columns = size
    _, phone = enrol(lent_da, NO_PIN, rows=rows, columns=columns)
    assert "█" not in phone.shown
    assert "this terminal has too few lines or columns" in phone.shown
    assert len(phone.seed) == 20


@pytest.mark.parametrize("size", [(24, 80), (0, 0)])
def test_a_code_that_fits_is_drawn(lent_da: Laptop, size: tuple[int, int]) -> None:
    rows, columns = size
    _, phone = enrol(lent_da, NO_PIN, rows=rows, columns=columns)
    assert "█" in phone.shown


def test_without_qrencode_there_is_the_key_to_type(
    lent_da: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _, phone = enrol(lent_da, NO_PIN)
    assert "no QR code can be shown: there is no program qrencode\n" in phone.shown
    assert len(phone.seed) == 20


def test_a_hardware_clock_that_is_off_is_told_first(lent_da: Laptop) -> None:
    clock = lent_da.write("/sys/class/rtc/rtc0/since_epoch", "1000\n")
    try:
        _, phone = enrol(lent_da, NO_PIN)
    finally:
        shutil.rmtree(clock.parents[2])
    assert "caution: the hardware clock is about" in phone.shown.partition("\x1b[")[0]


# --- refused, and nothing written ---

REFUSALS: dict[str, tuple[list[Answer], str]] = {
    "three wrong codes": (
        [WRONG, "111111\n", "12345\n"],
        "nothing is sealed: a code is 6 digits",
    ),
    "no code": ([], "nothing is sealed: no code was typed"),
    "a wrong code and no other": (
        [WRONG],
        f"nothing is sealed: {NO_CODE}",
    ),
    "a clock that is off": (
        [code_of(-300), code_of(-300), "\x04"],
        "nothing is sealed: that code was typed before: wait for the next one",
    ),
    "no text": (["\udcff\n"], "nothing is sealed: a code is 6 digits"),
}


@pytest.mark.parametrize(("answers", "error"), REFUSALS.values(), ids=list(REFUSALS))
def test_without_a_right_code_nothing_is_written(
    lent_da: Laptop, answers: list[Answer], error: str
) -> None:
    ran, phone = enrol(lent_da, NO_PIN, *answers)
    told = Ran(ran.code, ran.out, phone.shown.rpartition("\x1b[?1049l")[2])
    assert (ran.code, ran.out) == (2, "")
    assert f"aemseal: error:\x1b[0m {error}\n" in told.told
    assert told.hint == DELETE


def test_clocks_that_differ_are_told_while_there_are_tries_left(
    own: MakeLaptop,
) -> None:
    laptop = own()
    ran, phone = enrol(laptop, NO_PIN, code_of(240), WRONG, RIGHT)
    assert ran.code == 0
    assert "differ by about 4 minutes, the phone's being ahead" in phone.shown
    assert "(3 of 3): " in phone.shown


def test_a_seed_is_shown_to_nobody_where_stdin_is_no_terminal(lent_da: Laptop) -> None:
    words = "a seed is shown on a terminal, and a code typed there: stdin or stderr is"
    refuses(lent_da, "enrol totp", 2, words, "run it in a terminal", stdin="123456\n")


def test_a_seed_is_shown_to_nobody_where_stderr_is_a_file(lent_da: Laptop) -> None:
    ran, phone = enrol(lent_da, stderr_is_file=True)
    assert ran.code == 2
    assert "stdin or stderr is none" in ran.told
    assert phone.shown == ""


def test_no_seed_is_made_where_one_is_sealed(own: MakeLaptop) -> None:
    laptop = own()
    assert enrol(laptop, NO_PIN, RIGHT)[0].code == 0
    ran, phone = enrol(laptop, NO_PIN, RIGHT)
    assert ran.code == 4
    assert "a totp is sealed on this machine already" in phone.shown
    assert "PIN" not in phone.shown
    assert "\x1b[?1049h" not in phone.shown


def test_no_seed_is_made_on_a_boot_that_is_not_accepted(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(KERNEL, b"another kernel")
    laptop.reboot()
    before = laptop.kept()
    ran, phone = enrol(laptop, NO_PIN, RIGHT)
    assert (ran.code, ran.out) == (6, "")
    assert "this boot is not an accepted one" in phone.shown
    assert "\x1b[?1049h" not in phone.shown
    assert laptop.kept() == before


def a_medium_is_away(laptop: Laptop) -> tuple[int, str]:
    laptop.path("/boot/aemseal").rename(laptop.path("/boot/elsewhere"))
    return 4, "the medium stick is not at hand: /boot/aemseal"


def the_hook_did_not_run(laptop: Laptop) -> tuple[int, str]:
    laptop.machine.power_off()
    laptop.path("/run/aemseal/record").unlink()
    laptop.machine.boot()
    return 6, "this boot did not run aemseal's hook"


@pytest.mark.parametrize("spoil", [a_medium_is_away, the_hook_did_not_run])
def test_no_secret_is_asked_for_that_could_not_be_sealed(
    own: MakeLaptop, spoil: Callable[[Laptop], tuple[int, str]]
) -> None:
    laptop = own()
    code, message = spoil(laptop)
    before = laptop.kept()
    ran, phone = enrol(laptop)
    assert (ran.code, ran.out) == (code, "")
    assert message in phone.shown
    assert "PIN" not in phone.shown
    assert laptop.kept() == before


def test_a_build_that_fails_leaves_word_about_the_phone(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    laptop.write(CONFIG, f"initramfs_command: [/bin/false]\n{CARRIED}")
    ran, phone = enrol(laptop, NO_PIN, RIGHT)
    assert ran.code == 1
    assert PERHAPS in phone.shown
    command = json.dumps(build_command(laptop.root))
    laptop.write(CONFIG, f"initramfs_command: {command}\n{CARRIED}")
    ran, phone = enrol(laptop, NO_PIN, RIGHT)
    assert ran.code == 0
    assert PERHAPS not in phone.shown


def test_a_medium_that_stays_calls_for_a_pin(lent_new: Laptop) -> None:
    with changed(lent_new, CONFIG, lent_new.path(CONFIG).read_bytes()) as config:
        config.write_text(config.read_text().replace(", carried: true", ""))
        ran, phone = enrol(lent_new, "\n")
    assert ran.code == 2
    assert "a PIN has 6 to 32 characters" in phone.shown
    assert "\x1b[?1049h" not in phone.shown

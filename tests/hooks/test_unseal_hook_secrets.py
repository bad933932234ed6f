# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook's kinds of secret: one-time codes and keyfiles beside the text."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import signal
import time

import pytest
from hook_bus import CC_PCR_EVENT, NEW, OLD, Wire
from hook_outcome import EXITS, Outcome, assert_closed, held
from hook_program import SHELLS, altered, of_shell
from hook_world import Machine

pytestmark = pytest.mark.tpm

SEED = b"\x00\n12345678\xff\x00901234\n\x00"
EVERY_BYTE = bytes(range(256))
CODE = re.compile(rb"one-time code: (\d{6}) \((\d+) s left\)\n")


def code_of(seed: bytes, now: int) -> bytes:
    """RFC 6238 and RFC 4226, section 5.3: SHA-1, 30 seconds, six digits."""
    digest = hmac.digest(seed, (now // 30).to_bytes(8, "big"), hashlib.sha1)
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    return b"%06d" % (number % 1_000_000)


def only_totp(machine: Machine, seed: bytes = SEED) -> None:
    machine.write_secrets([("totp", "totp", seed, None)])
    machine.boot(OLD)


def clock(machine: Machine, *times: int) -> tuple[str, str]:
    """An edit of the hook: `date` tells these seconds, one a call, and stays."""
    folder = machine.folder / "clock"
    folder.mkdir()
    (folder / "times").write_text("".join(f"{each}\n" for each in times))
    (folder / "date").write_text(
        f"#!/bin/sh\nhead -n 1 '{folder}/times'\n"
        f"if [ $(wc -l <'{folder}/times') -gt 1 ]; then\n"
        f"sed -i 1d '{folder}/times'\nfi\n"
    )
    (folder / "sleep").write_text("#!/bin/sh\n")
    for tool in ("date", "sleep"):
        (folder / tool).chmod(0o755)
    return "\nPATH=", f"\nPATH={folder}:"


def shim(machine: Machine, tool: str, script: str) -> tuple[str, str]:
    """An edit of the hook: this shell in the place of a tool."""
    folder = machine.folder / "shims"
    folder.mkdir()
    (folder / tool).write_text(f"#!/bin/sh\n{script}\n")
    (folder / tool).chmod(0o755)
    return "\nPATH=", f"\nPATH={folder}:"


@pytest.mark.parametrize("now", [59, 1111111109, 1234567890, 20000000000])
def test_the_one_time_code_is_that_of_the_rfc(machine: Machine, now: int) -> None:
    seed = b"12345678901234567890"  # RFC 6238, appendix B
    only_totp(machine, seed)
    outcome = machine.hook(hook=altered(machine, clock(machine, now)))
    held(machine, outcome, "unsealed", opened=["totp totp"])
    left = 30 - now % 30
    told = f"one-time code: {code_of(seed, now).decode()} ({left} s left)\n"
    assert outcome.stdout.decode() == told
    assert code_of(seed, 1234567890) == b"005924"


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_seed_of_any_bytes_gives_the_code_of_now(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    only_totp(machine)
    before = int(time.time())
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed", opened=["totp totp"])
    found = CODE.fullmatch(outcome.stdout)
    assert found is not None
    possible = range(before, int(time.time()) + 1)
    assert (found[1], int(found[2])) in {
        (code_of(SEED, now), 30 - now % 30) for now in possible
    }


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_new_code_is_shown_while_one_waits(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "4")
    times = clock(machine, 1000, 1000, 1001, 1019, 1020, 1021)
    outcome = machine.hook(shell=shell, hook=altered(machine, times))
    held(machine, outcome, "unsealed", opened=["totp totp"])
    assert CODE.findall(outcome.stdout) == [
        (code_of(SEED, 1000), b"20"),
        (code_of(SEED, 1020), b"30"),
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_wait_for_a_new_code_is_ended_by_a_signal(
    machine: Machine, number: signal.Signals, shell: tuple[str, ...]
) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "3600")
    process = machine.start_hook(shell=shell)
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    assert [each.name for each in machine.run.iterdir()] == ["record"]
    process.send_signal(number)
    outcome = machine.finish_hook(process)
    whole = Outcome(outcome.code, first, outcome.stderr, outcome.record)
    held(machine, whole, "unsealed", opened=["totp totp"])


@pytest.mark.parametrize("word", ["-1", "x", "01", "3601", ""])
def test_a_wait_of_another_length_is_a_wrong_call(machine: Machine, word: str) -> None:
    machine.boot(OLD)
    machine.more_arguments = ("-t", word)
    outcome = machine.hook()
    assert outcome.code == EXITS["failed"]
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


@pytest.mark.parametrize("script", ["exit 1", "echo 12345", "echo '123456;'", ":"])
def test_without_a_code_nothing_is_shown(machine: Machine, script: str) -> None:
    machine.write_secrets(
        [("totp", "totp", SEED, None), ("text", "text", b"text", None)]
    )
    shims = machine.folder / "shims"
    shims.mkdir()
    (shims / "oathtool").write_text(f"#!/bin/sh\n{script}\n")
    (shims / "oathtool").chmod(0o755)
    machine.boot(OLD)
    held(
        machine,
        machine.hook(hook=altered(machine, ("\nPATH=", f"\nPATH={shims}:"))),
        "failed",
    )


KEYS = {
    "64 bytes": EVERY_BYTE[:64],
    "zeros": bytes(64),
    "line feeds": b"\n" * 64,
    "a shell's words": b"\\0101%s$(id)" * 20,
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_keyfile_is_what_was_sealed(machine: Machine, kind: str) -> None:
    assert_keyfile(machine, KEYS[kind], SHELLS[0])


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_every_shell_keeps_every_byte_of_a_keyfile(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    assert_keyfile(machine, EVERY_BYTE, shell)


def assert_keyfile(machine: Machine, key: bytes, shell: tuple[str, ...]) -> None:
    """Check that the hook leaves just this, for root alone, and shows none of it."""
    machine.write_secrets([("keyfile", "keyfile", key, None)])
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed", opened=["keyfile keyfile"])
    assert outcome.stdout == b"The disk key is ready.\n"
    keyfile = machine.run / "keyfile"
    assert keyfile.read_bytes() == key
    assert keyfile.stat().st_mode & 0o7777 == 0o600


def test_a_keyfile_is_there_only_after_the_cap(machine: Machine) -> None:
    machine.write_secrets([("keyfile", "keyfile", EVERY_BYTE[:64], None)])
    machine.boot(OLD)
    there: list[bool] = []
    with Wire(machine.tpm) as wire:
        wire.at(CC_PCR_EVENT, lambda: there.append((machine.run / "keyfile").exists()))
        machine.hook(tcti=wire.tcti)
    assert there == [False]
    assert (machine.run / "keyfile").exists()


def test_a_keyfile_of_an_earlier_run_is_gone(machine: Machine) -> None:
    machine.write_secrets([("keyfile", "keyfile", EVERY_BYTE[:64], None)])
    machine.boot(OLD)
    machine.hook()
    machine.boot(NEW)
    held(machine, machine.hook(), "not-accepted")


def test_without_the_cap_there_is_no_keyfile(machine: Machine) -> None:
    machine.write_secrets([("keyfile", "keyfile", EVERY_BYTE[:64], None)])
    machine.boot(OLD)
    shims = shim(machine, "tpm2_pcrevent", "exit 1")
    outcome = machine.hook(hook=altered(machine, shims))
    assert outcome.code == EXITS["cap-failed"]
    assert [each.name for each in machine.run.iterdir()] == ["record"]


def test_secrets_are_shown_in_their_order_and_the_code_last(
    machine: Machine,
) -> None:
    machine.write_secrets(
        [
            ("code", "totp", SEED, None),
            ("disk", "keyfile", EVERY_BYTE[:64], None),
            ("phrase", "text", b"the text\n", None),
        ]
    )
    machine.boot(OLD)
    outcome = machine.hook()
    opened = ["code totp", "disk keyfile", "phrase text"]
    held(machine, outcome, "unsealed", opened=opened)
    first = b"The disk key is ready.\nthe text\n"
    assert outcome.stdout.startswith(first)
    assert CODE.fullmatch(outcome.stdout[len(first) :])


def test_one_part_that_does_not_open_keeps_everything_in(machine: Machine) -> None:
    machine.write_secrets(
        [
            ("text", "text", b"the text", None),
            ("keyfile", "keyfile", EVERY_BYTE, None),
        ]
    )
    vault = machine.medium / "vault"
    lines = vault.read_text().splitlines()
    lines[-1] = lines[-1][:-8] + "00000000"
    machine.write("vault", *lines)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


def test_a_seed_that_the_vault_calls_a_text_is_not_shown(machine: Machine) -> None:
    """The vault file was in anybody's hands; what is sealed says itself what it is."""
    machine.write_secrets([("totp", "totp", SEED, None)])
    vault = machine.medium / "vault"
    text = vault.read_text().replace("secret totp totp 0", "secret text text 0")
    vault.write_text(text)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "bad-medium")
    assert SEED not in outcome.stdout


def test_the_parts_of_two_secrets_are_not_exchanged(machine: Machine) -> None:
    machine.write_secrets(
        [("text", "text", b"the text", None), ("totp", "totp", SEED, None)]
    )
    vault = machine.medium / "vault"
    lines = vault.read_text().splitlines()
    lines[-1], lines[-3] = lines[-3], lines[-1]
    machine.write("vault", *lines)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


def test_the_parts_of_one_secret_are_not_reordered(machine: Machine) -> None:
    machine.write_vault(b"one" * 60)
    vault = machine.medium / "vault"
    lines = vault.read_text().splitlines()
    lines[-1], lines[-2] = lines[-2], lines[-1]
    machine.write("vault", *lines)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


def test_a_text_without_its_last_part_is_not_shown(machine: Machine) -> None:
    machine.write_vault(b"one" * 60)
    vault = machine.medium / "vault"
    lines = vault.read_text().replace("text 0 2", "text 0 1").splitlines()
    machine.write("vault", *lines[:-1])
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")

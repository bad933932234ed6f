# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook asks for the PIN: on an accepted boot alone, and thrice at most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hook_bus import NEW, OLD
from hook_outcome import EXITS, held
from hook_person import AGAIN, PIN, QUESTION
from hook_program import SHELLS, altered, of_shell
from hook_world import BOTH, KEY, Machine

pytestmark = pytest.mark.tpm

REFUSED = "aemseal: The PIN was wrong three times. "
CLOSED = "What it guards stays closed.\n"
DO_NOT_TYPE = "Do not type your disk passphrase.\n"


def tries_counted(machine: Machine) -> int:
    listing = machine.tool("tpm2_getcap", "properties-variable").decode()
    return int(listing.split("TPM2_PT_LOCKOUT_COUNTER:")[1].split()[0], 16)


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_right_pin_opens_what_it_guards(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    guarded.person.types(f"{PIN}\n")
    outcome = guarded.hook(shell=shell)
    held(guarded, outcome, "unsealed", opened=BOTH)
    assert outcome.stdout == b"open\nThe disk key is ready.\n"
    assert guarded.person.heard == [QUESTION]
    assert (guarded.run / "keyfile").read_bytes() == KEY
    assert tries_counted(guarded) == 0


def test_one_pin_opens_every_secret_and_is_asked_for_once(guarded: Machine) -> None:
    guarded.write_secrets(
        [
            ("totp", "totp", b"12345678901234567890", PIN.encode()),
            ("text", "text", b"x" * 200, PIN.encode()),
            ("keyfile", "keyfile", KEY, PIN.encode()),
        ]
    )
    guarded.person.types(PIN)
    outcome = guarded.hook()
    opened = ["totp totp", "text text", "keyfile keyfile"]
    held(guarded, outcome, "unsealed", opened=opened)
    assert outcome.stdout.startswith(b"x" * 200 + b"\nThe disk key is ready.\none-time")
    assert guarded.person.heard == [QUESTION]


@pytest.mark.parametrize("size", [1, 31, 32])
def test_a_pin_of_any_length_that_a_tpm_takes_will_do(
    guarded: Machine, size: int
) -> None:
    pin = "~" * size
    guarded.write_secrets([("text", "text", b"shown", pin.encode())])
    guarded.person.types(f"{pin}\n")
    held(guarded, guarded.hook(), "unsealed")


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_wrong_pin_is_told_and_asked_for_again(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    guarded.person.types("123456", "654321", PIN)
    held(guarded, guarded.hook(shell=shell), "unsealed", opened=BOTH)
    assert guarded.person.heard == [QUESTION, AGAIN, AGAIN]
    assert tries_counted(guarded) == 2


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_third_wrong_pin_is_the_last_and_the_open_text_is_shown(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    guarded.person.types("123456", "234567", "345678", PIN)
    outcome = guarded.hook(shell=shell)
    held(guarded, outcome, "wrong-pin", opened=["text text"])
    assert (outcome.stdout, outcome.stderr) == (b"open\n", REFUSED + CLOSED)
    assert guarded.person.heard == [QUESTION, AGAIN, AGAIN]
    assert tries_counted(guarded) == 3


def test_where_nothing_is_open_a_wrong_pin_shows_nothing(guarded: Machine) -> None:
    guarded.guard_all()
    guarded.person.types("123456", "234567", "345678")
    outcome = guarded.hook()
    held(guarded, outcome, "wrong-pin")
    assert outcome.stderr == REFUSED + DO_NOT_TYPE


def test_a_wrong_pin_is_told_from_one_without_lockout(guarded: Machine) -> None:
    """An object with noDA answers with another code (0x9A2)."""
    guarded.person.types("123456", PIN)
    part = guarded.seal(b"shown", PIN.encode(), no_da=True)
    vault = (guarded.medium / "vault").read_text().split("secret ")[0]
    guarded.write("vault", vault.rstrip("\n"), "secret text text 1 1", *part)
    held(guarded, guarded.hook(), "unsealed")
    assert tries_counted(guarded) == 0


UNUSABLE = {
    "too long by one": "x" * 33,
    "far too long": "x" * 100_000,
    "with a space": "123 456",
    "with a tab": "123\t456",
    "with an escape": "\x1b[A123456",
    "with a zero byte": "123\x00456",
    "of another alphabet": "12345\xe4",
    "with a return": f"{PIN}\r\n",
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_cannot_be_a_pin_costs_none_of_the_tpms_tries(
    guarded: Machine, kind: str
) -> None:
    guarded.person.types(UNUSABLE[kind], PIN)
    held(guarded, guarded.hook(), "unsealed", opened=BOTH)
    assert guarded.person.heard == [QUESTION, AGAIN]
    assert tries_counted(guarded) == 0


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_every_shell_refuses_a_pin_of_zero_bytes(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    guarded.person.types("\x00" * 40, "\x00", PIN)
    held(guarded, guarded.hook(shell=shell), "unsealed", opened=BOTH)
    assert guarded.person.heard == [QUESTION, AGAIN, AGAIN]
    assert tries_counted(guarded) == 0


NO_ANSWERS = {
    "nothing": (":",),
    "an empty line": ("echo",),
    "a failure": ("echo 123456", "exit 1"),
    "a signal": ("kill -9 $$",),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_without_a_pin_the_open_text_is_shown(guarded: Machine, kind: str) -> None:
    guarded.person.does(*NO_ANSWERS[kind])
    outcome = guarded.hook()
    held(guarded, outcome, "unsealed", opened=["text text"])
    assert outcome.stdout == b"open\n"
    assert len(guarded.person.heard) == 1


def test_without_a_pin_and_an_open_text_nothing_is_shown(guarded: Machine) -> None:
    guarded.guard_all()
    guarded.person.does(":")
    outcome = guarded.hook()
    held(guarded, outcome, "no-pin")
    sentence = "aemseal: No PIN was typed, so nothing was unsealed. "
    assert outcome.stderr == sentence + DO_NOT_TYPE


def test_a_person_may_go_without_after_a_wrong_pin(guarded: Machine) -> None:
    guarded.person.types("123456")
    held(guarded, guarded.hook(), "unsealed", opened=["text text"])


def test_a_program_that_is_not_there_asks_nothing(guarded: Machine) -> None:
    held(guarded, guarded.hook(), "unsealed", opened=["text text"])


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("wait", ["exec sleep 1000", "sleep 1000 & wait", "sleep 1000"])
def test_nobody_is_waited_for_without_end(
    guarded: Machine, wait: str, shell: tuple[str, ...]
) -> None:
    guarded.person.does(f"echo {PIN}", wait)
    hook = altered(guarded, ("ask_seconds=300", "ask_seconds=-4"))
    before = time.monotonic()
    outcome = guarded.hook(shell=shell, hook=hook)
    held(guarded, outcome, "unsealed", opened=["text text"])
    assert time.monotonic() - before < 30


def test_lockout_is_told_from_a_wrong_pin(guarded: Machine) -> None:
    guarded.tool("tpm2_dictionarylockout", "-s", "-n", "2", "-t", "7200", "-l", "7200")
    guarded.person.types("123456", "234567", PIN)
    outcome = guarded.hook()
    held(guarded, outcome, "lockout", opened=["text text"])
    sentence = "aemseal: The TPM is in lockout after wrong attempts. "
    assert (outcome.stdout, outcome.stderr) == (b"open\n", sentence + CLOSED)
    guarded.guard_all()
    guarded.person.types(PIN)
    guarded.boot(OLD)
    outcome = guarded.hook()
    assert (outcome.word, outcome.stderr) == ("lockout", sentence + DO_NOT_TYPE)
    assert outcome.record["branch"] == ["Xen-4.17.5"]


NOT_ACCEPTED = {
    "another boot": (NEW, "not-accepted"),
    "one more digest": (
        replace(OLD, extends=(*OLD.extends, (17, b"more"))),
        "not-accepted",
    ),
    "no launch": (None, "no-launch"),
}


@pytest.mark.parametrize("kind", NOT_ACCEPTED)
def test_a_boot_that_is_not_accepted_asks_for_no_pin(
    guarded: Machine, kind: str
) -> None:
    what, word = NOT_ACCEPTED[kind]
    guarded.guard_all()
    guarded.person.types(PIN)
    guarded.boot(what)
    held(guarded, guarded.hook(), word)
    assert guarded.person.heard == ()


def test_a_retired_boot_asks_for_no_pin(guarded: Machine) -> None:
    guarded.guard_all()
    guarded.person.types(PIN)
    guarded.count_up()
    old = (guarded.medium / "acceptance.1").read_text()
    guarded.write("acceptance.2", old.replace("count 1", "count 2").rstrip("\n"))
    guarded.boot(OLD)
    held(guarded, guarded.hook(), "not-accepted")
    assert guarded.person.heard == ()


@pytest.mark.parametrize(
    ("secrets", "old", "new"),
    [
        ([("text", "text", b"x", None)], "text text 0", "text text 1"),
        ([("text", "text", b"x", PIN.encode())], "text text 1", "text text 0"),
    ],
)
def test_a_pin_field_that_was_changed_asks_for_no_pin(
    guarded: Machine,
    secrets: Sequence[tuple[str, str, bytes, bytes | None]],
    old: str,
    new: str,
) -> None:
    guarded.write_secrets(secrets)
    vault = guarded.medium / "vault"
    vault.write_text(vault.read_text().replace(old, new))
    guarded.person.types(PIN)
    held(guarded, guarded.hook(), "not-accepted")
    assert guarded.person.heard == ()


def test_a_pcr_extended_while_the_pin_is_typed_does_not_spoil_it(
    guarded: Machine,
) -> None:
    """The TPM then answers 0x128, though no PCR of the policy has changed."""
    extend = f"TPM2TOOLS_TCTI={guarded.tpm.tcti} tpm2_pcrextend 11:sha256={'0' * 64}"
    guarded.person.types(PIN, before=extend)
    held(guarded, guarded.hook(), "unsealed", opened=BOTH)
    assert guarded.person.heard == [QUESTION]


def test_a_selected_pcr_extended_meanwhile_does(guarded: Machine) -> None:
    extend = f"TPM2TOOLS_TCTI={guarded.tpm.tcti} tpm2_pcrextend 13:sha256={'0' * 64}"
    guarded.person.types(PIN, before=extend)
    outcome = guarded.hook()
    assert (outcome.code, outcome.stdout) == (EXITS["not-accepted"], b"")
    assert sorted(each.name for each in guarded.run.iterdir()) == ["record"]

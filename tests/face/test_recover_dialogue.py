# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialogue of `recover` and `pin`: what is asked, and in which order."""

from __future__ import annotations

import pytest
from laptop import KERNEL, Laptop, MakeLaptop, Ran
from luks_disks import LuksDisk
from phone import Answer, Sitting, code_of
from refusals import STATE
from tpm_sim.boot_directory import LUKS_PASSPHRASE, LUKS_UUID

from aemseal.flows.state import VaultState
from aemseal.words.errors import AemsealError

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

PIN, NO_PIN, TEXT = "heron-1998\n", "\n", "two herons\n"
ASKED = "to accept this boot ("


def at_a_terminal(laptop: Laptop, words: str, *answers: Answer) -> Ran:
    return Sitting().run(laptop, words, answers)[0]


def secrets(laptop: Laptop) -> list[tuple[str, bool]]:
    state = VaultState.parse(laptop.path(STATE).read_bytes())
    return [(each.kind, each.pin) for each in state.secrets]


def test_a_typed_word_accepts_a_blind_boot(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(KERNEL, b"another kernel")
    assert not laptop.shows_the_secret()
    ran = at_a_terminal(laptop, "recover", "accept\n", NO_PIN, TEXT)
    assert ran.code == 0, ran.told
    order = [
        ran.told.index(each)
        for each in (
            "accept nothing yet",
            f"first difference: PCR 17, {KERNEL}",
            ASKED,
            "everything is asked for anew",
            "PIN (not shown)",
            "secret text (not shown)",
        )
    ]
    assert order == sorted(order)
    assert ran.out.startswith("sealed anew: text\naccepted: ")
    found = laptop.reboot()
    assert found is not None
    assert "two herons" in found.shown


@pytest.mark.parametrize("answer", ["yes\n", "\n", "\udcff\n", "\x04"])
def test_any_other_word_accepts_nothing(lent_da: Laptop, answer: str) -> None:
    before = lent_da.kept()
    ran = at_a_terminal(lent_da, "recover", answer)
    assert ran.code == 2
    assert "nothing was accepted, and nothing changed" in ran.told
    assert lent_da.kept() == before


def test_two_pins_that_differ_seal_nothing(lent_da: Laptop) -> None:
    before = lent_da.kept()
    for words, answers in (("pin", ()), ("recover", ("accept\n",))):
        ran = at_a_terminal(lent_da, words, *answers, PIN, "another-one\n")
        assert ran.code == 2
        assert "the two PINs differ" in ran.told
    assert lent_da.kept() == before


def test_every_secret_that_is_sealed_is_asked_for_with_one_pin(
    own: MakeLaptop,
) -> None:
    laptop = own()
    ran = at_a_terminal(laptop, "enrol totp", NO_PIN, code_of())
    assert ran.code == 0, ran.told
    ran = at_a_terminal(laptop, "pin", PIN, PIN, TEXT, code_of())
    assert ran.code == 0, ran.told
    assert ran.told.count("PIN (not shown)") == 1
    assert secrets(laptop) == [("text", True), ("totp", True)]


def test_a_phone_that_has_a_seed_too_many_is_told_of(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own()
    assert at_a_terminal(laptop, "enrol totp", NO_PIN, code_of()).code == 0

    def full(*_: object, **__: object) -> None:
        raise AemsealError("the disk is full")

    monkeypatch.setattr("aemseal.flows.generation.seal_generation", full)
    ran = at_a_terminal(laptop, "pin", NO_PIN, TEXT, code_of())
    assert ran.code == 1
    assert "the disk is full" in ran.told
    assert "is of use only if aemseal status names a totp" in ran.told
    assert secrets(laptop) == [("text", False), ("totp", False)]


def test_a_keyfile_gets_a_new_key_in_a_new_header(own: MakeLaptop) -> None:
    laptop = own()
    disk = LuksDisk(laptop.root, LUKS_UUID)
    passphrase = LUKS_PASSPHRASE.decode() + "\n"
    assert at_a_terminal(laptop, "enrol keyfile", PIN, PIN, passphrase).code == 0
    laptop.reboot()
    assert laptop.aemseal("confirm").code == 0
    before = disk.header
    ran = at_a_terminal(laptop, "pin", PIN, PIN, TEXT, "a wrong one\n")
    assert ran.code == 2
    assert "the passphrase does not open the LUKS device" in ran.told
    assert (disk.header, secrets(laptop)[0]) == (before, ("text", False))
    ran = at_a_terminal(laptop, "pin", PIN, PIN, TEXT, passphrase)
    assert ran.code == 0, ran.told
    assert "since the LUKS header is another one now" in ran.out
    assert disk.header != before
    assert disk.slots == [0, 1]
    assert secrets(laptop) == [("text", True), ("keyfile", True)]
    laptop.reboot()
    assert laptop.aemseal("confirm").code == 0
    ran = at_a_terminal(laptop, "recover", "accept\n", PIN, PIN, TEXT, passphrase)
    assert ran.code == 0, ran.told
    assert disk.slots == [0, 1]

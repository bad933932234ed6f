# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook on a real TPM implementation: it opens on accepted boots alone.

docs/slot-format.md is the contract; `held` asks of every run what is always true.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hook_bus import (
    CC_PCR_EVENT,
    CC_PCR_EXTEND,
    CC_UNSEAL,
    NEW,
    OLD,
    Boot,
    Wire,
    banks,
    boot,
)
from hook_outcome import CAP, held
from hook_program import HOOK, SHELLS, altered, of_shell
from hook_world import SECRET, Disks, Machine
from tpm_sim.swtpm import Swtpm

pytestmark = pytest.mark.tpm


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_an_accepted_boot_shows_the_secret(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET
    assert outcome.record["count"] == ["1"]
    assert outcome.record["branch"] == ["Xen-4.17.5"]
    assert [line.split()[0] for line in outcome.record["luks"]] == list(Disks.UUIDS)
    assert outcome.record["cap"] == [hashlib.sha256(CAP).hexdigest()]


@pytest.mark.parametrize(("name", "what"), [("old", OLD), ("new", NEW)])
def test_while_a_boot_is_staged_both_boots_show_the_secret(
    machine: Machine, name: str, what: Boot
) -> None:
    machine.count_up()
    machine.accept({"old": OLD, "new": NEW})
    machine.boot(what)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET
    assert outcome.record["branch"] == [name]
    assert outcome.record["count"] == ["2"]


def test_eight_boots_can_be_accepted_at_once(machine: Machine) -> None:
    boots = {f"boot-{number}": boot(bytes([number])) for number in range(8)}
    machine.accept(boots)
    machine.boot(boots["boot-7"])
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.record["branch"] == ["boot-7"]


def test_the_next_acceptance_beside_it_does_not_disturb(machine: Machine) -> None:
    machine.accept({"new": NEW}, count=2)  # the power went before the count
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.record["count"] == ["1"]


@pytest.mark.parametrize("algorithm", ["rsa2048", "ecc"])
@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_every_bank_and_either_kind_of_storage_key_will_do(
    tmp_path: Path, disks: Disks, bank: str, algorithm: str
) -> None:
    with Swtpm(banks("sha256", bank)) as tpm:
        tpm.power_on()
        machine = Machine(tmp_path / "machine", tpm, disks, bank)
        machine.enrol(algorithm)
        machine.boot(OLD)
        outcome = machine.hook()
        held(machine, outcome, "unsealed")
        assert outcome.stdout == SECRET


@pytest.mark.parametrize("size", [104, 105, 300, 1664])
def test_a_long_secret_comes_out_of_its_parts(machine: Machine, size: int) -> None:
    text = (b"line of text\n" * 200)[: size - 1] + b"."
    machine.write_vault(text)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.stdout == text + b"\n"


def test_a_part_that_ends_in_line_feeds_keeps_them(machine: Machine) -> None:
    text = b"a" * 126 + b"\n\n" + b"b"
    machine.write_vault(text)
    machine.boot(OLD)
    assert machine.hook().stdout == text + b"\n"


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_largest_generation_will_do(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.generation = 2**63 - 1
    machine.write_vault(SECRET)
    machine.accept({"old": OLD})
    machine.boot(OLD)
    held(machine, machine.hook(shell=shell), "unsealed")


def test_a_machine_without_luks_words_measures_nothing(machine: Machine) -> None:
    machine.cmdline.write_text("root=/dev/x\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted", measured=False)


def test_disks_are_found_on_a_command_line_of_any_shape(machine: Machine) -> None:
    first, second = Disks.UUIDS
    machine.cmdline.write_text(
        f"  rd.luks.uuid={second}\trd.luks.uuid=luks-{first} x * $(id) "
        f"xrd.luks.uuid=no rd.luks.uuid={second}"
    )
    machine.boot(OLD)
    held(machine, machine.hook(), "unsealed")


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_control_bytes_of_a_secret_do_not_reach_the_screen(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    every_control = bytes(range(10)) + bytes(range(11, 32)) + b"\x7f"
    machine.write_vault(b"a" + every_control + b"\x1b[2J\nb\x1b]0;x\x07")
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed")
    assert outcome.stdout == b"a[2J\nb]0;x\n"


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_secret_may_be_in_any_language_but_not_in_c1_controls(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    text = "Zażółć gęślą jaźń, ÀÉ 秘密 \u009b31m"
    doubled = b"\xc2\xc2\x9b\x9b"
    machine.write_vault(text.encode() + doubled)
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    assert outcome.stdout == text.replace("\u009b", "?").encode() + b"\xc2?\x9b\n"


def test_a_retired_boot_is_stale_with_the_old_files(machine: Machine) -> None:
    machine.count_up()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def test_a_retired_boot_is_refused_with_the_new_files(machine: Machine) -> None:
    machine.count_up()
    machine.accept({"new": NEW})
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_an_old_acceptance_given_the_new_count_is_refused(machine: Machine) -> None:
    machine.count_up()
    old = (machine.medium / "acceptance.1").read_text()
    (machine.medium / "acceptance.2").write_text(old)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")
    (machine.medium / "acceptance.2").write_text(old.replace("count 1", "count 2"))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


@pytest.mark.parametrize("pcr", [17, 18, 19])
def test_one_other_digest_in_one_pcr_is_refused(machine: Machine, pcr: int) -> None:
    machine.boot(replace(OLD, extends=(*OLD.extends, (pcr, b"more"))))
    held(machine, machine.hook(), "not-accepted")


def test_another_launched_block_is_refused(machine: Machine) -> None:
    machine.boot(replace(OLD, launched=b"another acm"))
    held(machine, machine.hook(), "not-accepted")


def test_another_luks_header_is_refused(machine: Machine, tmp_path: Path) -> None:
    disks = Disks(tmp_path / "other-disks")
    machine.disks = disks
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_boot_without_launch_is_named(machine: Machine) -> None:
    machine.boot(None)
    held(machine, machine.hook(), "no-launch")


def test_nothing_unseals_again_after_the_cap(machine: Machine) -> None:
    machine.boot(OLD)
    assert machine.hook().stdout == SECRET
    again = machine.hook()
    assert (again.code, again.word, again.stdout) == (10, "not-accepted", b"")
    assert machine.left_behind() == []


def test_no_four_bytes_of_the_secret_are_on_the_wire(machine: Machine) -> None:
    secret = bytes(os.urandom(4).hex(), "ascii") + b" is nowhere to be heard " * 8
    machine.write_vault(secret)
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(tcti=wire.tcti)
    assert outcome.stdout == secret.rstrip(b"\n") + b"\n"
    assert wire.codes.count(CC_UNSEAL) == 2
    heard = b"".join(command + response for _, command, response in wire.commands)
    for start in range(len(secret) - 3):
        assert secret[start : start + 4] not in heard


def test_the_wire_would_show_it_without_encryption(machine: Machine) -> None:
    """The control of the test above: an unsalted session is overheard."""
    machine.boot(OLD)
    unsalted = altered(
        machine, ('--policy-session -c "$etc/srk.tr"', "--policy-session")
    )
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(hook=unsalted, tcti=wire.tcti)
    assert outcome.stdout == SECRET
    assert any(SECRET in response for _, _, response in wire.commands)


def test_the_cap_is_the_first_extend_after_the_unsealing(machine: Machine) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        machine.hook(tcti=wire.tcti)
    codes = wire.codes
    assert codes.index(CC_UNSEAL) < codes.index(CC_PCR_EVENT)
    assert CC_UNSEAL not in codes[codes.index(CC_PCR_EVENT) :]
    assert codes.count(CC_PCR_EVENT) == 1
    assert codes.count(CC_PCR_EXTEND) == len(Disks.UUIDS)


@pytest.mark.parametrize(("managed", "most"), [(False, 58), (True, 48)])
def test_an_unsealing_costs_no_more_than_it_did(
    machine: Machine, managed: bool, most: int
) -> None:
    """A boot waits for every command; a real TPM takes 10 to 300 ms for each."""
    machine.boot(OLD)
    hook = altered(machine, ("*) managed=no", "*) managed=yes")) if managed else HOOK
    with Wire(machine.tpm, managed=managed) as wire:
        outcome = machine.hook(hook=hook, tcti=wire.tcti)
    held(machine, outcome, "unsealed")
    assert len(wire.codes) == most

# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook names the PCRs that differ, from values that anybody may have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hook_bus import NEW, OLD, Boot, Wire, banks, boot
from hook_outcome import Outcome, held
from hook_program import SHELLS, altered, of_shell
from hook_world import SECRET, STAGED_MARK, Branch, Disks, Machine
from tpm_sim.swtpm import Swtpm

pytestmark = pytest.mark.tpm

NOT_ACCEPTED = "aemseal: This boot is not one that you accepted"
DO_NOT_TYPE = " Do not type your disk passphrase.\n"
PLAIN = f"{NOT_ACCEPTED}.{DO_NOT_TYPE}"
CC_PCR_READ = 0x17E


def differ(words: str) -> str:
    return f"{NOT_ACCEPTED}: {words}.{DO_NOT_TYPE}"


def refused(machine: Machine, outcome: Outcome, screen: str) -> None:
    held(machine, outcome, "not-accepted")
    assert outcome.stderr == screen


def more(*pcrs: int) -> Boot:
    """The accepted boot, with one more digest in each of these."""
    return replace(OLD, extends=(*OLD.extends, *((pcr, b"more") for pcr in pcrs)))


@pytest.mark.parametrize(
    ("pcrs", "words"),
    [
        ((17,), "PCR 17 differs"),
        ((18,), "PCR 18 differs"),
        ((17, 18), "PCR 17 and PCR 18 differ"),
        ((17, 18, 19), "PCR 17, PCR 18 and PCR 19 differ"),
    ],
)
def test_the_pcrs_that_differ_are_named(
    machine: Machine, pcrs: tuple[int, ...], words: str
) -> None:
    machine.boot(more(*pcrs))
    refused(machine, machine.hook(), differ(words))


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_every_shell_names_them(machine: Machine, shell: tuple[str, ...]) -> None:
    machine.boot(more(17, 19))
    refused(machine, machine.hook(shell=shell), differ("PCR 17 and PCR 19 differ"))


def test_a_retired_boot_is_refused_by_its_xen(machine: Machine) -> None:
    machine.count_up()
    machine.accept({"new": NEW})
    machine.boot(OLD)
    refused(machine, machine.hook(), differ("PCR 18 differs"))


def test_another_luks_header_is_pcr_13(machine: Machine, tmp_path: Path) -> None:
    machine.disks = Disks(tmp_path / "other-disks")
    machine.boot(OLD)
    refused(machine, machine.hook(), differ("PCR 13 differs"))


def test_a_second_run_finds_the_cap_of_the_first(machine: Machine) -> None:
    machine.boot(OLD)
    held(machine, machine.hook(), "unsealed")
    assert machine.hook().stderr == differ("PCR 13 differs")


@pytest.mark.parametrize("where", ["accepted", "staged"])
def test_the_nearest_branch_is_the_one_held_against(
    machine: Machine, where: str
) -> None:
    far, near = more(17, 18), replace(OLD, extends=OLD.extends[:2])
    machine.accept(
        {"far": far, "near": near} if where == "accepted" else {"far": far},
        {} if where == "accepted" else {"near": near},
    )
    machine.boot(OLD)
    refused(machine, machine.hook(), differ("PCR 19 differs"))


def test_of_two_that_are_as_near_the_first_is_taken(machine: Machine) -> None:
    machine.accept({"one": more(19), "other": more(18)})
    machine.boot(OLD)
    refused(machine, machine.hook(), differ("PCR 19 differs"))


def test_the_last_of_eight_can_be_the_nearest(machine: Machine) -> None:
    far = {f"boot-{number}": Boot(bytes([number]), NEW.extends) for number in range(7)}
    machine.accept({**far, "near": more(19)})
    machine.boot(OLD)
    refused(machine, machine.hook(), differ("PCR 19 differs"))


@pytest.mark.parametrize("bank", ["sha1", "sha384"])
def test_every_bank_has_its_values(tmp_path: Path, disks: Disks, bank: str) -> None:
    with Swtpm(banks("sha256", bank)) as tpm:
        tpm.power_on()
        machine = Machine(tmp_path / "machine", tpm, disks, bank)
        machine.enrol()
        machine.boot(NEW)
        refused(machine, machine.hook(), differ("PCR 18 differs"))


@pytest.mark.parametrize(
    "pcrs", ["19,18,17,13", "13,17,18,19,18", "0,1,2,3,4,5,6,7,8,13,17,18,19"]
)
def test_the_selection_is_that_of_the_initramfs_in_the_tpms_order(
    machine: Machine, pcrs: str
) -> None:
    """More than the eight PCRs that a TPM tells at once, too."""
    conf = machine.etc / "hook.conf"
    conf.write_text(f"aemseal-hook 1\nbank sha256\npcrs {pcrs}\n")
    if pcrs.startswith("0"):
        digest, name, values = machine.branch("old", OLD)
        zeros = "00" * 32 + ","
        machine.write_acceptance([(digest, name, zeros * 9 + values)])
        machine.boot(more(19))
        refused(machine, machine.hook(), differ("PCR 19 differs"))
    else:
        machine.boot(NEW)
        refused(machine, machine.hook(), differ("PCR 18 differs"))


# --- values that are not the boot's ---

Forge = Callable[[Machine, Branch], str]


def values_of(what: Boot) -> Forge:
    return lambda machine, branch: machine.branch("x", what)[2]


FORGED: dict[str, tuple[Forge, str]] = {
    "those of this very boot": (values_of(NEW), PLAIN),
    "none": (lambda machine, branch: "-", PLAIN),
    "one PCR less": (lambda machine, branch: branch[2].rpartition(",")[0], PLAIN),
    "one PCR more": (lambda machine, branch: f"{branch[2]},{'00' * 32}", PLAIN),
    "of SHA-1": (lambda machine, branch: ",".join(["00" * 20] * 4), PLAIN),
    "of SHA-512": (lambda machine, branch: ",".join(["00" * 64] * 4), PLAIN),
    "of another boot": (values_of(more(18, 19)), differ("PCR 18 and PCR 19 differ")),
    "zeros": (
        lambda machine, branch: ",".join(["00" * 32] * 4),
        differ("PCR 13, PCR 17, PCR 18 and PCR 19 differ"),
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_values_change_the_hint_and_nothing_else(
    machine: Machine, kind: str
) -> None:
    """No signature covers them, so an accepted boot does not ask what they are."""
    forge, screen = FORGED[kind]
    digest, name, values = machine.branch("old", OLD)
    forged = forge(machine, (digest, name, values))
    acceptance = machine.medium / "acceptance.1"
    acceptance.write_text(acceptance.read_text().replace(values, forged))
    machine.boot(NEW)
    refused(machine, machine.hook(), screen)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET


def test_the_right_values_make_no_branch_of_another_digest(machine: Machine) -> None:
    digest, name, _ = machine.branch("old", OLD)
    _, _, theirs = machine.branch("new", NEW)
    machine.write_acceptance([(digest, name, theirs)])
    machine.boot(NEW)
    refused(machine, machine.hook(), PLAIN)


def test_another_reason_than_the_pcrs_names_none(machine: Machine) -> None:
    """The boot is an accepted one; the signature is not K's."""
    acceptance = machine.medium / "acceptance.1"
    text = acceptance.read_text().rstrip("\n")
    acceptance.write_text(text[:-1] + f"{int(text[-1], 16) ^ 1:x}\n")
    machine.boot(OLD)
    refused(machine, machine.hook(), PLAIN)


# --- what can go wrong while it is looked for ---

TROUBLE = {
    "no tool": "exit 127",
    "nothing told": ': >"$3"',
    "too little": 'head -c 127 /dev/zero >"$3"',
    "too much": 'head -c 4096 /dev/zero >"$3"',
    "a TPM that hangs": "sleep 100",
    "killed": "kill -9 $$",
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_without_the_pcrs_the_boot_is_refused_all_the_same(
    machine: Machine, kind: str
) -> None:
    """Where the reading of the selection fails; that of PCR 17 alone is another's."""
    shims = machine.folder / "shims"
    shims.mkdir()
    tool = shims / "tpm2_pcrread"
    tool.write_text(
        '#!/bin/sh\ncase $1 in *:17) exec /usr/bin/tpm2_pcrread "$@" ;; esac\n'
        f"{TROUBLE[kind]}\n"
    )
    tool.chmod(0o755)
    hook = altered(
        machine, ("\nPATH=", f"\nPATH={shims}:"), ("tool_seconds=60", "tool_seconds=3")
    )
    machine.boot(NEW)
    refused(machine, machine.hook(hook=hook), PLAIN)


def test_only_a_refused_boot_pays_for_it(machine: Machine) -> None:
    for what, reads in ((OLD, 1), (NEW, 3)):  # one is tpm2_policypcr's own
        machine.boot(what)
        with Wire(machine.tpm) as wire:
            machine.hook(tcti=wire.tcti)
        assert wire.codes.count(CC_PCR_READ) == reads


# --- the separator ---


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_boot_from_before_a_staged_update_is_told(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.accept({"old": OLD}, {"new": NEW})
    for what, waits in ((OLD, True), (NEW, False)):
        machine.boot(what)
        outcome = machine.hook(shell=shell)
        held(machine, outcome, "unsealed", before_update=waits)
        assert outcome.stdout.endswith(SECRET)
        assert outcome.record["branch"] == ["old" if waits else "new"]


def test_every_accepted_boot_is_from_before_it_and_every_staged_one_is_not(
    machine: Machine,
) -> None:
    spare, newer = more(19), more(18)
    machine.accept({"old": OLD, "spare": spare}, {"new": NEW, "newer": newer})
    for what, waits in ((OLD, True), (spare, True), (NEW, False), (newer, False)):
        machine.boot(what)
        held(machine, machine.hook(), "unsealed", before_update=waits)


def test_after_the_confirm_nothing_waits(machine: Machine) -> None:
    machine.accept({"old": OLD}, {"new": NEW})
    machine.count_up()
    machine.accept({"new": NEW})
    machine.boot(NEW)
    held(machine, machine.hook(), "unsealed")


def test_a_boot_that_is_not_accepted_is_not_said_to_be_from_before_it(
    machine: Machine,
) -> None:
    machine.accept({"old": OLD}, {"new": NEW})
    machine.boot(more(18))
    refused(machine, machine.hook(), differ("PCR 18 differs"))


@pytest.mark.parametrize("typed", ["123456", ""])
def test_it_is_told_whatever_became_of_the_pin(guarded: Machine, typed: str) -> None:
    guarded.accept({"old": OLD}, {"new": NEW})
    guarded.guard_all()
    guarded.person.types(typed, typed, typed)
    word = "wrong-pin" if typed else "no-pin"
    held(guarded, guarded.hook(), word, before_update=True)


def lines_of(machine: Machine) -> list[str]:
    return (machine.medium / "acceptance.1").read_text().splitlines()


def at_mark(lines: list[str]) -> int:
    return lines.index(f"branch {STAGED_MARK.hex()} staged")


def left_out(lines: list[str]) -> list[str]:
    at = at_mark(lines)
    return [*lines[:at], *lines[at + 2 :]]


def moved(lines: list[str]) -> list[str]:
    """One branch to the back: what was staged seems to be accepted."""
    at = at_mark(lines)
    return [*lines[:at], *lines[at + 2 : at + 4], *lines[at : at + 2], *lines[at + 4 :]]


def another(lines: list[str]) -> list[str]:
    """A mark that is none, so that nothing would be said."""
    return [line.replace(STAGED_MARK.hex(), "00" * 32) for line in lines]


@pytest.mark.parametrize("forge", [left_out, moved, another])
def test_nobody_takes_the_mark_away(
    machine: Machine, forge: Callable[[list[str]], list[str]]
) -> None:
    """The old Xen, on a medium that says nothing of the new one: no boot at all."""
    machine.accept({"old": OLD}, {"new": NEW, "newer": more(18)})
    machine.write("acceptance.1", *forge(lines_of(machine)))
    for what in (OLD, NEW):
        machine.boot(what)
        refused(machine, machine.hook(), PLAIN)


def test_nobody_puts_a_mark_in(machine: Machine) -> None:
    machine.accept({"old": OLD, "new": NEW})
    lines = lines_of(machine)
    mark = [f"branch {STAGED_MARK.hex()} staged", "values -"]
    machine.write("acceptance.1", *lines[:6], *mark, *lines[6:])
    for what in (OLD, NEW):
        machine.boot(what)
        refused(machine, machine.hook(), PLAIN)


def test_eight_boots_leave_no_room_for_a_mark(machine: Machine) -> None:
    boots = {f"boot-{number}": boot(bytes([number])) for number in range(7)}
    machine.accept({**boots, "old": OLD})
    machine.boot(OLD)
    held(machine, machine.hook(), "unsealed")
    machine.accept({**boots, "old": OLD}, {"new": NEW})
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")

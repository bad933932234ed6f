# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way out of the boot hook caps: signals, broken tools, errors of the shell."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hook_bus import (
    CC_LOAD,
    CC_PCR_EVENT,
    CC_PCR_EXTEND,
    CC_START_AUTH_SESSION,
    CC_UNSEAL,
    OLD,
    Wire,
    extended,
)
from hook_keys import run
from hook_outcome import CAP, EXITS, assert_closed, held
from hook_program import HOOK, SHELLS, altered, of_shell, program
from hook_world import SECRET, Machine

pytestmark = pytest.mark.tpm


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "code", [CC_PCR_EXTEND, CC_START_AUTH_SESSION, CC_LOAD, CC_UNSEAL, CC_PCR_EVENT]
)
def test_a_signal_at_any_time_caps(
    machine: Machine, code: int, number: signal.Signals, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        wire.at(code, lambda: process.send_signal(number))
        process = machine.start_hook(shell=shell, tcti=wire.tcti)
        outcome = machine.finish_hook(process)
    if code == CC_PCR_EVENT:  # too late to stop it, and it need not be stopped
        held(machine, outcome, "unsealed")
        assert outcome.stdout == SECRET
    else:
        held(machine, outcome, "failed")


def descendants(pid: int) -> list[int]:
    """The processes below this one, as far as they are there still."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        found = [int(word) for word in children.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*found, *(each for child in found for each in descendants(child))]


@pytest.mark.parametrize(
    "code", [CC_START_AUTH_SESSION, CC_LOAD, CC_UNSEAL, CC_PCR_EVENT]
)
def test_a_signal_to_the_hook_and_its_tools_caps(machine: Machine, code: int) -> None:
    """What systemd does to a unit that it stops: every process gets the signal."""
    machine.boot(OLD)

    def stop_the_unit() -> None:
        for pid in [process.pid, *descendants(process.pid)]:
            with suppress(ProcessLookupError):  # ended with the tool around it
                os.kill(pid, signal.SIGTERM)

    with Wire(machine.tpm) as wire:
        wire.at(code, stop_the_unit)
        process = machine.start_hook(tcti=wire.tcti)
        outcome = machine.finish_hook(process)
    assert_closed(outcome)
    assert machine.left_behind() == []
    if code == CC_PCR_EVENT:  # the cap's own tool was stopped: it is tried again
        capped_twice = extended("sha256", machine.pcr13_capped(), CAP)
        assert machine.pcr(13) in (machine.pcr13_capped(), capped_twice)
    else:
        held(machine, outcome, "failed")


TOOLS_OF_THE_HOOK = sorted(
    {
        tool
        for path in program(HOOK)
        for tool in re.findall(r"\b(tpm2_[a-z]+)\b", path.read_text())
    }
    | {"cryptsetup", "timeout", "head", "tr", "od", "sort", "sha256sum", "mkdir"}
)


NOT_NEEDED = (
    *("tpm2_readpublic", "tpm2_pcrread"),  # asked only when refused
    *("tpm2_policyauthvalue", "tpm2_policyrestart"),  # of the PIN
)


def with_broken(
    machine: Machine, tool: str, script: str, *edits: tuple[str, str]
) -> Path:
    """A copy of the hook that finds this script in the place of one tool."""
    shims = machine.folder / "shims"
    shims.mkdir()
    (shims / tool).write_text(f"#!/bin/sh\n{script}\n")
    (shims / tool).chmod(0o755)
    return altered(machine, ("\nPATH=", f"\nPATH={shims}:"), *edits)


@pytest.mark.parametrize("tool", TOOLS_OF_THE_HOOK)
def test_no_tool_that_fails_lets_the_secret_out_uncapped(
    machine: Machine, tool: str
) -> None:
    machine.boot(OLD)
    outcome = machine.hook(hook=with_broken(machine, tool, "exit 1"))
    capped = machine.pcr(13) in (
        machine.pcr13_capped(),
        machine.pcr13_capped(measured=False),
    )
    # Without these two no cap is possible.
    assert capped == (tool not in ("timeout", "tpm2_pcrevent")), outcome
    if tool in NOT_NEEDED:
        assert outcome.stdout == SECRET
    else:
        assert outcome.code != 0
        assert_closed(outcome)


@pytest.mark.parametrize(
    "tool",
    ["cryptsetup", "tpm2_send", "tpm2_startauthsession", "tpm2_unseal", "head"],
)
def test_a_tool_that_hangs_is_ended_and_the_boot_capped(
    machine: Machine, tool: str
) -> None:
    machine.boot(OLD)
    hook = with_broken(
        machine, tool, "exec sleep 1000", ("tool_seconds=60", "tool_seconds=1")
    )
    outcome = machine.hook(hook=hook)
    assert outcome.code not in (0, EXITS["cap-failed"])
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=tool != "cryptsetup")


def test_without_the_cap_nothing_is_shown(machine: Machine) -> None:
    machine.boot(OLD)
    outcome = machine.hook(hook=with_broken(machine, "tpm2_pcrevent", "exit 1"))
    assert (outcome.code, outcome.word) == (EXITS["cap-failed"], "cap-failed")
    assert_closed(outcome)
    assert "cap" not in outcome.record
    assert machine.left_behind() == []


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("place", ["read_counter\n", "                satisfy\n"])
def test_an_error_of_the_shell_itself_caps(
    machine: Machine, place: str, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    hook = altered(machine, (f"\n{place}", f'\n: "$never_set"\n{place}'))
    outcome = machine.hook(shell=shell, hook=hook)
    held(machine, outcome, "failed")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_the_tools_of_busybox_will_do(machine: Machine) -> None:
    busybox = str(shutil.which("busybox"))
    applets = machine.folder / "applets"
    applets.mkdir()
    for applet in [
        "head",
        "tr",
        "od",
        "sed",
        "sort",
        "sha256sum",
        "timeout",
        "mkdir",
        "mv",
        "rm",
    ]:
        (applets / applet).symlink_to(busybox)
    hook = altered(machine, ("\nPATH=", f"\nPATH={applets}:"))
    machine.write_vault(b"\x1b[2Jlong " * 30)
    machine.boot(OLD)
    outcome = machine.hook(shell=(busybox, "sh"), hook=hook)
    held(machine, outcome, "unsealed")
    assert outcome.stdout == b"[2Jlong " * 30 + b"\n"
    for data in (bytes(4096), bytes(range(256)), b"a" * (1 << 20)):
        (machine.medium / "vault").write_bytes(data)
        machine.boot(OLD)
        held(machine, machine.hook(shell=(busybox, "sh"), hook=hook), "bad-medium")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_finds_nothing() -> None:
    run("shellcheck", "--external-sources", "--check-sourced")(HOOK)

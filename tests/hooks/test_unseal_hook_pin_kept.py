# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the PIN goes: when it is asked for, who sees it, and what is left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hook_bus import CC_PCR_EVENT, CC_POLICY_AUTH_VALUE, CC_UNSEAL, Wire
from hook_keys import run
from hook_outcome import EXITS, assert_closed, held
from hook_person import PIN, QUESTION
from hook_program import SHELLS, altered, of_shell
from hook_world import BOTH, Machine

pytestmark = pytest.mark.tpm


def processes() -> list[tuple[str, bytes, bytes]]:
    """The name, arguments and environment of everything that runs, but for us."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append(
                    (
                        (entry / "comm").read_text().strip(),
                        (entry / "cmdline").read_bytes(),
                        (entry / "environ").read_bytes(),
                    )
                )
            except OSError:
                continue  # ended meanwhile
    return found


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_pin_is_seen_nowhere_but_by_tpm2_unseal(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    """ADR 8: as hex in the arguments of one tool, and in no environment."""
    seen: list[tuple[str, bytes, bytes]] = []
    guarded.person.types(PIN)
    with Wire(guarded.tpm) as wire:
        wire.before = lambda code: seen.extend(processes())
        exported = ("env", *(f"{each}=x" for each in ("typed", "seed", "text", "each")))
        outcome = guarded.hook(shell=(*exported, *shell), tcti=wire.tcti)
    held(guarded, outcome, "unsealed", opened=BOTH)
    heard = b"".join(command + response for _, command, response in wire.commands)
    as_hex = PIN.encode().hex().encode()
    for secret in (PIN.encode(), as_hex):
        assert secret not in heard
        assert not [name for name, _, environ in seen if secret in environ]
    assert not [name for name, line, _ in seen if PIN.encode() in line]
    told = {name for name, line, _ in seen if as_hex in line}
    assert told == {"timeout", "tpm2_unseal"}


def test_the_pin_comes_after_every_other_policy_and_before_the_cap(
    guarded: Machine,
) -> None:
    guarded.guard_all()
    asked_after: list[int] = []
    guarded.person.types(PIN)
    with Wire(guarded.tpm) as wire:

        def before(code: int) -> None:
            if not guarded.person.heard:
                asked_after.append(code)

        wire.before = before
        guarded.hook(tcti=wire.tcti)
    assert CC_POLICY_AUTH_VALUE in asked_after
    assert CC_UNSEAL not in asked_after
    assert CC_PCR_EVENT not in asked_after


def test_the_pin_and_the_secrets_are_overwritten_before_they_are_removed(
    guarded: Machine,
) -> None:
    """The person here keeps the work files by a second name."""
    work, kept = guarded.run / "work", guarded.folder / "kept"
    kept.mkdir()
    links = [f"ln {work}/{name} {kept}" for name in ("answer", "secret.text")]
    guarded.person.types(PIN, before="; ".join(links))
    held(guarded, guarded.hook(), "unsealed", opened=BOTH)
    for name in ("answer", "secret.text"):
        assert (kept / name).read_bytes() == bytes(2048)


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_signal_while_the_pin_is_typed_caps(
    guarded: Machine, shell: tuple[str, ...]
) -> None:
    """As systemd ends a unit: the hook and the program get it both."""
    guarded.person.does('kill -TERM "$(cat hook)" $$; sleep 5')
    asker = guarded.person.program
    asker.write_text(asker.read_text().replace("cat hook", f"cat {asker}.hook"))
    process = guarded.start_hook(shell=shell)
    Path(f"{asker}.hook").write_text(str(process.pid))
    outcome = guarded.finish_hook(process)
    held(guarded, outcome, "failed")
    assert guarded.person.heard == [QUESTION]


@pytest.mark.parametrize("tool", ["tpm2_policyauthvalue", "tpm2_load", "od", "head"])
def test_a_tool_that_fails_keeps_what_has_a_pin_in(guarded: Machine, tool: str) -> None:
    guarded.guard_all()
    guarded.person.types(PIN)
    shims = guarded.folder / "shims"
    shims.mkdir()
    (shims / tool).write_text("#!/bin/sh\nexit 1\n")
    (shims / tool).chmod(0o755)
    hook = altered(guarded, ("\nPATH=", f"\nPATH={shims}:"))
    outcome = guarded.hook(hook=hook)
    assert outcome.code not in (0, EXITS["wrong-pin"], EXITS["no-pin"])
    assert_closed(outcome)
    assert guarded.pcr(13) == guarded.pcr13_capped()
    assert [each.name for each in guarded.run.iterdir()] == ["record"]


def test_without_systemd_the_console_is_asked_and_shows_no_pin(
    guarded: Machine,
) -> None:
    master, slave = os.openpty()
    shims = guarded.folder / "shims"
    shims.mkdir()
    for tool in (*Path("/usr/bin").iterdir(), *Path("/usr/sbin").iterdir()):
        if tool.name != "systemd-ask-password" and not (shims / tool.name).exists():
            (shims / tool.name).symlink_to(tool)
    hook = altered(
        guarded,
        ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={shims}"),
        ("console=/dev/console", f"console={os.ttyname(slave)}"),
    )
    guarded.without_asker = True
    process = guarded.start_hook(hook=hook)
    screen = b""
    while QUESTION.encode() not in screen:
        screen += os.read(master, 1024)
    os.write(master, PIN.encode() + b"\n")
    held(guarded, guarded.finish_hook(process), "unsealed", opened=BOTH)
    os.set_blocking(master, False)
    screen += os.read(master, 1024)
    assert PIN.encode() not in screen
    assert run("stty", "-F", os.ttyname(slave), "-a")().find(b" -echo ") < 0
    os.close(slave)
    os.close(master)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's verdicts: what holds is counted, and what does not is never passed over.

The stories themselves are told by `make demo`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tpm_sim import demo
from tpm_sim.cache import Cache
from tpm_sim.demo_laptop import (
    SECRET,
    Ran,
    Story,
    is_dead_copy,
    is_not_sealed_yet,
    is_refused,
    is_shown,
    is_shut_by_pin,
    rebuilt,
)
from tpm_sim.demo_tboot import choose_update
from tpm_sim.initramfs import HookRun
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY

SHOWN = HookRun(0, f"{SECRET}\n", "")
REFUSED = HookRun(10, "", "not one that you accepted\n")
WRONG_PIN = HookRun(22, "", "the PIN was wrong\n")
STALE = HookRun(16, "", "the medium is older\n")
NO_VAULT = HookRun(15, "", "no vault\n")


def tells(*verdicts: bool) -> demo.Tell:
    def tell(machine: Machine, story: Story) -> None:
        for held in verdicts:
            story.step(f"a step of {machine.model.name}", held=held)

    return tell


def stories(
    monkeypatch: pytest.MonkeyPatch, first: demo.Tell, second: demo.Tell
) -> None:
    two = ((TBOOT_DA, "one laptop", first), (TBOOT_LEGACY, "another", second))
    monkeypatch.setattr(demo, "STORIES", two)


def test_the_last_line_counts_the_steps_of_all_laptops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stories(monkeypatch, tells(True, True), tells(True))
    assert demo.main([]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "== tboot-da: one laptop"
    assert told[1] == "  held    a step of tboot-da"
    assert told[-1] == "demo: 3 of 3 steps held"


def test_one_step_that_does_not_hold_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stories(monkeypatch, tells(True, False), tells(True))
    assert demo.main([]) == 1
    told = capsys.readouterr().out.splitlines()
    assert "  FAILED  a step of tboot-da" in told
    assert told[-1] == "demo: 2 of 3 steps held"


def test_a_laptop_that_is_named_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stories(monkeypatch, tells(False), tells(True))
    assert demo.main(["tboot-legacy"]) == 0
    assert "tboot-da" not in capsys.readouterr().out


def test_a_name_of_no_laptop_is_not_a_demo_that_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(["tboot"]) == 2
    assert capsys.readouterr().out == (
        "demo: no laptop tboot; there are tboot-da, tboot-legacy, trenchboot-skinit\n"
    )


@pytest.mark.parametrize(
    ("found", "verdicts"),
    [
        (SHOWN, "shown"),
        (REFUSED, "refused, dead copy"),
        (NO_VAULT, "not sealed yet"),
        (WRONG_PIN, "shut by PIN"),
        (STALE, "dead copy"),
        (None, ""),
        (HookRun(0, "another text", ""), ""),
        (HookRun(10, SECRET, ""), ""),
        (HookRun(15, "", f"no {SECRET}"), ""),
        (HookRun(16, SECRET, ""), ""),
        (HookRun(22, SECRET, ""), ""),
        (HookRun(1, "", "a machine failure"), ""),
    ],
)
def test_a_boot_is_judged_by_what_the_hook_showed(
    found: HookRun | None, verdicts: str
) -> None:
    judged = {
        "shown": is_shown(found),
        "refused": is_refused(found),
        "not sealed yet": is_not_sealed_yet(found),
        "shut by PIN": is_shut_by_pin(found),
        "dead copy": is_dead_copy(found),
    }
    assert ", ".join(name for name, held in judged.items() if held) == verdicts


def test_another_secret_than_the_demos_first_may_be_waited_for() -> None:
    later = HookRun(0, "two otters\n", "")
    assert is_shown(later, "two otters")
    assert not is_shown(later)


def test_lines_that_are_left_out_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    Ran(4, "", "one\ntwo\nthree\n").show_end(2)
    assert capsys.readouterr().out == "    ...\n    two\n    three\n"
    Ran(4, "", "two\nthree\n").show_end(2)
    assert capsys.readouterr().out == "    two\n    three\n"


def test_a_rebuilt_kernel_is_as_long_and_says_another_build() -> None:
    kernel = b"\x90" * 99 + b"6.1.0-56-amd64 (a builder) #1 SMP PREEMPT" + b"\x90" * 99
    assert rebuilt(kernel) == kernel.replace(b"#1 SMP", b"#2 SMP")


def a_cache(folder: Path, *names: str) -> Cache:
    for name in names:
        boot = folder / name / "boot"
        boot.mkdir(parents=True)
        file = "vmlinuz" if name.startswith("linux") else "xen"
        (boot / f"{file}-of-{name}.gz").write_bytes(b"")
        (folder / name / "VERSION").write_text(f"4.17-{name}\n", encoding="ascii")
    return Cache(folder)


def test_two_xens_are_the_update(tmp_path: Path) -> None:
    update = choose_update(a_cache(tmp_path, "xen-old", "xen-new", "linux"))
    assert (update.role, update.known_by) == ("xen", "4.17-xen-old")
    assert update.old.name == "xen-of-xen-old.gz"
    assert update.new.name == "xen-of-xen-new.gz"


def test_with_one_xen_the_update_is_another_kernel_and_says_why(tmp_path: Path) -> None:
    update = choose_update(a_cache(tmp_path, "xen-old", "linux", "linux-new"))
    assert (update.role, update.known_by) == ("kernel", "vmlinuz")
    assert update.words == (
        "kernel vmlinuz-of-linux.gz -> vmlinuz-of-linux-new.gz, since the archives "
        "offer only one Xen (4.17-xen-old)"
    )

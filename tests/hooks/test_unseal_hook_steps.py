# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook takes its steps from the folder it is in, whole, or opens nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hook_bus import OLD
from hook_outcome import EXITS, Outcome, assert_closed, held
from hook_program import HOOK, SHELLS, STEPS, copy_of_hook, of_shell
from hook_world import SECRET, Machine

pytestmark = pytest.mark.tpm

INTERRUPTED = (
    "aemseal: The check of this boot was interrupted. "
    "Do not type your disk passphrase.\n"
)


def assert_capped_unchecked(machine: Machine, outcome: Outcome) -> None:
    """Check what must be true where the hook has not all of its steps."""
    assert outcome == Outcome(EXITS["failed"], b"", INTERRUPTED)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)
    assert machine.left_behind() == []
    assert not machine.run.exists()


def planted(folder: Path) -> Path:
    """A folder with files named as the steps are, that leave a mark when read."""
    (folder / "lib").mkdir(parents=True)
    for step in STEPS:
        text = f"{step.read_text()}\n: >'{folder}/taken'\n"
        (folder / "lib" / step.name).write_text(text)
        (folder / step.name).write_text(text)
    return folder


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.stem)
def test_without_one_of_its_steps_the_hook_caps_and_opens_nothing(
    machine: Machine, step: Path, shell: tuple[str, ...]
) -> None:
    hook = copy_of_hook(machine.folder / "installed")
    (hook.parent / "lib" / step.name).unlink()
    machine.boot(OLD)
    assert_capped_unchecked(machine, machine.hook(shell=shell, hook=hook))


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.stem)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_step_that_was_cut_opens_nothing(
    machine: Machine, step: Path, kept: float, shell: tuple[str, ...]
) -> None:
    hook = copy_of_hook(machine.folder / "installed")
    whole = step.read_bytes()
    (hook.parent / "lib" / step.name).write_bytes(whole[: int(len(whole) * kept)])
    machine.boot(OLD)
    assert_capped_unchecked(machine, machine.hook(shell=shell, hook=hook))


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_step_that_ends_after_a_function_opens_nothing(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    """What was cut between two functions is good shell, with a function missing."""
    hook = copy_of_hook(machine.folder / "installed")
    unseal = hook.parent / "lib" / "unseal.sh"
    unseal.write_text(unseal.read_text().split("\nunseal() {")[0])
    machine.boot(OLD)
    assert_capped_unchecked(machine, machine.hook(shell=shell, hook=hook))


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_step_that_is_a_folder_opens_nothing(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    hook = copy_of_hook(machine.folder / "installed")
    step = hook.parent / "lib" / "slot.sh"
    step.unlink()
    step.mkdir()
    machine.boot(OLD)
    assert_capped_unchecked(machine, machine.hook(shell=shell, hook=hook))


def test_without_tpm_and_steps_nothing_is_opened(machine: Machine) -> None:
    hook = copy_of_hook(machine.folder / "installed")
    (hook.parent / "lib" / "screen.sh").unlink()
    machine.tpm.power_off()
    outcome = machine.hook(hook=hook)
    assert outcome.code == EXITS["failed"]
    assert_closed(outcome)


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_steps_are_not_those_of_the_working_directory_or_the_medium(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    here = planted(machine.folder / "here")
    for name in ("lib", *(step.name for step in STEPS)):
        (machine.medium / name).symlink_to(here / name)
    moved = ("env", "-C", str(here), f"PATH={here}:/usr/bin:/bin")
    held(machine, machine.hook(shell=(*moved, *shell)), "unsealed")
    hook = copy_of_hook(machine.folder / "installed")
    (hook.parent / "lib" / "unseal.sh").unlink()
    machine.boot(OLD)
    (machine.run / "record").unlink()
    machine.run.rmdir()
    assert_capped_unchecked(machine, machine.hook(shell=(*moved, *shell), hook=hook))
    assert not (here / "taken").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_a_hook_without_a_folder_in_its_name_opens_nothing(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    folder = copy_of_hook(machine.folder / "installed").parent
    machine.boot(OLD)
    shell = ("env", "-C", str(folder), *shell)
    assert_capped_unchecked(machine, machine.hook(shell=shell, hook=Path(HOOK.name)))


def test_the_hook_may_be_found_on_the_path(machine: Machine) -> None:
    folder = copy_of_hook(machine.folder / "installed").parent
    machine.boot(OLD)
    shell = ("env", f"PATH={folder}:/usr/bin:/bin")
    outcome = machine.hook(shell=shell, hook=Path(HOOK.name))
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("named", ["lib/..", "../a folder"])
def test_a_folder_named_from_the_working_directory_will_do(
    machine: Machine, named: str, shell: tuple[str, ...]
) -> None:
    folder = copy_of_hook(machine.folder / "a folder").parent
    machine.boot(OLD)
    hook = Path(named, HOOK.name)
    outcome = machine.hook(shell=("env", "-C", str(folder), *shell), hook=hook)
    held(machine, outcome, "unsealed")

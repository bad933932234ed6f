# SPDX-License-Identifier: GPL-2.0-or-later
"""1,000 random mutations of a machine by someone without its encrypted root.

Never a release unless the boot is the accepted one and all that the TPM judges in the
files is genuine. Mutation n is the same in every run: its seed is its number.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from mutated_hook import run_hook
from mutated_machine import PIN, Mutant, MutatedMachine
from mutations import BOOT, CHIP, FILES, another_pin, mutate
from unsealer import RefusedError, Unsealer, connected
from vault_world import SECRET, World

from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile
from aemseal.words.errors import AemsealError

pytestmark = pytest.mark.tpm

MUTATIONS, AT_ONCE = 1000, 100
BY_THE_HOOK = 60
EXITS = (0, 10, 11, 13, 15, 16, 17)
"""What the hook may say of a mutated machine (docs/slot-format.md): that it is the
accepted boot, or is not, or was not launched; that the TPM was changed; that the medium
has no vault, is stale or damaged. Not lockout, and no failure of its own."""

EVERY_FILE_EACH = 25
"""One of so many is also tried with every file that was ever on the media."""


@pytest.mark.parametrize("first", range(0, MUTATIONS, AT_ONCE))
def test_a_mutated_machine_releases_nothing_to_another_boot_or_for_other_files(
    tmp_path: Path, first: int
) -> None:
    kinds: Counter[str] = Counter()
    opened = 0
    with World(tmp_path) as world:
        # Every second machine has a PIN, which is typed right unless it is mutated.
        machine = MutatedMachine(world, PIN if first % (2 * AT_ONCE) else b"")
        assert opens_unmutated(machine)
        for number in range(first, first + AT_ONCE):
            with machine.mutant() as mutant:
                mutate(mutant, Random(number))
                machine.boot(mutant)
                told = f"mutation {number}: {mutant.done}"
                if machine.released(mutant):
                    assert machine.is_accepted(mutant), told
                    assert machine.is_genuine(mutant), told
                    assert mutant.pin == machine.pin, told
                    opened += 1
                elif number % EVERY_FILE_EACH == 0 and not machine.is_accepted(mutant):
                    assert not opens_with_any_file(machine, mutant), told
            kinds.update(mutant.done)
    assert opened < AT_ONCE // 4
    print(f"{AT_ONCE} mutations, {opened} of which left the accepted boot as it was")
    assert len(kinds) == len({*BOOT, *FILES, *CHIP}), kinds


def opens_unmutated(machine: MutatedMachine) -> bool:
    with machine.mutant() as mutant:
        machine.boot(mutant)
        return machine.released(mutant) and machine.is_genuine(mutant)


def opens_with_any_file(machine: MutatedMachine, mutant: Mutant) -> bool:
    """Whether any vault with any acceptance, old, new or mutated, opens this boot."""
    files = [*machine.older]
    for folder in mutant.media.values():
        files += folder.items()
    vaults, acceptances = [], []
    for name, data in files:
        try:
            if name == VAULT_FILE:
                vaults.append(VaultFile.parse(data))
            else:
                acceptances.append(Acceptance.parse(data))
        except AemsealError:
            continue
    with connected(machine.world.chip.tcti) as esapi:
        for vault in vaults:
            for acceptance in acceptances:
                with Unsealer(esapi, vault, acceptance, typed=machine.pin) as unsealer:
                    try:
                        unsealer.secret()
                    except RefusedError:
                        continue
                    return True
    return False


@pytest.mark.skipif(shutil.which("tpm2_unseal") is None, reason="no tpm2-tools")
def test_a_mutated_machine_gets_nothing_from_the_hook_as_shipped(
    tmp_path: Path,
) -> None:
    """A sample of the mutations, and what the hook says of each."""
    outcomes: Counter[int] = Counter()
    with World(tmp_path) as world:
        machine = MutatedMachine(world)
        with machine.mutant() as mutant:
            machine.boot(mutant)
            assert run_hook(machine, mutant) == (0, SECRET + b"\n")
        for number in range(0, MUTATIONS, MUTATIONS // BY_THE_HOOK):
            with machine.mutant() as mutant:
                mutate(mutant, Random(number))
                machine.boot(mutant)
                is_accepted = machine.is_accepted(mutant)
                code, shown = run_hook(machine, mutant)
                told = f"mutation {number}: {mutant.done}: {code}"
                assert (shown == SECRET + b"\n") == (code == 0), told
                assert code == 0 or shown == b"", told
                assert code in EXITS, told
                if code == 0:
                    assert is_accepted, told
                    assert machine.is_genuine(mutant), told
                outcomes[code] += 1
    assert outcomes.total() >= BY_THE_HOOK
    assert len(outcomes) > 4
    print(f"by the hook: {dict(sorted(outcomes.items()))}")


def test_each_kind_of_mutation_alone_is_no_way_in(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        machine = MutatedMachine(world, PIN)
        for kind in (*BOOT, *FILES, *CHIP):
            for seed in range(3):
                with machine.mutant() as mutant:
                    kind(mutant, Random(seed))
                    machine.boot(mutant)
                    if machine.released(mutant):
                        assert machine.is_accepted(mutant), kind
                        assert machine.is_genuine(mutant), kind
                        assert kind is not another_pin

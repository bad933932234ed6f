# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verb says of a machine, it says of its recording: byte for byte but for times.

A difference is something that a verb reads and `record` does not.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptop import KERNEL, READING, Laptop, MakeLaptop, Ran, run
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES, TBOOT_LEGACY

pytestmark = pytest.mark.tpm

IMAGE = "/boot/initramfs.img"
NAMES = (
    "tboot-da-policy",
    "tboot-da-sinit-file",
    "tboot-gm45",
    "trenchboot-skinit",
    "trenchboot-txt-uefi",
)
"""One of each kind of answer: tboot's policy, SINIT files, tables, Xen's own words."""

VERBS = (*READING, "status --check")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    shutil.rmtree(tmp_path / "root", ignore_errors=True)


def without_times(ran: Ran) -> tuple[int, str, str]:
    return ran.code, _TIME.sub("TIME", ran.out), _TIME.sub("TIME", ran.told)


def assert_recorded_alike(laptop: Laptop, folder: Path, *more: str) -> None:
    assert laptop.aemseal("record", str(folder)).code == 0
    for verb in VERBS:
        for words in ((*verb.split(), *more), (*verb.split(), *more, "--json")):
            live = laptop.aemseal(*words)
            recorded = run("--host", str(folder), *words)
            assert without_times(recorded) == without_times(live), words


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_with_nothing_sealed(
    name: str, cache: Cache, root: Path, tmp_path: Path
) -> None:
    with Machine(MACHINES[name], root, cache) as machine:
        kernel = machine.install().kernel
        machine.boot()
        laptop = Laptop(machine)
        for number, bank in enumerate(machine.model.banks):
            selection = f"{bank.label}:17,18"
            folder = tmp_path / f"asked-{number}"
            assert_recorded_alike(laptop, folder, "--pcrs", selection)
            laptop.write("/etc/aemseal.yaml", f'pcrs: "{selection}"\n')
            assert_recorded_alike(laptop, tmp_path / f"settled-{number}")
        kernel.write_bytes(b"another kernel, as far as a launch can tell\n")
        assert_recorded_alike(laptop, tmp_path / "updated")


def confirmed(own: MakeLaptop) -> Laptop:
    """A laptop none of whose boots is worth a warning: only a TPM counts them."""
    laptop = own(TBOOT_LEGACY)
    assert laptop.aemseal("confirm").code == 0
    return laptop


def test_a_sealed_machine_before_and_after_a_blind_boot(
    own: MakeLaptop, tmp_path: Path
) -> None:
    laptop = confirmed(own)
    laptop.write(KERNEL, b"another kernel, as far as a launch can tell\n")
    assert_recorded_alike(laptop, tmp_path / "updated")
    laptop.reboot()
    assert_recorded_alike(laptop, tmp_path / "blind")


def test_a_sealed_machine_whose_initramfs_was_changed(
    own: MakeLaptop, tmp_path: Path
) -> None:
    laptop = confirmed(own)
    genuine = laptop.path(IMAGE).read_bytes()
    laptop.write(IMAGE, genuine.replace(b"a simulated laptop", b"A simulated laptop"))
    laptop.reboot()
    assert_recorded_alike(laptop, tmp_path / "blind")
    laptop.write(IMAGE, genuine)
    assert_recorded_alike(laptop, tmp_path / "put back")


def test_a_person_is_told_what_a_recording_tells(
    lent_da: Laptop, tmp_path: Path
) -> None:
    ran = lent_da.aemseal("record", str(tmp_path / "r"))
    assert ran.code == 0
    assert "aemseal: no key, passphrase or sealed text of yours is in it" in ran.told
    assert "what it is recognised by" in ran.told

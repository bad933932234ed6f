# SPDX-License-Identifier: GPL-2.0-or-later
"""confirm of a boot that is accepted already: rotating, and renewing what is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract import check
from laptop import Laptop, MakeLaptop
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import TbootModel

from aemseal.flows.refresh import BOOT_ID
from aemseal.flows.state import STATE_FILE

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

CONFIG, MEDIUM = "/etc/aemseal.yaml", "/boot/aemseal"
SINIT = "/boot/6TH_GEN_SINIT_MADE_UP.bin"
NEWER_FIRMWARE = "tboot-da-sinit-firmware-newer"


# --- rotate ---


def test_a_copied_medium_is_dead_after_confirm(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(CONFIG, laptop.path(CONFIG).read_text() + "rotate: true\n")
    copy = laptop.root / "copy"
    shutil.copytree(laptop.path(MEDIUM), copy)
    confirmed = laptop.aemseal("confirm", "--json")
    check(confirmed.report, "confirm")
    assert (confirmed.report["rotated"], confirmed.report["not_rotated"]) == (
        True,
        None,
    )
    assert (
        "copies of a medium made before open no more" in laptop.aemseal("confirm").out
    )
    live = laptop.root / "live"
    laptop.path(MEDIUM).rename(live)
    shutil.copytree(copy, laptop.path(MEDIUM))
    assert not laptop.shows_the_secret()
    shutil.rmtree(laptop.path(MEDIUM))
    live.rename(laptop.path(MEDIUM))
    assert laptop.shows_the_secret()


def test_without_a_medium_it_says_so_and_all_is_as_before(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(CONFIG, laptop.path(CONFIG).read_text() + "rotate: true\n")
    away = laptop.root / "away"
    laptop.path(MEDIUM).rename(away)
    confirmed = laptop.aemseal("confirm", "--json")
    why = "no medium is at hand (stick)"
    assert confirmed.code == 0
    assert confirmed.report["rotated"] is False
    assert confirmed.report["not_rotated"] == why
    assert f"aemseal: not rotated: {why}: a copy of a medium" in confirmed.told
    away.rename(laptop.path(MEDIUM))
    assert laptop.shows_the_secret()


# --- what is known of the running boot ---


@pytest.fixture
def with_firmwares(tmp_path: Path) -> Iterator[Laptop]:
    """A laptop whose firmware's SINIT module is newer than that of /boot."""
    with Machine(MACHINES[NEWER_FIRMWARE], tmp_path / "laptop") as machine:
        made = machine.install()
        made.kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
        laptop = Laptop(machine)
        laptop.reboot()
        assert laptop.enrol().code == 0
        assert laptop.shows_the_secret()
        laptop.path(BOOT_ID).unlink()
        assert laptop.aemseal("confirm").code == 0
        yield laptop


def in_boot(laptop: Laptop, name: str) -> None:
    """Give the running kernel's boot a name that no boot before had."""
    laptop.write(BOOT_ID, f"{name}\n")


def is_known(laptop: Laptop) -> bool:
    """Whether the next boot can be known."""
    return laptop.aemseal("status", "--check").code == 0


def replace_sinit(laptop: Laptop, date: int) -> None:
    model = MACHINES[NEWER_FIRMWARE]
    assert isinstance(model, TbootModel)
    acm = dict(model.sinit_files)[SINIT.rpartition("/")[2]]
    laptop.write(SINIT, replace(acm, date=date, build=9).content)


def test_a_sinit_file_beside_the_firmwares_is_not_refused_for_ever(
    with_firmwares: Laptop,
) -> None:
    laptop = with_firmwares
    in_boot(laptop, "first")
    assert laptop.aemseal("confirm").code == 0
    assert is_known(laptop)

    replace_sinit(laptop, 0x20181001)  # older than the firmware's own, still
    assert laptop.aemseal("status", "--check").code == 4
    refused = laptop.aemseal("reseal")
    assert "which of the next boot's files wins over it cannot be told" in refused.error
    assert laptop.aemseal("confirm").code == 0
    assert not is_known(laptop), "this boot began before the file was there"

    assert laptop.shows_the_secret()
    in_boot(laptop, "second")
    assert not is_known(laptop)
    assert laptop.aemseal("confirm").code == 0
    assert is_known(laptop)
    count = json.loads(laptop.path(STATE_FILE).read_text())["count"]
    assert laptop.aemseal("confirm").code == 0
    assert json.loads(laptop.path(STATE_FILE).read_text())["count"] == count

    replace_sinit(laptop, 0x20181101)
    assert not is_known(laptop)
    assert laptop.aemseal("confirm").code == 0
    assert not is_known(laptop)


def test_reseals_refusal_is_a_look_too(with_firmwares: Laptop) -> None:
    laptop = with_firmwares
    replace_sinit(laptop, 0x20181001)
    in_boot(laptop, "first")
    assert laptop.aemseal("reseal").code == 4
    assert laptop.shows_the_secret()
    in_boot(laptop, "second")
    assert laptop.aemseal("confirm").code == 0
    assert is_known(laptop)


def test_without_a_name_of_the_boot_nothing_is_taken_for_seen(
    with_firmwares: Laptop,
) -> None:
    laptop = with_firmwares
    replace_sinit(laptop, 0x20181001)
    for _ in range(2):
        laptop.path(BOOT_ID).unlink(missing_ok=True)
        assert laptop.aemseal("reseal").code == 4
        assert laptop.aemseal("confirm").code == 0
        assert not is_known(laptop)
        assert laptop.shows_the_secret()


def test_what_is_on_record_follows_the_files(own: MakeLaptop) -> None:
    """A kernel of other bytes is not this boot's, whatever its name."""
    laptop = own()
    before = json.loads(laptop.path(STATE_FILE).read_text())
    kernel = laptop.path("/boot/vmlinuz").read_bytes()
    laptop.write("/boot/vmlinuz", b"an update that is not booted yet")
    assert laptop.aemseal("confirm").code == 0
    after = json.loads(laptop.path(STATE_FILE).read_text())
    assert after["accepted"] == before["accepted"]
    assert after["baseline"] == before["baseline"]
    laptop.write("/boot/vmlinuz", kernel)

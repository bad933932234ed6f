# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service after the boot says, on a simulated machine with the real command.

The machine boots with the boot hook, then boot-hooks/aemseal-confirm runs. Shells take
turns; tests/hooks/test_confirm_ways.py has each way in each shell, with a stub.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import pytest
from after_boot import NOTHING_DONE, Told, after_boot
from laptop import SECRET, Laptop, MakeLaptop
from test_attended import guess
from tpm_sim.cache import PROJECT

from aemseal.flows.owner import LOCKOUT_FILE

pytestmark = pytest.mark.tpm

MEDIUM = "/boot/aemseal"
RECORD, OVERRIDDEN = "/run/aemseal/record", "/run/aemseal/overridden"
CONFIG = "/etc/aemseal.yaml"
_TURNS = itertools.cycle(
    [
        (path, *words)
        for name, *words in (["dash"], ["bash"], ["busybox", "sh"])
        if (path := shutil.which(name))
    ]
)


def service(laptop: Laptop, tcti: str | None = None) -> Told:
    """Run the service in this boot; it prints no secret."""
    command = laptop.root / "aemseal"
    words = f'{sys.executable} -m aemseal.face.cli "$@"'
    command.write_text(f"#!/bin/sh\nPYTHONPATH={PROJECT} exec {words}\n")
    command.chmod(0o755)
    tcti = laptop.machine.tcti if tcti is None else tcti
    told = after_boot(laptop.root, command, shell=next(_TURNS), tcti=tcti)
    assert SECRET not in f"{told.journal}{told.motd}{told.issue}"
    return told


def write_kernel(laptop: Laptop, number: int) -> None:
    laptop.write("/boot/vmlinuz", b"kernel number %d\n" % number * 99)


def stage(laptop: Laptop, number: int = 2) -> bytes:
    """Stage an update; returns the kernel before it."""
    before = laptop.path("/boot/vmlinuz").read_bytes()
    write_kernel(laptop, number)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    return before


def known(laptop: Laptop) -> tuple[list[str], list[str]]:
    """The names of the accepted boots, and of the staged ones."""
    report = laptop.aemseal("status", "--json").report
    accepted, staged = ([e["name"] for e in report[g]] for g in ("accepted", "staged"))
    return accepted, staged


def test_a_staged_boot_is_confirmed_and_the_next_one_is_quiet(own: MakeLaptop) -> None:
    laptop = own()
    assert laptop.aemseal("confirm").code == 0
    stage(laptop)
    (before,), (staged,) = known(laptop)
    assert laptop.shows_the_secret()
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.headline == f"This boot is confirmed: {staged}."
    assert told.more == (f"retired: {before}",)
    assert known(laptop) == ([staged], [])

    assert laptop.shows_the_secret()
    kept = laptop.path(MEDIUM)
    media = sorted(path.name for path in kept.iterdir())
    told = service(laptop)
    assert (told.code, told.urgency, told.more) == (0, "quiet", ())
    assert told.headline == f"This is the accepted boot {staged}."
    assert sorted(path.name for path in kept.iterdir()) == media


def test_the_boot_before_a_staged_update_says_that_it_is_not_running(
    own: MakeLaptop,
) -> None:
    laptop = own()
    assert laptop.aemseal("confirm").code == 0
    kernel = stage(laptop)
    laptop.write("/boot/vmlinuz", kernel)
    before = known(laptop)
    assert laptop.shows_the_secret()
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.headline == (
        "The update that you staged is not running: this is the boot before it."
    )
    (line,) = told.more
    assert line == (
        f"To start {before[1][0]}: reboot, and choose its entry in GRUB. "
        "To take it back: aemseal cancel"
    )
    assert known(laptop) == before


def test_switch_ons_are_told_before_they_are_forgotten(own: MakeLaptop) -> None:
    laptop = own()  # it was switched on once before, and not confirmed
    laptop.reboot()
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert "the machine was switched on once since " in told.more[0]
    assert service(laptop).urgency == "quiet"


def test_a_changed_boot_is_loud_and_nothing_is_sealed_to_it(own: MakeLaptop) -> None:
    laptop = own()
    write_kernel(laptop, 66)
    laptop.reboot()
    before = laptop.kept()
    told = service(laptop)
    after = laptop.kept()
    assert told.is_loud
    assert told.code == 6
    assert told.headline == "This boot is not one that you accepted."
    assert told.more[0].startswith("Do not type the passphrase unless you changed ")
    assert told.more[1] == "first difference: PCR 17, /boot/vmlinuz"
    assert told.more[-1] == NOTHING_DONE
    assert after[1:] == before[1:]
    changed = {path for path in after[0] if after[0][path] != before[0].get(path)}
    told_in = {
        *("run/motd.d", "run/motd.d/aemseal", "run/issue.d"),
        *("run/issue.d/aemseal.issue", "run/aemseal", "run/aemseal/notice"),
    }
    assert changed - {"aemseal"} == told_in


def test_a_retired_boot_is_told_as_such(own: MakeLaptop) -> None:
    laptop = own()
    kernel = stage(laptop)
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    laptop.write("/boot/vmlinuz", kernel)
    assert not laptop.shows_the_secret()
    told = service(laptop)
    assert told.is_loud
    assert told.headline == "This boot is one that is accepted no longer."


def test_a_staged_boot_that_was_started_against_the_hook_is_not_confirmed(
    own: MakeLaptop,
) -> None:
    laptop = own()
    stage(laptop)
    before = known(laptop)
    away = laptop.path(MEDIUM).rename(laptop.root / "away")
    assert not laptop.shows_the_secret()
    away.rename(laptop.path(MEDIUM))

    told = service(laptop)
    assert told.is_loud
    assert told.headline == "This boot is accepted, but it did not show your secret."
    assert "the boot hook said no-medium: nothing sealed was found" in told.more[2]

    laptop.write(OVERRIDDEN, "overridden\n")
    told = service(laptop)
    assert told.is_loud
    assert told.code == 6
    assert told.headline.endswith("somebody typed the words to start it all the same.")
    assert "the passphrase typed after it" in told.more[0]
    assert known(laptop) == before


def test_a_boot_without_a_launch_or_without_the_hook_is_loud(own: MakeLaptop) -> None:
    laptop = own()
    record = laptop.path(RECORD).rename(laptop.root / "record")
    told = service(laptop)
    assert told.is_loud
    assert (told.code, told.headline) == (4, "This boot could not be checked.")
    assert record.exists()
    laptop.reboot(unmeasured=True)
    told = service(laptop)
    assert told.is_loud
    assert told.headline == "This boot was not measured: there was no dynamic launch."


def test_a_tpm_that_is_gone_is_loud(own: MakeLaptop) -> None:
    laptop = own()
    told = service(laptop, "swtpm:path=/nowhere")
    assert told.is_loud
    assert told.code == 5
    assert told.headline == "The TPM did not answer, so nothing proves this boot."


def test_a_lockout_ends_in_an_accepted_boot_and_is_told(own: MakeLaptop) -> None:
    laptop = own()
    assert laptop.aemseal("confirm").code == 0
    guess(laptop, 32)
    kept = laptop.path(LOCKOUT_FILE).rename(laptop.root / "kept")
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.more[0].endswith("had counted since the last time: 32")
    assert told.more[1].startswith("they are counted still: ")
    assert "the TPM is in dictionary attack lockout" in told.more
    kept.rename(laptop.path(LOCKOUT_FILE))
    assert service(laptop).more == (told.more[0],)
    assert service(laptop).urgency == "quiet"


def test_a_disk_that_was_put_back_is_told(own: MakeLaptop) -> None:
    laptop = own()
    old = laptop.root / "old"
    shutil.copytree(laptop.path("/var/lib/aemseal"), old)
    stage(laptop)
    shutil.rmtree(laptop.path("/var/lib/aemseal"))
    old.rename(laptop.path("/var/lib/aemseal"))
    told = service(laptop)
    assert told.is_loud
    assert told.headline.startswith("The vault is shut: its counter has gone on")


def two_media(laptop: Laptop) -> Path:
    """Enrol on the disk and on a stick; returns the stick's folder."""
    stick = laptop.path("/media/stick")
    stick.mkdir(parents=True)
    text = (
        laptop.path(CONFIG)
        .read_text()
        .replace(
            "media: [", "media: [{label: spare, path: /media/stick, carried: true}, "
        )
    )
    laptop.write(CONFIG, text)
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    return stick


def test_a_medium_that_is_away_is_not_left_behind(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    stick = two_media(laptop)
    stage(laptop)
    before = known(laptop)
    away = stick.rename(laptop.root / "away")
    assert laptop.shows_the_secret()
    told = service(laptop)
    assert (told.code, told.urgency) == (4, "normal")
    assert told.headline == (
        "This boot is accepted, but not confirmed: medium spare is not at hand."
    )
    assert "mount it, then: aemseal confirm" in told.more
    assert known(laptop) == before
    away.rename(stick)
    assert service(laptop).code == 0

    away = stick.rename(laptop.root / "away")
    stage(laptop, 3)
    assert laptop.shows_the_secret()
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.headline.startswith("This boot is confirmed: ")
    assert told.more[-1] == (
        "Medium spare is out of date, and a boot with it shows no secret. "
        "With it in: aemseal reseal"
    )
    away.rename(stick)
    assert laptop.aemseal("reseal").code == 0
    assert laptop.shows_the_secret()
    assert service(laptop).urgency == "quiet"


def test_a_medium_that_was_tampered_with_is_told_by_name(own: MakeLaptop) -> None:
    laptop = own()
    assert laptop.aemseal("confirm").code == 0
    (path,) = laptop.path(MEDIUM).glob("acceptance.*")
    path.write_bytes(b"not ours")
    told = service(laptop)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.more[0].startswith("medium stick: ")
    assert told.more[1] == "write it anew with: aemseal reseal"

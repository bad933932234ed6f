# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands at the wrong moment, media and disks that take nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from contract import check
from laptop import CARRIED, KERNEL, SECRET, Laptop, MakeLaptop, changed
from refusals import CONFIG, JOURNAL, refuses, status_says

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]


# --- wrong at this moment ---


def test_enrolling_twice_is_refused_before_the_secret_is_asked_for(
    lent_da: Laptop,
) -> None:
    message = "a text is sealed on this machine already"
    refuses(lent_da, "enrol text", 4, message, "aemseal status", stdin="")


@pytest.mark.parametrize(
    "verb", ["reseal", "confirm", "cancel", "explain", "plan", "remove"]
)
def test_before_enrol_there_is_nothing_to(lent_new: Laptop, verb: str) -> None:
    message = "nothing is sealed on this machine"
    refuses(lent_new, verb, 4, message, "start with: aemseal enrol text")


def test_a_change_that_is_accepted_must_exist(lent_da: Laptop) -> None:
    refuses(
        lent_da, "reseal --accept xen", 2, "--accept xen: no such change", "nothing"
    )
    with changed(lent_da, KERNEL, b"another kernel"):
        message = "--accept xen: no such change"
        refuses(
            lent_da,
            "reseal --accept xen --accept kernel",
            2,
            message,
            "changed: kernel",
        )


def test_an_unknown_origin_stops_a_reseal(lent_da: Laptop) -> None:
    with changed(lent_da, KERNEL, b"another kernel"):
        message = f"nobody answers for what changed in kernel ({KERNEL})"
        refuses(lent_da, "reseal", 4, message, "say so: --accept kernel")


SECRETS = {
    "empty": (b"", "the secret is empty"),
    "a line end alone": (b"\n", "the secret is empty"),
    "too long": (b"x" * 1665, "the secret has over 1664 bytes"),
    "far too long": (b"x" * 100_000, "the secret has over 1664 bytes"),
}


@pytest.mark.parametrize(("secret", "message"), SECRETS.values(), ids=list(SECRETS))
def test_a_secret_that_is(lent_new: Laptop, secret: bytes, message: str) -> None:
    refuses(lent_new, "enrol text", 2, message, stdin=secret)


def test_the_longest_secret_is_sealed_and_shown(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    assert laptop.aemseal("enrol", "text", stdin=b"x" * 1664 + b"\n").code == 0
    shown = laptop.reboot()
    assert shown is not None
    assert (shown.exit_code, "x" * 1664 in shown.shown) == (0, True)


# --- the disk ---


def test_an_initramfs_that_cannot_be_built_keeps_nothing_enrolled(
    own: MakeLaptop,
) -> None:
    laptop = own(enrolled=False)
    working = laptop.path(CONFIG).read_bytes()
    laptop.write(CONFIG, CARRIED)
    message = "how to build the initramfs with it is not configured"
    refuses(laptop, "enrol text", 4, message, "initramfs_command", stdin=SECRET)
    for program, message in {
        "/no/such/dracut": "/no/such/dracut cannot be run: no such file or directory",
        "/bin/false": "/bin/false failed with exit code 1",
    }.items():
        laptop.write(CONFIG, f"initramfs_command: [{program}]\n{CARRIED}")
        ran = laptop.enrol()
        assert (ran.code, ran.error) == (1, message)
        assert CONFIG in ran.hint
        assert laptop.aemseal("status", "--json").report["staged"] == []
        assert not laptop.path("/boot/aemseal").exists()
    laptop.write(CONFIG, working)
    assert laptop.enrol().code == 0, "the TPM is ours already: taken up again"
    assert laptop.shows_the_secret()


def test_a_medium_that_is_not_at_hand_is_named(own: MakeLaptop) -> None:
    laptop = own()
    laptop.path("/boot/aemseal").rename(laptop.root / "unplugged")
    with changed(laptop, KERNEL, b"another kernel"):
        message = "no medium is at hand (stick)"
        refuses(laptop, "reseal --accept kernel", 4, message, "mount it and try again")


def test_a_medium_of_the_configuration_must_be_there_to_enrol(
    own: MakeLaptop,
) -> None:
    laptop = own()
    assert laptop.aemseal("remove").code == 0
    laptop.write(CONFIG, CARRIED.replace("/boot/aemseal", "/media/stick/aemseal"))
    before = laptop.kept()
    ran = laptop.enrol()
    assert ran.code == 4
    assert ran.error == "the medium stick is not at hand: /media/stick/aemseal"
    assert laptop.kept() == before


def test_a_medium_that_cannot_be_written_leaves_the_old_boot_accepted(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own()
    kernel = laptop.path(KERNEL).read_bytes()
    opened = os.open

    def read_only(path: str | os.PathLike[str], flags: int, *more: int) -> int:
        if flags & os.O_CREAT and "/boot/aemseal/" in os.fspath(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *more)

    laptop.write(KERNEL, b"another kernel")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        ran = laptop.aemseal("reseal", "--accept", "kernel")
    assert ran.code == 1
    assert ran.error == "/boot/aemseal/acceptance.3: read-only file system"
    laptop.write(KERNEL, kernel)
    assert laptop.shows_the_secret()
    assert status_says(laptop, 4, "stage was cut short before its end")
    assert "undid it" in laptop.aemseal("reseal").told
    assert laptop.aemseal("status").code == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/var/lib/aemseal", f"{JOURNAL}: no space left on device"),
        (KERNEL, f"{KERNEL} could not be written out: no space left on device"),
    ],
)
def test_a_full_disk_is_told_by_the_file(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    laptop = own()
    before = laptop.kept()

    synced = os.fsync

    def full(handle: int) -> None:
        if place in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(28, "No space left on device")
        synced(handle)

    with changed(laptop, KERNEL, b"another kernel"), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ran = laptop.aemseal("reseal", "--accept", "kernel", "--json")
    check(ran.report, "error")
    assert (ran.code, ran.report["kind"]) == (1, "io")
    assert ran.error == message
    assert laptop.kept() == before


def test_two_at_once_are_kept_apart(lent_da: Laptop) -> None:
    from aemseal.world.store import Files

    with Files(lent_da.root).lock():
        refuses(lent_da, "confirm", 1, "another aemseal is at work", "wait until")

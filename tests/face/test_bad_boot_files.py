# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in /boot and is refused: its files, grub.cfg, a tboot with a policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import check
from laptop import SECRET, Laptop, MakeLaptop, changed
from refusals import GRUB, PROBLEM_STEP, XEN, refuses, status_says
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA

from aemseal.words.digest import Digest, HashAlgorithm

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

AEM_TITLE = "AEM Qubes, with Xen hypervisor"


# --- boot files ---


def test_a_boot_file_that_is_gone_is_named(own: MakeLaptop) -> None:
    laptop = own()
    message = "/boot/xen.gz (or /xen.gz) does not exist"
    with changed(laptop, XEN, None):
        for verb in ("predict", "plan", "reseal"):
            refuses(laptop, verb, 4, message, "is /boot mounted, the update complete?")
        assert status_says(laptop, 4, message, "--check")["this_boot"] == "accepted"
        assert laptop.aemseal("explain").code == 0
        assert laptop.aemseal("confirm").code == 0


def test_a_boot_file_that_is_a_dangling_link_is_named(lent_da: Laptop) -> None:
    with changed(lent_da, XEN, None) as path:
        path.symlink_to("/boot/no-such-xen.gz")
        refuses(lent_da, "predict", 4, "/boot/xen.gz (or /xen.gz) does not exist")
        path.unlink()


def test_a_boot_file_that_is_a_folder_is_named(lent_da: Laptop) -> None:
    with changed(lent_da, XEN, None) as path:
        path.mkdir()
        refuses(lent_da, "predict", 4, "/boot/xen.gz is not a regular file", None)
        path.rmdir()


SPOILT_FILES = {
    "an archive that is cut": (XEN, 5000, "/boot/xen.gz is no intact gzip file"),
    "a tboot that is none": (
        "/boot/tboot.gz",
        None,
        "/boot/tboot.gz: the image has no MLE header",
    ),
}


@pytest.mark.parametrize(
    ("inside", "length", "message"), SPOILT_FILES.values(), ids=list(SPOILT_FILES)
)
def test_a_boot_file_that_is_spoilt_is_named(
    lent_da: Laptop, inside: str, length: int | None, message: str
) -> None:
    content = lent_da.path(XEN).read_bytes()[:length]
    with changed(lent_da, inside, content):
        for verb in ("predict", "reseal"):
            refuses(lent_da, verb, 4, message, None)


def test_a_disk_that_is_gone_is_named(lent_da: Laptop) -> None:
    (disk,) = lent_da.path("/dev/disk/by-uuid").iterdir()
    inside = f"/dev/disk/by-uuid/{disk.name}"
    with changed(lent_da, inside, None):
        refuses(lent_da, "predict", 4, f"{inside} does not exist", "names this disk")
    with changed(lent_da, inside, b"no LUKS header"):
        refuses(lent_da, "predict", 4, inside, None)


# --- GRUB ---


def test_a_grub_cfg_that_is_gone_is_looked_for_by_name(lent_da: Laptop) -> None:
    with changed(lent_da, GRUB, None):
        for verb in ("predict", "plan", "reseal", "confirm"):
            refuses(lent_da, verb, 4, f"no grub.cfg at /boot/grub2/grub.cfg, {GRUB}")
        log = lent_da.aemseal("log")
        assert log.code == 0
        assert log.told.startswith("aemseal: the files behind the events: there is no ")


def spoilt_menu(laptop: Laptop, old: str, new: str) -> bytes:
    text = laptop.path(GRUB).read_text()
    assert old in text
    return text.replace(old, new).encode()


BAD_MENUS = {
    "a next entry that is not measured": (
        ('default="${saved_entry}"', 'default="plain-xen"'),
        "'Qubes, with Xen hypervisor' (grub.cfg line 37), is no measured boot",
        f"measured are: '{AEM_TITLE}'",
    ),
    "a single quote that is never closed": (
        ("'Loading Xen ...'", "'Loading Xen ..."),
        "grub.cfg line 37: the ' that opens here is never closed",
        f"it is {GRUB}: repair it",
    ),
    "a double quote that is never closed": (
        ("set timeout=5", 'set timeout="5'),
        "is never closed",
        f"it is {GRUB}: repair it",
    ),
    "no entry at all": (
        ("menuentry", "echo"),
        "grub.cfg",
        f"it is {GRUB}: repair it",
    ),
}


@pytest.mark.parametrize(
    ("change", "message", "hint"), BAD_MENUS.values(), ids=list(BAD_MENUS)
)
def test_a_grub_cfg_with(
    lent_da: Laptop, change: tuple[str, str], message: str, hint: str
) -> None:
    with changed(lent_da, GRUB, spoilt_menu(lent_da, *change)):
        for verb in ("predict", "plan", "reseal"):
            refuses(lent_da, verb, 4, message, hint)
        report = status_says(lent_da, 4, message, "--check")
        assert report["next_step"] == PROBLEM_STEP
        assert hint in report["hint"]


def test_an_entry_that_is_not_there_is_refused_with_those_that_are(
    lent_da: Laptop,
) -> None:
    refuses(
        lent_da,
        "predict --entry rubbish",
        4,
        "grub.cfg has no entry 'rubbish'",
        f"measured are: '{AEM_TITLE}'",
    )


def test_an_entry_whose_line_names_no_disk_is_told_by_pcr(own: MakeLaptop) -> None:
    """A running boot whose command line cannot have been /boot's of now."""
    laptop = own(enrolled=False)
    laptop.write(XEN, b"another xen, installed since")
    refuses(
        laptop,
        "enrol text",
        4,
        "no file of any boot entry gives what this boot measured as xen (PCR 17)",
        "reboot into what /boot holds now, then enrol",
        stdin=SECRET,
    )


# --- tboot ---


def test_a_custom_tboot_policy_is_refused_by_its_event(
    cache: Cache, tmp_path: Path
) -> None:
    """A policy that somebody wrote into the TPM: no rule says what comes next."""
    import dataclasses

    sha256 = HashAlgorithm.SHA256
    custom = {sha256: Digest(sha256, bytes(range(32)))}
    model = dataclasses.replace(TBOOT_DA, policy=custom)
    with Machine(model, cache=cache) as machine:
        machine.install()
        machine.boot()
        laptop = Laptop(machine)
        before = laptop.kept()
        ran = laptop.aemseal("predict", "--json", "--pcrs", "sha256:17,18")
        assert ran.code == 4
        check(ran.report, "predict")
        assert ran.report["complete"] is False
        refusals = ran.report["refusals"]
        assert {each["pcr"] for each in refusals} == {17, 18}
        assert all("policy" in each["reason"] for each in refusals)
        assert not set(ran.report["next"]["sha256"]) & {"17", "18"}
        enrolled = laptop.enrol()
        assert enrolled.code == 4
        assert "policy" in enrolled.error
        assert laptop.kept() == before

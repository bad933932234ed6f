# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks and mishaps between the moves, through the command line alone.

Each was carried out once with success; each is named after what it tried.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from laptop import Laptop, MakeLaptop
from tpm_sim.machines import TBOOT_LEGACY

XEN, KERNEL, INITRAMFS = "/boot/xen.gz", "/boot/vmlinuz", "/boot/initramfs.img"
VAULT = "/boot/aemseal/vault"


def image(laptop: Laptop, inside: str) -> bytes:
    return laptop.path(inside).read_bytes()


def stage_update(laptop: Laptop, **files: bytes) -> None:
    """Overwrite files, and stage that boot in the user's name."""
    paths = {"xen": XEN, "kernel": KERNEL}
    names = []
    for name, content in files.items():
        laptop.write(paths[name], content)
        names += ["--accept", name]
    assert laptop.aemseal("reseal", *names).code == 0


def acceptances(laptop: Laptop) -> list[str]:
    return [each.name for each in laptop.path("/boot/aemseal").glob("acceptance.*")]


def test_old_bytes_put_back_under_a_staged_boot_need_an_answer_too(
    own: MakeLaptop,
) -> None:
    """Held against the last confirmed boot, the old Xen was no change at all."""
    laptop = own()
    old_xen = image(laptop, XEN)
    stage_update(laptop, xen=b"a newer Xen", kernel=b"a newer kernel")
    assert laptop.shows_the_secret()
    laptop.write(XEN, old_xen)
    refused = laptop.aemseal("reseal")
    assert refused.code == 4
    assert "nobody answers for what changed in xen" in refused.error
    plan = laptop.aemseal("plan", "--json").report
    assert [each["name"] for each in plan["changes"]] == ["xen"]


def test_a_staged_boot_with_the_old_xen_goes_when_the_old_xen_is_retired(
    own: MakeLaptop,
) -> None:
    laptop = own()
    old_xen = image(laptop, XEN)
    stage_update(laptop, xen=b"a newer Xen", kernel=b"a newer kernel")
    assert laptop.shows_the_secret()
    stage_update(laptop, xen=old_xen)
    assert laptop.aemseal("confirm").code == 0
    assert laptop.aemseal("status", "--json").report["staged"] == []
    assert not laptop.shows_the_secret()


def test_a_disk_put_back_with_its_retired_xen_is_not_called_accepted(
    own: MakeLaptop, tmp_path: Path
) -> None:
    laptop = own()
    kept = tmp_path / "older-disk"
    for folder in ("boot", "var"):
        shutil.copytree(laptop.path(folder), kept / folder)
    stage_update(laptop, xen=b"a newer Xen")
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    for folder in ("boot", "var"):
        shutil.rmtree(laptop.path(folder))
        shutil.copytree(kept / folder, laptop.path(folder))
    assert not laptop.shows_the_secret()
    explained = laptop.aemseal("explain", "--json")
    assert explained.code == 6
    assert explained.report["verdict"] == "shut"
    assert "Do not type the passphrase" in explained.report["advice"]
    status = laptop.aemseal("status", "--json")
    assert status.report["this_boot"] == "unknown"
    assert "the vault is shut" in status.report["next_step"]


def test_an_emptied_medium_is_told_before_and_after_the_boot(own: MakeLaptop) -> None:
    laptop = own()
    shutil.rmtree(laptop.path("/boot/aemseal"))
    laptop.path("/boot/aemseal").mkdir()
    status = laptop.aemseal("status", "--check")
    assert status.code == 4
    assert f"medium stick: {VAULT} is missing" in status.out
    assert not laptop.shows_the_secret()
    explained = laptop.aemseal("explain", "--json").report
    assert explained["verdict"] == "accepted"
    assert "nothing sealed was found on the boot medium" in explained["advice"]
    assert "Do not type the passphrase before" in explained["advice"]


def test_an_acceptance_taken_from_the_medium_is_written_anew_by_reseal(
    own: MakeLaptop,
) -> None:
    laptop = own()
    (name,) = acceptances(laptop)
    laptop.path(f"/boot/aemseal/{name}").unlink()
    status = laptop.aemseal("status")
    assert (status.code, "aemseal reseal" in status.out) == (4, True)
    done = laptop.aemseal("reseal")
    assert done.code == 0
    assert "wrote anew what was missing on a medium" in done.told
    assert laptop.aemseal("status").code == 0
    assert laptop.shows_the_secret()


@pytest.mark.parametrize("kind", ["of another generation", "torn"])
def test_a_vault_file_that_is_not_ours_is_told(own: MakeLaptop, kind: str) -> None:
    laptop = own()
    text = image(laptop, VAULT)
    other = text.replace(b"generation 1", b"generation 2")
    laptop.write(VAULT, text[:99] if kind == "torn" else other)
    status = laptop.aemseal("status", "--json")
    assert status.code == 4
    assert status.report["problem"].startswith(f"medium stick: {VAULT}")
    assert "aemseal reseal" in status.report["next_step"]
    assert laptop.aemseal("reseal").code == 0, "from the copy on the encrypted root"
    assert laptop.path(VAULT).read_bytes() == text
    assert laptop.shows_the_secret()


def test_confirm_looks_at_the_next_boot_before_it_speaks_of_it(
    own: MakeLaptop,
) -> None:
    laptop = own()
    stage_update(laptop, xen=b"a newer Xen")
    assert laptop.shows_the_secret()
    laptop.write(KERNEL, b"an update that landed after the reboot")
    assert laptop.aemseal("confirm").code == 0
    status = laptop.aemseal("status", "--json")
    assert (status.code, status.report["next_boot"]) == (3, "not-accepted")


def test_putting_a_retired_xen_back_is_said_before_the_reboot(own: MakeLaptop) -> None:
    laptop = own()
    old_xen = image(laptop, XEN)
    stage_update(laptop, xen=b"a newer Xen")
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    laptop.write(XEN, old_xen)
    status = laptop.aemseal("status", "--check", "--json")
    assert (status.code, status.report["next_boot"]) == (3, "retired")
    assert "put the newer ones back" in status.report["next_step"]
    refused = laptop.aemseal("reseal")
    assert refused.code == 4
    assert "the next boot is the retired one" in refused.error


def test_a_selection_without_xen_in_it_is_not_enrolled(own: MakeLaptop) -> None:
    """The changed Xen would have been shown the secret."""
    laptop = own(TBOOT_LEGACY, enrolled=False)
    refused = laptop.enrol("--pcrs", "sha256:13,17,19")
    assert refused.code == 4
    assert "PCR 18 is not in the selection" in refused.error

# SPDX-License-Identifier: GPL-2.0-or-later
"""Field failures of forward sealing, tried on an enrolled laptop by its commands.

Numbers and letters are those of docs/field-failures.md.
"""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from laptop import KERNEL, MODELS, SECRET, Laptop, MakeLaptop, changed, run
from refusals import LOG, STATE, XEN, refuses
from tpm_sim.machines import MACHINES, TBOOT_DA, TBOOT_LEGACY, MachineModel
from tpm_sim.models import TrenchbootModel
from tpm_sim.trenchboot_directory import make_trenchboot_directory

from aemseal.world.rooted import Rooted

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

INITRAMFS = "/boot/initramfs.img"


def stage(laptop: Laptop, name: str, inside: str, content: bytes) -> None:
    laptop.write(inside, content)
    assert laptop.aemseal("reseal", "--accept", name).code == 0


# --- 2, 8: values read from a TPM ---


@pytest.fixture
def recording(lent_da: Laptop, tmp_path: Path) -> Path:
    folder = tmp_path / "recording"
    assert lent_da.aemseal("record", str(folder)).code == 0
    return folder


def with_pcr_17(folder: Path, value: str | None) -> None:
    """Give a recording another text for PCR 17; None takes it out."""
    path = folder / "pcrs.json"
    pcrs = json.loads(path.read_bytes())
    values = pcrs["sha256"]["values"]
    if value is None:
        del values["17"]
    else:
        values["17"] = value or values["17"].upper()
    path.write_text(json.dumps(pcrs))


def test_the_case_of_a_digest_never_decides(recording: Path) -> None:
    """It is the same value, or no value: never another one."""
    before = run("log", "--host", str(recording))
    with_pcr_17(recording, "")
    after = run("log", "--host", str(recording))
    assert after == before or (after.code == 4 and "pcrs.json" in after.error)


@pytest.mark.parametrize("value", [None, " ", "00" * 31, "00" * 33, "xy" * 32])
def test_an_empty_or_short_pcr_is_an_error(recording: Path, value: str | None) -> None:
    with_pcr_17(recording, value)
    for verb in ("log", "predict", "plan", "explain"):
        ran = run(verb, "--host", str(recording))
        assert (ran.code, ran.out) == (4, "")
        assert ran.error


# --- 9: no log, no seal ---

SHORT_LOGS = {"none": None, "empty": b"", "the header alone": 65, "half": 700}


@pytest.mark.parametrize("log", SHORT_LOGS.values(), ids=list(SHORT_LOGS))
def test_with_a_short_log_nothing_is_sealed_or_staged(
    lent_da: Laptop, lent_new: Laptop, log: bytes | int | None
) -> None:
    for laptop in (lent_da, lent_new):
        content = log
        if isinstance(log, int):
            content = laptop.path(LOG).read_bytes()[:log]
        assert not isinstance(content, int)
        with changed(laptop, LOG, content):
            verb = "enrol text" if laptop is lent_new else "reseal --accept kernel"
            with changed(laptop, KERNEL, b"another kernel"):
                refuses(laptop, verb, 4, "", stdin=SECRET)


# --- 10: a link that names another disk ---


def test_a_link_to_another_disk_is_a_change_that_nobody_answers_for(
    lent_da: Laptop,
) -> None:
    (disk,) = lent_da.path("/dev/disk/by-uuid").iterdir()
    inside = f"/dev/disk/by-uuid/{disk.name}"
    header = bytearray(disk.read_bytes()[: 1 << 24])
    header[0x9000] ^= 1  # in the area of the key slots
    other = lent_da.path("/dev/another-disk")
    other.write_bytes(header)
    try:
        with changed(lent_da, inside, None) as link:
            link.symlink_to("../../another-disk")
            refuses(lent_da, "reseal", 4, f"in luks ({inside})", "--accept luks")
            link.unlink()
    finally:
        other.unlink()


# --- 11: what was hashed is not what lies on the disk after a power cut ---


def test_a_file_that_never_reached_the_disk_locks_nobody_out(own: MakeLaptop) -> None:
    laptop = own()
    old = laptop.path(KERNEL).read_bytes()
    stage(laptop, "kernel", KERNEL, b"a new kernel")
    laptop.machine.power_cut()
    laptop.write(KERNEL, b"a new ker")
    assert not laptop.shows_the_secret()
    explained = laptop.aemseal("explain", "--json")
    assert (explained.code, explained.report["path"]) == (6, KERNEL)
    laptop.write(KERNEL, old)
    assert laptop.shows_the_secret()
    laptop.write(KERNEL, b"a new kernel")
    assert laptop.shows_the_secret()


# --- 12: what cannot be read replaces nothing ---


class FailingDisk(io.BytesIO):
    """A file of which the beginning can be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(1)


@pytest.mark.parametrize("inside", [KERNEL, XEN, "/dev/disk/by-uuid/"])
def test_a_file_that_cannot_be_read_leaves_the_vault_as_it_was(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    laptop = own()
    old = laptop.path(INITRAMFS).read_bytes()
    laptop.write(INITRAMFS, b"another initramfs")
    open_file = Rooted.open

    def failing(files: Rooted, path: str, *more: Any) -> Any:
        found = open_file(files, path, *more)
        if not path.startswith(inside):
            return found
        assert found is not None
        found.close()
        return FailingDisk(b"a beginning, and no more")

    with monkeypatch.context() as patch:
        patch.setattr(Rooted, "open", failing)
        refuses(laptop, "reseal --accept initramfs", 4, "input/output error", None)
        status = laptop.aemseal("status", "--check", "--json")
        assert (status.code, status.report["next_boot"]) == (4, "unknown")
    laptop.write(INITRAMFS, old)
    assert laptop.shows_the_secret()


# --- 13, 14, 16: the selection ---

LEGACY = MODELS["tboot-legacy"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (TBOOT_DA, ("--pcrs", "sha256:18,17,13")),
        (LEGACY, ("--pcrs", "sha256:19,13,18,17")),
        (LEGACY, ("--pcr", "19", "--pcr", "13", "--pcr", "17", "--pcr", "18")),
    ],
)
def test_pcrs_named_in_any_order_open_as_the_tpm_orders_them(
    own: MakeLaptop, model: MachineModel, words: tuple[str, ...]
) -> None:
    laptop = own(model, enrolled=False)
    assert laptop.enrol(*words).code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    stage(laptop, "kernel", KERNEL, b"another kernel")
    assert laptop.shows_the_secret()


def test_a_pcr_of_zeros_is_never_sealed_to(lent_new: Laptop) -> None:
    """On this map nothing extends PCR 19: it stays 00.. in every boot."""
    message = "nothing extends PCR 19 on this machine"
    command = "enrol text --pcrs sha256:13,17,18,19"
    refuses(lent_new, command, 4, message, "take 19 out", stdin=SECRET)


def test_a_selection_changed_after_enrol_is_named_and_not_taken(
    own: MakeLaptop,
) -> None:
    """Neither is the new one ignored in silence, nor the old one dropped."""
    laptop = own()
    config = laptop.path("/etc/aemseal.yaml")
    config.write_bytes(config.read_bytes() + b'pcrs: "sha256:13,17"\n')
    laptop.write(KERNEL, b"another kernel")
    report = laptop.aemseal("predict", "--json").report
    assert report["selection"] == "sha256:13,17,18"
    asked = "reseal --accept kernel --pcrs sha256:13,17"
    message = "the secret is sealed to sha256:13,17,18, not to sha256:13,17"
    refuses(laptop, asked, 4, message, "leave --pcrs out")
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()


# --- 17 to 20: PCRs of the firmware ---


@pytest.mark.parametrize("pcr", range(9))
def test_a_pcr_of_the_firmware_is_not_sealed_to(lent_new: Laptop, pcr: int) -> None:
    command = f"enrol text --pcrs sha256:{pcr},13,17,18"
    message = f"PCR {pcr} is selected, and nothing predictable extends it"
    refuses(lent_new, command, 4, message, f"take {pcr} out", stdin=SECRET)


def test_a_pcr_of_the_firmware_in_aems_selection_is_refused_and_never_cut(
    lent_new: Laptop,
) -> None:
    line = 'SEAL="--pcr 1 --pcr 13 --pcr 17 --pcr 18"\n'
    conf = lent_new.write("/etc/anti-evil-maid.conf", line)
    try:
        ran = refuses(lent_new, "enrol text", 4, "PCR 1 is selected", stdin=SECRET)
        assert "sha256:1,13,17,18" in ran.told
    finally:
        conf.unlink()


# --- 25: a launch that fell back ---


def test_a_launch_that_fell_back_seals_nothing_and_keeps_the_vault(
    own: MakeLaptop,
) -> None:
    laptop = own()
    laptop.reboot(unmeasured=True)
    laptop.write(KERNEL, b"another kernel")
    message = "no dynamic launch took place: PCR 17 is all ff"
    for command in ("reseal --accept kernel", "reseal --new-only --accept kernel"):
        refuses(laptop, command, 4, message, "boot the entry that starts tboot")


# --- 26: a boot that fails once names what differed ---


@pytest.mark.parametrize(("inside", "pcr"), [(XEN, 18), (KERNEL, 19), (INITRAMFS, 19)])
def test_a_boot_that_fails_names_pcr_and_file(
    own: MakeLaptop, inside: str, pcr: int
) -> None:
    laptop = own(TBOOT_LEGACY)
    with changed(laptop, inside, laptop.path(inside).read_bytes() + bytes(512)):
        laptop.reboot()
        explained = laptop.aemseal("explain", "--json")
    assert explained.code == 6
    found = explained.report
    assert (found["verdict"], found["pcr"], found["path"]) == ("changed", pcr, inside)
    assert found["expected"]["digests"] != found["measured"]["digests"]


# --- 27: what is expected is that of the last verified boot ---


def test_what_is_expected_is_renewed_with_every_confirmed_boot(
    own: MakeLaptop,
) -> None:
    laptop = own()
    for number in (2, 3):
        stage(laptop, "kernel", KERNEL, b"kernel number %d" % number)
        assert laptop.shows_the_secret()
        assert laptop.aemseal("confirm").code == 0
    (accepted,) = json.loads(laptop.path(STATE).read_bytes())["accepted"]
    assert accepted["since"]
    laptop.write(INITRAMFS, laptop.path(INITRAMFS).read_bytes() + bytes(512))
    laptop.reboot()
    text = laptop.aemseal("explain").out
    assert f"first difference: PCR 17, {INITRAMFS}" in text
    assert KERNEL not in text


# --- 28: another way to launch ---


def test_another_launcher_is_refused_before_the_reboot_with_what_to_do(
    own: MakeLaptop,
) -> None:
    laptop = own()
    other = MACHINES["trenchboot-txt"]
    assert isinstance(other, TrenchbootModel)
    make_trenchboot_directory(laptop.root, other)
    message = "is launched by slaunch, the running boot by tboot"
    refuses(laptop, "reseal --accept xen", 4, message, "then take the vault down")
    status = laptop.aemseal("status", "--check", "--json")
    assert (status.code, status.report["next_boot"]) == (4, "unknown")

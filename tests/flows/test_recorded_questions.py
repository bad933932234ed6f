# SPDX-License-Identifier: GPL-2.0-or-later
"""What verbs read besides boot files and log is in a recording, too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cpio_images import archive, member
from host_tree import SHA1, SHA256, machine, outcome, plant

from aemseal.flows.record import record
from aemseal.flows.running_system import (
    DOM0_CMDLINE,
    XEN_BUILD_ID,
    read_running_system,
)
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import View, Wanted
from aemseal.world.config import Config
from aemseal.world.host import Host, LiveHost
from aemseal.world.recording import RecordedHost
from aemseal.world.storage_key import StorageKey

POLICY = b"\2\1\0\0 of tboot's"


def touch_nothing(host: Host) -> None:
    _ = host


def replayed(live: Host, folder: Path) -> RecordedHost:
    record(live, folder, touch_nothing)
    return RecordedHost(folder)


def test_what_the_running_system_says_of_its_boot_is_in_it(tmp_path: Path) -> None:
    live = machine(tmp_path / "root")
    plant(live.root, {DOM0_CMDLINE: b"root=/dev/a ro\n", XEN_BUILD_ID: b"c0ffee\n"})
    found = read_running_system(replayed(live, tmp_path / "r"))
    assert found.dom0_cmdline == b"root=/dev/a ro"
    assert found.xen_build_id == "c0ffee"


@pytest.mark.parametrize("name", [None, "/boot/vl.pol", "/boot/gone.pol"])
def test_the_policy_that_the_configuration_names_is_in_it(
    tmp_path: Path, name: str | None
) -> None:
    bare = machine(tmp_path / "root")
    plant(bare.root, {"/boot/vl.pol": POLICY})
    live = replace(bare, config=Config(tboot_policy=name))
    replay = replayed(live, tmp_path / "r")
    assert outcome(replay.tboot_policy) == outcome(live.tboot_policy)


@pytest.mark.parametrize("pcrs", [None, "sha1:17,18,19"])
def test_the_selection_that_the_configuration_names_is_in_it(
    tmp_path: Path, pcrs: str | None
) -> None:
    live = replace(machine(tmp_path / "root"), config=Config(pcrs=pcrs))
    assert replayed(live, tmp_path / "r").settled_pcrs() == pcrs


def test_a_recording_from_before_that_was_kept_has_nothing_settled(
    tmp_path: Path,
) -> None:
    live = replace(machine(tmp_path / "root"), config=Config(pcrs="sha1:17"))
    replayed(live, tmp_path / "r")

    path = tmp_path / "r/manifest.json"
    manifest = json.loads(path.read_text())
    kept = [e for e in manifest["answers"] if e["question"] != ["settled_pcrs"]]
    path.write_text(json.dumps({**manifest, "answers": kept}))
    assert RecordedHost(tmp_path / "r").settled_pcrs() is None


IMAGES = {
    "accepted": "/boot/initramfs-1.img",
    "staged": "/boot/initramfs-2.img",
    "retired": "/boot/initramfs-0.img",
    "verified last": "/boot/initramfs.img",
}


def a_boot(path: str) -> Baseline:
    digests = {SHA256: SHA256.hash(path.encode())}
    source = Source(SourceKind.FILE, path=path, file_digests=digests, view=View.GRUB)
    return Baseline(
        "AEM", "tboot", "da", (Measurement(17, digests, Role.INITRAMFS, source),)
    )


def sealed_to(path: str) -> tuple[SealedBoot, ...]:
    return (SealedBoot("a boot", "2024-05-01T12:00:00Z", bytes(32), a_boot(path)),)


STATE = VaultState(
    generation=1,
    selection=PcrSelection.parse("sha256:13,17,18"),
    storage=StorageKey(0x81000001, b"name", b"serialized"),
    counter=0x01800000,
    count=1,
    media=(),
    secrets=(),
    baseline=a_boot(IMAGES["verified last"]),
    accepted=sealed_to(IMAGES["accepted"]),
    staged=sealed_to(IMAGES["staged"]),
    retired=sealed_to(IMAGES["retired"]),
)


@pytest.fixture
def sealed(tmp_path: Path) -> LiveHost:
    """A machine whose vault knows four boots; no entry names their images."""
    live = machine(tmp_path / "root")
    images = {path: archive(member("init", b"#!")) for path in IMAGES.values()}
    state = {"/var/lib/aemseal/state.json": STATE.to_bytes()}
    plant(live.root, {**images, **state})
    return live


@pytest.mark.parametrize("path", IMAGES.values(), ids=list(IMAGES))
def test_the_images_of_the_boots_that_are_known_are_listed(
    sealed: LiveHost, tmp_path: Path, path: str
) -> None:
    wanted = Wanted(path, View.GRUB)
    listed = replayed(sealed, tmp_path / "r").list_initramfs(wanted)
    assert listed == sealed.list_initramfs(wanted)


def test_an_image_that_is_gone_keeps_no_other_out(
    sealed: LiveHost, tmp_path: Path
) -> None:
    gone, other = (Wanted(IMAGES[each], View.GRUB) for each in ("accepted", "retired"))
    (sealed.root / gone.path[1:]).unlink()
    replay = replayed(sealed, tmp_path / "r")
    assert replay.list_initramfs(other) == sealed.list_initramfs(other)
    with pytest.raises(BootFileError, match=r"initramfs-1\.img.* does not exist"):
        replay.list_initramfs(gone)


def test_a_damaged_state_is_recorded_as_it_is(tmp_path: Path) -> None:
    live = machine(tmp_path / "root")
    plant(live.root, {"/var/lib/aemseal/state.json": b"{damaged"})
    assert replayed(live, tmp_path / "r").saved("state.json") == b"{damaged"


def test_a_sinit_module_is_told_by_sha256_whatever_bank_was_asked(
    tmp_path: Path,
) -> None:
    wanted = Wanted("/boot/sinit.bin", View.ACM)
    live = machine(tmp_path / "root")
    plant(live.root, {wanted.path: bytes(2048)})

    def look(host: Host) -> None:
        host.look([wanted], [SHA1, SHA256])

    record(live, tmp_path / "r", look)
    replay = RecordedHost(tmp_path / "r")
    for banks in ([SHA1], [SHA256], [SHA1, SHA256]):
        assert replay.look([wanted], banks) == live.look([wanted], banks)

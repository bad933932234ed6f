# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tool reads of a live machine, and how it says that a thing is absent."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from host_tree import (
    FILES,
    GONE,
    GRUB,
    KERNEL,
    LOG,
    LUKS,
    LUKS_UUID,
    NO_LUKS,
    NO_TBOOT,
    SHA1,
    SHA256,
    XEN,
    XEN_AS_LOADED,
    machine,
    plant,
)

from aemseal.formats.hook_files import RECORD_LIMIT
from aemseal.words.errors import (
    BankError,
    BootFileError,
    EvidenceError,
    LogError,
    TpmError,
)
from aemseal.words.wanted import View, Wanted
from aemseal.world import host as host_module
from aemseal.world import log_places
from aemseal.world.config import Config
from aemseal.world.host import Host, LiveHost
from aemseal.world.log_places import LOG_PLACES
from aemseal.world.programs import read_program


@pytest.fixture
def host(tmp_path: Path) -> LiveHost:
    return machine(tmp_path)


def configured(host: LiveHost, config: Config) -> LiveHost:
    return LiveHost(host.root, host.read_pcrs, config)


def removed(host: LiveHost, *paths: str) -> LiveHost:
    for path in paths:
        (host.root / path.lstrip("/")).unlink()
    return host


def test_a_live_host_is_a_host(host: Host) -> None:
    assert host.resolve("/x") == "/x"


class TestEventLog:
    def test_it_is_found_where_the_kernel_puts_it(self, host: LiveHost) -> None:
        assert host.event_log() == (LOG, b"the log")

    def test_the_first_place_that_has_one_counts(self, host: LiveHost) -> None:
        plant(host.root, {LOG_PLACES[1]: b"another"})
        assert host.event_log() == (LOG, b"the log")
        assert list(host.event_logs()) == [
            (LOG, b"the log"),
            (LOG_PLACES[1], b"another"),
        ]
        removed(host, LOG)
        assert host.event_log() == (LOG_PLACES[1], b"another")

    def test_a_configured_place_is_the_only_one(self, host: LiveHost) -> None:
        plant(host.root, {"/log": b"mine"})
        named = configured(host, Config(event_log="/log"))
        assert named.event_log() == ("/log", b"mine")
        with pytest.raises(LogError, match=r"no event log of the launch at /log$"):
            removed(named, "/log").event_log()

    def test_without_one_every_place_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LogError) as refusal:
            LiveHost(tmp_path).event_log()
        for place in LOG_PLACES:
            assert place in refusal.value.message

    def test_one_that_is_too_large_is_refused(
        self, host: LiveHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_places, "LOG_LIMIT", 6)
        with pytest.raises(LogError, match="larger than 6 bytes"):
            host.event_log()


class TestPcrs:
    def test_they_come_from_the_caller(self, host: LiveHost) -> None:
        assert host.pcrs(SHA256).value(17) == SHA256.zero()

    def test_a_bank_that_is_not_there(self, host: LiveHost) -> None:
        with pytest.raises(BankError, match="no sha1 bank"):
            host.pcrs(SHA1)

    def test_no_tpm(self, tmp_path: Path) -> None:
        with pytest.raises(TpmError, match="there is no TPM"):
            LiveHost(tmp_path).pcrs(SHA256)


EFI_FILE = "/sys/firmware/efi/fw_platform_size"


class TestGrub:
    @pytest.mark.parametrize("place", host_module.GRUB_CONFIG_PLACES)
    def test_grub_cfg_is_found_with_the_grubenv_beside_it(
        self, tmp_path: Path, place: str
    ) -> None:
        beside = place.replace("grub.cfg", "grubenv")
        host = machine(tmp_path, {place: b"menu", beside: b"env"})
        assert host.grub_config() == (place, b"menu")
        assert host.grub_env() == b"env"

    def test_a_configured_one_is_the_only_one(self, host: LiveHost) -> None:
        plant(host.root, {"/boot/x/grub.cfg": b"mine", "/boot/x/grubenv": b"env"})
        named = configured(host, Config(grub_config="/boot/x/grub.cfg"))
        assert named.grub_config() == ("/boot/x/grub.cfg", b"mine")
        assert named.grub_env() == b"env"
        another = removed(replace(named), "/boot/x/grub.cfg")
        with pytest.raises(BootFileError, match=r"no grub\.cfg at /boot/x/grub\.cfg$"):
            another.grub_config()

    @pytest.mark.parametrize("other", host_module.GRUB_CONFIG_PLACES[1:])
    def test_two_different_menus_are_refused_until_one_is_named(
        self, tmp_path: Path, other: str
    ) -> None:
        mine, old = b"menuentry 'Qubes' {}", b"menuentry 'old Qubes' {}"
        host = machine(tmp_path, {GRUB: old, other: mine, EFI_FILE: b"64"})
        with pytest.raises(BootFileError, match="different boot menus") as refusal:
            host.grub_config()
        assert GRUB in refusal.value.message
        assert other in refusal.value.message
        named = configured(host, Config(grub_config=other))
        assert named.grub_config() == (other, mine)
        plant(tmp_path, {other: old})
        assert replace(host).grub_config() == (GRUB, old), "the same menu twice"

    @pytest.mark.parametrize(
        ("other", "efi"),
        [
            (b"configfile ($dev)/grub2/grub.cfg", {EFI_FILE: b"64"}),
            (b"configfile ($dev)/grub2/grub.cfg", {}),
            (b"menuentry 'of UEFI' {}", {}),
        ],
        ids=["leads to the menu", "the same on a BIOS", "a menu that no BIOS reads"],
    )
    def test_a_second_file_that_grub_shows_no_menu_of_is_passed_over(
        self, tmp_path: Path, other: bytes, efi: dict[str, bytes]
    ) -> None:
        mine, place = b"menuentry 'Qubes' {}", "/boot/efi/EFI/qubes/grub.cfg"
        host = machine(tmp_path, {GRUB: mine, place: other, **efi})
        assert host.grub_config() == (GRUB, mine)

    def test_one_that_cannot_be_read_is_not_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / GRUB.lstrip("/")).mkdir(parents=True)
        host = machine(tmp_path, {"/boot/grub/grub.cfg": b"another"})
        with pytest.raises(BootFileError, match=re.escape(GRUB)):
            host.grub_config()

    def test_without_one_every_place_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BootFileError) as refusal:
            LiveHost(tmp_path).grub_config()
        for place in host_module.GRUB_CONFIG_PLACES:
            assert place in refusal.value.message
        with pytest.raises(BootFileError):
            LiveHost(tmp_path).grub_env()

    def test_there_need_be_no_grubenv(self, host: LiveHost) -> None:
        assert removed(host, "/boot/grub2/grubenv").grub_env() is None

    def test_grub_sees_files_below_its_own_root(self, host: LiveHost) -> None:
        assert host.grub_exists("/grub2/custom.cfg")
        assert host.grub_exists("/grub2")
        assert host.grub_read("/grub2/custom.cfg") == b"set timeout=1\n"
        assert not host.grub_exists("/custom.cfg")
        assert host.grub_read("/custom.cfg") is None
        assert host.grub_read("/grub2") is None

    def test_a_file_to_source_is_bounded(
        self, host: LiveHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_module, "GRUB_CONFIG_LIMIT", 3)
        with pytest.raises(BootFileError, match=r"custom\.cfg is larger than 3 bytes"):
            host.grub_read("/grub2/custom.cfg")


class TestResolve:
    @pytest.mark.parametrize(
        ("grub_path", "path"),
        [
            ("/xen.gz", "/boot/xen.gz"),
            ("/boot/xen.gz", "/boot/xen.gz"),
            ("xen.gz", "/boot/xen.gz"),
            ("//grub2/../xen.gz", "/boot/xen.gz"),
            ("/../../xen.gz", "/boot/xen.gz"),
            ("/boot/gone.gz", "/boot/gone.gz"),
            ("/gone.gz", "/gone.gz"),
            ("/other/file", "/other/file"),
            ("/a\0b", "/a\0b"),
        ],
    )
    def test_existence_decides(self, host: LiveHost, grub_path: str, path: str) -> None:
        plant(host.root, {"/other/file": b""})
        assert host.resolve(grub_path) == path

    def test_a_file_below_boot_comes_before_one_below_the_root(
        self, host: LiveHost
    ) -> None:
        plant(host.root, {"/xen.gz": b"not what GRUB loads"})
        assert host.resolve("/xen.gz") == "/boot/xen.gz"


class TestLook:
    def test_each_view_of_each_file_is_answered(self, host: LiveHost) -> None:
        facts = host.look([XEN, KERNEL, XEN_AS_LOADED], [SHA1, SHA256])
        assert set(facts) == {XEN, KERNEL, XEN_AS_LOADED}
        assert facts[XEN].digests == {
            bank: bank.hash(b"xen") for bank in (SHA1, SHA256)
        }
        assert facts[KERNEL].size == 6

    def test_a_missing_file_is_named(self, host: LiveHost) -> None:
        with pytest.raises(BootFileError, match="/boot/gone does not exist") as refusal:
            host.look([XEN, GONE], [SHA256])
        assert refusal.value.hint is not None

    @pytest.mark.parametrize("wanted", [NO_TBOOT, NO_LUKS])
    def test_a_file_that_is_not_what_it_should_be_is_named(
        self, host: LiveHost, wanted: Wanted
    ) -> None:
        with pytest.raises(BootFileError, match=wanted.path):
            host.look([wanted], [SHA256])

    def test_a_fifo_among_the_boot_files_is_refused(self, host: LiveHost) -> None:
        os.mkfifo(host.root / "boot/fifo")
        with pytest.raises(BootFileError, match="/boot/fifo is not a regular file"):
            host.look([Wanted("/boot/fifo", View.RAW)], [SHA256])

    def test_a_link_does_not_lead_out_of_the_root(self, host: LiveHost) -> None:
        plant(host.root, {"/dev/sda2": b"the device"})
        link = host.root / LUKS.lstrip("/")
        link.parent.mkdir(parents=True)
        link.symlink_to("../../sda2")
        assert link.name == LUKS_UUID
        facts = host.look([Wanted(LUKS, View.RAW)], [SHA256])
        (found,) = facts.values()
        assert found.digests[SHA256] == SHA256.hash(b"the device")


class TestStateAndHook:
    def test_what_the_hook_left_is_read(self, host: LiveHost) -> None:
        assert host.hook_record() == FILES["/run/aemseal/record"]
        assert removed(host, "/run/aemseal/record").hook_record() is None

    def test_a_record_that_is_too_large_is_refused(self, host: LiveHost) -> None:
        plant(host.root, {"/run/aemseal/record": b"x" * (RECORD_LIMIT + 1)})
        with pytest.raises(EvidenceError, match="/run/aemseal/record is larger than"):
            host.hook_record()

    @pytest.mark.parametrize("name", host_module.SAVED_FILES)
    def test_state_without_secrets_is_read(self, host: LiveHost, name: str) -> None:
        assert host.saved(name) == b"{}\n"
        assert removed(host, f"/var/lib/aemseal/{name}").saved(name) is None

    @pytest.mark.parametrize("name", ["key.pem", "../../../etc/shadow", "", "state"])
    def test_nothing_else_of_the_state_folder_can_be_asked_for(
        self, host: LiveHost, name: str
    ) -> None:
        with pytest.raises(ValueError, match="none of"):
            host.saved(name)

    def test_the_time_is_utc_to_the_second(self, host: LiveHost) -> None:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", host.now())


@pytest.mark.parametrize(("root", "runs"), [("/", True), ("there", True), (".", False)])
def test_programs_are_run_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, runs: bool
) -> None:
    given = []

    class Places:
        def __init__(self, _: object, run: object, __: object) -> None:
            given.append(run)

        def logs(self) -> list[object]:
            return []

    monkeypatch.setattr(host_module, "LogPlaces", Places)
    (tmp_path / "there").symlink_to("/")
    LiveHost(tmp_path / root).event_logs()
    assert given == [read_program if runs else None]

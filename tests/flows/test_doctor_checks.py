# SPDX-License-Identifier: GPL-2.0-or-later
"""Each check of TPM, files and media fails when its precondition is broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import COUNTER_LIKE_OURS, Attacker
from breaking import (
    ACCEPTANCE,
    COPY,
    KEY,
    KEYFILE,
    LATER,
    PIN,
    PINNED,
    TOTP,
    Break,
    as_owner,
    at,
    boot_from_the_built_in_disk,
    boot_from_the_root,
    call_it_carried,
    change_auth,
    cut_a_stage_short,
    damage,
    enable_aem,
    fill_our_range,
    forget_the_pin,
    guard_otherwise,
    link_the_copy,
    lose,
    lose_the_medium,
    mask_aem,
    own_the_state,
    plant_a_storage_key,
    refuse_the_lockout_value,
    restate,
    switch_on_twice_more,
    write,
)
from disk_layouts import qubes_laptop
from tpm_sim.boot_directory import LUKS_PASSPHRASE, LUKS_UUID, make_luks_header
from unsealer import RefusedError, connected, unseal
from vault_world import INTERNAL, OLD, STICK, World, enrol
from ward import CHECKS, diagnosis, is_told, patient

from aemseal.flows import doctor_files, doctor_media, doctor_tpm
from aemseal.flows.attendance import attend
from aemseal.flows.doctor import EVERY_CHECK, examine, exit_code
from aemseal.flows.doctor_patient import Finding, Result
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.owner import (
    LOCKOUT_FILE,
    NEXT_OWNER_FILE,
    OWNER_FILE,
)
from aemseal.flows.state import (
    FORESEEN_FILE,
    STATE_FILE,
    KeptSecret,
    LuksSlot,
)
from aemseal.flows.tries import read_tries
from aemseal.words.errors import TpmError
from aemseal.world.config import Medium
from aemseal.world.host import LiveHost
from aemseal.world.luks_headers import LuksHeaders
from aemseal.world.signing import SigningKey
from aemseal.world.store import Files
from aemseal.world.tpm import NV_RANGE, Hierarchy

pytestmark = pytest.mark.tpm

CARRIED = b"media: [{label: internal, path: /boot/aemseal, carried: true}]\n"

FAILED, WARNING, SKIPPED, OK = Result.FAILED, Result.WARNING, Result.SKIPPED, Result.OK


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An enrolled machine, kept as it was when all was well."""
    with World(tmp_path_factory.mktemp("ward")) as world:
        world.boot(OLD)
        with world.vault() as vault:
            state = enrol(vault, OLD, pin=PIN)
            attend(vault, state, LiveHost(world.root))
        write(world, "/etc/aemseal.yaml", b"rotate: true\n")
        world.snapshot("healthy")
        yield world


@pytest.fixture
def world(ward: World) -> World:
    """The machine with all well again, one boot later."""
    ward.restore("healthy")
    ward.chip.power_on()
    ward.extend(13, OLD.luks)
    ward.launch(OLD)
    qubes_laptop(ward.root)
    return ward


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """A machine on which nothing was sealed yet."""
    with World(tmp_path) as world:
        yield world


BROKEN: tuple[tuple[str, Result, str, Break], ...] = (
    ("owner-auth", FAILED, "is not the one in /var/lib/aemseal/owner.auth",
     change_auth(Hierarchy.OWNER, b"another", OWNER_FILE)),
    ("owner-auth", FAILED, "has no owner authorisation",
     change_auth(Hierarchy.OWNER, b"", OWNER_FILE)),
    ("owner-auth", FAILED, "owner whose authorisation is not known", lose(OWNER_FILE)),
    ("lockout-auth", FAILED, "has no lockout authorisation",
     change_auth(Hierarchy.LOCKOUT, b"", LOCKOUT_FILE)),
    ("lockout-auth", WARNING, "another tool has set", lose(LOCKOUT_FILE)),
    ("lockout-auth", WARNING, "has refused", refuse_the_lockout_value),
    ("lockout-settings", WARNING, "5 tries, one back every 10 s", guard_otherwise),
    ("storage-key", FAILED, "0x81000001 is gone",
     as_owner(lambda attacker: attacker.clear_persistent(0x81000001))),
    ("storage-key", FAILED, "none that this TPM derives", plant_a_storage_key),
    ("storage-key", SKIPPED, "owner authorisation is not known", lose(OWNER_FILE)),
    ("counter", FAILED, "the TPM's counter is 2, and was left at 1",
     as_owner(lambda attacker: attacker.increment(attacker.index(NV_RANGE.start)))),
    ("counter", FAILED, "is gone",
     as_owner(lambda attacker: attacker.undefine(NV_RANGE.start))),
    ("counter", SKIPPED, "a move was cut short", cut_a_stage_short),
    ("nv-index", WARNING, "no NV index of our range", as_owner(fill_our_range)),
    ("switch-ons", WARNING, "switched on 3 times", switch_on_twice_more),
    ("switch-ons", SKIPPED, "no boot was confirmed yet", restate(attendance=None)),
    ("config", FAILED, "unknown key 'pcr'", damage("/etc/aemseal.yaml", b"pcr: 17\n")),
    ("initramfs-command", WARNING, "is not configured", lambda world: None),
    ("state", FAILED, "state.json is damaged", damage(STATE_FILE)),
    ("journal", FAILED, "stage was cut short", cut_a_stage_short),
    ("journal", FAILED, "journal.json is damaged", damage(JOURNAL_FILE)),
    ("journal", WARNING, "authorisations was cut short", damage(NEXT_OWNER_FILE)),
    ("signing-key", FAILED, "key-1.pem is missing", lose(KEY)),
    ("signing-key", FAILED, "key-1.pem", damage(KEY)),
    ("signing-key", FAILED, "is not the key that internal was sealed to",
     lambda world: write(world, KEY, SigningKey.generate().to_bytes())),
    ("vault-copies", WARNING, "vault-internal is missing", lose(COPY)),
    ("vault-copies", WARNING, "vault-internal is damaged", damage(COPY)),
    ("hook-files", FAILED, "srk.tr is not what enrol wrote", damage(PINNED)),
    ("file-modes", FAILED, "owner.auth has mode 0640",
     lambda world: at(world, OWNER_FILE).chmod(0o640)),
    ("file-modes", FAILED, "/var/lib/aemseal has mode 0777",
     lambda world: at(world, "/var/lib/aemseal").chmod(0o777)),
    ("file-modes", FAILED, "owner.auth is missing", lose(OWNER_FILE)),
    ("file-modes", FAILED, "is owned by user 1000", own_the_state),
    ("file-modes", FAILED, "is not a regular file", link_the_copy),
    ("clock", WARNING, "said 2999-01-01", restate(attendance=LATER)),
    ("clock", FAILED, "said 2999-01-01", restate(attendance=LATER, secrets=(TOTP,))),
    ("other-sealer", WARNING, "is enabled", enable_aem),
    ("media", FAILED, "no medium is at hand: internal", lose_the_medium),
    ("media", FAILED, "acceptance.1 is not what was published", lose(ACCEPTANCE)),
    ("media", WARNING, "not refreshed since the last move: stick",
     restate(stale=("stick",))),
    ("media-config", WARNING, "internal", call_it_carried),
    ("carried-media", WARNING, "a disk that is built in", boot_from_the_built_in_disk),
    ("carried-media", WARNING, "lies on the root file system", boot_from_the_root),
    ("pins", FAILED, "whoever switches it on is shown the secret", forget_the_pin),
    ("secrets", FAILED, "no secret is sealed", restate(secrets=())),
    ("keyfile-slot", SKIPPED, "is not at hand", restate(secrets=(KEYFILE,))),
    ("keyfile-slot", WARNING, "not on record",
     restate(secrets=(replace(KEYFILE, disk=None),))),
)  # fmt: skip
"""A check, what it finds, in which words, and what was done to the machine."""


@pytest.mark.parametrize(
    ("name", "result", "words", "breaking"),
    BROKEN,
    ids=[f"{each[0]}-{number}" for number, each in enumerate(BROKEN)],
)
def test_a_broken_precondition_is_found_by_its_check(
    world: World, name: str, result: Result, words: str, breaking: Break
) -> None:
    breaking(world)
    is_told(diagnosis(world.root, world.chip.tcti, name), result, words)


NEEDS_MORE = {"initramfs-command", "fallback-entries", "keyfile-slot"}
"""Checks for what this machine has not."""


def test_a_healthy_machine_has_nothing(world: World) -> None:
    call_it_carried(world)
    write(world, "/etc/aemseal.yaml", CARRIED)
    with patient(world.root, world.chip.tcti) as who:
        rooms = (doctor_tpm, doctor_files, doctor_media)
        for room in rooms:
            for each in examine(who, room.CHECKS):
                if each.name not in NEEDS_MORE:
                    assert each.finding.result is OK, each


def test_nothing_is_written_and_nothing_counts(world: World) -> None:
    for folder in ("dev", "sys", "proc"):
        shutil.rmtree(at(world, folder))
    with world.vault() as vault:
        counted = read_tries(vault.tpm)
    before = world.fingerprint()
    with patient(world.root, world.chip.tcti) as who:
        examine(who)
    assert world.fingerprint() == before
    with world.vault() as vault:
        assert read_tries(vault.tpm) == counted


class TestLockout:
    def test_few_tries_and_then_lockout_are_told(self, world: World) -> None:
        folder = at(world, INTERNAL.path)
        for _ in range(25):
            with pytest.raises(RefusedError):
                unseal(world.chip.tcti, folder, pin=b"a wrong one")
        few = diagnosis(world.root, world.chip.tcti, "pin-tries")
        is_told(few, WARNING, "7 of 32 tries are left", "aemseal confirm")
        for _ in range(7):
            with pytest.raises(RefusedError):
                unseal(world.chip.tcti, folder, pin=b"a wrong one")
        none = diagnosis(world.root, world.chip.tcti, "tpm-lockout")
        is_told(none, FAILED, "in dictionary attack lockout", "aemseal confirm")
        for name in ("counter", "storage-key", "owner-auth"):
            found = diagnosis(world.root, world.chip.tcti, name)
            assert found.result is OK, f"{name} needs no object that lockout guards"


class TestWithoutATpm:
    def test_every_check_says_so_or_goes_on(self, world: World) -> None:
        with patient(world.root, None) as who:
            found = examine(who)
        by_name = {each.name: each.finding for each in found}
        assert by_name["tpm"].result is FAILED
        assert exit_code(found) == TpmError.exit_code
        failed = {each.name for each in found if each.finding.result is FAILED}
        assert failed <= {"tpm", "boot-entry"}, "there is no grub.cfg on this machine"
        assert by_name["counter"].message == "no TPM answers"
        assert by_name["signing-key"].result is OK

    def test_its_absence_is_told_once(self, world: World) -> None:
        with patient(world.root, None) as who:
            told = [each.finding.message for each in examine(who)]
        assert told.count("no TPM answers here") == 1


class TestBeforeEnrolment:
    def test_what_enrol_needs_is_told(self, bare: World) -> None:
        bare.boot(OLD)
        with patient(bare.root, bare.chip.tcti) as who:
            found = {each.name: each.finding for each in examine(who)}
        for name in ("owner-auth", "lockout-auth", "lockout-settings", "nv-index"):
            assert found[name].result is OK, name
            assert found[name].hint is None
        assert "enrol sets one" in found["owner-auth"].message
        assert found["media"] == Finding(OK, "every configured medium is at hand")
        for name in ("counter", "pins", "hook-files"):
            assert found[name] == Finding(SKIPPED, "nothing is sealed here"), name

    def test_an_owner_that_another_tool_keeps_is_known(self, bare: World) -> None:
        bare.boot(OLD)
        with bare.vault() as vault, vault.tpm.session() as session:
            vault.tpm.change_auth(Hierarchy.OWNER, b"AEM's", session)
        unknown = diagnosis(bare.root, bare.chip.tcti, "owner-auth")
        is_told(unknown, FAILED, "is not known here", "owner_auth_file")
        write(bare, "/var/lib/anti-evil-maid/tpm-owner-pw", b"AEM's\n")
        known = diagnosis(bare.root, bare.chip.tcti, "owner-auth")
        assert known.result is OK

    def test_a_full_nv_range_keeps_from_enrolling(self, bare: World) -> None:
        bare.boot(OLD)
        with connected(bare.chip.tcti) as esapi:
            for handle in NV_RANGE:
                Attacker(esapi).define(handle, COUNTER_LIKE_OURS)
        found = diagnosis(bare.root, bare.chip.tcti, "nv-index")
        is_told(found, FAILED, "no NV index of our range")

    def test_a_medium_that_is_not_mounted_is_named(self, bare: World) -> None:
        bare.boot(OLD)
        path = b"media: [{label: stick, path: /media/away/aemseal}]\n"
        write(bare, "/etc/aemseal.yaml", path)
        found = diagnosis(bare.root, bare.chip.tcti, "media")
        is_told(found, FAILED, "stick is not at hand: /media/away/aemseal")

    def test_an_enrolment_that_waits_for_a_reboot_is_told(self, bare: World) -> None:
        bare.boot(OLD)
        write(bare, FORESEEN_FILE, b"{}")
        found = diagnosis(bare.root, bare.chip.tcti, "journal")
        is_told(found, WARNING, "waits for a reboot")


class TestKeyfile:
    def test_its_slot_is_looked_for_on_its_disk(self, world: World) -> None:
        make_luks_header(at(world, f"/dev/disk/by-uuid/{LUKS_UUID}"), LUKS_UUID)
        headers = LuksHeaders(Files(world.root))
        headers.begin(LUKS_UUID)
        slot = headers.add(LUKS_UUID, bytes(64), LUKS_PASSPHRASE)
        keyfile = replace(KEYFILE, disk=LuksSlot(LUKS_UUID, slot))
        restate(secrets=(keyfile,))(world)
        lost = diagnosis(world.root, None, "keyfile-slot")
        is_told(lost, FAILED, f"slot {slot} of the LUKS device {LUKS_UUID}")
        headers.install(headers.change(LUKS_UUID))
        assert diagnosis(world.root, None, "keyfile-slot").result is OK


class TestPrograms:
    @pytest.mark.parametrize(
        ("absent", "result"),
        [
            *(("cryptsetup", FAILED), ("tpm2_unseal", FAILED)),
            *(("qrencode", WARNING), ("zstd", WARNING)),
        ],
    )
    def test_an_absent_one_is_named(
        self, world: World, absent: str, result: Result
    ) -> None:
        found = diagnosis(
            world.root, None, "programs", has_program=lambda name: name != absent
        )
        is_told(found, result, f"there is no program {absent}")


class TestMedia:
    def test_one_that_is_away_keeps_no_other_from_being_in_force(
        self, bare: World
    ) -> None:
        bare.boot(OLD)
        with bare.vault() as vault:
            enrol(vault, OLD, media=(INTERNAL, STICK), pin=PIN)
        at(bare, "/media/stick/aemseal").rename(at(bare, "/away"))
        found = diagnosis(bare.root, bare.chip.tcti, "media")
        assert found == Finding(OK, "media are in force; not at hand: stick")

    def test_an_old_vault_file_without_a_copy_cannot_be_refreshed(
        self, world: World
    ) -> None:
        lose(COPY)(world)
        damage("/boot/aemseal/vault")(world)
        found = diagnosis(world.root, world.chip.tcti, "media")
        is_told(found, FAILED, "medium internal", "aemseal recover")

    def test_a_masked_service_seals_nothing(self, world: World) -> None:
        mask_aem(world)
        found = diagnosis(world.root, None, "other-sealer")
        assert found.result is OK

    def test_where_the_kernel_does_not_tell_of_a_disk_nothing_is_claimed(
        self, world: World
    ) -> None:
        call_it_carried(world)
        at(world, "/proc/self/mountinfo").unlink()
        found = diagnosis(world.root, None, "carried-media")
        assert found == Finding(SKIPPED, "on which disk internal lies is not told")

    def test_a_carried_one_that_is_away_is_judged_when_it_is_back(
        self, world: World
    ) -> None:
        restate(media=(Medium("stick", "/media/away/aemseal", carried=True),))(world)
        assert diagnosis(world.root, None, "carried-media").result is OK

    def test_what_each_secret_needs_is_named(self, world: World) -> None:
        restate(secrets=(KeptSecret("text", "text"), TOTP, KEYFILE))(world)
        found = diagnosis(world.root, None, "secrets")
        assert found.result is OK
        assert "text, needs an accepted boot;" in found.message
        assert "totp, needs an accepted boot, its PIN, the clock;" in found.message
        assert "its PIN, the disk 0f0e7a6c-0000" in found.message


def test_every_check_has_a_name_of_its_own() -> None:
    names = [name for name, _ in EVERY_CHECK]
    assert len(names) == len(set(names)) == len(CHECKS)

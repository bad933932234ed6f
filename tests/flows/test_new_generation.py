# SPDX-License-Identifier: GPL-2.0-or-later
"""A new generation on a medium that has the one before it."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from anew import ANEW, recovered, shown
from power_cuts import PowerCut, PowerCutError
from unsealer import connected
from vault_world import INTERNAL, NEWER, OLD, STICK, World, called, enrolled

from aemseal.flows.provision import free_place
from aemseal.flows.publishing import kept_vault_file
from aemseal.flows.sealing import ToSeal, seal_generation
from aemseal.flows.secret import Secret
from aemseal.words.errors import VaultError
from aemseal.world.tpm import NV_RANGE, TpmRefusedError

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2B_NV_PUBLIC

pytestmark = pytest.mark.tpm


def test_its_acceptance_never_has_the_name_of_the_one_in_force(tmp_path: Path) -> None:
    """A TPM may begin a new counter at the value that the old one has."""
    with enrolled(tmp_path) as world, world.vault() as vault:
        before = vault.require()
        assert world.opening() == called(OLD)
        new = seal_generation(
            vault,
            replace(before, generation=2, counter=free_place(vault, before.media)),
            (ToSeal(Secret("text", "text", b"another text")),),
            before=before,
        )
        assert before.count == 1
        assert new.count == 2


def test_an_empty_mount_point_is_not_the_medium_that_was_sealed_to(
    tmp_path: Path,
) -> None:
    """The stick is in a drawer, and the folder where it is mounted is there."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        world.file("", STICK).rename(tmp_path / "in a drawer")
        with world.vault() as vault:
            before = vault.require()
            with pytest.raises(VaultError, match="stick is not at hand"):
                free_place(vault, before.media)
            new = seal_generation(
                vault,
                replace(before, generation=2, counter=NV_RANGE[1]),
                (ToSeal(Secret("text", "text", b"another text")),),
                before=before,
            )
        assert new.stale == (STICK.label,)
        assert not world.file("", STICK).exists()


def test_a_new_medium_that_a_cut_left_without_its_files_gets_them(
    tmp_path: Path,
) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        world.file("", STICK).rmdir()
        world.snapshot("start")
        dry = PowerCut()
        world.enrol(OLD, media=(INTERNAL, STICK), seam=dry)
        kept = dry.steps.index(f"write {kept_vault_file(STICK.label)}")
        for after in (False, True):
            world.restore("start")
            world.boot(OLD)
            with pytest.raises(PowerCutError):
                world.enrol(
                    OLD, media=(INTERNAL, STICK), seam=PowerCut(kept, after=after)
                )
            world.boot(OLD)
            with world.vault() as vault:
                vault.settle()
                assert vault.require().stale == ()
            assert world.opening(STICK) == called(OLD)


def test_a_medium_that_is_reached_by_another_path_keeps_what_was_sealed(
    tmp_path: Path,
) -> None:
    """A stick is mounted in two places, and the configuration names the other one."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        (world.root / "mnt").symlink_to("media")
        there = replace(STICK, path="/mnt/stick/aemseal", carried=True)
        with world.vault() as vault:
            recovered(vault, OLD, (replace(INTERNAL, carried=True), there))
        assert shown(world, STICK) == {OLD.name: ANEW}


def planted_by_the_platform(world: World, handle: int) -> None:
    """Put an index there that no owner can take out: PPWRITE, PLATFORMCREATE."""
    with connected(world.chip.tcti) as esapi:
        area = struct.pack(">IHIHH", handle, 0x0B, 1 << 0 | 1 << 16 | 1 << 30, 0, 8)
        public, _ = TPM2B_NV_PUBLIC.unmarshal(struct.pack(">H", len(area)) + area)
        esapi.nv_define_space(
            auth=b"", public_info=public, auth_handle=ESYS_TR.PLATFORM
        )


def test_a_foreign_index_in_the_old_counters_place_keeps_none_from_ending(
    tmp_path: Path,
) -> None:
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        with connected(world.chip.tcti) as esapi:
            index = esapi.tr_from_tpmpublic(handle=NV_RANGE[0])
            esapi.nv_undefine_space(nv_index=index, auth_handle=ESYS_TR.PLATFORM)
        planted_by_the_platform(world, NV_RANGE[0])
        world.boot(NEWER)
        with world.vault() as vault:
            assert recovered(vault).state.counter == NV_RANGE[1]
            assert vault.settle() is None
        assert shown(world) == {NEWER.name: ANEW}


def test_a_counter_of_ours_that_is_not_taken_out_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with enrolled(tmp_path, (INTERNAL, STICK)) as world, world.vault() as vault:

        def refused(handle: int, session: object) -> None:
            raise TpmRefusedError("NV_UndefineSpace", 0x149)

        monkeypatch.setattr(vault.tpm, "undefine_counter", refused)
        with pytest.raises(TpmRefusedError, match="0x149"):
            recovered(vault, OLD)


def test_a_later_generation_that_an_older_disk_does_not_know_is_named(
    tmp_path: Path,
) -> None:
    """Copies of its media open for as long as its counter stands."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world, world.vault() as vault:
        with vault.owner_session(vault.require()) as session:
            vault.tpm.define_counter(NV_RANGE[5], session)
            vault.tpm.increment(NV_RANGE[5], session)
        [left] = recovered(vault, OLD).left
    assert left.startswith("the TPM's counter at 0x01a10ae5: nothing here knows it")

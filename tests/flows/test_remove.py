# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking the vault down: everything of ours goes, whatever state it is in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from anew import recovered
from attacker import AEM_SRK_PUBLIC, Attacker
from enrolling import file
from power_cuts import PowerCut, PowerCutError, Watching
from unsealer import connected
from vault_world import INTERNAL, NEWER, OLD, STICK, World, enrol, enrolled

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.flows.publishing import kept_vault_file
from aemseal.flows.remove import remove
from aemseal.flows.state import STATE_FILE
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, VaultError
from aemseal.world.seam import Seam
from aemseal.world.store import STATE_FOLDER
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

MEDIA = (INTERNAL, STICK)
REMOVE = "aemseal.flows.remove.remove"
SHARED = (
    "the storage key at 0x81000001: that place is everybody's, and others may use it"
)
HOOK = (
    "aemseal's hook in the initramfs: build that anew, or each boot says that no vault "
    "was found"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with enrolled(tmp_path, media=MEDIA) as world:
        yield world


def removed(world: World, seam: Seam | None = None) -> list[str]:
    with world.vault(seam) as vault:
        return remove(vault, MEDIA)


def path(world: World, inside: str) -> Path:
    return world.root / inside.lstrip("/")


def ours_left(world: World) -> set[str]:
    """Every file of ours, and what of ours the TPM has, but for the shared key."""
    found = {each.name for each in world.root.rglob("*") if each.is_file()}
    with world.vault() as vault:
        permanent = vault.tpm.permanent()
        counters = vault.tpm.handles(NV_RANGE.start, len(NV_RANGE))
        keys = vault.tpm.handles(SRK_HANDLE + 1, 254)
    found |= {f"0x{each:08x}" for each in counters | keys}
    found |= {"owner"} if permanent.owner_auth_set else set()
    found |= {"lockout"} if permanent.lockout_auth_set else set()
    return found - {"lock"}


def clear(vault: Vault, lockout: bytes) -> None:
    """Clear the TPM, as the firmware's set-up does."""
    with vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, lockout)
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)


def test_everything_of_ours_goes_and_what_stays_is_named(world: World) -> None:
    assert removed(world) == [SHARED, HOOK]
    assert ours_left(world) == set()
    assert world.opening() == world.opening_for_attacker() == set()


def test_a_storage_key_in_a_place_of_its_own_goes(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        with connected(world.chip.tcti) as esapi:
            attacker = Attacker(esapi)
            key = attacker.primary(AEM_SRK_PUBLIC, b"Anti Evil Maid's")
            attacker.persist(key, SRK_HANDLE)
        state = world.enrol(OLD)
        assert state.storage.handle == SRK_HANDLE + 1
        assert removed(world) == [HOOK]
        assert ours_left(world) == set()
        with connected(world.chip.tcti) as esapi:
            Attacker(esapi).index(SRK_HANDLE)


def test_an_owner_that_another_tool_keeps_stays(tmp_path: Path) -> None:
    value = b"Anti Evil Maid's"
    with World(tmp_path) as world:
        world.boot(OLD)
        with world.vault() as vault, vault.tpm.session() as session:
            vault.tpm.change_auth(Hierarchy.OWNER, value, session)
        with world.vault() as vault:
            enrol(vault, OLD, foreign_owner=value)
            left = remove(vault, foreign_owner=value)
        owner = "the TPM's owner authorisation: another tool keeps it"
        assert left == [SHARED, owner, HOOK]
        assert ours_left(world) == {"owner"}


def test_a_lockout_value_that_another_tool_set_stays(world: World) -> None:
    path(world, LOCKOUT_FILE).unlink()
    assert "lockout authorisation: another tool set it" in removed(world)[1]
    assert ours_left(world) == {"lockout"}


def test_a_lockout_value_that_the_tpm_takes_for_no_day_stays_with_its_file(
    world: World,
) -> None:
    with connected(world.chip.tcti) as esapi:
        esapi.tr_set_auth(esys_handle=ESYS_TR.LOCKOUT, auth_value=b"a wrong one")
        with pytest.raises(Exception, match="authorization HMAC"):
            esapi.dictionary_attack_lock_reset()
    assert "takes none for a day" in removed(world)[1]
    assert ours_left(world) == {"lockout", "lockout.auth"}
    assert "takes none for a day" in removed(world)[0]


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_state_keeps_nothing(world: World, damage: bytes | None) -> None:
    if damage is None:
        path(world, STATE_FILE).unlink()
    else:
        path(world, STATE_FILE).write_bytes(damage)
    assert removed(world) == [SHARED, HOOK]
    assert ours_left(world) == set()


def test_a_damaged_journal_keeps_nothing(world: World) -> None:
    path(world, JOURNAL_FILE).write_bytes(b"{}")
    assert removed(world) == [SHARED, HOOK]
    assert ours_left(world) == set()


def test_a_counter_that_nothing_on_the_disk_knows_is_named(world: World) -> None:
    path(world, STATE_FILE).write_bytes(b"{}")
    for medium in MEDIA:
        path(world, kept_vault_file(medium.label)).unlink()
    left = removed(world)
    assert left[0].startswith("the TPM's counter at 0x01a10ae0: nothing here knows it")
    assert left[1:] == [SHARED, HOOK]


def test_an_absent_medium_is_named_and_opens_nothing(world: World) -> None:
    gone = world.folder / "gone"
    world.file("", STICK).rename(gone)
    assert f"the medium stick: {STICK.path} is not at hand" in removed(world)
    shutil.copytree(gone, world.file("", STICK))
    assert world.opening(STICK) == set()


def test_without_the_owners_value_the_rest_goes(world: World) -> None:
    path(world, OWNER_FILE).write_bytes(b"of an older disk")
    left = removed(world)
    wrong = f"the TPM's owner authorisation is not the one in {OWNER_FILE}"
    assert left[0] == f"the TPM's counter at 0x01a10ae0: {wrong}"
    assert ours_left(world) == {"0x01a10ae0", "owner", "owner.auth"}
    assert world.opening() == set()


def test_a_cleared_tpm_has_nothing_to_be_removed(world: World) -> None:
    with world.vault() as vault:
        clear(vault, file(world, LOCKOUT_FILE))
    assert removed(world) == [HOOK]
    assert ours_left(world) == set()


def test_a_machine_without_a_vault_has_nothing_to_remove(world: World) -> None:
    removed(world)
    with pytest.raises(VaultError, match="nothing is sealed"):
        removed(world)


def test_what_the_tpm_or_a_medium_does_not_let_go_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: object) -> None:
        raise AemsealError("read-only")

    for name in ("aemseal.world.tpm.Tpm.undefine_counter", f"{REMOVE}_everything"):
        monkeypatch.setattr(name, stuck)
    left = removed(world)
    assert "the TPM's counter at 0x01a10ae0: read-only" in left
    assert "the medium stick: read-only" in left
    assert ours_left(world) >= {"0x01a10ae0", "vault"}


def test_what_others_put_in_our_folder_stays(world: World) -> None:
    path(world, f"{STATE_FOLDER}/notes").write_bytes(b"of the person")
    removed(world)
    assert ours_left(world) == {"notes"}
    with pytest.raises(VaultError, match="nothing is sealed"):
        removed(world)


@pytest.mark.parametrize("journal", [1, 2], ids=["begun", "promised"])
def test_both_generations_of_a_recover_cut_short_go(world: World, journal: int) -> None:
    world.snapshot("start")
    world.boot(NEWER)
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        recovered(vault)
    renames = [
        number
        for number, step in enumerate(seam.steps)
        if step == f"rename {JOURNAL_FILE}"
    ]
    world.restore("start")
    world.boot(NEWER)
    at = renames[journal - 1] + 12 * (2 - journal)
    with pytest.raises(PowerCutError), world.vault(PowerCut(at, after=True)) as vault:
        recovered(vault)
    world.boot(NEWER)
    assert removed(world) == [SHARED, HOOK]
    assert ours_left(world) == set()
    assert world.opening_for_attacker() == set()


def test_wherever_the_power_fails_remove_again_takes_down_the_rest(
    world: World,
) -> None:
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    removed(world, seam)
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(OLD)
        with pytest.raises(PowerCutError):
            removed(world, PowerCut(at, after=after))
        world.boot(OLD)
        with world.vault() as vault:
            vault.settle()
        if ours_left(world):
            removed(world)
        assert ours_left(world) == set(), where
        assert world.opening_for_attacker() == set(), where

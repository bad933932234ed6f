# SPDX-License-Identifier: GPL-2.0-or-later
"""Which key is trusted to seal to, and what is sealed to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from attacker import AEM_SRK_PUBLIC, Attacker
from tpm_sim.swtpm import Swtpm
from unsealer import lockout_count
from vault_world import Wire

from aemseal.formats.slot import PART_SIZE, SealedPart
from aemseal.formats.srk_templates import (
    OWN_TEMPLATE,
    STORAGE_TEMPLATES,
    StorageTemplate,
)
from aemseal.formats.tpm_policy import name_of
from aemseal.words.errors import TpmChangedError, TpmError
from aemseal.world.storage_key import StorageKey
from aemseal.world.tpm import Tpm
from aemseal.world.tpm_storage import SRK_HANDLE, Storage

# isort: split
# tpm2-pytss only after vault_world, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2B_PRIVATE, TPM2B_PUBLIC

pytestmark = pytest.mark.tpm

FREE_HANDLE = 0x81000002
PASSWORD = b"the password of Anti Evil Maid"
SECRET = bytes(range(40, 168))
NO_DA = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"


def id_of(template: StorageTemplate) -> str:
    return template.name


@pytest.fixture
def chip() -> Iterator[Swtpm]:
    with Swtpm() as chip:
        chip.power_on()
        yield chip


@pytest.fixture
def tpm(chip: Swtpm) -> Iterator[Tpm]:
    with Tpm(chip.tcti) as tpm:
        yield tpm


def plant(tpm: Tpm, public: bytes, password: bytes = b"") -> bytes:
    """Persist a key where the storage root key belongs; return its Name."""
    attacker = Attacker(tpm.esapi)
    key = attacker.primary(public, password)
    name = bytes(tpm.esapi.tr_get_name(handle=key))
    attacker.persist(key, SRK_HANDLE)
    return name


def persistent(tpm: Tpm) -> set[int]:
    return tpm.handles(0x81000000, 0x10000)


# --- which key is used ---


def test_without_any_key_our_own_goes_where_a_storage_root_key_belongs(
    tpm: Tpm,
) -> None:
    key = Storage(tpm).provide()
    assert key.handle == SRK_HANDLE
    assert persistent(tpm) == {SRK_HANDLE}
    public = Storage(tpm).public_area(SRK_HANDLE)
    assert public is not None
    assert name_of(public) == key.name


def test_our_own_key_is_found_again(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm:
        key = Storage(tpm).provide()
    chip.power_cut()
    chip.power_on()
    with Tpm(chip.tcti) as tpm:
        assert Storage(tpm).provide() == key
        assert persistent(tpm) == {SRK_HANDLE}


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=id_of)
def test_a_genuine_key_is_used_as_it_is(tpm: Tpm, template: StorageTemplate) -> None:
    name = plant(tpm, template.public)
    key = Storage(tpm).provide()
    assert (key.handle, key.name) == (SRK_HANDLE, name)
    assert persistent(tpm) == {SRK_HANDLE}


@pytest.mark.parametrize("kind", ["rsa2048", "ecc"])
def test_what_tpm2_tools_made_with_noda_is_used_as_it_is(
    chip: Swtpm, tmp_path: Any, kind: str
) -> None:
    for line in (
        ("tpm2_createprimary", "-C", "o", "-G", kind, "-a", NO_DA, "-c", "x.ctx"),
        ("tpm2_evictcontrol", "-C", "o", "-c", "x.ctx", "0x81000001"),
        ("tpm2_flushcontext", "-t"),
    ):
        subprocess.run(
            line,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "TPM2TOOLS_TCTI": chip.tcti, "TSS2_LOG": "all+none"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
    with Tpm(chip.tcti) as tpm:
        assert Storage(tpm).provide().handle == SRK_HANDLE


def test_an_imported_key_with_a_known_private_part_is_not_used(tpm: Tpm) -> None:
    Attacker(tpm.esapi).plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
    planted = Storage(tpm).public_area(SRK_HANDLE)
    key = Storage(tpm).provide()
    assert key.handle == FREE_HANDLE
    ours = Storage(tpm).public_area(FREE_HANDLE)
    assert planted is not None
    assert ours is not None
    assert key.name == name_of(ours) != name_of(planted)


@pytest.mark.parametrize(
    "template", [each for each in STORAGE_TEMPLATES if "TCG" in each.name], ids=id_of
)
def test_a_key_that_only_looks_like_a_template_is_not_used(
    tpm: Tpm, template: StorageTemplate
) -> None:
    """The same attributes, another seed: its public area differs in `unique` alone."""
    other = bytearray(template.public)
    other[-1] = 1  # another unique field, so another key of the owner's seed
    name = plant(tpm, bytes(other))
    found = Storage(tpm).provide()
    assert found.handle == FREE_HANDLE
    assert found.name != name


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=id_of)
def test_a_key_with_a_password_is_not_used_and_costs_no_failure(
    tpm: Tpm, template: StorageTemplate
) -> None:
    plant(tpm, template.public, PASSWORD)
    key = Storage(tpm).provide()
    assert key.handle == FREE_HANDLE
    assert lockout_count(tpm.esapi) == 0
    with tpm.session(Storage(tpm).pinned(key)) as session:
        Storage(tpm).seal(SECRET, bytes(32), Storage(tpm).pinned(key), session)


@pytest.mark.parametrize("password", [b"", PASSWORD], ids=["no password", "one"])
def test_a_key_whose_use_counts_towards_lockout_is_not_even_tried(
    tpm: Tpm, password: bytes
) -> None:
    """Anti Evil Maid's, made by tpm2-tools' default: it has no noDA."""
    plant(tpm, AEM_SRK_PUBLIC, password)
    assert Storage(tpm).provide().handle == FREE_HANDLE
    assert lockout_count(tpm.esapi) == 0


def test_our_own_key_beside_a_foreign_one_is_found_again(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm:
        plant(tpm, AEM_SRK_PUBLIC, PASSWORD)
        key = Storage(tpm).provide()
    chip.power_cut()
    chip.power_on()
    with Tpm(chip.tcti) as tpm:
        assert Storage(tpm).provide() == key
        assert persistent(tpm) == {SRK_HANDLE, FREE_HANDLE}


def test_a_taken_handle_is_passed_over(tpm: Tpm) -> None:
    attacker = Attacker(tpm.esapi)
    for handle in (SRK_HANDLE, FREE_HANDLE):
        attacker.plant_key(handle, OWN_TEMPLATE.public)
    assert Storage(tpm).provide().handle == FREE_HANDLE + 1


# --- the pin ---


def evict(tpm: Tpm, handle: int) -> None:
    Attacker(tpm.esapi).clear_persistent(handle)


def test_a_pinned_key_that_is_gone_is_told_apart_from_a_changed_boot(
    tpm: Tpm,
) -> None:
    key = Storage(tpm).provide()
    evict(tpm, key.handle)
    with pytest.raises(TpmChangedError, match=r"0x81000001 is gone$") as told:
        Storage(tpm).pinned(key)
    assert told.value.hint is not None
    assert "says nothing of the boot files" in told.value.hint


def test_another_key_at_the_pinned_handle_is_refused(tpm: Tpm) -> None:
    key = Storage(tpm).provide()
    evict(tpm, key.handle)
    Attacker(tpm.esapi).plant_key(key.handle, OWN_TEMPLATE.public)
    with pytest.raises(TpmChangedError, match=r"0x81000001 is another one$"):
        Storage(tpm).pinned(key)


def test_the_key_of_a_cleared_tpm_is_another_one(tpm: Tpm) -> None:
    key = Storage(tpm).provide()
    tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT)
    with pytest.raises(TpmChangedError, match="is gone"):
        Storage(tpm).pinned(key)
    again = Storage(tpm).provide()
    assert again.handle == key.handle
    assert again.name != key.name
    with pytest.raises(TpmChangedError, match="is another one"):
        Storage(tpm).pinned(key)


def test_a_key_swapped_after_the_look_learns_nothing(chip: Swtpm) -> None:
    """Sessions are salted to the key that was pinned, not to the one that is there."""
    wire = Wire(chip.tcti)
    tcti: Any = wire
    with Tpm(tcti) as tpm:
        key = Storage(tpm).provide()
        handle = Storage(tpm).pinned(key)
        evict(tpm, key.handle)
        Attacker(tpm.esapi).plant_key(key.handle, OWN_TEMPLATE.public)
        with pytest.raises(TpmError), tpm.session(handle) as session:
            Storage(tpm).seal(SECRET, bytes(32), handle, session)
    assert not wire.tells(SECRET)


# --- what is sealed ---


@pytest.fixture
def key(tpm: Tpm) -> StorageKey:
    return Storage(tpm).provide()


def sealed(tpm: Tpm, key: StorageKey, data: bytes, policy: bytes) -> SealedPart:
    parent = Storage(tpm).pinned(key)
    with tpm.session(parent) as session:
        return Storage(tpm).seal(data, policy, parent, session)


def test_a_sealed_object_is_what_vault_md_says(tpm: Tpm, key: StorageKey) -> None:
    policy = bytes(range(32))
    part = sealed(tpm, key, SECRET, policy)
    public, _ = TPM2B_PUBLIC.unmarshal(part.public)
    private, _ = TPM2B_PRIVATE.unmarshal(part.private)
    parent = Storage(tpm).pinned(key)
    loaded = tpm.esapi.load(parent_handle=parent, in_private=private, in_public=public)
    found, _, _ = tpm.esapi.read_public(object_handle=loaded)
    tpm.esapi.flush_context(flush_handle=loaded)
    area = bytes(found.publicArea.marshal())
    # TPM_ALG_KEYEDHASH, SHA-256; fixedTPM, fixedParent, adminWithPolicy, noDA: not
    # userWithAuth, sensitiveDataOrigin, restricted, decrypt or sign; the policy.
    attributes = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 10
    head = bytes.fromhex("0008 000b") + attributes.to_bytes(4, "big")
    assert area.startswith(head + b"\0\x20" + policy + bytes.fromhex("0010"))


def test_the_secret_stays_off_the_bus(chip: Swtpm) -> None:
    wire = Wire(chip.tcti)
    tcti: Any = wire
    with Tpm(tcti) as tpm:
        sealed(tpm, Storage(tpm).provide(), SECRET, bytes(32))
    assert len(wire.heard) > 10
    assert not wire.tells(SECRET)


@pytest.mark.parametrize("size", [0, PART_SIZE + 1])
def test_a_part_has_one_to_128_bytes(tpm: Tpm, key: StorageKey, size: int) -> None:
    with pytest.raises(ValueError, match="1 to 128 bytes"):
        sealed(tpm, key, bytes(size), bytes(32))


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=id_of)
def test_every_kind_of_storage_key_seals_the_largest_part(
    tpm: Tpm, template: StorageTemplate
) -> None:
    plant(tpm, template.public)
    key = Storage(tpm).provide()
    assert key.handle == SRK_HANDLE
    assert len(SECRET) == PART_SIZE
    sealed(tpm, key, SECRET, bytes(32))


def test_nothing_is_left_loaded(tpm: Tpm) -> None:
    key = Storage(tpm).provide()
    sealed(tpm, key, SECRET, bytes(32))
    assert tpm.handles(0x80000000, 0x1000) == set()
    assert tpm.handles(0x02000000, 0x1000) == set()

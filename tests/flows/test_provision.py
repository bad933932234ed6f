# SPDX-License-Identifier: GPL-2.0-or-later
"""Provisioning: from any TPM to one secret that opens on the boots named."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacker import AEM_SRK_PUBLIC, COUNTER_LIKE_OURS, Attacker
from enrolling import file
from publishing import unchanged_after
from unsealer import SELECTION, RefusedError, connected, lockout_count
from vault_world import EVIL, INTERNAL, NEW, OLD, SECRET, STICK, Wire, World, enrol

from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.flows.provision import (
    HOOK_FOLDER,
    own_the_tpm,
    seal,
    write_hook_files,
)
from aemseal.flows.remove import remove
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import TEXT_LIMIT, Secret
from aemseal.flows.state import STATE_FILE, KeptSecret
from aemseal.flows.vault import Vault
from aemseal.formats.hook_files import hook_conf
from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.words.errors import AemsealError, LockoutError, TpmError, VaultError
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

AEM_OWNER = b"5f3759df5f3759df5f3759df5f3759df"
AEM_SRK_PASSWORD = b"AEM's SRK password"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen; nothing is enrolled."""
    with World(tmp_path) as world:
        world.boot(OLD)
        yield world


def set_auth(world: World, hierarchy: Hierarchy, value: bytes) -> None:
    """Let another tool set an authorisation value."""
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.change_auth(hierarchy, value, session)


def plant_srk(world: World, password: bytes, owner: bytes = b"") -> None:
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi, owner)
        key = attacker.primary(AEM_SRK_PUBLIC, password)
        attacker.persist(key, SRK_HANDLE)


def refused(
    world: World,
    error: type[AemsealError],
    attempt: Callable[[Vault], object] = lambda vault: enrol(vault, OLD),
) -> AemsealError:
    """Run an enrolment that is refused; nothing durable may have changed by it."""
    return unchanged_after(world, attempt, error)


# --- a fresh TPM ---


def test_the_secret_opens_on_the_boot_that_was_accepted(world: World) -> None:
    state = world.enrol(OLD)
    assert world.unseal() == SECRET
    assert world.opening() == world.opening_for_attacker() == {OLD.name}
    assert state.secrets == (KeptSecret("text", "text"),)
    with world.vault() as vault:
        assert vault.require() == state


def test_the_secret_opens_on_the_boot_that_was_staged(world: World) -> None:
    """A machine that never ran the hook is enrolled for the boot that will."""
    with world.vault() as vault:
        enrol(vault, staged=(NEW,))
    assert world.opening() == {NEW.name}


@pytest.mark.parametrize("size", [1, 128, 129, TEXT_LIMIT])
def test_a_secret_of_any_size_comes_back_whole(world: World, size: int) -> None:
    secret = bytes(33 + number * 7 % 94 for number in range(size))
    world.enrol(OLD, secret=secret)
    assert world.unseal() == secret


@pytest.mark.parametrize(
    ("name", "kind", "value", "complaint"),
    [
        ("a text", "text", b"x", "no secret 'a text'"),
        ("text", "picture", b"x", "of kind 'picture'"),
    ],
)
def test_a_secret_of_no_known_name_or_kind_is_refused_at_once(
    name: str, kind: str, value: bytes, complaint: str
) -> None:
    with pytest.raises(VaultError, match=complaint):
        Secret(name, kind, value)


def test_a_secret_does_not_show_itself() -> None:
    assert "lazy" not in repr(Secret("text", "text", SECRET))


def test_owner_and_lockout_are_ours_and_their_values_are_on_the_encrypted_root(
    world: World,
) -> None:
    world.enrol(OLD)
    values = {file(world, OWNER_FILE), file(world, LOCKOUT_FILE)}
    assert len(values) == 2
    with world.vault() as vault:
        permanent = vault.tpm.permanent()
        assert permanent.owner_auth_set
        assert permanent.lockout_auth_set
    with connected(world.chip.tcti) as esapi, pytest.raises(RefusedError) as no:
        Attacker(esapi).undefine(NV_RANGE.start)
    assert no.value.code == 0x9A2  # TPM_RC_BAD_AUTH, session 1
    with connected(world.chip.tcti) as esapi:
        Attacker(esapi, file(world, OWNER_FILE)).undefine(NV_RANGE.start)


def test_the_hooks_files_are_there_for_the_initramfs(world: World) -> None:
    state = world.enrol(OLD)
    assert file(world, f"{HOOK_FOLDER}/srk.tr") == state.storage.serialized
    assert file(world, f"{HOOK_FOLDER}/hook.conf") == hook_conf(SELECTION)


def test_tpm2_tools_take_the_pinned_key(world: World, tmp_path: Path) -> None:
    state = world.enrol(OLD)
    (tmp_path / "srk.tr").write_bytes(state.storage.serialized)
    subprocess.run(
        ("tpm2_startauthsession", "--hmac-session", "-c", "srk.tr", "-S", "session"),
        check=True,
        cwd=tmp_path,
        env={**os.environ, "TPM2TOOLS_TCTI": world.chip.tcti, "TSS2_LOG": "all+none"},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_a_second_enrolment_is_refused(world: World) -> None:
    world.enrol(OLD)

    def again(vault: Vault) -> object:
        state = vault.require()
        return seal(vault, state, (ToSeal(Secret("text", "text", b"another")),))

    told = refused(world, VaultError, again)
    assert "is sealed on this machine already" in told.message
    assert world.unseal() == SECRET


# --- a TPM that others used before ---


def test_an_owner_known_from_another_tool_is_used_and_left_in_force(
    world: World,
) -> None:
    set_auth(world, Hierarchy.OWNER, AEM_OWNER)
    wire = Wire(world.chip.tcti)
    with world.vault(wire=wire) as vault:
        enrol(vault, OLD, foreign_owner=AEM_OWNER)
    assert world.opening() == {OLD.name}
    assert file(world, OWNER_FILE) == AEM_OWNER
    assert not wire.tells(AEM_OWNER)
    with connected(world.chip.tcti) as esapi:
        Attacker(esapi, AEM_OWNER).define(0x01800001, COUNTER_LIKE_OURS)


@pytest.mark.parametrize("foreign", [None, b"a wrong one"])
def test_an_owner_nobody_here_knows_is_told_with_what_to_do(
    world: World, foreign: bytes | None
) -> None:
    set_auth(world, Hierarchy.OWNER, AEM_OWNER)
    told = refused(
        world, TpmError, lambda vault: enrol(vault, OLD, foreign_owner=foreign)
    )
    assert "an owner whose authorisation is not known here" in told.message
    assert "owner_auth_file in /etc/aemseal.yaml" in (told.hint or "")
    assert told.exit_code == 5


def test_an_owner_of_our_own_earlier_enrolment_is_used_again(world: World) -> None:
    """As where the state was lost, and the rest of the encrypted root was not."""
    world.enrol(OLD)
    value = file(world, OWNER_FILE)
    (world.root / STATE_FILE.lstrip("/")).unlink()
    world.enrol(OLD)
    assert file(world, OWNER_FILE) == value
    assert world.opening() == {OLD.name}


def test_a_cleared_tpm_gets_new_values(world: World) -> None:
    world.enrol(OLD)
    old = file(world, OWNER_FILE), file(world, LOCKOUT_FILE)
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, old[1])
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)
    with world.vault() as vault:
        remove(vault)
    world.enrol(OLD)
    new = file(world, OWNER_FILE), file(world, LOCKOUT_FILE)
    assert not set(old) & set(new)
    assert world.opening() == world.opening_for_attacker() == {OLD.name}


def test_a_storage_key_with_a_password_is_left_alone_with_the_lockout_count(
    world: World,
) -> None:
    plant_srk(world, AEM_SRK_PASSWORD)
    state = world.enrol(OLD)
    assert state.storage.handle == SRK_HANDLE + 1
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 0
        Attacker(esapi).index(SRK_HANDLE)
    assert world.unseal(parent=SRK_HANDLE + 1) == SECRET


@pytest.mark.parametrize("password", [b"", AEM_SRK_PASSWORD], ids=["none", "one"])
def test_power_cuts_after_the_secret_was_shown_never_lock_the_tpm(
    world: World, password: bytes
) -> None:
    """Anti Evil Maid's own key has no noDA: sealed to, the third boot was refused."""
    plant_srk(world, password)
    state = world.enrol(OLD)
    for _ in range(5):
        assert world.unseal(parent=state.storage.handle) == SECRET
        world.chip.power_cut()
        world.boot(OLD)
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 0


def test_a_lockout_authorisation_of_another_tool_stays(world: World) -> None:
    set_auth(world, Hierarchy.LOCKOUT, b"another tool's")
    plant_srk(world, AEM_SRK_PASSWORD)
    world.enrol(OLD)
    assert not (world.root / LOCKOUT_FILE.lstrip("/")).exists()
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 0


def test_a_planted_storage_key_is_not_sealed_to(world: World) -> None:
    with connected(world.chip.tcti) as esapi:
        Attacker(esapi).plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
    state = world.enrol(OLD)
    assert state.storage.handle == SRK_HANDLE + 1
    assert world.unseal(parent=SRK_HANDLE + 1) == SECRET


def test_a_tpm_in_lockout_is_left_as_it_is(world: World) -> None:
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi)
        key = attacker.primary(AEM_SRK_PUBLIC, AEM_SRK_PASSWORD)
        esapi.tr_set_auth(esys_handle=key, auth_value=b"a guess")
        for _ in range(10):
            with pytest.raises(RefusedError):
                attacker.do("create", parent_handle=key, in_sensitive=None)
        esapi.flush_context(flush_handle=key)
    told = refused(world, LockoutError)
    assert told.exit_code == 5


def test_an_index_planted_where_the_counter_goes_is_passed_over(world: World) -> None:
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi)
        attacker.increment(attacker.define(NV_RANGE[0], COUNTER_LIKE_OURS))
        attacker.define(NV_RANGE[1], 1 << 1 | 1 << 18)
    state = world.enrol(OLD)
    assert state.counter == NV_RANGE[2]
    assert world.opening() == world.opening_for_attacker() == {OLD.name}


# --- what is refused before the counter is made ---


def own(world: World) -> None:
    """Own the TPM and write the hook's files: all that comes before `seal`."""
    with world.vault() as vault:
        write_hook_files(vault, own_the_tpm(vault, None), SELECTION)


def test_a_full_range_of_indices_is_told(world: World) -> None:
    with connected(world.chip.tcti) as esapi:
        for handle in NV_RANGE:
            Attacker(esapi).define(handle, 1 << 1 | 1 << 18)
    own(world)
    told = refused(world, TpmError)
    assert told.message == "all NV indices of our range are in use"


def test_without_a_boot_there_is_nothing_to_seal_to(world: World) -> None:
    own(world)
    told = refused(world, VaultError, enrol)
    assert told.message == "0 boots cannot be accepted: 1 to 8"


def test_a_medium_that_is_not_mounted_is_named(world: World) -> None:
    shutil.rmtree(world.file("", STICK).parent)
    own(world)
    told = refused(
        world, VaultError, lambda vault: enrol(vault, OLD, media=(INTERNAL, STICK))
    )
    assert told.message == f"the medium stick is not at hand: {STICK.path}"


# --- taking it down ---


def test_after_remove_nothing_opens_and_a_new_enrolment_does(world: World) -> None:
    first = world.enrol(OLD)
    with world.vault() as vault:
        remove(vault)
        assert vault.load() is None
    assert world.opening() == world.opening_for_attacker() == set()
    world.boot(NEW)
    second = world.enrol(NEW)
    assert second.count > first.count
    assert world.opening() == world.opening_for_attacker() == {NEW.name}
    assert not world.opens(EVIL)

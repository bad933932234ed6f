# SPDX-License-Identifier: GPL-2.0-or-later
"""The attacks of the vault's design, each on a real TPM.

The victim was enrolled on the old Xen, updated, and has confirmed the new one: the new
Xen is accepted, the old one retired. Every file that ever lay on a medium was copied.
Each attack is made twice where the owner's authorisation matters: against ours, which
the attacker does not know, and with an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacker import (
    AUTHREAD,
    AUTHWRITE,
    COUNTER_LIKE_OURS,
    NO_DA,
    NT_BITS,
    NT_COUNTER,
    NT_EXTEND,
    OWNERWRITE,
    Attacker,
)
from tpm_sim import wire
from tpm_sim.swtpm import LOCALITY_LAUNCHED
from vault_world import (
    EVIL,
    INTERNAL,
    LUKS_HEADER,
    NEW,
    OLD,
    SECRET,
    SHA256,
    SINIT,
    STICK,
    Boot,
    NoAcceptanceError,
    RefusedError,
    Unsealer,
    World,
    connected,
    lockout_count,
)

from aemseal.flows.moves import confirm, stage
from aemseal.flows.vault import OWNER_FILE
from aemseal.formats.hook_files import CAP_DATA
from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    AcceptedBranch,
    VaultFile,
    acceptance_file,
    approved_policy,
)
from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.formats.tpm_policy import approval_digest, counter_name
from aemseal.words.digest import HashAlgorithm
from aemseal.world.signing import SigningKey
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CC,
    TPM2_SE,
    TPMT_SYM_DEF_OBJECT,
)

pytestmark = pytest.mark.tpm

COUNTER = NV_RANGE.start
BAD_OWNER = 0x9A2
"""TPM_RC_BAD_AUTH for session 1: the owner's authorisation is another."""

RC_BRANCH = 0x1C4
"""TPM_RC_VALUE for parameter 1: PolicyOR with a digest that is none of its list."""

RC_APPROVED = 0x1C4
"""The same of PolicyAuthorize: the session's policy is not the approved one."""

RC_COUNT = 0x126
"""TPM_RC_POLICY: PolicyNV does not hold."""

RC_SIGNATURE = 0x2DB
RC_POLICY_FAIL = 0x99D
RC_PCR_CHANGED = 0x128
RC_LOCALITY = 0x907
RC_AUTH_UNAVAILABLE = 0x12F
RC_AUTH_TYPE = 0x124
"""A policy is asked for: adminWithPolicy, and the DUP role always."""

RC_ATTRIBUTES = (0x082, 0x182, 0x282)
"""TPM_RC_ATTRIBUTES, of the command or of its first or second handle."""

RC_INTEGRITY = 0x1DF


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The victim's machine, as the attacker finds it."""
    with World(tmp_path) as world:
        world.boot(OLD)
        world.enrol(OLD, media=(INTERNAL, STICK))
        with world.vault() as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault() as vault:
            confirm(vault, vault.require(), NEW.sealed)
        yield world


@pytest.fixture(params=["owner ours", "owner empty"])
def owner_is_empty(request: pytest.FixtureRequest, world: World) -> bool:
    """Whether the owner's authorisation was emptied; the attacker tries no other."""
    if request.param == "owner ours":
        return False
    value = (world.root / OWNER_FILE.lstrip("/")).read_bytes()
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        vault.tpm.change_auth(Hierarchy.OWNER, b"", session)
    return True


@contextmanager
def attacking(world: World) -> Iterator[Attacker]:
    with connected(world.chip.tcti) as esapi:
        yield Attacker(esapi)


def code_of(attempt: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(RefusedError) as refused:
        attempt(*arguments)
    return refused.value.code


def in_force(world: World, medium: Any = INTERNAL) -> tuple[VaultFile, Acceptance]:
    """Read the vault and the newest acceptance of a medium."""
    vault = VaultFile.parse(world.file(VAULT_FILE, medium).read_bytes())
    newest = max(
        int(each.name.rpartition(".")[2])
        for each in world.file("", medium).glob("acceptance.*")
    )
    path = world.file(acceptance_file(newest), medium)
    return vault, Acceptance.parse(path.read_bytes())


@contextmanager
def unsealing(world: World, medium: Any = INTERNAL, **other: Any) -> Iterator[Unsealer]:
    """The hook's way, step by step, with the files in force or with `other` ones."""
    vault, acceptance = in_force(world, medium)
    with (
        connected(world.chip.tcti) as esapi,
        Unsealer(
            esapi, other.get("vault", vault), other.get("acceptance", acceptance)
        ) as unsealer,
    ):
        yield unsealer


def kept(world: World, count: int, medium: Any = INTERNAL) -> Acceptance:
    """An acceptance of earlier, from the attacker's copies."""
    path = f"{medium.path}/{acceptance_file(count)}"
    (data,) = world.seen[path]
    return Acceptance.parse(data)


def test_without_any_attack_the_accepted_boot_opens_and_no_other(world: World) -> None:
    assert world.opening_for_attacker() == {NEW.name}
    world.boot(NEW)
    assert world.unseal() == SECRET


# --- old files ---


def test_old_files_of_xen_get_nothing(world: World) -> None:
    world.boot(OLD)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH


@pytest.mark.parametrize("count", [2, 3])
def test_old_files_of_xen_with_old_files_of_ours_get_nothing(
    world: World, count: int
) -> None:
    world.boot(OLD)
    with unsealing(world, acceptance=kept(world, count)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_nv, session) == RC_COUNT


def test_an_old_acceptance_under_the_new_number_gets_nothing(world: World) -> None:
    _, now = in_force(world)
    renamed = replace(kept(world, 3), count=now.count)
    world.boot(OLD)
    with unsealing(world, acceptance=renamed) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED


def test_leaving_the_counter_out_gets_nothing(world: World) -> None:
    world.boot(OLD)
    with unsealing(world, acceptance=kept(world, 3)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


# --- the counter ---


def test_the_counter_undefined_and_defined_again_only_shuts_the_vault(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        before = attacker.read(attacker.index(COUNTER))
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        index = attacker.define(COUNTER, COUNTER_LIKE_OURS)
    for _ in range(4):
        with attacking(world) as attacker:
            index = attacker.index(COUNTER)
            attacker.increment(index)
            assert attacker.read(index) > before
        assert world.opening_for_attacker() == set()


def test_a_counter_never_counted_has_no_value_to_compare(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        attacker.define(COUNTER, COUNTER_LIKE_OURS)
    world.launch(NEW)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_nv, session) == 0x14A  # TPM_RC_NV_UNINITIALIZED
    assert world.opening_for_attacker() == set()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", ["ordinary", "bits"])
def test_another_index_with_the_right_number_in_it_gets_nothing(
    world: World, kind: str, count: int, *, owner_is_empty: bool
) -> None:
    """The old acceptance's number, written where the counter was."""
    attributes = OWNERWRITE | AUTHREAD | NO_DA
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        if kind == "ordinary":
            index = attacker.define(COUNTER, attributes)
            data = count.to_bytes(8, "big")
            attacker.do(
                "nv_write", nv_index=index, data=data, auth_handle=ESYS_TR.OWNER
            )
        else:
            index = attacker.define(COUNTER, attributes | NT_BITS)
            attacker.do(
                "nv_set_bits", nv_index=index, bits=count, auth_handle=ESYS_TR.OWNER
            )
        assert attacker.read(index) == count
    world.launch(OLD)
    with unsealing(world, acceptance=kept(world, count)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)  # the number is right, the Name in the policy is not
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
    assert world.opening_for_attacker() == set()


@pytest.mark.parametrize(
    "attributes",
    [
        NT_COUNTER | AUTHWRITE | AUTHREAD | NO_DA,
        COUNTER_LIKE_OURS | AUTHWRITE,
        COUNTER_LIKE_OURS & ~NO_DA,
        NT_EXTEND | OWNERWRITE | AUTHREAD | NO_DA,
    ],
    ids=["counted by anyone", "counted by both", "guarded", "extended"],
)
def test_an_index_with_other_attributes_only_shuts_the_vault(
    world: World, attributes: int, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        is_extended = attributes & 0xF0 == NT_EXTEND
        attacker.define(COUNTER, attributes, 32 if is_extended else 8)
    for number in range(4):
        with attacking(world) as attacker:
            index = attacker.index(COUNTER)
            writer = ESYS_TR.OWNER if attributes & OWNERWRITE else index
            if is_extended:
                data = number.to_bytes(8, "big")
                attacker.do("nv_extend", nv_index=index, data=data, auth_handle=writer)
            else:
                attacker.do("nv_increment", nv_index=index, auth_handle=writer)
        assert world.opening_for_attacker() == set()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("nv_write", {"data": (3).to_bytes(8, "big")}),
        ("nv_set_bits", {"bits": 3}),
        ("nv_extend", {"data": b"\0"}),
    ],
)
def test_the_counter_takes_no_other_command_than_counting(
    world: World, command: str, arguments: dict[str, Any], *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)
        before = attacker.read(index)

        def write(writer: Any) -> object:
            return attacker.do(command, nv_index=index, auth_handle=writer, **arguments)

        by_owner = code_of(write, ESYS_TR.OWNER)
        assert by_owner in (RC_ATTRIBUTES if owner_is_empty else (BAD_OWNER,))
        assert code_of(write, index) == RC_AUTH_UNAVAILABLE
        assert attacker.read(index) == before
    assert world.opening_for_attacker() == {NEW.name}


def test_counting_on_only_shuts_the_vault(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)
        if not owner_is_empty:
            assert code_of(attacker.increment, index) == BAD_OWNER
            return
        attacker.increment(index)
    assert world.opening_for_attacker() == set()
    with pytest.raises(NoAcceptanceError):
        world.unseal()


def test_an_index_planted_before_enrolling_is_not_the_counter(tmp_path: Path) -> None:
    """Named in the vault file later, it holds any number the attacker likes."""
    with World(tmp_path) as world:
        with attacking(world) as attacker:
            planted = attacker.define(COUNTER, OWNERWRITE | AUTHWRITE | AUTHREAD)
        world.boot(OLD)
        state = world.enrol(OLD)
        assert state.counter != COUNTER
        with world.vault() as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault() as vault:
            confirm(vault, vault.require(), NEW.sealed)
        with attacking(world) as attacker:
            planted = attacker.index(COUNTER)
            data = (3).to_bytes(8, "big")
            attacker.do("nv_write", nv_index=planted, data=data, auth_handle=planted)
        world.boot(OLD)
        changed = replace(in_force(world)[0], counter=COUNTER)
        with unsealing(world, vault=changed, acceptance=kept(world, 3)) as hook:
            session = hook.session()
            hook.policy_pcr(session)
            hook.policy_or(session)
            hook.policy_nv(session)
            assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert world.opening_for_attacker() == {NEW.name}


# --- the storage key and the sealed objects ---


def test_a_planted_storage_key_gets_nothing_to_open(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        with attacking(world) as attacker:
            attacker.plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
        world.boot(OLD)
        state = world.enrol(OLD)
        assert state.storage.handle != SRK_HANDLE
        with unsealing(world) as hook:
            assert code_of(lambda: hook.load(parent=SRK_HANDLE)) == RC_INTEGRITY
        assert world.unseal(parent=state.storage.handle) == SECRET


def test_a_cleared_tpm_has_forgotten_everything(world: World) -> None:
    """The platform's authorisation is empty before the firmware has set it."""
    with attacking(world) as attacker:
        attacker.do("clear", auth_handle=ESYS_TR.PLATFORM)
        attacker.persist(attacker.primary(OWN_TEMPLATE.public), SRK_HANDLE)
        index = attacker.define(COUNTER, COUNTER_LIKE_OURS)
        attacker.increment(index)
        assert attacker.read(index) > in_force(world)[1].count
    world.launch(NEW)
    with unsealing(world) as hook:
        assert code_of(hook.load) == RC_INTEGRITY
    assert world.opening_for_attacker() == set()


def test_the_sealed_object_opens_with_no_password(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item = hook.load()
        assert code_of(hook.take, item, ESYS_TR.PASSWORD) == RC_AUTH_UNAVAILABLE


def test_the_sealed_object_opens_with_no_hmac_session(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item = hook.load()
        session = hook.esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=item,
            session_type=TPM2_SE.HMAC,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
        assert code_of(hook.take, item, session) == RC_AUTH_UNAVAILABLE
        hook.esapi.flush_context(flush_handle=session)


@pytest.mark.parametrize("steps", range(4))
def test_no_part_of_the_policy_is_enough(world: World, steps: int) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        session = hook.session()
        for step in (hook.policy_pcr, hook.policy_or, hook.policy_nv)[:steps]:
            step(session)
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_a_trial_session_opens_nothing(world: World) -> None:
    with unsealing(world) as hook:
        session = hook.esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.TRIAL,
            symmetric="null",
            auth_hash=TPM2_ALG.SHA256,
        )
        hook.policy_pcr(session)
        # TPM_RC_ATTRIBUTES of session 1: a trial authorises nothing
        assert code_of(hook.take, hook.load(), session) == 0x982
        hook.esapi.flush_context(flush_handle=session)


def test_the_sealed_objects_authorisation_is_not_changed_even_on_an_accepted_boot(
    world: World,
) -> None:
    """It would be an oracle for a PIN, and a way around it."""
    world.boot(NEW)
    with unsealing(world) as hook:

        def change(session: Any) -> object:
            return hook.do(
                "object_change_auth",
                object_handle=item,
                parent_handle=hook.esapi.tr_from_tpmpublic(handle=SRK_HANDLE),
                new_auth=b"the attacker's",
                session1=session,
            )

        item = hook.load()
        assert code_of(change, ESYS_TR.PASSWORD) == RC_AUTH_TYPE
        assert code_of(change, hook.satisfied()) == RC_POLICY_FAIL


def test_the_sealed_object_leaves_its_parent_for_no_other(world: World) -> None:
    """So there is no duplicate that could be rewrapped or imported either."""
    world.boot(NEW)
    with unsealing(world) as hook:

        def duplicate(session: Any) -> object:
            return hook.do(
                "duplicate",
                object_handle=item,
                new_parent_handle=ESYS_TR.NULL,
                encryption_key_in=b"",
                symmetric_alg=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
                session1=session,
            )

        item = hook.load()
        session = hook.satisfied()
        hook.do("policy_command_code", policy_session=session, code=TPM2_CC.Duplicate)
        assert code_of(duplicate, ESYS_TR.PASSWORD) == RC_AUTH_TYPE
        assert code_of(duplicate, session) == RC_POLICY_FAIL
        assert code_of(duplicate, hook.satisfied()) == RC_POLICY_FAIL


@pytest.mark.parametrize(
    "bit", [6, 1, 4, 7], ids=["userWithAuth", "fixedTPM", "fixedParent", "admin"]
)
def test_a_sealed_object_with_changed_attributes_does_not_load(
    world: World, bit: int
) -> None:
    vault, _ = in_force(world)
    part = vault.secrets[0].parts[0]
    area = bytearray(part.public)
    attributes = int.from_bytes(area[6:10], "big") ^ 1 << bit
    area[6:10] = attributes.to_bytes(4, "big")
    secret = replace(vault.secrets[0], parts=(replace(part, public=bytes(area)),))
    with unsealing(world, vault=replace(vault, secrets=(secret,))) as hook:
        # TPM_RC_ATTRIBUTES where the bits exclude one another, else TPM_RC_INTEGRITY
        assert code_of(hook.load) in (RC_INTEGRITY, 0x2C2)


# --- signing without K, and acceptances from elsewhere ---


def forged(world: World, key: SigningKey) -> tuple[VaultFile, Acceptance]:
    """An acceptance of the evil boot, signed by the attacker's own key."""
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    signature = key.sign(approval_digest(policy, vault.policy_ref))
    return vault, replace(now, branches=branches, policy=policy, signature=signature)


def test_an_acceptance_signed_by_another_key_is_not_believed(world: World) -> None:
    _, acceptance = forged(world, SigningKey.generate())
    world.boot(EVIL)
    with unsealing(world, acceptance=acceptance) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_SIGNATURE


def test_the_attackers_key_in_the_vault_file_opens_nothing(world: World) -> None:
    key = SigningKey.generate()
    vault, acceptance = forged(world, key)
    changed = replace(vault, key=key.public)
    world.boot(EVIL)
    with unsealing(world, vault=changed, acceptance=acceptance) as hook:
        session = hook.satisfied()  # a policy, approved: only not the object's
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_another_branch_list_in_policy_or_is_not_the_approved_policy(
    world: World,
) -> None:
    world.boot(EVIL)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session, [EVIL.policy, NEW.policy])
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_a_ticket_for_one_policy_approves_no_other(world: World) -> None:
    """The branch list is changed and the policy field with it, the signature kept."""
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"), *now.branches[1:])
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    changed = replace(now, branches=branches, policy=policy)
    world.boot(EVIL)
    with unsealing(world, acceptance=changed) as hook:
        assert code_of(hook.satisfied) == RC_SIGNATURE


def test_an_acceptance_of_another_medium_opens_nothing(world: World) -> None:
    """A medium's policy-ref is in its objects' policy and under its signatures."""
    _, from_stick = in_force(world, STICK)
    vault, _ = in_force(world)
    world.boot(NEW)
    with unsealing(world, acceptance=from_stick) as hook:
        assert code_of(hook.satisfied) == RC_SIGNATURE
    stick_vault, _ = in_force(world, STICK)
    mixed = replace(vault, policy_ref=stick_vault.policy_ref)
    with unsealing(world, vault=mixed, acceptance=from_stick) as hook:
        session = hook.satisfied()
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL
    assert world.opening(STICK) == world.opening(INTERNAL) == {NEW.name}


def test_a_medium_that_is_left_out_of_a_move_opens_nothing_any_more(
    world: World,
) -> None:
    world.file("", STICK).rename(world.folder / "lost")
    with world.vault() as vault:
        vault.publish(vault.require(), "refresh")
    (world.folder / "lost").rename(world.file("", STICK))
    world.boot(NEW)
    vault_file, acceptance = in_force(world, STICK)
    with unsealing(world, vault=vault_file, acceptance=acceptance) as hook:
        assert code_of(hook.satisfied) == RC_COUNT
    assert world.unseal() == SECRET


# --- the launch, PCR 13 and the cap ---


def stopped_at_the_branches(world: World, **other: Any) -> None:
    """Whatever the PCRs are, they are none of the accepted ones."""
    with unsealing(world, **other) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_without_a_launch_nothing_opens(world: World) -> None:
    world.power_cycle()
    world.extend(13, LUKS_HEADER)
    assert world.chip.read_pcrs(SHA256)[17] == SHA256.ones()
    stopped_at_the_branches(world)


def test_extends_from_locality_2_without_a_launch_are_no_launch(world: World) -> None:
    world.power_cycle()
    world.extend(13, LUKS_HEADER)
    for pcr, data in ((17, SINIT), (17, b"policy"), (18, NEW.xen)):
        world.extend(pcr, SHA256.hash(data).value, LOCALITY_LAUNCHED)
    assert world.chip.read_pcrs(SHA256)[17] != NEW.pcrs[17]
    stopped_at_the_branches(world)


def test_extends_behind_another_launch_do_not_make_it_the_accepted_one(
    world: World,
) -> None:
    world.boot(EVIL)
    world.extend(18, SHA256.hash(NEW.xen).value, LOCALITY_LAUNCHED)
    stopped_at_the_branches(world)


@pytest.mark.parametrize("pcr", [17, 18, 19])
def test_the_operating_systems_locality_extends_no_launch_pcr(
    world: World, pcr: int
) -> None:
    with attacking(world) as attacker:
        handle = getattr(ESYS_TR, f"PCR{pcr}")
        code = code_of(
            lambda: attacker.do("pcr_event", pcr_handle=handle, event_data=b"x")
        )
    assert code == RC_LOCALITY


@pytest.mark.parametrize("pcr", [13, 17, 18, 19])
@pytest.mark.parametrize("locality", [0, 2])
def test_no_sealed_pcr_is_reset_by_software(
    world: World, pcr: int, locality: int
) -> None:
    world.chip.set_locality(locality)
    try:
        with attacking(world) as attacker:
            handle = getattr(ESYS_TR, f"PCR{pcr}")
            code = code_of(lambda: attacker.do("pcr_reset", pcr_handle=handle))
    finally:
        world.chip.set_locality(0)
    assert code == RC_LOCALITY


def test_pcr_13_of_another_disk_opens_nothing(world: World) -> None:
    world.boot(replace(NEW, luks=SHA256.hash(b"the attacker's header").value))
    stopped_at_the_branches(world)


def test_pcr_13_not_measured_opens_nothing(world: World) -> None:
    world.power_cycle()
    world.launch(NEW)
    stopped_at_the_branches(world)


def test_pcr_13_forged_on_another_boot_opens_nothing(world: World) -> None:
    world.power_cycle()
    world.launch(EVIL)
    world.extend(13, LUKS_HEADER)  # the header is there for all to read
    assert world.chip.read_pcrs(SHA256)[13] == NEW.pcrs[13]
    stopped_at_the_branches(world)


def cap(unsealer: Unsealer) -> None:
    unsealer.do("pcr_event", pcr_handle=ESYS_TR.PCR13, event_data=CAP_DATA)


def test_after_the_cap_an_accepted_boot_opens_nothing(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        assert hook.secret() == SECRET
        cap(hook)
    stopped_at_the_branches(world)


def test_a_session_satisfied_before_the_cap_opens_nothing_after_it(
    world: World,
) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item, session = hook.load(), hook.satisfied()
        cap(hook)
        assert code_of(hook.take, item, session) == RC_PCR_CHANGED


def test_a_session_saved_before_the_cap_opens_nothing_after_it(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        session = hook.satisfied()
        saved = hook.do("context_save", save_handle=session)
        hook.handles.remove(session)
        cap(hook)
        loaded = hook.do("context_load", context=saved)
        assert code_of(hook.take, hook.load(), loaded) == RC_PCR_CHANGED
        hook.esapi.flush_context(flush_handle=loaded)


def test_the_cap_holds_for_another_launch_in_the_same_power_cycle(
    world: World,
) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        cap(hook)
    world.launch(NEW)
    stopped_at_the_branches(world)


@pytest.mark.parametrize("pcr", [16, 23])
def test_why_the_cap_is_in_pcr_13_and_in_none_that_anyone_resets(
    world: World, pcr: int
) -> None:
    """An extend of PCR 16 or 23 does not end a session that is satisfied."""
    world.boot(NEW)
    with unsealing(world) as hook:
        item, session = hook.load(), hook.satisfied()
        handle = getattr(ESYS_TR, f"PCR{pcr}")
        hook.do("pcr_event", pcr_handle=handle, event_data=CAP_DATA)
        assert hook.take(item, session) == SECRET


def test_refused_boots_do_not_count_towards_lockout(world: World) -> None:
    """Else anybody locks the TPM by booting something else a few times."""
    with unsealing(world) as hook:
        before = lockout_count(hook.esapi)
    for boot in (OLD, EVIL) * 20:
        assert not world.opens(boot)
        with unsealing(world) as hook:
            assert code_of(hook.take, hook.load(), hook.session()) == RC_POLICY_FAIL
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == before == 0
    assert world.opens(NEW)


def test_power_cuts_behind_an_unsealing_do_not_count_towards_lockout(
    world: World,
) -> None:
    for _ in range(5):
        world.boot(NEW)
        assert world.unseal() == SECRET
    world.power_cycle()
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 0


# --- the bank ---


def allocate(world: World, *active: HashAlgorithm) -> None:
    """Choose the banks with the platform's authorisation, and power-cycle."""
    banks = (HashAlgorithm.SHA1, SHA256)
    world.chip.send(wire.pcr_allocate({bank: bank in active for bank in banks}))
    world.chip.power_off()
    world.chip.power_on()


def test_a_bank_deallocated_opens_nothing(world: World) -> None:
    allocate(world, HashAlgorithm.SHA1)
    stopped_at_the_branches(world)
    allocate(world, SHA256)
    world.boot(NEW)
    assert world.unseal() == SECRET


def test_another_bank_with_the_accepted_digests_opens_nothing(world: World) -> None:
    """In a bank that no launcher extends anybody writes what they like."""
    allocate(world, HashAlgorithm.SHA1, SHA256)
    world.boot(EVIL)
    with unsealing(world) as hook:
        hook.selection = "sha1:13,17,18"
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH


def test_a_smaller_selection_opens_nothing(world: World) -> None:
    world.boot(Boot("other Xen", b"the attacker's xen"))
    for selection in ("sha256:13,17", "sha256:13", "sha256:16"):
        with unsealing(world) as hook:
            hook.selection = selection
            session = hook.session()
            hook.policy_pcr(session)
            assert code_of(hook.policy_or, session) == RC_BRANCH

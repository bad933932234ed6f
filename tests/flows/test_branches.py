# SPDX-License-Identifier: GPL-2.0-or-later
"""What a publish signs: accepted boots, a mark, staged boots, each with its PCRs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from luks_world import RealBoot
from unsealer import SELECTION
from vault_world import INTERNAL, OLD

from aemseal.flows.media import medium_problems
from aemseal.flows.publishing import (
    branches_of,
    kept_vault_file,
    sign,
    write_acceptance,
)
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.formats.slot import (
    MARK,
    STAGED_MARK,
    Acceptance,
    SealedPart,
    SealedSecret,
    VaultFile,
)
from aemseal.formats.tpm_policy import (
    counter_name,
    policy_nv_equal,
    policy_or,
    policy_ref,
)
from aemseal.measure.baseline import Baseline
from aemseal.words.errors import VaultError
from aemseal.world.signing import SigningKey
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import Files

BOOTS = tuple(
    RealBoot(f"Xen 4.17.{number}", f"xen {number}".encode()) for number in range(9)
)
"""Boots whose measurements on record give what they are sealed to."""


REFERENCE = policy_ref(1, INTERNAL.label)
SECRETS = (SealedSecret("text", "text", False, (SealedPart(b"\1", b"\2"),)),)


def sealed(boots: Sequence[RealBoot]) -> tuple[SealedBoot, ...]:
    return tuple(each.sealed for each in boots)


def state(
    accepted: Sequence[SealedBoot], staged: Sequence[SealedBoot] = ()
) -> VaultState:
    return VaultState(
        generation=1,
        selection=SELECTION,
        storage=StorageKey(0x81000001, b"", b""),
        counter=0x01A10AE0,
        count=7,
        media=(INTERNAL,),
        secrets=(),
        baseline=Baseline("Xen", "tboot", "da", ()),
        accepted=tuple(accepted),
        staged=tuple(staged),
    )


def test_each_boot_has_its_pcrs_before_the_cap() -> None:
    (branch,) = branches_of(state(sealed(BOOTS[:1])))
    pcrs = BOOTS[0].pcrs
    assert branch.policy == BOOTS[0].policy
    assert branch.name == "Xen-4.17.0"
    assert branch.values == tuple(pcrs[pcr].value for pcr in (13, 17, 18))


def test_pcrs_that_are_not_on_record_are_not_made_up() -> None:
    (none,) = branches_of(state((OLD.sealed,)))
    other = replace(BOOTS[0].sealed, boot=BOOTS[1].sealed.boot)
    (another,) = branches_of(state((other,)))
    fewer = replace(
        BOOTS[0].sealed,
        boot=replace(
            BOOTS[0].sealed.boot, measurements=BOOTS[0].sealed.boot.measurements[:2]
        ),
    )
    (too_few,) = branches_of(state((fewer,)))
    assert none.values is another.values is too_few.values is None


@pytest.mark.parametrize(("accepted", "staged"), [(1, 1), (1, 6), (6, 1), (3, 4)])
def test_a_mark_is_between_what_is_accepted_and_what_is_staged(
    accepted: int, staged: int
) -> None:
    boots = sealed(BOOTS)
    found = branches_of(state(boots[:accepted], boots[accepted : accepted + staged]))
    assert len(found) == accepted + staged + 1
    assert found[accepted] == MARK
    assert MARK not in (*found[:accepted], *found[accepted + 1 :])
    Acceptance(1, "internal", 7, found, bytes(32), b"\0")


@pytest.mark.parametrize(("accepted", "staged"), [(1, 0), (8, 0), (0, 2), (7, 1)])
def test_there_is_none_beside_one_kind_nor_as_a_ninth(
    accepted: int, staged: int
) -> None:
    boots = sealed(BOOTS)
    found = branches_of(state(boots[:accepted], boots[accepted : accepted + staged]))
    assert [each.policy for each in found] == [
        each.policy for each in boots[: accepted + staged]
    ]


def test_eight_boots_are_still_the_most() -> None:
    boots = sealed(BOOTS)
    with pytest.raises(VaultError, match="9 boots cannot be accepted"):
        branches_of(state(boots[:4], boots[4:]))


def test_the_mark_is_signed_with_the_boots() -> None:
    signing, (old, new) = SigningKey.generate(), sealed(BOOTS[:2])
    now = state((old,), (new,))
    acceptance = sign(now, INTERNAL, branches_of(now), 7, signing)
    listed = policy_or([old.policy, STAGED_MARK, new.policy])
    assert acceptance.policy == policy_nv_equal(listed, counter_name(now.counter), 7)


def published(files: Files, now: VaultState, signing: SigningKey) -> None:
    """Put on the medium what a publish of this state puts there; no fault is found."""
    files.make_folder(INTERNAL.path)
    vault = VaultFile(
        1, INTERNAL.label, now.counter, signing.public, REFERENCE, SECRETS
    )
    for path in (f"{INTERNAL.path}/vault", kept_vault_file(INTERNAL.label)):
        files.write(path, vault.to_bytes())
    signed = sign(now, INTERNAL, branches_of(now), 7, signing)
    write_acceptance(files, INTERNAL, signed)
    assert medium_problems(files, now) == ()


def test_an_acceptance_without_its_mark_is_not_the_one_in_force(
    tmp_path: Path,
) -> None:
    """As one of before an update of aemseal: a refresh writes it anew."""
    files, signing = Files(tmp_path), SigningKey.generate()
    old, new = sealed(BOOTS[:2])
    now = state((old,), (new,))
    published(files, now, signing)
    branches = branches_of(now)
    for others in ((branches[0], branches[2]), branches[::-1]):
        write_acceptance(files, INTERNAL, sign(now, INTERNAL, others, 7, signing))
        (problem,) = medium_problems(files, now)
        assert problem.can_refresh


def test_a_fallback_may_lie_on_either_side_of_the_mark(
    tmp_path: Path,
) -> None:
    """A confirm of the boot from before takes it in, and signs nothing anew."""
    files, signing = Files(tmp_path), SigningKey.generate()
    old, new, third = sealed(BOOTS[:3])
    kept = replace(third, fallback=True)
    now = state((old,), (new, kept))
    published(files, now, signing)
    assert medium_problems(files, state((old, kept), (new,))) == ()


def test_a_fallback_that_is_staged_alone_is_no_update() -> None:
    """It is taken in by a confirm that signs nothing anew."""
    old, new = sealed(BOOTS[:2])
    now = state((old,), (replace(new, fallback=True),))
    assert [each.policy for each in branches_of(now)] == [old.policy, new.policy]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots with another LUKS header: what becomes of them when the header changes.

The hook measures the header into PCR 13, so every boot of this disk is another one
once a key slot changed, whatever entry starts it. Nothing else of it is another, so
what each will be follows from its own measurements, and no file is read for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aemseal.flows.known_boots import replayed, sealed_boot
from aemseal.flows.secret import KEYFILE
from aemseal.flows.state import KeptSecret, SealedBoot, VaultState
from aemseal.formats.tpm_policy import MAX_BRANCHES, policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role, luks_wanted
from aemseal.measure.claims import Measurement
from aemseal.words.digest import Digest, PcrSelection
from aemseal.words.errors import PredictionError, VaultError
from aemseal.world.luks_headers import LuksHeaders


@dataclass(frozen=True, slots=True)
class NewHeader:
    """A LUKS device's header, measured: as it is, and as it will be."""

    uuid: str
    before: Digest
    after: Digest


def staged_beside(
    state: VaultState, header: NewHeader, needed: bytes, since: str
) -> VaultState:
    """Return the state with every boot of now staged once more, with the new header.

    Every accepted and staged boot that has the header of now gets a twin: the usual
    boot, the one that waits, each fallback. A staged boot with any other header of
    that device can never come, and goes. `needed` is the policy of the boot that must
    be among them, the running one: else its header is not the one that was copied.

    VaultError when it is not, or when there are too many; PredictionError for a boot
    whose measurements do not give what it is sealed to.
    """
    staged = tuple(each for each in state.staged if _is_possible(each, header))
    boots = (*state.accepted, *staged)
    known = [*boots, *state.retired]
    twins = []
    for boot in boots:
        if _measured(boot, header.uuid) == header.before:
            twin = _with_header(boot, header, state.selection, since, known)
            twins.append(twin)
            known.append(twin)
    if not any(
        each.policy == needed and _measured(each, header.uuid) == header.before
        for each in boots
    ):
        raise VaultError(
            f"the header of the LUKS device {header.uuid} is not the one that this "
            "boot measured",
            "its key slots were changed since: reboot (after aemseal reseal, if status "
            "says so), confirm, and try again",
        )
    count = len(boots) + len(twins)
    if count > MAX_BRANCHES:
        raise VaultError(
            f"each boot is accepted with both headers until the next one: {count} do "
            f"not fit, {MAX_BRANCHES} do",
            "reboot into the staged boot and confirm it (aemseal confirm), then try "
            "again; or take a title out of fallback_entries in /etc/aemseal.yaml",
        )
    return replace(state, staged=(*staged, *twins))


def _is_possible(boot: SealedBoot, header: NewHeader) -> bool:
    return _measured(boot, header.uuid) in (None, header.before)


def _measured(boot: SealedBoot, uuid: str) -> Digest | None:
    """Return what a boot measured of a device's header, None where it does not."""
    for each in boot.boot.measurements:
        if _is_of(each, uuid):
            return next(iter(each.digests.values()))
    return None


def _is_of(measured: Measurement, uuid: str) -> bool:
    path = luks_wanted(uuid).path
    return measured.role is Role.LUKS and measured.source.path == path


def _with_header(
    boot: SealedBoot,
    header: NewHeader,
    selection: PcrSelection,
    since: str,
    known: Iterable[SealedBoot],
) -> SealedBoot:
    """Return a boot as it is with the new header.

    PredictionError unless its measurements, replayed, give its policy as it is now:
    then, and only then, they give the other one, too.
    """
    measured = boot.boot.measurements
    if _policy(measured, selection) != boot.policy:
        raise PredictionError(
            f"what is on record of {boot.name} does not give what it is sealed to: "
            "it cannot be told what it is with another LUKS header",
            "boot and confirm it anew (aemseal confirm), or take it back (aemseal "
            "cancel)",
        )
    digests = {header.after.algorithm: header.after}
    changed = tuple(
        replace(
            each,
            digests=digests,
            source=replace(each.source, file_digests=digests),
        )
        if _is_of(each, header.uuid)
        else each
        for each in measured
    )
    baseline: Baseline = replace(boot.boot, measurements=changed)
    policy = _policy(changed, selection)
    assert policy is not None, "the same PCRs as before"
    twin = sealed_boot(baseline, policy, since, known)
    return replace(twin, fallback=boot.fallback)


def _policy(measured: tuple[Measurement, ...], selection: PcrSelection) -> bytes | None:
    """Replay measurements to a PolicyPCR digest; None where they do not suffice."""
    values = replayed(measured, selection)
    return None if values is None else policy_pcr(selection, values)


def has_headers_of(boot: SealedBoot, other: SealedBoot) -> bool:
    """Whether a boot has no other LUKS header, of a device that both measure."""
    theirs = {
        each.source.path: dict(each.digests)
        for each in other.boot.measurements
        if each.role is Role.LUKS
    }
    return all(
        theirs.get(each.source.path, dict(each.digests)) == dict(each.digests)
        for each in boot.boot.measurements
        if each.role is Role.LUKS
    )


def may_come(boot: SealedBoot, headers: LuksHeaders) -> bool:
    """Whether no LUKS header that a boot measures is another one on its device by now.

    Its header may be a draft that came to nothing: the power failed behind its staging.
    """
    return all(
        headers.may_have(each.source.path.rpartition("/")[2], digest)
        for each in boot.boot.measurements
        if each.role is Role.LUKS and each.source.path is not None
        for digest in each.digests.values()
    )


def differ_in_header_alone(one: SealedBoot, other: SealedBoot) -> bool:
    """Whether two boots are the same but for LUKS headers, of the same devices."""
    return not has_headers_of(one, other) and _but_headers(one) == _but_headers(other)


def _but_headers(boot: SealedBoot) -> list[tuple[object, ...]]:
    return [
        (
            each.pcr,
            each.role,
            each.source.path if each.role is Role.LUKS else dict(each.digests),
        )
        for each in boot.boot.measurements
    ]


# --- a key that is not on its device ---


def is_lost(secret: KeptSecret) -> bool:
    """Whether a keyfile opens no disk: its header could not be installed."""
    return secret.kind == KEYFILE and secret.disk is None


def without_disk(state: VaultState, uuid: str) -> VaultState:
    """Return the state with the keyfile of this device known to open none."""
    return replace(
        state,
        secrets=tuple(
            replace(each, disk=None) if each.disk and each.disk.uuid == uuid else each
            for each in state.secrets
        ),
    )


def lost_key(state: VaultState) -> VaultError | None:
    """Return the problem of a keyfile that opens no disk, None where there is none."""
    if not any(is_lost(each) for each in state.secrets):
        return None
    return VaultError(
        "the sealed keyfile opens no disk: the LUKS header changed while the key was "
        "being added, and was left as it is",
        "stage that header first (aemseal reseal), reboot, confirm, then seal another "
        "key: aemseal enrol keyfile",
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots as the vault knows them: a name for people, and a policy for the TPM."""

from __future__ import annotations

from collections.abc import Iterable

from aemseal.flows.state import SealedBoot, VaultState
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Prediction,
    require_covered,
)
from aemseal.measure.explain import BootStatus, KnownBoot
from aemseal.words.digest import Digest, PcrSelection
from aemseal.words.errors import BankError, PredictionError, SelectionError

_TOO_FEW = (
    "take the file out of the boot entry; or take the vault down (aemseal remove) and "
    "enrol with that PCR, too"
)


def boot_name(measured: Iterable[Measurement]) -> str:
    """Return the name a person knows a boot by: Xen's version and the kernel."""
    words = []
    for each in measured:
        if each.role is Role.XEN:
            version = each.source.version
            words.append(f"Xen {version}" if version else _file_name(each))
        elif each.role is Role.KERNEL:
            words.append(_file_name(each))
    return ", ".join(word for word in words if word) or "an unnamed boot"


def sealed_boot(
    boot: Baseline, policy: bytes, since: str, known: Iterable[SealedBoot] = ()
) -> SealedBoot:
    """Name a boot; a name that another one has already gets a number."""
    name = plain = boot_name(boot.measurements)
    taken = {each.name: each.policy for each in known}
    number = 2
    while name in taken and taken[name] != policy:
        name, number = f"{plain} ({number})", number + 1
    return SealedBoot(name, since, policy, boot)


def predicted_boot(
    prediction: Prediction,
    selection: PcrSelection,
    since: str,
    known: Iterable[SealedBoot] = (),
    *,
    unchecked: frozenset[Role] = frozenset(),
) -> SealedBoot:
    """Return a prediction as a boot that can be staged.

    PredictionError unless every selected PCR is known, every rule behind it but those
    of the roles in `unchecked` was calibrated, and every file goes to a selected PCR.
    """
    values = prediction.require(selection, unchecked)
    try:
        require_covered(prediction.measurements, selection)
    except SelectionError as error:
        raise PredictionError(error.message, _TOO_FEW) from None
    boot = Baseline.of_prediction(prediction)
    return sealed_boot(boot, policy_pcr(selection, values), since, known)


def replayed(
    measured: tuple[Measurement, ...], selection: PcrSelection
) -> dict[int, Digest] | None:
    """Return what measurements leave in the selected PCRs, before the hook's cap.

    None where they do not suffice to tell.
    """
    replay = Prediction(stack="", map="", entry="", measurements=measured)
    try:
        values = replay.bank(selection.algorithm).values
    except BankError:
        return None
    if any(pcr not in values for pcr in selection.pcrs):
        return None
    return {pcr: values[pcr] for pcr in selection.pcrs}


def pcr_values(boot: SealedBoot, selection: PcrSelection) -> tuple[bytes, ...] | None:
    """Return the selected PCRs of a boot, ascending; None where they are not known.

    What is on record of it must give the very policy that it is sealed to.
    """
    values = replayed(boot.boot.measurements, selection)
    if values is None or policy_pcr(selection, values) != boot.policy:
        return None
    return tuple(values[pcr].value for pcr in selection.pcrs)


def known_boots(state: VaultState) -> tuple[KnownBoot, ...]:
    """Return every boot on record, for `explain`: what is sealed to of each."""
    groups = (
        (BootStatus.ACCEPTED, state.accepted),
        (BootStatus.STAGED, state.staged),
        (BootStatus.RETIRED, state.retired),
    )
    return tuple(
        KnownBoot(
            boot.name,
            status,
            tuple(e for e in boot.boot.measurements if e.pcr in state.selection),
            fallback=boot.fallback and status is not BootStatus.RETIRED,
        )
        for status, boots in groups
        for boot in boots
    )


def unexplained(calibration: Calibration) -> str:
    """Name what of the running boot no file gives: "xen (PCR 17), kernel (PCR 17)"."""
    return ", ".join(
        f"{each.role} (PCR {each.pcr})"
        for each in calibration.measured
        if each.calibrated is Calibrated.NO
    )


def _file_name(measured: Measurement) -> str:
    return (measured.source.path or "").rsplit("/", 1)[-1]

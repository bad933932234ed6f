# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor asks of the TPM. Nothing is tried that could count towards lockout."""

from __future__ import annotations

from aemseal.flows.attendance import counted_now, switched_on
from aemseal.flows.doctor_patient import (
    Checks,
    Finding,
    Patient,
    SkippedError,
    failed,
    ok,
    warning,
)
from aemseal.flows.enrol import read_foreign_owner
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.owner import (
    LOCKOUT_FILE,
    OWNER_FILE,
    REFUSED_FILE,
    kept_owners,
    refused_mark,
)
from aemseal.flows.provision import LOCKOUT
from aemseal.flows.state import VaultState
from aemseal.flows.tries import read_tries
from aemseal.words.errors import AemsealError
from aemseal.world.tpm import NV_RANGE, Hierarchy, TpmRefusedError, in_lockout
from aemseal.world.tpm_lockout import lockout_state

TPM_CHECK = "tpm"
"""The check whose failure says that there is no TPM at all."""


def tpm_answers(patient: Patient) -> Finding:
    """There is a TPM 2.0, and it answers."""
    patient.require_tpm().permanent()
    return ok("a TPM 2.0 answers")


def not_in_lockout(patient: Patient) -> Finding:
    """Require that the TPM takes PINs."""
    if patient.tpm.permanent().in_lockout:
        error = in_lockout(reset_with="aemseal confirm, in an accepted boot")
        return failed(error.message, error.hint or "")
    return ok("the TPM is not in lockout")


def bank_is_allocated(patient: Patient) -> Finding:
    """Require the bank that is sealed to."""
    algorithm = patient.algorithm
    if patient.open_tpm is not None:
        _ = patient.tpm  # its absence is told once
    patient.host.pcrs(algorithm)
    return ok(f"the TPM has a {algorithm} bank")


def owner_is_ours(patient: Patient) -> Finding:
    """Try the owner's value that is kept here: a wrong one counts towards nothing."""
    files, tpm = patient.owned, patient.tpm
    if not tpm.permanent().owner_auth_set:
        if isinstance(patient.state, VaultState):
            return failed(
                "the TPM has no owner authorisation: anyone may remove what is in it",
                "another tool took it away, or the TPM was cleared: aemseal recover",
            )
        return ok("the TPM has no owner yet: enrol sets one")
    if _owner_value(patient) is not None:
        return ok("the TPM's owner authorisation is known here")
    if not kept_owners(files):
        return failed(
            "the TPM has an owner whose authorisation is not known here",
            "name the file that holds it as owner_auth_file in /etc/aemseal.yaml, or "
            "clear the TPM in the firmware set-up",
        )
    return failed(
        f"the TPM's owner authorisation is not the one in {OWNER_FILE}",
        "another tool has set it since: write its value there",
    )


def _owner_value(patient: Patient) -> bytes | None:
    """Return the owner's value that the TPM takes, None where none is known."""
    vault = patient.vault
    candidates = list(kept_owners(vault.files))
    if not isinstance(patient.state, VaultState):
        foreign = read_foreign_owner(vault, patient.settled)
        candidates += [] if foreign is None else [foreign]
    for value in candidates:
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        try:
            with vault.tpm.session() as session:
                vault.tpm.require_authorised(Hierarchy.OWNER, session)
        except TpmRefusedError as refused:
            if not refused.is_wrong_authorisation:
                raise
        else:
            return value
    return None


def lockout_value_is_ours(patient: Patient) -> Finding:
    """Look whether the lockout value is set, and kept here; it is never tried."""
    files, is_set = patient.owned, patient.tpm.permanent().lockout_auth_set
    value = files.read(LOCKOUT_FILE)
    if not is_set:
        if isinstance(patient.state, VaultState):
            return failed(
                "the TPM has no lockout authorisation: anyone may have it count "
                "failed PINs from 0, and clear it",
                "another tool took it away, or the TPM was cleared: aemseal recover",
            )
        return ok("the TPM has no lockout authorisation yet: enrol sets one")
    if value is None:
        return warning(
            "another tool has set the TPM's lockout authorisation, and it stays in "
            "force: it alone can say what locks the TPM, and start the count anew",
            f"if you know its value, write it to {LOCKOUT_FILE}; if nobody does, clear "
            "the TPM in the firmware set-up before you enrol",
        )
    if files.read(REFUSED_FILE) == refused_mark(value):
        return warning(
            f"the TPM has refused the lockout authorisation in {LOCKOUT_FILE}",
            f"write the right one there; if it is right by now, remove {REFUSED_FILE}",
        )
    return ok("the TPM's lockout authorisation is set, and kept here")


def lockout_is_set(patient: Patient) -> Finding:
    """Require that what locks the TPM is as enrol sets it."""
    found = lockout_state(patient.tpm).settings
    told = (
        f"{found.max_tries} tries, one back every {found.recovery} s, the lockout "
        f"authorisation after {found.lockout_recovery} s"
    )
    if found == LOCKOUT:
        return ok(f"PINs are guarded: {told}")
    if not isinstance(patient.state, VaultState):
        return ok(f"enrol sets what locks the TPM; now it is {told}")
    return warning(
        f"the TPM guards PINs otherwise than enrol set it: {told}",
        f"set it to {LOCKOUT.max_tries}, {LOCKOUT.recovery} and "
        f"{LOCKOUT.lockout_recovery}: tpm2_dictionarylockout --setup-parameters",
    )


def tries_are_left(patient: Patient) -> Finding:
    """Enough wrong PINs and power cuts may come yet."""
    tries = read_tries(patient.tpm)
    if tries.warning is not None:
        return warning(
            tries.warning, "have them forgotten, in an accepted boot: aemseal confirm"
        )
    return ok(f"{tries.counted} of {tries.most} PIN tries are counted as failed")


def storage_key_is_genuine(patient: Patient) -> Finding:
    """Require the pinned storage key, and that it is the TPM's own."""
    key, vault = patient.sealed.storage, patient.vault
    vault.storage.pinned(key)
    if _owner_value(patient) is None:
        raise SkippedError("the owner authorisation is not known")
    public = vault.storage.public_area(key.handle)
    if public is None or not vault.storage.is_genuine(public):
        return failed(
            f"the storage key at 0x{key.handle:08x} is none that this TPM derives",
            "somebody else may know its private part: aemseal recover",
        )
    return ok(f"the storage key at 0x{key.handle:08x} is the pinned one, and genuine")


def counter_is_where_we_left_it(patient: Patient) -> Finding:
    """Require that the counter is ours, and that nobody counted on."""
    state, vault = patient.sealed, patient.vault
    if vault.files.read(JOURNAL_FILE) is not None:
        raise SkippedError("a move was cut short: the counter stands within it")
    try:
        found = vault.count_now(state)
    except AemsealError as error:
        return failed(error.message, error.hint or "see: aemseal explain")
    if found != state.count:
        return failed(
            f"the TPM's counter is {found}, and was left at {state.count}",
            "somebody counted on, or this disk is an older copy: aemseal status",
        )
    return ok(f"the counter stands at {found}, where it was left")


def an_index_is_free(patient: Patient) -> Finding:
    """Look for a place for the counter of a new generation, or the first."""
    used = patient.tpm.handles(NV_RANGE.start, len(NV_RANGE))
    free = len(NV_RANGE) - len(used)
    if free:
        return ok(f"{free} NV indices are free for a new counter")
    hint = (
        f"free one that nobody needs, from 0x{NV_RANGE.start:08x} on: tpm2_nvundefine"
    )
    told = "no NV index of our range is free for a new counter"
    is_sealed = isinstance(patient.state, VaultState)
    return warning(told, hint) if is_sealed else failed(told, hint)


def nobody_switched_it_on(patient: Patient) -> Finding:
    """Every switch-on since the last confirmed boot is accounted for."""
    state = patient.sealed
    missed = switched_on(state.attendance, counted_now(patient.tpm, patient.host))
    if missed is not None:
        return warning(
            missed.sentence, "keep this boot if it is an accepted one: aemseal confirm"
        )
    if state.attendance is None:
        raise SkippedError("no boot was confirmed yet: aemseal confirm begins to count")
    since = state.attendance.time
    return ok(f"no switch-on without a confirmed boot is counted since {since}")


CHECKS: Checks = (
    (TPM_CHECK, tpm_answers),
    ("tpm-lockout", not_in_lockout),
    ("tpm-bank", bank_is_allocated),
    ("owner-auth", owner_is_ours),
    ("lockout-auth", lockout_value_is_ours),
    ("lockout-settings", lockout_is_set),
    ("pin-tries", tries_are_left),
    ("storage-key", storage_key_is_genuine),
    ("counter", counter_is_where_we_left_it),
    ("nv-index", an_index_is_free),
    ("switch-ons", nobody_switched_it_on),
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor asks of the media, and of the secrets that are sealed to them."""

from __future__ import annotations

from collections.abc import Iterable

from aemseal.flows.doctor_patient import (
    Checks,
    Finding,
    Patient,
    SkippedError,
    failed,
    ok,
    warning,
)
from aemseal.flows.media import medium_problems
from aemseal.flows.secret import KEYFILE, needs_pin
from aemseal.flows.state import KeptSecret, VaultState
from aemseal.words.errors import AemsealError
from aemseal.world.config import CONFIG_FILE, Medium
from aemseal.world.disks import Disks
from aemseal.world.luks_headers import LuksHeaders


def media_are_in_force(patient: Patient) -> Finding:
    """Hold what lies on each medium against what should."""
    files = patient.owned
    if patient.state is None:
        return _places_for_media(patient)
    state = patient.sealed
    for problem in medium_problems(files, state):
        hint = "aemseal reseal" if problem.can_refresh else "aemseal recover"
        return failed(
            f"medium {problem.label}: {problem.message}", f"write it anew: {hint}"
        )
    away = [each.label for each in state.media if not files.exists(each.path)]
    if len(away) == len(state.media):
        return failed(
            f"no medium is at hand: {', '.join(away)}",
            "mount one: no move can be made without",
        )
    if state.stale:
        return warning(
            f"not refreshed since the last move: {', '.join(state.stale)}",
            "attach them, then: aemseal reseal; or, if one is lost: aemseal revoke",
        )
    if away:
        return ok(f"media are in force; not at hand: {', '.join(away)}")
    return ok(f"in force: {', '.join(each.label for each in state.media)}")


def _places_for_media(patient: Patient) -> Finding:
    """Say whether enrol finds a place for every medium."""
    for medium in patient.settled.media:
        if not patient.owned.has_place_for(medium.path):
            return failed(
                f"the medium {medium.label} is not at hand: {medium.path}",
                "mount it: enrol writes to all of them",
            )
    return ok("every configured medium is at hand")


def media_are_as_configured(patient: Patient) -> Finding:
    """Hold the media that are sealed to against those in the configuration."""
    state, config = patient.sealed, patient.settled
    if patient.files is None:
        raise SkippedError("a recording does not tell what is configured")
    sealed, configured = _as_kept(state.media), _as_kept(config.media)
    if sealed == configured:
        return ok("what is sealed to is what is configured")
    names = sorted({label for label, *_ in sealed ^ configured})
    return warning(
        f"{CONFIG_FILE} says otherwise of a medium than what is sealed to: "
        f"{', '.join(names)}",
        "the vault goes by what was sealed to; to seal to the others: aemseal pin, and "
        "on a boot that is not accepted: aemseal recover",
    )


def _as_kept(media: Iterable[Medium]) -> set[tuple[str, str, bool]]:
    """Return of each medium what the state keeps, too."""
    return {(each.label, each.path, each.carried) for each in media}


def carried_media_can_be_carried(patient: Patient) -> Finding:
    """Look whether who takes a medium along leaves the disk behind."""
    if patient.disks is None:
        raise SkippedError("a recording does not tell of its disks")
    files, disks = patient.owned, patient.disks
    media = [each for each in _media(patient) if each.carried]
    if not media:
        return ok("no medium is called carried")
    untold = []
    for medium in media:
        if not files.exists(medium.path) and not files.has_place_for(medium.path):
            continue
        complaint = _stays(disks, medium)
        if complaint is not None:
            return warning(
                f"{medium.label} ({medium.path}) is called carried, and {complaint}: "
                "who finds the machine finds it, too",
                f"leave out `carried: true` in {CONFIG_FILE}, and enrol with a PIN",
            )
        if _device(disks, medium.path) is None:
            untold.append(medium.label)
    if untold:
        raise SkippedError(f"on which disk {', '.join(untold)} lies is not told")
    return ok("what is called carried does not lie on a built-in disk")


def _stays(disks: Disks, medium: Medium) -> str | None:
    """Say why a medium cannot be taken along, None where nothing speaks against it."""
    mount, root = disks.mount_of(medium.path), disks.mount_of("/")
    if mount is None or root is None:
        return None
    if mount.number == root.number:
        return "lies on the root file system"
    number = disks.device_of(mount)
    if number is not None and disks.is_removable(number) is False:
        return "lies on a disk that is built in"
    return None


def _device(disks: Disks, path: str) -> str | None:
    mount = disks.mount_of(path)
    number = None if mount is None else disks.device_of(mount)
    if number is None or disks.is_removable(number) is None:
        return None
    return number


def _media(patient: Patient) -> tuple[Medium, ...]:
    if isinstance(patient.state, VaultState):
        return patient.state.media
    return patient.settled.media


def pins_are_asked(patient: Patient) -> Finding:
    """Require a PIN of each secret that who finds the machine could be shown."""
    state = patient.sealed
    bare = [
        each.name
        for each in state.secrets
        if not each.pin and needs_pin(each.kind, state.media)
    ]
    if bare:
        return failed(
            f"sealed without a PIN, to a medium that stays with the machine: "
            f"{', '.join(bare)}: whoever switches it on is shown the secret, and can "
            "show it to you from another machine",
            "give a PIN to a new generation: aemseal recover; or mark a medium that "
            f"you take with you as carried: true in {CONFIG_FILE}",
        )
    return ok("every secret that needs a PIN has one")


def secrets_are_told(patient: Patient) -> Finding:
    """Name what is sealed, and what each needs to be shown."""
    listed = [_needs(each) for each in patient.sealed.secrets]
    if not listed:
        return failed("no secret is sealed", "aemseal remove, then: aemseal enrol text")
    return ok(f"sealed: {'; '.join(listed)}")


def _needs(secret: KeptSecret) -> str:
    kind = "" if secret.kind == secret.name else f" ({secret.kind})"
    needs = ["an accepted boot", *(["its PIN"] if secret.pin else [])]
    needs += ["the clock"] if secret.kind == "totp" else []
    needs += [f"the disk {secret.disk.uuid}"] if secret.disk else []
    return f"{secret.name}{kind}, needs {', '.join(needs)}"


def keyfile_opens_its_disk(patient: Patient) -> Finding:
    """Look for the keyfile's slot on its LUKS device."""
    state = patient.sealed
    keyfiles = [each for each in state.secrets if each.kind == KEYFILE]
    if not keyfiles:
        raise SkippedError("no keyfile is sealed")
    headers = LuksHeaders(patient.owned)
    for each in keyfiles:
        disk = each.disk
        if disk is None:
            return warning(
                "what the keyfile opens is not on record", "aemseal remove, then enrol"
            )
        try:
            is_there = headers.holds(disk.uuid, disk.slot)
        except AemsealError as error:
            raise SkippedError(error.message) from None
        if not is_there:
            return failed(
                f"slot {disk.slot} of the LUKS device {disk.uuid} is not the keyfile's "
                "any more: it opens nothing",
                "type the passphrase at boot, and seal a new keyfile: aemseal recover",
            )
    return ok("the keyfile's slot is on its LUKS device")


CHECKS: Checks = (
    ("media", media_are_in_force),
    ("media-config", media_are_as_configured),
    ("carried-media", carried_media_can_be_carried),
    ("pins", pins_are_asked),
    ("secrets", secrets_are_told),
    ("keyfile-slot", keyfile_opens_its_disk),
)

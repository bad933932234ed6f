# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `enrol`: from a verified boot to a sealed secret (docs/adr/0002).

Everything that can refuse does so before the first write: the log, the selection, the
media, the TPM's room, a trial prediction, and whether the next boot is the running one.
Then the TPM is owned, the hook's files are written, the initramfs is built with them,
and the boot that will follow is predicted, held against the running one once more, and
staged. Where the build moves what cannot be predicted nothing is sealed yet: the person
reboots into it, enrols again, and that boot is accepted (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from aemseal.flows.boot_menu import read_menu
from aemseal.flows.enrol_halfway import (
    forget_halfway,
    keep_halfway,
    require_as_foreseen,
)
from aemseal.flows.initramfs import ImageLists, initramfs_sources
from aemseal.flows.keyfile import with_new_header
from aemseal.flows.known_boots import predicted_boot, sealed_boot, unexplained
from aemseal.flows.moves import ACCEPTED, NOT_ACCEPTED, STAGED
from aemseal.flows.provision import (
    HOOK_FOLDER,
    free_place,
    own_the_tpm,
    require_not_enrolled,
    seal,
    write_hook_files,
)
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import require_pin
from aemseal.flows.state import NextBootCheck, SealedBoot, VaultState
from aemseal.flows.survey import Survey, survey
from aemseal.flows.vault import Vault
from aemseal.formats.hook_files import hook_conf, pin_of
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Prediction, require_covered
from aemseal.measure.plan import Change, OriginKind, Plan, plan
from aemseal.words.digest import ALWAYS_SEALED, PcrSelection
from aemseal.words.errors import (
    AemsealError,
    EvidenceError,
    OriginError,
    PredictionError,
    VaultError,
)
from aemseal.world.config import Config
from aemseal.world.host import Host
from aemseal.world.luks_headers import HeaderChange
from aemseal.world.storage_key import StorageKey

UNCHECKED_AT_ENROL = frozenset({Role.LUKS})
"""The rule no boot without our hook can calibrate; wrong, it opens nothing."""

_FORGOTTEN = (
    "nothing was written; if it is what a running system forgets (Xen prints its "
    "command line at its start, see xl dmesg), reboot and enrol soon after"
)
_REBOOT = "reboot into what /boot holds now, then enrol"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is to be enrolled, and with what of the world.

    `host_now` reads the host anew, grub.cfg and all: `host` reads that once. `secret`
    asks for a secret of this `kind` when all that can refuse was looked at, and before
    anything is written. `say` tells a line to the person, `show` what changes with the
    next boot. `lists` gets the files of both images, of which the build overwrites one.
    `header` returns the LUKS header that `secret` drafted, None where it drafted none.
    """

    host: Host
    host_now: Callable[[], Host]
    vault: Vault
    config: Config
    kind: str
    secret: Callable[[], ToSeal]
    asked: PcrSelection | None
    entry: str | None
    rebuild: Callable[[tuple[str, ...]], None]
    say: Callable[[str], None]
    show: Callable[[Plan], None]
    foreign_owner: bytes | None
    lists: ImageLists
    header: Callable[[], HeaderChange | None] = lambda: None


def enrol(enrolment: Enrolment) -> VaultState:
    """Seal a secret to the running boot, or to the predicted one, and return it.

    EvidenceError of every kind when the machine cannot be vouched for, OriginError
    when the next boot is another than the running one in more than the initramfs that
    is built here; VaultError when there is a vault already or a medium is absent,
    TpmError when the TPM has no room. RebootFirstError when all is built, and what the
    next boot measures cannot be known: after it, enrol again.
    """
    vault = enrolment.vault
    require_not_enrolled(vault)
    look = _look(enrolment)
    free_place(vault, enrolment.config.media)
    if _ran_our_hook(look, vault):
        held = require_as_foreseen(vault, look)
        secret = _asked(enrolment)
        key = own_the_tpm(vault, enrolment.foreign_owner)
        _require_pinned(vault, key)
        if held is not None:
            enrolment.say(held)
        boot = sealed_boot(look.running, look.running_policy, enrolment.host.now())
        checked = _next_check(look, boot)
        return _seal(enrolment, look, key, secret, checked, accepted=(boot,))
    command = enrolment.config.initramfs_command
    if command is None:
        raise EvidenceError(
            "this boot did not run aemseal's hook as it would be enrolled, and how to "
            "build the initramfs with it is not configured",
            "name the command as initramfs_command in /etc/aemseal.yaml",
        )
    trial = look.predict(enrolment.entry, hook=True)
    _require_same_boot(enrolment, look, trial)
    _require_known(trial, look.selection)
    secret = _asked(enrolment)
    key = own_the_tpm(vault, enrolment.foreign_owner)
    write_hook_files(vault, key, look.selection)
    enrolment.lists.look_if_possible(initramfs_sources(look.calibration.measured))
    enrolment.say(f"building the initramfs: {' '.join(command)}")
    enrolment.rebuild(command)
    boot = _built_boot(enrolment, look)
    is_next = enrolment.entry is None
    checked = NextBootCheck(STAGED, boot.since) if is_next else None
    return _seal(enrolment, look, key, secret, checked, staged=(boot,))


def _asked(enrolment: Enrolment) -> ToSeal:
    """Ask for the secret; UsageError without the PIN that the media call for."""
    secret = enrolment.secret()
    require_pin(enrolment.kind, secret.pin, enrolment.config.media)
    return secret


def _require_known(trial: Prediction, selection: PcrSelection) -> None:
    """Raise PredictionError unless the next boot is known before anything is built."""
    try:
        trial.require(selection, UNCHECKED_AT_ENROL)
    except PredictionError as error:
        raise PredictionError(error.message, error.hint or _FORGOTTEN) from None


def _built_boot(enrolment: Enrolment, look: Survey) -> SealedBoot:
    """Predict the boot of what is there after the build, boot menu and all.

    RebootFirstError where the build moved what of it nobody can predict.
    """
    host = enrolment.host_now()
    now = replace(look, host=host, facts={}, menu=read_menu(host))
    prediction = now.predict(enrolment.entry, hook=True)
    changes = _require_same_boot(enrolment, now, prediction, built=(Role.INITRAMFS,))
    enrolment.show(ImageLists(host, enrolment.lists.lists).told(changes))
    for caution in prediction.cautions:
        enrolment.say(f"caution: {caution}")
    keep_halfway(enrolment.vault, prediction, look.selection, host.now())
    return predicted_boot(
        prediction,
        look.selection,
        host.now(),
        unchecked=UNCHECKED_AT_ENROL,
    )


def _require_same_boot(
    enrolment: Enrolment,
    look: Survey,
    prediction: Prediction,
    *,
    built: Collection[Role] = (),
) -> Plan:
    """Return what changes; OriginError for more than enrol itself changes.

    That is what was `built` here, and that a hook measures LUKS headers where none
    did. Anything else somebody put there after the running boot was measured, and
    enrolling would accept it unseen; once it has booted, it is measured.
    """
    measured = look.calibration.measured
    changes = plan(measured, prediction, measured, built=built)
    had_luks = any(each.role is Role.LUKS for each in measured)
    foreign = [
        each
        for each in changes.changes
        if each.origin.kind is not OriginKind.BUILT
        and (had_luks or not _is_new_luks(each))
    ]
    if not foreign:
        return changes
    enrolment.show(changes)
    named = ", ".join(
        f"{each.name} ({each.path})" if each.path else each.name for each in foreign
    )
    raise OriginError(
        f"the next boot is not the running one: it changes {named}", _REBOOT
    )


def _is_new_luks(change: Change) -> bool:
    return change.role is Role.LUKS and change.before is None


def _look(enrolment: Enrolment) -> Survey:
    look = survey(enrolment.host, enrolment.asked)
    if enrolment.asked is None:
        pcrs = set(look.selection.pcrs) | ALWAYS_SEALED
        look = replace(look, selection=PcrSelection.of(look.selection.algorithm, pcrs))
    look.selection.require_sealable()
    require_covered(look.calibration.measured, look.selection)
    if not look.calibration.is_calibrated:
        raise PredictionError(
            "no file of any boot entry gives what this boot measured as "
            f"{unexplained(look.calibration)}",
            _REBOOT,
        )
    return look


def _ran_our_hook(look: Survey, vault: Vault) -> bool:
    """Whether the running boot measured PCR 13, capped it, and is enrolled as asked.

    Its initramfs must pin our key and name the selection, as the disk does, from
    which the next one is built. The key must be in the TPM still: a hook whose pin was
    cleared shows nothing more.
    """
    pinned = vault.files.read(f"{HOOK_FOLDER}/srk.tr")
    return (
        look.hook is not None
        and look.hook.cap is not None
        and look.hook.selection == look.selection
        and vault.files.read(f"{HOOK_FOLDER}/hook.conf") == hook_conf(look.selection)
        and pinned is not None
        and look.hook.pin == pin_of(pinned)
        and vault.storage.holds(pinned)
    )


def _require_pinned(vault: Vault, key: StorageKey) -> None:
    """Raise VaultError unless this is the key that the running initramfs pins.

    Another tool may have put one since where ours is looked for first.
    """
    path = f"{HOOK_FOLDER}/srk.tr"
    if vault.files.read(path) != key.serialized:
        raise VaultError(
            f"the storage key at 0x{key.handle:08x} is not the one in this initramfs",
            f"remove {path} and enrol: the initramfs is built anew for the key",
        )


def _next_check(look: Survey, accepted: SealedBoot) -> NextBootCheck | None:
    """Say whether GRUB boots the accepted boot next, None where it is not known."""
    try:
        prediction = look.predict(None, hook=True)
        following = predicted_boot(prediction, look.selection, accepted.since)
    except AemsealError:
        return None
    is_same = following.policy == accepted.policy
    return NextBootCheck(ACCEPTED if is_same else NOT_ACCEPTED, accepted.since)


def _seal(
    enrolment: Enrolment,
    look: Survey,
    key: StorageKey,
    secret: ToSeal,
    checked: NextBootCheck | None,
    *,
    accepted: tuple[SealedBoot, ...] = (),
    staged: tuple[SealedBoot, ...] = (),
) -> VaultState:
    state = VaultState(
        generation=1,
        selection=look.selection,
        storage=key,
        counter=0,
        count=0,
        media=enrolment.config.media,
        secrets=(),
        baseline=look.running,
        accepted=accepted,
        staged=staged,
        checked=checked,
    )
    header = enrolment.header()
    if header is not None:
        state = _with_header(enrolment, state, header)
    headers = () if header is None else (header,)
    sealed = seal(enrolment.vault, state, (secret,), headers)
    forget_halfway(enrolment.vault)
    return sealed


def _with_header(
    enrolment: Enrolment, state: VaultState, header: HeaderChange
) -> VaultState:
    """Stage the boot with the drafted header, too: that one comes next."""
    [boot] = (*state.accepted, *state.staged)
    checked = state.checked
    if checked is not None and checked.result == ACCEPTED:
        state = replace(state, checked=replace(checked, result=STAGED))
    return with_new_header(enrolment.vault, state, header, boot.policy, boot.since)


def read_foreign_owner(vault: Vault, config: Config) -> bytes | None:
    """Return the owner's authorisation that another tool keeps, if it does.

    A final line end is not part of it. AemsealError when the file is named and absent.
    """
    if config.owner_auth_file is None:
        return None
    data = vault.files.read(config.owner_auth_file)
    if data is None:
        raise AemsealError(f"{config.owner_auth_file} does not exist")
    return data.rstrip(b"\n")

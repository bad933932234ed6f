# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot that a generation is first sealed to: the running one, or one built here.

Everything that can refuse does so before the first write: the log, the selection, the
media, the TPM's room, a trial prediction, and whether the next boot is the running one.
Then the person is asked, the TPM is owned, the hook's files are written, the initramfs
is built with them, and the boot that will follow is predicted and held against the
running one once more. A running boot that ran the hook already is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeVar

from aemseal.flows.boot_menu import read_menu
from aemseal.flows.boot_places import boot_places
from aemseal.flows.enrol_halfway import keep_halfway, require_as_foreseen
from aemseal.flows.hook_inside import lacking, regular_files
from aemseal.flows.initramfs import ImageLists, initramfs_sources
from aemseal.flows.known_boots import predicted_boot, sealed_boot, unexplained
from aemseal.flows.moves import ACCEPTED, NOT_ACCEPTED, STAGED
from aemseal.flows.provision import (
    HOOK_FOLDER,
    free_place,
    own_the_tpm,
    write_hook_files,
)
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
from aemseal.world.config import Config, Medium
from aemseal.world.host import Host
from aemseal.world.storage_key import StorageKey

UNCHECKED_AT_ENROL = frozenset({Role.LUKS})
"""The rule no boot without our hook can calibrate; wrong, it opens nothing."""

_FORGOTTEN = (
    "nothing was written; if it is what a running system forgets (Xen prints its "
    "command line at its start, see xl dmesg), reboot and enrol soon after"
)
_REBOOT = "reboot into what /boot holds now, then {}"

_Asked = TypeVar("_Asked")


@dataclass(frozen=True, slots=True)
class Setting:
    """The machine that something is to be sealed on, and how to tell the person.

    `host_now` reads the host anew, grub.cfg and all: `host` reads that once. `say`
    tells a line to the person, `show` what changes with the next boot. `lists` gets
    the files of both images, of which the build overwrites one. `verb` is what is
    typed again after a reboot, with the `kind` of secret that it takes, if any.
    """

    host: Host
    host_now: Callable[[], Host]
    vault: Vault
    config: Config
    asked: PcrSelection | None
    entry: str | None
    rebuild: Callable[[tuple[str, ...]], None]
    say: Callable[[str], None]
    show: Callable[[Plan], None]
    foreign_owner: bytes | None
    lists: ImageLists
    verb: str = "enrol"
    kind: str = ""


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """The boot to be sealed to, accepted or staged, and what goes with it.

    `look` is of the running boot, `key` is pinned in the initramfs of the other.
    """

    look: Survey
    key: StorageKey
    boot: SealedBoot
    is_running: bool
    checked: NextBootCheck | None

    def state(self, media: tuple[Medium, ...]) -> VaultState:
        """Return the state of a vault that is sealed to this boot alone.

        What its sealing decides is not filled in: generation, counter, count, secrets.
        """
        return VaultState(
            generation=1,
            selection=self.look.selection,
            storage=self.key,
            counter=0,
            count=0,
            media=media,
            secrets=(),
            baseline=self.look.running,
            accepted=(self.boot,) if self.is_running else (),
            staged=() if self.is_running else (self.boot,),
            checked=self.checked,
        )


def first_boot(
    setting: Setting,
    ask: Callable[[Survey], _Asked],
    before: VaultState | None = None,
) -> tuple[_Asked, FirstBoot]:
    """Return what was asked for, and the boot to seal it to; own the TPM for it.

    `ask` is called when all that can refuse was looked at, and before anything is
    written. `before` is the vault whose place a new one takes. EvidenceError of every
    kind when the machine cannot be vouched for, OriginError when the next boot is
    another than the running one in more than the initramfs that is built here;
    VaultError when a medium is absent, TpmError when the TPM has no room.
    RebootFirstError when all is built, and what the next boot measures cannot be known.
    """
    vault = setting.vault
    look = _look(setting, before)
    free_place(vault, setting.config.media)
    boot_places(vault.files.root, setting.config.media)
    if _ran_our_hook(look, vault):
        held = require_as_foreseen(vault, look)
        asked = ask(look)
        key = own_the_tpm(vault, setting.foreign_owner)
        _require_pinned(vault, key)
        if held is not None:
            setting.say(held)
        boot = sealed_boot(
            *(look.running, look.running_policy, setting.host.now()), _on_record(before)
        )
        checked = _next_check(look, boot)
        return asked, FirstBoot(look, key, boot, is_running=True, checked=checked)
    command = setting.config.initramfs_command
    if command is None:
        raise EvidenceError(
            "this boot did not run aemseal's hook as it would be enrolled, and how to "
            "build the initramfs with it is not configured",
            "name the command as initramfs_command in /etc/aemseal.yaml",
        )
    trial = look.predict(setting.entry, hook=True)
    _require_same_boot(setting, look, trial)
    _require_known(trial, look.selection)
    asked = ask(look)
    key = own_the_tpm(vault, setting.foreign_owner)
    write_hook_files(vault, key, look.selection, setting.config.media)
    setting.lists.look_if_possible(initramfs_sources(look.calibration.measured))
    setting.say(f"building the initramfs: {' '.join(command)}")
    setting.rebuild(command)
    boot = _built_boot(setting, look, _on_record(before))
    is_next = setting.entry is None
    check = NextBootCheck(STAGED, boot.since) if is_next else None
    return asked, FirstBoot(look, key, boot, is_running=False, checked=check)


def _require_known(trial: Prediction, selection: PcrSelection) -> None:
    """Raise PredictionError unless the next boot is known before anything is built."""
    try:
        trial.require(selection, UNCHECKED_AT_ENROL)
    except PredictionError as error:
        raise PredictionError(error.message, error.hint or _FORGOTTEN) from None


def _on_record(before: VaultState | None) -> tuple[SealedBoot, ...]:
    """Return the boots whose names another boot must not get."""
    if before is None:
        return ()
    return (*before.accepted, *before.staged, *before.retired)


def _built_boot(
    setting: Setting, look: Survey, known: tuple[SealedBoot, ...]
) -> SealedBoot:
    """Predict the boot of what is there after the build, boot menu and all.

    RebootFirstError where the build moved what of it nobody can predict.
    """
    host = setting.host_now()
    now = replace(look, host=host, facts={}, menu=read_menu(host))
    prediction = now.predict(setting.entry, hook=True)
    changes = _require_same_boot(setting, now, prediction, built=(Role.INITRAMFS,))
    lists = ImageLists(host, setting.lists.lists)
    setting.show(lists.told(changes))
    _require_hook(lists, prediction)
    for caution in prediction.cautions:
        setting.say(f"caution: {caution}")
    command = f"{setting.verb} {setting.kind}".rstrip()
    keep_halfway(setting.vault, prediction, look.selection, host.now(), command)
    return predicted_boot(
        prediction,
        look.selection,
        host.now(),
        known,
        unchecked=UNCHECKED_AT_ENROL,
    )


def _require_hook(lists: ImageLists, prediction: Prediction) -> None:
    """Raise EvidenceError where the build left the hook out of the initramfs.

    That boot would measure as predicted, and show nothing. It is told only where the
    files of every image can be listed.
    """
    sources = initramfs_sources(prediction.measurements)
    images = lists.look_if_possible(sources)
    if len(images) < len(sources):
        return
    absent = lacking(regular_files(images))
    if images and absent:
        raise EvidenceError(
            f"the initramfs that was built lacks {', '.join(absent)}: its boot would "
            "show no secret",
            "install dracut's module 90aemseal with the hook's programs; see the "
            "README of boot-hooks, then enrol again",
        )


def _require_same_boot(
    setting: Setting,
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
    setting.show(changes)
    named = ", ".join(
        f"{each.name} ({each.path})" if each.path else each.name for each in foreign
    )
    raise OriginError(
        f"the next boot is not the running one: it changes {named}",
        _REBOOT.format(setting.verb),
    )


def _is_new_luks(change: Change) -> bool:
    return change.role is Role.LUKS and change.before is None


def _look(setting: Setting, before: VaultState | None) -> Survey:
    look = survey(setting.host, setting.asked, before)
    if setting.asked is None:
        pcrs = set(look.selection.pcrs) | ALWAYS_SEALED
        look = replace(look, selection=PcrSelection.of(look.selection.algorithm, pcrs))
    look.selection.require_sealable()
    require_covered(look.calibration.measured, look.selection)
    if not look.calibration.is_calibrated:
        raise PredictionError(
            "no file of any boot entry gives what this boot measured as "
            f"{unexplained(look.calibration)}",
            _REBOOT.format(setting.verb),
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

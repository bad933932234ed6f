# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor asks of the encrypted root: the vault's files, and what they say."""

from __future__ import annotations

from aemseal.flows.boot_menu import read_menu
from aemseal.flows.doctor_patient import (
    Checks,
    Finding,
    Patient,
    SkippedError,
    failed,
    ok,
    warning,
)
from aemseal.flows.journal import JOURNAL_FILE, parse_journal
from aemseal.flows.owner import (
    LOCKOUT_FILE,
    NEXT_LOCKOUT_FILE,
    NEXT_OWNER_FILE,
    OWNER_FILE,
)
from aemseal.flows.provision import HOOK_FOLDER
from aemseal.flows.publishing import FROM_BACKUP, kept_vault_file, key_file, load_key
from aemseal.flows.state import FORESEEN_FILE, STATE_FILE
from aemseal.flows.status import cut_short
from aemseal.formats.hook_files import hook_conf
from aemseal.formats.slot import VaultFile
from aemseal.words.errors import AemsealError, VaultError
from aemseal.world.config import CONFIG_FILE, Config
from aemseal.world.file_status import FileStatus, file_status
from aemseal.world.store import STATE_FOLDER

PIN_FILE = f"{HOOK_FOLDER}/srk.tr"
CONF_FILE = f"{HOOK_FOLDER}/hook.conf"

_OTHERS_WRITE = 0o022
_OTHERS_READ = 0o077
_ROOT = 0

_PROGRAMS = (
    ("cryptsetup", "the LUKS headers are measured with it"),
    ("tpm2_unseal", "tpm2-tools go into the initramfs"),
)
_GOOD_TO_HAVE = (
    ("qrencode", "a TOTP seed is shown as a QR code"),
    ("zstd", "the files inside an initramfs are listed"),
)


def config_parses(patient: Patient) -> Finding:
    """/etc/aemseal.yaml says what it may say."""
    if isinstance(patient.config, AemsealError):
        raise patient.config
    _ = patient.owned
    return ok(f"{CONFIG_FILE} is in order")


def initramfs_can_be_built(patient: Patient) -> Finding:
    """Enrol knows how to build the initramfs with the hook in it."""
    if patient.settled.initramfs_command is not None:
        return ok("how to build the initramfs is configured")
    if patient.files is None:
        raise SkippedError("a recording does not tell")
    return warning(
        "how to build the initramfs is not configured: enrol needs that for the first "
        "boot with the hook",
        f"name the command as initramfs_command in {CONFIG_FILE}",
    )


def state_parses(patient: Patient) -> Finding:
    """Say whether what is remembered between boots can be read."""
    if isinstance(patient.state, AemsealError):
        raise patient.state
    if patient.state is None:
        raise SkippedError("nothing is sealed here: aemseal enrol text")
    return ok(f"{STATE_FILE} is in order")


def no_move_was_cut_short(patient: Patient) -> Finding:
    """No journal waits for its move to be finished."""
    files = patient.owned
    data = files.read(JOURNAL_FILE)
    if data is not None:
        error: VaultError = cut_short(parse_journal(data).move)
        return failed(error.message, error.hint or "see: aemseal status")
    waiting = [p for p in (NEXT_OWNER_FILE, NEXT_LOCKOUT_FILE) if files.read(p)]
    if waiting:
        return warning(
            f"a change of the TPM's authorisations was cut short ({waiting[0]})",
            "any move finishes it: aemseal confirm",
        )
    if patient.state is None and files.read(FORESEEN_FILE) is not None:
        return warning(
            "an enrolment waits for a reboot into the initramfs that it built",
            "reboot, unless you have since, then: aemseal enrol text",
        )
    return ok("no move was cut short")


def signing_key_is_there(patient: Patient) -> Finding:
    """Require the key that signs acceptances, the one that was sealed to."""
    state, files = patient.sealed, patient.owned
    key = load_key(files, state.generation)
    for medium in state.media:
        kept = _parsed(files.read(kept_vault_file(medium.label)) or b"")
        if kept is not None and kept.key != key.public:
            return failed(
                f"{key_file(state.generation)} is not the key that {medium.label} was "
                "sealed to: no boot could be accepted any more",
                FROM_BACKUP,
            )
    return ok("the signing key is there, and is the one that was sealed to")


def _parsed(kept: bytes) -> VaultFile | None:
    try:
        return VaultFile.parse(kept)
    except AemsealError:
        return None


def copies_are_there(patient: Patient) -> Finding:
    """Each medium's vault file has its copy on the encrypted root."""
    state, files = patient.sealed, patient.owned
    for medium in state.media:
        path = kept_vault_file(medium.label)
        kept = files.read(path)
        if kept is None or _parsed(kept) is None:
            return warning(
                f"{path} is {'missing' if kept is None else 'damaged'}: a medium that "
                "is lost or damaged cannot be written again",
                "take it from a backup of the encrypted root; or begin anew with: "
                "aemseal recover",
            )
    return ok("there is a copy of every medium's vault file")


def hook_files_are_ours(patient: Patient) -> Finding:
    """Require that the next initramfs is built with our key and selection."""
    state, files = patient.sealed, patient.owned
    wrong = [
        path
        for path, content in (
            (PIN_FILE, state.storage.serialized),
            (CONF_FILE, hook_conf(state.selection)),
        )
        if files.read(path) != content
    ]
    if wrong:
        return failed(
            f"{wrong[0]} is not what enrol wrote: an initramfs that is built with it "
            "shows no secret",
            FROM_BACKUP,
        )
    return ok("the hook's files are as enrol wrote them")


def files_are_roots(patient: Patient) -> Finding:
    """Nobody but root reads what must be kept, or writes what is believed."""
    state, files = patient.sealed, patient.owned
    paths = [
        *(STATE_FILE, key_file(state.generation), OWNER_FILE, LOCKOUT_FILE),
        *(NEXT_OWNER_FILE, NEXT_LOCKOUT_FILE, PIN_FILE),
        *(kept_vault_file(medium.label) for medium in state.media),
    ]
    required = {*paths[:3], PIN_FILE, CONF_FILE}
    asked = [(STATE_FOLDER, _OTHERS_WRITE), (CONF_FILE, _OTHERS_WRITE)]
    asked += [(path, _OTHERS_READ) for path in paths]
    for path, forbidden in asked:
        complaint = _complaint(file_status(files, path), forbidden)
        if complaint == _MISSING and path not in required:
            continue
        if complaint is not None:
            return failed(
                f"{path} {complaint}",
                FROM_BACKUP
                if complaint == _MISSING
                else f"chown root: {path}; chmod go= {path}",
            )
    return ok("the vault's files are there, and root's alone")


_MISSING = "is missing"


def _complaint(found: FileStatus | None, forbidden: int) -> str | None:
    if found is None:
        return _MISSING
    if not (found.is_regular or found.is_folder):
        return "is not a regular file"
    if found.owner != _ROOT:
        return f"is owned by user {found.owner}, not by root"
    if found.mode & forbidden:
        return f"has mode {found.mode:04o}: others than root may get at it"
    return None


def clock_is_plausible(patient: Patient) -> Finding:
    """Require a clock that does not go back: TOTP goes by it."""
    state, now = patient.sealed, patient.host.now()
    times = [boot.since for boot in (*state.accepted, *state.staged)]
    times += [state.checked.time] if state.checked else []
    times += [state.attendance.time] if state.attendance else []
    latest = max(times, default=now)
    if now < latest:
        told = f"the clock says {now}, and said {latest} before"
        hint = "set it, and the hardware clock with it: hwclock --systohc"
        has_totp = any(each.kind == "totp" for each in state.secrets)
        return failed(told, hint) if has_totp else warning(told, hint)
    return ok(f"the clock says {now}")


def programs_are_there(patient: Patient) -> Finding:
    """Look for the programs that aemseal and the hook call."""
    has = patient.has_program
    if has is None:
        raise SkippedError("a recording does not tell")
    for name, why in _PROGRAMS:
        if not has(name):
            return failed(f"there is no program {name}: {why}", f"install {name}")
    for name, why in _GOOD_TO_HAVE:
        if not has(name):
            return warning(f"there is no program {name}: {why}", f"install {name}")
    names = ", ".join(name for name, _ in (*_PROGRAMS, *_GOOD_TO_HAVE))
    return ok(f"the programs are there: {names}")


def fallbacks_exist(patient: Patient) -> Finding:
    """Each entry of `fallback_entries` is in the boot menu."""
    config: Config = patient.settled
    if patient.files is None or not config.fallback_entries:
        raise SkippedError("no fallback entries are configured")
    menu = read_menu(patient.host)
    for title in config.fallback_entries:
        menu.entry_titled(title)
    return ok(
        f"the boot menu has every fallback entry ({len(config.fallback_entries)})"
    )


def no_other_tool_seals(patient: Patient) -> Finding:
    """Anti Evil Maid's own service, which seals whatever has booted, is off."""
    units = "/etc/systemd/system"
    for folder in patient.host.names(units):
        if not folder.endswith((".wants", ".requires")):
            continue
        if _AEM_SERVICE in patient.host.names(f"{units}/{folder}") and not _is_masked(
            patient, f"{units}/{_AEM_SERVICE}"
        ):
            return warning(
                f"{_AEM_SERVICE} is enabled: it seals Anti Evil Maid's own secret to "
                "whatever has booted, asked or not",
                f"once you have moved over: systemctl disable {_AEM_SERVICE}",
            )
    return ok(f"{_AEM_SERVICE} is not enabled")


_AEM_SERVICE = "anti-evil-maid-seal.service"


def _is_masked(patient: Patient, path: str) -> bool:
    """Whether the unit is a link to /dev/null, which is not opened."""
    try:
        patient.host.small_file(path)
    except AemsealError:
        return True
    return False


CHECKS: Checks = (
    ("config", config_parses),
    ("initramfs-command", initramfs_can_be_built),
    ("state", state_parses),
    ("journal", no_move_was_cut_short),
    ("signing-key", signing_key_is_there),
    ("vault-copies", copies_are_there),
    ("hook-files", hook_files_are_ours),
    ("file-modes", files_are_roots),
    ("clock", clock_is_plausible),
    ("programs", programs_are_there),
    ("fallback-entries", fallbacks_exist),
    ("other-sealer", no_other_tool_seals),
)

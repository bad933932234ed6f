# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor asks of this boot, as measured, and of the next one, as built."""

from __future__ import annotations

import hashlib
import re

from aemseal.flows.doctor_patient import (
    Checks,
    Finding,
    Patient,
    SkippedError,
    failed,
    ok,
    warning,
)
from aemseal.flows.evidence import read_launch
from aemseal.flows.hook_inside import (
    BOOT_CONF,
    HOOK_CONF,
    PIN,
    SYSTEMD,
    lacking,
    other_than_installed,
    regular_files,
)
from aemseal.flows.known_boots import predicted_boot, unexplained
from aemseal.flows.moves import ACCEPTED, RETIRED, STAGED, standing
from aemseal.flows.provision import HOOK_FOLDER
from aemseal.flows.state import VaultState
from aemseal.flows.survey import refuse_unpredicted
from aemseal.formats.hook_files import hook_conf, pin_of
from aemseal.measure.luks import LUKS_PCR
from aemseal.measure.replay import require_launch
from aemseal.words.errors import (
    AemsealError,
    EvidenceError,
    PredictionError,
    TpmError,
    UnmeasuredError,
)

_REBUILD = "build the initramfs anew, with the hook in it, then: aemseal reseal"
_CREDENTIALS_SINCE = 250
"""systemd's stub hands credentials over since 250; SMBIOS since 252 (systemd NEWS)."""

_HIBERNATE_LOCATION_SINCE = 254
"""From then on an EFI variable says where to resume from (systemd NEWS, 254)."""

_SYSTEMD = re.compile(r"(?:.*/)?libsystemd-(?:core|shared)-([0-9]{1,4})[^/]*\.so")
_OPENERS = (b"rd.break", b"systemd.debug_shell", b"systemd.debug-shell")
_NO = (b"0", b"no", b"off", b"false")


def launch_was_measured(patient: Patient) -> Finding:
    """Require that a dynamic launch took place."""
    try:
        require_launch(patient.host.pcrs(patient.algorithm))
    except TpmError:
        raise SkippedError("no TPM answers") from None
    return ok("this boot was launched measured")


def log_replays(patient: Patient) -> Finding:
    """Require a log of the launch that gives the TPM's PCRs."""
    if patient.open_tpm is not None:
        _ = patient.tpm
    try:
        where, _, _ = read_launch(patient.host, patient.algorithm)
    except UnmeasuredError:
        raise SkippedError("there was no dynamic launch to log") from None
    look = patient.require_survey()
    return ok(f"the log {where} replays to the TPM's {look.selection}")


def log_is_explained(patient: Patient) -> Finding:
    """Require that the boot files give what this boot measured."""
    calibration = patient.look.calibration
    if not calibration.is_calibrated:
        return warning(
            "no file of any boot entry gives what this boot measured as "
            f"{unexplained(calibration)}: what was updated since cannot be held "
            "against it",
            "reboot into what /boot holds now, if that is accepted",
        )
    return ok("every measurement of this boot is explained by a file or a constant")


def hook_ran(patient: Patient) -> Finding:
    """Require that this boot ran our hook, with our selection and pin."""
    state, hook = patient.sealed, patient.look.hook
    if hook is None:
        return failed("the boot hook did not run in this boot", _REBUILD)
    if hook.selection != state.selection:
        return failed(
            f"this boot's hook asks for {hook.selection}, and the vault is sealed to "
            f"{state.selection}",
            _REBUILD,
        )
    if hook.pin != pin_of(state.storage.serialized):
        return failed("this boot's hook trusts another storage key", _REBUILD)
    if hook.cap is None:
        return failed(
            f"this boot's hook could not cap PCR {LUKS_PCR}: whatever runs now can "
            "have the secret",
            "reboot; if it stays so, see what the TPM says: aemseal explain",
        )
    return ok(f"this boot ran the hook; it ended with: {hook.outcome}")


def next_boot_is_known(patient: Patient) -> Finding:
    """Require an entry that GRUB boots next, and that launches measured."""
    return ok(f"GRUB boots next: {patient.require_entry().title}")


def luks_is_measured(patient: Patient) -> Finding:
    """Require that the next boot's command line names the disk to be measured."""
    uuids = patient.entry.luks_uuids
    if not uuids:
        return failed(
            f"the next boot's command line has no rd.luks.uuid=: PCR {LUKS_PCR} "
            "measures nothing, and whose disk is opened is anyone's choice",
            "add rd.luks.uuid=luks-UUID to the kernel's command line, then: aemseal "
            "reseal",
        )
    return ok(f"LUKS headers that are measured: {', '.join(uuids)}")


def next_boot_opens(patient: Patient) -> Finding:
    """Predict the next boot, and say whether it will show the secret."""
    look = patient.look
    state = patient.state if isinstance(patient.state, VaultState) else None
    prediction = refuse_unpredicted(look.predict(None, hook=True), look.selection)
    if state is None:
        refused = [each for each in prediction.refusals if each.pcr in look.selection]
        if refused:
            return warning(
                f"the next boot cannot be known: {refused[0].sentence}",
                "enrol from a boot whose successor can be known; see: aemseal predict",
            )
        return ok("the next boot can be predicted")
    try:
        boot = predicted_boot(prediction, look.selection, patient.host.now())
    except PredictionError as error:
        return warning(
            f"the next boot will be blind: {error.message}",
            "read what `aemseal reseal` says of it before you reboot",
        )
    word = standing(state, boot.policy)
    if word == RETIRED:
        return failed(
            "the next boot is a retired one: it shows no secret",
            "put the newer boot files back",
        )
    if word not in (ACCEPTED, STAGED):
        return warning(
            "the next boot is not an accepted one: it shows no secret",
            "stage it before you reboot: aemseal reseal",
        )
    return ok(f"the next boot is {word}: {boot.name}")


def initramfs_has_the_hook(patient: Patient) -> Finding:
    """Look into the next boot's initramfs for all of the hook, as it should be."""
    state = patient.sealed
    files = regular_files([patient.image])
    absent = lacking(files)
    if absent:
        return failed(
            f"the next boot's initramfs lacks {', '.join(absent)}: it shows no secret",
            _REBUILD,
        )
    for path, content in (
        (HOOK_CONF, hook_conf(state.selection)),
        (PIN, state.storage.serialized),
        (BOOT_CONF, patient.files and patient.files.read(f"{HOOK_FOLDER}/boot.conf")),
    ):
        if content and files[path].content != hashlib.sha256(content).hexdigest():
            return failed(
                f"{path} in the next boot's initramfs is not what enrol wrote: it "
                "shows no secret",
                _REBUILD,
            )
    others = list(other_than_installed(files, patient.host))
    if others:
        return warning(
            f"the next boot's initramfs has another {', '.join(others)} than is "
            "installed here",
            _REBUILD,
        )
    return ok("the next boot's initramfs holds the hook, our key and selection")


def no_shell_opens(patient: Patient) -> Finding:
    """Require that an initramfs that fails switches off, and opens no shell."""
    words = patient.kernel_words
    wrong = []
    if _last(words, b"rd.shell") not in _NO:
        wrong.append("rd.shell=0")
    if _last(words, b"rd.emergency") != b"poweroff":
        wrong.append("rd.emergency=poweroff")
    if wrong:
        return failed(
            f"the next boot's command line lacks {' '.join(wrong)}: an initramfs that "
            "is made to fail opens a shell beside the genuine secret",
            "add that to GRUB_CMDLINE_LINUX, write grub.cfg anew, then: aemseal reseal",
        )
    opener = next((each for each in words if each.startswith(_OPENERS)), None)
    if opener is not None:
        return failed(
            f"{opener.decode('utf-8', 'backslashreplace')} on the next boot's command "
            "line opens a shell",
            "take it away, write grub.cfg anew, then: aemseal reseal",
        )
    return ok("an initramfs that fails switches the machine off")


def nothing_is_resumed(patient: Patient) -> Finding:
    """Require `noresume` where the initramfs might resume an image from a disk."""
    words = patient.kernel_words
    if b"noresume" in words:
        return ok("no hibernation image is resumed")
    add = (
        "add noresume to GRUB_CMDLINE_LINUX, write grub.cfg anew, then: aemseal reseal"
    )
    if any(each.startswith(b"resume=") for each in words):
        return failed(
            "the next boot's command line has resume= and no noresume: whoever has the "
            "disk puts a running system there",
            add,
        )
    version = _systemd_version(patient)
    if version is not None and version >= _HIBERNATE_LOCATION_SINCE:
        return warning(
            f"systemd {version} in the initramfs resumes from where an EFI variable "
            "says, and the next boot's command line has no noresume",
            add,
        )
    if _has_swap(patient):
        return warning(
            "there is swap space, and the next boot's command line has no noresume", add
        )
    return ok("nothing says from where to resume")


def _has_swap(patient: Patient) -> bool:
    try:
        return patient.disks is not None and bool(patient.disks.swaps())
    except EvidenceError:
        return False


def _is_systemds_own(path: str) -> bool:
    """Whether it is one of the libraries that systemd brings for itself."""
    return path.startswith("usr/lib/systemd/libsystemd-")


def no_credentials_come_in(patient: Patient) -> Finding:
    """Require that systemd in the initramfs takes no credentials from outside."""
    if _last(patient.kernel_words, b"systemd.import_credentials") in _NO:
        return ok("systemd in the initramfs takes no credentials from outside")
    found = regular_files([patient.image])
    if SYSTEMD not in found and not any(map(_is_systemds_own, found)):
        return ok("there is no systemd in the initramfs")
    version = _systemd_version(patient)
    if version is not None and version < _CREDENTIALS_SINCE:
        return ok(f"systemd {version} in the initramfs knows no such credentials")
    return failed(
        f"systemd {version or 'of a version not told'} in the initramfs takes "
        "credentials that nothing measures, from firmware and boot loader",
        "add systemd.import_credentials=no to GRUB_CMDLINE_LINUX, write grub.cfg anew, "
        "then: aemseal reseal",
    )


def _systemd_version(patient: Patient) -> int | None:
    """Return systemd's version as its libraries' names tell it, if any does."""
    try:
        paths = [each.path for each in patient.image.files]
    except (SkippedError, AemsealError):
        return None
    found = (_SYSTEMD.fullmatch(path) for path in paths)
    return next((int(each[1]) for each in found if each), None)


def _last(words: list[bytes], key: bytes) -> bytes | None:
    """Return the value of a word that may be there more than once: the last counts."""
    values = [each.partition(b"=")[2] for each in words if each.startswith(key + b"=")]
    return values[-1] if values else None


CHECKS: Checks = (
    ("launch", launch_was_measured),
    ("event-log", log_replays),
    ("calibration", log_is_explained),
    ("hook", hook_ran),
    ("boot-entry", next_boot_is_known),
    ("next-boot", next_boot_opens),
    ("luks-uuid", luks_is_measured),
    ("initramfs", initramfs_has_the_hook),
    ("emergency-shell", no_shell_opens),
    ("resume", nothing_is_resumed),
    ("credentials", no_credentials_come_in),
)

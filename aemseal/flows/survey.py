# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of this machine now: its log verified, its running boot explained.

Everything a flow decides on comes from one Survey, made once; each file is read once,
and the digest that is planned, shown and sealed to is that of this one read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aemseal.flows.state import SealedBoot, VaultState
from aemseal.formats.event_log import parse_event_log
from aemseal.formats.grub_config import GrubMenu, evaluate
from aemseal.formats.hook_files import HookRecord
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import MOST_MEASUREMENTS, Baseline
from aemseal.measure.boot_entry import BootEntry, Role, boot_entry_from, wanted
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Calibrated, Measurement, Prediction, Refusal
from aemseal.measure.luks import LUKS_PCR, require_luks
from aemseal.measure.plan import Plan, plan
from aemseal.measure.predict import predict
from aemseal.measure.replay import VerifiedLog, require_launch, verify
from aemseal.measure.stack import identify
from aemseal.words.digest import (
    Digest,
    HashAlgorithm,
    PcrBank,
    PcrSelection,
)
from aemseal.words.errors import (
    AemsealError,
    BootFileError,
    FormatError,
    GrubError,
    ReplayError,
    SelectionError,
)
from aemseal.words.events import EventLog
from aemseal.words.wanted import FileFacts, Wanted
from aemseal.world.host import HOOK_RECORD, Host

_DEFAULT_PCRS = {"legacy": frozenset({17, 18, 19}), "da": frozenset({17, 18})}
"""What a selection holds besides PCR 13 (docs of the command line, --pcrs)."""

_WHOLE_LOG = "each boot writes its log anew: reboot, and look again"


@dataclass(frozen=True)
class Survey:
    """One look at the machine. `hook` is absent where our hook did not run."""

    host: Host
    selection: PcrSelection
    live: PcrBank
    log: EventLog
    verified: VerifiedLog
    hook: HookRecord | None
    menu: GrubMenu
    calibration: Calibration
    facts: dict[Wanted, FileFacts] = field(repr=False)

    @property
    def running_values(self) -> dict[int, Digest]:
        """The selected PCRs at the moment the hook asked for the secret.

        SelectionError when PCR 13 is selected and no hook measured into it.
        """
        values = {}
        for pcr in self.selection.pcrs:
            if pcr == LUKS_PCR:
                if self.hook is None:
                    raise no_hook(self.live)
                values[pcr] = self.hook.measured
            else:
                values[pcr] = self.live.value(pcr)
        return values

    @property
    def running_bank(self) -> PcrBank:
        """The live PCRs, but PCR 13 as the hook found it: before its cap."""
        if self.hook is None:
            return self.live
        measured = {LUKS_PCR: self.hook.measured}
        return PcrBank(self.live.algorithm, {**self.live.values, **measured})

    def changes(self, prediction: Prediction) -> Plan:
        """Say what of a predicted boot is not as in this one."""
        return plan(self.calibration.measured, prediction)

    @property
    def running_policy(self) -> bytes:
        """The PolicyPCR digest of the running boot."""
        return policy_pcr(self.selection, self.running_values)

    @property
    def running(self) -> Baseline:
        """The running boot's measurements, to be kept."""
        entry = self.calibration.entry
        return self.calibration.baseline(entry.title if entry else "")

    def entry(self, title: str | None) -> BootEntry:
        """Return the entry with this title, else the one GRUB boots next."""
        found = self.menu.entry_titled(title) if title else self.menu.next_entry()
        return boot_entry_from(found, self.host.resolve)

    def predict(self, title: str | None, *, hook: bool) -> Prediction:
        """Predict a boot of this entry; `hook` says that PCR 13 will be measured.

        BootFileError when one of its files cannot be read.
        """
        entry = self.entry(title)
        asked = wanted(entry) if hook else _without_luks(entry)
        missing = [each for each in asked if each not in self.facts]
        if missing:
            self.facts.update(self.host.look(missing, (self.selection.algorithm,)))
        return predict(self.calibration, entry, self.facts, hook_measures_luks=hook)


def read_log(host: Host) -> tuple[str, EventLog]:
    """Find and parse the launch's event log; returns where it was found, too."""
    where, data = host.event_log()
    return where, parse_named_log(where, data)


def parse_named_log(where: str, data: bytes) -> EventLog:
    """Parse an event log; the FormatError of a bad one names the file."""
    try:
        return parse_event_log(data)
    except FormatError as error:
        raise FormatError(
            f"{where}: {error.what}", error.offset, error.hint or _WHOLE_LOG
        ) from None


def read_launch(host: Host, algorithm: HashAlgorithm) -> tuple[str, EventLog, PcrBank]:
    """Read the launch's log, where it was found, and the live PCRs.

    UnmeasuredError where there was no launch: then no log is missed.
    """
    live = host.pcrs(algorithm)
    require_launch(live)
    where, log = read_log(host)
    return where, log, live


def survey(
    host: Host, asked: PcrSelection | None = None, state: VaultState | None = None
) -> Survey:
    """Verify the running boot and explain it by its own files.

    `asked` is the user's selection. What is sealed already decides: another selection
    than the vault's is refused (SelectionError).
    """
    baseline = None if state is None else _known_files(state)
    return survey_against(host, baseline, _selection_wish(asked, state))


def _known_files(state: VaultState) -> Baseline:
    """Return the last verified boot, and the files of those that may run since.

    A staged boot whose files the next update overwrote, before it was confirmed, is
    explained by what was known of them when it was staged: the log decides.
    """
    boots = [each.boot for each in (*state.staged, *state.accepted)]
    kept = [each for boot in (state.baseline, *boots) for each in boot.measurements]
    return replace(state.baseline, measurements=tuple(kept[:MOST_MEASUREMENTS]))


def survey_against(
    host: Host, baseline: Baseline | None, wish: PcrSelection | None = None
) -> Survey:
    """Survey the machine with what is known of an earlier boot, but no vault.

    `wish` is the selection to verify; None takes the machine's own (--pcrs).
    """
    algorithm = wish.algorithm if wish else HashAlgorithm.SHA256
    _, log, live = read_launch(host, algorithm)
    hook = read_hook_record(host)
    if wish is None:
        probe = verify(log, live, PcrSelection(algorithm, (17,)))
        pcrs = _DEFAULT_PCRS[identify(probe).pcr_map.name]
        more = () if hook is None else (LUKS_PCR,)
        wish = PcrSelection.of(algorithm, {*pcrs, *more})
    require_hook(hook, live)
    verified = verify(log, live, wish)
    menu = read_menu(host)
    facts: dict[Wanted, FileFacts] = {}
    calibration = _calibrate(host, menu, verified, baseline, hook, facts)
    return Survey(host, wish, live, log, verified, hook, menu, calibration, facts)


def read_menu(host: Host) -> GrubMenu:
    """Evaluate the host's grub.cfg, as the GRUB of this machine's firmware would.

    A GrubError's hint says which file that is.
    """
    where, config = host.grub_config()
    known = {
        "prefix": posixpath.dirname(where),
        "grub_platform": "efi" if host.is_efi() else "pc",
        "grub_cpu": "x86_64" if host.is_efi() else "i386",
    }
    try:
        return evaluate(config, host.grub_env(), _GrubFiles(host), known)
    except GrubError as error:
        hint = f"it is {where}: repair it, or write it anew with grub-mkconfig"
        raise GrubError(error.message, error.hint or hint) from None


def require_hook(hook: HookRecord | None, live: PcrBank) -> None:
    """Hold the hook's record against PCR 13; ReplayError when it is of another boot."""
    if hook is None:
        return
    if hook.algorithm is not live.algorithm:
        raise ReplayError(
            f"{HOOK_RECORD} tells of the {hook.algorithm} bank, not of "
            f"{live.algorithm}",
            "reboot with the initramfs that enrol built",
        )
    require_luks(hook.luks, live, hook.cap)


def no_hook(live: PcrBank) -> SelectionError:
    """Return the error where PCR 13 is needed and no record of the hook tells it."""
    hint = "reboot with the initramfs that has the hook"
    if live.value(LUKS_PCR).is_blank:
        return SelectionError(
            f"aemseal's hook did not run in this boot: nothing is in PCR {LUKS_PCR}",
            hint,
        )
    return SelectionError(
        f"{HOOK_RECORD} is missing: it says what is in PCR {LUKS_PCR}", hint
    )


def refuse_unpredicted(prediction: Prediction, selection: PcrSelection) -> Prediction:
    """Add a refusal for every selected PCR that no predicted measurement extends."""
    told = {each.pcr for each in prediction.measurements}
    told |= {each.pcr for each in prediction.refusals}
    refused = tuple(
        Refusal(
            pcr,
            "aemseal's hook, which measures into it, did not run in this boot"
            if pcr == LUKS_PCR
            else "nothing that can be predicted extends it",
        )
        for pcr in selection.pcrs
        if pcr not in told
    )
    return replace(prediction, refusals=(*prediction.refusals, *refused))


def read_hook_record(host: Host) -> HookRecord | None:
    """Read what the hook left in this boot, None where it did not run."""
    data = host.hook_record()
    if data is None:
        return None
    try:
        return HookRecord.parse(data, HOOK_RECORD)
    except FormatError as error:
        hint = "the hook writes it at each boot: reboot, and look again"
        raise FormatError(error.what, error.offset, hint) from None


def look_where_possible(
    host: Host, asked: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
) -> dict[Wanted, FileFacts]:
    """Look at files of an entry that may have booted: a file that is gone is absent."""
    by_path: dict[str, list[Wanted]] = {}
    for each in asked:
        by_path.setdefault(each.path, []).append(each)
    banks = tuple(algorithms)
    facts: dict[Wanted, FileFacts] = {}
    for views in by_path.values():
        try:
            facts.update(host.look(views, banks))
        except BootFileError:
            continue
    return facts


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

    PredictionError unless every selected PCR is known, and every rule behind it but
    those of the roles in `unchecked` was calibrated.
    """
    values = prediction.require(selection, unchecked)
    boot = Baseline(
        prediction.entry, prediction.stack, prediction.map, prediction.measurements
    )
    return sealed_boot(boot, policy_pcr(selection, values), since, known)


def unexplained(calibration: Calibration) -> str:
    """Name what of the running boot no file gives: "xen (PCR 17), kernel (PCR 17)"."""
    return ", ".join(
        f"{each.role} (PCR {each.pcr})"
        for each in calibration.measured
        if each.calibrated is Calibrated.NO
    )


def touch_everything(host: Host) -> None:
    """Read all that any verb would, for a recording: every measured entry's files.

    In every bank of the log; a log that cannot be read keeps no file out.
    """
    try:
        banks = read_log(host)[1].algorithms
    except AemsealError:
        banks = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
    menu = read_menu(host)
    for entry in _entries(host, menu, None):
        look_where_possible(host, wanted(entry), banks)
    menu.next_entry()


def _file_name(measured: Measurement) -> str:
    return (measured.source.path or "").rsplit("/", 1)[-1]


def _without_luks(entry: BootEntry) -> tuple[Wanted, ...]:
    return tuple(each for each in wanted(entry) if each not in entry.luks_wanted)


def _selection_wish(
    asked: PcrSelection | None, state: VaultState | None
) -> PcrSelection | None:
    if state is None:
        return asked
    if asked is not None and asked != state.selection:
        raise SelectionError(
            f"the secret is sealed to {state.selection}, not to {asked}",
            "leave --pcrs out; another selection needs a new enrolment",
        )
    return state.selection


def _calibrate(
    host: Host,
    menu: GrubMenu,
    verified: VerifiedLog,
    baseline: Baseline | None,
    hook: HookRecord | None,
    facts: dict[Wanted, FileFacts],
) -> Calibration:
    """Explain the running boot by the likely entries, then by all measured ones."""
    luks = () if hook is None else hook.luks
    candidates: list[Candidate] = []
    result: Calibration | None = None
    for entry in _entries(host, menu, baseline):
        asked = wanted(entry) if hook is not None else _without_luks(entry)
        new = [each for each in asked if each not in facts]
        facts.update(look_where_possible(host, new, (verified.algorithm,)))
        candidates.append(Candidate(entry, facts))
        result = calibrate(verified, candidates, baseline, luks)
        if result.entry is not None and result.is_calibrated:
            break
    return result or calibrate(verified, (), baseline, luks)


def _entries(host: Host, menu: GrubMenu, baseline: Baseline | None) -> list[BootEntry]:
    """Return the measured entries, the one that most likely booted first."""
    entries = []
    for found in menu.measured_entries():
        try:
            entries.append(boot_entry_from(found, host.resolve))
        except AemsealError:
            continue
    title = baseline.title if baseline else None
    return sorted(entries, key=lambda entry: entry.title != title)


@dataclass(frozen=True)
class _GrubFiles:
    """The files GRUB sees, as the evaluator asks for them."""

    host: Host

    def exists(self, path: str) -> bool:
        return self.host.grub_exists(path)

    def read(self, path: str) -> bytes | None:
        return self.host.grub_read(path)

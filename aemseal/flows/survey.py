# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of this machine now: its log verified, its running boot explained.

Everything a flow decides on comes from one Survey, made once; each file is read once,
and the digest that is planned, shown and sealed to is that of this one read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aemseal.flows.boot_menu import (
    boot_entry,
    look_where_possible,
    measured_entries,
    read_menu,
)
from aemseal.flows.evidence import (
    no_hook,
    read_hook_record,
    read_launch,
    require_hook,
)
from aemseal.flows.running_system import read_policies, read_running_system
from aemseal.flows.state import VaultState
from aemseal.formats.grub_config import GrubMenu
from aemseal.formats.hook_files import HookRecord
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import BootEntry, wanted
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Prediction, Refusal
from aemseal.measure.launch import RunningSystem
from aemseal.measure.luks import LUKS_PCR
from aemseal.measure.plan import Plan, plan
from aemseal.measure.predict import predict
from aemseal.measure.replay import VerifiedLog, verify
from aemseal.measure.stack import identify
from aemseal.words.digest import (
    Digest,
    HashAlgorithm,
    PcrBank,
    PcrSelection,
)
from aemseal.words.errors import AemsealError
from aemseal.words.events import EventLog
from aemseal.words.wanted import FileFacts, Wanted
from aemseal.world.host import Host


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
        return boot_entry(self.host, found)

    def read_once(self, titles: Iterable[str | None]) -> None:
        """Read what several entries want, each file once for all of them.

        What cannot be read is passed over: the entry that wants it cannot be predicted.
        """
        asked: dict[Wanted, None] = {}
        for title in titles:
            with suppress(AemsealError):
                asked.update(dict.fromkeys(wanted(self.entry(title))))
        missing = [each for each in asked if each not in self.facts]
        banks = (self.selection.algorithm,)
        self.facts.update(look_where_possible(self.host, missing, banks))

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


def survey(
    host: Host, asked: PcrSelection | None = None, state: VaultState | None = None
) -> Survey:
    """Verify the running boot and explain it by its own files.

    `asked` is the user's selection. What is sealed already decides: another selection
    than the vault's is refused (SelectionError).
    """
    wish = _selection_wish(asked, state)
    if state is None:
        return survey_against(host, None, wish)
    return survey_against(host, state.baseline, wish, _boots_since(state))


def _boots_since(state: VaultState) -> list[Baseline]:
    """Return the boots that may run since the last verified one.

    A staged boot whose files the next update overwrote, before it was confirmed, is
    explained by what was known of them when it was staged: the log decides.
    """
    return [each.boot for each in (*state.staged, *state.accepted)]


def survey_against(
    host: Host,
    baseline: Baseline | None,
    wish: PcrSelection | None = None,
    others: Sequence[Baseline] = (),
) -> Survey:
    """Survey the machine with what is known of earlier boots, but no vault.

    `wish` is the selection to verify; None takes the machine's own (--pcrs). `others`
    are boots that may run since the one of the baseline.
    """
    algorithm = wish.algorithm if wish else HashAlgorithm.SHA256
    _, log, live = read_launch(host, algorithm)
    hook = read_hook_record(host)
    if wish is None:
        probe = verify(log, live, PcrSelection(algorithm, (17,)))
        system = RunningSystem(policies=read_policies(host, probe))
        pcrs = identify(probe, system)[0].default_pcrs
        more = () if hook is None else (LUKS_PCR,)
        wish = PcrSelection.of(algorithm, {*pcrs, *more})
    require_hook(hook, live)
    verified = verify(log, live, wish)
    menu = read_menu(host)
    facts: dict[Wanted, FileFacts] = {}
    calibration = _calibrate(host, menu, verified, (baseline, others), hook, facts)
    return Survey(host, wish, live, log, verified, hook, menu, calibration, facts)


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


def _without_luks(entry: BootEntry) -> tuple[Wanted, ...]:
    return tuple(each for each in wanted(entry) if each not in entry.luks_wanted)


def _selection_wish(
    asked: PcrSelection | None, state: VaultState | None
) -> PcrSelection | None:
    if state is None:
        return asked
    if asked is not None:
        state.selection.require_no_other(asked)
    return state.selection


def _calibrate(
    host: Host,
    menu: GrubMenu,
    verified: VerifiedLog,
    known: tuple[Baseline | None, Sequence[Baseline]],
    hook: HookRecord | None,
    facts: dict[Wanted, FileFacts],
) -> Calibration:
    """Explain the running boot by the likely entries, then by all measured ones.

    `known` are the last verified boot, and others. A path is read once, for every
    entry that wants it in any view.
    """
    luks = () if hook is None else hook.luks
    baseline, others = known
    entries = measured_entries(host, menu, baseline)
    asked = [
        wanted(entry) if hook is not None else _without_luks(entry) for entry in entries
    ]
    all_asked = dict.fromkeys(each for views in asked for each in views)
    system = replace(read_running_system(host), policies=read_policies(host, verified))
    candidates: list[Candidate] = []
    result: Calibration | None = None
    for entry, views in zip(entries, asked, strict=True):
        paths = {each.path for each in views if each not in facts}
        new = [each for each in all_asked if each.path in paths]
        facts.update(look_where_possible(host, new, (verified.algorithm,)))
        candidates.append(Candidate(entry, facts))
        result = calibrate(verified, candidates, baseline, luks, system, others)
        if result.entry is not None and result.is_calibrated:
            break
    return result or calibrate(verified, (), baseline, luks, system, others)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaying an event log, and holding it against what the TPM says.

`replay` only computes. `verify` is the one way to a `VerifiedLog`: what it holds was
replayed onto the live PCRs and found equal, bank and PCR by PCR.

How a log is replayed: PCR 0 starts from StartupLocality, every other one from zeros
(17 to 22 too: a log with them is one of a dynamic launch, which resets them). Each
extended event's digest is extended as it is, but for HASH_START (0x402): SINIT ACMs
log either what was extended or the PCR's value after it, see `Form`.
Source: TPM 2.0 Library part 1, 17.2; Intel TXT Software Development Guide 1.9 and
appendix G; opencit issue 63 and the ThinkPad T460p's log for the second form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass

from aemseal.measure.hash_start import (
    LAUNCH_PCR,
    Form,
    forms_by_data,
    is_computable,
    is_hash_start,
    listed_twice,
)
from aemseal.measure.quirks import (
    BANK_CAPPED,
    LISTED_TWICE,
    RANDOM_VALUE,
    VALUE_LOGGED,
    Quirk,
)
from aemseal.words.digest import (
    DYNAMIC_PCRS,
    Digest,
    Digests,
    HashAlgorithm,
    PcrBank,
    PcrSelection,
)
from aemseal.words.errors import (
    BankError,
    ReplayError,
    SelectionError,
    UnmeasuredError,
)
from aemseal.words.events import (
    TBOOT_MEASUREMENT,
    TXT_RANDOM_VALUE,
    Event,
    EventLog,
)

Extend = tuple[Event, Digests]
"""An event and the digests that were extended for it, a bank each."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a log says the PCRs hold; nothing of it was held against a TPM.

    `banks` holds every PCR that the log extends, in every bank that the log names
    (but SM3 where this Python cannot compute it). `missing` says, by bank and PCR,
    which extended events carry no digest in that bank: none means that the bank is
    complete. A cap (0x4ff) is missing in no bank: it is extended into those that it
    closes. `extends` are the extended events in order, with the digests as they were
    extended; a bank whose extended digest the log does not tell is absent.
    """

    banks: Mapping[HashAlgorithm, PcrBank]
    missing: Mapping[HashAlgorithm, Mapping[int, tuple[int, ...]]]
    quirks: tuple[Quirk, ...]
    extends: tuple[Extend, ...]


_PROOF = object()


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log whose replay equals live PCRs; only `verify` can make one.

    `bank` holds every PCR of 17 to 22 whose replay equals the live value: all those
    selected, and others that happened to be checked too. `extends` and `events_of`
    tell of these PCRs alone. The digests of the other banks are what the same log
    says of them: they were held against no PCR.
    """

    log: EventLog
    bank: PcrBank
    extends: tuple[Extend, ...]
    quirks: tuple[Quirk, ...]
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedLog comes from verify() alone")

    @property
    def algorithm(self) -> HashAlgorithm:
        """The bank that was verified."""
        return self.bank.algorithm

    def events_of(self, pcr: int) -> tuple[Event, ...]:
        """Return the events extended into a verified PCR, in order."""
        return tuple(event for event, _ in self.extends if event.pcr == pcr)


def replay(log: EventLog, live: PcrBank | None = None) -> Replay:
    """Replay every bank that a log names.

    `live` decides the form of a HASH_START record that its data does not decide.
    """
    extended = [event for event in log.events if event.is_extended]
    twice = listed_twice(extended)
    events = [event for event in extended if event.number not in twice]
    steps = _steps(events, live, log.rebuilt)
    return Replay(
        banks={
            algorithm: _replay_bank(steps, algorithm, log.startup_locality)
            for algorithm in log.algorithms
            if is_computable(algorithm)
        },
        missing={
            algorithm: _missing(events, algorithm) for algorithm in log.algorithms
        },
        quirks=_quirks(steps, twice),
        extends=tuple((step.event, step.extended) for step in steps),
    )


def verify(log: EventLog, live: PcrBank, selection: PcrSelection) -> VerifiedLog:
    """Hold a log against live PCRs and return it as evidence.

    PCRs of the selection outside 17 to 22 are not in such a log: others answer for
    them. Raises, in this order,

    - UnmeasuredError: PCR 17 is all FF or all 00;
    - BankError: the log lacks the bank, or one of the selected PCRs' events is not
      in it, or closed it (the message names the first);
    - SelectionError: nothing extends a selected PCR, or none of 17 to 22 is selected;
    - ReplayError: a selected PCR's replay differs from the live value.
    """
    if live.algorithm is not selection.algorithm:
        raise ValueError(f"live PCRs of {live.algorithm} for the selection {selection}")
    require_launch(live)
    selected = [pcr for pcr in selection.pcrs if pcr in DYNAMIC_PCRS]
    replayed = replay(log, live)
    _require_bank(log, replayed, selection.algorithm, selected)
    bank = replayed.banks[selection.algorithm]
    _require_extended(bank, live, selected, selection)
    _require_equal(bank, live, selected)
    missing = replayed.missing[selection.algorithm]
    verified = {
        pcr: value
        for pcr, value in bank.values.items()
        if pcr in DYNAMIC_PCRS and live.values.get(pcr) == value and not missing[pcr]
    }
    return VerifiedLog(
        log=log,
        bank=PcrBank(selection.algorithm, verified),
        extends=tuple(each for each in replayed.extends if each[0].pcr in verified),
        quirks=replayed.quirks,
        proof=_PROOF,
    )


def require_launch(live: PcrBank) -> None:
    """Raise UnmeasuredError where PCR 17 is all FF or all 00; asked without a log."""
    value = live.value(LAUNCH_PCR)
    if value.is_blank:
        raise UnmeasuredError(
            f"no dynamic launch took place: PCR {LAUNCH_PCR} is all "
            f"{value.hex[:2]} in the {live.algorithm} bank",
            "boot the entry that starts tboot, and see that TXT is on in the firmware",
        )


def _require_bank(
    log: EventLog, replayed: Replay, algorithm: HashAlgorithm, selected: list[int]
) -> None:
    """Refuse a bank that does not hold every event of the selected PCRs."""
    if algorithm not in log.algorithms:
        names = ", ".join(map(str, log.algorithms)) or "none that is known"
        raise BankError(
            f"the event log has no {algorithm} bank", f"its banks are: {names}"
        )
    algorithm.new()
    for event in log.events:
        if event.pcr in selected and _is_closed(event, algorithm):
            raise BankError(
                f"event {event.number} ({event.name}) is a constant in the {algorithm} "
                f"bank, which the launcher cannot hash for: PCR {event.pcr} of that "
                "bank does not cover the launch",
                _whole_banks(log, replayed, selected),
            )
    absent = [n for pcr in selected for n in replayed.missing[algorithm].get(pcr, ())]
    if not absent:
        return
    event = log.events[min(absent)]
    who = "tboot" if event.untrusted_type == TBOOT_MEASUREMENT else "the launch"
    raise BankError(
        f"{who} did not extend the {algorithm} bank with event {event.number} "
        f"({event.name}): PCR {event.pcr} of that bank does not cover the launch",
        _whole_banks(log, replayed, selected),
    )


def _whole_banks(log: EventLog, replayed: Replay, selected: list[int]) -> str:
    """Say which banks hold every event of the selected PCRs."""
    whole = [
        str(bank)
        for bank in log.algorithms
        if not any(replayed.missing[bank].get(pcr) for pcr in selected)
        and not any(_is_closed(e, bank) for e in log.events if e.pcr in selected)
    ]
    return f"use {' or '.join(whole)}" if whole else "no bank covers all of these PCRs"


def _is_closed(event: Event, bank: HashAlgorithm) -> bool:
    return bank in event.digests and event.digests[bank].is_one


_OTHER_LOG = (
    "give the log of this very boot; tboot 1.9.7 to 1.10.0 writes its own records to "
    "the wrong place"
)


def _require_extended(
    bank: PcrBank, live: PcrBank, selected: list[int], selection: PcrSelection
) -> None:
    if not selected:
        raise SelectionError(
            f"no PCR of the dynamic launch is in the selection {selection}",
            "17 is always sealed to",
        )
    for pcr in selected:
        if pcr in bank.values:
            continue
        if not live.value(pcr).is_blank:
            raise ReplayError(
                f"nothing extends PCR {pcr} in the event log, and the TPM holds "
                f"{live.value(pcr)}",
                _OTHER_LOG,
            )
        raise SelectionError(
            f"nothing extends PCR {pcr} on this machine",
            f"take {pcr} out of the selection ({selection})",
        )


def _require_equal(bank: PcrBank, live: PcrBank, selected: list[int]) -> None:
    for pcr in selected:
        if bank.value(pcr) != live.value(pcr):
            raise ReplayError(
                f"the event log does not give PCR {pcr}: replayed {bank.value(pcr)}, "
                f"in the TPM {live.value(pcr)}",
                _OTHER_LOG,
            )


@dataclass(frozen=True, slots=True)
class _Step:
    """An event and what became of its digests: extended, or the PCR's value after."""

    event: Event
    extended: Digests
    values: Digests


def _steps(events: list[Event], live: PcrBank | None, is_rebuilt: bool) -> list[_Step]:
    """Decide each HASH_START's form by its data, else by the live PCR, else EXTENDED.

    The live PCR decides only by being met: where neither form meets it, the common
    form stays, and whoever compares finds the difference. In a log rebuilt from tables
    VALUE stands in EXTENDED's place: SINIT's table tells the PCR where it has no data.
    """
    common, other = Form.EXTENDED, Form.VALUE
    if is_rebuilt:
        common, other = other, common
    steps = [_step(event, common) for event in events]
    if live is None or _meets(steps, live):
        return steps
    others = [_step(event, other) for event in events]
    return others if _meets(others, live) else steps


def _meets(steps: list[_Step], live: PcrBank) -> bool:
    bank = _replay_bank(steps, live.algorithm, 0)
    return bank.values.get(LAUNCH_PCR) == live.values.get(LAUNCH_PCR)


def _step(event: Event, undecided: Form) -> _Step:
    if not is_hash_start(event):
        return _Step(event, event.digests, {})
    decided = forms_by_data(event)
    # One ACM logs all banks alike: what one bank's data shows goes for the others.
    default = next(iter(decided.values()), undecided)
    extended: dict[HashAlgorithm, Digest] = {}
    values: dict[HashAlgorithm, Digest] = {}
    for algorithm, digest in event.digests.items():
        if decided.get(algorithm, default) is Form.EXTENDED:
            extended[algorithm] = digest
        elif algorithm in decided:
            extended[algorithm] = algorithm.hash(event.untrusted_data)
        else:
            values[algorithm] = digest
    return _Step(event, extended, values)


def _replay_bank(
    steps: list[_Step], algorithm: HashAlgorithm, startup_locality: int
) -> PcrBank:
    values: dict[int, Digest] = {}
    for step in steps:
        pcr = step.event.pcr
        start = bytes(algorithm.size - 1) + bytes([0 if pcr else startup_locality])
        value = values.get(pcr, Digest(algorithm, start))
        if algorithm in step.extended:
            value = value.extended(step.extended[algorithm])
        values[pcr] = step.values.get(algorithm, value)
    return PcrBank(algorithm, dict(sorted(values.items())))


def _missing(
    events: list[Event], algorithm: HashAlgorithm
) -> Mapping[int, tuple[int, ...]]:
    """Return, for each PCR, the events without a digest in this bank."""
    return {
        pcr: tuple(
            event.number
            for event in events
            if event.pcr == pcr
            and algorithm not in event.digests
            and not event.caps_banks
        )
        for pcr in sorted({event.pcr for event in events})
    }


def _quirks(steps: list[_Step], twice: frozenset[int]) -> tuple[Quirk, ...]:
    quirks = [Quirk(number, LISTED_TWICE, "not extended again") for number in twice]
    for step in steps:
        event, logged = step.event, step.event.digests
        banks = [
            str(each) for each in logged if step.extended.get(each) != logged[each]
        ]
        if banks:
            effect = (
                f"its digest ({', '.join(banks)}) is the value of PCR {LAUNCH_PCR} "
                "after it, not what was extended"
            )
            quirks.append(Quirk(event.number, VALUE_LOGGED, effect))
        if event.caps_banks:
            closed = ", ".join(map(str, logged))
            effect = f"closes PCR {event.pcr} of {closed}: no bank to seal to"
            quirks.append(Quirk(event.number, BANK_CAPPED, effect))
        if event.untrusted_type == TXT_RANDOM_VALUE:
            effect = f"PCR {event.pcr} is another one in each boot"
            quirks.append(Quirk(event.number, RANDOM_VALUE, effect))
    return tuple(sorted(quirks, key=lambda quirk: quirk.event))

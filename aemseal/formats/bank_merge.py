# SPDX-License-Identifier: GPL-2.0-or-later
"""Making one log of logs that were kept bank by bank.

Each bank's log holds that bank's digests alone, in the order of extending. The same
measurement (PCR, type and data are equal) becomes one event with a digest of each bank
that lists it; a bank that does not list it has no digest in that event, so replay
finds the bank incomplete. Every bank keeps its own order, so the PCR values do not
depend on how the banks were joined; where it is open which measurement a digest
belongs to, the log is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from aemseal.words.digest import Digests, HashAlgorithm
from aemseal.words.errors import LogError
from aemseal.words.events import TXT_HASH_START, Event

_Key = tuple[int, int, bytes]
_Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BankLog:
    """One bank's events, numbered from 0, each with that bank's digest alone."""

    algorithm: HashAlgorithm
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if any(set(each.digests) != {self.algorithm} for each in self.events):
            raise ValueError(f"a digest of another bank in the log of {self.algorithm}")


def merge_banks(banks: Sequence[BankLog]) -> tuple[Event, ...]:
    """Return the events of all banks, in order, numbered from 0.

    Raises LogError naming event and bank where the banks contradict each other: the
    same measurement at another place or with other data, or listed more often in one
    bank than in another. HASH_START is the exception to the last: some SINITs list it
    twice, which stays visible as an event of its own; so are records that are not
    extended.
    """
    rows: list[Event] = []
    for bank in banks:
        rows = list(_joined(rows, bank))
    return tuple(
        Event(number, row.pcr, row.untrusted_type, row.digests, row.untrusted_data)
        for number, row in enumerate(rows)
    )


def _joined(rows: list[Event], bank: BankLog) -> Iterator[Event]:
    """Yield the rows so far with one more bank's events joined in."""
    row_place = bank_place = 0
    for row, place in [*_pairs(rows, bank), (len(rows), len(bank.events))]:
        alone = rows[row_place:row], bank.events[bank_place:place]
        _require_no_other_data(*alone, bank)
        yield from alone[0]
        yield from alone[1]
        if row < len(rows):
            yield _with_digests(rows[row], bank.events[place].digests)
        row_place, bank_place = row + 1, place + 1


def _with_digests(row: Event, more: Digests) -> Event:
    digests = {**row.digests, **more}
    return Event(row.number, row.pcr, row.untrusted_type, digests, row.untrusted_data)


def _pairs(rows: list[Event], bank: BankLog) -> list[_Pair]:
    """Return which row and which event of the bank are the same measurement."""
    row_places, bank_places = _places(rows), _places(bank.events)
    pairs: list[_Pair] = []
    for key, ours in row_places.items():
        theirs = bank_places.get(key, [])
        if theirs and len(ours) != len(theirs):
            repeats = _only_repeats(rows, ours) and _only_repeats(bank.events, theirs)
            if not repeats:
                _refuse_counts(bank, bank.events[theirs[0]], len(theirs), len(ours))
        pairs += zip(ours, theirs, strict=False)
    pairs.sort()
    last = -1
    for _, place in pairs:
        if place < last:
            event = bank.events[place]
            raise LogError(
                f"the {bank.algorithm} bank lists event {place} ({event.name}, PCR "
                f"{event.pcr}) in another order than the banks before it"
            )
        last = place
    return pairs


def _places(events: Iterable[Event]) -> dict[_Key, list[int]]:
    places: dict[_Key, list[int]] = {}
    for place, event in enumerate(events):
        key = (event.pcr, event.untrusted_type, event.untrusted_data)
        places.setdefault(key, []).append(place)
    return places


def _only_repeats(events: Sequence[Event], places: list[int]) -> bool:
    """Whether it is all one which of these the other bank's are: see `merge_banks`."""
    first = events[places[0]]
    if not first.is_extended:
        return True
    return first.untrusted_type == TXT_HASH_START and all(
        events[place].digests.items() <= first.digests.items() for place in places
    )


def _refuse_counts(bank: BankLog, event: Event, here: int, before: int) -> NoReturn:
    raise LogError(
        f"{event.name} of PCR {event.pcr} is listed {here} times in the "
        f"{bank.algorithm} bank (first as event {event.number}) and {before} times in "
        "the banks before it: which digests belong together is open",
        "give txt-stat's text log, or the crypto-agile log",
    )


def _require_no_other_data(
    ours: Sequence[Event], theirs: Sequence[Event], bank: BankLog
) -> None:
    """Refuse an event that differs from another bank's in its data alone."""
    kinds = {(each.pcr, each.untrusted_type) for each in ours if each.is_extended}
    for event in theirs:
        if (event.pcr, event.untrusted_type) in kinds:
            raise LogError(
                f"event {event.number} of the {bank.algorithm} bank ({event.name}, PCR "
                f"{event.pcr}) has other data than in the banks before it"
            )

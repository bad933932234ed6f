# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot's measurements as JSON, and the baseline of the last calibrated boot.

An update overwrites the files that the running boot was made of. What was known of
them when they were there is kept on the encrypted root, and nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Prediction,
    Source,
    SourceKind,
)
from aemseal.words.digest import PCR_COUNT, Digest, Digests, HashAlgorithm
from aemseal.words.errors import AemsealError, EvidenceError
from aemseal.words.wanted import View

Json = dict[str, object]

MOST_MEASUREMENTS = 1024
"""Far more than a launch makes: tboot 32, SINIT some 20, the hook one a LUKS device."""

MOST_BESIDE = 256
"""Far more files than an entry has SINIT modules."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A boot that was measured: the entry's title, and every measurement in order.

    The sources of files tell path, command line and the digests of then; that is all
    it takes to apply the rules again when the files are gone. `beside` are the files
    that decided without being measured (measure/beside.py), None where that is not on
    record.
    """

    title: str
    stack: str
    map: str
    measurements: tuple[Measurement, ...]
    beside: tuple[Source, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.measurements) > MOST_MEASUREMENTS:
            raise EvidenceError(f"a boot of {len(self.measurements)} measurements")
        if self.beside is not None and len(self.beside) > MOST_BESIDE:
            raise EvidenceError(f"a boot with {len(self.beside)} files beside it")

    @classmethod
    def of_prediction(cls, prediction: Prediction) -> Baseline:
        """Return what to keep of a boot that is staged."""
        return cls(
            title=prediction.entry,
            stack=prediction.stack,
            map=prediction.map,
            measurements=prediction.measurements,
            beside=prediction.beside,
        )

    def to_json(self) -> Json:
        """Return it as a JSON object; `from_json` reads it back."""
        fields: Json = {
            "title": self.title,
            "stack": self.stack,
            "map": self.map,
            "measurements": measurements_to_json(self.measurements),
        }
        if self.beside is not None:
            fields["beside"] = [_source_to_json(each) for each in self.beside]
        return fields

    @classmethod
    def from_json(cls, data: object) -> Baseline:
        """Read a JSON object; EvidenceError when it is not a baseline."""
        fields = _fields(data, "baseline")
        return cls(
            title=_text(fields, "title"),
            stack=_text(fields, "stack"),
            map=_text(fields, "map"),
            measurements=measurements_from_json(fields.get("measurements")),
            beside=_beside(fields.get("beside")),
        )


def _beside(data: object) -> tuple[Source, ...] | None:
    if data is None:
        return None
    if not isinstance(data, list):
        raise EvidenceError("the recorded files beside a boot are not a list")
    try:
        sources = tuple(_source(_fields(each, "file")) for each in data)
    except (ValueError, KeyError) as error:
        raise EvidenceError(f"a recorded file is malformed: {error}") from None
    for each in sources:
        is_file = each.kind is SourceKind.FILE and each.view is not None
        if not is_file or each.size is None or not (each.path or "").startswith("/"):
            raise EvidenceError("a recorded file lacks its path, its view or its size")
    return sources


def measurements_to_json(measurements: tuple[Measurement, ...]) -> list[Json]:
    """Return measurements as JSON, exactly: command lines as hex digits."""
    return [
        {
            "pcr": each.pcr,
            "digests": _digests_to_json(each.digests),
            "role": each.role.value,
            "source": _source_to_json(each.source),
            "calibrated": each.calibrated.value,
        }
        for each in measurements
    ]


def measurements_from_json(data: object) -> tuple[Measurement, ...]:
    """Read what `measurements_to_json` wrote; EvidenceError for anything else."""
    if not isinstance(data, list):
        raise EvidenceError("the recorded measurements are not a list of measurements")
    try:
        return tuple(
            _measurement(_fields(each, f"measurement {number}"))
            for number, each in enumerate(data)
        )
    except (ValueError, KeyError) as error:
        raise EvidenceError(f"a recorded measurement is malformed: {error}") from None


def _measurement(fields: Mapping[str, object]) -> Measurement:
    pcr = fields.get("pcr")
    if not isinstance(pcr, int) or isinstance(pcr, bool) or not 0 <= pcr < PCR_COUNT:
        raise ValueError(f"PCR {pcr!r}")
    return Measurement(
        pcr=pcr,
        digests=_digests(fields.get("digests")),
        role=Role(fields.get("role")),
        source=_source(_fields(fields.get("source"), "source")),
        calibrated=Calibrated(fields.get("calibrated")),
    )


def _source_to_json(source: Source) -> Json:
    cmdline = None if source.cmdline is None else source.cmdline.hex()
    fields: Json = {
        "kind": source.kind.value,
        "path": source.path,
        "cmdline_hex": cmdline,
        "event": source.event,
        "version": source.version,
        "file_digests": _digests_to_json(source.file_digests),
        "capabilities": source.capabilities,
        "view": source.view.value if source.view else None,
        "packing": source.packing,
        "size": source.size,
        "notes": dict(source.notes),
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _source(fields: Mapping[str, object]) -> Source:
    view = fields.get("view")
    cmdline = _text_or_none(fields, "cmdline_hex")
    return Source(
        kind=SourceKind(fields.get("kind")),
        path=_text_or_none(fields, "path"),
        cmdline=None if cmdline is None else bytes.fromhex(cmdline),
        event=_number_or_none(fields, "event"),
        version=_text_or_none(fields, "version"),
        file_digests=_digests(fields.get("file_digests", {})),
        capabilities=_text_or_none(fields, "capabilities"),
        view=None if view is None else View(view),
        packing=_text_or_none(fields, "packing"),
        size=_number_or_none(fields, "size"),
        notes=_notes(fields.get("notes", {})),
    )


def _digests_to_json(digests: Digests) -> Json:
    return {str(algorithm): digest.hex for algorithm, digest in digests.items()}


def _digests(data: object) -> Digests:
    fields = _fields(data, "digests")
    digests = {}
    for name in fields:
        try:
            algorithm = HashAlgorithm.named(name)
        except AemsealError as error:
            raise ValueError(error.message) from None
        digests[algorithm] = Digest.from_hex(algorithm, _text(fields, name))
    return digests


def _notes(data: object) -> Mapping[str, str]:
    fields = _fields(data, "notes")
    return {name: _text(fields, name) for name in fields}


def _fields(data: object, what: str) -> Mapping[str, object]:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise EvidenceError(f"the recorded {what} is not a JSON object")
    return data


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise EvidenceError(f"the recorded {name} is not a string")
    return value


def _number_or_none(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{name} {value!r}")
    return value


def _text_or_none(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording as values, and as the files of docs/host-recording.md, version 1.

A recording comes from another machine and is judged like any other input: sizes are
bounded, no name in it is used as a path, and what is malformed is an EvidenceError
that names the file and the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aemseal.formats.strict_json import Fields, dump_json, load_json
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank
from aemseal.words.errors import EvidenceError, UsageError
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.host import GRUB_CONFIG_LIMIT
from aemseal.world.told import ERRORS, Told

FORMAT = "aemseal-recording"
VERSION = 1
MANIFEST_FILE = "manifest.json"
PCRS_FILE = "pcrs.json"
FACTS_FILE = "files.json"
_FILE_NAME = re.compile(r"[a-z0-9-]{1,40}(?:\.[a-z]{1,8})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

MOST_LOGS = 16

Read = Callable[[str], bytes | None]
"""Returns a recording's file by its name, None when it is not there."""

Question = tuple[str, ...]
"""A method of Host and its argument: ("grub_config",), ("saved", "state.json")."""

PCRS = "pcrs"
LOG: Question = ("event_log",)
"""The first of LOGS; a recording from before there were several has it alone."""

LOGS: Question = ("event_logs",)

SETTLED: Question = ("settled_pcrs",)

FIXED_FILES: Mapping[Question, str] = {
    LOG: "event-log.bin",
    ("grub_config",): "grub.cfg",
    ("grub_env",): "grubenv",
    ("hook_record",): "hook-record",
    ("tboot_policy",): "tboot-policy.bin",
    ("saved", "state.json"): "state.json",
    ("saved", "baseline.json"): "baseline.json",
    ("saved", "initramfs.json"): "initramfs.json",
}
"""Which file holds the answer; for other questions see `_file_name`."""


@dataclass(frozen=True, slots=True)
class Found:
    """Bytes, and the place on the host where they were found."""

    place: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Blank:
    """A file that GRUB tests for, of which only the size was recorded (bytes)."""

    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.size <= GRUB_CONFIG_LIMIT:
            raise ValueError(f"a size from 0 to {GRUB_CONFIG_LIMIT}, not {self.size}")


Answer = Found | tuple[Found, ...] | PcrBank | Told | Blank | bytes | bool | str | None


@dataclass
class Recording:
    """What a host answered, question by question.

    `refused` are the files that could not be looked at, a bank each. `redacted`
    names the files from which passwords were taken out, `warnings` are for people.
    """

    made: str
    tool: str
    answers: dict[Question, Answer] = field(default_factory=dict)
    facts: dict[Wanted, FileFacts] = field(default_factory=dict)
    refused: dict[tuple[Wanted, HashAlgorithm], Told] = field(default_factory=dict)
    redacted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def holds(self, wanted: Wanted, algorithms: Iterable[HashAlgorithm]) -> bool:
        """Whether it is known what `look` answers for this file in these banks."""
        facts = self.facts.get(wanted)
        return all(
            (facts is not None and each in facts.digests)
            or (wanted, each) in self.refused
            for each in algorithms
        )


def write_files(recording: Recording) -> dict[str, bytes]:
    """Return the files of a recording, the manifest last."""
    files: dict[str, bytes] = {}
    answers: list[dict[str, Any]] = []
    banks: dict[str, Any] = {}
    for question, answer in _with_first_log(recording.answers):
        if isinstance(answer, PcrBank):
            values = {str(pcr): each.hex for pcr, each in answer.values.items()}
            banks[question[1]] = {"values": values}
        elif question[0] == PCRS and isinstance(answer, Told):
            banks[question[1]] = {"error": answer.to_json()}
        else:
            written = _answer_to_json(question, answer, files)
            answers.append({"question": list(question), **written})
    looked = [_facts_to_json(each) for each in recording.facts.values()]
    refused = [
        {**_wanted_to_json(wanted), "bank": bank.label, "error": told.to_json()}
        for (wanted, bank), told in recording.refused.items()
    ]
    files[PCRS_FILE] = dump_json(banks)
    files[FACTS_FILE] = dump_json({"files": looked, "errors": refused})
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "made": recording.made,
        "tool": recording.tool,
        "answers": answers,
        "redacted": list(recording.redacted),
        "warnings": list(recording.warnings),
    }
    files[MANIFEST_FILE] = dump_json(manifest)
    return files


def _with_first_log(
    answers: Mapping[Question, Answer],
) -> Iterator[tuple[Question, Answer]]:
    """Yield the answers, and to LOG that of LOGS: a tool of before asks for it."""
    for question, answer in answers.items():
        yield question, answer
        if question == LOGS and LOG not in answers:
            yield LOG, answer[0] if isinstance(answer, tuple) else answer


def _answer_to_json(
    question: Question, answer: Answer, files: dict[str, bytes]
) -> dict[str, Any]:
    """Write one answer; bytes become a file of their own, put into `files`."""
    if isinstance(answer, Told):
        return {"error": answer.to_json()}
    if isinstance(answer, Found):
        name = FIXED_FILES[question]
        files[name] = answer.data
        return {"place": answer.place, "file": name}
    if isinstance(answer, tuple):
        return {
            "logs": [_log_to_json(at, each, files) for at, each in enumerate(answer)]
        }
    if isinstance(answer, bytes):
        name = _file_name(question, len(files) + 1)
        files[name] = answer
        return {"file": name}
    if isinstance(answer, Blank):
        return {"size": answer.size}
    return {"value": answer}


def _log_to_json(at: int, log: Found, files: dict[str, bytes]) -> dict[str, str]:
    """Write one of several logs; the first is in the file that LOG has, too."""
    name = f"event-log-{at + 1}.bin" if at else FIXED_FILES[LOG]
    files[name] = log.data
    return {"place": log.place, "file": name}


def _file_name(question: Question, number: int) -> str:
    """Return the name of a file that holds bytes, the `number`th of the recording."""
    name, *arguments = question
    if question in FIXED_FILES:
        return FIXED_FILES[question]
    if name == "nv_read":
        return f"nv-{arguments[0].removeprefix('0x')}.bin"
    if name == "list_initramfs":
        return f"initramfs-{number}.json"
    return f"sourced-{number}.cfg" if name == "grub_read" else f"file-{number}.txt"


def _wanted_to_json(wanted: Wanted) -> dict[str, Any]:
    written = {"path": wanted.path, "view": wanted.view.value}
    return {**written, "cmdline": wanted.cmdline.hex()} if wanted.cmdline else written


def _facts_to_json(facts: FileFacts) -> dict[str, Any]:
    return {
        **_wanted_to_json(facts.wanted),
        "size": facts.size,
        "digests": {bank.label: each.hex for bank, each in facts.digests.items()},
        "notes": dict(facts.notes),
    }


def read_files(read: Read, where: str) -> Recording:
    """Read a recording; without pcrs.json or files.json it only lacks answers.

    `where` names the recording in errors. EvidenceError for a folder that is no
    recording, one of another version, or one that is malformed.
    """
    data = read(MANIFEST_FILE)
    if data is None:
        raise EvidenceError(f"{where} is no recording: {MANIFEST_FILE} is missing")
    manifest = load_json(f"{where}/{MANIFEST_FILE}", data)
    if manifest.text("format") != FORMAT or manifest.number("version") != VERSION:
        raise manifest.fail(f"not {FORMAT}, version {VERSION}")
    recording = Recording(
        made=manifest.text("made"),
        tool=_printable(manifest.text("tool")),
        redacted=tuple(map(_printable, manifest.texts("redacted"))),
        warnings=tuple(map(_printable, manifest.texts("warnings"))),
    )
    if _TIME.fullmatch(recording.made) is None:
        raise manifest.fail("made is no time like 2024-05-01T12:00:00Z")
    for entry in manifest.objects("answers"):
        _read_answer(recording, entry, read)
    banks = load_json(f"{where}/{PCRS_FILE}", read(PCRS_FILE) or b"{}")
    for label in banks.names():
        _read_bank(recording, banks, label)
    looked = read(FACTS_FILE)
    if looked is not None:
        _read_facts(recording, load_json(f"{where}/{FACTS_FILE}", looked))
    return recording


def _read_error(fields: Fields) -> Told:
    kind = fields.text("kind")
    if kind not in ERRORS:
        raise fields.fail("there is no error of this kind")
    hint = None if fields.is_null("hint") else _printable(fields.text("hint"))
    offset = None if fields.is_null("offset") else fields.number("offset")
    return Told(kind, _printable(fields.text("message")), hint, offset)


def _printable(text: str) -> str:
    """Escape control characters: what a recording says may reach a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _file_of(entry: Fields, read: Read) -> bytes | Told:
    name = entry.text("file")
    if _FILE_NAME.fullmatch(name) is None:
        raise entry.fail("file is no name that a file of a recording has")
    data = read(name)
    return (
        Told("evidence", f"the recording lacks {name}", None) if data is None else data
    )


def _found(entry: Fields, read: Read) -> Answer:
    data = _file_of(entry, read)
    return Found(entry.text("place"), data) if isinstance(data, bytes) else data


def _logs(entry: Fields, read: Read) -> Answer:
    """Read several logs; a file that is gone spoils them all, since it might be it."""
    found = [_found(each, read) for each in entry.objects("logs")]
    if not found or len(found) > MOST_LOGS:
        raise entry.fail(f"logs are 1 to {MOST_LOGS}")
    told = [each for each in found if isinstance(each, Told)]
    if told:
        return told[0]
    logs = [each for each in found if isinstance(each, Found)]
    return tuple(Found(_printable(each.place), each.data) for each in logs)


def _bytes(entry: Fields, read: Read) -> Answer:
    return None if entry.is_null("file") else _file_of(entry, read)


def _sourced(entry: Fields, read: Read) -> Answer:
    if entry.is_null("size"):
        return _bytes(entry, read)
    try:
        return Blank(entry.number("size"))
    except ValueError as error:
        raise entry.fail(str(error)) from None


def _flag(entry: Fields, read: Read) -> Answer:
    _ = read
    return entry.flag("value")


def _text(entry: Fields, read: Read) -> Answer:
    _ = read
    return None if entry.is_null("value") else _printable(entry.text("value"))


def _path(entry: Fields, read: Read) -> Answer:
    _ = read
    path = entry.text("value")
    if not path.startswith("/"):
        raise entry.fail("value is not an absolute path")
    return path


_READERS: Mapping[str, tuple[int, Callable[[Fields, Read], Answer]]] = {
    LOG[0]: (0, _found),
    LOGS[0]: (0, _logs),
    "nv_read": (1, _bytes),
    "small_file": (1, _bytes),
    "tboot_policy": (0, _bytes),
    "xen_cmdline": (0, _bytes),
    SETTLED[0]: (0, _text),
    "grub_config": (0, _found),
    "grub_env": (0, _bytes),
    "grub_exists": (1, _flag),
    "grub_read": (1, _sourced),
    "is_efi": (0, _flag),
    "resolve": (1, _path),
    "names": (1, _bytes),
    "list_initramfs": (2, _bytes),
    "hook_record": (0, _bytes),
    "saved": (1, _bytes),
}
"""How many arguments a question has, and what answers it."""


def _read_answer(recording: Recording, entry: Fields, read: Read) -> None:
    question = tuple(entry.texts("question"))
    arguments, reader = _READERS.get(question[0] if question else "", (-1, _bytes))
    if len(question) != arguments + 1:
        return  # a question that a later tool asks
    if entry.is_null("error"):
        recording.answers[question] = reader(entry, read)
    else:
        recording.answers[question] = _read_error(entry.inner("error"))


def _bank(fields: Fields, label: str) -> HashAlgorithm:
    try:
        return HashAlgorithm.named(label)
    except UsageError:
        raise fields.fail("there is a hash algorithm that is not known") from None


def _digest(fields: Fields, bank: HashAlgorithm, name: str) -> Digest:
    try:
        return Digest.from_hex(bank, fields.text(name))
    except ValueError:
        raise fields.fail(f"there is a value that is no {bank} digest") from None


def _read_bank(recording: Recording, banks: Fields, label: str) -> None:
    bank, entry = _bank(banks, label), banks.inner(label)
    answer: Answer
    if entry.is_null("error"):
        values = entry.inner("values")
        try:
            answer = PcrBank(
                bank,
                {int(name): _digest(values, bank, name) for name in values.names()},
            )
        except ValueError:
            raise values.fail("PCRs are 0 to 23") from None
    else:
        answer = _read_error(entry.inner("error"))
    recording.answers[PCRS, label] = answer


def _read_wanted(entry: Fields) -> Wanted:
    cmdline = "" if entry.is_null("cmdline") else entry.text("cmdline")
    try:
        return Wanted(
            entry.text("path"), View(entry.text("view")), bytes.fromhex(cmdline)
        )
    except ValueError:
        raise entry.fail("this is no file in a view") from None


def _read_facts(recording: Recording, looked: Fields) -> None:
    for entry in looked.objects("files"):
        wanted, digests, notes = (
            _read_wanted(entry),
            entry.inner("digests"),
            entry.inner("notes"),
        )
        banks = {label: _bank(digests, label) for label in digests.names()}
        recording.facts[wanted] = FileFacts(
            wanted,
            entry.number("size"),
            {bank: _digest(digests, bank, label) for label, bank in banks.items()},
            {_printable(name): _printable(notes.text(name)) for name in notes.names()},
        )
    for entry in looked.objects("errors"):
        bank = _bank(entry, entry.text("bank"))
        told = _read_error(entry.inner("error"))
        recording.refused[_read_wanted(entry), bank] = told

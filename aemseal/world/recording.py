# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording a host's answers, and answering from a recording.

Both sides answer from the same `Recording`, so what was recorded is what is replayed:
values and errors alike. Format: docs/host-recording.md, version 1.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from aemseal import __version__
from aemseal.formats.file_list import FileList, dump_lists, load_list
from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import AemsealError, EvidenceError, UsageError
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.host import Host, Looked, require_saved
from aemseal.world.recording_clean import cleaned
from aemseal.world.recording_format import (
    LOG,
    LOGS,
    PCRS,
    SETTLED,
    Answer,
    Blank,
    Found,
    Question,
    Recording,
    read_files,
    write_files,
)
from aemseal.world.rooted import Rooted, shown, why
from aemseal.world.told import Told

FILE_LIMIT = 64 << 20
"""Bytes of any one file of a recording."""

WHOLE_LIMIT = 256 << 20
"""Bytes of all files of a recording."""

_RECORD_AGAIN = "record again, with the version of aemseal that asks"


class _Answers(ABC):
    """Every question of Host, answered from `recording`."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    @abstractmethod
    def _ask(self, question: Question) -> Answer:
        """Return the answer to a question that `recording` does not hold."""

    @abstractmethod
    def _look_at(self, wanted: list[Wanted], banks: tuple[HashAlgorithm, ...]) -> None:
        """See to it that `recording` holds these files, all of one path."""

    def _answer(self, *question: str) -> Answer:
        answers = self.recording.answers
        if question not in answers:
            answers[question] = self._ask(question)
        answer = answers[question]
        if isinstance(answer, Told):
            raise answer.error()
        return answer

    def _bytes(self, *question: str) -> bytes | None:
        answer = self._answer(*question)
        if isinstance(answer, Blank):
            return bytes(answer.size)
        assert answer is None or isinstance(answer, bytes)
        return answer

    def _found(self, *question: str) -> tuple[str, bytes]:
        answer = self._answer(*question)
        assert isinstance(answer, Found)
        return answer.place, answer.data

    def event_log(self) -> tuple[str, bytes]:
        """See Host."""
        return next(self.event_logs())

    def event_logs(self) -> Iterator[tuple[str, bytes]]:
        """See Host."""
        answers = self.recording.answers
        if LOG in answers and LOGS not in answers:
            yield self._found(*LOG)
            return
        found = self._answer(*LOGS)
        assert isinstance(found, tuple)
        for each in found:
            yield each.place, each.data

    def pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        """See Host."""
        answer = self._answer(PCRS, algorithm.label)
        assert isinstance(answer, PcrBank)
        return answer

    def nv_read(self, index: int) -> bytes | None:
        """See Host."""
        return self._bytes("nv_read", f"{index:#010x}")

    def small_file(self, path: str) -> bytes | None:
        """See Host."""
        return self._bytes("small_file", path)

    def tboot_policy(self) -> bytes | None:
        """See Host."""
        return self._bytes("tboot_policy")

    def settled_pcrs(self) -> str | None:
        """See Host."""
        answer = self._answer(*SETTLED)
        assert answer is None or isinstance(answer, str)
        return answer

    def xen_cmdline(self) -> bytes | None:
        """See Host."""
        return self._bytes("xen_cmdline")

    def grub_config(self) -> tuple[str, bytes]:
        """See Host."""
        return self._found("grub_config")

    def grub_env(self) -> bytes | None:
        """See Host."""
        return self._bytes("grub_env")

    def grub_exists(self, path: str) -> bool:
        """See Host."""
        return self._answer("grub_exists", path) is True

    def grub_read(self, path: str) -> bytes | None:
        """See Host."""
        return self._bytes("grub_read", path)

    def is_efi(self) -> bool:
        """See Host."""
        return self._answer("is_efi") is True

    def resolve(self, grub_path: str) -> str:
        """See Host."""
        answer = self._answer("resolve", grub_path)
        assert isinstance(answer, str)
        return answer

    def names(self, folder: str) -> list[str]:
        """See Host."""
        listed = os.fsdecode(self._bytes("names", folder) or b"")
        return listed.split("\n") if listed else []

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        """See Host. The first file of the list that has an error decides which."""
        banks = tuple(dict.fromkeys(algorithms))
        facts: Looked = {}
        for of_path in _by_path(wanted):
            missing = [
                each for each in of_path if not self.recording.holds(each, banks)
            ]
            if missing:
                self._look_at(missing, banks)
            facts |= {each: self._facts(each, banks) for each in of_path}
        return facts

    def _facts(self, wanted: Wanted, banks: tuple[HashAlgorithm, ...]) -> FileFacts:
        facts = self.recording.facts.get(wanted)
        digests = {} if facts is None else facts.digests
        for bank in banks:
            if bank not in digests:
                raise self.recording.refused[wanted, bank].error()
        assert facts is not None
        # A SINIT module's facts hold sha256 whatever was asked for (words/wanted.py).
        always = [HashAlgorithm.SHA256] if wanted.view is View.ACM else []
        told = dict.fromkeys([*banks, *(each for each in always if each in digests)])
        return replace(facts, digests={bank: digests[bank] for bank in told})

    def list_initramfs(self, wanted: Wanted) -> FileList:
        """See Host."""
        data = self._bytes("list_initramfs", wanted.path, wanted.view.value)
        return load_list(f"the recorded list of {shown(wanted.path)}", data or b"")

    def hook_record(self) -> bytes | None:
        """See Host."""
        return self._bytes("hook_record")

    def saved(self, name: str) -> bytes | None:
        """See Host."""
        require_saved(name)
        return self._bytes("saved", name)

    def now(self) -> str:
        """Return the time at which the recording was begun."""
        return self.recording.made


class NotToldError(EvidenceError):
    """A recording does not hold what was asked for."""


class RecordedHost(_Answers):
    """A machine that was recorded into a folder.

    UsageError when there is no such folder, EvidenceError when it holds no recording
    of this version or a malformed one, and for each answer that it lacks.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise UsageError(f"{shown(str(directory))} is no folder")
        self._where = shown(str(directory))
        self._folder = Rooted(directory)
        self._room = WHOLE_LIMIT
        super().__init__(read_files(cache(self._read), self._where))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the person who recorded should know before passing it on."""
        return self.recording.warnings

    def _read(self, name: str) -> bytes | None:
        limit = min(FILE_LIMIT, self._room)
        try:
            data = self._folder.read(f"/{name}", limit, EvidenceError)
        except EvidenceError as error:
            raise EvidenceError(f"{self._where}{error.message}", error.hint) from None
        self._room -= len(data or b"")
        return data

    def _lacks(self, what: str) -> EvidenceError:
        return NotToldError(f"{self._where} does not tell {shown(what)}", _RECORD_AGAIN)

    def _ask(self, question: Question) -> Answer:
        if question == SETTLED:
            return None  # of before it was recorded: nothing settled was known then
        raise self._lacks(" ".join(question))

    def _look_at(self, wanted: list[Wanted], banks: tuple[HashAlgorithm, ...]) -> None:
        names = ", ".join(map(str, banks))
        raise self._lacks(f"{wanted[0].path} ({wanted[0].view.value}) in {names}")


class RecordingHost(_Answers):
    """A host whose every answer is remembered, and never asked for a second time."""

    def __init__(self, host: Host) -> None:
        super().__init__(Recording(made=host.now(), tool=__version__))
        self._host = host
        self._readers: dict[str, Callable[..., Answer]] = {
            LOGS[0]: lambda: tuple(Found(*each) for each in host.event_logs()),
            "nv_read": lambda index: host.nv_read(int(index, 16)),
            "small_file": host.small_file,
            "tboot_policy": host.tboot_policy,
            "xen_cmdline": host.xen_cmdline,
            SETTLED[0]: host.settled_pcrs,
            PCRS: lambda label: host.pcrs(HashAlgorithm.named(label)),
            "grub_config": lambda: Found(*host.grub_config()),
            "grub_env": host.grub_env,
            "grub_exists": host.grub_exists,
            "grub_read": host.grub_read,
            "is_efi": host.is_efi,
            "resolve": host.resolve,
            "names": lambda path: os.fsencode("\n".join(host.names(path))) or None,
            "list_initramfs": lambda path, view: dump_lists(
                [host.list_initramfs(Wanted(path, View(view)))]
            ),
            "hook_record": host.hook_record,
            "saved": host.saved,
        }

    def _ask(self, question: Question) -> Answer:
        name, *arguments = question
        try:
            return self._readers[name](*arguments)
        except AemsealError as error:
            return Told.of(error)

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        """See Host. What comes after an error is looked at nevertheless."""
        wishes, banks = list(wanted), tuple(dict.fromkeys(algorithms))
        for of_path in _by_path(wishes):
            missing = [
                each for each in of_path if not self.recording.holds(each, banks)
            ]
            if missing:
                self._look_at(missing, banks)
        return super().look(wishes, banks)

    def _look_at(self, wanted: list[Wanted], banks: tuple[HashAlgorithm, ...]) -> None:
        try:
            looked = self._host.look(wanted, self._with_known(wanted, banks))
        except AemsealError:
            # One of them has the error, in one bank: find out which.
            for each in wanted:
                for bank in banks:
                    self._look_at_one(each, bank)
        else:
            self._remember(looked)

    def _look_at_one(self, wanted: Wanted, bank: HashAlgorithm) -> None:
        try:
            looked = self._host.look([wanted], self._with_known([wanted], (bank,)))
        except AemsealError as error:
            self.recording.refused[wanted, bank] = Told.of(error)
        else:
            self._remember(looked)

    def _with_known(
        self, wanted: list[Wanted], banks: tuple[HashAlgorithm, ...]
    ) -> tuple[HashAlgorithm, ...]:
        """Return the banks and those known already, which must come out the same."""
        known = [self.recording.facts[each] for each in wanted if self._has(each)]
        more = [bank for facts in known for bank in facts.digests]
        return tuple(dict.fromkeys([*banks, *more]))

    def _has(self, wanted: Wanted) -> bool:
        return wanted in self.recording.facts

    def _remember(self, looked: Looked) -> None:
        for wanted, facts in looked.items():
            before = self.recording.facts.get(wanted, facts)
            if any(facts.digests.get(k) != v for k, v in before.digests.items()):
                raise EvidenceError(
                    f"{shown(wanted.path)} changed while it was recorded",
                    "wait for the update to end, and record again",
                )
            self.recording.facts[wanted] = facts

    def remark(self, warning: str) -> None:
        """Add a warning for the person who reads or passes on the recording."""
        self.recording.warnings += (warning,)

    def save(self, directory: Path) -> list[str]:
        """Write the recording into a new or empty folder; return the files' names.

        Passwords of GRUB's are left out (world/redaction.py). The manifest is written
        last: without it a folder is no recording. UsageError when the folder is not
        empty, AemsealError when it cannot be written.
        """
        require_empty(directory)
        files = write_files(cleaned(self.recording))
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            for name, data in files.items():
                with (directory / name).open("xb") as file:
                    file.write(data)
        except OSError as error:
            where = shown(str(directory))
            raise AemsealError(f"{where} cannot be written: {why(error)}") from None
        return list(files)


def require_empty(directory: Path) -> None:
    """Raise UsageError unless the folder is empty, or not there yet."""
    where = shown(str(directory))
    try:
        if any(directory.iterdir()):
            raise UsageError(f"{where} is not empty", "name a new folder")
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{where} is no folder", "name a new folder") from None
    except (OSError, ValueError) as error:
        raise AemsealError(f"{where} cannot be read: {why(error)}") from None


def _by_path(wanted: Iterable[Wanted]) -> list[list[Wanted]]:
    paths: dict[str, list[Wanted]] = {}
    for each in dict.fromkeys(wanted):
        paths.setdefault(each.path, []).append(each)
    return list(paths.values())

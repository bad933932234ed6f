# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording as it may be passed on: GRUB's passwords out, suspects warned of."""

from __future__ import annotations

import re
from dataclasses import replace

from aemseal.formats.grub_env import SIGNATURE
from aemseal.world.recording_format import Answer, Blank, Found, Question, Recording
from aemseal.world.redaction import is_text, redact_env, redact_script, suspects

_HEX = re.compile(rb"\"((?:[0-9a-f]{2}){8,})\"")


def cleaned(recording: Recording) -> Recording:
    """Return the recording without secrets, with a warning for each suspect."""
    answers = {
        each: _clean(each, recording.answers[each]) for each in recording.answers
    }
    redacted, warnings = [], list(recording.warnings)
    for question, answer in answers.items():
        if answer != recording.answers[question]:
            redacted.append(_parts(question, answer)[0][0])
        warnings += [
            f"{place}{each} may hold a secret; it is measured, so it stayed in"
            for place, data in _parts(question, answer)
            for each in _suspects(question, data)
        ]
    return replace(
        recording, answers=answers, redacted=tuple(redacted), warnings=tuple(warnings)
    )


def _clean(question: Question, answer: Answer) -> Answer:
    """Take GRUB's passwords out; keep no file that GRUB can only have tested for."""
    if isinstance(answer, Found) and question[0] == "grub_config":
        return Found(answer.place, redact_script(answer.data))
    if not isinstance(answer, bytes) or not question[0].startswith("grub"):
        return answer
    if question[0] == "grub_env" or answer.startswith(SIGNATURE):
        return redact_env(answer)
    return redact_script(answer) if is_text(answer) else Blank(len(answer))


def _parts(question: Question, answer: Answer) -> list[tuple[str, bytes]]:
    """Return the bytes that a recording keeps of an answer, each with its place."""
    if isinstance(answer, tuple):
        return [(each.place, each.data) for each in answer]
    if isinstance(answer, Found):
        return [(answer.place, answer.data)]
    data = answer if isinstance(answer, bytes) else b""
    return [(question[-1], data)]


def _suspects(question: Question, data: bytes) -> list[str]:
    if question[0].startswith("grub") or question[0] in ("small_file", "xen_cmdline"):
        return [f" line {line}: {name}" for line, name in suspects(data)]
    # Our own state has no lines to speak of, and its command lines are hex digits.
    plain = [bytes.fromhex(each.decode("ascii")) for each in _HEX.findall(data)]
    return sorted({f": {name}" for _, name in suspects(b"\n".join([data, *plain]))})

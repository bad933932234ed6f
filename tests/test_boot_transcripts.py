# SPDX-License-Identifier: GPL-2.0-or-later
"""What the docs show of boots is what the programs in boot-hooks/ say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PROGRAMS = "".join(
    path.read_text()
    for path in (PROJECT / "boot-hooks").rglob("*")
    if path.is_file() and path.name != "README.md"
)
TRANSCRIPTS = sorted((PROJECT / "docs/boot").glob("*.txt"))
_SAID = re.compile(r"^ *aemseal: (?!error|hint)(.+)$", re.MULTILINE)
_PCRS = re.compile(r": PCR [\d, PCRand]+ differs?\.")
_SECONDS = re.compile(r"\d+ seconds")


def sentences(text: str) -> list[str]:
    said = "\n".join(_SAID.findall(text))
    said = _SECONDS.sub("$answer_seconds seconds", _PCRS.sub(".", said))
    return [each for each in re.split(r"(?<=\.)\s", said) if each]


def is_said(sentence: str) -> bool:
    """Some are put together: `press Enter $what`, `$2` for the root."""
    pieces = (sentence, sentence.rstrip("."), sentence.replace("the root", "$2"))
    return any(each in PROGRAMS for each in pieces) or (
        sentence.startswith("Compare it with your phone, then press Enter ")
        and "Compare it with your phone, then press Enter $what." in PROGRAMS
    )


@pytest.mark.parametrize(
    "path", [*TRANSCRIPTS, PROJECT / "docs/at-the-boot.md"], ids=lambda path: path.name
)
def test_every_sentence_of_a_transcript_is_one_of_the_programs(path: Path) -> None:
    for each in sentences(path.read_text()):
        assert is_said(each), each


def test_every_boot_that_is_not_accepted_says_what_not_to_do() -> None:
    accepted = ("type your passphrase.", "then press Enter ")
    for path in TRANSCRIPTS:
        text = path.read_text()
        if "inside" not in path.name and "shell" not in path.name:
            told = any(each in text for each in accepted)
            assert told is not ("Do not type your disk passphrase." in text), path.name


def test_a_sentence_of_nobodys_is_found_out() -> None:
    assert sentences("aemseal: All is well.\n") == ["All is well."]
    assert not is_said("All is well.")

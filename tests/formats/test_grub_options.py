# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of GRUB's commands (lib/arg.c)."""

import pytest

from aemseal.formats.grub_options import Option, Takes, parse

KNOWN = (
    Option("id", takes=Takes.VALUE),
    Option("set", "s", Takes.OPTIONAL),
    Option("fs-uuid", "u"),
    Option("hint", "h", Takes.VALUE),
)


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        ("", {}, []),
        ("a - b", {}, ["a", "-", "b"]),
        ("a --id b c", {"id": "b"}, ["a", "c"]),
        ("--id=b c", {"id": "b"}, ["c"]),
        ("--id= c", {"id": ""}, ["c"]),
        ("--id b --id c", {"id": "c"}, []),
        ("--set", {"set": ""}, []),
        ("--set a", {"set": "a"}, []),
        ("--set -u", {"set": "", "fs-uuid": ""}, []),
        ("-s a", {"set": "a"}, []),
        ("-s -u", {"set": "", "fs-uuid": ""}, []),
        ("-s - a", {"set": "-"}, ["a"]),
        ("-us a", {"fs-uuid": "", "set": "a"}, []),
        ("-su a", {"set": "", "fs-uuid": ""}, ["a"]),
        ("-h -u", {"hint": "-u"}, []),
        ("-u -- -u --id", {"fs-uuid": ""}, ["-u", "--id"]),
    ],
)
def test_are_told_from_arguments(
    words: str, options: dict[str, str], rest: list[str]
) -> None:
    parsed = parse(words.split(), KNOWN)
    assert parsed is not None
    assert (parsed.options, parsed.rest) == (options, rest)


@pytest.mark.parametrize(
    "words",
    ["--id", "--id -u", "-h", "-hu a", "--fs-uuid=a", "--help", "--usage", "-x", "--y"],
)
def test_where_grub_would_not_run_the_command_there_are_none(words: str) -> None:
    assert parse(words.split(), KNOWN) is None


def test_commands_that_accept_dashes_take_foreign_options_for_arguments() -> None:
    parsed = parse(["-x", "--y", "-ux", "a"], KNOWN, accept_dash=True)
    assert parsed is not None
    assert (parsed.options, parsed.rest) == ({}, ["-x", "--y", "-ux", "a"])
    assert parse(["-h"], KNOWN[:3], accept_dash=True) is None

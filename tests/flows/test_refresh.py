# SPDX-License-Identifier: GPL-2.0-or-later
"""What is remembered of the files beside a boot, and when it cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from tboot_boots import DA, a_boot, facts_of

from aemseal.flows.refresh import BOOT_ID, beside_now, refreshed, seen_now
from aemseal.flows.survey import Survey
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Source, SourceKind
from aemseal.measure.launch import Facts
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import View
from aemseal.world.host import Host

FILE = Source(SourceKind.FILE, path="/boot/sinit.bin", view=View.ACM, size=1)


def host_in(boot: bytes | None) -> Host:
    return cast("Host", SimpleNamespace(small_file={BOOT_ID: boot}.get))


def test_other_files_in_another_order_or_in_another_boot_are_told_apart() -> None:
    other = Source(SourceKind.FILE, path="/boot/other.bin", view=View.ACM, size=1)
    here = host_in(b"first\n")
    one, two = seen_now(here, (FILE, other)), seen_now(here, (other, FILE))
    again = seen_now(host_in(b"second\n"), (FILE, other))
    assert one is not None
    assert two is not None
    assert again is not None
    assert (one.boot, again.boot) == ("first", "second")
    assert one.files == again.files != two.files


@pytest.mark.parametrize("boot", [None, b"", b"\n"])
def test_without_a_name_of_the_boot_nothing_is_remembered(boot: bytes | None) -> None:
    assert seen_now(host_in(boot), (FILE,)) is None


def test_files_that_are_not_known_are_not_remembered() -> None:
    assert seen_now(host_in(b"first"), None) is None


def test_a_name_that_cannot_be_read_is_none() -> None:
    def closed(path: str) -> bytes:
        raise BootFileError(f"{path}: permission denied")

    host = cast("Host", SimpleNamespace(small_file=closed))
    assert seen_now(host, (FILE,)) is None


def test_a_file_that_is_gone_leaves_what_is_on_record() -> None:
    entry, facts = a_boot().entry, facts_of(a_boot())
    calibration = calibrate(DA.launched(a_boot()), [Candidate(entry, facts)])
    assert calibration.entry is not None
    nothing: Facts = {}
    for found in (facts, nothing):
        look = cast(
            "Survey",
            SimpleNamespace(
                calibration=calibration,
                facts=found,
                host=host_in(b"first"),
                running=calibration.baseline(entry.title),
            ),
        )
        assert (beside_now(look) is not None) == bool(found)
        assert (refreshed(look, None) is not None) == bool(found)

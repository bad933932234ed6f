# SPDX-License-Identifier: GPL-2.0-or-later
"""For which explanations `explain` looks into an image at all."""

from __future__ import annotations

from typing import cast

import pytest

from aemseal.flows.explain_files import explain_files
from aemseal.flows.state import VaultState
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.measure.explain import Explanation, Verdict, unmeasured
from aemseal.words.digest import HashAlgorithm
from aemseal.world.host import Host

DIGEST = HashAlgorithm.SHA256.hash(b"image")
DIGESTS = {HashAlgorithm.SHA256: DIGEST}
IMAGE = Source(SourceKind.FILE, path="/boot/initramfs.img", file_digests=DIGESTS)


def explanation(role: Role, source: Source, *, is_missing: bool = False) -> Explanation:
    return Explanation(
        Verdict.CHANGED,
        "Advice.",
        pcr=19,
        role=role,
        expected=Measurement(19, DIGESTS, role, source),
        measured=None if is_missing else DIGEST,
    )


NOTHING_TO_TELL = {
    "no launch": unmeasured(),
    "another file": explanation(Role.KERNEL, IMAGE),
    "an initramfs that was not measured": explanation(
        Role.INITRAMFS, IMAGE, is_missing=True
    ),
    "a measurement that no file explained": explanation(
        Role.INITRAMFS, Source(SourceKind.CARRIED, event=7)
    ),
    "an image of which no digest is known": explanation(
        Role.INITRAMFS, Source(SourceKind.FILE, path="/boot/initramfs.img")
    ),
}


@pytest.mark.parametrize("found", NOTHING_TO_TELL.values(), ids=list(NOTHING_TO_TELL))
def test_without_a_changed_image_nothing_is_looked_at(found: Explanation) -> None:
    nobody = cast("Host", object())  # whatever were asked of it would fail
    assert explain_files(nobody, cast("VaultState", object()), found) is None

# SPDX-License-Identifier: GPL-2.0-or-later
"""boot.conf: where the initramfs finds the media."""

from __future__ import annotations

import pytest

from aemseal.formats.boot_conf import MediumPlace, boot_conf

BOOT = "UUID=7d0c9e1e-2f60-4e2f-b2a5-4a0e4b0f7a11"


def test_the_media_are_listed_in_their_order() -> None:
    places = (MediumPlace("LABEL=aem", "aemseal"), MediumPlace(BOOT, "boot/aemseal"))
    assert boot_conf(places) == (
        b"aemseal-boot 1\n"
        b"medium LABEL=aem aemseal\n"
        b"medium UUID=7d0c9e1e-2f60-4e2f-b2a5-4a0e4b0f7a11 boot/aemseal\n"
    )


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("/dev/sda1", "aemseal"),
        ("UUID=", "aemseal"),
        ("UUID=7d0c; reboot", "aemseal"),
        ("LABEL=two words", "aemseal"),
        ("PARTLABEL=aem", "aemseal"),
        (BOOT, ""),
        (BOOT, "/aemseal"),
        (BOOT, "aemseal/"),
        (BOOT, "../aemseal"),
        (BOOT, "a/../b"),
        (BOOT, "two words"),
        (BOOT, "a\nb"),
    ],
)
def test_no_other_name_gets_into_the_initramfs(spec: str, folder: str) -> None:
    with pytest.raises(ValueError, match="medium"):
        MediumPlace(spec, folder)

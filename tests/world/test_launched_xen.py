# SPDX-License-Identifier: GPL-2.0-or-later
"""One pass over Xen and skl.bin: what a launch by GRUB measures of them."""

from __future__ import annotations

import gzip
import io
import struct

import pytest
from xen_images import mle_header, xen_body, xen_efi, xen_elf

from aemseal.formats.skl import SKL_LIMIT
from aemseal.formats.slaunch_mle import MleRule, XenMle
from aemseal.words.digest import Digests, HashAlgorithm
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import (
    NOTE_PACKING,
    NOTE_SKL_SLRT_SIZE,
    NOTE_SLAUNCH_ENTRY,
    NOTE_XEN_VERSION,
    FileFacts,
    View,
    Wanted,
)
from aemseal.world import views
from aemseal.world.views import FileViews, look_at

BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
PATH = "/boot/file"
RULES = {
    View.SLAUNCH_MLE_V04: MleRule.V04,
    View.SLAUNCH_MLE_ALIGNED: MleRule.ALIGNED,
    View.SLAUNCH_MLE_REWRITTEN: MleRule.REWRITTEN,
}
VERSION = b"\0\0 Xen 4.17.5\n\0"


def digests(data: bytes) -> Digests:
    return {bank: bank.hash(data) for bank in BANKS}


def facts_of(data: bytes, *asked: View) -> list[FileFacts]:
    """What one pass tells, in the order of the views."""
    wanted = [Wanted(PATH, view) for view in asked]
    told = look_at(io.BytesIO(data), wanted, BANKS)
    return [told[each] for each in wanted]


def versioned_xen() -> bytes:
    body = xen_body()
    return xen_elf().replace(body[0x400 : 0x400 + len(VERSION)], VERSION, 1)


def skl() -> bytes:
    made = bytearray(number % 253 for number in range(0x600))
    made[0x100:0x114] = bytes.fromhex("78f1268e049211e9832ac85b76c4cc02") + bytes(4)
    struct.pack_into("<HHHH", made, 0, 0x50, 0x400, 0x100, 0xE4D4)
    return bytes(made)


class TestXen:
    def test_every_rule_is_hashed_in_one_pass_of_the_unpacked_image(self) -> None:
        image = versioned_xen()
        mle = XenMle.parse(image)
        for told, rule in zip(
            facts_of(gzip.compress(image), *RULES), RULES.values(), strict=True
        ):
            measured = mle.measured_bytes(rule)
            assert told.digests == digests(measured)
            assert told.size == len(measured)
            assert told.notes == {
                NOTE_SLAUNCH_ENTRY: "94676200",
                NOTE_XEN_VERSION: "4.17.5",
            }

    @pytest.mark.parametrize("image", [xen_elf(), xen_efi(b".text")])
    def test_the_entry_point_is_hashed_as_4_bytes(self, image: bytes) -> None:
        (told,) = facts_of(image, View.SLAUNCH_ENTRY)
        assert told.digests == digests(bytes.fromhex("94676200"))
        assert told.size == 4
        assert told.notes == {NOTE_SLAUNCH_ENTRY: "94676200"}

    def test_the_file_itself_is_hashed_beside(self) -> None:
        packed = gzip.compress(xen_elf())
        raw, grub, mle = facts_of(packed, View.RAW, View.GRUB, View.SLAUNCH_MLE_V04)
        assert raw.digests == digests(packed)
        assert grub.digests == digests(xen_elf())
        assert grub.notes == {NOTE_PACKING: "gzip"}
        assert mle.size == 0x900

    @pytest.mark.parametrize("view", [*RULES, View.SLAUNCH_ENTRY])
    def test_a_xen_that_cannot_be_launched_is_refused_by_name(self, view: View) -> None:
        stock = xen_elf(bytes(len(mle_header())))
        with pytest.raises(BootFileError, match="/boot/file: no MLE header") as caught:
            facts_of(stock, view)
        assert caught.value.hint is not None

    def test_an_efi_image_has_no_mle_that_is_known_beforehand(self) -> None:
        with pytest.raises(BootFileError, match="/boot/file: the image is no ELF"):
            facts_of(xen_efi(), View.SLAUNCH_MLE_V04)

    def test_an_image_above_the_limit_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "TBOOT_LIMIT", len(xen_elf()))
        facts_of(xen_elf(), View.SLAUNCH_ENTRY)
        with pytest.raises(BootFileError, match="too large: as a Xen image"):
            facts_of(xen_elf() + b"\0", View.SLAUNCH_ENTRY)

    def test_the_size_of_the_chunks_does_not_matter(self) -> None:
        wanted = [Wanted(PATH, view) for view in (*RULES, View.SLAUNCH_ENTRY)]
        told = FileViews(wanted, BANKS)
        for at in range(0, len(versioned_xen()), 100):
            told.feed(versioned_xen()[at : at + 100])
        assert told.finish() == look_at(io.BytesIO(versioned_xen()), wanted, BANKS)


class TestSkl:
    def test_its_measured_part_is_hashed_and_the_room_behind_it_told(self) -> None:
        (told,) = facts_of(skl(), View.SKL)
        assert told.digests == digests(skl()[:0x400])
        assert told.size == 0x400
        assert told.notes == {NOTE_SKL_SLRT_SIZE: "6956"}

    @pytest.mark.parametrize("data", [b"no loader", skl() + bytes(SKL_LIMIT)])
    def test_another_file_is_hashed_as_it_is_and_told_apart(self, data: bytes) -> None:
        (told,) = facts_of(data, View.SKL)
        assert told.digests == digests(data)
        assert told.size == len(data)
        assert told.notes == {}

    def test_is_looked_at_as_a_sinit_module_too(self) -> None:
        acm, as_skl = facts_of(skl(), View.ACM, View.SKL)
        assert acm.digests == digests(skl())
        assert as_skl.digests == digests(skl()[:0x400])

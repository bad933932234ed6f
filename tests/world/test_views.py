# SPDX-License-Identifier: GPL-2.0-or-later
"""One pass over a file: every wanted view, every bank, and what the file is."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sinit_modules import HEADER_3_0, Made, modulus
from unpacked import package_version, unpacked

from aemseal.formats.mle import MleImage
from aemseal.words.digest import Digests, HashAlgorithm
from aemseal.words.errors import BootFileError, EvidenceError
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world import views
from aemseal.world.views import FileViews, look, look_at

BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)


def digests(data: bytes) -> Digests:
    return {bank: bank.hash(data) for bank in BANKS}


def facts_of(data: bytes, view: View, cmdline: bytes = b"") -> FileFacts:
    wanted = Wanted("/boot/file", view, cmdline)
    return look_at(io.BytesIO(data), [wanted], BANKS)[wanted]


def opener(files: dict[str, bytes]) -> Callable[[str], BinaryIO]:
    def open_file(path: str) -> BinaryIO:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return io.BytesIO(files[path])

    return open_file


def tboot() -> bytes:
    """A tboot image of one segment at 0x1000 with an MLE of 0x200 to 0x800."""
    header = bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642") + struct.pack(
        "<9I", 52, 0x20001, 16, 0, 0x200, 0x800, 0x627, 0x400, 0x5FF
    )
    segment = bytearray(number % 249 for number in range(0x1000))
    segment[0x300 : 0x300 + len(header)] = header
    version = b"\x002022-03-04 12:00 +0100 1.10.5\0"
    segment[0x900 : 0x900 + len(version)] = version
    start = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\x01\x01\x01",
        *(2, 3, 1, 0x800000, 52, 0, 0, 52, 32, 1, 40, 0, 0),
    )
    start += struct.pack("<8I", 1, 0x1000, 0x800000, 0x800000, 0x1000, 0x2000, 7, 4096)
    return start.ljust(0x1000, b"\0") + bytes(segment)


def sinit_acm(size: int = 0x4000) -> bytes:
    start = struct.pack("<HHII4xI4xI", 2, 0, 0xA1, 0, 0x8086, size // 4)
    start = start.ljust(120, b"\0") + struct.pack("<II", 64, 0x8F)
    uuid = bytes.fromhex("aa3ac07fa746db182eac698f8d417f5a")
    return (start.ljust(1216, b"\0") + uuid + b"\x01\x07\x30\0").ljust(size, b"\x5a")


def luks1() -> bytes:
    head = b"LUKS\xba\xbe\0\x01".ljust(104, b"a") + struct.pack(">II", 4096, 64)
    head = head.ljust(208, b"b")
    for slot in range(8):
        head += struct.pack(">II32sII", 0, 0, b"", 8 + 504 * slot, 4000)
    return head + b"\xcc" * ((2 << 20) - len(head))


class TestViews:
    def test_raw_is_the_file_and_grub_is_what_grub_hands_over(self) -> None:
        plain = b"kernel" * 1000
        packed = gzip.compress(plain)
        assert facts_of(packed, View.RAW).digests == digests(packed)
        assert facts_of(packed, View.RAW).size == len(packed)
        assert facts_of(packed, View.GRUB).digests == digests(plain)
        assert facts_of(packed, View.GRUB).size == len(plain)
        assert facts_of(plain, View.GRUB).digests == digests(plain)
        xz = lzma.compress(plain, check=lzma.CHECK_CRC32)
        assert facts_of(xz, View.GRUB).digests == digests(plain)

    def test_a_cut_archive_is_refused_where_grub_unpacks_it(self) -> None:
        cut = gzip.compress(b"kernel" * 1000)[:-9]
        assert facts_of(cut, View.RAW).digests == digests(cut)
        with pytest.raises(BootFileError, match="/boot/file"):
            facts_of(cut, View.GRUB)

    def test_an_empty_file_has_digests_too(self) -> None:
        assert facts_of(b"", View.GRUB).digests == digests(b"")
        assert facts_of(b"", View.RAW).size == 0

    def test_mle_is_measured_with_each_command_line(self) -> None:
        lines = (b"", b"logging=memory", b"placeholder")
        wanted = [Wanted("/boot/tboot.gz", View.MLE, line) for line in lines]
        facts = look_at(io.BytesIO(gzip.compress(tboot())), wanted, BANKS)
        image = MleImage.parse(tboot())
        for each in wanted:
            measured = image.measured_bytes(each.cmdline)
            assert facts[each].digests == digests(measured)
            assert facts[each].size == 0x600

    def test_luks_is_the_header_backup(self) -> None:
        device = luks1()
        end = (8 + 7 * 504 + 500) * 512
        backup = device[:1024] + bytes(3072) + device[4096:end] + bytes(2048)
        facts = facts_of(device, View.LUKS)
        assert facts.digests == digests(backup)
        assert facts.size == len(backup)

    def test_a_device_is_read_no_further_than_its_key_slots(self) -> None:
        stream = io.BytesIO(luks1() + bytes(20 << 20))
        look_at(stream, [Wanted("/dev/sda2", View.LUKS)], BANKS)
        assert stream.tell() <= 2 * views.CHUNK

    def test_one_pass_serves_all_views_and_banks(self) -> None:
        opened: list[str] = []
        packed = gzip.compress(tboot())

        def open_once(path: str) -> BinaryIO:
            opened.append(path)
            return io.BytesIO(packed)

        wanted = [
            Wanted("/boot/tboot.gz", View.GRUB),
            Wanted("/boot/other", View.RAW),
            Wanted("/boot/tboot.gz", View.RAW),
            Wanted("/boot/tboot.gz", View.MLE, b"x"),
            Wanted("/boot/tboot.gz", View.GRUB),
        ]
        facts = look(open_once, wanted, BANKS)
        assert opened == ["/boot/tboot.gz", "/boot/other"]
        assert facts[wanted[0]].digests == digests(tboot())
        assert facts[wanted[2]].digests == digests(packed)
        assert len(facts) == 4
        for each, told in facts.items():
            assert told.wanted == each
            assert set(told.digests) == set(BANKS)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(1, 3000), max_size=12))
    def test_the_size_of_the_reads_does_not_matter(self, sizes: list[int]) -> None:
        packed = gzip.compress(tboot())
        wanted = [
            Wanted("/f", View.RAW),
            Wanted("/f", View.GRUB),
            Wanted("/f", View.MLE),
        ]
        whole = look_at(io.BytesIO(packed), wanted, BANKS)
        parts = FileViews(wanted, BANKS)
        rest = packed
        for size in sizes:
            parts.feed(rest[:size])
            rest = rest[size:]
        parts.feed(rest)
        assert parts.finish() == whole

    def test_files_that_a_pass_joins_are_of_one_path(self) -> None:
        with pytest.raises(ValueError, match="values to unpack"):
            FileViews([Wanted("/a", View.RAW), Wanted("/b", View.RAW)], BANKS)
        assert look(opener({}), [], BANKS) == {}


class TestNotes:
    def test_a_tboot_image_tells_version_and_capabilities(self) -> None:
        notes = facts_of(gzip.compress(tboot()), View.MLE).notes
        assert notes == {"mle_capabilities": "0x627", "tboot_version": "1.10.5"}
        assert facts_of(tboot(), View.RAW).notes == {"tboot_version": "1.10.5"}

    def test_a_xen_image_tells_its_version(self) -> None:
        xen = b"\x7fELF" + bytes(5000) + b"gcc 12\0.5\0 Xen 4.17.5\n\0<denied>\0"
        assert facts_of(xen, View.GRUB).notes == {"xen_version": "4.17.5"}
        assert facts_of(gzip.compress(xen), View.RAW).notes == {}

    def test_what_grub_unpacks_a_file_with_is_told(self) -> None:
        content = bytes(5000)
        for packing, packed in {
            "gzip": gzip.compress(content),
            "xz": lzma.compress(content, check=lzma.CHECK_CRC32),
        }.items():
            assert facts_of(packed, View.GRUB).notes == {"packing": packing}
            assert facts_of(packed, View.RAW).notes == {}

    def test_versions_are_read_of_elf_images_only(self) -> None:
        text = b"initramfs\0 Xen 4.17.5\n\0"
        assert facts_of(text, View.GRUB).notes == {}

    def test_a_sinit_module_says_that_tboot_drops_it(self) -> None:
        module = sinit_acm()
        assert facts_of(module, View.GRUB).notes == {"tboot_skips": "sinit-acm"}
        assert facts_of(module + b"x", View.GRUB).notes == {}
        packed = gzip.compress(module)
        assert facts_of(packed, View.GRUB).notes["tboot_skips"] == "sinit-acm"
        assert facts_of(packed, View.RAW).notes == {}

    def test_lcp_policy_data_says_so_too(self) -> None:
        data = b"Intel(R) TXT LCP_POLICY_DATA\0\0\0\0\0\0\0\x01"
        assert facts_of(data, View.RAW).notes == {"tboot_skips": "lcp-policy-data"}


class TestSinitModules:
    """View.ACM: what the processor hashes, and what decides the module's launch."""

    def test_are_told_by_what_is_measured_of_them(self) -> None:
        made = Made()
        facts = facts_of(made.file, View.ACM)
        assert facts.digests == digests(made.measured)
        assert facts.size == len(made.measured)
        assert facts.notes == {
            "sinit_key": HashAlgorithm.SHA256.hash(modulus("key")).hex,
            "sinit_capabilities": "0x36e",
            "sinit_date": "20190708",
            "sinit_platform": (
                "signed production; type 1; chipset 8086:b006/&0001; processor "
                "000406e0&0fff3ff0/0000000000000000&0000000000000000"
            ),
            "sinit_security_version": "2",
            "sinit_header_version": "0.0",
        }

    def test_say_no_more_than_is_known_of_newer_headers_and_tables(self) -> None:
        newer = Made(header_version=0x40000, table_version=9)
        notes = facts_of(newer.file, View.ACM).notes
        assert "sinit_key" not in notes
        assert "sinit_platform" not in notes
        assert notes["sinit_header_version"] == "4.0"
        long_key = Made(header_version=HEADER_3_0, scratch_dwords=0xD0)
        assert facts_of(long_key.file, View.ACM).notes["sinit_header_version"] == "3.0"

    def test_have_sha256_whatever_banks_are_asked_for(self) -> None:
        made = Made()
        wanted = [Wanted("/f", View.ACM), Wanted("/f", View.GRUB)]
        facts = look_at(io.BytesIO(made.file), wanted, [HashAlgorithm.SHA1])
        assert facts[wanted[0]].digests == digests(made.measured)
        assert set(facts[wanted[1]].digests) == {HashAlgorithm.SHA1}

    def test_come_as_grub_hands_them_over(self) -> None:
        made = Made()
        packed = facts_of(gzip.compress(made.file), View.ACM)
        assert packed == facts_of(made.file, View.ACM)
        padded = facts_of(made.file + bytes(0x10000), View.ACM)
        assert padded == facts_of(made.file, View.ACM)

    @pytest.mark.parametrize("data", [b"", b"Xen", Made().file[:-4]])
    def test_another_file_is_told_whole_and_without_notes(self, data: bytes) -> None:
        facts = facts_of(data, View.ACM)
        assert (facts.size, facts.notes) == (len(data), {})
        assert facts.digests == digests(data)

    def test_with_a_list_outside_are_refused_by_path_and_offset(self) -> None:
        broken = Made(fixes={20: b"\xff\xff\xff\xff"})
        with pytest.raises(BootFileError, match=r"/boot/file: .*list .*at offset 1236"):
            facts_of(broken.file, View.ACM)

    def test_larger_than_any_are_refused(self) -> None:
        large = Made(size=(1 << 20) + 4)
        with pytest.raises(BootFileError, match="as a SINIT module, 1048576 bytes"):
            facts_of(large.file, View.ACM)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "view", "message"),
        [
            (b"MZ" + bytes(100), View.MLE, "/boot/file: the image is no ELF file"),
            (b"", View.MLE, "/boot/file: the image is too short"),
            (b"", View.LUKS, "/boot/file: there is no LUKS header"),
            (b"LUKS\xba\xbe\0\x03" + bytes(99), View.LUKS, "version 3 is not known"),
            (luks1()[:5000], View.LUKS, "/boot/file: .*the device ends"),
        ],
    )
    def test_name_the_path(self, data: bytes, view: View, message: str) -> None:
        with pytest.raises(BootFileError, match=message):
            facts_of(data, view)

    def test_a_command_line_that_tboot_would_cut_is_refused(self) -> None:
        with pytest.raises(BootFileError, match=r"/boot/file: .*512 bytes") as caught:
            facts_of(tboot(), View.MLE, b"a" * 512)
        assert caught.value.hint is not None

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(
            BootFileError, match=r"/boot/xen.gz cannot be read: no such"
        ):
            look(opener({}), [Wanted("/boot/xen.gz", View.GRUB)], BANKS)

    def test_a_file_that_fails_under_way_is_named(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise OSError(5, "Input/output error")

        with pytest.raises(BootFileError, match=r"/boot/xen.gz .*input/output error"):
            look(lambda _: Broken(), [Wanted("/boot/xen.gz", View.GRUB)], BANKS)

    def test_files_over_the_limits_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "FILE_LIMIT", 1000)
        assert facts_of(bytes(1000), View.RAW).size == 1000
        with pytest.raises(BootFileError, match="/boot/file is too large: 1000 bytes"):
            facts_of(bytes(1001), View.RAW)

    def test_an_image_that_decompresses_to_too_much_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "TBOOT_LIMIT", 1000)
        with pytest.raises(BootFileError, match="as a tboot image, 1000 bytes"):
            facts_of(gzip.compress(bytes(1001)), View.MLE)
        monkeypatch.setattr(views, "PLAIN_LIMIT", 1000)
        with pytest.raises(BootFileError, match="/boot/file"):
            facts_of(gzip.compress(bytes(3 << 20)), View.GRUB)

    def test_an_acm_with_its_table_out_of_sight_is_refused(self) -> None:
        module = bytearray(sinit_acm(4 << 20))
        struct.pack_into("<I", module, 124, 0x90000)
        with pytest.raises(BootFileError, match=r"/boot/file: .*information table"):
            facts_of(bytes(module), View.GRUB)

    @given(st.binary(max_size=2000), st.sampled_from(View))
    def test_any_bytes_raise_evidence_errors_only(
        self, data: bytes, view: View
    ) -> None:
        try:
            told = facts_of(data, view)
        except EvidenceError:
            return
        assert set(told.digests) == set(BANKS)


@pytest.mark.sim
class TestRealFiles:
    def test_tboot_1_10_5(self) -> None:
        if package_version("tboot") != "1.10.5-4":
            pytest.skip("another tboot than 1.10.5-4 is unpacked")
        path = unpacked("tboot")
        wanted = [
            Wanted("/boot/tboot.gz", View.MLE, b"logging=serial,memory"),
            Wanted("/boot/tboot.gz", View.RAW),
        ]
        facts = look(lambda _: path.open("rb"), wanted, BANKS)
        assert facts[wanted[0]].digests[HashAlgorithm.SHA256].hex == (
            "f35c0785c7b5bb225ed7e3e8fae2c9be88673a52aa88a41eba68a5eee7c6b77d"
        )
        assert facts[wanted[0]].notes == {
            "mle_capabilities": "0x627",
            "tboot_version": "1.10.5",
        }
        assert facts[wanted[1]].digests == digests(path.read_bytes())

    def test_xen_of_debian(self) -> None:
        path = unpacked("xen_old")
        with path.open("rb") as stream:
            wanted = Wanted("/boot/xen.gz", View.GRUB)
            facts = look_at(stream, [wanted], BANKS)[wanted]
        assert facts.digests == digests(gzip.decompress(path.read_bytes()))
        assert facts.notes["xen_version"] == package_version("xen-old")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes that `cryptsetup luksHeaderBackup` writes, from the device alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.formats.luks import AREA_LIMIT, LuksHeaderBackup
from aemseal.words.errors import FormatError

STARTS = tuple(8 + 504 * slot for slot in range(8))


def backup_of(device: bytes, chunk: int = 1 << 16) -> bytes:
    backup = LuksHeaderBackup()
    given = b""
    for at in range(0, len(device), chunk):
        given += backup.feed(device[at : at + chunk])
        if backup.is_complete:
            break
    return given + backup.finish()


def luks1(
    payload: int = 4096,
    key_bytes: int = 64,
    starts: tuple[int, ...] = STARTS,
    stripes: int = 4000,
    version: int = 1,
) -> bytes:
    """A LUKS1 device of 2 MiB whose every other byte is not zero."""
    head = b"LUKS\xba\xbe" + struct.pack(">H", version)
    head = head.ljust(104, b"a") + struct.pack(">II", payload, key_bytes)
    head = head.ljust(208, b"b")
    for start in starts:
        head += struct.pack(">II32sII", 0xDEAD, 1000, b"s" * 32, start, stripes)
    return head + b"\xcc" * ((2 << 20) - len(head))


def luks2(
    metadata: object = None,
    size: int = 0x4000,
    sequences: tuple[int, int] = (3, 3),
    checksum: bytes = b"sha256",
    area: bytes | None = None,
    length: int = 0x20000,
) -> bytes:
    """A LUKS2 device: both headers, then `length` bytes that are not zero."""
    if metadata is None:
        metadata = {
            "segments": {"0": {"offset": "16777216"}},
            "config": {"keyslots_size": "65536"},
        }
    if area is None:
        area = json.dumps(metadata).encode()
    area = area.ljust(size - 4096, b"\0")
    device = b""
    for at, magic, sequence in zip(
        (0, size), (b"LUKS\xba\xbe", b"SKUL\xba\xbe"), sequences, strict=True
    ):
        head = magic + struct.pack(">HQQ", 2, size, sequence) + bytes(48)
        head += checksum.ljust(32, b"\0") + b"x" * 64 + b"u" * 40 + bytes(48)
        head += struct.pack(">Q", at) + bytes(184)
        digest = hashlib.sha256(head + bytes(4096 - len(head)) + area).digest()
        device += (head + digest).ljust(4096, b"\0") + area
    return device + b"\xcc" * length


class TestLuks1:
    def test_backup_ends_behind_the_last_slot_padded_to_a_page(self) -> None:
        device = luks1()
        end = (8 + 7 * 504 + 500) * 512
        assert backup_of(device) == (
            device[:1024] + bytes(3072) + device[4096:end] + bytes(2048)
        )

    def test_other_alignment_of_the_slots_wipes_nothing(self) -> None:
        device = luks1(starts=tuple(16 + 504 * slot for slot in range(8)), payload=8192)
        end = (16 + 7 * 504 + 500) * 512
        assert backup_of(device) == device[:end] + bytes(-end % 4096)

    def test_slots_may_be_in_any_order(self) -> None:
        starts = tuple(8 + 504 * slot for slot in (0, 7, 1, 2, 3, 4, 5, 6))
        assert len(backup_of(luks1(starts=starts))) == len(backup_of(luks1()))


class TestLuks2:
    def test_backup_is_both_headers_and_the_slots(self) -> None:
        device = luks2()
        assert backup_of(device) == device[: 0x8000 + 65536]

    @pytest.mark.parametrize("size", [0x4000 << power for power in range(9)])
    def test_every_header_size_of_the_format_is_read(self, size: int) -> None:
        device = luks2(size=size)
        assert backup_of(device, 1 << 20) == device[: 2 * size + 65536]

    def test_headers_that_differ_are_refused(self) -> None:
        with pytest.raises(FormatError, match="differ") as caught:
            backup_of(luks2(sequences=(4, 3)))
        assert caught.value.hint is not None
        assert "cryptsetup" in caught.value.hint

    @pytest.mark.parametrize("at", [24, 168, 4096, 0x4000 + 24, 0x4000 + 4100])
    def test_a_changed_byte_in_either_header_is_refused(self, at: int) -> None:
        device = bytearray(luks2())
        device[at] ^= 1
        with pytest.raises(FormatError, match="checksum is wrong"):
            backup_of(bytes(device))


def json_with(size: object, offset: object = "16777216") -> object:
    return {
        "segments": {"0": {"offset": offset}},
        "config": {"keyslots_size": size},
    }


REFUSED = {
    "nothing": (b"", "no LUKS header", 0),
    "another format": (b"\x7fELF" + bytes(5000), "no LUKS header", 0),
    "a cut header": (b"LUKS\xba\xbe\x00\x01", "cut off", 8),
    "a cut LUKS1 header": (luks1()[:1000], "cut off", 1000),
    "a cut LUKS2 header": (luks2()[:0x7FFF], "cut off", 0x7FFF),
    "version 3": (luks1(version=3), "version 3 is not known", 6),
    "LUKS1 without its slots": (luks1()[:5000], "and the device ends", 5000),
    "LUKS2 without its slots": (luks2(length=0), "and the device ends", 0x8000),
    "a detached LUKS1 header": (luks1(payload=0), "detached", 104),
    "a detached LUKS2 header": (luks2(json_with("4096", "0")), "detached", 4096),
    "a key of no bytes": (luks1(key_bytes=0), "no bytes", 108),
    "a slot in the header": (luks1(starts=(1,) * 8), "slot 0 is damaged", 208),
    "other stripes": (luks1(stripes=4001), "slot 0 is damaged", 208),
    "a slot in the data": (luks1(payload=4035), "reaches into the data", 544),
    "a key of 4 GiB": (luks1(key_bytes=2**32 - 1), "reaches into the data", 208),
    "slots of 2 TiB": (
        luks1(payload=2**32 - 1, starts=(2**32 - 600,) * 8),
        "cannot have",
        104,
    ),
    "a small header": (luks2()[:8] + bytes(8) + luks2()[16:], "0 bytes", 8),
    "a LUKS2 header of 3 sizes": (
        luks2()[:8] + (0xC000).to_bytes(8, "big") + luks2()[16:],
        "49152 bytes",
        8,
    ),
    "no second header": (luks2()[:0x4000] + bytes(0x24000), "damaged", 0x4000),
    "another checksum": (luks2(checksum=b"sha1"), "not sha256", 72),
    "no JSON": (luks2(area=b"{"), "cannot be read", 4096),
    "an empty area": (luks2(area=b""), "cannot be read", 4096),
    "no UTF-8": (luks2(area=b'{"\xff"}'), "cannot be read", 4096),
    "deep JSON": (
        luks2(area=b"[" * 300_000, size=0x80000),
        "cannot be read",
        4096,
    ),
    "a JSON list": (luks2([]), "cannot be read", 4096),
    "segments in a list": (
        luks2({"segments": [], "config": {"keyslots_size": "0"}}),
        "cannot be read",
        4096,
    ),
    "no configuration": (luks2({"segments": {}}), "cannot be read", 4096),
    "a size that is a number": (luks2(json_with(65536)), "no size", 4096),
    "a size with a sign": (luks2(json_with("-4096")), "no size", 4096),
    "a size of many digits": (luks2(json_with("9" * 5000)), "no size", 4096),
    "a size of half a page": (luks2(json_with("2048")), "2048 bytes", 4096),
    "a size over the limit": (
        luks2(json_with(str(AREA_LIMIT + 4096))),
        "cannot have",
        4096,
    ),
}


class TestHostileDevices:
    @pytest.mark.parametrize("name", REFUSED)
    def test_are_refused_with_the_offset(self, name: str) -> None:
        device, message, offset = REFUSED[name]
        with pytest.raises(FormatError, match=message) as caught:
            backup_of(device)
        assert caught.value.offset == offset

    @given(st.binary(max_size=2000), st.booleans())
    def test_arbitrary_bytes_raise_format_errors_only(
        self, data: bytes, is_luks: bool
    ) -> None:
        with pytest.raises(FormatError):
            backup_of((b"LUKS\xba\xbe" if is_luks else b"") + data)

    @settings(deadline=None)
    @given(
        st.sampled_from([luks1(), luks2()]),
        st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=4)), max_size=4),
    )
    def test_mutated_headers_raise_format_errors_only(
        self, device: bytes, changes: list[tuple[int, bytes]]
    ) -> None:
        changed = bytearray(device)
        for at, new in changes:
            changed[at : at + len(new)] = new
        try:
            assert len(backup_of(bytes(changed), 1 << 20)) % 4096 == 0
        except FormatError:
            return


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([luks1(), luks2()]), st.integers(1, 5000), st.integers(1, 9))
def test_the_size_of_the_chunks_does_not_matter(
    device: bytes, first: int, chunks: int
) -> None:
    backup = LuksHeaderBackup()
    given = backup.feed(device[:first])
    step = len(device) // chunks
    for at in range(first, len(device), step):
        given += backup.feed(device[at : at + step])
    assert backup.is_complete
    assert given + backup.finish() == backup_of(device)


OPTIONS = {
    "luks1": ["--type", "luks1"],
    "luks1 aligned": ["--type", "luks1", "--align-payload", "8192"],
    "luks1 offset": ["--type", "luks1", "--offset", "8192"],
    "luks1 256 bits": ["--type", "luks1", "--key-size", "256"],
    "luks1 128 bits": [
        *("--type", "luks1", "--key-size", "128"),
        *("--cipher", "aes-cbc-essiv:sha256"),
    ],
    "luks2": ["--type", "luks2"],
    "luks2 metadata 64k": ["--type", "luks2", "--luks2-metadata-size", "64k"],
    "luks2 slots 256k": ["--type", "luks2", "--luks2-keyslots-size", "256k"],
    "luks2 both": [
        *("--type", "luks2", "--luks2-metadata-size", "4m"),
        *("--luks2-keyslots-size", "1m"),
    ],
    "luks2 offset": ["--type", "luks2", "--offset", "65536"],
    "luks2 labelled": ["--type", "luks2", "--label", "root", "--subsystem", "aem"],
}

needs_cryptsetup = pytest.mark.skipif(
    shutil.which("cryptsetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None,
    reason="cryptsetup is not installed",
)


def cryptsetup(*arguments: object, stdin: bytes = b"") -> None:
    subprocess.run(
        ["cryptsetup", *map(str, arguments)],
        input=stdin,
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


PBKDF = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


def format_device(path: Path, *options: str) -> None:
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
    cryptsetup("luksFormat", *options, *PBKDF, "-q", path, "-", stdin=b"secret")


def header_backup(device: Path, to: Path) -> bytes:
    to.unlink(missing_ok=True)
    cryptsetup("luksHeaderBackup", device, "--header-backup-file", to)
    return to.read_bytes()


def ours(device: Path) -> bytes:
    backup = LuksHeaderBackup()
    given = b""
    with device.open("rb") as stream:
        while not backup.is_complete:
            given += backup.feed(stream.read(1 << 20))
    return given + backup.finish()


@needs_cryptsetup
class TestAgainstCryptsetup:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_equals_its_backup(self, options: str, tmp_path: Path) -> None:
        device, backup = tmp_path / "device", tmp_path / "backup"
        format_device(device, *OPTIONS[options])
        assert ours(device) == header_backup(device, backup)

    @pytest.mark.parametrize("kind", ["luks1", "luks2"])
    def test_equals_it_after_the_key_slots_changed(
        self, kind: str, tmp_path: Path
    ) -> None:
        device, backup = tmp_path / "device", tmp_path / "backup"
        format_device(device, "--type", kind)
        first = ours(device)
        key = tmp_path / "key"
        key.write_bytes(b"other")
        cryptsetup("luksAddKey", *PBKDF, "-q", device, key, stdin=b"secret")
        assert ours(device) == header_backup(device, backup) != first
        cryptsetup("luksKillSlot", "-q", device, "0", "--key-file", key)
        assert ours(device) == header_backup(device, backup)

    @pytest.mark.parametrize("kind", ["luks1", "luks2"])
    def test_equals_it_with_rubbish_around_the_header(
        self, kind: str, tmp_path: Path
    ) -> None:
        """Data, and what an old file system left between header and key slots."""
        device, backup = tmp_path / "device", tmp_path / "backup"
        format_device(device, "--type", kind)
        with device.open("r+b") as stream:
            for at, size in {"luks1": [(1024, 3072), (2066432, 8192)]}.get(
                kind, [(16 << 20, 8192)]
            ):
                stream.seek(at)
                stream.write(b"\xee" * size)
        assert ours(device) == header_backup(device, backup)

    @pytest.mark.parametrize("kind", ["luks1", "luks2"])
    def test_a_detached_header_is_refused(self, kind: str, tmp_path: Path) -> None:
        data, header = tmp_path / "data", tmp_path / "header"
        for path in (data, header):
            with path.open("wb") as stream:
                stream.truncate(64 << 20)
        cryptsetup(
            *("luksFormat", "--type", kind, *PBKDF, "-q", data, "-"),
            *("--header", header),
            stdin=b"secret",
        )
        with pytest.raises(FormatError, match="detached"):
            ours(header)
        with pytest.raises(FormatError, match="no LUKS header"):
            ours(data)

    def test_a_header_that_cryptsetup_would_repair_is_refused(
        self, tmp_path: Path
    ) -> None:
        device, backup = tmp_path / "device", tmp_path / "backup"
        format_device(device, "--type", "luks2")
        with device.open("r+b") as stream:
            stream.seek(0x4000 + 200)
            stream.write(b"\xee")
        with pytest.raises(FormatError, match="checksum"):
            ours(device)
        repaired = header_backup(device, backup)
        assert ours(device) == repaired

# SPDX-License-Identifier: GPL-2.0-or-later
"""What fuzzing of the images begins with, all of it written here or by the tests."""

from __future__ import annotations

import gzip
import json
import struct

import sinit_modules
import tboot_policies
import xen_images

BETWEEN = b"\0\0\0"
"""Stands between the parts of an input that is several files."""

LUKS2_AREA = 12 << 10
"""Bytes of JSON in the smallest LUKS2 header."""


def acms() -> list[bytes]:
    """SINIT modules of both header versions, padded and not."""
    old = sinit_modules.Made(size=0x800)
    return [
        old.file,
        sinit_modules.Made(
            header_version=sinit_modules.HEADER_3_0,
            chipsets=(sinit_modules.ALDER_LAKE, sinit_modules.SKYLAKE),
            processors=(sinit_modules.ALDER_LAKE_CPU,),
            size=0x900,
        ).file,
        *(
            sinit_modules.Made(table_version=each, size=0x800).file
            for each in (3, 4, 9)
        ),
    ]


def platforms() -> list[bytes]:
    """What a module is for, as text."""
    cpu = b"000406e0&0fff3ff0/0000000000000000&0000000000000000"
    return [
        b"signed production; type 1; chipset 8086:b006/&0001",
        b"signed debug; type 0; chipset ; processor " + cpu,
        b"signed debug; type -; chipset 8086:b006/=0001 8086:b00c/&0001",
    ]


def tboots() -> list[bytes]:
    """Small tboot images: an MLE header with a command line area, and one without."""
    made = []
    for cmdline in ((0x100, 0x180), (0, 0)):
        words = (52, 0x20001, 0x10, 0, 0x20, 0x300, 0x627, *cmdline)
        header = xen_images.UUID + struct.pack("<9I", *words)
        body = xen_images.xen_body(header, 0x40, 0x400)
        at = (xen_images.BODY_AT, 0x800000, len(body))
        made.append(xen_images.elf(xen_images.segment(*at, len(body) + 64), body=body))
    return made


def xens() -> list[bytes]:
    """Xen as multiboot2 loads it, of one segment and of two."""
    body = xen_images.xen_body()
    two = (
        xen_images.segment(xen_images.BODY_AT, xen_images.BASE, len(body), len(body)),
        xen_images.segment(xen_images.BODY_AT, xen_images.BASE + 0x1000, 16, 0x100),
    )
    return [xen_images.xen_elf(), xen_images.elf(*two, body=body)]


def xen_efis() -> list[bytes]:
    """Xen as firmware starts it, plain and unified."""
    return [
        xen_images.xen_efi(b".text")[: 4 << 10],
        xen_images.xen_efi(b".text", b".config")[: 4 << 10],
        xen_images.xen_elf(),
    ]


def loaders() -> list[bytes]:
    """Small skl.bin files of both layouts."""
    uuid = bytes.fromhex("78f1268e049211e9832ac85b76c4cc02") + bytes(4)
    made = []
    for layout in (4, 66):
        image = bytearray(0x200)
        image[0x100 : 0x100 + len(uuid)] = uuid
        struct.pack_into("<HH", image, 0, 0x50, 0x180)
        struct.pack_into("<HH", image, layout, 0x100, 0x200)
        made.append(bytes(image))
    return made


def build_ids() -> list[bytes]:
    """An ELF note, and a CodeView record in a PE image's section."""
    note = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
    pe = struct.pack("<4s2xH12xH2x", b"PE\0\0", 1, 0)
    section = struct.pack("<8s8xII16x", b".buildid", 24, 0x100)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + pe + section
    return [
        b"\x7fELF" + note,
        note + bytes(4) + note,
        head.ljust(0x100, b"\0") + b"RSDS" + bytes(range(16)) + b"\1\0\0\0",
    ]


def banners() -> list[bytes]:
    """The strings in which Xen and tboot name their version."""
    debian = b"4.17.5+72-g01140da4e8-1\0gcc (Debian 12.2.0) 12.2.0\0.5\0\0<denied>\0"
    return [
        b"\0\0 Xen 4.17.5\n\0",
        debian,
        b"\0" + debian * 3,
        b"\0002022-03-04 12:00 +0100 1.10.5\n\0",
    ]


def xen_configs() -> list[bytes]:
    """Load options, a configuration of xen.efi's, and another one."""
    config = (
        b"[global]\ndefault=one\n[one]\noptions=console=vga # a comment\n"
        b"kernel=vmlinuz root=/dev/x ro\nramdisk=initrd.img\nucode=ucode.bin\n"
    )
    chain = b"[global]\nchain=other.cfg\n"
    return [
        BETWEEN.join((b"xen.efi", config)),
        BETWEEN.join((b"xen.efi one -cfg=other.cfg -- more", b"", config)),
        BETWEEN.join((b"xen.efi one", chain, config)),
        BETWEEN.join((b"xen.efi one", chain, chain)),
    ]


def luks1_heads() -> list[bytes]:
    """The head of a LUKS1 device, with eight key slots."""
    head = b"LUKS\xba\xbe\0\1".ljust(104, b"a") + struct.pack(">II", 4096, 64)
    head = head.ljust(208, b"b")
    for slot in range(8):
        start = 8 + 504 * slot
        head += struct.pack(">II32sII", 0xDEAD, 1000, b"s" * 32, start, 4000)
    return [head]


def luks2_areas() -> list[bytes]:
    """The JSON of a LUKS2 header, of a detached one too."""
    made = []
    for offset, size in (("16777216", "65536"), ("0", "65536"), ("16777216", "0")):
        segments = {"0": {"type": "crypt", "offset": offset, "size": "dynamic"}}
        config = {"json_size": "12288", "keyslots_size": size}
        area = {"keyslots": {}, "segments": segments, "config": config}
        made.append(json.dumps(area).encode())
    return made


def luks_devices() -> list[bytes]:
    """Heads of devices as they are, without anything put right."""
    head = struct.pack(">6sHQQ48x", b"LUKS\xba\xbe", 2, 0x4000, 3)
    return [*luks1_heads(), head.ljust(0x8000, b"\0"), b"LUKS\xba\xbe\0\3"]


def policies() -> list[bytes]:
    """Policies of tboot's, plain and in an element of the launch control policy."""
    any_module = tboot_policies.Entry(tboot_policies.ANY, 19)
    listed = tboot_policies.Entry(0, 18, (b"\1" * 32, b"\2" * 32))
    sha1 = tboot_policies.Entry(0, 18, (b"\1" * 20,))
    plain = tboot_policies.packed([listed, any_module])
    uuid = bytes.fromhex("410693c3cbe3404fd79127f8b9e25c86")
    return [
        plain,
        tboot_policies.packed([any_module], kind=1, control=0),
        tboot_policies.packed([sha1], algorithm=0),
        plain + uuid + plain,
    ]


def boot_files() -> list[bytes]:
    """Images of every kind, packed and plain."""
    plain = [*acms(), *tboots(), *xens(), *loaders(), *banners()]
    return plain + [gzip.compress(each, mtime=0) for each in plain]

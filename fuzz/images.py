# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: boot images, their tables, and the headers of disks."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from io import BytesIO

from aemseal.formats.acm import measured_bytes, tboot_skips
from aemseal.formats.acm_info import SinitModule
from aemseal.formats.acm_platform import Platform
from aemseal.formats.build_id import build_id
from aemseal.formats.luks import PAGE, LuksHeaderBackup
from aemseal.formats.mle import LOADED_LIMIT, MleImage
from aemseal.formats.skl import SecureKernelLoader
from aemseal.formats.slaunch_mle import IMAGE_LIMIT, MleRule, XenMle, entry_bytes
from aemseal.formats.tboot_policy import (
    MOST_ELEMENTS,
    parse_policy,
    wrapped_policies,
)
from aemseal.formats.versions import TbootVersion, XenVersion
from aemseal.formats.xen_config import read_boot
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import BootFileError, EvidenceError, FormatError
from aemseal.words.wanted import View, Wanted
from aemseal.world.views import look_at
from fuzz import image_seeds
from fuzz.contract import KIB, MIB, Target
from fuzz.image_seeds import BETWEEN, LUKS2_AREA


def _acm(data: bytes) -> None:
    with suppress(FormatError):
        tboot_skips(data, len(data))
    assert 128 <= len(measured_bytes(data)) <= len(data)


def _acm_info(data: bytes) -> None:
    module = SinitModule.parse(data)
    assert len(module.measured) <= len(data)
    assert (module.key is None) is (module.modulus is None)
    assert len(module.date) >= 8
    assert "." in module.header_version
    if module.platform is not None:
        assert Platform.parse(str(module.platform)) == module.platform
        assert module.platform.covers(module.platform)


def _platform(data: bytes) -> None:
    platform = Platform.parse(data.decode("utf-8", "replace"))
    assert Platform.parse(str(platform)) == platform


def _mle(data: bytes) -> None:
    image = MleImage.parse(data)
    assert len(image.measured_bytes(None)) == image.mle_end - image.mle_start
    with suppress(BootFileError):
        given = image.measured_bytes(b"logging=memory")
        assert len(given) == image.mle_end - image.mle_start


def _xen_mle(data: bytes) -> None:
    image = XenMle.parse(data)
    assert len(image.measured_bytes(MleRule.V04)) == image.mle_end
    assert len(image.measured_bytes(MleRule.REWRITTEN)) % (2 * MIB) == 0
    assert len(entry_bytes(data)) == 4


def _skl(data: bytes) -> None:
    loader = SecureKernelLoader.parse(data)
    assert data.startswith(loader.measured)
    assert loader.slrt_size >= 4 * KIB


def _build_id(data: bytes) -> None:
    found = build_id(data)
    assert found is None or len(found) in (32, 40)


def _versions(data: bytes) -> None:
    for scanner in (XenVersion, TbootVersion):
        whole, halves = scanner(), scanner()
        whole.feed(data)
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            halves.feed(piece)
        version = whole.finish()
        assert version is None or (version.isprintable() and len(version) < 100)
        assert len(data) > 2 * KIB or version == halves.finish()


def _xen_config(data: bytes) -> None:
    """Read load options, a configuration, and one that it may chain to."""
    options, first, second, *_ = *data.split(BETWEEN), b"", b"", b""
    files = {"xen.cfg": first, "other.cfg": second}
    boot = read_boot("xen.efi", options, files.get)
    assert "kernel" in boot.modules
    assert boot.configs[0] == "xen.cfg" or b"cfg" in options
    for file in boot.modules.values():
        assert file.string.startswith(file.name.encode())
        assert "/" not in file.name


def _luks(data: bytes) -> None:
    whole, pieces = LuksHeaderBackup(), LuksHeaderBackup()
    backup = whole.feed(data) + whole.finish()
    assert whole.is_complete
    assert len(backup) % PAGE == 0
    given = b"".join(
        pieces.feed(data[at : at + 999]) for at in range(0, len(data), 999)
    )
    assert given + pieces.finish() == backup


def luks1_device(head: bytes) -> bytes:
    """Return a device that begins so, large enough for key slots at the usual place."""
    return head.ljust(2 * MIB, b"\xcc")


def luks2_device(area: bytes) -> bytes:
    """Return a device with this JSON, in two headers that are intact."""
    device, size = b"", LUKS2_AREA + 4 * KIB
    area = area[:LUKS2_AREA].ljust(LUKS2_AREA, b"\0")
    for at, magic in ((0, b"LUKS\xba\xbe"), (size, b"SKUL\xba\xbe")):
        head = magic + struct.pack(">HQQ48x", 2, size, 3)
        head += struct.pack(">32s64x40x48xQ184x", b"sha256", at)
        digest = hashlib.sha256(head + bytes(4 * KIB - len(head)) + area).digest()
        device += (head + digest).ljust(4 * KIB, b"\0") + area
    return device + bytes(64 * KIB)


def _boot_file(data: bytes) -> None:
    """Look at a boot file in each view alone: as a launcher and as GRUB takes it."""
    for view in View:
        wanted = Wanted("/boot/file", view)
        with suppress(EvidenceError):
            facts = look_at(BytesIO(data), [wanted], [HashAlgorithm.SHA256])
            assert facts[wanted].digests[HashAlgorithm.SHA256].value
            assert view is not View.RAW or facts[wanted].size == len(data)


def _policy(data: bytes) -> None:
    policies = wrapped_policies(data)
    assert len(policies) <= MOST_ELEMENTS
    for each in policies:
        with suppress(FormatError):
            parse_policy(each)
    policy = parse_policy(data)
    assert data.startswith(policy.data)
    assert len(policy.measured_bytes) == len(policy.data)
    policy.entry_for(0)
    policy.digest(HashAlgorithm.SHA256, HashAlgorithm.SHA1)


_FORMAT = (FormatError,)

TARGETS = (
    Target("acm", _acm, _FORMAT, image_seeds.acms, most=16 * KIB),
    Target("acm_info", _acm_info, _FORMAT, image_seeds.acms, most=16 * KIB),
    Target("acm_platform", _platform, (ValueError,), image_seeds.platforms),
    Target(
        "mle",
        _mle,
        _FORMAT,
        image_seeds.tboots,
        # What is zeros in memory is not in the file.
        base=4 * LOADED_LIMIT,
        names_place=False,
    ),
    Target(
        "slaunch_mle",
        _xen_mle,
        _FORMAT,
        image_seeds.xens,
        base=4 * IMAGE_LIMIT,
        names_place=False,
    ),
    Target(
        "xen_entry",
        entry_bytes,
        _FORMAT,
        image_seeds.xen_efis,
        base=4 * IMAGE_LIMIT,
        names_place=False,
    ),
    Target("skl", _skl, _FORMAT, image_seeds.loaders, names_place=False),
    Target("build_id", _build_id, (), image_seeds.build_ids),
    Target("versions", _versions, (), image_seeds.banners, most=16 * KIB),
    Target(
        "xen_config", _xen_config, (FormatError, BootFileError), image_seeds.xen_configs
    ),
    Target(
        "luks1",
        lambda data: _luks(luks1_device(data)),
        _FORMAT,
        image_seeds.luks1_heads,
        most=KIB,
        base=12 * MIB,
        names_place=False,
    ),
    Target(
        "luks2",
        lambda data: _luks(luks2_device(data)),
        _FORMAT,
        image_seeds.luks2_areas,
        most=LUKS2_AREA,
        names_place=False,
    ),
    Target("luks_device", _luks, _FORMAT, image_seeds.luks_devices, most=128 * KIB),
    Target("tboot_policy", _policy, _FORMAT, image_seeds.policies),
    Target(
        "boot_file",
        _boot_file,
        (),
        image_seeds.boot_files,
        base=4 * IMAGE_LIMIT,
        seconds=6,
    ),
)

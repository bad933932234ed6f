# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's and tboot's own word for their release."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unpacked import package_version, unpacked

from aemseal.formats.versions import TbootVersion, XenVersion

GCC = b"x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0"


def xen_says(image: bytes, chunk: int = 1 << 20) -> str | None:
    scanner = XenVersion()
    for at in range(0, len(image), chunk):
        scanner.feed(image[at : at + chunk])
    return scanner.finish()


def tboot_says(image: bytes, chunk: int = 1 << 20) -> str | None:
    scanner = TbootVersion()
    for at in range(0, len(image), chunk):
        scanner.feed(image[at : at + chunk])
    return scanner.finish()


def strings(*texts: bytes) -> bytes:
    """Texts as a compiler lays them out: each ends in a NUL, some padded with more."""
    return b"\x7fELF" + bytes(3000) + b"\0\0\0".join(texts) + bytes(3000)


def debian_xen(
    package: bytes = b"4.17.5+72-g01140da4e8-1",
    compiler: bytes = GCC,
    extra: bytes = b".5",
) -> bytes:
    return strings(
        *(b"Sat Nov 29 13:52:25 UTC 2025", b"13:52:25", b"Debian"),
        *(b"lists.alioth.debian.org", package, compiler, extra, b"<denied>", b"GNU"),
    )


def vanilla_xen(
    banner: bytes = b" Xen 4.17.5\n", extra: bytes = b".5", host: bytes = b"[unknown]"
) -> bytes:
    return strings(
        *(b"Fri Aug 22 16:12:56 CEST 2025", b"16:12:56", b"mockbuild", b"", host),
        *(b"gcc (GCC) 12.3.1 20230508 (Red Hat 12.3.1-1)", extra, b"", banner),
        *(b"<denied>", b"debug=n"),
    )


class TestXen:
    def test_of_debian_is_the_package_version(self) -> None:
        assert xen_says(debian_xen()) == "4.17.5+72-g01140da4e8-1"
        clang = debian_xen(compiler=b"Debian clang version 14.0.6")
        assert xen_says(clang) == "4.17.5+72-g01140da4e8-1"

    def test_of_qubes_and_vanilla_is_the_banner(self) -> None:
        assert xen_says(vanilla_xen()) == "4.17.5"
        assert xen_says(vanilla_xen(b"Xen 4.19.0-rc2\n", b".0-rc2")) == "4.19.0-rc2"

    def test_a_picture_for_a_banner_tells_nothing(self) -> None:
        picture = b"__  __            _  _    _\n\\ \\/ /___ _ __   | || |  / |\n"
        assert xen_says(vanilla_xen(picture)) is None

    @pytest.mark.parametrize(
        "image",
        [
            debian_xen(extra=b".6"),
            debian_xen(extra=b"5"),
            debian_xen(compiler=b"icc"),
            debian_xen(package=b"Debian"),
            debian_xen(package=b"4.17.5 with a space"),
            vanilla_xen(b" Xen four\n"),
            vanilla_xen(b" Xen 4.17.5"),
            vanilla_xen(b"not Xen 4.17.5\n"),
            vanilla_xen(b"picture\n", host=b"10.137.0.5"),
            strings(b"<denied>"),
            b"<denied>",
            b"",
        ],
    )
    def test_is_none_rather_than_a_guess(self, image: bytes) -> None:
        assert xen_says(image) is None

    def test_two_that_differ_tell_nothing(self) -> None:
        assert xen_says(vanilla_xen() + vanilla_xen()) == "4.17.5"
        other = vanilla_xen(b" Xen 4.17.6\n")
        assert xen_says(vanilla_xen() + other) is None
        assert xen_says(vanilla_xen() + other, 4000) is None
        assert xen_says(debian_xen() + vanilla_xen(), 7) is None
        assert xen_says(vanilla_xen() + debian_xen(), 7) is None
        assert xen_says(vanilla_xen() + debian_xen()) is None

    def test_an_image_full_of_marks_is_given_up(self) -> None:
        marks = strings(*[b"<denied>"] * 17)
        assert xen_says(marks + debian_xen()) is None


class TestTboot:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            (b"2022-03-04 12:00 +0100 1.10.5", "1.10.5"),
            (b"2016-05-18 12:00 -0800 1.9.4", "1.9.4"),
            (b"2012-01-15 12:00 +0800 1.7", "1.7"),
            (b"2024-03-04 12:00 +0100 1.11.10\n", "1.11.10"),
            (b"v1.10.0 2021-05-10 12:00 +0200 628:abcdef012345", None),
            (b"2021-05-10 12:00 +0200 628:abcdef012345", None),
            (b"built 2022-03-04 12:00 +0100 1.10.5", None),
            (b"2022-03-04 12:00 +0100 1.10.5-4", None),
            (b"unavailable", None),
        ],
    )
    def test_is_its_changeset_when_that_is_a_release(
        self, text: bytes, version: str | None
    ) -> None:
        image = strings(b"<4>\t ap_wake_trigger: %u\n", text, b"<3>   %s\n")
        assert tboot_says(image) == version

    def test_two_that_differ_tell_nothing(self) -> None:
        one = strings(b"2022-03-04 12:00 +0100 1.10.5")
        other = strings(b"2021-03-04 12:00 +0100 1.10.4")
        assert tboot_says(one + other) is None


@given(st.integers(1, 300))
def test_the_size_of_the_chunks_does_not_matter(chunk: int) -> None:
    assert xen_says(debian_xen(), chunk) == "4.17.5+72-g01140da4e8-1"
    assert xen_says(vanilla_xen(), chunk) == "4.17.5"
    image = strings(b"x", b"2022-03-04 12:00 +0100 1.10.5", b"y")
    assert tboot_says(image, chunk) == "1.10.5"


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_bytes_give_an_answer(chunks: list[bytes]) -> None:
    xen, tboot = XenVersion(), TbootVersion()
    for chunk in chunks:
        xen.feed(chunk)
        tboot.feed(chunk)
    assert xen.finish() is None
    assert tboot.finish() is None


@pytest.mark.sim
class TestRealImages:
    def test_tboot_of_debian(self) -> None:
        image = gzip.decompress(unpacked("tboot").read_bytes())
        assert tboot_says(image) == package_version("tboot").partition("-")[0]
        assert xen_says(image) is None

    @pytest.mark.parametrize("which", ["xen_old", "xen_new"])
    def test_xen_of_debian(self, which: str) -> None:
        image = gzip.decompress(unpacked(which).read_bytes())
        assert xen_says(image) == package_version(which.replace("_", "-"))
        assert tboot_says(image) is None

# SPDX-License-Identifier: GPL-2.0-or-later
"""xen.efi's configuration, read as Xen reads it, because its strings are hashed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.xen_config import (
    CHAIN_LIMIT,
    CONFIG_LIMIT,
    XenBoot,
    XenFile,
    read_boot,
)
from aemseal.words.errors import BootFileError, EvidenceError, FormatError

AEM = b"""\
    [vmlinuz-6.6.48]
    options=placeholder console=none dom0_mem=min:1024M no-real-mode edd=off
    kernel=aem-vmlinuz-6.6.48 placeholder root=/dev/mapper/q ro aem.uuid=1-2
    ramdisk=aem-initramfs-6.6.48.img
    [vmlinuz-6.1.62]
    options=placeholder old no-real-mode edd=off
    kernel=aem-vmlinuz-6.1.62 placeholder old
    ramdisk=aem-initramfs-6.1.62.img
"""
"""As 19_linux_xen_trenchboot of Anti Evil Maid 4.2.1 writes it."""


def boot(config: bytes, options: bytes = b"xen s", **more: bytes) -> XenBoot:
    """What xen.efi loads by this configuration, and by others in its folder."""
    files = {"xen.cfg": config, **{f"{name}.cfg": text for name, text in more.items()}}
    return read_boot("xen.efi", options, files.get)


def kernel_string(config: bytes, options: bytes = b"xen s") -> bytes:
    return boot(config, options).modules["kernel"].string


def refusal(config: bytes, options: bytes = b"xen s", **more: bytes) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        boot(config, options, **more)
    return caught.value


class TestAntiEvilMaid:
    def test_strings_are_whole_values(self) -> None:
        found = read_boot(
            "xen-4.17.5.efi", b"vmlinuz-6.6.48", {"xen-4.17.5.cfg": AEM}.get
        )
        assert found.modules == {
            "kernel": XenFile(
                "aem-vmlinuz-6.6.48",
                b"aem-vmlinuz-6.6.48 placeholder root=/dev/mapper/q ro aem.uuid=1-2",
            ),
            "ramdisk": XenFile("aem-initramfs-6.6.48.img", b"aem-initramfs-6.6.48.img"),
        }
        options = b"placeholder console=none dom0_mem=min:1024M no-real-mode edd=off"
        assert found.options == options
        assert found.named_options == b"vmlinuz-6.6.48 " + options
        assert found.configs == ("xen-4.17.5.cfg",)

    def test_the_first_section_boots_whatever_chainloader_names(self) -> None:
        """GRUB hands over one word, and Xen takes the first for its own name."""
        first, other = (
            boot(AEM, word) for word in (b"vmlinuz-6.6.48", b"vmlinuz-6.1.62")
        )
        assert first.modules == other.modules
        assert first.image_name != other.image_name
        assert boot(AEM, b"x vmlinuz-6.1.62").options.startswith(b"placeholder old")


class TestSections:
    @pytest.mark.parametrize(
        ("config", "options"),
        [
            (b"[a]\nkernel=no\n[s]\nkernel=k\n", b"xen s"),
            (b"[s]\nkernel=k\n[s]\nkernel=no\n", b"xen s"),
            (b"[s]\nkernel=k\nkernel=no\n", b"xen s"),
            (b"[s]more\nkernel=k\n", b"xen s"),
            (b"kernel=no\n[s]\nkernel=k\n", b"xen s"),
            (b"kernel=k\n[s]\nkernel=no\n", b"xen"),
            (b"[a]\n[b]\nkernel=k\n", b""),
            (b"[global]\ndefault=s\n[a]\nkernel=no\n[s]\nkernel=k\n", b""),
            (b"[global]\ndefault=\n[a]\nkernel=k\n", b""),
            (b"[a]\nkernel=k\n[s]\nkernel=no\n[global]\ndefault=a\n", b"xen"),
            (b"[a]\nkernel=no\n[s]\nkernel=k\n[global]\ndefault=a\n", b"xen s"),
            (b"[a]\nkernel=no\n[s]\nkernel=k\n", b"xen a -basevideo /mapbs -x s"),
            (b"[s ]\nkernel=k\n[global]\ndefault=s \n", b""),
        ],
    )
    def test_the_kernel_is_that_of_xen(self, config: bytes, options: bytes) -> None:
        assert kernel_string(config, options) == b"k"

    @pytest.mark.parametrize(
        "config",
        [
            b"[s]\n[s]\nkernel=k\n",
            b"[S]\nkernel=k\n",
            b"[sx]\nkernel=k\n",
            b"s]\nkernel=k\n",
            b"[s]\nkernel =k\n",
            b"[s]\nxkernel=k\n",
            b"[s]\nkernel\n",
            b"[s]\n[a]\nkernel=k\n",
            b"",
        ],
    )
    def test_what_names_no_kernel_is_refused(self, config: bytes) -> None:
        assert "xen.cfg names no kernel" in refusal(config).message


class TestLines:
    @pytest.mark.parametrize(
        ("line", "string"),
        [
            (b"  kernel=k a=1  b ", b"k a=1  b "),
            (b"kernel=   k", b"k"),
            (b"kernel=k ", b"k"),
            (b"kernel=k  two", b"k  two"),
            (b"kernel=k a#b", b"k a"),
            (b"kernel=k a;b # c", b"k a;b "),
            (b"kernel=k a\tkernel=x", b"k a"),
            (b"kernel=k a\0kernel=x", b"k a"),
            (b"kernel=k a\r", b"k a"),
            (b"kernel=k \xff\x80", b"k \xff\x80"),
            (b";kernel=no\n  ; kernel=no\n #kernel=no\nkernel=k", b"k"),
            (b"a=#\tkernel=k", b"k"),
        ],
    )
    def test_end_and_are_commented_out_as_in_xen(
        self, line: bytes, string: bytes
    ) -> None:
        assert kernel_string(b"[s]\n" + line + b"\n") == string

    def test_a_last_line_without_an_end_is_refused(self) -> None:
        error = refusal(b"[s]\nkernel=k")
        assert isinstance(error, FormatError)
        assert (error.offset, "last line is not ended" in error.message) == (12, True)

    def test_a_byte_that_may_be_a_space_is_refused_where_it_is(self) -> None:
        error = refusal(b"[s]\nkernel=k\xa0x\n")
        assert isinstance(error, FormatError)
        assert error.offset == 12

    def test_a_file_above_the_limit_is_refused(self) -> None:
        text = b"[s]\nkernel=k\n"
        assert kernel_string(text.ljust(CONFIG_LIMIT, b"\n")) == b"k"
        error = refusal(text.ljust(CONFIG_LIMIT + 1, b"\n"))
        assert isinstance(error, FormatError)
        assert error.offset == CONFIG_LIMIT


class TestModules:
    def test_are_loaded_in_the_order_of_xen(self) -> None:
        found = boot(
            b"[s]\nucode=u.bin more\nxsm=x.bin\nramdisk=r d.img\nkernel=k\n"
        ).modules
        assert [(key, file.name) for key, file in found.items()] == [
            ("kernel", "k"),
            ("ramdisk", "r d.img"),
            ("xsm", "x.bin"),
            ("ucode", "u.bin"),
        ]
        assert found["ucode"].string == b"u.bin"
        assert found["ramdisk"].string == b"r d.img"

    def test_microcode_may_be_named_for_all_sections(self) -> None:
        config = b"[global]\nucode=all\nxsm=no\n[s]\nkernel=k\n"
        assert list(boot(config).modules) == ["kernel", "ucode"]
        assert boot(config + b"ucode=own\n").modules["ucode"].name == "own"

    def test_the_kernels_options_are_a_line_for_what_is_looked_up_later(self) -> None:
        config = b"[s]\nkernel=k ramdisk=r options=no\nramdisk=other\noptions=o\n"
        found = boot(config)
        assert found.modules["kernel"].string == b"k ramdisk=r options=no"
        assert found.modules["ramdisk"].name == "r options=no"
        assert found.options == b"o"

    @pytest.mark.parametrize(
        "name", [b"", b"\\EFI\\k", b"../k", b"a/k", b"C:k", b".", b"k.", b"k\xc3\xa4"]
    )
    @pytest.mark.parametrize("key", [b"kernel", b"ramdisk"])
    def test_a_file_that_is_not_plainly_beside_xen_is_refused(
        self, key: bytes, name: bytes
    ) -> None:
        config = b"[s]\n%s=%s\nkernel=k\n" % (key, name)
        error = refusal(config)
        assert isinstance(error, FormatError)
        assert error.offset == 4
        assert "is no plain name of a file beside xen.efi" in error.message


class TestCommandLine:
    @pytest.mark.parametrize(
        ("config", "options", "plain", "named"),
        [
            (b"options=a b \n", b"xen s", b"a b ", b"xen a b "),
            (b"options=a\n", b"xen s -- c  d", b"a c  d", b"xen a c  d"),
            (b"options=a\n", b"xen s --", b"a", b"xen a"),
            (b"", b"xen s -- c", b"c", b"xen c"),
            (b"options=\n", b"xen s -- c", b"", b"xen"),
            (b"", b"/EFI/xen.efi s", b"", b"/EFI/xen.efi"),
        ],
    )
    def test_is_configured_options_and_then_those_behind_two_dashes(
        self, config: bytes, options: bytes, plain: bytes, named: bytes
    ) -> None:
        found = boot(b"[s]\n" + config + b"kernel=k\n", options)
        assert (found.options, found.named_options) == (plain, named)

    def test_without_load_options_the_image_is_named_xen(self) -> None:
        assert boot(b"kernel=k\noptions=a\n", b"").named_options == b"xen a"

    @pytest.mark.parametrize(
        ("options", "offset"),
        [(b"xen \xc3\xa4", 4), (b"xen\n", 3), (b"x\x7f", 1), (b"-- s", 0)],
    )
    def test_load_options_that_xen_may_not_convert_are_refused(
        self, options: bytes, offset: int
    ) -> None:
        error = refusal(b"kernel=k\n", options)
        assert isinstance(error, FormatError)
        assert error.offset == offset

    @pytest.mark.parametrize("word", [b"-help", b"/?"])
    def test_a_call_for_help_boots_nothing(self, word: bytes) -> None:
        assert "help" in refusal(b"kernel=k\n", b"xen " + word).message


class TestWhichFile:
    @pytest.mark.parametrize(
        ("image", "tried"),
        [
            (
                "xen-4.17_5.efi",
                ["xen-4.17_5.cfg", "xen-4.17.cfg", "xen-4.cfg", "xen.cfg"],
            ),
            ("xen.efi", ["xen.cfg"]),
            (".efi", [".cfg"]),
        ],
    )
    def test_is_named_after_xen_cut_at_each_mark(
        self, image: str, tried: list[str]
    ) -> None:
        asked: list[str] = []
        with pytest.raises(BootFileError, match="no configuration"):
            read_boot(image, b"", asked.append)
        assert asked == tried
        files = {tried[-1]: b"kernel=k\n"}
        assert read_boot(image, b"", files.get).configs == (tried[-1],)

    def test_xen_without_a_mark_in_its_name_finds_none(self) -> None:
        with pytest.raises(BootFileError, match="no name fits"):
            read_boot("xen", b"", {"xen.cfg": b"kernel=k\n"}.get)

    @pytest.mark.parametrize(
        "words", [b"-cfg=b.cfg", b"/cfg b.cfg", b"-cfg=a -cfg=b.cfg"]
    )
    def test_may_be_named_in_the_load_options(self, words: bytes) -> None:
        found = boot(b"kernel=no\n", b"xen " + words, b=b"kernel=k\n")
        assert (found.configs, found.modules["kernel"].name) == (("b.cfg",), "k")

    def test_that_is_named_and_missing_or_no_name_is_refused(self) -> None:
        assert "c.cfg" in refusal(b"kernel=k\n", b"xen -cfg=c.cfg").message
        assert "no plain name" in refusal(b"kernel=k\n", b"xen -cfg=\\c.cfg").message
        assert "no plain name" in refusal(b"kernel=k\n", b"xen -cfg").message


class TestChain:
    def test_leads_to_another_file_when_the_section_has_no_kernel(self) -> None:
        config = b"[global]\nchain=b.cfg\n[s]\noptions=no\n"
        found = boot(config, b=b"[s]\nkernel=k\noptions=o\n")
        assert found.configs == ("xen.cfg", "b.cfg")
        assert (found.modules["kernel"].name, found.options) == ("k", b"o")
        assert boot(config + b"kernel=here\n").configs == ("xen.cfg",)

    def test_without_any_section_it_is_followed_as_well(self) -> None:
        found = boot(b"[global]\nchain=b.cfg\n", b"", b=b"[x]\nkernel=k\n")
        assert found.modules["kernel"].name == "k"

    def test_with_the_default_section_is_refused_where_it_stands(self) -> None:
        """Xen keeps the section's name in memory that it has given back."""
        error = refusal(
            b"[global]\ndefault=s\nchain=b.cfg\n", b"", b=b"[s]\nkernel=k\n"
        )
        assert isinstance(error, FormatError)
        assert error.offset == 19
        assert error.hint is not None

    def test_to_a_missing_file_or_in_a_circle_is_refused(self) -> None:
        assert "b.cfg" in refusal(b"[global]\nchain=b.cfg\n").message
        error = refusal(b"[global]\nchain=xen.cfg\n")
        assert f"the end of {CHAIN_LIMIT + 1} by chain=" in error.message


@given(
    st.lists(
        st.sampled_from(
            [b"[s]", b"[global]", b"kernel=k x", b"chain=xen.cfg", b"default=s", b"#"]
        )
        | st.binary(max_size=12)
    ).map(b"\n".join),
    st.binary(max_size=16),
)
def test_any_bytes_raise_evidence_errors_only(config: bytes, options: bytes) -> None:
    try:
        found = boot(config + b"\n", options)
    except EvidenceError:
        return
    assert found.modules["kernel"].string.startswith(
        found.modules["kernel"].name.encode()
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Random boot directories, and random updates of them, for hypothesis.

A directory is a grub.cfg with its grubenv and the files that its entries load. Paths
come from a small pool, so that an update overwrites what the running boot was made of.

Left out is what the predictor refuses by rule, each with a test of its own elsewhere:
``\\xHH`` in an argument (no "x" is drawn at all), unquoted patterns, a second packing,
more than 511 bytes for tboot. Control characters are left out because the simulated
GRUB cannot show them.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hypothesis import strategies as st
from tpm_sim.cache import Cache

TBOOT = "/tboot.gz"
PATHS = (
    "/xen.gz",
    "/vmlinuz",
    "/initramfs.img",
    "/ucode.bin",
    "/sinit.bin",
    "/policy.data",
    "/extra.bin",
)
_USUAL = PATHS[:3]

# What GRUB's file layer makes of a file's bytes


def gzipped(
    content: bytes,
    level: int = 6,
    name: bytes = b"",
    extra: bytes = b"",
    comment: bytes = b"",
) -> bytes:
    """Pack by RFC 1952, with the header's optional fields."""
    flags = (4 if extra else 0) | (8 if name else 0) | (16 if comment else 0)
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join(
        (
            struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 1700000000, 0, 3),
            struct.pack("<H", len(extra)) + extra if extra else b"",
            name + b"\0" if name else b"",
            comment + b"\0" if comment else b"",
            packer.compress(content) + packer.flush(),
            struct.pack("<II", zlib.crc32(content), len(content)),
        )
    )


_XZ_CHECKS = (
    lzma.CHECK_NONE,
    lzma.CHECK_CRC32,
    lzma.CHECK_CRC64,
    lzma.CHECK_SHA256,
)


def _xz(content: bytes, check: int, level: int, x86: bool) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level}]
    if x86:
        filters.insert(0, {"id": lzma.FILTER_X86})
    return lzma.compress(content, lzma.FORMAT_XZ, check, filters=filters)


_header_texts = st.sampled_from((b"", b"xen", b"a longer name.img"))


def _packed(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        contents,
        st.builds(
            gzipped,
            contents,
            st.integers(0, 9),
            _header_texts,
            st.binary(max_size=9),
            _header_texts,
        ),
        st.builds(_xz, contents, st.sampled_from(_XZ_CHECKS), st.integers(0, 6),
                  st.booleans()),
    )  # fmt: skip


def acm(
    size: int = 0x1000,
    scratch: int = 143,
    padding: int = 0,
    kind: int = 2,
    vendor: int = 0x8086,
    table: tuple[int, int] = (1, 5),
) -> bytes:
    """Build what tboot takes for a SINIT module: header 0.0, table behind the scratch.

    `table` is its ACM type and version. Any other value makes a look-alike of it.
    """
    module = bytearray(size)
    struct.pack_into("<HHIIIII", module, 0, kind, 0, 161, 0, 0, vendor, 0x20190101)
    struct.pack_into("<I", module, 24, size // 4)
    struct.pack_into("<I", module, 124, scratch)
    uuid = bytes.fromhex("aa3ac07fa746db182eac698f8d417f5a")
    at = (161 + scratch) * 4
    module[at : at + 20] = uuid + struct.pack("<BBH", *table, 48)
    return bytes(module) + bytes(padding)


ACMS = (
    acm(),
    acm(size=0x1400, table=(1, 3)),
    acm(padding=0x10000),
)
ACM_LOOK_ALIKES = (
    acm(kind=1),
    acm(vendor=0x8087),
    acm(table=(0, 5)),
    acm(table=(1, 2)),
    acm(padding=4),
)

LCP_V1 = bytes.fromhex("25190dabe7eeeb48fca90bac5a262d0e")
LCP_V2 = b"Intel(R) TXT LCP_POLICY_DATA\0\0\0\0"

MICROCODE = (
    b"070701" + b"0" * 88 + b"0000003800000000kernel/x86/microcode/GenuineIntel.bin\0"
) + bytes(range(256))

_elf = st.binary(max_size=64).map(lambda tail: b"\x7fELF\1\1\1" + bytes(45) + tail)
_bz_image = st.binary(max_size=64).map(
    lambda tail: b"MZ" + bytes(0x200) + b"HdrS" + tail
)
_contents = st.one_of(
    st.binary(max_size=200),
    _elf,
    _bz_image,
    st.binary(min_size=1, max_size=8).map(lambda seed: seed * 9000),
)
_policy_data = st.builds(
    lambda mark, tail: mark + tail,
    st.sampled_from((LCP_V1, LCP_V2)),
    st.binary(max_size=30),
)
_odd_beginnings = st.sampled_from(
    (
        b"\x1f\x8b",
        b"\x1f\x8b\x07\x00",
        b"\x1f\x8b\x08\x02",
        b"\x1f\x8b\x08\x80",
        b"\x1f\x9e\x07",
        b"\xfd7zXZ",
        b"\xfd7zXZ\x00",
        b"\x89LZO\x00",
        b"BZh9",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"\x5d\x00\x00\x80",
        b"070701",
    )
)


def _oddly_begun(start: bytes, tail: bytes) -> bytes:
    """Keep an .xz magic too short for a header: GRUB then sees no archive."""
    return start + (tail[:5] if start.startswith(b"\xfd7zXZ\0") else tail)


images = st.one_of(
    _packed(_contents),
    _packed(st.sampled_from(ACMS)),
    _packed(st.sampled_from(ACM_LOOK_ALIKES)),
    _packed(_policy_data),
    _packed(st.just(MICROCODE)),
    st.just(b""),
    st.builds(_oddly_begun, _odd_beginnings, st.binary(max_size=40)),
    _contents.map(gzipped).map(gzipped),
)
"""Files as they lie in /boot."""

_typical_images: Mapping[str, st.SearchStrategy[bytes]] = {
    "/xen.gz": _elf.map(gzipped),
    "/vmlinuz": _bz_image,
    "/initramfs.img": st.binary(max_size=64).map(
        lambda tail: MICROCODE + gzipped(tail)
    ),
    "/ucode.bin": st.just(MICROCODE),
    "/sinit.bin": st.sampled_from(ACMS),
    "/policy.data": _policy_data,
    "/extra.bin": st.binary(max_size=64),
}  # fmt: skip


# tboot

_MLE_END = 0x4D000
_CHANGED_AT = 0x9000
"""In the code of the MLE, behind the area for the command line."""


@cache
def whole_tboot() -> bytes:
    return gzip.decompress(Cache.default().tboot.read_bytes())


@cache
def cut_tboot() -> bytes:
    """Return tboot without what no one measures: 29 MiB of zeros behind the MLE.

    Its one segment ends where the MLE does, so that hashing takes no time.
    """
    image = bytearray(whole_tboot())
    (segment,) = struct.unpack_from("<I", image, 52 + 4)
    struct.pack_into("<II", image, 52 + 16, _MLE_END, _MLE_END)
    return bytes(image[: segment + _MLE_END])


def another_tboot(build: int) -> bytes:
    """Return tboot with other code; build 0 is the one of the distribution."""
    image = bytearray(cut_tboot())
    if build:
        struct.pack_into("<I", image, 0x1000 + _CHANGED_AT, build)
    return bytes(image)


tboots = st.builds(
    lambda build, pack: pack(another_tboot(build)),
    st.integers(0, 3),
    st.sampled_from((bytes, gzipped, lambda plain: gzipped(plain, 1, b"tboot"))),
)


def _images_of(path: str) -> st.SearchStrategy[bytes]:
    return tboots if path == TBOOT else st.one_of(_typical_images[path], images)


# Command lines, as text of grub.cfg

_LETTERS = "abcdefgnrtuvwyz"
_PUNCTUATION = "0123456789_.,:=/+@%^~!-[]"
_FOREIGN = "éß漢🂡\u00a0"
_QUOTABLE = _LETTERS + _FOREIGN + " #;|&<>(){}*?"

VARIABLES = ("args", "rm_opts", "nothing", "Empty_1")
"""Names that entries use; which of them are set is drawn, too."""

_plain = st.text(_LETTERS + _PUNCTUATION + _FOREIGN, min_size=1, max_size=8)
_single_quoted = st.text(_QUOTABLE + '"\\$', max_size=8).map("'{}'".format)
_names = st.sampled_from(VARIABLES)
_variables = st.one_of(
    _names.map("${}".format),
    _names.map("${{{}}}".format),
    _names.map('"${}"'.format),
    _names.map('"a ${{{}}} b"'.format),
)
_in_double = st.one_of(
    st.text(_QUOTABLE + "'", max_size=6),
    st.sampled_from(('\\"', "\\\\", "\\$", "\\n")),
    _names.map("${{{}}}".format),
)
_double_quoted = st.lists(_in_double, max_size=4).map(
    lambda parts: '"' + "".join(parts) + '"'
)
_escaped = st.sampled_from(" \"'\\$#;{}|&<>éa").map("\\{}".format)
_pieces = st.one_of(_plain, _single_quoted, _double_quoted, _variables, _escaped)
_words = st.one_of(
    _plain,
    _pieces,
    st.sampled_from(('""', "''", '"" ""', "placeholder", "--nounzip", "a=b*c", "--")),
    st.lists(_pieces, min_size=2, max_size=3).map("".join),
)
_gaps = st.sampled_from((" ", " ", " ", "  ", "\t", " \\\n\t"))
_some_words = st.lists(st.tuples(_gaps, _words), max_size=6).map(
    lambda pairs: "".join(gap + word for gap, word in pairs)
)
_long = st.builds(
    lambda word, times: f" {word}" * times,
    st.sampled_from(("dom0_mem=min:1024M", "'a b'", '""')),
    st.integers(20, 300),
)

module_words = st.one_of(_some_words, _some_words, _long, st.just(""))
tboot_words = st.one_of(
    _some_words, st.integers(1, 40).map(lambda times: " loglvl=all" * times)
)
"""Short enough for the 511 bytes of tboot, with all variables expanded."""

_values = st.one_of(
    st.just("''"),
    st.sampled_from(("no-real-mode\\ edd=off", "'  a  b '", "é", "a\\'b", '"a\\"b"')),
    st.text(_LETTERS + " ", max_size=8).map("'{}'".format),
)

# The menu


@dataclass(frozen=True)
class Module:
    """A line that loads a module."""

    path: str
    words: str
    nounzip: bool = False


@dataclass(frozen=True)
class Entry:
    """A menu entry that boots by tboot."""

    tboot_words: str
    modules: tuple[Module, ...]


@dataclass(frozen=True)
class Menu:
    """How grub.cfg is laid out: where the entry that boots stands, how it is chosen.

    `place` is the number of entries before it that boot something else; in a submenu
    when `submenu`, which then is an entry itself. `choice` is how the default names
    it, `through` the variable that carries this.
    """

    title: str
    place: int = 0
    submenu: bool = False
    choice: str = "number"
    through: str = "default"
    loaders: tuple[str, str] = ("multiboot2", "module2")
    prefix: str = ""


@dataclass(frozen=True)
class Directory:
    """A boot directory. `files` are by GRUB's path; `other` is a second entry."""

    files: Mapping[str, bytes]
    entry: Entry
    other: Entry | None
    variables: Mapping[str, str]
    menu: Menu

    @property
    def grub_cfg(self) -> str:
        """The text of grub.cfg."""
        variables = [f"set {name}={text}" for name, text in self.variables.items()]
        exports = [f"export {name}" for name in self.variables]
        return "\n".join(
            (_HEADER, *variables, *exports, self._default(), self._menu(), "")
        )

    @property
    def grubenv(self) -> dict[bytes, bytes]:
        """The variables of grubenv."""
        values = {b"unrelated": b"1"}
        if self.menu.through != "default":
            values[self.menu.through.encode()] = self._choice().encode()
        if self.menu.through == "next_entry":
            values[b"saved_entry"] = b"plain-0"
        return values

    @property
    def used_files(self) -> dict[str, bytes]:
        """The files that some entry loads."""
        return {path: self.files[path] for path in sorted(self.used_paths)}

    @property
    def entry_paths(self) -> set[str]:
        """The files of the entry that boots."""
        return {TBOOT, *(module.path for module in self.entry.modules)}

    @property
    def used_paths(self) -> set[str]:
        """The files of all entries."""
        others = self.other.modules if self.other else ()
        return self.entry_paths | {module.path for module in others}

    def with_module(self, number: int, **changes: Any) -> Directory:
        """Return this directory with a module of the entry that boots changed."""
        modules = list(self.entry.modules)
        modules[number] = replace(modules[number], **changes)
        return self.with_modules(modules)

    def with_modules(self, modules: Sequence[Module]) -> Directory:
        """Return this directory with other modules in the entry that boots."""
        return replace(self, entry=replace(self.entry, modules=tuple(modules)))

    def _choice(self) -> str:
        menu = self.menu
        title = menu.title.replace(">", ">>")
        if not menu.submenu:
            return {"number": str(menu.place), "id": "aem", "title": title}[menu.choice]
        return {
            "number": f"{menu.place}>1",
            "id": "more>aem",
            "title": f"More than one>{title}",
        }[menu.choice]

    def _default(self) -> str:
        if self.menu.through == "default":
            return f'set default="{self._choice()}"'
        return _SAVED_DEFAULT

    def _menu(self) -> str:
        menu = self.menu
        entry = self._entry(menu.title, "aem", self.entry)
        if menu.submenu:
            first = _PLAIN_ENTRY.format("inner")
            entry = f"submenu 'More than one' --id more {{\n{first}\n{entry}\n}}"
        entries = [_PLAIN_ENTRY.format(number) for number in range(menu.place)]
        entries.append(entry)
        if self.other:
            entries.append(self._entry("Another one", "another", self.other))
        return "\n".join(entries)

    def _entry(self, title: str, ident: str, entry: Entry) -> str:
        loader, module = self.menu.loaders
        prefix = self.menu.prefix
        lines = [f"\t{loader} {prefix}{TBOOT}{entry.tboot_words}"]
        for each in entry.modules:
            nounzip = "--nounzip " if each.nounzip else ""
            lines.append(f"\t{module} {nounzip}{prefix}{each.path}{each.words}")
        text = "\n".join(lines)
        return (
            f'menuentry "{title}" --class xen $menuentry_id_option "{ident}" {{\n'
            f"\tsearch --no-floppy --fs-uuid --set=root 1234-ABCD\n{text}\n}}"
        )

    def __repr__(self) -> str:
        """Show what a person needs to see of a failure."""
        files = "".join(
            f"{path}: {len(content)} bytes, {content[:48].hex()}\n"
            for path, content in self.used_files.items()
        )
        return f"\n{self.grub_cfg}\n{self.grubenv}\n{files}"


_HEADER = """\
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
set timeout=5
# A comment's "quotes and $things do not count"
"""
_SAVED_DEFAULT = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi"""
_PLAIN_ENTRY = (
    "menuentry 'Plain {0}' --id plain-{0} {{\n\tlinux /vmlinuz root=/dev/sda\n}}"
)

_modules = st.builds(
    Module, st.sampled_from(PATHS), module_words, st.sampled_from((False, False, True))
)


_usual_modules = st.tuples(
    *(st.builds(Module, st.just(path), module_words) for path in _USUAL)
).map(list)
_module_lists = st.one_of(
    st.builds(list.__add__, _usual_modules, st.lists(_modules, max_size=3)),
    st.lists(_modules, min_size=1, max_size=6),
)
_entries = st.builds(Entry, tboot_words, _module_lists.map(tuple))

_variable_sets = st.dictionaries(_names, _values, max_size=3)
_menus = st.builds(
    Menu,
    title=st.text("AEMbcd >é'-", max_size=12).map("AEM{}".format),
    place=st.integers(0, 2),
    submenu=st.booleans(),
    choice=st.sampled_from(("number", "id", "title")),
    through=st.sampled_from(("default", "saved_entry", "next_entry")),
    loaders=st.sampled_from((("multiboot2", "module2"), ("multiboot", "module"))),
    prefix=st.sampled_from(("", "", "/boot", "($root)")),
)


@st.composite
def _with_files(draw: st.DrawFn, directory: Directory) -> Directory:
    """Add the files that the entries load and that are not there yet."""
    missing = sorted(directory.used_paths - directory.files.keys())
    added = {path: draw(_images_of(path)) for path in missing}
    return replace(directory, files={**directory.files, **added})


@st.composite
def _directories(draw: st.DrawFn) -> Directory:
    bare = Directory(
        files={},
        entry=draw(_entries),
        other=draw(st.one_of(st.none(), _entries)),
        variables=draw(_variable_sets),
        menu=draw(_menus),
    )
    return draw(_with_files(bare))


@st.composite
def _updates(draw: st.DrawFn, before: Directory) -> Directory:
    """Return what a directory is after an update: some of it new, the rest as before.

    Files are overwritten in place; modules get other words, another order, another
    number; the menu, the variables and tboot change or stay.
    """
    after = before
    for change in draw(st.sets(st.sampled_from(_CHANGES), min_size=1, max_size=4)):
        after = draw(change(after))
    return draw(_with_files(after))


# Composite, all of them: hypothesis shows the arguments of other strategies in full.


@st.composite
def _overwrite(draw: st.DrawFn, before: Directory) -> Directory:
    """Put another file in the place of one of the running boot's."""
    path = draw(st.sampled_from(sorted(before.entry_paths)))
    return replace(before, files={**before.files, path: draw(_images_of(path))})


@st.composite
def _change_words(draw: st.DrawFn, before: Directory) -> Directory:
    """Give a module another command line."""
    number = draw(_numbers_of(before))
    return before.with_module(number, words=draw(module_words))


@st.composite
def _toggle_nounzip(draw: st.DrawFn, before: Directory) -> Directory:
    """Load a module with --nounzip that was loaded without, or the other way round."""
    number = draw(_numbers_of(before))
    nounzip = before.entry.modules[number].nounzip
    return before.with_module(number, nounzip=not nounzip)


@st.composite
def _add_module(draw: st.DrawFn, before: Directory) -> Directory:
    """Load one file more, anywhere."""
    modules = list(before.entry.modules)
    modules.insert(draw(_numbers_of(before)) + 1, draw(_modules))
    return before.with_modules(modules)


@st.composite
def _remove_module(draw: st.DrawFn, before: Directory) -> Directory:
    """Load one file less, but not none."""
    modules = list(before.entry.modules)
    if len(modules) > 1:
        del modules[draw(_numbers_of(before))]
    return before.with_modules(modules)


@st.composite
def _reorder(draw: st.DrawFn, before: Directory) -> Directory:
    numbers = range(len(before.entry.modules))
    order = draw(st.permutations(numbers))
    return before.with_modules([before.entry.modules[number] for number in order])


@st.composite
def _change_tboot(draw: st.DrawFn, before: Directory) -> Directory:
    """Give tboot other words."""
    entry = replace(before.entry, tboot_words=draw(tboot_words))
    return replace(before, entry=entry)


@st.composite
def _change_surroundings(draw: st.DrawFn, before: Directory) -> Directory:
    """Lay the menu out anew; set other variables."""
    return replace(before, menu=draw(_menus), variables=draw(_variable_sets))


def _numbers_of(directory: Directory) -> st.SearchStrategy[int]:
    return st.integers(0, len(directory.entry.modules) - 1)


_CHANGES = (
    _overwrite,
    _change_words,
    _toggle_nounzip,
    _add_module,
    _remove_module,
    _reorder,
    _change_tboot,
    _change_surroundings,
)


@st.composite
def stories(draw: st.DrawFn) -> tuple[Directory, Directory, Directory]:
    """Return a directory, an update of it, and an update of that."""
    first = draw(_directories())
    second = draw(_updates(first))
    return first, second, draw(_updates(second))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Our evaluation and decompression, held against GRUB's own: Debian's grub-emu."""

import gzip
import hashlib
import lzma
import os
import re
from pathlib import Path

import pytest
from emulated_grub import PRELUDE, WIDEST, grub_emu, loads_in, our_loads, slow
from grub_scripts import scripts
from hypothesis import event, given, note
from hypothesis import strategies as st

from aemseal.formats.grub_config import evaluate
from aemseal.formats.grub_file import GrubReader
from aemseal.formats.grub_parser import parse
from aemseal.words.errors import GrubError

pytestmark = pytest.mark.sim


def boots(config: str) -> str:
    """Let our own evaluation end as GRUB's does: by booting what is loaded."""
    return re.sub(r"\nexit\n", "\nboot\n", config)


class TestScripts:
    @slow(200)
    @given(config=scripts())
    def test_every_script_loads_what_grub_loads(
        self, config: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        note(config)
        refusal, ours = our_loads(boots(config))
        lines = [
            line for _, words in ours for word in words for line in word.split("\n")
        ]
        if max(map(len, lines), default=0) > WIDEST:
            event("wider than GRUB's screen, which breaks the line")
            return
        if refusal:
            event("refused as a pattern, or endless in GRUB")
            assert re.search(r"may replace the pattern|more than \d+ comm", refusal)
            return
        shown = grub_emu(tmp_path_factory.getbasetemp(), PRELUDE + config)
        note(shown)
        assert ours == loads_in(shown)


WORDS_OF_SOUP = """
if then else elif fi for in do done function f { } ; a a=b echo [ ] ! case ' " $a ${a}
$ ${ $? | & < ;; menuentry 'x' [[ $"x" \\ \\$ }} {{ a{b
"""
SOUP = st.lists(
    st.sampled_from([*WORDS_OF_SOUP.split(), "\n", "\n", " ", "\\\n", "# it's"]),
    max_size=14,
).map(" ".join)
SHAPES = st.sampled_from(
    [
        "if {0}\n then {1}; fi",
        "if a; then {0}; else {1}\n fi",
        "for a in {0}; do {1}; done",
        "function f {{ {0}; }}\n{1}",
        "function f\n{{\n{0} }}\n{1}",
        "menuentry x {{ {0} }} {1}",
        "menuentry x {0} {{ {1}\n }}",
        "{0}",
        "{0}\n{1}",
        "a {0} ; {1}",
    ]
)
GRUB_COMPLAINS = "syntax error|Incorrect command|unexpected end|out of memory"


class TestSyntax:
    @slow(150)
    @given(shape=SHAPES, first=SOUP, second=SOUP)
    def test_what_grub_cannot_parse_is_refused_and_nothing_else(
        self,
        shape: str,
        first: str,
        second: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        config = re.sub(r"\n#+", "\n", shape.format(first, second)) + "\n"
        note(config)
        try:
            parse(config.encode())
            refused = False
        except GrubError as error:
            note(str(error))
            refused = True
        folder = tmp_path_factory.getbasetemp()
        shown = grub_emu(folder, config + "exit\n", until=GRUB_COMPLAINS)
        note(shown)
        event(f"refused: {refused}")
        assert refused == bool(re.search(GRUB_COMPLAINS, shown))


TITLES = st.sampled_from(["a", "b", "a b", "1", "2 x", "a>b", "c'd", "0"])
DEFAULTS = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "1>1", "0>1", "2>0>1", "01", "0x1", " 1", ""]),
    st.sampled_from(
        ["a", "b", "a b", "a>b", "a>>b", "a>>b>1", "a>1", "b>a", ">", "a>"]
    ),
    st.sampled_from(["9", "-1", "x", "b>b", "a b>0", "c'd", "1 ", "a>a>a", "0>b"]),
)
OPTIONS = ["--class c", "--class=c", "--unrestricted", "--users ''", "--hotkey a"]
NO_OPTIONS = ["-x", "--y", "-", "''", "'a  b'", 'a"\'"c', "$1", "-- --class"]
MENU_WORDS = st.sampled_from([*OPTIONS, *NO_OPTIONS])


@st.composite
def menus(draw: st.DrawFn) -> str:
    """A menu of entries and submenus, two deep, each entry with its own load."""
    count = iter(range(1000))

    def entries(depth: int) -> str:
        return "".join(entry(depth) for _ in range(draw(st.integers(1, 3))))

    def entry(depth: int) -> str:
        title = draw(TITLES).replace("'", r"'\''")
        ident = draw(st.one_of(st.just(""), TITLES.map(lambda i: f'--id "{i}"')))
        if depth < 2 and draw(st.booleans()):
            return f"submenu '{title}' {ident} {{\n{entries(depth + 1)}}}\n"
        kernel = f'multiboot2 /tboot.gz {next(count)} "$chosen" "$@"'
        words = draw(st.lists(MENU_WORDS, max_size=3).map(" ".join))
        return f"menuentry {ident} '{title}' {words} {{\n{kernel}\nexit\n}}\n"

    exported = draw(st.sampled_from(["", "export default\n"]))
    default = draw(DEFAULTS).replace("'", r"'\''")
    return f"set timeout=0\nset default='{default}'\n{exported}{entries(0)}"


class TestMenus:
    @slow(150)
    @given(config=menus())
    def test_the_default_entry_is_the_one_that_grub_boots(
        self, config: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        note(config)
        refusal, ours = our_loads(boots(config))
        if refusal:
            event("refused, for builds differ")
            assert re.search("depends on the build|the id of another", refusal)
            return
        shown = grub_emu(tmp_path_factory.getbasetemp(), PRELUDE + config)
        note(shown)
        assert ours == loads_in(shown)


BLOCKS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "next_entry", "a b"]),
        st.text("ab=#\\\n c", max_size=6),
    ),
    max_size=4,
)


class TestEnvironmentBlocks:
    @slow(40)
    @given(variables=BLOCKS, whitelist=st.sampled_from(["", "a", "b next_entry"]))
    def test_load_env_sets_what_grub_sets(
        self,
        variables: list[tuple[str, str]],
        whitelist: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        folder = tmp_path_factory.getbasetemp()
        escaped = [
            (name, re.sub(r"([\\\n])", r"\\\1", value)) for name, value in variables
        ]
        lines = "".join(f"{name}={value}\n" for name, value in escaped)
        block = f"# GRUB Environment Block\n{lines}".ljust(1024, "#").encode()
        (folder / "grubenv").write_bytes(block)
        entry = 'multiboot2 /tboot.gz "$a" "$b" "$next_entry"'
        config = (
            f"load_env {whitelist}\nset timeout=0\nmenuentry x {{\n{entry}\nexit\n}}\n"
        )
        ours = evaluate(boots(config).encode(), block).default_entry().loads
        shown = grub_emu(folder, PRELUDE + config)
        assert [("kernel", ["/tboot.gz", *ours[0].arguments])] == loads_in(shown)


CONTENT = os.urandom(2000) + bytes(30_000) + b"text " * 100


def gzip_with(flags: int, fields: bytes = b"", method: int = 8) -> bytes:
    header = b"\x1f\x8b" + bytes([method, flags]) + bytes(6)
    return header + fields + gzip.compress(CONTENT)[10:]


def xz_with(*filters: int, check: int = lzma.CHECK_CRC64) -> bytes:
    chain = [{"id": each} for each in (*filters, lzma.FILTER_LZMA2)]
    return lzma.compress(CONTENT, check=check, filters=chain)


ALIKE = {
    "plain": CONTENT,
    "empty": b"",
    "gzip": gzip.compress(CONTENT),
    "gzip of nothing": gzip.compress(b""),
    "gzip with a name": gzip_with(0x08, b"name\0"),
    "gzip with a comment": gzip_with(0x10, b"comment\0"),
    "gzip with an extra field": gzip_with(0x04, b"\3\0abc"),
    "gzip marked as text": gzip_with(0x01),
    "gzip with a header check": gzip_with(0x02, b"\0\0"),
    "gzip that is encrypted": gzip_with(0x20),
    "gzip with a reserved flag": gzip_with(0x40),
    "gzip of another method": gzip_with(0, method=7),
    "gzip in gzip": gzip.compress(gzip.compress(CONTENT)),
    "gzip of nine bytes": gzip.compress(CONTENT)[:9],
    "stored gzip": gzip.compress(CONTENT, 0),
    "xz": lzma.compress(CONTENT),
    "xz of nothing": lzma.compress(b""),
    "xz without a check": xz_with(check=lzma.CHECK_NONE),
    "xz with CRC32": xz_with(check=lzma.CHECK_CRC32),
    "xz with SHA-256": xz_with(check=lzma.CHECK_SHA256),
    "xz for x86": xz_with(lzma.FILTER_X86),
    "xz of eleven bytes": lzma.compress(CONTENT)[:11],
    "gzip in xz": lzma.compress(gzip.compress(CONTENT)),
    "early cpio before gzip": b"070701" + bytes(506) + gzip.compress(CONTENT),
}


class TestFiles:
    def test_every_file_we_read_is_what_grub_reads(self, tmp_path: Path) -> None:
        script = ""
        for number, data in enumerate(ALIKE.values()):
            (tmp_path / f"file{number}").write_bytes(data)
            name = f"(host){tmp_path}/file{number}"
            script += f"echo @\nsha256sum --uncompress {name}\n"
        shown = grub_emu(tmp_path, script + "exit\n").split("@\n")[1:]
        for name, theirs in zip(ALIKE, shown, strict=True):
            reader = GrubReader("/boot/file")
            ours = reader.feed(ALIKE[name]) + reader.finish()
            assert theirs[:64] == hashlib.sha256(ours).hexdigest(), name

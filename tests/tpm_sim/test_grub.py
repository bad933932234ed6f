# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB itself says what it loads: default entries, arguments, the environment block."""

from __future__ import annotations

from pathlib import Path

import pytest
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.grub import (
    GrubRun,
    LoadedFile,
    entry_of,
    find_config,
    loader_cmdline,
    run_grub,
    write_environment,
    write_saved,
)

THREE_ENTRIES = """
menuentry 'First' --id one { multiboot2 /one; }
menuentry 'Second' --id two { multiboot2 /two; }
submenu 'More' --id more {
  menuentry 'Third' --id three { multiboot2 /three; }
  menuentry 'Fourth' --id four { multiboot2 /four; }
}
"""


class Config:
    """A grub.cfg in a folder of its own, and what GRUB makes of it."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        self.path = folder / "boot/grub/grub.cfg"
        self.path.parent.mkdir(parents=True)
        self.cache = cache

    def run(self, text: str) -> GrubRun:
        self.path.write_text(text, encoding="utf-8")
        return run_grub(self.cache.grub_emu, self.path)

    def kernel(self, text: str) -> LoadedFile:
        entry = entry_of(self.run(text))
        assert entry is not None
        return entry.kernel

    def environment(self, **values: str) -> Path:
        block = self.path.with_name("grubenv")
        pairs = {name.encode(): value.encode() for name, value in values.items()}
        write_environment(block, pairs)
        return block


@pytest.fixture
def config(tmp_path: Path, cache: Cache) -> Config:
    return Config(tmp_path, cache)


class TestTheDefaultEntry:
    @pytest.mark.parametrize(
        ("default", "path"),
        [
            ("", "/one"),
            ("1", "/two"),
            ("Second", "/two"),
            ("two", "/two"),
            ("2>1", "/four"),
            ("More>Fourth", "/four"),
            ("more>three", "/three"),
            ("More", "/three"),
            ("7", "/one"),
            ("no such entry", "/one"),
        ],
    )
    def test_is_found_by_number_title_or_identifier(
        self, config: Config, default: str, path: str
    ) -> None:
        assert config.kernel(f'set default="{default}"\n{THREE_ENTRIES}').path == path

    def test_is_booted_whatever_the_menu_would_wait_for(self, config: Config) -> None:
        waits = "set timeout=30\nset timeout_style=hidden\nset fallback=1\n"
        assert config.kernel(waits + THREE_ENTRIES).path == "/one"

    def test_of_nothing_is_an_error(self, config: Config) -> None:
        with pytest.raises(SimulationError, match="no entry to boot"):
            config.run("set default=0\n")


class TestTheEnvironmentBlock:
    SAVED = """
load_env
if [ "${next_entry}" ] ; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
else
  set default="${saved_entry}"
fi
"""

    def test_next_entry_goes_before_saved_entry_and_is_used_up(
        self, config: Config
    ) -> None:
        block = config.environment(saved_entry="two", next_entry="more>four")
        run = config.run(self.SAVED + THREE_ENTRIES)
        assert run.titles == ("More", "Fourth")
        write_saved(config.path, run.saved)
        assert b"\nnext_entry=\n" in block.read_bytes()
        assert b"\nsaved_entry=two\n" in block.read_bytes()
        assert len(block.read_bytes()) == 1024
        assert config.kernel(self.SAVED + THREE_ENTRIES).path == "/two"

    def test_nothing_is_written_where_there_is_none(self, config: Config) -> None:
        run = config.run("save_env next_entry\n" + THREE_ENTRIES)
        write_saved(config.path, run.saved)
        assert not config.path.with_name("grubenv").exists()

    def test_it_has_a_size(self, config: Config) -> None:
        with pytest.raises(SimulationError, match="full"):
            config.environment(saved_entry="x" * 1024)


class TestArguments:
    @pytest.mark.parametrize(
        ("written", "handed_over"),
        [
            ("", b""),
            ("placeholder quiet", b"placeholder quiet"),
            ("placeholder   quiet", b"placeholder quiet"),
            ('"two words"', b'"two words"'),
            ('a\\ b "" c', b'"a b"  c'),
            ("'single $x' \"dq $x\"", b'"single $x" "dq 1 2"'),
            ("$x", b"1 2"),
            ("$unset last", b"last"),
            ('"$unset" last', b" last"),
            ("a\"b c\"d'e'", b'"ab cde"'),
            (r"it\'s", rb"it\'s"),
            (r"'back\slash'", rb"back\\slash"),
            (r"say\"so", rb"say\"so"),
            ("dom0_mem=min:1024M,max:4096M", b"dom0_mem=min:1024M,max:4096M"),
            ("-n -e --help", b"-n -e --help"),
            ("x" * 600, b"x" * 600),
        ],
    )
    def test_are_parsed_by_grub_and_joined_as_grub_joins_them(
        self, config: Config, written: str, handed_over: bytes
    ) -> None:
        text = f"set x='1 2'\nmenuentry 'A' {{ multiboot2 /k {written}\n}}\n"
        assert config.kernel(text).cmdline == handed_over

    def test_are_joined_by_one_space_with_none_at_the_ends(self) -> None:
        assert loader_cmdline(["a", "", "b", ""]) == b"a  b "
        assert loader_cmdline([]) == b""

    def test_the_device_is_no_part_of_the_path(self, config: Config) -> None:
        text = (
            "menuentry 'A' {\n search --set=root --fs-uuid 77\n multiboot2 ($root)/k\n}"
        )
        assert config.kernel(text).path == "/k"

    def test_modules_come_in_order_and_say_how_they_are_read(
        self, config: Config
    ) -> None:
        entry = entry_of(
            config.run(
                "menuentry 'A' { multiboot2 /k a\n module2 /m b c\n"
                "module2 --nounzip /n\n}"
            )
        )
        assert entry is not None
        assert entry.modules == (
            LoadedFile("/m", b"b c", decompress=True),
            LoadedFile("/n", b"", decompress=False),
        )

    def test_multiboot_1_is_read_as_well(self, config: Config) -> None:
        entry = entry_of(config.run("menuentry 'A' { multiboot /k\n module /m x\n}"))
        assert entry is not None
        assert (entry.kernel.path, entry.modules[0].cmdline) == ("/k", b"x")


class TestScripts:
    def test_conditions_functions_and_searches_are_grubs(self, config: Config) -> None:
        text = """
function load { multiboot2 $1 from function; }
if search --no-floppy --fs-uuid --set=found 1234; then set path=/found; fi
menuentry 'A' { if [ "$path" = /found -a -n "$found" ]; then load $path; fi }
"""
        kernel = config.kernel(text)
        assert (kernel.path, kernel.cmdline) == ("/found", b"from function")

    def test_an_entry_without_multiboot_is_none(self, config: Config) -> None:
        run = config.run("menuentry 'A' { linux /vmlinuz root=/x\n initrd /i\n}")
        assert entry_of(run) is None
        assert [load.name for load in run.loads] == ["linux", "initrd"]

    def test_control_characters_are_refused(self, config: Config) -> None:
        with pytest.raises(SimulationError, match="control characters"):
            config.run("menuentry 'A\x1b[2J' { multiboot2 /k; }")

    def test_a_loader_without_a_file_is_an_error(self, config: Config) -> None:
        with pytest.raises(SimulationError, match="names no file"):
            entry_of(config.run("menuentry 'A' { multiboot2\n}"))

    def test_qubes_place_goes_before_debians(self, tmp_path: Path) -> None:
        with pytest.raises(SimulationError, match=r"no grub\.cfg"):
            find_config(tmp_path)
        for place in ("boot/grub/grub.cfg", "boot/grub2/grub.cfg"):
            (tmp_path / place).parent.mkdir(parents=True)
            (tmp_path / place).touch()
            assert find_config(tmp_path) == tmp_path / place

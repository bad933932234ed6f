# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration reads: other files, environment blocks, GRUB's variables."""

import pytest
from grub_configs import grubenv
from grub_evaluation import World, entry, load, refusal, words

from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import GrubError


class TestFiles:
    FILES = {"/boot/grub/a.cfg": b"x=1\n", "/d/f": b"", "/d/g": b"abc"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("test", "expected"),
        [
            ("-e $prefix/a.cfg", "yes"),
            ("-f ($root)/d/f", "yes"),
            ("-f /d/f", "yes"),
            ("-s /d/f", "no"),
            ("-s /d/g", "yes"),
            ("-d /d", "yes"),
            ("-d /d/f", "no"),
            ("-d /e", "no"),
            ("-f /d", "no"),
            ("-e /e", "no"),
            ("-s /e", "no"),
            ("-f $prefix/grubenv", "no"),
            ("-s $prefix/grubenv", "no"),
            ("-e $config_directory/grubenv", "no"),
            ("$config_file = $config_directory/grub.cfg", "yes"),
        ],
    )
    def test_are_looked_for(self, test: str, expected: str) -> None:
        before = f"if [ {test} ]; then x=yes; else x=no; fi"
        assert words("", before, self.FILES) == expected

    def test_source_runs_in_place(self) -> None:
        before = "source $prefix/a.cfg"
        assert words("", before, self.FILES) == "1"
        assert words("", before.replace("source", "."), self.FILES) == "1"
        assert words("", "x=2; source $prefix/none.cfg", self.FILES) == "2"

    def test_config_directory_is_that_of_the_file_being_read(self) -> None:
        files = {"/d/a": b'x="$config_file $config_directory"\n'}
        before = "set root=hd0\nsource (hd0)/d/a\n"
        config = f'{before}menuentry a {{ multiboot /tboot "$x" "$config_file"; }}\n'
        menu = evaluate(config.encode(), None, World(files), {"root": "hd0"})
        assert menu.default_entry().loads[0].arguments == ("(hd0)/d/a (hd0)/d", "")

    def test_errors_name_the_sourced_file(self) -> None:
        files = {"/boot/grub/b": b"\n'"}
        assert refusal("source $prefix/b\n", files) == (
            "(<the device GRUB started from>)/boot/grub/b line 2: the ' that opens "
            "here is never closed"
        )

    def test_a_file_that_reads_itself_ends(self) -> None:
        assert "nest deeper" in refusal("source /x\n", {"/x": b"source /x\n"})
        big = b"#" * 600_000 + b"\n"
        twice = refusal("source /x\nsource /x\n", {"/x": big})
        assert twice == "grub.cfg line 2: configuration files of over 1048576 bytes"

    def test_configfile_shows_another_menu(self) -> None:
        files = {"/x": b"set default=1\nmenuentry b { true; }\nmenuentry c { true; }\n"}
        found = entry("configfile /x\nmenuentry a { true; }\n", files)
        assert found.title == "c"
        files["/x"] = b"set y=1\n"
        assert words("", "x=1; configfile /x; configfile /none", files) == "1"

    def test_configfile_sees_exported_variables(self) -> None:
        inner = b'menuentry b { multiboot /tboot "$x"; }\n'
        found = load("set x=1\nexport x\nconfigfile /x\n", {"/x": inner})
        assert found.arguments == ("1",)
        with pytest.raises(GrubError, match=r"\$x, which is not exported into a subm"):
            load("set x=1\nconfigfile /x\n", {"/x": inner})

    def test_the_default_of_another_menu_is_its_own(self) -> None:
        inner = b"menuentry c { true; }\nmenuentry d { true; }\n"
        config = (
            "set default=1\nmenuentry a { true; }\nmenuentry b { configfile /x; }\n"
        )
        assert "depends on the build" in refusal(config, {"/x": inner})
        assert entry(config, {"/x": b"set default=d\n" + inner}).path == "b>d"

    def test_a_configfile_that_may_be_shown_is_refused(self) -> None:
        files = {"/x": b"menuentry b { true; }\n"}
        message = refusal("if keystatus; then configfile /x; fi\n", files)
        assert "line 1: what happens here depends on" in message


class TestEnvironment:
    ENV = grubenv(a="1", b="2")

    def words(self, before: str, files: dict[str, bytes] | None = None) -> list[str]:
        config = f'{before}\nmenuentry a {{ multiboot /tboot "$a" "$b"; }}\n'
        menu = evaluate(config.encode(), self.ENV, World(files or {}))
        return list(menu.default_entry().loads[0].arguments)

    def test_is_loaded_whole_or_in_part(self) -> None:
        assert self.words("load_env") == ["1", "2"]
        assert self.words("load_env b c") == ["", "2"]
        assert self.words("load_env --skip-sig --file $prefix/grubenv a") == ["1", ""]

    def test_is_found_by_its_path(self) -> None:
        before = "if [ -s $prefix/grubenv -a -e ${config_directory}/grubenv ]; then "
        assert self.words(before + "load_env -f $config_directory/grubenv; fi") == [
            "1",
            "2",
        ]

    def test_may_be_another_file(self) -> None:
        files = {"/x/env": grubenv(a="3")}
        assert self.words("load_env -f /x/env", files) == ["3", ""]
        assert self.words("load_env -f /none", files) == ["", ""]

    def test_is_changed_by_save_env(self) -> None:
        before = "load_env; set a=4; unset b; save_env a b; a=5; b=5; load_env"
        assert self.words(before) == ["4", "5"]
        assert self.words("set a=4; save_env -f /x a; load_env") == ["1", "2"]
        before = "if keystatus; then a=9; save_env a; fi; load_env b"
        assert self.words(before + "; a=1") == ["1", "2"]

    def test_that_is_malformed_is_refused(self) -> None:
        with pytest.raises(GrubError, match="grubenv does not begin as"):
            evaluate(b"menuentry a { true; }\n", b"x")


class TestVariablesGiven:
    def test_a_folder_without_a_device_is_on_the_boot_device(self) -> None:
        world = World({"/boot/grub2/custom.cfg": b"x=1\n"})
        config = b"source $config_directory/custom.cfg\nmenuentry $x { true; }\n"
        menu = evaluate(config, None, world, {"prefix": "/boot/grub2"})
        assert menu.default_entry().title == "1"

    def test_name_the_device_and_folder_of_grub(self) -> None:
        given = {"root": "hd0,msdos1", "prefix": "(hd0,msdos1)/grub2", "é": "ü"}
        config = 'source $prefix/a\nmenuentry a { multiboot /tboot "$x$grub_cpu"; }\n'
        world = World({"/grub2/a": b"x=1\n"})
        found = evaluate(config.encode(), None, world, given).default_entry().loads[0]
        assert (found.device, found.arguments) == ("hd0,msdos1", ("1i386",))

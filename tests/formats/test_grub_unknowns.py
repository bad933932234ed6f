# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be known of a boot is refused, with its line, where it matters."""

import pytest
from grub_evaluation import entry, load, refusal, title, words

from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import GrubError


class TestWhatCannotBeKnown:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("read x\nset default=$x\n", "entry depends on what 'read'"),
            ("if keystatus; then default=1; fi\n", "depends on $default after"),
            ("if cpuid; then\nmenuentry c { a; }\nfi\n", "line 2: whether this entry"),
            (
                "if cpuid; then\nmenuentry c { a; }\nelse\nmenuentry d { a; }\nfi\n",
                "what happens here depends on what the command at grub.cfg line 1",
            ),
            ("if cpuid; then exit; fi\n", "line 1: what happens here depends on what"),
            ("while keystatus; do true; done\n", "line 1: what happens here depends"),
            ("exit\n", "line 1: GRUB boots or ends before it shows a menu"),
            ("linux /a\n", "line 1: a file is loaded outside of any menu entry"),
            ("linux /a\nboot\n", "line 2: GRUB boots or ends before it shows a menu"),
            ("unheard_of\n", "line 1: the command 'unheard_of' is not known"),
            ("eval a=1\n", "line 1: what 'eval' does cannot be known beforehand"),
            ("$root\n", "line 1: depends on the device GRUB started from"),
            ("set a$root=1\n", "line 1: depends on the device GRUB started from"),
            ("read x\nfor a in $x; do true; done\n", "line 2: depends on what 'read'"),
            ("set root=hd9\nsource /y\n", "line 2: '/y' cannot be looked up"),
            ("source (hd9)/y\n", "line 1: '(hd9)/y' cannot be looked up beforehand"),
            ("source (hd9/y\n", "line 1: '(hd9/y' cannot be looked up beforehand"),
            ("source y\n", "line 1: 'y' cannot be looked up beforehand"),
            ('load_env -f ($root)/$"x"\n', "cannot be looked up beforehand"),
            ("menuentry x\n", "line 1: 'menuentry' without a block is not supported"),
            ("menuentry --class { true; }\n", "line 1: the options of 'menuentry'"),
            ("menuentry -h { true; }\n", "line 1: the options of 'menuentry'"),
            ("menuentry --id x { true; }\n", "line 1: 'menuentry' has no title"),
            ("menuentry --source x y { true; }\n", "line 1: the options of"),
        ],
    )
    def test_in_front_of_the_menu(self, config: str, message: str) -> None:
        assert message in refusal(f"{config}menuentry a {{ true; }}\n")

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("multiboot /tboot $root", "line 2: depends on the device GRUB"),
            ('multiboot /tboot $"a"', "line 2: depends on a translated text"),
            ("multiboot tboot", "line 2: 'tboot' is no absolute path"),
            ("multiboot --quirk-x /tboot", "line 2: '--quirk-x' is no absolute path"),
            ("multiboot2 --quirk-bad-kludge /tboot", "line 2: '--quirk-bad-kludge'"),
            ("multiboot (hd0/tboot", "line 2: the device of a file name"),
            ("module /x", "line 2: 'module' follows no kernel of its kind"),
            ("multiboot2 /tboot; module /x", "line 2: 'module' follows no kernel"),
            ("multiboot /t; if cpuid; then module /x; fi", "line 2: what happens"),
            (r"multiboot /t '\x41'", r"line 2: what '\x41' becomes depends on"),
        ],
    )
    def test_in_the_entry(self, body: str, message: str) -> None:
        with pytest.raises(GrubError) as caught:
            entry(f"menuentry a {{\n{body}\n}}\n").loads  # noqa: B018 - raises
        assert message in caught.value.message

    @pytest.mark.parametrize(
        "before",
        [
            "if keystatus; then x=1; y=2; else y=3; fi",
            "if loadfont a; then x=1; else x=2; fi",
            "probe --set=x --fs-uuid $root",
            "regexp --set 1:x a b",
            "regexp -s x a b",
            "regexp --set=x a b",
            "read x",
            "hwmatch /x 3; x=$match",
            "increment x",
            "search --set=x --label a",
            "search.fs_label a x",
            "search.file /a x hint",
            "search -s x -f /a",
        ],
    )
    def test_makes_a_variable_unknown(self, before: str) -> None:
        with pytest.raises(GrubError, match=r"line 4: depends on "):
            words("", before)

    @pytest.mark.parametrize(
        "before",
        [
            "if keystatus; then x=1; else x=1; fi",
            "if keystatus; then y=1; set y=2; export y; insmod z; fi; x=1",
            "if keystatus; then false; else true; fi; if [ $? = 0 ]; then y=1; fi; x=1",
            "if ! keystatus; then y=1; fi; x=1",
            "if [ -e (hd9)/x -o -f (hd9)/x -o -d (hd9)/x ]; then y=1; fi; x=1",
            "if [ -s (hd9)/x ]; then y=1; fi; x=1",
            "if [ $root = a ]; then y=1; fi; if [ $root = $root ]; then x=1; fi",
            "search --no-floppy -u 12-34; probe --fs $root; regexp a b; read; x=1",
            "if [ /a -nt /b ]; then y=1; fi; if [ 9999999999 -gt 1 ]; then y=; fi; x=1",
            "function f { if keystatus; then return 0; fi; return; }; x=1",
        ],
    )
    def test_does_not_matter_where_nothing_depends_on_it(self, before: str) -> None:
        assert words("", before.replace("; };", ";\n}\n")) == "1"

    def test_a_search_sets_the_device_of_what_follows(self) -> None:
        for search, device in (
            ("search --set=root --fs-uuid 12-34", "fs-uuid 12-34"),
            ("search --no-floppy --fs-uuid --set root 12-34", "fs-uuid 12-34"),
            ("search --set root -l BOOT --hint-bios=hd0 --hint hd1", "label BOOT"),
            ("search --file --set /x", "file /x"),
            ("search.fs_uuid 12-34 root hd0,msdos1", "fs-uuid 12-34"),
            ("set root='hd0,msdos1'", "hd0,msdos1"),
            ("true", "the device GRUB started from"),
        ):
            body = f"{search}; multiboot /tboot"
            assert load(f"menuentry a {{ {body}; }}\n").device == device
        found = load("menuentry a { multiboot (hd1,gpt2)/tboot a; }\n")
        assert (found.device, found.path) == ("hd1,gpt2", "/tboot")

    def test_quirks_are_dropped(self) -> None:
        quirks = "--quirk-modules-after-kernel --quirk-bad-kludge"
        found = load(f"menuentry a {{ multiboot {quirks} /tboot {quirks}; }}\n")
        assert (found.path, found.arguments) == ("/tboot", tuple(quirks.split()))

    def test_decompressors_are_those_that_were_loaded(self) -> None:
        found = load("insmod xzio\nmenuentry a { insmod ext2; multiboot /tboot; }\n")
        assert found.filters == {"gzio", "xzio"}

    def test_a_hex_escape_needs_two_digits(self) -> None:
        assert words(r"x='\x4 \xg \x'") == r"\x4 \xg \x"

    def test_uncertain_entries_matter_only_where_they_could_boot(self) -> None:
        maybe = "if cpuid; then\nmenuentry m --id m { true; }\nfi\n"
        after = "menuentry b --id b { true; }\n"
        menu = f"menuentry a {{ true; }}\n{maybe}{after}"
        assert title(menu, "0") == "a"
        assert title(menu, "b") == "b"
        assert title(menu, "5") == "a"
        for default in ("m", "1", "2"):
            assert "line 3: whether this entry is in the menu" in refusal(
                f"set default={default};{menu}"
            )

    def test_an_unknown_title_matters_only_before_the_one_that_boots(self) -> None:
        menu = "read x\nmenuentry a { true; }\nmenuentry $x { true; }\n"
        assert title(menu, "a") == "a"
        assert title(menu, "0") == "a"
        assert "title depends on what 'read'" in refusal(f"set default=b\n{menu}")
        entries = evaluate(menu.encode(), None).entries
        assert entries[1].title == "<what 'read' answers at grub.cfg line 1>"

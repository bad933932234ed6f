# SPDX-License-Identifier: GPL-2.0-or-later
"""Which entry GRUB boots next, what it loads, and what is refused, with its line."""

import pytest
from grub_configs import UUID, debian, grubenv, qubes

from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import GrubEntry, GrubLoad, evaluate
from aemseal.words.errors import GrubError

TBOOT = "multiboot /tboot.gz; module /xen"


class World:
    """Files by path; everything else is missing."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def exists(self, path: str, /) -> bool:
        return path in self.files or any(f.startswith(f"{path}/") for f in self.files)

    def read(self, path: str, /) -> bytes | None:
        return self.files.get(path)


def entry(config: str, files: dict[str, bytes] | None = None) -> GrubEntry:
    return evaluate(config.encode(), None, World(files or {})).default_entry()


def title(config: str, default: str | None = None) -> str:
    chosen = "" if default is None else f"set default='{default}'\n"
    return entry(chosen + config).path


def refusal(config: str, files: dict[str, bytes] | None = None) -> str:
    with pytest.raises(GrubError) as caught:
        entry(config, files)
    return caught.value.message


def load(config: str, files: dict[str, bytes] | None = None) -> GrubLoad:
    return entry(config, files).loads[0]


def words(script: str, before: str = "", files: dict[str, bytes] | None = None) -> str:
    """Return the words that reach tboot after a script in an entry."""
    body = f'{script}\nmultiboot /tboot.gz "$x"\n'
    return load(f"{before}\nmenuentry a {{\n{body}}}\n", files).arguments[0]


class TestDebian:
    def test_next_entry_comes_before_the_default(self) -> None:
        env = grubenv(next_entry=f"tboot-advanced-{UUID}>0")
        found = evaluate(debian(), env).next_entry()
        assert found.id == f"tboot-6.1.0-18-amd64-{UUID}"
        assert found.submenus == ("Advanced options for Debian GNU/Linux (with tboot)",)

    def test_what_tboot_receives(self) -> None:
        found = evaluate(debian("1>0"), None).next_entry()
        assert [(each.path, each.nounzip) for each in found.loads] == [
            ("/tboot.gz", False),
            ("/xen-4.17-amd64.gz", False),
            ("/vmlinuz-6.1.0-18-amd64", False),
            ("/initrd.img-6.1.0-18-amd64", True),
            ("/4th_gen_i5_i7_SINIT_75.BIN", False),
        ]
        assert {each.device for each in found.loads} == {f"fs-uuid {UUID}"}
        assert {each.filters for each in found.loads} == {frozenset({"gzio"})}
        assert [join([a.encode() for a in each.arguments]) for each in found.loads] == [
            b"logging=serial,memory,vga",
            b"iommu=force",
            b"root=/dev/mapper/vg-root ro intel_iommu=on",
            b"",
            b"",
        ]

    def test_an_unmeasured_default_is_refused_and_the_measured_ones_listed(
        self,
    ) -> None:
        menu = evaluate(debian(), None)
        assert menu.default_entry().title == "Debian GNU/Linux"
        with pytest.raises(GrubError) as caught:
            menu.next_entry()
        assert caught.value.message == (
            "the entry that boots next, 'Debian GNU/Linux' (grub.cfg line 98), is no "
            "measured boot: it boots by 'linux'"
        )
        (measured,) = menu.measured_entries()
        assert caught.value.hint == f"measured are: {measured.path!r}"

    def test_saved_and_previous_entries(self) -> None:
        tboot = f"tboot-advanced-{UUID}>tboot-6.1.0-18-amd64-{UUID}"
        saved = debian("${saved_entry}")
        assert evaluate(saved, grubenv(saved_entry=tboot)).next_entry().is_measured
        assert evaluate(saved, grubenv()).default_entry().title == "Debian GNU/Linux"
        before = debian().replace(
            b'set default="0"', b'set default="$prev_saved_entry"'
        )
        assert (
            evaluate(before, grubenv(prev_saved_entry=tboot)).next_entry().is_measured
        )

    def test_the_firmware_entry_of_efi_does_not_disturb(self) -> None:
        menu = evaluate(debian("1>0"), None, None, {"grub_platform": "efi"})
        assert menu.next_entry().is_measured
        assert [each.is_measured for each in menu.entries] == [False, True, False]
        assert menu.entries[-1].loads == ()

    def test_custom_entries_are_read(self) -> None:
        custom = f"menuentry mine --id mine {{ {TBOOT}; }}\n".encode()
        world = World({"/boot/grub/custom.cfg": custom})
        found = evaluate(debian("mine"), None, world).next_entry()
        assert (found.title, found.line) == ("mine", 1)


class TestQubes:
    def test_anti_evil_maids_entry(self) -> None:
        found = evaluate(qubes(), grubenv()).next_entry()
        kernel, xen, linux, *others = found.loads
        assert kernel.arguments == ("placeholder", "logging=memory,serial")
        assert xen.arguments == ("placeholder", "console=none", "dom0_mem=min:1024M")
        assert linux.arguments[-2:] == (
            "rd.luks.key=/tmp/aem-keyfile",
            "rd.luks.crypttab=no",
        )
        assert [each.path for each in others] == [
            "/initramfs-6.6.48-1.qubes.img",
            "/SINIT_A.BIN",
        ]

    def test_the_platform_is_given(self) -> None:
        menu = evaluate(qubes(), None, None, {"grub_platform": "efi"})
        xen = menu.next_entry().loads[1]
        assert xen.arguments[-2:] == ("no-real-mode", "edd=off")

    def test_titles_ids_and_paths_find_an_entry(self) -> None:
        menu = evaluate(qubes(), grubenv(saved_entry="trenchboot"))
        name = "AEM Qubes, with tboot, Xen 4.17.5 and Linux 6.6.48-1.qubes"
        assert menu.entry_titled(name) == menu.entry_titled(f"xen-tboot-6.6.48-{UUID}")
        paths = evaluate(debian(), None)
        (measured,) = paths.measured_entries()
        assert paths.entry_titled(measured.path) == measured
        by_id = f"tboot-advanced-{UUID}>{measured.id}"
        assert paths.entry_titled(by_id) == measured

    def test_other_ways_to_boot_are_named(self) -> None:
        menu = evaluate(qubes(), grubenv(saved_entry="trenchboot"))
        with pytest.raises(
            GrubError, match=r"TrenchBoot \(slaunch\), which is another"
        ):
            menu.next_entry()
        with pytest.raises(
            GrubError, match=r"'Qubes, with .*/xen-4.17.5.gz is not tboot"
        ):
            menu.entry_titled("Qubes, with Xen hypervisor")

    def test_a_failed_boot_that_falls_back_is_followed(self) -> None:
        env = grubenv(boot_counter="0", boot_success="0")
        found = evaluate(qubes(), env).default_entry()
        assert found.title == "Qubes, with Xen hypervisor"
        counting = grubenv(boot_counter="2", boot_success="0")
        assert evaluate(qubes(), counting).next_entry().is_measured


class TestWhatIsMeasured:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("true", "it loads nothing"),
            (f"{TBOOT}; exit", "it loads nothing"),
            (f"halt; {TBOOT}", "it loads nothing"),
            ("multiboot /tboot.gz", "it loads tboot without any module"),
            ("multiboot /tboot/xen; module /x", "its kernel /tboot/xen is not tboot"),
            (f"{TBOOT}; chainloader +1", "it boots by 'chainloader'"),
            ("linux", "it boots by 'linux'"),
            ("boot; linux /x; initrd /y", "it boots by 'linux'"),
            (f"slaunch; {TBOOT}", "it is launched by TrenchBoot (slaunch), which is"),
        ],
    )
    def test_and_what_is_not(self, body: str, why: str) -> None:
        menu = evaluate(f"menuentry a {{ {body}; }}\n".encode(), None)
        assert menu.measured_entries() == ()
        with pytest.raises(GrubError) as caught:
            menu.next_entry()
        assert f"is no measured boot: {why}" in caught.value.message
        assert caught.value.hint == "no entry of grub.cfg is a measured boot"

    def test_what_follows_boot_does_not_count(self) -> None:
        found = entry(f"menuentry a {{ {TBOOT}; boot; module /y; }}\n")
        assert [each.path for each in found.loads] == ["/tboot.gz", "/xen"]

    def test_another_kernel_takes_the_place_of_the_first(self) -> None:
        found = entry(f"menuentry a {{ linux /a; initrd /b; {TBOOT}; }}\n")
        assert [each.path for each in found.loads] == ["/tboot.gz", "/xen"]


class TestEntriesByName:
    MENU = """
menuentry a --id one { TBOOT; }
submenu b { menuentry a { TBOOT; }
menuentry c { TBOOT; } }
""".replace("TBOOT", TBOOT)

    def test_missing_and_ambiguous_ones_are_refused(self) -> None:
        menu = evaluate(self.MENU.encode(), None)
        with pytest.raises(GrubError, match=r"grub\.cfg has no entry 'x'") as caught:
            menu.entry_titled("x")
        assert caught.value.hint == "measured are: 'a', 'b>a', 'b>c'"
        with pytest.raises(GrubError, match=r"several entries are 'a': .* lines 2, 3"):
            menu.entry_titled("a")
        assert menu.entry_titled("b>a").line == 3

    def test_what_fails_is_left_out_of_the_list(self) -> None:
        bad = "menuentry d { unheard_of; }\nsubmenu e { unheard_of; }\n"
        nested = f"submenu f {{ menuentry g {{ {TBOOT}; }}\n}}\n"
        menu = evaluate((bad + nested + self.MENU).encode(), None)
        paths = ["d", "f>g", "a", "b>a", "b>c"]
        assert [each.path for each in menu.entries] == paths
        assert [each.path for each in menu.measured_entries()] == paths[1:]
        for _ in range(2):
            with pytest.raises(GrubError, match=r"line 1: the command 'unheard_of'"):
                menu.default_entry().loads  # noqa: B018 - a property that raises

    def test_a_submenu_that_ends_grub_is_no_entry(self) -> None:
        config = "submenu a { exit; }\nmenuentry b { true; }\n"
        menu = evaluate(config.encode(), None)
        assert [each.path for each in menu.entries] == ["b"]
        assert menu.default_entry().loads == ()

    def test_without_a_world_there_are_no_files(self) -> None:
        config = b"if [ -e /x ]; then x=1; fi\nsource /x\nmenuentry a { true; }\n"
        assert evaluate(config, None).default_entry().title == "a"

    def test_a_configuration_within_an_entry_is_no_submenu(self) -> None:
        world = World({"/x.cfg": f"menuentry y {{ {TBOOT}; }}\n".encode()})
        config = b"menuentry x { configfile /x.cfg; }\n"
        menu = evaluate(config, None, world)
        assert menu.next_entry().path == "x>y"
        assert [each.path for each in menu.entries] == ["x"]


class TestDefault:
    FLAT = "menuentry a --id one { true; }\nmenuentry b { true; }\n"
    DEEP = """
menuentry a { true; }
submenu 'b>c' --id two {
  menuentry d { true; }
  submenu e { menuentry f { true; }
  menuentry g --id gg { true; } }
}
"""

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            (None, "a"),
            ("", "a"),
            ("0", "a"),
            ("1", "b"),
            (" 1 ", "b"),
            ("0x1", "b"),
            ("01", "b"),
            ("2", "a"),
            ("99999999999999999999999" * 9, "a"),
            ("-1", "a"),
            ("b", "b"),
            ("one", "a"),
            ("b>x", "b"),
            ("1>5", "b"),
            ("x", "a"),
        ],
    )
    def test_by_number_title_or_id(self, default: str | None, expected: str) -> None:
        assert title(self.FLAT, default) == expected

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            ("1>0", "b>c>d"),
            ("1>1>1", "b>c>e>g"),
            ("b>>c>e>f", "b>c>e>f"),
            ("two>1>gg", "b>c>e>g"),
            ("two>e>9", "b>c>e>f"),
            ("two", "b>c>d"),
            ("two>", "b>c>d"),
        ],
    )
    def test_by_a_path(self, default: str, expected: str) -> None:
        assert title(self.DEEP, default) == expected

    def test_a_submenu_may_have_its_own(self) -> None:
        menu = self.DEEP.replace("menuentry d", "set default=1; default=e\nmenuentry d")
        assert title(menu, "1") == "b>c>e>f"

    @pytest.mark.parametrize(
        ("config", "default", "message"),
        [
            (
                DEEP,
                "1",
                "line 4: which entry of this submenu boots depends on the build",
            ),
            (FLAT, "1b", "'1b' is a number or a title depends on the build"),
            ("menuentry 1 { a; }\nmenuentry b { a; }\n", "1", "a number or a title"),
            (
                "menuentry a --id c { true; }\nmenuentry b --id a { true; }\n",
                "a",
                "'a' is the title of one entry and the id of another",
            ),
            ("submenu a { true; }\n", "0", "line 2: the submenu is empty"),
            (
                "submenu a {\n" * 17 + "menuentry a { b; }\n" + "}\n" * 17,
                "a",
                "over 16",
            ),
        ],
    )
    def test_what_builds_of_grub_see_differently_is_refused(
        self, config: str, default: str, message: str
    ) -> None:
        assert message in refusal(f"set default='{default}'\n{config}")


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


class TestSubmenus:
    def test_see_exported_variables_and_what_was_chosen(self) -> None:
        config = """
x=1
export x
submenu a --id 'b>' {
  y=$x
  menuentry c d { multiboot /tboot "$x$y$2" "$chosen"; }
}
"""
        assert load(config).arguments == ("11d", "b>>>c")

    def test_do_not_see_others(self) -> None:
        config = "x=1\nsubmenu a {\nmenuentry b { multiboot /tboot $x; }\n}\n"
        with pytest.raises(
            GrubError, match=r"line 3: depends on \$x, which is not exp"
        ):
            load(config)


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Words, quotes, variables, functions and loops, as GRUB 2.06 reads them."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.grub_config import evaluate
from aemseal.formats.grub_lexer import MAX_CONFIG, MAX_TOKEN
from aemseal.formats.grub_parser import parse
from aemseal.words.errors import GrubError


def loaded(script: str, before: str = "") -> list[tuple[str, ...]]:
    """Run a script in an entry whose tboot is loaded; return its modules' arguments.

    In the script, ``m WORDS`` stands for a module with these arguments.
    """
    config = f"{before}\nmenuentry title first {{\nmultiboot2 /tboot\n{script}\n}}\n"
    loads = evaluate(config.encode("latin-1"), None).default_entry().loads
    return [load.arguments for load in loads[1:]]


def arguments(words: str, before: str = "") -> tuple[str, ...]:
    (found,) = loaded(f"module2 /m {words}", before)
    return found


def refusal(config: str | bytes) -> str:
    text = config.encode("latin-1") if isinstance(config, str) else config
    with pytest.raises(GrubError) as caught:
        evaluate(text, None).default_entry()
    return caught.value.message


class TestWords:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("a b\tc", ("a", "b", "c")),
            ("", ()),
            ("'' \"\"", ("", "")),
            ("'a  b'", ("a  b",)),
            ('"a  b"', ("a  b",)),
            (r"a\ b", ("a b",)),
            (r"\a\"\'\\\;", ("a\"'\\;",)),
            (r"'\a'", (r"\a",)),
            (r'"\a\"\\\$x"', (r'\a"\$x',)),
            ("'a'b\"c\"d", ("abcd",)),
            ("a#b", ("a#b",)),
            ("a # b", ("a",)),
            ("'#' \\#", ("#", "#")),
            ("if then fi in", ("if", "then", "fi", "in")),
            ("a; true", ("a",)),
            ("[ ! = ]", ("[", "!", "=", "]")),
        ],
    )
    def test_quotes_and_backslashes(
        self, written: str, expected: tuple[str, ...]
    ) -> None:
        assert arguments(written) == expected

    def test_a_backslash_joins_lines(self) -> None:
        assert arguments("a\\\nb \\\n  c") == ("ab", "c")
        assert arguments('"a\\\nb"') == ("ab",)

    def test_quotes_reach_over_lines_but_lines_that_begin_with_a_hash_are_dropped(
        self,
    ) -> None:
        assert arguments("'a\nb'") == ("a\nb",)
        assert arguments("'a\n#b\nc'") == ("a\nc",)

    def test_carriage_returns_are_dropped(self) -> None:
        assert arguments("a\r 'b\r'\r") == ("a", "b")

    def test_bytes_beyond_ascii_are_kept(self) -> None:
        config = b"menuentry x {\nmultiboot /tboot \xc3\xa9 \xff\n}\n"
        (load,) = evaluate(config, None).default_entry().loads
        assert load.arguments == ("é", "\udcff")


class TestVariables:
    @pytest.mark.parametrize(
        ("before", "written", "expected"),
        [
            ("x=1", "$x ${x} a${x}b", ("1", "1", "a1b")),
            ("", "$x", ()),
            ("", '"$x"', ("",)),
            ("", "a$x''", ("a",)),
            ("set x='a  b'", "$x", ("a", "b")),
            ("set x='a  b'", '"$x"', ("a  b",)),
            ("set x=' a b '", "1$x'2'", ("1a", "b2")),
            ("set x='  '", "$x", ()),
            ("set x='a\nb'", "$x", ("a", "b")),
            ("set x='\"a\\b'", '$x "$x"', ('"a\\b', '"a\\b')),
            ("set x=1 y=2", '"$x" "$y"', ("1", "")),
            ("x=1; unset x", '"$x"', ("",)),
            ("1=2", '"$1"', ("title",)),
            ("set x", '"$?" $x', ("0",)),
            ("", "$1 $2 $3 $# $0", ("title", "first", "2")),
            ("", '"$@" $* "$*"', ("title", "first") * 2 + ("title first",)),
            ("", '"a$@b"', ("atitle", "firstb")),
        ],
    )
    def test_expand(self, before: str, written: str, expected: tuple[str, ...]) -> None:
        assert arguments(written, before) == expected

    def test_a_number_of_any_length_is_a_parameter(self) -> None:
        assert arguments("$01 $" + "9" * 5000) == ("title",)

    def test_outside_of_functions_and_entries_there_are_no_parameters(self) -> None:
        assert arguments('"$x"', 'x="$1$#$@$*"') == ("",)

    def test_a_pattern_that_grub_would_look_for_is_refused(self) -> None:
        assert "may replace the pattern '/a*'" in refusal(
            "menuentry x { multiboot /tboot /a*; }\n"
        )
        assert "pattern '(hd?)'" in refusal(
            "x='(hd?)'\nset y=1\nfor a in $x; do b; done\n"
        )

    def test_other_patterns_stay(self) -> None:
        assert arguments("a* '/a*' \"/?\" \\*") == ("a*", "/a*", "/?", "*")


class TestCommands:
    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ("if true; then m yes; else m no; fi", "yes"),
            ("if false; then m a; elif true; then m yes; fi", "yes"),
            ("if false; then m a; elif false; then m b; else m yes; fi", "yes"),
            ("if ! false; then m yes; fi", "yes"),
            ("! true; m $?", "1"),
            ("! set x; m $?", "0"),
            ("!; m $?", "18"),
            ("$none; m $?", "0"),
            ("$none m yes", "yes"),
            ("false\nif true\nthen m $?\nfi", "0"),
            ("false; if false; then true; fi; m $?", "0"),
            ("false; for a in; do true; done; m $?", "0"),
            ("set; m $?", "0"),
            ("unset; m $?", "18"),
            ("export; m $?", "18"),
            ("insmod; m $?", "18"),
            ("shift x; m $?", "18"),
            ("break 0; m $?", "18"),
            ("break a b; m $?", "18"),
            ("break; m $?", "0"),
            ("load_env; m $?", "5"),
            ("load_env --nonsense; m $?", "18"),
            ("save_env; m $?", "18"),
            ("source; m $?", "18"),
            ("source a b; m $?", "18"),
            ("configfile; m $?", "18"),
            ("search x; m $?", "18"),
            ("search --fs-uuid; m $?", "18"),
            ("search --nothing=1 --hint; m $?", "18"),
            ("search.file; m $?", "18"),
            ("probe --nonsense; m $?", "18"),
            ("multiboot2; m $?", "18"),
            ("module2 --nounzip; m $?", "18"),
            ("echo -n a; m $?", "0"),
        ],
    )
    def test_leave_their_status(self, script: str, expected: str) -> None:
        assert loaded(script.replace("m ", "module2 /m ")) == [(expected,)]

    def test_setparams_needs_a_function_or_an_entry(self) -> None:
        assert arguments("$x", "setparams a; x=$?") == ("17",)
        assert arguments("$x", "return; x=$?") == ("18",)
        assert arguments("$x", "shift; x=$?") == ("0",)

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ("for a in 1 '2 3'; do m $a; done", ["1", "2", "3"]),
            ("for a in 1 2 3; do if [ $a = 2 ]; then continue; fi; m $a; done", "13"),
            ("for a in 1 2 3; do if [ $a = 2 ]; then break; fi; m $a; done", "1"),
            ("for a in 1 2; do for b in 3 4; do break 2; done; m $a; done; m x", "x"),
            ("for a in 1 2; do for b in 3 4; do m $b; continue 2; done; done", "33"),
            ("for a in 1 2; do continue; done; m $a", "2"),
            ("i=; until [ x$i = x11 ]; do i=1$i; m $i; done", ["1", "11"]),
            ("while true; do m 1; break; done; m 2", "12"),
            ("i=; while [ $i != 11 ]; do i=1$i; continue; done; m $i", ["11"]),
            ("while false; do m 1; done; m 2", "2"),
        ],
    )
    def test_loops(self, script: str, expected: list[str] | str) -> None:
        found = loaded(script.replace("m ", "module2 /m "))
        assert [word for words in found for word in words] == list(expected)


class TestFunctions:
    def test_have_parameters_of_their_own(self) -> None:
        before = 'function f { x="$#:$1:$2"; shift; x="$x:$@"; }\nf a "b c" d\n'
        assert arguments('"$x" $1', before) == ("3:a:b c:b c", "title")

    def test_return_a_status_and_leave_loops(self) -> None:
        before = "function f { while true; do if true; then return 3; fi; done; x=1; }"
        assert arguments('$? "$x"', f"{before}\nf\ny=$?") == ("0", "")
        assert arguments("$y", f"{before}\nf\ny=$?") == ("3",)

    def test_return_from_a_for_loop(self) -> None:
        before = "function f { for a in 1 2; do x=$a; return 0; done; x=3; }\nf"
        assert arguments("$x", before) == ("1",)

    def test_return_the_last_status_by_themselves(self) -> None:
        before = "function f { return; }\nfunction g { return x; y=$?; }\n"
        assert arguments("$x $y", f"{before}\nfalse\nf\nx=$?\ng") == ("1", "18")

    @pytest.mark.parametrize(
        "loop", ["while return; do true; done", "until return 1; do a; done"]
    )
    def test_return_from_a_condition(self, loop: str) -> None:
        assert arguments('"$x"', f"function f {{ {loop}; x=1; }}\nf") == ("",)
        before = "function f { if return; then x=1; fi; x=2; }\nf"
        assert arguments('"$x"', before) == ("",)

    def test_cannot_leave_the_loops_of_their_caller(self) -> None:
        before = "function f { break; }\nfor a in 1 2; do f; x=$x$a; done"
        assert arguments("$x", before) == ("12",)

    def test_replace_their_parameters(self) -> None:
        before = "function f { setparams b 'c d'; x=$#$2; shift 9; y=$?; }\nf a"
        assert arguments('"$x" $y', before) == ("2c", "18")

    def test_may_be_defined_again(self) -> None:
        before = "function f { x=1; }\nfunction f { x=2; }\nf"
        assert arguments("$x", before) == ("2",)

    def test_do_not_hide_commands_of_grub(self) -> None:
        before = "function true { x=1; }\nfunction nativedisk { x=2; }\ntrue"
        assert arguments('"$x"', before) == ("",)
        assert "'nativedisk' does cannot be known" in refusal(f"{before}\nnativedisk\n")

    def test_return_outside_of_one_is_refused(self) -> None:
        assert refusal("menuentry x {\nreturn\n}\n") == (
            "grub.cfg line 2: 'return' stands outside of a function"
        )


class TestSyntaxErrors:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("a='b", "line 1: the ' that opens here is never closed"),
            ('\n"b', 'line 2: the " that opens here is never closed'),
            ('$"b\\"', 'line 1: the $" that opens here is never closed'),
            ("a\\", "line 1: the file ends in a backslash"),
            ("if true; then\ntrue\n", "line 3: the file ends inside of a command"),
            ("if true; then; fi", "line 1: ';' is not expected here"),
            ("if true\nfi", "line 2: 'fi' is not expected here"),
            ("a fi\nfi", "line 2: 'fi' is not expected here"),
            ("menuentry x { }", "line 1: '}' is not expected here"),
            ("menuentry x\n{ a; }", "line 2: '{' is not expected here"),
            ("function f { a }", "line 1: '}' is not expected here"),
            ("function 'f' { a; }", "line 1: \"'f'\" is not expected here"),
            ("function f a", "line 1: 'a' is not expected here"),
            ("for 'a' in b; do c; done", "line 1: \"'a'\" is not expected here"),
            ("for a b; do c; done", "line 1: 'b' is not expected here"),
            ("for a in b {", "line 1: '{' is not expected here"),
            ("for a\nin b", "line 1: the end of the line is not expected here"),
            ("a { b; } c", "line 1: 'c' is not expected here"),
            (";", "line 1: ';' is not expected here"),
            ("a b{c", "line 1: the file ends inside of a command"),
            ("a && b", "line 1: '&&' has no meaning in GRUB script"),
            ("a;;", "line 1: ';;' has no meaning in GRUB script"),
            ("a > b", "line 1: '>' has no meaning in GRUB script"),
            ("[[ a ]]", "line 1: '[[' has no meaning in GRUB script"),
            ("echo $", "line 1: a '$' is followed by no variable name"),
            ('echo "$-"', "line 1: a '$' is followed by no variable name"),
            ("\n\na\0b", "line 3: a NUL byte is no text"),
            ("case a", "line 1: 'case' is not expected here"),
        ],
    )
    def test_name_the_line(self, config: str, message: str) -> None:
        assert refusal(config).removeprefix("grub.cfg ") == message

    def test_lines_are_those_of_the_file(self) -> None:
        assert "line 5:" in refusal("# a\n\n#b\nset a=1 # c\n'")

    def test_an_empty_file_has_no_entry(self) -> None:
        for config in ("", "\n", "# only\n", "function f { a; }\n"):
            assert refusal(config) == "grub.cfg has no menu entry"


LOOPS = b"for i in 1 2 3 4 5 6 7 8; do " * 6 + b"a=1; " + b"done; " * 6 + b"\n"
DOUBLED = b"a=xxxx\n" + b'a="$a$a"\n' * 10


WORDS_OF_SOUP = """
if then fi for a in do done while true { } ; menuentry x $a ' f function multiboot
/tboot
module = [ ] submenu break source configfile save_env load_env search --set a=1 shift
"""
SOUP = [*WORDS_OF_SOUP.split(), "\n", "\n", "\n"]


class TestBounds:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (b"#" * (MAX_CONFIG + 1), f"more than {MAX_CONFIG} bytes"),
            (b"a=" + b"x" * MAX_TOKEN, f"a word is longer than {MAX_TOKEN}"),
            (b"a=1\n" * 60_000, "more than 100000 words"),
            (b"submenu x {\n" * 50, "commands nest deeper than 40"),
            (b"if a; then b; " + b"elif a; then b; " * 50, "nest deeper than 40"),
            (b"while true; do true; done\n", "more than 100000 commands"),
            (LOOPS, "more than 100000 commands"),
            (b"function f { f; }\nf\n", "commands nest deeper than 80"),
            (b"a=xx\n" + b'a="$a$a"\n' * 20, "arguments of over 65536 characters"),
            (DOUBLED + b'b="$a$a"\n' * 999, "more than 4194304 characters"),
        ],
    )
    def test_are_refused_by_name_and_soon(self, config: bytes, message: str) -> None:
        started = time.monotonic()
        assert message in refusal(config)
        assert time.monotonic() - started < 20

    def test_a_hundred_megabytes_are_not_even_read(self) -> None:
        started = time.monotonic()
        refusal(bytes(100 << 20))
        assert time.monotonic() - started < 2

    @given(st.binary(max_size=300))
    def test_any_bytes_are_parsed_or_refused(self, config: bytes) -> None:
        with suppress(GrubError):
            parse(config)

    @given(st.lists(st.sampled_from(SOUP)).map(" ".join))
    def test_any_words_are_evaluated_or_refused(self, config: str) -> None:
        with suppress(GrubError):
            menu = evaluate(config.encode(), None)
            menu.measured_entries()
            menu.next_entry()

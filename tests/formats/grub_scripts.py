# SPDX-License-Identifier: GPL-2.0-or-later
"""Random scripts of GRUB's language, for hypothesis: words, commands, a menu entry."""

import re

from hypothesis import strategies as st

# Words

NAMES = ("a", "b", "cc", "unset1", "empty")
PLAIN = st.text("ab=.,:/_-#%+~@!^[]1", min_size=1, max_size=5)
VARIABLES = st.one_of(
    st.sampled_from([f"${name}" for name in NAMES]),
    st.sampled_from([f"${{{name}}}" for name in NAMES]),
    st.sampled_from(["$1", "$2", "$3", "$#", "$@", "$*", "${1}", "${@}", "$?", "$0"]),
)
IN_QUOTES = st.text("ab c'{};|&<>#\n*?", max_size=6)


@st.composite
def double_quoted(draw: st.DrawFn) -> str:
    inside = st.one_of(
        IN_QUOTES,
        VARIABLES,
        st.sampled_from([r"\$", r"\\", r"\"", "\\\n", r"\a", r"\'"]),
    )
    return '"' + "".join(draw(st.lists(inside, max_size=4))) + '"'


QUOTED = st.one_of(
    double_quoted(),
    st.text('ab c"{}\\$;#\n*', max_size=6).map(lambda text: f"'{text}'"),
)
ESCAPED = st.sampled_from(
    [r"\a", r"\ ", r"\$", r"\\", r"\"", r"\'", r"\;", "\\\n", r"\{"]
)


@st.composite
def words(draw: st.DrawFn) -> str:
    pieces = st.one_of(PLAIN, VARIABLES, QUOTED, ESCAPED)
    word = "".join(draw(st.lists(pieces, min_size=1, max_size=4)))
    return re.sub(r"^(#|\[\[$|\]\]$)", "x", word)


ARGUMENTS = st.lists(words(), max_size=5).map(" ".join)


# Commands

PLAIN_VALUES = st.text("ab c\t01*", max_size=8).map(lambda text: f"'{text}'")
TESTED = st.one_of(
    st.sampled_from(
        ["a", "b", "''", "0", "1", "-1", "0x10", "010", "9", "!", "-a", "="]
    ),
    st.sampled_from(
        ["-o", "'('", "')'", "-n", "-z", "'<'", "'>='", "-eq", "-lt", "!="]
    ),
    st.sampled_from(['"$a"', "$b", '"$empty"', "v-2", "v-11", "-plt", "-pgt", "-ge"]),
)
TESTS = st.lists(TESTED, max_size=7).map(lambda found: f"[ {' '.join(found)} ]")
CONDITIONS = st.one_of(TESTS, st.sampled_from(["true", "false", "! true", "! false"]))


@st.composite
def assignments(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(NAMES[:3]))
    value = draw(st.one_of(words(), PLAIN_VALUES))
    return draw(st.sampled_from([f"set {name}={value}", f"{name}={value}"]))


HARMLESS = st.one_of(
    assignments(),
    st.sampled_from(["unset a", "export b", "shift", "shift 2", "true", "false"]),
    st.sampled_from(["$empty", "break", "continue", "break 2", "break 0", "set a = b"]),
    TESTS,
    ARGUMENTS.map(lambda found: f"setparams {found}"),
)
RETURNS = st.sampled_from(["return", "return 0", "return 4"])
CALLS = ARGUMENTS.map(lambda found: f"f {found}")
LOADS = ARGUMENTS.map(lambda found: f"module2 /m {found}")


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bodies = st.lists(inner, min_size=1, max_size=3).map("\n".join)
    shapes = st.sampled_from(
        [
            "if {condition}; then\n{body}\nfi",
            "if {condition}\nthen {body}\nelse {other}\nfi",
            "if {condition}; then {body}; elif [ $b ]\nthen {other}; else {body}; fi",
            "for a in {arguments}; do {body}\n done",
            "for b in 1 '2 3' x; do {body}; {other}\n done",
            'until [ "$cc" = xx ]; do cc=x$cc\n{body}\ncc=xx; done',
            "while true; do {body}; {other}; break 1; done",
        ]
    )
    return st.builds(
        lambda shape, **parts: str(shape.format(**parts)),
        shapes,
        condition=CONDITIONS,
        arguments=ARGUMENTS,
        body=bodies,
        other=inner,
    )


def statements(*small: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    simple = st.one_of(HARMLESS, *small)
    nested = st.one_of(simple, compound(simple))
    return st.lists(st.one_of(nested, compound(nested)), max_size=4).map("\n".join)


BEFORE = statements()
IN_FUNCTION = statements(LOADS, RETURNS)
IN_ENTRY = statements(LOADS, CALLS)


@st.composite
def scripts(draw: st.DrawFn) -> str:
    """Statements in front of the menu, a function, and an entry that calls it."""
    script = f"""
empty=''
{draw(BEFORE)}
function f {{
:=
{draw(IN_FUNCTION)}
}}
set timeout=0
menuentry 'it' 'second arg' {{
multiboot2 /tboot.gz $a
{draw(IN_ENTRY)}
module2 /end "$a" "$?"
exit
}}
"""
    return re.sub(r"\n#+", "\n", script)

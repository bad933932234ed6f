# SPDX-License-Identifier: GPL-2.0-or-later
"""Random command lines, as text of grub.cfg, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

_LETTERS = "abcdefgnrtuvwyz"
_PUNCTUATION = "0123456789_.,:=/+@%^~!-[]"
_FOREIGN = "éß漢🂡\u00a0"
_QUOTABLE = _LETTERS + _FOREIGN + " #;|&<>(){}*?"

VARIABLES = ("args", "rm_opts", "nothing", "Empty_1")
"""Names that entries use; which of them are set is drawn, too."""

_plain = st.text(_LETTERS + _PUNCTUATION + _FOREIGN, min_size=1, max_size=8)
_single_quoted = st.text(_QUOTABLE + '"\\$', max_size=8).map("'{}'".format)
variable_names = st.sampled_from(VARIABLES)
_variables = st.one_of(
    variable_names.map("${}".format),
    variable_names.map("${{{}}}".format),
    variable_names.map('"${}"'.format),
    variable_names.map('"a ${{{}}} b"'.format),
)
_in_double = st.one_of(
    st.text(_QUOTABLE + "'", max_size=6),
    st.sampled_from(('\\"', "\\\\", "\\$", "\\n")),
    variable_names.map("${{{}}}".format),
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

variable_values = st.one_of(
    st.just("''"),
    st.sampled_from(("no-real-mode\\ edd=off", "'  a  b '", "é", "a\\'b", '"a\\"b"')),
    st.text(_LETTERS + " ", max_size=8).map("'{}'".format),
)

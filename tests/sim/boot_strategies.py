# SPDX-License-Identifier: GPL-2.0-or-later
"""Random boot directories, and random updates of them, for hypothesis.

Paths come from a small pool, so that an update overwrites what the running boot was
made of.

Left out is what the predictor refuses by rule, each with a test of its own elsewhere:
``\\xHH`` in an argument (no "x" is drawn at all), unquoted patterns, a second packing,
more than 511 bytes for tboot. Control characters are left out because the simulated
GRUB cannot show them.
"""

from __future__ import annotations

from dataclasses import replace

from boot_directories import Directory, Entry, Menu, Module
from cmdline_strategies import (
    module_words,
    tboot_words,
    variable_names,
    variable_values,
)
from hypothesis import strategies as st
from image_strategies import PATHS, images_of

_USUAL = PATHS[:3]

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

_variable_sets = st.dictionaries(variable_names, variable_values, max_size=3)
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
    added = {path: draw(images_of(path)) for path in missing}
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
    return replace(before, files={**before.files, path: draw(images_of(path))})


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

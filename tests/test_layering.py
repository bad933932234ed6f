# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of the house: who may import whom, and who may touch the world."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {"words": 0, "formats": 1, "measure": 2, "world": 3, "flows": 4, "face": 5}
"""measure and world stand side by side: neither knows the other."""

MAXIMAL_LINES = 420
SOURCES = [
    (path, path.relative_to(ROOT).parts)
    for path in sorted((ROOT / "aemseal").rglob("*.py"))
]
"""Every module, and its path as words: ("aemseal", "words", "digest.py")."""

ROOMS = [each for each in SOURCES if len(each[1]) > 2]
EFFECTS = {"os", "pathlib.Path", "shutil", "socket", "subprocess", "tempfile"}
EFFECTS |= {"time", "random", "secrets"}
EFFECTFUL_CALLS = {"open", "read_bytes", "read_text", "write_bytes", "write_text"}
EFFECTFUL_CALLS |= {"unlink", "mkdir", "now", "today", "utcnow", "urandom"}


def imports_of(path: Path) -> set[str]:
    """Every module a file imports; "from a import b" gives "a" and "a.b"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def calls_of(path: Path) -> set[str]:
    """The last name of whatever a file calls: open, Path(...).open, sys.exit."""
    tree = ast.walk(ast.parse(path.read_text()))
    called = [node.func for node in tree if isinstance(node, ast.Call)]
    names = {each.id for each in called if isinstance(each, ast.Name)}
    return names | {each.attr for each in called if isinstance(each, ast.Attribute)}


def may_import(parts: tuple[str, ...], module: str) -> bool:
    """Whether the file at `parts` may import a module that only some may."""
    if module == "tpm2_pytss":
        return parts[1] == "world" and parts[2].startswith("tpm")
    if module == "yaml":
        return parts[1:] == ("world", "config.py")
    return module != "cryptography" or parts[1] == "world"


def test_there_are_sources_and_each_is_in_a_layer() -> None:
    assert {parts[1] for _, parts in ROOMS} == set(LAYERS)


@pytest.mark.parametrize(("path", "parts"), ROOMS, ids=["/".join(p) for _, p in ROOMS])
def test_a_room_keeps_to_its_layer(path: Path, parts: tuple[str, ...]) -> None:
    layer = parts[1]
    imports = imports_of(path)
    for name in imports:
        package, _, rest = name.partition(".")
        assert may_import(parts, package), f"{name} is not for {layer}"
        if package == "aemseal":
            other = rest.split(".")[0]
            assert LAYERS.get(other, -1) <= LAYERS[layer], f"{layer} imports {name}"
            assert {layer, other} != {"measure", "world"}, f"{layer} imports {name}"
    if LAYERS[layer] < LAYERS["world"]:
        roots = imports | {name.split(".")[0] for name in imports}
        assert not roots & EFFECTS, f"{layer} is pure"
        assert "pathlib" not in imports, "take PurePosixPath from it, and no more"
        assert not calls_of(path) & EFFECTFUL_CALLS, f"{layer} is pure"
    assert layer == "face" or "sys.exit" not in path.read_text(), "only the face exits"


@pytest.mark.parametrize("path", [p for p, _ in SOURCES], ids=lambda path: path.stem)
def test_a_module_is_one_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAXIMAL_LINES


def test_the_simulated_machine_knows_the_words_alone() -> None:
    for path in sorted((ROOT / "tpm-sim").rglob("*.py")):
        for name in imports_of(path):
            assert not name.startswith("aemseal") or name.startswith("aemseal.words")

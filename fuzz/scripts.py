# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: GRUB's scripts and its environment block."""

from __future__ import annotations

import re
from contextlib import suppress

from aemseal.formats import grub_env
from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import GrubError
from aemseal.world.redaction import redact_env, redact_script, suspects
from fuzz import script_seeds
from fuzz.contract import KIB, Target
from fuzz.image_seeds import BETWEEN

_HASH = re.compile(rb"grub\.pbkdf2\.[A-Za-z0-9.]")


class _Files:
    """What a configuration may ask for: one more script, whatever its name."""

    def __init__(self, script: bytes) -> None:
        self._script = script

    def exists(self, path: str, /) -> bool:
        return len(path) % 2 == 0

    def read(self, path: str, /) -> bytes | None:
        return self._script if self.exists(path) else None


def _config(data: bytes) -> None:
    """Evaluate a configuration with an environment block and a sourced file."""
    config, env, sourced, *_ = *data.split(BETWEEN), b"", b"", b""
    menu = evaluate(config, env or None, _Files(sourced) if sourced else None)
    for entry in menu.entries:
        assert entry.line >= 1
        with suppress(GrubError):
            for load in entry.loads:
                words = (each.encode("utf-8", "replace") for each in load.arguments)
                join(list(words))
    for entry in menu.measured_entries():
        assert entry.is_measured
    assert menu.default_entry() in menu.entries
    menu.next_entry()


def _env(data: bytes) -> None:
    variables = grub_env.parse(data)
    assert sum(len(name) + len(value) for name, value in variables) <= len(data)


def _redaction(data: bytes) -> None:
    """Take passwords out; of a file whose size is fixed, without changing that."""
    assert _HASH.search(redact_script(data)) is None
    assert _HASH.search(redact_env(data)) is None
    assert len(redact_env(data)) == len(data)
    assert all(line >= 1 for line, _ in suspects(data))


TARGETS = (
    Target(
        "grub_config",
        _config,
        (GrubError,),
        script_seeds.configs,
        most=16 * KIB,
        factor=1024,
        # A loop without an end is left after 100,000 commands.
        seconds=15,
    ),
    Target("grub_env", _env, (GrubError,), script_seeds.environments),
    Target("redaction", _redaction, (), script_seeds.secrets, factor=1024),
)

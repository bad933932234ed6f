# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB itself, Debian's grub-emu, asked what a configuration loads; and our evaluation.

grub-emu has no multiboot loader: its functions of these names print what they get.
"""

import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, note, settings

from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import GrubError

WIDEST = 70
"""Characters that fit on a line of GRUB's screen, with what PRELUDE puts around."""

PRELUDE = """
function printed { for one_of_them in "$@"; do echo "@[${one_of_them}Z"; done; }
function multiboot2 { echo "@kernel"; printed "$@"; }
function module2 { echo "@module"; printed "$@"; }
"""


def program() -> Path:
    project = Path(__file__).parents[2]
    cache = Path(os.environ.get("AEMSEAL_CACHE") or project / ".cache")
    for name in ("grub-emu", "grub-emu-lite"):
        if (found := cache / "grub-emu/usr/bin" / name).exists():
            return found
    pytest.skip("grub-emu is not in the cache: run make setup")


def grub_emu(folder: Path, config: str, until: str = "never") -> str:
    """Run a configuration; return what GRUB prints, without its cursor control.

    A script that GRUB does not understand may have it wait for ever: with `until`
    it is stopped when that has been printed.
    """
    (folder / "grub.cfg").write_bytes(config.encode("latin-1"))
    shown = ""
    with subprocess.Popen(
        [program(), "-d", folder, "-m", "/dev/null"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TERM": "dumb"},
    ) as emulator:
        assert emulator.stdout is not None
        late = threading.Timer(60, emulator.kill)
        late.start()
        while piece := os.read(emulator.stdout.fileno(), 1 << 16):
            shown += piece.decode("latin-1")
            if re.search(until, shown):
                emulator.kill()
        late.cancel()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)


def loads_in(shown: str) -> list[tuple[str, list[str]]]:
    """Return the loads that PRELUDE's functions printed: command and arguments.

    No argument that is made here has a "Z" in it, or "@kernel".
    """
    pieces = re.split(r"@(kernel|module)\n", shown)
    return [
        (kind, re.findall(r"@\[(.*?)Z", piece, re.DOTALL))
        for kind, piece in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


Loads = list[tuple[str, list[str]]]


def our_loads(config: str) -> tuple[str, Loads]:
    """Return the same of our own evaluation, or why it refuses."""
    try:
        loads = evaluate(config.encode("latin-1"), None).default_entry().loads
    except GrubError as error:
        note(str(error))
        return str(error), []
    kinds = {"multiboot2": "kernel", "module2": "module"}
    return "", [
        (kinds[load.command], [*map(as_printed, (load.path, *load.arguments))])
        for load in loads
    ]


def as_printed(argument: str) -> str:
    return f"@[{argument}".expandtabs(8).removeprefix("@[")


def slow(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )

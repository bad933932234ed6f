# SPDX-License-Identifier: GPL-2.0-or-later
"""Other programs, run without a shell: the user's own, and those that only tell."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from aemseal.words.errors import AemsealError
from aemseal.world.rooted import why

TIME_LIMIT = 1800
"""Seconds; an initramfs takes a minute or two on a slow machine."""

TELL_LIMIT = 30
"""Seconds for a program that only prints what it knows."""

OUTPUT_LIMIT = 16 << 20
"""Bytes of what such a program prints."""

_AGAIN = "put it right (its words are above, its place is /etc/aemseal.yaml), try again"


def run_program(arguments: Sequence[str]) -> None:
    """Run a program, its output on our stderr; AemsealError when it fails.

    stdin is closed: it may hold the secret that is to be sealed.
    """
    name = arguments[0]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=TIME_LIMIT,
            check=False,
        )
    except OSError as error:
        raise AemsealError(f"{name} cannot be run: {why(error)}", _AGAIN) from None
    except subprocess.TimeoutExpired:
        raise AemsealError(
            f"{name} did not end within {TIME_LIMIT} seconds", _AGAIN
        ) from None
    if done.returncode != 0:
        raise AemsealError(f"{name} failed with exit code {done.returncode}", _AGAIN)


def read_program(arguments: Sequence[str]) -> bytes:
    """Run a program of the system's and return what it prints on stdout.

    Its stderr is dropped. AemsealError, naming the program, when there is no such
    one, when it fails, takes over TELL_LIMIT or prints over OUTPUT_LIMIT.
    """
    name = arguments[0]
    try:
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=TELL_LIMIT,
                check=False,
            )
            output.seek(0)
            data = output.read(OUTPUT_LIMIT + 1)
    except FileNotFoundError:
        raise AemsealError(f"there is no program {name}") from None
    except OSError as error:
        raise AemsealError(f"{name} cannot be run: {why(error)}") from None
    except subprocess.TimeoutExpired:
        raise AemsealError(f"{name} did not end within {TELL_LIMIT} seconds") from None
    if done.returncode != 0:
        raise AemsealError(f"{name} failed with exit code {done.returncode}")
    if len(data) > OUTPUT_LIMIT:
        raise AemsealError(f"{name} prints over {OUTPUT_LIMIT >> 20} MiB")
    return data

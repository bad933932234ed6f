# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that the user configured: run as given, without a shell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from aemseal.words.errors import AemsealError
from aemseal.world.rooted import why

TIME_LIMIT = 1800
"""Seconds; an initramfs takes a minute or two on a slow machine."""

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

# SPDX-License-Identifier: GPL-2.0-or-later
"""cryptsetup: keys and passphrases reach it by pipes, never by argv or a file.

Source: cryptsetup(8), and cryptsetup-luksAddKey(8) for the order of the key files.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aemseal.words.errors import AemsealError
from aemseal.world.rooted import why

TIME_LIMIT = 300
"""Seconds; a passphrase's Argon2 takes two on the machine that made it."""

WRONG_PASSPHRASE = 2
"""cryptsetup(8), RETURN CODES: no permission (bad passphrase)."""

Done = subprocess.CompletedProcess[bytes]


def cryptsetup(
    words: Sequence[str],
    device: Path,
    passphrase: bytes | None = None,
    key: bytes | None = None,
    *,
    last: str | None = None,
    stdin: bytes = b"",
) -> Done:
    """Run cryptsetup with a device (or a file that holds a header).

    `passphrase` opens it, `key` is the new one of luksAddKey, `last` an argument after
    the device. AemsealError where the program cannot be run or does not end.
    """
    with ExitStack() as stack:
        arguments = ["cryptsetup", *words]
        descriptors = []
        if passphrase is not None:
            descriptors.append(_pipe_with(passphrase, stack))
            arguments += ["--key-file", f"/dev/fd/{descriptors[-1]}"]
        arguments.append(str(device))
        if key is not None:
            descriptors.append(_pipe_with(key, stack))
            arguments.append(f"/dev/fd/{descriptors[-1]}")
        if last is not None:
            arguments.append(last)
        try:
            return subprocess.run(
                arguments,
                input=stdin,
                capture_output=True,
                pass_fds=descriptors,
                env={**os.environ, "LC_ALL": "C"},
                timeout=TIME_LIMIT,
                check=False,
            )
        except OSError as error:
            raise AemsealError(f"cryptsetup cannot be run: {why(error)}") from None
        except subprocess.TimeoutExpired:
            raise AemsealError(
                f"cryptsetup did not end within {TIME_LIMIT} seconds"
            ) from None


def require_done(done: Done, command: str, uuid: str) -> None:
    """Raise AemsealError, in cryptsetup's own words, unless it did what it was told."""
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    said = f": {lines[-1].rstrip('.')}" if lines else ""
    raise AemsealError(
        f"cryptsetup {command} failed for the LUKS device {uuid} "
        f"(exit code {done.returncode}){said}",
        "look at the device by hand: cryptsetup luksDump",
    )


def _pipe_with(data: bytes, stack: ExitStack) -> int:
    """Return the reading end of a pipe that holds `data`, less than a pipe takes."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    try:
        os.write(writer, data)
    finally:
        os.close(writer)
    return reader

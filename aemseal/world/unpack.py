# SPDX-License-Identifier: GPL-2.0-or-later
"""List the files inside an initramfs, unpacking what zstd and lz4 packed by them.

The list is made from the very bytes that are hashed with it. It is a help for people:
what cannot be listed is an error of its own, and keeps nothing from being measured.
"""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any, BinaryIO, NoReturn

from aemseal.formats.compression import (
    BY_PROGRAM,
    PIECE,
    Decoder,
    FrameWalker,
    LibraryDecoder,
    PackedError,
    Packing,
)
from aemseal.formats.file_list import FileList
from aemseal.formats.grub_file import GrubReader
from aemseal.formats.initramfs import MOST_UNPACKED, InitramfsReader
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import BankError, BootFileError, EvidenceError
from aemseal.words.wanted import View, Wanted
from aemseal.world.rooted import shown, unreadable, why

TIME_LIMIT = 300.0
"""Seconds for one image; a large one takes a few."""

_TOO_LONG = "it takes too long to unpack"

_PIECE = 16 << 10
"""Bytes of the file fed at once: what GRUB unpacks of them comes back whole."""


def list_initramfs(
    open_file: Callable[[str], BinaryIO],
    wanted: Wanted,
    *,
    limit: int = MOST_UNPACKED,
    time_limit: float = TIME_LIMIT,
) -> FileList:
    """Read an image once, as it is on disk or as GRUB hands it over; list its files.

    `wanted` is of View.RAW or View.GRUB. The digests are of every bank that this Python
    computes. BootFileError, naming the path, when it cannot be read or not be listed.
    """
    if wanted.view not in (View.RAW, View.GRUB):
        raise ValueError(f"{wanted.view} is no view of a whole file")
    hashes = {each: running for each in HashAlgorithm if (running := _new(each))}
    deadline = time.monotonic() + time_limit
    with ExitStack() as programs:

        def open_decoder(packing: Packing) -> Decoder:
            return _open_decoder(packing, programs, deadline)

        reader = InitramfsReader(open_decoder, limit)
        try:
            with open_file(wanted.path) as stream:
                for piece in _view(stream, wanted):
                    _require_time(deadline)
                    for running in hashes.values():
                        running.update(piece)
                    reader.feed(piece)
            files = reader.finish()
        except OSError as error:
            raise unreadable(wanted.path, error, BootFileError) from None
        except BootFileError:
            raise
        except EvidenceError as error:
            raise BootFileError(
                f"the files inside {shown(wanted.path)} cannot be listed: "
                f"{error.message}",
                error.hint,
            ) from None
    digests = {each: Digest(each, it.digest()) for each, it in hashes.items()}
    return FileList(digests, files)


def _new(algorithm: HashAlgorithm) -> hashlib._Hash | None:
    try:
        return algorithm.new()
    except BankError:
        return None


def _view(stream: BinaryIO, wanted: Wanted) -> Iterator[bytes]:
    """Read a file in its view; small pieces keep what GRUB unpacks of them small."""
    if wanted.view is View.RAW:
        while piece := stream.read(PIECE):
            yield piece
        return
    reader = GrubReader(wanted.path)
    while piece := stream.read(_PIECE):
        yield reader.feed(piece)
    yield reader.finish()


def _open_decoder(packing: Packing, programs: ExitStack, deadline: float) -> Decoder:
    if packing not in BY_PROGRAM:
        return LibraryDecoder(packing)
    decoder = ProgramDecoder(packing, deadline)
    programs.callback(decoder.close)
    return decoder


def _require_time(deadline: float) -> float:
    """Return the seconds left; PackedError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise PackedError(_TOO_LONG)
    return left


class ProgramDecoder:
    """Unpacks one part by the program that packed it, through pipes, without a shell.

    See Decoder (formats/compression.py). PackedError where there is no such program,
    where it fails, and after `deadline` (time.monotonic()). `close` it in any case.
    """

    def __init__(self, packing: Packing, deadline: float) -> None:
        self.rest: bytes | None = None
        self._name = BY_PROGRAM[packing]
        self._deadline = deadline
        self._walker = FrameWalker(packing)
        try:
            self._process = subprocess.Popen(
                [self._name, "-dc"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise PackedError(
                f"there is no {self._name} program", f"install {self._name}"
            ) from None
        except OSError as error:
            raise PackedError(f"{self._name} cannot be run: {why(error)}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        own = memoryview(self._walker.feed(data))
        while own:
            readable, writable = self._wait([self._input])
            if readable:
                yield self._read() or self._fail()
            if writable:
                try:
                    own = own[os.write(self._input.fileno(), own) :]
                except BrokenPipeError:
                    self._fail()
        if self._walker.rest is not None:
            yield from self._end()

    def finish(self) -> Iterator[bytes]:
        """See Decoder."""
        self._walker.finish()
        yield from self._end()

    def close(self) -> None:
        """End the program if it still runs."""
        self._process.kill()
        with self._process:
            pass  # closes the pipes and waits

    def _end(self) -> Iterator[bytes]:
        """Close the program's input; hand over what it still has."""
        self._input.close()
        while True:
            self._wait([])
            piece = self._read()
            if not piece:
                break
            yield piece
        try:
            code = self._process.wait(_require_time(self._deadline))
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            self._fail()
        self.rest = self._walker.rest

    def _wait(self, inputs: list[IO[bytes]]) -> tuple[list[Any], list[Any]]:
        """Wait until there is something to read, or one of `inputs` takes bytes."""
        left = _require_time(self._deadline)
        readable, writable, _ = select.select([self._output], inputs, [], left)
        if not readable and not writable:
            raise PackedError(_TOO_LONG)
        return readable, writable

    def _read(self) -> bytes:
        return os.read(self._output.fileno(), PIECE)

    def _fail(self) -> NoReturn:
        raise PackedError(f"it is not intact: {self._name} does not unpack it")

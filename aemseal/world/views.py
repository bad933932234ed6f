# SPDX-License-Identifier: GPL-2.0-or-later
"""One pass over a file: every view of it that is wanted, in every bank.

What is hashed is what was read, and it is read once: a file that changes meanwhile
gives digests of the bytes that came, never of two states mixed between views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from aemseal.formats import acm
from aemseal.formats.acm_info import SinitModule
from aemseal.formats.grub_file import GrubReader
from aemseal.formats.luks import LuksHeaderBackup
from aemseal.formats.mle import MleImage
from aemseal.formats.skl import SKL_LIMIT, SecureKernelLoader
from aemseal.formats.versions import TbootVersion, XenVersion
from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.errors import BootFileError, EvidenceError, FormatError
from aemseal.words.wanted import (
    NOTE_MLE_CAPABILITIES,
    NOTE_PACKING,
    NOTE_SINIT_CAPABILITIES,
    NOTE_SINIT_DATE,
    NOTE_SINIT_HEADER_VERSION,
    NOTE_SINIT_KEY,
    NOTE_SINIT_PLATFORM,
    NOTE_SINIT_SECURITY_VERSION,
    NOTE_SKL_SLRT_SIZE,
    NOTE_TBOOT_SKIPS,
    NOTE_TBOOT_VERSION,
    NOTE_XEN_VERSION,
    FileFacts,
    View,
    Wanted,
)
from aemseal.world.launched_xen import XEN_VIEWS, LaunchedXen
from aemseal.world.rooted import shown, unreadable

CHUNK = 1 << 20

FILE_LIMIT = 2 << 30
"""Bytes of a boot file that are read; LUKS devices are read as far as needed."""

PLAIN_LIMIT = 1 << 30
"""Bytes that a boot file may decompress to."""

TBOOT_LIMIT = 64 << 20
"""Bytes of a plain tboot image, kept whole until its MLE is found (1.10.5: 29 MiB).

And of a Xen that GRUB launches (4.17: 3 MiB, as xen.efi 10 MiB with its symbols)."""

SCAN_LIMIT = 64 << 20
"""How far into an ELF image a version string is looked for."""

_PACKED_PIECE = 16 << 10
"""Compressed bytes fed at once. xz packs zeros 1:7000, and they come back whole."""

_ELF = b"\x7fELF"


def look(
    open_file: Callable[[str], BinaryIO],
    wanted: Iterable[Wanted],
    algorithms: Iterable[HashAlgorithm],
) -> dict[Wanted, FileFacts]:
    """Open each wanted path once, read it once, and return what it told.

    BootFileError, naming the path, when it cannot be read, exceeds a limit of this
    module, or is not what its view takes it for. BankError without the algorithm.
    """
    banks = tuple(algorithms)
    facts: dict[Wanted, FileFacts] = {}
    for path, of_path in _by_path(wanted).items():
        try:
            with open_file(path) as stream:
                facts |= look_at(stream, of_path, banks)
        except OSError as error:
            raise unreadable(path, error, BootFileError) from None
    return facts


def look_at(
    stream: BinaryIO, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
) -> dict[Wanted, FileFacts]:
    """Read one open file to its end, or as far as is needed; `wanted` name one path.

    Raises what `look` does; OSError of the stream's is passed on.
    """
    views = FileViews(wanted, algorithms)
    while not views.is_complete and (chunk := stream.read(CHUNK)):
        views.feed(chunk)
    return views.finish()


def _by_path(wanted: Iterable[Wanted]) -> dict[str, list[Wanted]]:
    paths: dict[str, list[Wanted]] = {}
    for each in wanted:
        paths.setdefault(each.path, []).append(each)
    return paths


class FileViews:
    """The views of one file: feed it from its start, then `finish`.

    BootFileError, naming the path, as soon as a view finds out that it is not its.
    ValueError when `wanted` name no path, or more than one.
    """

    def __init__(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> None:
        self._wanted = tuple(dict.fromkeys(wanted))
        (self._path,) = {each.path for each in self._wanted}
        banks = tuple(algorithms)
        views = {each.view for each in self._wanted}
        self._banks = banks
        self._raw = _Bytes(banks) if View.RAW in views else None
        self._acm_banks = tuple(dict.fromkeys((*banks, HashAlgorithm.SHA256)))
        plain_banks = banks if views & {View.GRUB, View.SKL} else ()
        if View.ACM in views:
            plain_banks = self._acm_banks
        self._grub = _Bytes(plain_banks) if views - {View.RAW, View.LUKS} else None
        self._reader = GrubReader(self._path, PLAIN_LIMIT) if self._grub else None
        self._launched = bytearray() if views & {View.MLE, *XEN_VIEWS} else None
        self._is_tboot = View.MLE in views
        self._is_xen = bool(views & XEN_VIEWS)
        self._luks = LuksHeaderBackup() if View.LUKS in views else None
        self._luks_bytes = _Hashes(banks)
        self._size = 0

    @property
    def is_complete(self) -> bool:
        """No view needs more: a LUKS device need not be read to its end."""
        whole = self._raw is not None or self._grub is not None
        return not whole and self._luks is not None and self._luks.is_complete

    def feed(self, chunk: bytes) -> None:
        """Take the file's next bytes."""
        self._size += len(chunk)
        if self._size > FILE_LIMIT:
            raise self._too_large("", FILE_LIMIT)
        with self._named():
            if self._raw is not None:
                self._raw.feed(chunk)
            if self._reader is not None:
                for at in range(0, len(chunk), _PACKED_PIECE):
                    piece = chunk[at : at + _PACKED_PIECE]
                    self._feed_plain(self._reader.feed(piece))
            if self._luks is not None:
                self._luks_bytes.feed(self._luks.feed(chunk))

    def finish(self) -> dict[Wanted, FileFacts]:
        """Return what the file told, for each that was wanted."""
        with self._named():
            if self._reader is not None:
                self._feed_plain(self._reader.finish())
            if self._luks is not None:
                self._luks_bytes.feed(self._luks.finish())
            whole = bytes(self._launched or b"")
            mle = MleImage.parse(whole) if self._is_tboot else None
            xen = LaunchedXen(whole) if self._is_xen else None
            return {each: self._facts(each, mle, xen) for each in self._wanted}

    def _feed_plain(self, plain: bytes) -> None:
        assert self._grub is not None
        self._grub.feed(plain)
        if self._launched is not None:
            self._launched += plain
            if len(self._launched) > TBOOT_LIMIT:
                what = "tboot" if self._is_tboot else "Xen"
                raise self._too_large(f"as a {what} image, ", TBOOT_LIMIT)

    def _facts(
        self, wanted: Wanted, mle: MleImage | None, xen: LaunchedXen | None
    ) -> FileFacts:
        if wanted.view is View.LUKS:
            hashes = self._luks_bytes
            return FileFacts(wanted, hashes.size, hashes.digests())
        seen = self._raw if wanted.view is View.RAW else self._grub
        assert seen is not None
        if wanted.view is View.ACM:
            return self._acm_facts(wanted, seen)
        if wanted.view is View.SKL:
            return self._skl_facts(wanted, seen)
        if wanted.view in XEN_VIEWS:
            assert xen is not None
            measured = self._hashed(xen.measured_bytes(wanted.view))
            return FileFacts(wanted, measured.size, measured.digests(), xen.notes())
        if wanted.view is not View.MLE:
            notes = seen.notes()
            if wanted.view is View.GRUB and self._reader is not None:
                notes |= _note(NOTE_PACKING, self._reader.packing)
            digests = seen.hashes.digests(self._banks)
            return FileFacts(wanted, seen.hashes.size, digests, notes)
        assert mle is not None
        try:
            measured = self._hashed(mle.measured_bytes(wanted.cmdline))
        except BootFileError as error:
            raise self._named_error(error) from None
        notes = {NOTE_MLE_CAPABILITIES: f"{mle.capabilities:#x}", **seen.tboot_notes()}
        return FileFacts(wanted, measured.size, measured.digests(), notes)

    def _acm_facts(self, wanted: Wanted, seen: _Bytes) -> FileFacts:
        """Tell of a SINIT module what is measured of it, of another file all of it."""
        head, size = seen.head, seen.hashes.size
        if acm.tboot_skips(head, size) != acm.SINIT_ACM:
            digests = seen.hashes.digests(self._acm_banks)
            return FileFacts(wanted, size, digests)
        if size > len(head):
            raise self._too_large("as a SINIT module, ", acm.HEAD_LIMIT)
        module = SinitModule.parse(head)
        measured = _Hashes(self._acm_banks)
        measured.feed(module.measured)
        return FileFacts(
            wanted, measured.size, measured.digests(), _sinit_notes(module)
        )

    def _skl_facts(self, wanted: Wanted, seen: _Bytes) -> FileFacts:
        """Tell of a loader for SKINIT what is measured, of another file all of it."""
        size = seen.hashes.size
        try:
            skl = SecureKernelLoader.parse(seen.head[: SKL_LIMIT + 1])
        except FormatError:
            return FileFacts(wanted, size, seen.hashes.digests(self._banks))
        measured = self._hashed(skl.measured)
        notes = {NOTE_SKL_SLRT_SIZE: str(skl.slrt_size)}
        return FileFacts(wanted, measured.size, measured.digests(), notes)

    def _hashed(self, data: bytes) -> _Hashes:
        hashes = _Hashes(self._banks)
        hashes.feed(data)
        return hashes

    def _too_large(self, what: str, limit: int) -> BootFileError:
        return BootFileError(
            f"{shown(self._path)} is too large: {what}{limit} bytes at most"
        )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give the path to errors of the formats, which do not know it."""
        try:
            yield
        except FormatError as error:
            raise self._named_error(error) from None

    def _named_error(self, error: EvidenceError) -> BootFileError:
        return BootFileError(f"{shown(self._path)}: {error.message}", error.hint)


class _Hashes:
    """One view's running hashes, a bank each."""

    def __init__(self, algorithms: tuple[HashAlgorithm, ...]) -> None:
        self._running = {algorithm: algorithm.new() for algorithm in algorithms}
        self.size = 0

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        for running in self._running.values():
            running.update(data)

    def digests(self, algorithms: tuple[HashAlgorithm, ...] | None = None) -> Digests:
        """Return all digests, or those of the algorithms named."""
        return {
            algorithm: Digest(algorithm, self._running[algorithm].digest())
            for algorithm in (self._running if algorithms is None else algorithms)
        }


class _Bytes:
    """Bytes as they lie in memory after GRUB loaded them: hashes and notes."""

    def __init__(self, algorithms: tuple[HashAlgorithm, ...]) -> None:
        self.hashes = _Hashes(algorithms)
        self._head = bytearray()
        self._xen = XenVersion()
        self._tboot = TbootVersion()

    def feed(self, data: bytes) -> None:
        self.hashes.feed(data)
        self._head += data[: acm.HEAD_LIMIT - len(self._head)]
        if self._head.startswith(_ELF) and self.hashes.size <= SCAN_LIMIT:
            self._xen.feed(data)
            self._tboot.feed(data)

    @property
    def head(self) -> bytes:
        """The first bytes: all of them, or acm.HEAD_LIMIT."""
        return bytes(self._head)

    def notes(self) -> dict[str, str]:
        skipped = acm.tboot_skips(self.head, self.hashes.size)
        return {
            **_note(NOTE_XEN_VERSION, self._xen.finish()),
            **self.tboot_notes(),
            **_note(NOTE_TBOOT_SKIPS, skipped),
        }

    def tboot_notes(self) -> dict[str, str]:
        return _note(NOTE_TBOOT_VERSION, self._tboot.finish())


def _note(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}


def _sinit_notes(module: SinitModule) -> dict[str, str]:
    platform = None if module.platform is None else str(module.platform)
    return {
        **_note(NOTE_SINIT_KEY, module.key),
        NOTE_SINIT_CAPABILITIES: f"{module.capabilities:#x}",
        NOTE_SINIT_DATE: module.date,
        **_note(NOTE_SINIT_PLATFORM, platform),
        NOTE_SINIT_SECURITY_VERSION: str(module.header.security_version),
        NOTE_SINIT_HEADER_VERSION: module.header_version,
    }

# SPDX-License-Identifier: GPL-2.0-or-later
"""Single measurements by hand: the core of `aemseal hash mle|module|acm|luks`.

Each takes an open file and the absolute path that messages name, and gives its
measurement in the four algorithms that tboot's own tools offer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from aemseal.formats import acm
from aemseal.formats.mle import CMDLINE_LIMIT
from aemseal.measure.tboot_files import module_hashes
from aemseal.words.digest import Digests, HashAlgorithm
from aemseal.words.errors import BootFileError, FormatError, UsageError
from aemseal.words.wanted import View, Wanted
from aemseal.world.rooted import shown, unreadable
from aemseal.world.views import look_at

ALGORITHMS = (
    HashAlgorithm.SHA1,
    HashAlgorithm.SHA256,
    HashAlgorithm.SHA384,
    HashAlgorithm.SHA512,
)


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file's measurement; `kind` is the word of the verb."""

    kind: str
    digests: Digests

    def as_json(self) -> dict[str, object]:
        """Return the object of the schema aemseal.hash/1."""
        return {
            "schema": "aemseal.hash/1",
            "kind": self.kind,
            "digests": {
                algorithm.label: digest.hex
                for algorithm, digest in self.digests.items()
            },
        }


def hash_mle(stream: BinaryIO, path: str, cmdline: bytes = b"") -> FileHash:
    """Return the hash of a tboot image's MLE: what SINIT extends as event 0x404.

    UsageError for a command line of more than 511 bytes, BootFileError for a file
    that is no tboot image or cannot be read.
    """
    if len(cmdline) > CMDLINE_LIMIT:
        raise UsageError(
            f"the command line has {len(cmdline)} bytes",
            f"tboot keeps {CMDLINE_LIMIT} and drops the rest (lcp2_mlehash is silent)",
        )
    return FileHash("mle", _digests(stream, Wanted(path, View.MLE, cmdline)))


def hash_module(
    stream: BinaryIO, path: str, cmdline: bytes = b"", *, decompress: bool = True
) -> FileHash:
    """Return what tboot extends for a module: H(H(cmdline) || H(image)).

    `decompress` is GRUB's way with files it knows; false is `--nounzip`. BootFileError
    for a file that GRUB's decompression refuses or that cannot be read.
    """
    view = View.GRUB if decompress else View.RAW
    return FileHash(
        "module", module_hashes(cmdline, _digests(stream, Wanted(path, view)))
    )


def hash_acm(stream: BinaryIO, path: str) -> FileHash:
    """Return the hash of a SINIT ACM's measured bytes.

    Its SHA-256 is the first part of HASH_START's data (0x402) wherever there is a
    TPM 2.0. BootFileError for a file that is no Intel AC module or cannot be read.
    """
    try:
        module = stream.read(acm.HEAD_LIMIT + 1)
        if len(module) > acm.HEAD_LIMIT:
            raise BootFileError(
                f"{shown(path)} is too large: an ACM has {acm.HEAD_LIMIT} bytes at most"
            )
        measured = acm.measured_bytes(module)
    except OSError as error:
        raise unreadable(path, error, BootFileError) from None
    except FormatError as error:
        raise BootFileError(f"{shown(path)}: {error.message}", error.hint) from None
    return FileHash("acm", {each: each.hash(measured) for each in ALGORITHMS})


def hash_luks(stream: BinaryIO, path: str) -> FileHash:
    """Return the hash of a device's LUKS header backup: what the hook measures.

    BootFileError for a device without an intact LUKS header, or one that cannot be
    read.
    """
    return FileHash("luks", _digests(stream, Wanted(path, View.LUKS)))


def _digests(stream: BinaryIO, wanted: Wanted) -> Digests:
    try:
        return look_at(stream, [wanted], ALGORITHMS)[wanted].digests
    except OSError as error:
        raise unreadable(wanted.path, error, BootFileError) from None

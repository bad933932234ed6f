# SPDX-License-Identifier: GPL-2.0-or-later
"""Which SINIT module was launched, by the log, and which one will be.

A launcher takes, of the modules that GRUB loaded, one that matches the machine's
chipset and processor, and the firmware's own instead when that is not older. Neither
the machine's ids nor the firmware's module are read here: that a module was launched
shows that the machine is one of its, and that the firmware's own is older.

Sources: tboot txt/acmod.c (does_acmod_match_platform, copy_sinit: date >= of the
firmware's wins), common/loader.c (find_platform_sinit_module: the last that matches);
TrenchBoot's GRUB loader/i386/txt/acmod.c (grub_txt_sinit_select: the same).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.acm_platform import Platform
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import BootFileError
from aemseal.words.events import TXT_HASH_START, TXT_SINIT_PUBKEY_HASH, Event
from aemseal.words.wanted import (
    NOTE_SINIT_CAPABILITIES,
    NOTE_SINIT_DATE,
    NOTE_SINIT_KEY,
    NOTE_SINIT_PLATFORM,
    FileFacts,
)

Logged = tuple[Event, Digest]
"""An event and what was extended for it, in the bank that was verified."""

_EDX_SIZE = 4
_HASH_START_SIZES = {
    HashAlgorithm.SHA256: 32 + _EDX_SIZE,
    HashAlgorithm.SHA1: 20 + _EDX_SIZE,
}
"""Bytes of HASH_START's data, by what the module is hashed with: SHA-1 where SINIT to
MLE data is of version 6 or older (Core 2), SHA-256 ever since, in every bank."""


_FORMS = {
    NOTE_SINIT_DATE: re.compile(r"[0-9a-f]{8}"),
    NOTE_SINIT_CAPABILITIES: re.compile(r"0x[0-9a-f]{1,8}"),
    NOTE_SINIT_KEY: re.compile(r"(?:[0-9a-f]{64})?"),
}
"""How notes are written; a key may be absent."""

_NOWHERE = str(Platform(frozenset(), None, None, is_debug=False))


class Fit(Enum):
    """Whether a SINIT module is for the machine that another one is for."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which module the next launch takes.

    `coming` is its file; None where it is what was launched and no file is known for
    it (the firmware's). `reason` says why it cannot be known, and then `coming` is
    None too.
    """

    coming: FileFacts | None
    reason: str | None = None


def sinit_files(files: Iterable[FileFacts]) -> tuple[FileFacts, ...]:
    """Return those facts that are of SINIT modules (View.ACM with its notes).

    BootFileError for notes that no SINIT module gives: facts may be read back from a
    recording or a baseline.
    """
    found = tuple(each for each in files if NOTE_SINIT_DATE in each.notes)
    for each in found:
        _require_notes(each)
    return found


def _require_notes(file: FileFacts) -> None:
    """Refuse what could not be worked with later; an absent key or platform can."""
    for name, form in _FORMS.items():
        if form.fullmatch(file.notes.get(name, "")) is None:
            raise _not_told(file, name)
    if HashAlgorithm.SHA256 not in file.digests:
        raise _not_told(file, HashAlgorithm.SHA256.label)
    try:
        Platform.parse(file.notes.get(NOTE_SINIT_PLATFORM, _NOWHERE))
    except ValueError:
        raise _not_told(file, NOTE_SINIT_PLATFORM) from None


def _not_told(file: FileFacts, what: str) -> BootFileError:
    return BootFileError(f"{file.wanted.path} is told with no {what} of a SINIT module")


def launched_file(
    logged: Sequence[Logged], files: Iterable[FileFacts]
) -> FileFacts | None:
    """Return the SINIT module that the log's HASH_START is of.

    Among several of the same measured bytes, the one whose key SINIT_PUBKEY_HASH is of.
    None: it is of none of these files. Then the firmware's own was launched, or a file
    that is gone. Files that are no SINIT modules are passed over.
    """
    starts = [each for each in logged if each[0].untrusted_type == TXT_HASH_START]
    fitting = [
        each
        for each in sinit_files(files)
        if any(hash_start_of(start, each) is not None for start in starts)
    ]
    signed = (each for each in fitting if _is_key_logged(logged, each))
    return next(signed, next(iter(fitting), None))


def is_key_of(logged: Logged, file: FileFacts) -> bool:
    """Whether SINIT_PUBKEY_HASH is of this module's key: H(SHA256(modulus))."""
    key = file.notes.get(NOTE_SINIT_KEY)
    digest = logged[1]
    return key is not None and digest.algorithm.hash(bytes.fromhex(key)) == digest


def _is_key_logged(logged: Sequence[Logged], file: FileFacts) -> bool:
    return any(
        each[0].untrusted_type == TXT_SINIT_PUBKEY_HASH and is_key_of(each, file)
        for each in logged
    )


def hash_start_of(start: Logged, file: FileFacts) -> HashAlgorithm | None:
    """Return what HASH_START hashed this file with; None when it is not this file.

    The digest decides, over H(module) || EDX. EDX is the data's last word; without
    data it is 0, as every launcher has it.
    """
    for algorithm in _HASH_START_SIZES:
        data = hash_start_data(start, file, algorithm)
        if data is not None and start[1].algorithm.hash(data) == start[1]:
            return algorithm
    return None


def hash_start_data(
    start: Logged, file: FileFacts, algorithm: HashAlgorithm
) -> bytes | None:
    """Return the data that HASH_START has with this file; None without its digest."""
    digest = file.digests.get(algorithm)
    if digest is None:
        return None
    data = start[0].untrusted_data
    is_whole = len(data) == _HASH_START_SIZES[algorithm]
    return digest.value + (data[-_EDX_SIZE:] if is_whole else bytes(_EDX_SIZE))


def choose(
    launched: FileFacts | None,
    before: Sequence[FileFacts] | None,
    after: Sequence[FileFacts],
) -> Choice:
    """Say which module the next launch takes; see `next_sinit` for the inputs."""
    after = sinit_files(after)
    if before is not None and identities(sinit_files(before)) == identities(after):
        return Choice(_same(launched, after))
    if launched is not None:
        return _instead_of(launched, after)
    if before is None:
        return Choice(
            None,
            "the SINIT module that was launched is none of the next boot's files: it "
            "was the firmware's, or has been replaced since",
        )
    if not after:
        return Choice(None)
    known = identities(sinit_files(before))
    new = [each.wanted.path for each in after if identity(each) not in known]
    what = f"{new[0]} is new" if new else "their number or order changes"
    return Choice(
        None,
        "the firmware's SINIT module was launched, and which of the next boot's files "
        f"wins over it cannot be told: {what}",
    )


def identity(file: FileFacts) -> tuple[bytes, str | None]:
    """Return what is measured of a module: its digest and its key."""
    return file.digests[HashAlgorithm.SHA256].value, file.notes.get(NOTE_SINIT_KEY)


def identities(files: Iterable[FileFacts]) -> list[tuple[bytes, str | None]]:
    """Return the identities of modules, in order."""
    return [identity(each) for each in files]


def fit(module: FileFacts, launched: FileFacts) -> Fit:
    """Say whether a module is for the machine that launched another.

    YES where its lists hold all of the other's, NO where no machine is in both, and
    UNKNOWN in between, or where a module's lists are not known.
    """
    if identity(module) == identity(launched):
        return Fit.YES
    texts = [each.notes.get(NOTE_SINIT_PLATFORM) for each in (module, launched)]
    platforms = [Platform.parse(text) for text in texts if text is not None]
    if len(platforms) < 2:
        return Fit.UNKNOWN
    if platforms[0].covers(platforms[1]):
        return Fit.YES
    return Fit.UNKNOWN if platforms[0].may_share(platforms[1]) else Fit.NO


def _same(launched: FileFacts | None, after: Sequence[FileFacts]) -> FileFacts | None:
    """Return the launched module as it is among the next boot's."""
    if launched is None:
        return None
    return next(each for each in after if identity(each) == identity(launched))


def _instead_of(launched: FileFacts, after: Sequence[FileFacts]) -> Choice:
    """Choose among other modules than those of the running boot."""
    path = launched.wanted.path
    fits: dict[tuple[bytes, str | None], FileFacts] = {}
    for each in after:
        answer = fit(each, launched)
        if answer is Fit.UNKNOWN:
            return Choice(
                None,
                f"{each.wanted.path} may be for this machine or not, which the SINIT "
                f"module that was launched ({path}) does not tell",
            )
        if answer is Fit.YES:
            fits.setdefault(identity(each), each)
    if not fits:
        return Choice(
            None,
            f"no SINIT module of the next boot is for this machine, as {path} was that "
            "was launched",
        )
    if len(fits) > 1:
        paths = " and ".join(each.wanted.path for each in fits.values())
        return Choice(None, f"{paths} are different SINIT modules for this machine")
    (coming,) = fits.values()
    if _date(coming) < _date(launched):
        return Choice(
            None,
            f"{coming.wanted.path} ({_date(coming)}) is older than the SINIT module "
            f"that was launched ({_date(launched)}): the firmware's own may win",
        )
    return Choice(coming)


def _date(file: FileFacts) -> str:
    """Return the date: eight hex digits, so that texts compare as the numbers do."""
    return file.notes[NOTE_SINIT_DATE]

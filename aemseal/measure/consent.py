# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person answers for: changes by name, or by name and measured digest.

With a digest the consent is to what was shown, and to nothing that takes its place
between the look and the move. It is the measured digest, of the bank that is sealed
to: it holds the bytes, and the command line where that is measured with them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from aemseal.measure.plan import Change, Plan
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import OriginError, UsageError

SHOWN_DIGITS = 16
"""Hex digits of a digest that are shown, and the fewest that are taken: 64 bits, where
whoever would pass another file off must meet those of one that was seen."""

_DIGEST = re.compile(rf"[0-9a-f]{{{SHOWN_DIGITS},128}}")


@dataclass(frozen=True, slots=True)
class Consent:
    """A component's name, and the beginning of its digest, empty for any."""

    name: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "xen" or "xen=0123456789abcdef"; UsageError for another form."""
        name, sign, digest = text.partition("=")
        digest = digest.lower()
        if sign and _DIGEST.fullmatch(digest) is None:
            raise UsageError(
                f"--accept {text}: no digest of {SHOWN_DIGITS} hex digits or more",
                "see what there is: aemseal reseal --dry-run",
            )
        return cls(name, digest)

    def is_to(self, change: Change, algorithm: HashAlgorithm) -> bool:
        """Whether it is to this change; to one that is gone, by its name alone."""
        if change.name != self.name:
            return False
        return not self.digest or _digest(change, algorithm).startswith(self.digest)

    def __str__(self) -> str:
        return f"{self.name}={self.digest}" if self.digest else self.name


def asked_for(change: Change, algorithm: HashAlgorithm) -> Consent:
    """Return the consent that a change calls for, as it is shown to a person."""
    return Consent(change.name, _digest(change, algorithm)[:SHOWN_DIGITS])


def _digest(change: Change, algorithm: HashAlgorithm) -> str:
    """Return the digest that is extended for a component; empty where it is gone."""
    if change.after is None:
        return ""
    _, digests = change.after.extends[0]
    digest = digests.get(algorithm)
    return "" if digest is None else digest.hex


def require_known(
    plans: Sequence[Plan], consents: Collection[Consent], algorithm: HashAlgorithm
) -> None:
    """Refuse a consent to what is not there, for it was meant for something.

    UsageError where no change has the name, OriginError where none has the digest.
    """
    changes = [change for plan in plans for change in plan.changes]
    for consent in consents:
        named = [each for each in changes if each.name == consent.name]
        if not named:
            known = ", ".join(dict.fromkeys(each.name for each in changes))
            raise UsageError(
                f"--accept {consent}: no such change", f"changed: {known or 'nothing'}"
            )
        if not any(consent.is_to(each, algorithm) for each in named):
            found = " or ".join(dict.fromkeys(_told(each, algorithm) for each in named))
            raise OriginError(
                f"{consent.name} is not what was to be accepted: {consent.digest} was "
                f"named, and it is {found}",
                "it has changed since you looked: look again with "
                "aemseal reseal --dry-run",
            )


def _told(change: Change, algorithm: HashAlgorithm) -> str:
    return _digest(change, algorithm) or "gone"


def require_origins(
    plans: Sequence[Plan], consents: Collection[Consent], algorithm: HashAlgorithm
) -> None:
    """Raise OriginError naming every unknown change that nobody consents to.

    The hint is what to say, with each digest as it was read just now. `plans` are
    those of all boots that are to be staged together.
    """
    unknown = [change for plan in plans for change in plan.unknown]
    open_ = [
        change
        for change in unknown
        if not any(consent.is_to(change, algorithm) for consent in consents)
    ]
    if not open_:
        return
    named = ", ".join(dict.fromkeys(map(_named, open_)))
    asked = [*consents, *(asked_for(change, algorithm) for change in open_)]
    words = dict.fromkeys(f"--accept {shlex.quote(str(each))}" for each in asked)
    raise OriginError(
        f"nobody answers for what changed in {named}",
        f"if you made these changes yourself, say so: {' '.join(words)}",
    )


def _named(change: Change) -> str:
    return f"{change.name} ({change.path})" if change.path else change.name

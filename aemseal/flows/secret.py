# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sealed: a text, a TOTP seed or a LUKS keyfile, and the PIN before it.

Values are in no repr and no message. The rules for a PIN are the vault's design: a
keyfile always has one, a text and a TOTP seed wherever a medium stays with the
machine, since whoever switches that machine on would be shown them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from aemseal.formats.slot import MAX_PARTS, PART_DATA, SECRET_KINDS
from aemseal.formats.text_lines import is_name
from aemseal.words.errors import UsageError, VaultError
from aemseal.world.config import Medium

TEXT, TOTP, KEYFILE = SECRET_KINDS
TEXT_LIMIT = MAX_PARTS * PART_DATA
PIN_LEAST, PIN_MOST = 6, 32
"""Characters of a PIN. A TPM takes an authValue of at most its nameAlg's 32 bytes;
with 32 tries and one more every two hours (flows/provision.py) six digits last."""

_TYPE = "type a text that you recognise: a line or two of letters"


@dataclass(frozen=True, slots=True)
class Pin:
    """A PIN that can be typed at boot: 6 to 32 printable ASCII characters, no space."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not PIN_LEAST <= len(self.value) <= PIN_MOST:
            raise UsageError(f"a PIN has {PIN_LEAST} to {PIN_MOST} characters")
        if not all(0x21 <= each <= 0x7E for each in self.value):
            raise UsageError(
                "the PIN holds a character that not every keyboard has at boot",
                "take letters and digits of ASCII, and no space",
            )


@dataclass(frozen=True, slots=True)
class Secret:
    """What is to be sealed; its value is in no repr and no message.

    UsageError for a value that cannot be sealed, or be shown at boot.
    """

    name: str
    kind: str
    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_name(self.name) or self.kind not in SECRET_KINDS:
            raise VaultError(f"no secret {self.name!r} of kind {self.kind!r}")
        if not self.value:
            raise UsageError("the secret is empty", _TYPE)
        if len(self.value) > TEXT_LIMIT:
            raise UsageError(f"the secret is longer than {TEXT_LIMIT} bytes", _TYPE)
        if self.kind == TEXT:
            _require_showable(self.value)


def _require_showable(value: bytes) -> None:
    """Raise UsageError for a text that the hook does not show as it is.

    It drops every control character but the line feed (boot-hooks/lib/screen.sh), and
    an accepted boot that shows nothing looks like one that is not.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        # from None, since the cause holds the secret
        raise UsageError("the secret is no text: it is not UTF-8", _TYPE) from None
    if any(unicodedata.category(each) == "Cc" for each in text.replace("\n", "")):
        raise UsageError(
            "the secret holds a control character (a tab, NUL, escape or the like), "
            "which is not shown at boot",
            _TYPE,
        )
    if not any(each.isprintable() and not each.isspace() for each in text):
        raise UsageError("the secret holds nothing that can be seen", _TYPE)


def require_pin(kind: str, pin: Pin | None, media: Sequence[Medium]) -> None:
    """Raise UsageError for a secret without the PIN that its media call for."""
    if pin is None and needs_pin(kind, media):
        raise UsageError(
            f"a {kind} on a medium that stays with the machine needs a PIN",
            "give one; or mark a medium that you take with you as carried: true in "
            "/etc/aemseal.yaml",
        )


def needs_pin(kind: str, media: Sequence[Medium]) -> bool:
    """Whether a secret of this kind may not be sealed to these media without a PIN."""
    return kind == KEYFILE or any(not medium.carried for medium in media)

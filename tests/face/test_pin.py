# SPDX-License-Identifier: GPL-2.0-or-later
"""Which PIN is asked for, of whom, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aemseal.face.pin import read_pin
from aemseal.face.run import Run
from aemseal.flows.secret import KEYFILE, TEXT, TOTP
from aemseal.flows.state import KeptSecret, VaultState
from aemseal.words.errors import UsageError
from aemseal.world.config import Medium

PIN = b"heron-1998"
STAYS = Medium("internal", "/boot/aemseal")
CARRIED = Medium("stick", "/media/stick", carried=True)


@dataclass
class Person:
    """Types lines without echo, if anybody is there."""

    typed: list[bytes] = field(default_factory=list)
    is_asking: bool = True
    prompts: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def ask_hidden(self, prompt: str) -> bytes:
        self.prompts.append(prompt)
        return self.typed.pop(0)

    def say(self, line: str) -> None:
        self.told.append(line)


def asked(
    person: Person,
    *media: Medium,
    kind: str = TEXT,
    file: Path | None = None,
    **vault: Any,
) -> bytes | None:
    run = SimpleNamespace(
        config=SimpleNamespace(media=media),
        arguments=SimpleNamespace(pin_file=None if file is None else str(file)),
        terminal=person,
    )
    state = cast("VaultState", SimpleNamespace(**vault)) if vault else None
    pin = read_pin(cast("Run", run), kind, state)
    return None if pin is None else pin.value


def test_a_pin_is_typed_twice() -> None:
    person = Person([PIN, PIN])
    assert asked(person, STAYS) == PIN
    assert person.prompts == ["PIN (not shown): ", "the same PIN again: "]


def test_two_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="the two PINs differ"):
        asked(Person([PIN, PIN + b"9"]), STAYS)


@pytest.mark.parametrize("kind", [TEXT, TOTP])
def test_nothing_is_a_word_for_none_where_every_medium_is_carried(kind: str) -> None:
    person = Person([b""])
    assert asked(person, CARRIED, kind=kind) is None
    assert person.prompts == ["PIN (not shown), or nothing for none: "]
    assert asked(Person([PIN, PIN]), CARRIED, kind=kind) == PIN


NEEDED = {
    "a medium that stays": ((STAYS,), TEXT, {}),
    "one of them stays": ((CARRIED, STAYS), TOTP, {}),
    "a keyfile": ((CARRIED,), KEYFILE, {}),
    "sealed to one that stays": ((CARRIED,), TEXT, {"media": (STAYS,), "secrets": ()}),
}


@pytest.mark.parametrize(("media", "kind", "vault"), NEEDED.values(), ids=list(NEEDED))
def test_nothing_is_no_pin_where_one_is_needed(
    media: tuple[Medium, ...], kind: str, vault: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="a PIN has 6 to 32 characters"):
        asked(Person([b""]), *media, kind=kind, **vault)
    with pytest.raises(UsageError, match=f"a {kind} on a medium that stays") as told:
        asked(Person(is_asking=False), *media, kind=kind, **vault)
    assert "--pin-file" in str(told.value.hint)


def test_where_nobody_is_there_and_none_is_needed_there_is_none() -> None:
    assert asked(Person(is_asking=False), CARRIED) is None


@pytest.mark.parametrize("content", [PIN, PIN + b"\n"])
@pytest.mark.parametrize("is_asking", [True, False])
def test_a_file_with_the_pin_is_asked_and_nobody_else(
    tmp_path: Path, content: bytes, is_asking: bool
) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    person = Person(is_asking=is_asking)
    assert asked(person, STAYS, file=file) == PIN
    assert person.prompts == []


UNFIT = {
    "empty": b"",
    "a line end": b"\n",
    "two lines": PIN + b"\n\n",
    "more lines": PIN + b"\nmore\n",
    "another system's line end": PIN + b"\r\n",
    "too long": b"x" * 33,
    "far too long": b"x" * 5000,
}


@pytest.mark.parametrize("content", UNFIT.values(), ids=list(UNFIT))
def test_a_file_with_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    with pytest.raises(UsageError):
        asked(Person(), CARRIED, file=file)
    file.unlink()
    with pytest.raises(UsageError, match="does not exist"):
        asked(Person(), CARRIED, file=file)


def test_beside_a_secret_with_a_pin_that_one_is_asked_for() -> None:
    """It cannot be checked: whoever is asked must know that."""
    secrets = (KeptSecret("text", "text"), KeptSecret("totp", "totp", pin=True))
    person = Person([PIN, PIN])
    assert asked(person, STAYS, media=(STAYS,), secrets=secrets) == PIN
    assert person.prompts[0] == "the PIN that you gave before (not shown): "
    [told] = person.told
    assert "a vault has one PIN, asked for once at boot" in told
    assert "It cannot be checked here" in told


def test_beside_a_secret_without_one_it_is_a_new_pin() -> None:
    person = Person([PIN, PIN])
    secrets = (KeptSecret("text", "text"),)
    assert asked(person, CARRIED, media=(CARRIED,), secrets=secrets) == PIN
    assert person.prompts[0] == "PIN (not shown), or nothing for none: "
    assert person.told == []

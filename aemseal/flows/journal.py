# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: what a move is about to do, on the disk before it begins.

/var/lib/aemseal/journal.json, one of two kinds and never both: a publish, which counts
(flows/vault.py), or a sealing, which makes new sealed objects (flows/sealing.py). It
holds no secret: sealed objects and acceptances lie on the medium for all to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aemseal.flows.state import DAMAGE, VaultState
from aemseal.words.errors import VaultError
from aemseal.world.luks_headers import HeaderChange
from aemseal.world.store import STATE_FOLDER

JOURNAL_FILE = f"{STATE_FOLDER}/journal.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Journal:
    """A publish under way: from which count to which, and the state it leads to."""

    move: str
    before: int
    after: int
    state: VaultState

    def to_bytes(self) -> bytes:
        """Write the journal."""
        fields = {
            "format": _FORMAT,
            "kind": "publish",
            "move": self.move,
            "before": self.before,
            "after": self.after,
            "state": self.state.to_dict(),
        }
        return json.dumps(fields, indent=1).encode()


@dataclass(frozen=True, slots=True)
class MediumFiles:
    """What a sealing puts on one medium: the vault file, and an acceptance with it.

    `acceptance` is empty where the one in force stays in force.
    """

    vault: bytes
    acceptance: bytes = b""


@dataclass(frozen=True, slots=True)
class Generation:
    """What belongs to one generation and goes with it: its number and its counter."""

    number: int
    counter: int


@dataclass(frozen=True, slots=True)
class Sealing:
    """A sealing under way, and the state it leads to.

    While `files` (by medium label) is empty nothing was promised yet: undone, it gives
    back its counter and key (`is_new`: of a new generation). Once they are there it can
    only be finished, which puts the `headers` on their LUKS devices and takes down
    `before`.
    """

    move: str
    state: VaultState
    is_new: bool
    files: Mapping[str, MediumFiles] = field(default_factory=dict)
    before: Generation | None = None
    headers: tuple[HeaderChange, ...] = ()

    @property
    def is_promised(self) -> bool:
        """Whether everything is sealed, so that it is finished and not undone."""
        return bool(self.files)

    def to_bytes(self) -> bytes:
        """Write the journal."""
        before = self.before
        fields = {
            "format": _FORMAT,
            "kind": "sealing",
            "move": self.move,
            "is_new": self.is_new,
            "state": self.state.to_dict(),
            "files": {
                label: {
                    "vault": each.vault.decode("ascii"),
                    "acceptance": each.acceptance.decode("ascii"),
                }
                for label, each in self.files.items()
            },
            "before": before and {"number": before.number, "counter": before.counter},
            "headers": [
                {
                    "uuid": each.uuid,
                    "before": each.before.hex(),
                    "after": each.after.hex(),
                }
                for each in self.headers
            ],
        }
        return json.dumps(fields, indent=1).encode()


def parse_journal(data: bytes) -> Journal | Sealing:
    """Read the journal; VaultError when it is damaged."""
    try:
        fields = json.loads(data)
        if fields["format"] != _FORMAT:
            raise ValueError("another format")
        return _KINDS[fields["kind"]](fields)
    except DAMAGE:
        raise VaultError(
            f"{JOURNAL_FILE} is damaged: what was cut short is not known",
            "take the vault down with: aemseal remove; and enrol anew",
        ) from None


def _publish(fields: dict[str, Any]) -> Journal:
    return Journal(
        move=str(fields["move"]),
        before=int(fields["before"]),
        after=int(fields["after"]),
        state=VaultState.from_dict(fields["state"]),
    )


def _sealing(fields: dict[str, Any]) -> Sealing:
    before = fields["before"]
    state = VaultState.from_dict(fields["state"])
    files = {
        str(label): MediumFiles(
            each["vault"].encode("ascii"), each["acceptance"].encode("ascii")
        )
        for label, each in fields["files"].items()
    }
    if files and files.keys() != {medium.label for medium in state.media}:
        raise ValueError("files of other media")
    return Sealing(
        move=str(fields["move"]),
        state=state,
        is_new=bool(fields["is_new"]),
        files=files,
        before=before and Generation(int(before["number"]), int(before["counter"])),
        headers=tuple(_header(each) for each in fields["headers"]),
    )


def _header(fields: dict[str, Any]) -> HeaderChange:
    return HeaderChange(
        str(fields["uuid"]),
        bytes.fromhex(fields["before"]),
        bytes.fromhex(fields["after"]),
    )


_KINDS: dict[str, Callable[[dict[str, Any]], Journal | Sealing]] = {
    "publish": _publish,
    "sealing": _sealing,
}

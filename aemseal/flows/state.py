# SPDX-License-Identifier: GPL-2.0-or-later
"""What aemseal remembers between boots, on the encrypted root: no secret in it.

/var/lib/aemseal/state.json, format 1. Which boots are accepted, staged and retired,
each with its measurements, so that `explain` can say what differs from which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aemseal.formats.text_lines import is_name
from aemseal.measure.baseline import Baseline
from aemseal.measure.foreseen import Foreseen
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import AemsealError, EvidenceError, VaultError
from aemseal.world.config import Medium
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import STATE_FOLDER

STATE_FILE = f"{STATE_FOLDER}/state.json"
FORESEEN_FILE = f"{STATE_FOLDER}/foreseen.json"
"""There while an enrolment waits for a reboot (docs/adr/0007)."""

RETIRED_KEPT = 32
"""How many retired boots are remembered by name; the TPM refuses older ones too."""

DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
    AemsealError,
)
"""What reading JSON of another shape than ours may raise."""


@dataclass(frozen=True, slots=True)
class SealedBoot:
    """A boot the vault knows: its PolicyPCR digest (32 bytes) and its measurements.

    `fallback` says that it is accepted as a GRUB entry beside the usual one.
    """

    name: str
    since: str
    policy: bytes
    boot: Baseline
    fallback: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "since": self.since,
            "policy": self.policy.hex(),
            "boot": self.boot.to_json(),
            "fallback": self.fallback,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> SealedBoot:
        """Read the JSON object."""
        policy = bytes.fromhex(fields["policy"])
        if len(policy) != 32:
            raise ValueError("a policy digest has 32 bytes")
        return cls(
            name=str(fields["name"]),
            since=str(fields["since"]),
            policy=policy,
            boot=Baseline.from_json(fields["boot"]),
            fallback=bool(fields.get("fallback")),
        )


@dataclass(frozen=True, slots=True)
class LuksSlot:
    """A key slot of ours on a LUKS device: its UUID (36 characters) and the number."""

    uuid: str
    slot: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"uuid": self.uuid, "slot": self.slot}

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | None) -> LuksSlot | None:
        """Read the JSON object; None stays None."""
        if fields is None:
            return None
        return cls(str(fields["uuid"]), int(fields["slot"]))


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """What is known of a sealed secret, and not the secret.

    `pin` says that its PIN is asked for; `disk` is what a keyfile opens.
    """

    name: str
    kind: str
    pin: bool = False
    disk: LuksSlot | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "kind": self.kind,
            "pin": self.pin,
            "disk": self.disk and self.disk.to_dict(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | str) -> KeptSecret:
        """Read the JSON object; a name alone is a text of before there were others."""
        if isinstance(fields, str):
            return cls(fields, fields)
        return cls(
            str(fields["name"]),
            str(fields["kind"]),
            bool(fields["pin"]),
            LuksSlot.from_dict(fields["disk"]),
        )


@dataclass(frozen=True, slots=True)
class Attendance:
    """What the TPM counted up to the last confirmed boot.

    `resets` and `restarts` are TPM2_ReadClock's, the latter of a boot that was never
    suspended (flows/attendance.py).
    """

    resets: int
    time: str
    restarts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"resets": self.resets, "time": self.time, "restarts": self.restarts}

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | None) -> Attendance | None:
        """Read the JSON object; None stays None."""
        if fields is None:
            return None
        resets, time = int(fields["resets"]), str(fields["time"])
        restarts = fields.get("restarts")
        return cls(resets, time, None if restarts is None else int(restarts))


@dataclass(frozen=True, slots=True)
class SeenFiles:
    """The files beside a boot (measure/beside.py) as last seen, and in which boot.

    `boot` is the kernel's name for that boot, `files` a SHA-256 of all that was known
    of them, in hex.
    """

    boot: str
    files: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"boot": self.boot, "files": self.files}

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | None) -> SeenFiles | None:
        """Read the JSON object; None stays None."""
        if fields is None:
            return None
        return cls(str(fields["boot"]), str(fields["files"]))


@dataclass(frozen=True, slots=True)
class NextBootCheck:
    """What `reseal` or `status --check` last found about the next boot, and when."""

    result: str
    time: str


@dataclass(frozen=True, slots=True)
class VaultState:
    """The vault as last published; `count` is the counter's value in force.

    `counter` is the NV index handle. `baseline` is the last boot that was verified by
    enrol or confirm. `stale` are the labels of the media that were absent at the last
    move. `foreseen` is what the last reseal knew of a blind boot, until the next move.
    `attendance` is what the TPM had counted when a boot was last confirmed, `seen` the
    files beside the running boot at the last look.
    """

    generation: int
    selection: PcrSelection
    storage: StorageKey
    counter: int
    count: int
    media: tuple[Medium, ...]
    secrets: tuple[KeptSecret, ...]
    baseline: Baseline
    accepted: tuple[SealedBoot, ...] = ()
    staged: tuple[SealedBoot, ...] = ()
    retired: tuple[SealedBoot, ...] = ()
    stale: tuple[str, ...] = ()
    checked: NextBootCheck | None = None
    foreseen: Foreseen | None = None
    attendance: Attendance | None = None
    seen: SeenFiles | None = None

    def __post_init__(self) -> None:
        self.selection.require_sealable()
        for medium in self.media:
            if not is_name(medium.label):
                raise ValueError(f"medium label {medium.label!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        fields: dict[str, Any] = {
            "format": 1,
            "generation": self.generation,
            "selection": str(self.selection),
            "storage": {
                "handle": self.storage.handle,
                "name": self.storage.name.hex(),
                "serialized": self.storage.serialized.hex(),
            },
            "counter": self.counter,
            "count": self.count,
            "media": [
                {"label": each.label, "path": each.path, "carried": each.carried}
                for each in self.media
            ],
            "secrets": [each.to_dict() for each in self.secrets],
            "baseline": self.baseline.to_json(),
            "accepted": [each.to_dict() for each in self.accepted],
            "staged": [each.to_dict() for each in self.staged],
            "retired": [each.to_dict() for each in self.retired],
            "stale": list(self.stale),
            "checked": self.checked
            and {"result": self.checked.result, "time": self.checked.time},
        }
        if self.attendance is not None:
            fields["attendance"] = self.attendance.to_dict()
        if self.seen is not None:
            fields["seen"] = self.seen.to_dict()
        if self.foreseen is not None:
            fields["foreseen"] = self.foreseen.to_json()
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> VaultState:
        """Read the JSON object; KeyError, TypeError or ValueError when it is none."""
        if fields["format"] != 1:
            raise EvidenceError(
                f"its format is {fields['format']}, and this aemseal reads format 1"
            )
        storage, checked = fields["storage"], fields["checked"]
        foreseen = fields.get("foreseen")
        return cls(
            generation=int(fields["generation"]),
            selection=PcrSelection.parse(fields["selection"]),
            storage=StorageKey(
                int(storage["handle"]),
                bytes.fromhex(storage["name"]),
                bytes.fromhex(storage["serialized"]),
            ),
            counter=int(fields["counter"]),
            count=int(fields["count"]),
            media=tuple(
                Medium(str(each["label"]), str(each["path"]), bool(each.get("carried")))
                for each in fields["media"]
            ),
            secrets=tuple(KeptSecret.from_dict(each) for each in fields["secrets"]),
            baseline=Baseline.from_json(fields["baseline"]),
            accepted=_boots(fields["accepted"]),
            staged=_boots(fields["staged"]),
            retired=_boots(fields["retired"]),
            stale=tuple(str(each) for each in fields["stale"]),
            checked=checked and NextBootCheck(checked["result"], checked["time"]),
            foreseen=None if foreseen is None else Foreseen.from_json(foreseen),
            attendance=Attendance.from_dict(fields.get("attendance")),
            seen=SeenFiles.from_dict(fields.get("seen")),
        )

    def to_bytes(self) -> bytes:
        """Write state.json."""
        return json.dumps(self.to_dict(), indent=1).encode()

    @classmethod
    def parse(cls, data: bytes) -> VaultState:
        """Read state.json; VaultError when it is damaged."""
        try:
            return cls.from_dict(json.loads(data))
        except DAMAGE as error:
            raise VaultError(
                f"{STATE_FILE} is damaged: {_complaint(error)}",
                "take it from a backup of the encrypted root; or take the vault down: "
                "aemseal remove",
            ) from None


def _complaint(error: Exception) -> str:
    """Say what is wrong with state.json in words that are not Python's."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON in line {error.lineno}"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, AemsealError):
        return error.message
    return "a value is not what it should be"


def nothing_sealed() -> VaultError:
    """Return the error of a move on a machine without a vault."""
    return VaultError(
        "nothing is sealed on this machine", "start with: aemseal enrol text"
    )


def _boots(listed: list[dict[str, Any]]) -> tuple[SealedBoot, ...]:
    return tuple(SealedBoot.from_dict(each) for each in listed)

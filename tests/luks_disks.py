# SPDX-License-Identifier: GPL-2.0-or-later
"""Real LUKS devices in files, with key derivations that take no time."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UUID = "0f0e7a6c-3f0b-4a50-8c0e-6d1f3b8f0001"
OTHER_UUID = "1c2d3e4f-3f0b-4a50-8c0e-6d1f3b8f0002"
PASSPHRASE = b"correct horse battery staple"
CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
DATA = 2 << 20
"""Where the data begins; the header with room for four slots is 1 MiB + 32 KiB."""


def cryptsetup(
    *words: str | Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["cryptsetup", *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def did(*words: str | Path, stdin: bytes = b"") -> bytes:
    done = cryptsetup(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class LuksDisk:
    """A disk below a machine's root, where udev would link it."""

    root: Path
    uuid: str = UUID

    @property
    def path(self) -> Path:
        return self.root / "dev/disk/by-uuid" / self.uuid

    def make(self, kind: str = "luks2") -> LuksDisk:
        """Format it, with some data behind the header."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            file.truncate(DATA)
            file.seek(DATA)
            file.write(b"data of the disk" * 4096)
        sizes = ("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m")
        did(
            *("luksFormat", "--batch-mode", "--type", kind, "--uuid", self.uuid),
            *(CHEAP if kind == "luks2" else CHEAP[2:]),
            *(sizes if kind == "luks2" else ()),
            *("--offset", str(DATA // 512), "--key-file", "-", self.path),
            stdin=PASSPHRASE,
        )
        return self

    @property
    def header(self) -> bytes:
        """What the hook measures: cryptsetup's own backup of the header."""
        folder = Path(tempfile.mkdtemp())
        try:
            words = ("luksHeaderBackup", "--header-backup-file", folder / "header")
            did(*words, self.path)
            return (folder / "header").read_bytes()
        finally:
            shutil.rmtree(folder)

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()[DATA:]

    def opens(self, key: bytes) -> bool:
        """Whether the data's key is to be had with this one."""
        words = ("open", "--test-passphrase", "--key-file", "-", self.path)
        return cryptsetup(*words, stdin=key).returncode == 0

    @property
    def metadata(self) -> dict[str, Any]:
        found = json.loads(did("luksDump", "--dump-json-metadata", self.path))
        assert isinstance(found, dict)
        return found

    @property
    def slots(self) -> list[int]:
        return sorted(map(int, self.metadata["keyslots"]))

    @property
    def tokens(self) -> list[dict[str, Any]]:
        return list(self.metadata["tokens"].values())

    def add(self, key: bytes, passphrase: bytes = PASSPHRASE) -> None:
        """Do what somebody else may do: add a key in place."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(key)
            file.flush()
            did(
                *("luksAddKey", "--batch-mode", *CHEAP, "--key-file", "-"),
                *(self.path, file.name),
                stdin=passphrase,
            )

    def kill(self, slot: int) -> None:
        did("luksKillSlot", "--batch-mode", self.path, str(slot))

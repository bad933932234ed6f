# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of a machine, made and edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host_tree import outcome, questions

from aemseal.words.digest import HashAlgorithm
from aemseal.world.host import Host
from aemseal.world.recording import RecordedHost, RecordingHost

SHA384 = HashAlgorithm.SHA384
SOURCED = ("/boot/grub2/custom.cfg", "/boot/xen.gz")
"""What the questions let GRUB read: of anything but text only the size is kept."""


def recorded(host: Host, folder: Path, ask: Callable[[Host], object]) -> RecordedHost:
    recorder = RecordingHost(host)
    ask(recorder)
    recorder.save(folder)
    return RecordedHost(folder)


def ask_everything(host: Host) -> dict[str, object]:
    return {name: outcome(ask) for name, ask in questions(host).items()}


def edited(folder: Path, name: str, change: Callable[[Any], object]) -> Path:
    """Change the JSON of a recording's file; a change may return another value."""
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(value) or value))
    return folder


def first_answer(folder: Path, question: str, **fields: object) -> Path:
    def change(manifest: dict[str, Any]) -> None:
        for entry in manifest["answers"]:
            if entry["question"][0] == question:
                entry.update(fields)

    return edited(folder, "manifest.json", change)


def put(*path: str | int, value: object) -> Callable[[Any], None]:
    def change(top: Any) -> None:
        for step in path[:-1]:
            top = top[step]
        top[path[-1]] = value

    return change

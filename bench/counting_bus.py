# SPDX-License-Identifier: GPL-2.0-or-later
"""A bus between programs and a simulated TPM that counts commands and bytes."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tpm_sim.swtpm import Swtpm

NAMES = {
    0x131: "CreatePrimary",
    0x13C: "PCR_Event",
    0x149: "PolicyNV",
    0x14E: "NV_Read",
    0x151: "PolicySecret",
    0x153: "Create",
    0x157: "Load",
    0x15E: "Unseal",
    0x161: "ContextLoad",
    0x162: "ContextSave",
    0x165: "FlushContext",
    0x167: "LoadExternal",
    0x169: "NV_ReadPublic",
    0x16A: "PolicyAuthorize",
    0x16B: "PolicyAuthValue",
    0x16C: "PolicyCommandCode",
    0x171: "PolicyOR",
    0x173: "ReadPublic",
    0x176: "StartAuthSession",
    0x177: "VerifySignature",
    0x17A: "GetCapability",
    0x17B: "GetRandom",
    0x17D: "Hash",
    0x17E: "PCR_Read",
    0x17F: "PolicyPCR",
    0x182: "PCR_Extend",
    0x189: "PolicyGetDigest",
}
"""TPM_CC (TPM 2.0 Library part 2 section 6.5.2), those that are met here."""

_HEADER = 10


@dataclass
class Traffic:
    """What went over the bus; sizes in bytes."""

    commands: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    refused: int = 0


class CountingBus:
    """A context manager; `tcti` leads through it, `traffic` is what it has seen."""

    def __init__(self, tpm: Swtpm) -> None:
        self._tpm = tpm
        self._path = tpm.socket_path.with_name("counted")
        self._control = Path(f"{self._path}.ctrl")
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.traffic = Traffic()

    @property
    def tcti(self) -> str:
        """The TCTI for tpm2-tools and tpm2-pytss."""
        return f"swtpm:path={self._path}"

    def __enter__(self) -> Self:
        self._control.symlink_to(f"{self._tpm.socket_path}.ctrl")
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self._path.unlink()
        self._control.unlink()

    def _serve(self) -> None:
        while True:
            try:
                program, _ = self._listener.accept()
            except OSError:
                return
            with (
                program,
                socket.socket(socket.AF_UNIX) as tpm,
                suppress(ConnectionError),  # a program that was ended, or the TPM
            ):
                tpm.connect(str(self._tpm.socket_path))
                self._carry(program, tpm)

    def _carry(self, program: socket.socket, tpm: socket.socket) -> None:
        while command := _message(program):
            tpm.sendall(command)
            response = _message(tpm)
            self._count(command, response)
            program.sendall(response)

    def _count(self, command: bytes, response: bytes) -> None:
        code = int.from_bytes(command[6:_HEADER], "big")
        self.traffic.commands[NAMES.get(code, f"0x{code:x}")] += 1
        self.traffic.sent += len(command)
        self.traffic.received += len(response)
        self.traffic.refused += response[6:_HEADER] != bytes(4)


def _message(channel: socket.socket) -> bytes:
    """Read one command or response, by the size in its header; b"" at the end."""
    data = b""
    while len(data) < _HEADER or len(data) < int.from_bytes(data[2:6], "big"):
        part = channel.recv(4096)
        if not part:
            return b""
        data += part
    return data

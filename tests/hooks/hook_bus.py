# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots that a launcher measures into a TPM, and a bus to listen on."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tpm_sim.swtpm import LOCALITY_LAUNCHED, Swtpm

from aemseal.words.digest import HashAlgorithm

CC_PCR_EVENT = 0x13C
CC_LOAD = 0x157
CC_UNSEAL = 0x15E
CC_FLUSH = 0x165
CC_POLICY_AUTH_VALUE = 0x16B
CC_START_AUTH_SESSION = 0x176
CC_GET_CAPABILITY = 0x17A
CC_PCR_EXTEND = 0x182

PCRS = (13, 17, 18, 19)
"""The selection: what the hook measures, and what the launch does."""


@dataclass(frozen=True)
class Boot:
    """What a launch measures: the launched block, then more at locality 2."""

    launched: bytes
    extends: tuple[tuple[int, bytes], ...]

    def launch(self, tpm: Swtpm) -> None:
        tpm.hash_sequence(self.launched)
        tpm.extend(
            (
                (pcr, {algorithm: algorithm.hash(data) for algorithm in tpm.banks})
                for pcr, data in self.extends
            ),
            LOCALITY_LAUNCHED,
        )

    def pcrs(self, bank: str, headers: tuple[bytes, ...]) -> dict[int, bytes]:
        """What PCRS hold when the hook asks, these LUKS headers measured before."""
        values = {pcr: bytes(hashlib.new(bank).digest_size) for pcr in PCRS}
        extends = [(17, self.launched), *self.extends]
        for pcr, data in [*extends, *((13, header) for header in headers)]:
            values[pcr] = extended(bank, values[pcr], data)
        return values


def extended(bank: str, value: bytes, data: bytes) -> bytes:
    """What a PCR holds after the digest of `data` was extended."""
    return hashlib.new(bank, value + hashlib.new(bank, data).digest()).digest()


def boot(xen: bytes) -> Boot:
    return Boot(b"sinit", ((17, b"policy"), (18, xen), (19, b"kernel, initramfs")))


OLD, NEW = boot(b"Xen 4.17.5"), boot(b"Xen 4.17.7")


def banks(*names: str) -> tuple[HashAlgorithm, ...]:
    return tuple(HashAlgorithm.named(name) for name in names)


class Wire:
    """A bus between the tools and the TPM: it records, and can act before a command.

    `commands` are (code, command, response), in order. One that is `managed` drops the
    objects of a tool that has ended, as a resource manager does, unrecorded.
    """

    def __init__(self, tpm: Swtpm, *, managed: bool = False) -> None:
        self.managed = managed
        self.served = 0
        self.path = tpm.socket_path.with_name("wire")
        self.control = Path(f"{self.path}.ctrl")
        self.control.symlink_to(f"{tpm.socket_path}.ctrl")
        self.tpm = tpm
        self.commands: list[tuple[int, bytes, bytes]] = []
        self.before: Callable[[int], None] = lambda code: None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()
        self.path.unlink()
        self.control.unlink()

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self.path}"

    def at(self, code: int, act: Callable[[], None]) -> None:
        """Act once, before the TPM gets this command."""

        def before(found: int) -> None:
            if found == code:
                self.before = lambda code: None
                act()

        self.before = before

    @property
    def codes(self) -> list[int]:
        return [code for code, _, _ in self.commands]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with (
                client,
                socket.socket(socket.AF_UNIX) as tpm,
                # A tool was killed, or the TPM was: the other side will see it.
                suppress(ConnectionError, FileNotFoundError),
            ):
                tpm.connect(str(self.tpm.socket_path))
                self._carry(client, tpm)

    def _carry(self, client: socket.socket, tpm: socket.socket) -> None:
        if self.managed:
            self._drop_objects_of_another_than(client, tpm)
        while command := _frame(client):
            code = int.from_bytes(command[6:10], "big")
            self.before(code)
            tpm.sendall(command)
            response = _frame(tpm)
            self.commands.append((code, command, response))
            client.sendall(response)

    def _drop_objects_of_another_than(
        self, client: socket.socket, tpm: socket.socket
    ) -> None:
        option = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        process, _, _ = struct.unpack("3i", option)
        if process == self.served:
            return
        self.served = process
        transient, most = 0x80000000, 100
        request = struct.pack(
            ">HIIIII", 0x8001, 22, CC_GET_CAPABILITY, 1, transient, most
        )
        tpm.sendall(request)
        handles = _frame(tpm)[19:]
        for at in range(0, len(handles), 4):
            tpm.sendall(
                struct.pack(">HII", 0x8001, 14, CC_FLUSH) + handles[at : at + 4]
            )
            _frame(tpm)


def _frame(channel: socket.socket) -> bytes:
    """Read one command or response by the size in its header; b"" at the end."""
    data = b""
    while len(data) < 10 or len(data) < int.from_bytes(data[2:6], "big"):
        chunk = channel.recv(4096)
        if not chunk:
            return b""
        data += chunk
    return data

# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM behind QEMU that sees a dynamic launch: a proxy between QEMU and swtpm.

QEMU's TPM emulator device speaks swtpm's control protocol (swtpm_ioctls(3)) on a unix
socket and hands over a socket for the TPM commands. The proxy passes both on. Right
behind the guest's first successful TPM2_Startup after a power-on or reset it does what
processor, SINIT and launcher would do a little later: the HASH sequence at locality 4,
then extends from locality 2. Firmware touches none of PCR 17 to 22, so the order does
not matter to them; QEMU's own locality is put back.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aemseal.words.digest import Digests
from tpm_sim import wire
from tpm_sim.errors import SimulationError
from tpm_sim.swtpm import LOCALITY_LAUNCHED, Swtpm

_INIT, _SET_LOCALITY, _SET_DATAFD = 2, 5, 16
_HASH_START, _HASH_DATA, _HASH_END = 6, 7, 8
_STARTUP = 0x144
_HEADER = 10
_CHUNK = 4096
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a launch measures: the HASH sequence's data, then extends in order."""

    hash_data: bytes
    extends: tuple[tuple[int, Digests], ...]


@dataclass
class QemuTpm:
    """The TPM of one virtual machine, with the memory of a `Swtpm` that is off.

    `launch` is None for a boot without one. As a context manager: `path` is what QEMU
    connects to. At the end swtpm is killed: no TPM2_Shutdown but the guest's own.
    """

    chip: Swtpm
    launch: Measured | None
    wire: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        folder = self.chip.socket_path.parent
        self.path = folder / "qemu"
        self._control_path = folder / "qemu.ctrl"
        self._lock = threading.Lock()
        self._armed = False
        self._locality = 0
        self._open: list[socket.socket] = []
        self._trouble: BaseException | None = None

    def __enter__(self) -> Self:
        if self.chip.is_on:
            raise SimulationError("the TPM is on already")
        self._control_path.unlink(missing_ok=True)
        self._listener = _listening(self.path)
        self._open.append(self._listener)
        control = _listening(self._control_path)
        state = self.chip.socket_path.parent
        self._swtpm = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
                *("--ctrl", f"type=unixio,fd={control.fileno()}"),
            ],
            pass_fds=(control.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        control.close()
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.connect(str(self._control_path))
        self._control.settimeout(_PATIENCE)
        self._open.append(self._control)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._swtpm.kill()
        self._swtpm.wait()
        for each in self._open:
            with suppress(OSError):
                each.close()
        if self._trouble is not None and error is None:
            raise SimulationError(f"the TPM's proxy failed: {self._trouble!r}")

    # --- control ---

    def _serve(self) -> None:
        """Pass control commands on until QEMU goes; each is one message each way."""
        try:
            qemu, _ = self._listener.accept()
            self._open.append(qemu)
            while True:
                message, descriptors, _, _ = socket.recv_fds(qemu, 1 << 16, 1)
                if not message:
                    return
                code = int.from_bytes(message[:4], "big")
                with self._lock:
                    reply = self._pass_on(code, message, descriptors)
                qemu.sendall(reply)
        except OSError:
            return  # QEMU is gone, or this machine was switched off
        except BaseException as error:  # told by __exit__
            self._trouble = error

    def _pass_on(self, code: int, message: bytes, descriptors: list[int]) -> bytes:
        if code == _SET_DATAFD:
            ours, theirs = socket.socketpair()
            self._open.append(ours)
            socket.send_fds(self._control, [message], [theirs.fileno()])
            theirs.close()
            guest = socket.socket(fileno=descriptors[0])
            self._open.append(guest)
            threading.Thread(
                target=self._serve_data, args=(guest, ours), daemon=True
            ).start()
        else:
            self._control.sendall(message)
        if code == _INIT:
            self._armed = True
        if code == _SET_LOCALITY:
            self._locality = message[4]
        return self._control.recv(1 << 16)

    def _command(self, code: int, data: bytes = b"") -> None:
        self._control.sendall(struct.pack(">I", code) + data)
        reply = self._control.recv(1 << 16)
        if int.from_bytes(reply[:4], "big") != 0:
            raise SimulationError(f"swtpm refused control command {code}")

    # --- TPM commands ---

    def _serve_data(self, guest: socket.socket, chip: socket.socket) -> None:
        try:
            while True:
                command = _framed(guest)
                response = self._exchange(chip, command)
                code = int.from_bytes(command[6:10], "big")
                if (
                    code == _STARTUP
                    and self._armed
                    and wire.response_code(response) == 0
                ):
                    self._armed = False
                    self._perform(chip)
                guest.sendall(response)
        except (OSError, EOFError):
            return
        except BaseException as error:  # told by __exit__
            self._trouble = error
            guest.close()

    def _exchange(self, chip: socket.socket, command: bytes) -> bytes:
        chip.sendall(command)
        response = _framed(chip)
        self.wire += [command, response]
        return response

    def _perform(self, chip: socket.socket) -> None:
        """Do the dynamic launch; the guest waits for the answer to its Startup."""
        if self.launch is None:
            return
        with self._lock:
            self._command(_HASH_START)
            data = self.launch.hash_data
            for at in range(0, len(data), _CHUNK):
                part = data[at : at + _CHUNK]
                self._command(_HASH_DATA, struct.pack(">I", len(part)) + part)
            self._command(_HASH_END)
            self._command(_SET_LOCALITY, bytes([LOCALITY_LAUNCHED]))
            self._extend(chip, self.launch.extends)
            self._command(_SET_LOCALITY, bytes([self._locality]))

    def _extend(
        self, chip: socket.socket, extends: Iterable[tuple[int, Digests]]
    ) -> None:
        for pcr, digests in extends:
            response = self._exchange(chip, wire.pcr_extend(pcr, digests))
            code = wire.response_code(response)
            if code != 0:
                raise SimulationError(f"extending PCR {pcr} gave {code:#x}")


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


def _framed(connection: socket.socket) -> bytes:
    """Receive one TPM command or response; EOFError at the end."""
    data = _exactly(connection, _HEADER)
    size = int.from_bytes(data[2:6], "big")
    return data + _exactly(connection, size - _HEADER)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data

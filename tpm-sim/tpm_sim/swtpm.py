# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM 2.0 that can be powered on, powered off and cut off: swtpm, one process.

Sockets are bound here and handed to swtpm as open descriptors: a client that
connects before swtpm serves waits in the queue, so nothing sleeps or polls. swtpm
serves one client at a time, one after another. Source: swtpm(8), swtpm_ioctls(3).
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aemseal.words.digest import PCR_COUNT, Digest, Digests, HashAlgorithm
from tpm_sim import wire
from tpm_sim.errors import SimulationError

SOCKET_TIMEOUT = 20.0
"""Seconds that any answer of swtpm may take; creating an RSA key takes about one."""

LOCALITY_OS = 0
LOCALITY_LAUNCHED = 2
"""The locality of the measured launch environment (tboot) and of SINIT."""

_CMD_SHUTDOWN = 3
_CMD_SET_LOCALITY = 5
_CMD_HASH_START = 6
_CMD_HASH_DATA = 7
_CMD_HASH_END = 8
_HASH_DATA_LIMIT = 4096
_PCRS_AT_ONCE = 8
_STATE_FILES = "tpm2-00.*"
_SWTPM_BANKS = (
    HashAlgorithm.SHA1,
    HashAlgorithm.SHA256,
    HashAlgorithm.SHA384,
    HashAlgorithm.SHA512,
)


class Swtpm:
    """A TPM whose state outlives power-offs, in a private folder of its own.

    As a context manager it is powered off, and its folder removed, at the end; it
    starts switched off. `banks` are the PCR banks that are active.
    """

    def __init__(
        self, banks: Iterable[HashAlgorithm] = (HashAlgorithm.SHA256,)
    ) -> None:
        self.banks = tuple(banks)
        # Short: a unix socket's path has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="swtpm-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._banks_allocated = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def socket_path(self) -> Path:
        """The socket for TPM commands; the control socket has ".ctrl" behind it."""
        return self._folder / "tpm"

    @property
    def tcti(self) -> str:
        """The TCTI for tpm2-tools and tpm2-pytss."""
        return f"swtpm:path={self.socket_path}"

    @property
    def is_on(self) -> bool:
        """Whether the TPM has power."""
        return self._process is not None

    def power_on(self) -> None:
        """Start the TPM and send what firmware sends first, TPM2_Startup(CLEAR)."""
        if self._process is not None:
            raise SimulationError("the TPM is on already")
        self._start()
        if not self._banks_allocated:
            self._allocate_banks()
        self.send(wire.startup())

    def power_off(self) -> None:
        """Switch off as a running system does, with TPM2_Shutdown; off stays off."""
        if self._process is None:
            return
        self.send(wire.shutdown())
        self._control(_CMD_SHUTDOWN)
        self._reap()

    def power_cut(self) -> None:
        """Take the power away at once (kill -9): no TPM2_Shutdown is sent."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._reap()

    def discard(self) -> None:
        """Cut the power and throw the TPM away with all its state."""
        self.power_cut()
        shutil.rmtree(self._folder, ignore_errors=True)

    def copy_state(self, folder: Path) -> None:
        """Copy what the TPM keeps over a power-off into a folder; it must be off."""
        self._require_off()
        for path in self._folder.glob(_STATE_FILES):
            shutil.copy(path, folder)

    def put_state(self, folder: Path) -> None:
        """Have the TPM be as it was when its state was copied there; it must be off."""
        self._require_off()
        for path in self._folder.glob(_STATE_FILES):
            path.unlink()
        for path in folder.glob(_STATE_FILES):
            shutil.copy(path, self._folder)

    def _require_off(self) -> None:
        if self._process is not None:
            raise SimulationError("the TPM is on")

    def hash_sequence(self, data: bytes) -> None:
        """Do what the processor does at locality 4: HASH_START, HASH_DATA, HASH_END.

        PCR 17 to 22 become 00.., then PCR 17 H(00.. || H(data)), in every bank.
        """
        self._control(_CMD_HASH_START)
        for start in range(0, len(data), _HASH_DATA_LIMIT):
            part = data[start : start + _HASH_DATA_LIMIT]
            self._control(_CMD_HASH_DATA, struct.pack(">I", len(part)) + part)
        self._control(_CMD_HASH_END)

    def set_locality(self, locality: int) -> None:
        """Set the locality that commands come from until it is set again."""
        self._control(_CMD_SET_LOCALITY, bytes([locality]))

    def send(self, command: bytes, *, expect: int = 0) -> bytes:
        """Send one command and return the response.

        SimulationError when the response code is not `expect`.
        """
        return self.send_all([command], expect=expect)[0]

    def send_all(self, commands: Iterable[bytes], *, expect: int = 0) -> list[bytes]:
        """Send commands over one connection, one after another."""
        responses = []
        with self._connect(self.socket_path) as connection:
            for command in commands:
                connection.sendall(command)
                response = _receive_response(connection)
                code = wire.response_code(response)
                if code != expect:
                    raise SimulationError(
                        f"the TPM answered {code:#x} to {command[:10].hex()}"
                    )
                responses.append(response)
        return responses

    def extend(self, extends: Iterable[tuple[int, Digests]], locality: int) -> None:
        """Extend PCRs from a locality, then go back to locality 0."""
        self.set_locality(locality)
        try:
            self.send_all(wire.pcr_extend(pcr, digests) for pcr, digests in extends)
        finally:
            self.set_locality(LOCALITY_OS)

    def read_pcrs(self, algorithm: HashAlgorithm) -> Mapping[int, Digest]:
        """Return all PCRs of one bank."""
        values: dict[int, Digest] = {}
        for first in range(0, PCR_COUNT, _PCRS_AT_ONCE):
            pcrs = range(first, first + _PCRS_AT_ONCE)
            response = self.send(wire.pcr_read(algorithm, pcrs))
            read = wire.pcr_read_values(response)
            if len(read) != _PCRS_AT_ONCE:
                raise SimulationError(f"the TPM has no {algorithm} bank")
            values.update(
                (pcr, Digest(algorithm, value))
                for pcr, value in zip(pcrs, read, strict=True)
            )
        return values

    def write_nv(self, index: int, data: bytes) -> None:
        """Put data into an NV index as the owner, whatever was there before."""
        if self.read_nv(index) is not None:
            self.send(wire.nv_undefine(index))
        self.send(wire.nv_define(index, len(data)))
        self.send(wire.nv_write(index, data))

    def read_nv(self, index: int) -> bytes | None:
        """Return what is in an NV index; None when it is not defined."""
        response = self._exchange(wire.nv_read_public(index))
        if wire.response_code(response) == wire.RC_HANDLE_1:
            return None
        size = wire.nv_size(response)
        return wire.nv_data(self.send(wire.nv_read(index, size)))

    def _exchange(self, command: bytes) -> bytes:
        """Send one command and return the response, whatever it says."""
        with self._connect(self.socket_path) as connection:
            connection.sendall(command)
            return _receive_response(connection)

    def _start(self) -> None:
        listeners = [self._listen(self.socket_path), self._listen(self._control_path)]
        server, control = (listener.fileno() for listener in listeners)
        try:
            self._process = subprocess.Popen(
                [
                    "swtpm",
                    "socket",
                    "--tpm2",
                    *("--tpmstate", f"dir={self._folder}"),
                    *("--server", f"type=unixio,fd={server}"),
                    *("--ctrl", f"type=unixio,fd={control}"),
                    *("--flags", "not-need-init"),
                ],
                pass_fds=(server, control),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            # From here on only swtpm holds them: when it ends, connects are refused.
            for listener in listeners:
                listener.close()

    def _allocate_banks(self) -> None:
        active = {bank: bank in self.banks for bank in _SWTPM_BANKS}
        self.send(wire.startup())
        self.send(wire.pcr_allocate(active))
        self.power_off()
        self._banks_allocated = True
        self._start()

    def _reap(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(SOCKET_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise SimulationError("swtpm did not end by itself") from None
        finally:
            self._process = None

    @property
    def _control_path(self) -> Path:
        return self.socket_path.with_suffix(".ctrl")

    @staticmethod
    def _listen(path: Path) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        return listener

    def _connect(self, path: Path) -> socket.socket:
        if self._process is None:
            raise SimulationError("the TPM is off")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(SOCKET_TIMEOUT)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            raise SimulationError(f"swtpm does not answer: {error}") from None
        return connection

    def _control(self, code: int, payload: bytes = b"") -> None:
        with self._connect(self._control_path) as connection:
            connection.sendall(struct.pack(">I", code) + payload)
            answer = connection.recv(4)
        if answer != bytes(4):
            raise SimulationError(f"swtpm refused control command {code}: {answer!r}")


def _receive_response(connection: socket.socket) -> bytes:
    response = b""
    size = 10
    while len(response) < size:
        part = connection.recv(size - len(response))
        if not part:
            raise SimulationError("swtpm closed the connection")
        response += part
        if len(response) == 10:
            size = max(10, struct.unpack_from(">I", response, 2)[0])
    return response

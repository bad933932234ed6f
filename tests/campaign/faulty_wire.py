# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire to the TPM on which a command is answered by an error, or all from it on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import aemseal.world.tpm  # noqa: F401  # it quiets what tpm2-pytss 2.3 warns of

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import TPM2_CC, TSS2_RC, PyTCTI, TCTILdr, TSS2_Exception

IO_ERROR = int(TSS2_RC.TCTI_RC_IO_ERROR)
"""Not the TPM's answer but its absence: the device gave an error."""


class Lost(Enum):
    """What becomes of the command."""

    UNSENT = "not carried out"
    SENT = "carried out, and the answer lost"
    LASTING = "not carried out, nor any after it"


@dataclass(frozen=True)
class Fault:
    """The command of this number (from 0) is answered with `code`, `times` times."""

    at: int
    code: int
    lost: Lost = Lost.UNSENT
    times: int = 1

    def hits(self, number: int) -> bool:
        end = self.at + self.times
        return number >= self.at and (self.lost is Lost.LASTING or number < end)


class FaultyWire(PyTCTI):  # type: ignore[misc] # tpm2-pytss has no types
    """Passes on what is sent, but for the fault; keeps the commands' names."""

    def __init__(self, tcti: str, fault: Fault | None = None) -> None:
        self._line = TCTILdr.parse(tcti)
        self._fault = fault
        self._answer: bytes | None = None
        self.sent: list[str] = []
        super().__init__()

    def do_transmit(self, command: bytes) -> None:
        number = len(self.sent)
        self.sent.append(command_name(command))
        self._answer = None
        if self._fault is None or not self._fault.hits(number):
            self._line.transmit(command)
            return
        if self._fault.lost is Lost.SENT:
            self._line.transmit(command)
            self._line.receive(timeout=-1)
        if self._fault.code == IO_ERROR:
            raise TSS2_Exception(IO_ERROR)
        self._answer = b"\x80\x01\0\0\0\x0a" + self._fault.code.to_bytes(4, "big")

    def do_receive(self, timeout: int) -> bytes:
        if self._answer is not None:
            return self._answer
        return bytes(self._line.receive(timeout=timeout))

    def do_finalize(self) -> None:
        self._line.close()


def command_name(command: bytes) -> str:
    """TPM2_CC's name of a command, as "NV_Increment"."""
    return _NAMES.get(int.from_bytes(command[6:10], "big"), command[6:10].hex())


_NAMES = {
    int(value): str(TPM2_CC.to_string(value)).removeprefix("TPM2_CC.")
    for value in vars(TPM2_CC).values()
    if isinstance(value, int)
}

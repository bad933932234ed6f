# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM that is busy is asked again, and a refusal is told in words."""

from __future__ import annotations

from typing import Any

import pytest
from tpm_sim.swtpm import Swtpm

from aemseal.words.errors import TpmError
from aemseal.world.seam import Seam
from aemseal.world.tpm import Tpm, TpmRefusedError
from aemseal.world.tpm_refusals import OF_AN_OPERAND, PAUSES, REFUSALS

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import TPM2_RC, PyTCTI, TCTILdr

pytestmark = pytest.mark.tpm

BY_THE_TSS = 5
"""How often the TSS itself sends a command that the TPM was too busy for."""

RETRY, NV_RATE, NV_UNAVAILABLE = 0x922, 0x920, 0x923


class Busy(PyTCTI):  # type: ignore[misc] # tpm2-pytss has no types
    """Answers the first `times` commands with a code, then passes all on."""

    def __init__(self, tcti: str, code: int, times: int) -> None:
        self._line = TCTILdr.parse(tcti)
        self._code, self._times = code, times
        self.sent = 0
        super().__init__()

    def be_busy_for(self, times: int) -> None:
        self._times = self.sent + times

    @property
    def _is_busy(self) -> bool:
        return self.sent <= self._times

    def do_transmit(self, command: bytes) -> None:
        self.sent += 1
        if not self._is_busy:
            self._line.transmit(command)

    def do_receive(self, timeout: int) -> bytes:
        if self._is_busy:
            return b"\x80\x01\0\0\0\x0a" + self._code.to_bytes(4, "big")
        return bytes(self._line.receive(timeout=timeout))

    def do_finalize(self) -> None:
        self._line.close()


def asked(
    chip: Swtpm, code: int, times: int, seam: Seam | None = None
) -> tuple[int, list[float], TpmError | None]:
    """Ask once; return how often that was sent, the pauses between, and the error."""
    wire: Any = Busy(chip.tcti, code, times)
    pauses: list[float] = []
    with Tpm(wire, seam, pause=pauses.append) as tpm:
        try:
            tpm.reset_count()
        except TpmError as error:
            return wire.sent, pauses, error
    return wire.sent, pauses, None


@pytest.mark.parametrize(
    ("code", "at_once"),
    [(RETRY, BY_THE_TSS), (0x908, BY_THE_TSS), (0x90A, BY_THE_TSS), (NV_RATE, 1)],
    ids=["retry", "yielded", "testing", "NV rate"],
)
def test_a_busy_tpm_is_asked_again_after_a_while(
    tpm: Swtpm, code: int, at_once: int
) -> None:
    times = 2 * at_once
    assert asked(tpm, code, times) == (times + 1, list(PAUSES[:2]), None)


@pytest.mark.parametrize(("code", "at_once"), [(RETRY, BY_THE_TSS), (NV_RATE, 1)])
def test_a_tpm_that_stays_busy_is_not_asked_for_ever(
    tpm: Swtpm, code: int, at_once: int
) -> None:
    sent, pauses, error = asked(tpm, code, 1000)
    assert sent == at_once * (len(PAUSES) + 1)
    assert pauses == list(PAUSES)
    assert sum(pauses) < 10
    assert isinstance(error, TpmRefusedError)
    assert error.code == code
    assert error.hint == "wait a minute and try again"


def test_what_does_not_pass_is_not_asked_again(tpm: Swtpm) -> None:
    sent, pauses, error = asked(tpm, NV_UNAVAILABLE, 1000)
    assert (sent, pauses) == (1, [])
    assert error is not None
    assert error.message == (
        "the TPM refused ReadClock: it cannot write its memory now "
        "(TPM_RC_NV_UNAVAILABLE, 0x923)"
    )
    assert str(error.hint).startswith("wait a minute and try again; if it stays so")


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_has_the_name_that_the_tss_knows(code: int) -> None:
    assert getattr(TPM2_RC, REFUSALS[code].name) == code


@pytest.mark.parametrize("code", OF_AN_OPERAND)
def test_a_refusal_of_an_operand_has_the_tss_name(code: int) -> None:
    assert getattr(TPM2_RC, OF_AN_OPERAND[code].name) == code


@pytest.mark.parametrize("code", [*REFUSALS, 0x98E, 0x9A2, 0x18B])
def test_a_refusal_says_what_to_do(code: int) -> None:
    told = TpmRefusedError("NV_Increment", code)
    assert told.exit_code == 5
    assert told.message.startswith("the TPM refused NV_Increment: ")
    assert told.message.endswith(f", 0x{code:x})")
    assert told.hint
    assert "rc_decode" not in told.hint


@pytest.mark.parametrize("code", [0x12F, 0x143, 0x99D])
def test_of_other_refusals_the_code_is_told(code: int) -> None:
    told = TpmRefusedError("NV_Increment", code)
    assert told.message == f"the TPM refused NV_Increment with 0x{code:x}"
    assert told.hint == f"what that means tells: tpm2_rc_decode 0x{code:x}"
    assert not told.passes


def test_a_session_that_the_tpm_keeps_is_no_reason_to_fail_or_to_wait(
    tpm: Swtpm,
) -> None:
    wire: Any = Busy(tpm.tcti, NV_RATE, 0)
    pauses: list[float] = []
    with Tpm(wire, pause=pauses.append) as connection:
        with connection.session():
            wire.be_busy_for(2)
        assert connection.reset_count() >= 1
    assert wire.sent == 1 + 2 + 1
    assert pauses == []


def test_a_session_is_flushed_though_the_tpm_refused_once(tpm: Swtpm) -> None:
    wire: Any = Busy(tpm.tcti, NV_RATE, 0)
    with Tpm(wire) as connection:
        with connection.session():
            wire.be_busy_for(1)
        assert connection.handles(0x02000000, 8) == set()

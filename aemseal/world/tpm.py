# SPDX-License-Identifier: GPL-2.0-or-later
"""The TPM, by tpm2-pytss: PCRs, hierarchies, the counter.

Every command passes `Tpm.run`, which announces it at the seam and turns the TSS's
exceptions into errors for the person. Owner-authorised commands run in HMAC sessions
salted to the storage key: no authorisation value is on the bus in clear. Keyword
arguments throughout: tpm2-pytss 2.3 and 3.0 order them differently.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeVar

from aemseal.formats.tpm_policy import (
    COUNTER_SIZE,
    counter_name,
    counter_public,
    name_of,
)
from aemseal.words.digest import PCR_COUNT, Digest, HashAlgorithm, PcrBank
from aemseal.words.errors import BankError, TpmChangedError, TpmError
from aemseal.world.seam import Seam
from aemseal.world.tpm_refusals import PAUSES, refusal
from aemseal.world.tpm_refusals import TpmRefusedError as TpmRefusedError
from aemseal.world.tpm_refusals import in_lockout as in_lockout

# libtss2 writes every expected refusal to stderr, and tpm2-pytss 2.3 imports ciphers
# that a newer cryptography calls deprecated: neither is for the person.
os.environ.setdefault("TSS2_LOG", "all+none")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tpm2_pytss import (
        ESAPI,
        ESYS_TR,
        TPM2_ALG,
        TPM2_CAP,
        TPM2_SE,
        TPM2B_NV_PUBLIC,
        TPMA_SESSION,
        TSS2_Exception,
    )

_RC_HASH = 0x083
_PCRS_AT_ONCE = 8

NV_RANGE = range(0x01A10AE0, 0x01A10AF0)
"""Where our counter goes: 16 indices of the owner's range (TCG Registry of Reserved
TPM 2.0 Handles 2.2.2: 0x01800000 to 0x01BFFFFF is the platform owner's)."""

_T = TypeVar("_T")


class Hierarchy(Enum):
    """The hierarchies whose authorisation aemseal sets and keeps."""

    OWNER = "owner"
    LOCKOUT = "lockout"


@dataclass(frozen=True, slots=True)
class Permanent:
    """TPMA_PERMANENT, as far as aemseal asks (part 2 section 8.6)."""

    owner_auth_set: bool
    lockout_auth_set: bool
    in_lockout: bool


class Tpm:
    """One connection. A context manager; every method is one or a few TPM commands.

    `pause` is how it waits before it asks a busy TPM again (seconds).
    """

    def __init__(
        self,
        tcti: str,
        seam: Seam | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.seam = seam or Seam()
        self.pause = pause
        try:
            self.esapi: Any = ESAPI(tcti=tcti)
        except (TSS2_Exception, RuntimeError, OSError, ValueError):
            raise TpmError(
                f"no TPM answers at {tcti}",
                "is the TPM switched on in the firmware set-up? "
                "(another one: --tcti, or TPM2TOOLS_TCTI)",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self.esapi.close()

    def run(self, command: str, call: Callable[..., _T], **arguments: object) -> _T:
        """Send one command; TpmError (TpmRefusedError) on failure.

        A TPM that is busy or spares its memory has not carried the command out, and is
        asked again for a few seconds. (The TSS does that five times at once where it is
        only busy, tpm2-tss esys_int.h, _ESYS_MAX_SUBMISSIONS.)
        """
        with self.seam.step(command):
            for wait in PAUSES:
                try:
                    return _sent(command, call, arguments)
                except TpmRefusedError as refused:
                    if not refused.passes:
                        raise
                self.pause(wait)
            return _sent(command, call, arguments)

    def flush(self, handle: object) -> None:
        """Take a session or an object out of the TPM, if the TPM lets it go.

        Asked twice, since a TPM without a resource manager has room for three sessions,
        and not waited for. What is left is no harm, and no reason for a move to fail:
        the resource manager removes it with the connection.
        """
        for _ in range(2):
            with self.seam.step("FlushContext"), suppress(TpmError):
                flush = self.esapi.flush_context
                _sent("FlushContext", flush, {"flush_handle": handle})
                return

    # --- what the TPM says of itself ---

    def pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        """Read all 24 PCRs of one bank, all of one moment.

        A TPM answers eight PCRs at most at once, so the update counter tells whether
        something was extended meanwhile. BankError when the bank is not allocated.
        """
        for _ in range(5):
            counters = set()
            values: dict[int, Digest] = {}
            for first in range(0, PCR_COUNT, _PCRS_AT_ONCE):
                counter, digests = self._eight_pcrs(algorithm, first)
                counters.add(counter)
                values.update(enumerate(digests, start=first))
            if len(counters) == 1:
                return PcrBank(algorithm, values)
        raise TpmError("the PCRs change faster than they can be read")

    def _eight_pcrs(
        self, algorithm: HashAlgorithm, first: int
    ) -> tuple[int, list[Digest]]:
        wanted = ",".join(str(first + at) for at in range(_PCRS_AT_ONCE))
        absent = BankError(
            f"the TPM has no {algorithm} bank",
            "take a bank that is allocated: tpm2_getcap pcrs lists them",
        )
        try:
            counter, _, found = self.run(
                "PCR_Read",
                self.esapi.pcr_read,
                pcr_selection_in=f"{algorithm.label}:{wanted}",
            )
        except TpmRefusedError as refused:
            if refused.code & 0x0BF == _RC_HASH:
                raise absent from None
            raise
        if len(found) != _PCRS_AT_ONCE:
            raise absent
        return int(counter), [Digest(algorithm, bytes(each)) for each in found]

    def permanent(self) -> Permanent:
        """Read which authorisations are set, and whether the TPM is in lockout."""
        _, bits = self.capability(TPM2_CAP.TPM_PROPERTIES, 0x200, 1)
        return Permanent(bool(bits & 1), bool(bits & 4), bool(bits & 1 << 9))

    def reset_count(self) -> int:
        """Return how often this TPM was reset (TPM2_ReadClock, resetCount)."""
        return self.starts()[0]

    def starts(self) -> tuple[int, int]:
        """Return TPM2_ReadClock's resetCount and restartCount."""
        info = self.run("ReadClock", self.esapi.read_clock).clockInfo
        return int(info.resetCount), int(info.restartCount)

    def handles(self, first: int, count: int) -> set[int]:
        """List the handles in use from `first` on (one kind of handle)."""
        listed = self.capability(TPM2_CAP.HANDLES, first, count)
        return {handle for handle in listed if first <= handle < first + count}

    def capability(self, capability: object, prop: int, count: int) -> list[int]:
        """Read a capability whose data is a list of UINT32 (or pairs of them).

        Parsed from the marshalled bytes: the union's members of tpm2-pytss 3.0.0
        outlive the memory they point to.
        """
        _, data = self.run(
            "GetCapability",
            self.esapi.get_capability,
            capability=capability,
            prop=prop,
            property_count=count,
        )
        raw = bytes(data.marshal())[8:]
        return [int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw), 4)]

    # --- sessions ---

    @contextmanager
    def session(self, salt_key: object = ESYS_TR.NONE) -> Iterator[Any]:
        """Run an HMAC session that encrypts parameters, salted to `salt_key`.

        Without a key it still keeps authorisations off the bus, but encrypts nothing
        that a listener could not decrypt: for CreatePrimary alone.
        """
        session = self.run(
            "StartAuthSession",
            self.esapi.start_auth_session,
            tpm_key=salt_key,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.HMAC,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
        attributes = TPMA_SESSION.CONTINUESESSION
        if salt_key != ESYS_TR.NONE:
            attributes |= TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
        try:
            self.esapi.trsess_set_attributes(session=session, attributes=attributes)
            yield session
        finally:
            self.flush(session)

    def set_auth(self, hierarchy: Hierarchy, value: bytes) -> None:
        """Tell the TSS (not the TPM) a hierarchy's authorisation value."""
        self.esapi.tr_set_auth(esys_handle=_TR[hierarchy], auth_value=value)

    def change_auth(self, hierarchy: Hierarchy, value: bytes, session: object) -> None:
        """Set a hierarchy's authorisation in the TPM; `session` encrypts it."""
        self.run(
            "HierarchyChangeAuth",
            self.esapi.hierarchy_change_auth,
            auth_handle=_TR[hierarchy],
            new_auth=value,
            session1=session,
        )
        self.set_auth(hierarchy, value)

    def require_authorised(self, hierarchy: Hierarchy, session: object) -> None:
        """Have the TPM check the value told to `set_auth`; nothing else happens.

        TpmRefusedError (`is_wrong_authorisation`) when it is another.
        """
        trial = self.run(
            "StartAuthSession",
            self.esapi.start_auth_session,
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.TRIAL,
            symmetric="null",
            auth_hash=TPM2_ALG.SHA256,
        )
        try:
            self.run(
                "PolicySecret",
                self.esapi.policy_secret,
                auth_handle=_TR[hierarchy],
                policy_session=trial,
                nonce_tpm=b"",
                cp_hash_a=b"",
                policy_ref=b"",
                expiration=0,
                session1=session,
            )
        finally:
            self.flush(trial)

    # --- the counter ---

    def define_counter(self, handle: int, session: object) -> None:
        """Define our NV counter; owner authorisation by `session`."""
        public, _ = TPM2B_NV_PUBLIC.unmarshal(
            (14).to_bytes(2, "big") + counter_public(handle, written=False)
        )
        self.run(
            "NV_DefineSpace",
            self.esapi.nv_define_space,
            auth=b"",
            public_info=public,
            auth_handle=ESYS_TR.OWNER,
            session1=session,
        )

    def undefine_counter(self, handle: int, session: object) -> None:
        """Take our counter out of the TPM; nothing when it is not there."""
        if handle not in self.handles(handle, 1):
            return
        index = self.run("NV_ReadPublic", self.esapi.tr_from_tpmpublic, handle=handle)
        self.run(
            "NV_UndefineSpace",
            self.esapi.nv_undefine_space,
            nv_index=index,
            auth_handle=ESYS_TR.OWNER,
            session1=session,
        )

    def is_counter(self, handle: int) -> bool:
        """Whether an index is made as our counter is, counted with or not yet."""
        index = self._counter(handle, require_written=False)
        made = (counter_public(handle, written=each) for each in (True, False))
        return bytes(self.esapi.tr_get_name(handle=index)) in map(name_of, made)

    def increment(self, handle: int, session: object) -> None:
        """Count one up: the old value never comes back. Owner authorisation."""
        index = self._counter(handle, require_written=False)
        self.run(
            "NV_Increment",
            self.esapi.nv_increment,
            nv_index=index,
            auth_handle=ESYS_TR.OWNER,
            session1=session,
        )

    def count(self, handle: int, session: object) -> int:
        """Read the counter. TpmChangedError when it is gone or not our own."""
        index = self._counter(handle, require_written=True)
        data = self.run(
            "NV_Read",
            self.esapi.nv_read,
            nv_index=index,
            size=COUNTER_SIZE,
            offset=0,
            auth_handle=index,
            session1=session,
        )
        return int.from_bytes(bytes(data), "big")

    def _counter(self, handle: int, *, require_written: bool) -> Any:
        try:
            index = self.run(
                "NV_ReadPublic", self.esapi.tr_from_tpmpublic, handle=handle
            )
        except TpmRefusedError as refused:
            if refused.is_missing_handle:
                raise TpmChangedError(
                    f"the TPM's counter at 0x{handle:08x} is gone",
                    "the TPM was cleared or the index removed: this says nothing of "
                    "the boot files; if it was you: aemseal recover",
                ) from None
            raise
        name = bytes(self.esapi.tr_get_name(handle=index))
        if require_written and name != counter_name(handle):
            raise TpmChangedError(
                f"the TPM's index at 0x{handle:08x} is not the counter made at enrol",
                "somebody removed it and put another in its place; if you know who: "
                "aemseal recover",
            )
        return index


_TR = {Hierarchy.OWNER: ESYS_TR.OWNER, Hierarchy.LOCKOUT: ESYS_TR.LOCKOUT}


def _sent(command: str, call: Callable[..., _T], arguments: dict[str, object]) -> _T:
    try:
        return call(**arguments)
    except TSS2_Exception as error:
        raise refusal(command, int(error.rc)) from None

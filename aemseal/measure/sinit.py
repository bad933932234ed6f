# SPDX-License-Identifier: GPL-2.0-or-later
"""What SINIT's own events will be in the next boot, with other files than now.

Three of them follow from files: HASH_START (0x402) from the SINIT module, its signing
key's (0x410) too, and what the launcher asks SINIT for (0x40f) from module and
launcher; TPM 1.2's combined event (0x403) holds the last, and the MLE's hash where the
launch control policy says so. Each rule must first give what was logged. All others
are repeated as they are: they are the firmware's, the processor's and the policy's.

Nothing here knows a launcher: its rule for 0x40f is handed in (sinit_capabilities.py).
Sources: Intel TXT Software Development Guide 1.10 and appendix G; for the combined
event appendix E of its revision 013 and the logs of a ThinkPad X200 and a T460p.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.measure.sinit_capabilities import CapabilitiesRule
from aemseal.measure.sinit_choice import (
    Choice,
    Logged,
    choose,
    hash_start_data,
    hash_start_of,
    identity,
    is_key_of,
    launched_file,
)
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.events import (
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_OSSINITDATA_CAP_HASH,
    TXT_SINIT_PUBKEY_HASH,
)
from aemseal.words.wanted import (
    NOTE_SINIT_CAPABILITIES,
    NOTE_SINIT_HEADER_VERSION,
    NOTE_SINIT_KEY,
    FileFacts,
)

_OF_THE_MODULE = frozenset(
    {TXT_HASH_START, TXT_COMBINED_HASH, TXT_OSSINITDATA_CAP_HASH, TXT_SINIT_PUBKEY_HASH}
)
_TPM2_TYPES = frozenset({0x412, 0x413, 0x414})
"""LCP_DETAILS_HASH, LCP_AUTHORITIES_HASH, NV_INFO_HASH."""
_TPM12_TYPES = frozenset({TXT_COMBINED_HASH, 0x40D, 0x411})
"""COMBINED_HASH, ELEMENTS_HASH, LCP_HASH."""

_COMBINED = struct.Struct("<20sQ20sI20sI")
"""BIOS ACM id, MsegValid, STM hash, LcpPolicyControl, LcpPolicyHash, OsSinitCaps; with
SINIT to MLE data of version 8 and later ProcScrtmStatus follows, a word."""
_COMBINED_SIZES = (_COMBINED.size, _COMBINED.size + 4)
_POLICY_HASH = slice(52, 72)
_CAPABILITIES = slice(72, 76)
_MEASURES_CAPABILITIES = 1 << 1
"""LcpPolicyControl's bit for OsSinitCaps; without it the field is 0."""


@dataclass(frozen=True, slots=True)
class MleChange:
    """The MLE's digest (0x404) now and next, in the bank that was verified."""

    before: Digest
    after: Digest

    @property
    def is_change(self) -> bool:
        """Whether another MLE, or the same with another command line, is launched."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class NextExtend:
    """One of SINIT's extends of the next boot, in the place of a logged one.

    `digest` is what is extended, None where that cannot be known: `reason` says why.
    `file` is the SINIT module that an event of it comes from, None where no file is
    known for it, and for all other events. An equal digest is carried over.
    """

    logged: Logged
    digest: Digest | None
    file: FileFacts | None = None
    reason: str | None = None

    @property
    def is_carried(self) -> bool:
        """Whether the next boot repeats what was logged."""
        return self.digest == self.logged[1]


@dataclass(frozen=True, slots=True)
class NextSinit:
    """SINIT's part of the next boot: every extend that was handed in, in that order.

    `launched` and `coming` are the modules of this and the next boot, None where no
    file is known for them. `cautions` are sentences about what files cannot tell.
    """

    extends: tuple[NextExtend, ...]
    launched: FileFacts | None
    coming: FileFacts | None
    cautions: tuple[str, ...] = ()


def next_sinit(
    logged: Sequence[Logged],
    *,
    before: Sequence[FileFacts] | None,
    after: Sequence[FileFacts],
    mle: MleChange,
    rule: CapabilitiesRule,
) -> NextSinit:
    """Predict SINIT's extends.

    `logged` is SINIT's part of a verified log, in order. The MLE's own (0x404) may be
    among it and is repeated: who predicts the MLE replaces it. So are random values
    (0x4fe), which whoever predicts has to refuse. `after` are the facts
    (View.ACM) of the next entry's modules, in GRUB's order, and `before` those of the
    running boot's, as they were when it booted: facts taken later may be of a file that
    has been replaced since, and would pass for a module that the firmware supplies.
    None where they are not known. Files that are no SINIT modules are passed over.
    BootFileError for facts that are of a SINIT module and not in their form.
    """
    launched = launched_file(logged, (*(before or ()), *after))
    choice = choose(launched, before, after)
    part = _NextPart(launched, choice, _other(launched, choice.coming), mle, rule)
    return NextSinit(
        extends=tuple(part.next(each) for each in logged),
        launched=launched,
        coming=choice.coming,
        cautions=() if part.module is None else (_caution(part.module),),
    )


def is_tpm2(logged: Sequence[Logged]) -> bool | None:
    """Tell the TPM's kind by SINIT's events; None when they do not tell.

    A bank that is not SHA-1 is TPM 2.0's, and so are three of the events.
    """
    types = {event.untrusted_type for event, _ in logged}
    banks = {algorithm for event, _ in logged for algorithm in event.digests}
    if banks - {HashAlgorithm.SHA1} or types & _TPM2_TYPES:
        return True
    return False if types & _TPM12_TYPES else None


@dataclass(frozen=True, slots=True)
class _NextPart:
    """What decides each event; `module` is the next module where it is another one."""

    launched: FileFacts | None
    choice: Choice
    module: FileFacts | None
    mle: MleChange
    rule: CapabilitiesRule

    def next(self, each: Logged) -> NextExtend:
        """Return what will be extended in an event's place."""
        kind = each[0].untrusted_type
        if kind not in _OF_THE_MODULE:
            return NextExtend(each, each[1])
        if self.choice.reason is not None:
            return NextExtend(each, None, reason=self.choice.reason)
        if kind in (TXT_HASH_START, TXT_SINIT_PUBKEY_HASH):
            return self._of_module(each)
        of_mle = kind == TXT_COMBINED_HASH or self.rule.is_of_mle
        if self.module is None and not (self.mle.is_change and of_mle):
            return NextExtend(each, each[1])
        if kind == TXT_COMBINED_HASH:
            return _answer(each, self._combined(each))
        return _answer(each, self._capabilities(each))

    def _of_module(self, each: Logged) -> NextExtend:
        """Return HASH_START or SINIT_PUBKEY_HASH."""
        module, launched = self.module, self.launched
        if module is None or launched is None:
            return NextExtend(each, each[1], file=self.choice.coming)
        if each[0].untrusted_type == TXT_HASH_START:
            return _answer(each, _hash_start(each, launched, module), module)
        keys = [file.notes.get(NOTE_SINIT_KEY) for file in (launched, module)]
        if None not in keys and keys[0] == keys[1]:
            return NextExtend(each, each[1], file=module)
        return _answer(each, _key(each, launched, module), module)

    def _capabilities(self, each: Logged) -> bytes | str:
        data = each[0].untrusted_data
        if len(data) != 4 or each[1].algorithm.hash(data) != each[1]:
            return f"{_name(each)} has no data that tells what SINIT was asked for"
        word = self._next_word(int.from_bytes(data, "little"))
        return word if isinstance(word, str) else word.to_bytes(4, "little")

    def _next_word(self, logged: int) -> int | str:
        return self.rule.next_word(logged, _offer(self.launched), _offer(self.module))

    def _combined(self, each: Logged) -> bytes | str:
        """Put the MLE's hash and the capabilities into TPM 1.2's combined data."""
        event, digest = each
        data = event.untrusted_data
        if len(data) not in _COMBINED_SIZES or digest.algorithm.hash(data) != digest:
            return f"{_name(each)} has no data that tells what changes in it"
        _, _, _, control, policy, logged = _COMBINED.unpack_from(data)
        if not control & _MEASURES_CAPABILITIES:
            if logged:
                return f"{_name(each)} holds capabilities that its policy leaves out"
            word: int | str = 0
        else:
            word = self._next_word(logged)
        if isinstance(word, str):
            return word
        new = bytearray(data)
        new[_CAPABILITIES] = word.to_bytes(4, "little")
        if not self.mle.is_change:
            return bytes(new)
        if isinstance(hash_ := self._policy_hash(each, policy), str):
            return hash_
        new[_POLICY_HASH] = hash_
        return bytes(new)

    def _policy_hash(self, each: Logged, policy: bytes) -> bytes | str:
        """Return the next LcpPolicyHash: the MLE's hash on some machines (X200)."""
        data, old = each[0].untrusted_data, self.mle.before
        if policy == old.value and data.count(old.value) == 1:
            return self.mle.after.value
        if old.value in data:
            return f"{_name(each)} holds the running MLE's hash where none is expected"
        if any(policy) and old.algorithm is not HashAlgorithm.SHA1:
            return f"{_name(each)} holds a SHA-1 digest, which may be the running MLE's"
        return policy


def _other(launched: FileFacts | None, coming: FileFacts | None) -> FileFacts | None:
    """Return the next module unless it is the launched one, or none is known."""
    if launched is None or coming is None or identity(coming) == identity(launched):
        return None
    return coming


def _caution(module: FileFacts) -> str:
    return (
        f"{module.wanted.path} is another SINIT module than was launched: which events "
        "it logs, and in which order, is taken from the old one"
    )


def _hash_start(each: Logged, launched: FileFacts, module: FileFacts) -> bytes | str:
    path, header = module.wanted.path, module.notes.get(NOTE_SINIT_HEADER_VERSION)
    if header != launched.notes.get(NOTE_SINIT_HEADER_VERSION):
        return (
            f"{path} has a header of version {header}, unlike the SINIT module that "
            "was launched: how it is hashed was not seen here"
        )
    algorithm = hash_start_of(each, launched)
    if algorithm is None:
        return f"{_name(each)} is not of {launched.wanted.path}"
    data = hash_start_data(each, module, algorithm)
    return f"{path} has no {algorithm} digest" if data is None else data


def _key(each: Logged, launched: FileFacts, module: FileFacts) -> bytes | str:
    key = module.notes.get(NOTE_SINIT_KEY)
    if key is None:
        return f"where the key of {module.wanted.path} is cannot be told"
    if not is_key_of(each, launched):
        return f"{_name(each)} is not the hash of {launched.wanted.path}'s key"
    return bytes.fromhex(key)


def _offer(file: FileFacts | None) -> int | None:
    return None if file is None else int(file.notes[NOTE_SINIT_CAPABILITIES], 16)


def _name(each: Logged) -> str:
    return f"{each[0].name} (event {each[0].number})"


def _answer(
    each: Logged, data: bytes | str, file: FileFacts | None = None
) -> NextExtend:
    """Return an event with its next data, or with the reason why that is not known."""
    if isinstance(data, str):
        return NextExtend(each, None, reason=data)
    return NextExtend(each, each[1].algorithm.hash(data), file=file)

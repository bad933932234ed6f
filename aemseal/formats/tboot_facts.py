# SPDX-License-Identifier: GPL-2.0-or-later
"""What else tboot's text tells of a machine and its launch.

Facts for a person and for choosing a row of a table, none of them evidence: no replay
covers them. Each is the last one printed; what is not printed, or not in the form
expected, is None.

Source: tboot common/tboot.c (begin_launch), common/tpm.c (tpm_detect, tpm_print),
common/integrity.c (extend_pcrs, print_pre_k_s3_state), txt/acmod.c (print_acm_hdr),
txt/heap.c (print_os_sinit_data), include/tb_policy.h (verify_policy), utils/
txt-stat.c (display_config_regs), 1.5 to 1.11.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aemseal.formats.tboot_lines import LineCursor, last_mark, marks
from aemseal.formats.tboot_policy import (
    MODULE_ANY,
    MODULE_NV,
    MODULE_NV_RAW,
    PCR_NONE,
    TbootPolicy,
    parse_policy,
)
from aemseal.formats.tboot_tables import os_sinit_table
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError

_TPM_FAMILIES = {b"discrete TPM1.2": "1.2"}
_EXTEND_POLICIES = {0: "agile", 1: "embedded", 2: "fixed"}
"""tboot include/tpm.h, TB_EXTPOL_*."""

_MODULES = {"any": MODULE_ANY, "nv": MODULE_NV, "nv_raw": MODULE_NV_RAW}
_LIST_TYPES = {"TB_HTYPE_ANY": 0, "TB_HTYPE_IMAGE": 1}
_POLICY_TYPES = range(4)
"""A type's name was given to another number from version to version: all are tried."""

_POLICY_ALGORITHMS = (0, *(each.tcg_id for each in HashAlgorithm))
_MOST_ENTRIES = 255


@dataclass(frozen=True, slots=True)
class TbootFacts:
    """Facts that tboot's text tells; None where it does not.

    `version` is tboot's ("1.10.3"); `tpm_family` "1.2" or "2.0"; `extend_policy`
    "agile", "embedded" or "fixed", with `own_algorithm` the bank of a fixed one and
    what the policy is hashed with; `didvid` and `fsbif` are TXT's registers, 64 bits;
    the capabilities are those of the SINIT that was looked at last and those asked of
    it, 32 bits. `policy` is there only where its bytes give the hash that was printed
    of them. `pcrs` are PCR 17 and 18 (sha1) as tboot up to 1.7 read them at the end.
    """

    version: str | None = None
    tpm_family: str | None = None
    extend_policy: str | None = None
    own_algorithm: HashAlgorithm | None = None
    didvid: int | None = None
    fsbif: int | None = None
    sinit_capabilities: int | None = None
    os_sinit_version: int | None = None
    os_sinit_capabilities: int | None = None
    policy: TbootPolicy | None = None
    pcrs: Mapping[int, Digest] | None = None


def read_tboot_facts(text: bytes) -> TbootFacts:
    """Read what tboot's text tells; raises nothing, damaged facts are None."""
    version = _last(text, rb"[0-9]{4}-[0-9-]{5} [0-9:]{5} [+-]\d{4} (\S{1,40})[ \r]*$")
    policy = _number(text, rb"extend policy: ([0-9]{1,2})[ \r]*$", 10)
    algorithm = _number(text, rb"current alg id: 0x([0-9a-f]{1,4})[ \r]*$", 16)
    try:
        os_sinit = os_sinit_table(text)
    except FormatError:
        os_sinit = None
    return TbootFacts(
        version=None if version is None else version.decode("ascii", "replace"),
        tpm_family=_tpm_family(text),
        extend_policy=None if policy is None else _EXTEND_POLICIES.get(policy),
        own_algorithm=None if algorithm is None else HashAlgorithm.with_id(algorithm),
        didvid=_number(text, rb"DIDVID: 0x([0-9a-f]{1,16})[ \r]*$", 16),
        fsbif=_number(text, rb"FSBIF: 0x([0-9a-f]{1,16})[ \r]*$", 16),
        sinit_capabilities=_sinit_capabilities(text),
        os_sinit_version=None if os_sinit is None else os_sinit.version,
        os_sinit_capabilities=None if os_sinit is None else os_sinit.capabilities,
        policy=_policy(text),
        pcrs=_pcrs(text),
    )


def _last(text: bytes, pattern: bytes) -> bytes | None:
    """Return the group of the last line that a pattern matches."""
    last = None
    for found in marks(text, pattern):
        last = found[1]
    return last


def _number(text: bytes, pattern: bytes, base: int) -> int | None:
    found = _last(text, pattern)
    return None if found is None else int(found, base)


def _tpm_family(text: bytes) -> str | None:
    found = _last(text, rb"TPM: (discrete TPM1\.2|discrete TPM2\.0|This is Intel PTT)")
    return None if found is None else _TPM_FAMILIES.get(found, "2.0")


def _sinit_capabilities(text: bytes) -> int | None:
    """Return the capabilities in the last information table of an ACM."""
    start = last_mark(text, rb"info_table:")
    if start is None:
        return None
    pattern = rb"capabilities: 0x([0-9a-f]{1,8})[ \r]*$"
    found = next(marks(text, pattern, start), None)
    return None if found is None else int(found[1], 16)


def _pcrs(text: bytes) -> Mapping[int, Digest] | None:
    start = last_mark(text, rb"PCRs after extending:")
    if start is None:
        return None
    cursor = LineCursor(text, start, "PCRs after extending")
    sha1 = HashAlgorithm.SHA1
    try:
        cursor.take()
        return {
            pcr: Digest(sha1, cursor.as_hex(cursor.field(f"PCR {pcr}"), sha1.size))
            for pcr in (17, 18)
        }
    except FormatError:
        return None


def _policy(text: bytes) -> TbootPolicy | None:
    """Put the last policy printed together again, and prove it by its hash."""
    start, hashed = last_mark(text, rb"policy:[ \r]*$"), last_mark(text, rb"pol_hash:")
    if start is None or hashed is None:
        return None
    try:
        control, entries = _printed_policy(LineCursor(text, start, "policy"))
        line = LineCursor(text, hashed, "pol_hash").field("pol_hash")
    except FormatError:
        return None
    algorithms = [each for each in HashAlgorithm if len(line) == 3 * each.size - 1]
    for kind, number in itertools.product(_POLICY_TYPES, _POLICY_ALGORITHMS):
        head = struct.pack("<BBBII", 2, kind, number, control, 0)
        for algorithm in algorithms:
            if _spaced_hex(algorithm, head + entries) != line.lower():
                continue
            try:
                return parse_policy(head + entries)
            except FormatError:
                return None
    return None


def _spaced_hex(algorithm: HashAlgorithm, data: bytes) -> str:
    return algorithm.hash(data).value.hex(" ")


def _printed_policy(cursor: LineCursor) -> tuple[int, bytes]:
    """Read a printed policy: its control field, and the bytes of its entries."""
    cursor.expect("policy:")
    if cursor.number("version") != 2:
        raise cursor.fail("the version is not known")
    cursor.field("policy_type")
    cursor.field("hash_alg")
    control = _hex_number(cursor, "policy_control")
    count = cursor.number("num_entries")
    if count > _MOST_ENTRIES:
        raise cursor.fail(f"{count} entries")
    entries = b"".join(_printed_entries(cursor, count))
    return control, bytes([count]) + entries


def _printed_entries(cursor: LineCursor, count: int) -> Iterator[bytes]:
    for place in range(count):
        cursor.expect(f"policy entry[{place}]:")
        module = _named(cursor, "mod_num", _MODULES)
        nv_index = 0
        if module in (MODULE_NV, MODULE_NV_RAW):
            nv_index = _hex_number(cursor, "nv_index")
        pcr = _named(cursor, "pcr", {"none": PCR_NONE})
        kind = _named(cursor, "hash_type", _LIST_TYPES)
        hashes = cursor.number("num_hashes")
        if hashes > _MOST_ENTRIES:
            raise cursor.fail(f"{hashes} hashes")
        yield struct.pack("<BBBIB", module, pcr, kind, nv_index, hashes)
        for number in range(hashes):
            line = cursor.field(f"hashes[{number}]")
            yield cursor.as_hex(line, (len(line) + 1) // 3)


def _hex_number(cursor: LineCursor, name: str) -> int:
    """Take a field of eight hex digits, perhaps with its meaning behind it."""
    found = re.match(r"[0-9a-f]{8}\b", cursor.field(name))
    if found is None:
        raise cursor.fail(f"{name!r} is no number")
    return int(found[0], 16)


def _named(cursor: LineCursor, name: str, names: Mapping[str, int]) -> int:
    """Take a field that has a name, or a number of 8 bits."""
    value = cursor.field(name)
    if value in names:
        return names[value]
    if re.fullmatch(r"[0-9]{1,3}", value) is None or int(value) > 0xFF:
        raise cursor.fail(f"{name!r} is not known")
    return int(value)

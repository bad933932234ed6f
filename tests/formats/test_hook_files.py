# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's configuration and record, as docs/slot-format.md has them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.hook_files import (
    APPROVED,
    CAP_DATA,
    OUTCOMES,
    RECORD_LIMIT,
    HookRecord,
    OpenedSecret,
    hook_conf,
    pin_of,
)
from aemseal.formats.slot import SECRET_KINDS
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.words.errors import FormatError

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
UUID = "0f0e7a6c-1b5a-4c1e-9a53-6d0c5c2b9f11"
HEADER = SHA256.hash(b"a LUKS header")
CAP = SHA256.hash(CAP_DATA)
RECORD = (
    "aemseal-record 3\n"
    "bank sha256\n"
    "pcrs 13,17,18\n"
    f"pin {'77' * 32}\n"
    f"luks {UUID} {HEADER.hex}\n"
    f"cap {CAP.hex}\n"
    "outcome unsealed\n"
    "count 7\n"
    "branch Xen-4.17.5\n"
    "role before-update\n"
    "secret text text\n"
)

banks = st.sampled_from([SHA1, SHA256, HashAlgorithm.SHA384, HashAlgorithm.SHA512])
pcrs = st.sets(st.integers(0, 23), min_size=1)
names = st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True)


@st.composite
def records(draw: st.DrawFn) -> HookRecord:
    bank = draw(banks)
    digest = st.binary(min_size=bank.size, max_size=bank.size).map(
        lambda value: Digest(bank, value)
    )
    uuid = st.uuids().map(str)
    outcome = draw(st.sampled_from(sorted(OUTCOMES)))
    approved = outcome in APPROVED or (outcome == "lockout" and draw(st.booleans()))
    secrets = st.builds(OpenedSecret, names, st.sampled_from(SECRET_KINDS))
    least = 1 if outcome == "unsealed" else 0
    most = 4 if approved and outcome != "no-pin" else 0
    return HookRecord(
        selection=PcrSelection.of(bank, draw(pcrs)),
        pin=draw(st.binary(min_size=32, max_size=32)),
        luks=tuple(draw(st.lists(st.tuples(uuid, digest), max_size=16))),
        cap=draw(st.none() | digest),
        outcome=outcome,
        count=draw(st.integers(0, 2**63 - 1)) if approved else None,
        branch=draw(names) if approved else None,
        opened=tuple(draw(st.lists(secrets, min_size=least, max_size=most))),
        before_update=approved and draw(st.booleans()),
    )


def written(record: HookRecord) -> bytes:
    """Write a record as the page says."""
    lines = [
        "aemseal-record 3",
        f"bank {record.selection.algorithm}",
        f"pcrs {','.join(map(str, record.selection.pcrs))}",
        f"pin {record.pin.hex()}",
        *(f"luks {uuid} {digest.hex}" for uuid, digest in record.luks),
        *([] if record.cap is None else [f"cap {record.cap.hex}"]),
        f"outcome {record.outcome}",
        *([] if record.count is None else [f"count {record.count}"]),
        *([] if record.branch is None else [f"branch {record.branch}"]),
        *(["role before-update"] if record.before_update else []),
        *(f"secret {each.name} {each.kind}" for each in record.opened),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


@given(records())
def test_a_record_is_read_as_the_page_says_it_is_written(record: HookRecord) -> None:
    assert HookRecord.parse(written(record)) == record


def test_a_record_names_what_was_unsealed() -> None:
    assert HookRecord.parse(RECORD.encode()).opened == (OpenedSecret("text", "text"),)


@pytest.mark.parametrize("outcome", ["unsealed", "wrong-pin", "no-pin", "lockout"])
def test_a_record_says_that_an_update_waits(outcome: str) -> None:
    text = RECORD.replace("unsealed", outcome)
    if outcome == "no-pin":
        text = text.replace("secret text text\n", "")
    assert HookRecord.parse(text.encode()).before_update
    told = text.replace("role before-update\n", "")
    assert not HookRecord.parse(told.encode()).before_update


@given(st.binary(max_size=300), st.integers(0, len(RECORD)), st.integers(0, 40))
def test_a_damaged_record_of_version_1_is_read_or_refused(
    junk: bytes, at: int, taken: int
) -> None:
    older = RECORD.replace("record 3", "record 1").replace("secret text text\n", "")
    older = older.replace("role before-update\n", "")
    data = older.encode()[:at] + junk + older.encode()[at + taken :]
    try:
        record = HookRecord.parse(data)
    except FormatError as refused:
        assert 0 <= refused.offset <= len(data)  # noqa: PT017 - it may also be read
    else:
        newer = written(record)
        assert data in [newer.replace(b"3", each, 1) for each in (b"1", b"2", b"3")]


def test_hook_conf_names_the_bank_and_the_pcrs() -> None:
    selection = PcrSelection.of(SHA256, {13, 17, 18, 19})
    assert hook_conf(selection) == b"aemseal-hook 1\nbank sha256\npcrs 13,17,18,19\n"


def test_the_pin_is_the_hash_of_the_serialized_key() -> None:
    assert pin_of(b"srk.tr") == hashlib.sha256(b"srk.tr").digest()


def test_pcr_13_is_the_headers_in_order_and_then_the_cap() -> None:
    record = HookRecord.parse(RECORD.encode())
    after_header = hashlib.sha256(bytes(32) + HEADER.value).digest()
    after_cap = hashlib.sha256(
        after_header + hashlib.sha256(b"aemseal cap").digest()
    ).digest()
    assert record.measured.value == after_header
    assert record.left.value == after_cap


def test_without_headers_and_cap_pcr_13_is_zero() -> None:
    record = HookRecord(PcrSelection(SHA1, (13, 17)), bytes(32), (), None, "no-luks")
    assert record.measured == record.left == SHA1.zero()


BAD_RECORDS = {
    "another version": ("aemseal-record 3", "aemseal-record 4"),
    "a version with a zero": ("aemseal-record 3", "aemseal-record 03"),
    "a bank not known": ("bank sha256", "bank md5"),
    "a bank of another size": ("bank sha256", "bank sha1"),
    "no selection": ("pcrs 13,17,18\n", ""),
    "an empty selection": ("pcrs 13,17,18", "pcrs "),
    "a PCR above 23": ("pcrs 13,17,18", "pcrs 13,17,24"),
    "a PCR twice": ("pcrs 13,17,18", "pcrs 13,13,17"),
    "PCRs that descend": ("pcrs 13,17,18", "pcrs 17,13"),
    "a PCR with a leading zero": ("pcrs 13,17,18", "pcrs 013,17"),
    "a selection with spaces": ("pcrs 13,17,18", "pcrs 13, 17"),
    "the selection before the bank": (
        "bank sha256\npcrs 13,17,18",
        "pcrs 13,17,18\nbank sha256",
    ),
    "a short pin": ("pin 77", "pin "),
    "a UUID with a slash": (UUID, "../../etc"),
    "a UUID too long": (UUID, "a" * 65),
    "a luks line without digest": (f" {HEADER.hex}", ""),
    "a cap in upper case": (f"cap {CAP.hex}", f"cap {CAP.hex.upper()}"),
    "two caps": (f"cap {CAP.hex}\n", f"cap {CAP.hex}\n" * 2),
    "no outcome": ("outcome unsealed\n", ""),
    "two outcomes": ("outcome unsealed\n", "outcome unsealed\n" * 2),
    "an outcome of two words": ("outcome unsealed", "outcome not accepted"),
    "a count of 2**63": ("count 7", f"count {2**63}"),
    "a branch with a control character": ("Xen-4.17.5", "Xen\x1b[2J"),
    "a role not known": ("role before-update", "role after-update"),
    "a role of two words": ("role before-update", "role before update"),
    "two roles": ("role before-update\n", "role before-update\n" * 2),
    "the role before the branch": (
        "branch Xen-4.17.5\nrole before-update\n",
        "role before-update\nbranch Xen-4.17.5\n",
    ),
    "the role behind the secret": (
        "role before-update\nsecret text text\n",
        "secret text text\nrole before-update\n",
    ),
    "a role in version 2": ("aemseal-record 3", "aemseal-record 2"),
    "count behind branch": ("count 7\nbranch Xen-4.17.5", "branch Xen\ncount 7"),
    "no secret": ("secret text text\n", ""),
    "a secret without a kind": ("secret text text", "secret text"),
    "a secret of another kind": ("secret text text", "secret text script"),
    "a secret that is a path": ("secret text text", "secret ../text text"),
    "five secrets": ("secret text text\n", "secret text text\n" * 5),
    "secrets before the branch": (
        "branch Xen-4.17.5\nrole before-update\nsecret text text",
        "secret text text\nbranch Xen-4.17.5\nrole before-update",
    ),
    "a line too many": ("secret text text\n", "secret text text\nx\n"),
    "no end of line": ("secret text text\n", "secret text text"),
    "a byte above ASCII": ("unsealed", "uns\xe9aled"),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_malformed_record_is_refused(case: str) -> None:
    old, new = BAD_RECORDS[case]
    assert RECORD.count(old) == 1
    data = RECORD.replace(old, new).encode("latin-1")
    with pytest.raises(FormatError, match=r"^record: .* at offset \d+$") as refused:
        HookRecord.parse(data)
    assert 0 <= refused.value.offset <= len(data)


@given(st.binary(max_size=300), st.integers(0, len(RECORD)), st.integers(0, 40))
def test_a_damaged_record_is_read_or_refused_and_nothing_else(
    junk: bytes, at: int, taken: int
) -> None:
    data = RECORD.encode()[:at] + junk + RECORD.encode()[at + taken :]
    try:
        record = HookRecord.parse(data)
    except FormatError as refused:
        assert 0 <= refused.offset <= len(data)  # noqa: PT017 - it may also be read
    else:
        assert data in (written(record), written(record).replace(b"3", b"2", 1))


def test_a_record_over_its_limit_is_refused() -> None:
    with pytest.raises(FormatError, match=f"over {RECORD_LIMIT} bytes"):
        HookRecord.parse(b"a" * (RECORD_LIMIT + 1))


def test_the_message_names_the_file() -> None:
    with pytest.raises(FormatError, match=r"^/run/aemseal/record: "):
        HookRecord.parse(b"", "/run/aemseal/record")

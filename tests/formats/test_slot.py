# SPDX-License-Identifier: GPL-2.0-or-later
"""The medium's files come back as written; anything else is refused at an offset."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aemseal.formats.slot import (
    ACCEPTANCE_LIMIT,
    MARK,
    MAX_PARTS,
    MAX_SECRETS,
    PART_DATA,
    PART_SIZE,
    SECRET_KINDS,
    STAGED_MARK,
    VAULT_LIMIT,
    Acceptance,
    AcceptedBranch,
    SealedPart,
    SealedSecret,
    VaultFile,
    acceptance_file,
    approved_policy,
    part_label,
    parts_of,
)
from aemseal.formats.text_lines import is_name, slug
from aemseal.formats.tpm_policy import policy_nv_equal, policy_or
from aemseal.words.errors import FormatError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
names = st.text(LETTERS, min_size=1, max_size=32)
numbers = st.integers(0, 2**63 - 1)
digests = st.binary(min_size=32, max_size=32)
blobs = st.binary(min_size=1, max_size=48)
parts = st.builds(SealedPart, public=blobs, private=blobs)
secrets = st.builds(
    SealedSecret,
    name=names,
    kind=st.just("text"),
    pin=st.booleans(),
    parts=st.lists(parts, min_size=1, max_size=MAX_PARTS).map(tuple),
)
vaults = st.builds(
    VaultFile,
    generation=st.integers(1, 2**63 - 1),
    medium=names,
    counter=st.integers(0x01000000, 0x01FFFFFF),
    key=blobs,
    policy_ref=digests,
    secrets=st.lists(secrets, min_size=1, max_size=MAX_SECRETS).map(tuple),
)
shapes = st.tuples(st.integers(1, 24), st.sampled_from([20, 32, 48, 64]))


@st.composite
def branch_lists(draw: st.DrawFn) -> tuple[AcceptedBranch, ...]:
    """Two to eight with values of one selection, or none; a mark between two."""
    count, size = draw(shapes)
    value = st.binary(min_size=size, max_size=size)
    values = st.lists(value, min_size=count, max_size=count).map(tuple)
    branches = st.builds(
        AcceptedBranch, policy=digests, name=names, values=st.none() | values
    )
    found = draw(st.lists(branches, min_size=2, max_size=8))
    if 2 <= len(found) < 8 and draw(st.booleans()):
        found.insert(draw(st.integers(1, len(found) - 1)), MARK)
    return tuple(found)


acceptances = st.builds(
    Acceptance,
    generation=numbers,
    medium=names,
    count=numbers,
    branches=branch_lists(),
    policy=digests,
    signature=blobs,
)

PCRS = (b"\x13" * 20, b"\x17" * 20)
ONE = AcceptedBranch(bytes(32), "Xen-4.17.5", PCRS)
OTHER = AcceptedBranch(b"\1" * 32, "Xen-4.17.7")
VAULT = VaultFile(
    generation=1,
    medium="internal",
    counter=0x01A10AE0,
    key=b"\0\x23",
    policy_ref=bytes(32),
    secrets=(SealedSecret("text", "text", False, (SealedPart(b"\1", b"\2"),)),),
)
ACCEPTANCE = Acceptance(1, "internal", 7, (ONE, OTHER), bytes(32), b"\0\x18")


@given(vaults)
def test_a_vault_comes_back_as_it_was_written(vault: VaultFile) -> None:
    assert VaultFile.parse(vault.to_bytes()) == vault


@given(acceptances)
def test_an_acceptance_comes_back_as_it_was_written(acceptance: Acceptance) -> None:
    assert Acceptance.parse(acceptance.to_bytes()) == acceptance


def test_a_lone_branch_is_written_twice_and_hashed_twice() -> None:
    alone = replace(ACCEPTANCE, branches=(ONE,))
    assert Acceptance.parse(alone.to_bytes()).branches == (ONE, ONE)
    counter = b"\0\x0b" + bytes(32)
    twice = policy_or([ONE.policy, ONE.policy])
    assert approved_policy((ONE,), counter, 7) == policy_nv_equal(twice, counter, 7)
    assert approved_policy((ONE, ONE), counter, 7) == approved_policy(
        (ONE,), counter, 7
    )


def test_the_mark_is_a_branch_like_any_other_between_two_boots() -> None:
    assert hashlib.sha256(b"aemseal staged 1").digest() == STAGED_MARK
    marked = replace(ACCEPTANCE, branches=(ONE, MARK, OTHER))
    assert f"{MARKED}branch {'01' * 32}" in marked.to_bytes().decode()
    assert Acceptance.parse(marked.to_bytes()) == marked
    counter = b"\0\x0b" + bytes(32)
    listed = policy_or([ONE.policy, STAGED_MARK, OTHER.policy])
    found = approved_policy(marked.branches, counter, 7)
    assert found == policy_nv_equal(listed, counter, 7)
    assert found != approved_policy((ONE, OTHER), counter, 7)


def test_what_no_pcr_bank_holds_is_no_value() -> None:
    for values in ((), (bytes(31),), (bytes(20), bytes(32)), (bytes(32),) * 25):
        with pytest.raises(ValueError, match="PCR values"):
            replace(ONE, values=values)
    with pytest.raises(ValueError, match="more than one selection"):
        replace(ACCEPTANCE, branches=(ONE, replace(ONE, values=PCRS[:1])))
    for branches in ((MARK,), (MARK, ONE), (ONE, MARK), (ONE, MARK, MARK, ONE)):
        with pytest.raises(ValueError, match="not between two boots"):
            replace(ACCEPTANCE, branches=branches)


def test_the_files_look_as_documented() -> None:
    assert VAULT.to_bytes().decode() == (
        "aemseal-vault 1\n"
        "generation 1\n"
        "medium internal\n"
        "counter 01a10ae0\n"
        "key 0023\n"
        f"policy-ref {'00' * 32}\n"
        "secret text text 0 1\n"
        "part 01 02\n"
    )
    assert ACCEPTANCE.to_bytes().decode() == (
        "aemseal-acceptance 2\n"
        "generation 1\n"
        "medium internal\n"
        "count 7\n"
        f"branch {'00' * 32} Xen-4.17.5\n"
        f"values {'13' * 20},{'17' * 20}\n"
        f"branch {'01' * 32} Xen-4.17.7\n"
        "values -\n"
        f"policy {'00' * 32}\n"
        "signature 0018\n"
    )
    assert acceptance_file(7) == "acceptance.7"


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_at_an_offset_within_them(data: bytes) -> None:
    for parse in (VaultFile.parse, Acceptance.parse):
        with pytest.raises(FormatError) as refused:
            parse(data)
        assert 0 <= refused.value.offset <= len(data)


@st.composite
def damaged(draw: st.DrawFn, written: bytes) -> bytes:
    """A file with some bytes taken out, put in, changed, or whole lines moved."""
    data = bytearray(written)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 80)))
        data[at:to] = draw(
            st.binary(max_size=4)
            | st.sampled_from([b" ", b"\n", b"0", b"-1", b"\r\n", b"\0"])
        )
    lines = bytes(data).splitlines(keepends=True)
    if draw(st.booleans()):
        lines = draw(st.permutations(lines))
    return b"".join(lines)


@given(damaged(VAULT.to_bytes()))
def test_a_damaged_vault_is_refused_or_reads_as_what_it_now_says(data: bytes) -> None:
    try:
        vault = VaultFile.parse(data)
    except FormatError as refused:
        assert 0 <= refused.offset <= len(data)  # noqa: PT017 - it may also be read
    else:
        assert vault.to_bytes() == data


@given(damaged(ACCEPTANCE.to_bytes()))
def test_a_damaged_acceptance_is_refused_or_reads_as_what_it_now_says(
    data: bytes,
) -> None:
    try:
        acceptance = Acceptance.parse(data)
    except FormatError as refused:
        assert 0 <= refused.offset <= len(data)  # noqa: PT017 - it may also be read
    else:
        assert acceptance.to_bytes() == data


@given(vaults, st.data())
def test_a_vault_cut_short_is_refused(vault: VaultFile, data: st.DataObject) -> None:
    written = vault.to_bytes()
    last_part = written.rindex(b"\npart ")
    cut = data.draw(st.integers(0, last_part))
    is_between = written[cut:].startswith(b"secret ") and b"\nsecret " in written[:cut]
    assume(not is_between)
    with pytest.raises(FormatError):
        VaultFile.parse(written[:cut])


@given(acceptances, st.data())
def test_an_acceptance_cut_short_is_refused(
    acceptance: Acceptance, data: st.DataObject
) -> None:
    written = acceptance.to_bytes()
    with pytest.raises(FormatError):
        Acceptance.parse(written[: data.draw(st.integers(0, len(written) - 1))])


BAD_VAULTS = {
    "another version": ("aemseal-vault 1", "aemseal-vault 2"),
    "generation zero": ("generation 1", "generation 0"),
    "a leading zero": ("generation 1", "generation 01"),
    "a sign": ("generation 1", "generation +1"),
    "a number of 2**63": ("generation 1", f"generation {2**63}"),
    "two fields for one": ("generation 1", "generation 1 1"),
    "two spaces": ("generation 1", "generation  1"),
    "a medium with a slash": ("medium internal", "medium ../internal"),
    "a medium too long": ("medium internal", f"medium {'a' * 33}"),
    "a medium of no letters": ("medium internal", "medium "),
    "an escape sequence": ("medium internal", "medium \x1b[2J"),
    "a counter of seven digits": ("counter 01a10ae0", "counter 1a10ae0"),
    "a counter that is no NV index": ("counter 01a10ae0", "counter 81a10ae0"),
    "a counter in upper case": ("counter 01a10ae0", "counter 01A10AE0"),
    "an empty key": ("key 0023", "key "),
    "half a byte of key": ("key 0023", "key 002"),
    "a key that is no hex": ("key 0023", "key 00zz"),
    "a short policy-ref": ("policy-ref 00", "policy-ref "),
    "a kind not known": ("secret text text 0 1", "secret text wish 0 1"),
    "a PIN field of 2": ("secret text text 0 1", "secret text text 2 1"),
    "no parts": ("secret text text 0 1\npart 01 02\n", "secret text text 0 0\n"),
    "a part missing": ("secret text text 0 1", "secret text text 0 2"),
    "a part too many": ("part 01 02\n", "part 01 02\npart 01 02\n"),
    "17 parts": ("secret text text 0 1", "secret text text 0 17"),
    "parts beyond any": ("secret text text 0 1", f"secret text text 0 {10**18}"),
    "no secret": ("secret text text 0 1\npart 01 02\n", ""),
    "a key line too many": ("key 0023\n", "key 0023\nkey 0023\n"),
    "an unknown line at the end": ("part 01 02\n", "part 01 02\ncomment x\n"),
    "an empty line at the end": ("part 01 02\n", "part 01 02\n\n"),
    "no end of line": ("part 01 02\n", "part 01 02"),
    "a carriage return": ("generation 1\n", "generation 1\r\n"),
    "a byte above ASCII": ("internal", "intern\xe4l"),
}
MARKED = f"branch {hashlib.sha256(b'aemseal staged 1').hexdigest()} staged\nvalues -\n"
BAD_ACCEPTANCES = {
    "version 1": ("acceptance 2", "acceptance 1"),
    "another version": ("acceptance 2", "acceptance 20"),
    "a count of 2**63": ("count 7", f"count {2**63}"),
    "a negative count": ("count 7", "count -7"),
    "one branch": (f"branch {'01' * 32} Xen-4.17.7\nvalues -\n", ""),
    "nine branches": ("policy", f"branch {'01' * 32} b\nvalues -\n" * 7 + "policy"),
    "a branch without values": ("values -\n", ""),
    "values without a branch": ("values -\n", "values -\nvalues -\n"),
    "no values": ("values -", "values "),
    "values that are no hex": ("values -", "values --"),
    "values in upper case": ("13,17", "13,AB"),
    "values with a space": ("13,17", "13, 17"),
    "an empty value": ("13,17", "13,,17"),
    "a comma in front": ("values 13", "values ,13"),
    "a comma behind": ("17\nbranch", "17,\nbranch"),
    "a value of another bank": ("values 13", f"values {'00' * 12}13"),
    "values of no bank": ("values -", f"values {'00' * 31}"),
    "values of another number": ("values -", f"values {'00' * 20}"),
    "values of another bank": ("values -", f"values {'00' * 32},{'00' * 32}"),
    "25 values": ("values -", "values " + ",".join(["00" * 20] * 25)),
    "a mark in front": ("branch 00", f"{MARKED}branch 00"),
    "a mark at the end": ("policy", f"{MARKED}policy"),
    "two marks": ("branch 01", f"{MARKED}{MARKED}branch 01"),
    "a branch without a name": (" Xen-4.17.7", ""),
    "a short branch": (f"branch {'01' * 32}", f"branch {'01' * 31}"),
    "a branch name with a space": ("Xen-4.17.7", "Xen 4.17.7"),
    "no policy": (f"policy {'00' * 32}\n", ""),
    "two policies": ("signature", f"policy {'00' * 32}\nsignature"),
    "no signature": ("signature 0018\n", ""),
    "more behind the signature": ("signature 0018\n", "signature 0018\nx\n"),
}


def changed(written: bytes, change: tuple[str, str]) -> bytes:
    text = written.decode()
    assert text.count(change[0]) == 1
    return text.replace(*change).encode("latin-1")


@pytest.mark.parametrize("case", BAD_VAULTS)
def test_a_malformed_vault_is_refused(case: str) -> None:
    data = changed(VAULT.to_bytes(), BAD_VAULTS[case])
    with pytest.raises(FormatError, match=r"^vault: .* at offset \d+$") as refused:
        VaultFile.parse(data)
    assert 0 <= refused.value.offset <= len(data)


@pytest.mark.parametrize("case", BAD_ACCEPTANCES)
def test_a_malformed_acceptance_is_refused(case: str) -> None:
    data = changed(ACCEPTANCE.to_bytes(), BAD_ACCEPTANCES[case])
    with pytest.raises(FormatError, match=r"^acceptance: .* at offset \d+$"):
        Acceptance.parse(data)


def test_the_offset_is_that_of_the_line() -> None:
    data = changed(VAULT.to_bytes(), ("counter 01a10ae0", "counter zzzzzzzz"))
    with pytest.raises(FormatError) as refused:
        VaultFile.parse(data)
    assert refused.value.offset == data.index(b"counter")


def test_a_file_over_its_limit_is_refused_whatever_it_holds() -> None:
    for parse, limit in (
        (VaultFile.parse, VAULT_LIMIT),
        (Acceptance.parse, ACCEPTANCE_LIMIT),
    ):
        with pytest.raises(FormatError, match=f"over {limit} bytes") as refused:
            parse(b"\n" * (limit + 1))
        assert refused.value.offset == limit


def test_the_largest_acceptance_is_within_its_limit() -> None:
    largest = Acceptance(
        2**63 - 1,
        "m" * 32,
        2**63 - 1,
        (AcceptedBranch(bytes(32), "b" * 32, (bytes(64),) * 24),) * 8,
        bytes(32),
        bytes(512),
    )
    assert Acceptance.parse(largest.to_bytes()) == largest


def test_what_cannot_be_written_cannot_be_made() -> None:
    part = SealedPart(b"\1", b"\2")
    secret = VAULT.secrets[0]
    for make in (
        lambda: SealedSecret("a b", "text", False, (part,)),
        lambda: SealedSecret("a", "picture", False, (part,)),
        lambda: SealedSecret("a", "text", False, ()),
        lambda: SealedSecret("a", "text", False, (part,) * (MAX_PARTS + 1)),
        lambda: replace(VAULT, generation=0),
        lambda: replace(VAULT, medium="a/b"),
        lambda: replace(VAULT, secrets=()),
        lambda: replace(VAULT, secrets=(secret,) * (MAX_SECRETS + 1)),
        lambda: AcceptedBranch(bytes(32), "a\nb"),
        lambda: replace(ACCEPTANCE, medium=""),
        lambda: replace(ACCEPTANCE, branches=()),
        lambda: replace(ACCEPTANCE, branches=(ONE,) * 9),
    ):
        with pytest.raises(ValueError, match=r"."):
            make()


@given(st.text(max_size=60))
def test_any_name_has_a_slug_that_is_allowed(text: str) -> None:
    assert is_name(slug(text))


def test_slugs_are_readable() -> None:
    assert slug("Xen 4.17.5 (running)") == "Xen-4.17.5-running"
    assert slug("\x1b[2J") == "2J"
    assert slug("") == slug("/// ") == "boot"


@given(
    st.sampled_from(SECRET_KINDS), st.binary(min_size=1, max_size=MAX_PARTS * PART_DATA)
)
def test_each_part_says_which_it_is_and_together_they_are_the_secret(
    kind: str, value: bytes
) -> None:
    parts = parts_of(kind, value)
    assert 1 <= len(parts) <= MAX_PARTS
    assert all(len(part) <= PART_SIZE for part in parts)
    labels = [part_label(kind, at, len(parts)) for at in range(1, len(parts) + 1)]
    data = [part.removeprefix(label) for part, label in zip(parts, labels, strict=True)]
    assert [len(part) - len(each) for part, each in zip(parts, data, strict=True)] == [
        len(label) for label in labels
    ]
    assert b"".join(data) == value


def test_a_label_is_one_line_of_the_format() -> None:
    assert part_label("keyfile", 1, 1) == b"aemseal keyfile 1/1\n"
    with pytest.raises(ValueError, match="label"):
        part_label("a kind of another length", 1, 1)

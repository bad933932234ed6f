# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUKS header, changed as a draft and put on its device: all with cryptsetup."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from luks_disks import CHEAP, PASSPHRASE, UUID, LuksDisk, did
from luks_drafts import KEY, drafted, left

import aemseal.world.cryptsetup
import aemseal.world.luks_headers
from aemseal.words.errors import AemsealError, FormatError, UsageError, VaultError
from aemseal.world.luks_headers import (
    KEY_BYTES,
    HeaderChange,
    HeaderLostError,
    LuksHeaders,
    random_key,
)
from aemseal.world.seam import Seam
from aemseal.world.store import Files


@pytest.fixture
def disk(tmp_path: Path) -> LuksDisk:
    return LuksDisk(tmp_path / "root").make()


@pytest.fixture
def headers(disk: LuksDisk) -> LuksHeaders:
    return LuksHeaders(Files(disk.root))


def test_a_key_is_random_and_of_its_length() -> None:
    assert len(random_key()) == KEY_BYTES == 64
    assert random_key() != random_key()


# --- a draft, and its way to the device ---


def test_a_draft_leaves_the_device_as_it_is(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    before = disk.path.read_bytes()
    change = drafted(headers)
    assert disk.path.read_bytes() == before
    assert not disk.opens(KEY)
    assert change.before != change.after


def test_an_installed_draft_opens_the_device_and_so_does_the_passphrase(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    data = disk.data
    headers.install(drafted(headers))
    assert disk.opens(KEY)
    assert disk.opens(PASSPHRASE)
    assert not disk.opens(KEY[:-1])
    assert disk.data == data
    assert disk.slots == [0, 1]
    assert disk.tokens == [{"type": "aemseal", "keyslots": ["1"]}]
    assert left(disk) == []


def test_the_device_is_measured_as_the_draft_was(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    """The promise that all rests on: cryptsetup's backup gives the draft's bytes."""
    before = disk.header
    change = drafted(headers)
    draft = (disk.root / headers.draft_file(UUID).lstrip("/")).read_bytes()
    copied = (disk.root / headers.copied_file(UUID).lstrip("/")).read_bytes()
    assert copied == before
    headers.install(change)
    assert disk.header == draft
    assert disk.header == draft, "looking at it changes nothing"


def test_no_slow_derivation_guards_the_key(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.install(drafted(headers))
    kdf = disk.metadata["keyslots"]["1"]["kdf"]
    assert (kdf["type"], kdf["iterations"]) == ("pbkdf2", 1000)


def test_installing_what_is_there_already_ends_the_same(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    change = drafted(headers)
    headers.install(change)
    after = disk.path.read_bytes()
    headers.install(change)
    assert disk.path.read_bytes() == after


def test_a_new_draft_starts_from_the_device(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    drafted(headers, b"another key")
    headers.install(drafted(headers))
    assert disk.slots == [0, 1]
    assert not disk.opens(b"another key")


def test_a_wrong_passphrase_is_a_mistake_and_changes_nothing(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.begin(UUID)
    before = headers.change(UUID)
    with pytest.raises(UsageError, match="the passphrase does not open"):
        headers.add(UUID, KEY, PASSPHRASE + b"!")
    assert headers.change(UUID) == before
    assert before.before == before.after
    headers.discard(UUID)
    assert left(disk) == []


def test_the_first_free_slot_is_taken(disk: LuksDisk, headers: LuksHeaders) -> None:
    disk.add(b"one")
    disk.add(b"two")
    disk.kill(1)
    headers.begin(UUID)
    assert headers.add(UUID, KEY, PASSPHRASE) == 1


def test_a_device_without_room_for_a_slot_says_so_in_cryptsetups_words(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    for number in range(3):
        disk.add(b"key %d" % number)
    headers.begin(UUID)
    with pytest.raises(AemsealError, match=r"luksAddKey failed .*: No space for new"):
        headers.add(UUID, KEY, PASSPHRASE)


def test_a_header_with_all_its_slots_in_use_is_told(
    headers: LuksHeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aemseal.world.luks_headers, "SLOTS", 1)
    headers.begin(UUID)
    with pytest.raises(VaultError, match="all key slots of the LUKS device"):
        headers.add(UUID, KEY, PASSPHRASE)


# --- what is no device of ours ---


def test_luks1_is_refused_with_what_to_do(tmp_path: Path) -> None:
    disk = LuksDisk(tmp_path).make("luks1")
    with pytest.raises(VaultError, match="is of LUKS1") as told:
        LuksHeaders(Files(disk.root)).begin(UUID)
    assert "cryptsetup convert" in (told.value.hint or "")
    assert not (tmp_path / "var").exists()


def test_an_absent_device_is_named(tmp_path: Path) -> None:
    headers = LuksHeaders(Files(tmp_path))
    for act in (
        lambda: headers.begin(UUID),
        lambda: headers.kill(UUID, 1),
        lambda: headers.install(HeaderChange(UUID, b"", b"")),
    ):
        with pytest.raises(VaultError, match=f"{UUID} is not at hand"):
            act()


def test_what_is_no_luks_device_is_refused(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    disk.path.write_bytes(bytes(1 << 20))
    with pytest.raises(FormatError, match="no LUKS header"):
        headers.begin(UUID)
    with pytest.raises(VaultError, match="has no LUKS2 header"):
        headers.kill(UUID, 1)


def test_a_folder_where_the_device_should_be_cannot_be_read(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    disk.path.unlink()
    disk.path.mkdir()
    with pytest.raises(AemsealError, match="cannot be read: is a directory"):
        headers.begin(UUID)


# --- a header that somebody changed meanwhile ---


def test_a_header_changed_meanwhile_is_never_overwritten(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    change = drafted(headers)
    disk.add(b"somebody's key")
    theirs = disk.path.read_bytes()
    with pytest.raises(HeaderLostError, match="somebody changed the header"):
        headers.install(change)
    assert disk.path.read_bytes() == theirs


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_draft_that_is_lost_is_told(
    disk: LuksDisk, headers: LuksHeaders, damage: str
) -> None:
    change = drafted(headers)
    draft = disk.root / headers.draft_file(UUID).lstrip("/")
    if damage == "gone":
        draft.unlink()
    else:
        draft.write_bytes(draft.read_bytes()[:-1] + b"!")
    before = disk.path.read_bytes()
    with pytest.raises(HeaderLostError, match=r"header is missing or damaged"):
        headers.install(change)
    assert disk.path.read_bytes() == before


def test_a_header_that_is_destroyed_is_left_to_a_person(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    change = drafted(headers)
    disk.path.write_bytes(bytes(1 << 20) + disk.path.read_bytes()[1 << 20 :])
    with pytest.raises(HeaderLostError):
        headers.install(change)


def test_a_device_that_does_not_keep_what_is_written_is_told(
    disk: LuksDisk, headers: LuksHeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = drafted(headers)
    real = aemseal.world.cryptsetup.cryptsetup

    def lying(words: tuple[str, ...], *more: object, **named: object) -> object:
        if words[0] == "luksHeaderRestore":
            words = ("--version",)
        return real(words, *more, **named)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr("aemseal.world.luks_headers.cryptsetup", lying)
    with pytest.raises(AemsealError, match="does not hold the header"):
        headers.install(change)


# --- a slot of ours is taken out, and no other ---


def test_our_slot_is_killed_and_its_token_goes(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.install(drafted(headers))
    assert headers.kill(UUID, 1)
    assert (disk.slots, disk.tokens) == ([0], [])
    assert not disk.opens(KEY)
    assert disk.opens(PASSPHRASE)
    assert not headers.kill(UUID, 1)


def test_no_slot_is_killed_that_no_token_of_ours_names(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.install(drafted(headers))
    disk.add(b"somebody's key")
    before = disk.path.read_bytes()
    for slot in (0, 2, 3):
        assert not headers.kill(UUID, slot)
    assert disk.path.read_bytes() == before


def test_a_slot_that_was_given_to_somebody_else_is_not_killed(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    """Killed by hand, its token is left and names none; the next key has the slot."""
    headers.install(drafted(headers))
    disk.kill(1)
    disk.add(b"somebody's key")
    assert disk.slots == [0, 1]
    assert not headers.kill(UUID, 1)
    assert disk.opens(b"somebody's key")
    assert disk.tokens == [], "what named our slot is removed"


def test_another_programs_token_for_the_slot_saves_it(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    disk.add(b"somebody's key")
    token = b'{"type":"clevis","keyslots":["1"]}'
    did("token", "import", "--json-file", "-", disk.path, stdin=token)
    assert not headers.kill(UUID, 1)
    assert disk.opens(b"somebody's key")
    assert len(disk.tokens) == 1


def test_the_last_slot_that_opens_the_device_is_not_killed(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.install(drafted(headers))
    did(
        *("luksAddKey", "--batch-mode", "--unbound", "--key-size", "512"),
        *(*CHEAP, "--key-slot", "2", disk.path, "-"),
        stdin=b"opens nothing",
    )
    disk.kill(0)
    with pytest.raises(VaultError, match="slot 1 is the only one that opens"):
        headers.kill(UUID, 1)
    assert disk.opens(KEY)


def test_a_draft_can_take_our_old_slot_out_and_a_new_key_in(
    disk: LuksDisk, headers: LuksHeaders
) -> None:
    headers.install(drafted(headers))
    headers.begin(UUID)
    assert headers.drop(UUID, 1)
    assert not headers.drop(UUID, 0)
    assert headers.add(UUID, b"a new key", PASSPHRASE) == 1
    assert disk.opens(KEY)
    headers.install(headers.change(UUID))
    assert disk.opens(b"a new key")
    assert not disk.opens(KEY)
    assert disk.tokens == [{"type": "aemseal", "keyslots": ["1"]}]


# --- keys and passphrases ---


class Snooping(Seam):
    """Somebody who reads every command line, environment and file on the way."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.seen.append(what.encode())
        yield


def test_no_key_and_no_passphrase_is_in_an_argument_a_variable_or_a_file(
    disk: LuksDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cryptsetup that notes what it is called with stands before the real one."""
    notes = tmp_path / "notes"
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "cryptsetup"
    real = next(
        Path(each) / "cryptsetup"
        for each in os.environ["PATH"].split(":")
        if (Path(each) / "cryptsetup").exists()
    )
    wrapper.write_text(
        "#!/bin/sh\n"
        f"cat /proc/$$/cmdline /proc/$$/environ >>{notes}\n"
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    key = random_key()
    seam = Snooping()
    headers = LuksHeaders(Files(disk.root, seam))
    headers.install(drafted(headers, key))
    headers.kill(UUID, 1)
    told = notes.read_bytes() + b"".join(seam.seen)
    assert told.count(b"luksAddKey") == 2
    files = [each for each in disk.root.rglob("*") if each.is_file()]
    for secret in (key, PASSPHRASE):
        pieces = {secret[at : at + 8] for at in range(len(secret) - 7)}
        pieces |= {each.hex().encode() for each in pieces}
        assert not any(each in told for each in pieces)
        for path in files:
            data = path.read_bytes()
            assert not any(each in data for each in pieces)


def test_cryptsetup_that_is_missing_is_told(
    headers: LuksHeaders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AemsealError, match="cryptsetup cannot be run: no such file"):
        headers.kill(UUID, 1)


def test_cryptsetup_that_does_not_end_is_told(
    headers: LuksHeaders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stuck = tmp_path / "cryptsetup"
    stuck.write_text("#!/bin/sh\nexec sleep 60\n")
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(aemseal.world.cryptsetup, "TIME_LIMIT", 0.1)
    with pytest.raises(AemsealError, match="did not end within"):
        headers.kill(UUID, 1)

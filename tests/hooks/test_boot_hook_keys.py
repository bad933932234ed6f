# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk's key: handed to whoever opens the disk, then overwritten and gone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from boot_program import OTHER, UUID, Initramfs
from hook_program import SHELLS, of_shell

KEY = bytes(range(64))
DUMP = """\
Keyslots:
  0: luks2
	Key:        512 bits
  1: luks2
Tokens:
  0: systemd-tpm2
	Keyslot:    0
  1: aemseal
	Keyslot:    {slot}
Digests:
  0: pbkdf2
"""
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)


def with_key(machine: Initramfs, *, code: int = 0, kinds: str = "text keyfile") -> None:
    """The hook leaves a key, and ends with this code."""
    (machine.folder / "key").write_bytes(KEY)
    machine.write_core(
        machine.write_record(*kinds.split())
        + f"cat {machine.folder}/key >$run/keyfile\nexit {code}"
    )


def mark(machine: Initramfs, uuid: str, slot: int = 1) -> None:
    """Have the device's header name a slot of ours."""
    (machine.folder / f"dump.{uuid}").write_text(DUMP.format(slot=slot))


@pytest.fixture
def machine(tmp_path: Path) -> Initramfs:
    machine = Initramfs(tmp_path, systemd=True)
    with_key(machine)
    mark(machine, UUID)
    return machine


@pytest.fixture
def plain(tmp_path: Path) -> Initramfs:
    machine = Initramfs(tmp_path)
    with_key(machine)
    mark(machine, UUID)
    return machine


def laid_down(machine: Initramfs) -> dict[str, bytes]:
    if not machine.keys.exists():
        return {}
    return {each.name: each.read_bytes() for each in machine.keys.iterdir()}


def opened(machine: Initramfs) -> list[str]:
    """What cryptsetup was asked to open, as words."""
    said = machine.folder / "cryptsetup.said"
    lines = said.read_text().splitlines() if said.exists() else []
    return [line for line in lines if line.startswith("open ")]


# --- with systemd ---


@every_shell
def test_systemd_cryptsetup_finds_the_key_under_its_volumes_name(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    ended = machine.ended(shell)
    assert not ended.powered_off
    assert laid_down(machine) == {f"luks-{UUID}.key": KEY}
    assert machine.keys.stat().st_mode & 0o777 == 0o700
    (path,) = machine.keys.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(machine.left()) == {"record", "done", "keys"}
    assert opened(machine) == []


def test_a_volume_with_a_name_of_its_own_has_the_key_under_that_too(
    machine: Initramfs,
) -> None:
    machine.cmdline += f" rd.luks.name={UUID}=root rd.luks.name={OTHER}=swap"
    machine.ended()
    assert set(laid_down(machine)) == {f"luks-{UUID}.key", "root.key"}


@pytest.mark.parametrize("device", [f"UUID={UUID}", f"/dev/disk/by-uuid/{UUID}"])
def test_crypttabs_name_of_the_volume_counts(machine: Initramfs, device: str) -> None:
    machine.crypttab.write_text(f"# a word\ndom0 {device} none discard\nx UUID=1 -\n")
    machine.ended()
    assert set(laid_down(machine)) == {f"luks-{UUID}.key", "dom0.key"}


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", ".x", "a b", ""])
def test_a_name_that_is_a_path_is_none(machine: Initramfs, name: str) -> None:
    machine.cmdline += f" rd.luks.name={UUID}={name}"
    machine.ended()
    assert not {*laid_down(machine)} - {f"luks-{UUID}.key", "a.key"}


def test_of_several_disks_the_one_with_our_slot_has_the_key(machine: Initramfs) -> None:
    machine.cmdline = f"rd.luks.uuid={OTHER} rd.luks.uuid=luks-{UUID} root=x"
    machine.ended()
    assert set(laid_down(machine)) == {f"luks-{UUID}.key"}


def test_every_disk_has_it_where_no_header_names_a_slot(machine: Initramfs) -> None:
    (machine.folder / f"dump.{UUID}").unlink()
    machine.cmdline = f"rd.luks.uuid={OTHER} rd.luks.uuid=luks-{UUID} root=x"
    machine.ended()
    assert set(laid_down(machine)) == {f"luks-{UUID}.key", f"luks-{OTHER}.key"}


def test_a_key_that_is_there_already_is_left_alone(machine: Initramfs) -> None:
    machine.keys.mkdir()
    (machine.keys / f"luks-{UUID}.key").write_bytes(b"another's")
    machine.ended()
    assert laid_down(machine) == {f"luks-{UUID}.key": b"another's"}
    assert machine.check_root().returncode == 1
    assert laid_down(machine) == {f"luks-{UUID}.key": b"another's"}


def test_a_real_header_names_our_slot(machine: Initramfs) -> None:
    image = machine.folder / "image"
    image.write_bytes(bytes(20 << 20))
    machine.write_tool("cryptsetup", '/usr/sbin/cryptsetup "$@"')
    for words, stdin in (
        ("luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000", "a"),
        ("token import --token-id 3", '{"type":"aemseal","keyslots":["0"]}'),
    ):
        subprocess.run(
            ["/usr/sbin/cryptsetup", "-q", *words.split(), str(image)],
            input=stdin.encode(),
            check=True,
        )
    (machine.folder / "by-uuid").mkdir()
    (machine.folder / f"by-uuid/{OTHER}").symlink_to(image)
    machine.cmdline = f"rd.luks.uuid={OTHER} rd.luks.uuid=luks-{UUID} root=x"
    machine.ended()
    assert set(laid_down(machine)) == {f"luks-{OTHER}.key"}


# --- without ---


@every_shell
def test_without_systemd_the_disk_is_opened_and_the_key_is_gone(
    plain: Initramfs, shell: tuple[str, ...]
) -> None:
    ended = plain.ended(shell)
    assert not ended.powered_off
    (line,) = opened(plain)
    assert line == (
        f"open --batch-mode --type luks --key-file {plain.run_folder}/keyfile "
        f"--key-slot 1 {plain.folder}/by-uuid/{UUID} luks-{UUID}"
    )
    assert laid_down(plain) == {}
    assert set(plain.left()) == {"record", "done"}


def test_it_is_opened_under_the_name_that_dracut_gives_it(plain: Initramfs) -> None:
    plain.cmdline += f" rd.luks.name={UUID}=root"
    plain.ended()
    plain.crypttab.write_text(f"dom0 UUID={UUID} none\n")
    plain.ended()
    assert [line.split()[-1] for line in opened(plain)] == ["root", "dom0"]


def test_what_is_open_already_is_left_alone(plain: Initramfs) -> None:
    plain.mapper.mkdir()
    (plain.mapper / f"luks-{UUID}").touch()
    assert not plain.ended().powered_off
    assert opened(plain) == []


@pytest.mark.parametrize(
    ("words", "crypttab", "is_allowed"),
    [
        ("", "", False),
        ("rd.luks.allow-discards", "", True),
        ("rd.luks.allow-discards=1", "", True),
        ("rd.luks.allow-discards=0", "", False),
        (f"rd.luks.allow-discards={UUID}", "", True),
        (f"rd.luks.allow-discards=luks-{UUID}", "", True),
        (f"rd.luks.allow-discards={OTHER}", "", False),
        ("rd.luks.options=timeout=3,discard", "", True),
        (f"rd.luks.options={UUID}=discard", "", True),
        (f"rd.luks.options={OTHER}=discard", "", False),
        ("rd.luks.options=timeout=3", "", False),
        ("", f"x UUID={UUID} none discard", True),
        ("", f"x UUID={UUID} none timeout=3,allow-discards", True),
        ("", f"x UUID={UUID} none", False),
        ("", f"x UUID={OTHER} none discard", False),
    ],
)
def test_discards_are_allowed_where_the_command_line_or_crypttab_says_so(
    plain: Initramfs, words: str, crypttab: str, *, is_allowed: bool
) -> None:
    plain.cmdline += f" {words}"
    if crypttab:
        plain.crypttab.write_text(f"{crypttab}\n")
    plain.ended()
    (line,) = opened(plain)
    assert ("--allow-discards" in line) is is_allowed


def test_a_key_that_opens_nothing_leaves_the_boot_to_the_passphrase(
    plain: Initramfs,
) -> None:
    plain.write_tool("cryptsetup", "exit 2")
    ended = plain.ended()
    assert (ended.code, ended.powered_off) == (0, False)
    assert set(plain.left()) == {"record", "done"}


# --- gone on every way ---


@every_shell
@pytest.mark.parametrize("overridden", [False, True])
def test_it_is_overwritten_before_the_root_is_entered_also_where_the_check_fails(
    machine: Initramfs, shell: tuple[str, ...], *, overridden: bool
) -> None:
    machine.ended(shell)
    (path,) = machine.keys.iterdir()
    if overridden:
        (machine.run_folder / "overridden").touch()
    with path.open("rb") as held:
        checked = machine.check_root(shell)
        assert checked.returncode == (0 if overridden else 1)
        assert laid_down(machine) == {}
        assert not held.read().strip(b"\0")
    assert not {"keyfile", "keys"} & set(machine.left())


@pytest.mark.parametrize("code", [10, 22, 23])
@pytest.mark.parametrize("answer", ["", "boot it blindly"])
def test_a_boot_that_is_refused_or_overridden_hands_no_key_over(
    machine: Initramfs, code: int, answer: str
) -> None:
    with_key(machine, code=code, kinds="keyfile")
    (machine.folder / "answer").write_text(f"{answer}\n")
    machine.run_folder.mkdir()
    machine.ended()
    assert laid_down(machine) == {}
    assert not {"keyfile", "keys"} & set(machine.left())

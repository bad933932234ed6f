# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook reads a medium and an initramfs that are not as they should be."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hook_bus import OLD
from hook_outcome import EXITS, assert_closed, held
from hook_program import SHELLS, of_shell
from hook_world import STAGED_MARK, Disks, Machine

pytestmark = pytest.mark.tpm


def test_a_missing_medium_is_named(machine: Machine) -> None:
    shutil.rmtree(machine.medium)
    machine.boot(OLD)
    held(machine, machine.hook(), "no-medium")


def test_a_missing_vault_is_named(machine: Machine) -> None:
    (machine.medium / "vault").unlink()
    machine.boot(OLD)
    held(machine, machine.hook(), "no-medium")


def test_a_missing_acceptance_is_named(machine: Machine) -> None:
    (machine.medium / "acceptance.1").unlink()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        kept = file.rename(file.with_name("kept"))
        make(file)
        assert kept.exists()

    return change


NOT_FILES: dict[str, Callable[[Path], None]] = {
    "a link to the true file": instead(lambda file: file.symlink_to("kept")),
    "a link to nowhere": instead(lambda file: file.symlink_to("nowhere")),
    "a link to itself": instead(lambda file: file.symlink_to(file.name)),
    "a link to an endless device": instead(lambda file: file.symlink_to("/dev/zero")),
    "a FIFO": instead(os.mkfifo),
    "a folder": instead(Path.mkdir),
}


@pytest.mark.parametrize("name", ["vault", "acceptance.1"])
@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_not_a_plain_file_is_not_opened(
    machine: Machine, name: str, kind: str
) -> None:
    NOT_FILES[kind](machine.medium / name)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


def test_a_medium_that_is_a_link_is_not_followed(machine: Machine) -> None:
    machine.medium.rename(machine.folder / "elsewhere")
    machine.medium.symlink_to("elsewhere")
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


Edit = Callable[[bytes], bytes]


def swap(old: bytes, new: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return edit


def pattern(old: bytes, new: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        edited = re.sub(old, lambda match: match.expand(new), data, count=1)
        assert edited != data
        return edited

    return edit


HOSTILE_BYTES: dict[str, Edit] = {
    "empty": lambda data: b"",
    "one line feed": lambda data: b"\n",
    "cut short": lambda data: data[: len(data) // 2],
    "cut at a line": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "without the last line feed": lambda data: data[:-1],
    "a line feed more": lambda data: data + b"\n",
    "a word more": lambda data: data + b"more 1\n",
    "every line twice": lambda data: data + data,
    "CR LF": lambda data: data.replace(b"\n", b"\r\n"),
    "random bytes": lambda data: bytes(range(256)) * 16,
    "zero bytes": lambda data: bytes(4096),
    "a zero byte within": lambda data: data[:40] + b"\0" + data[40:],
    "a zero byte at the end": lambda data: data + b"\0",
    "an escape within": lambda data: data[:40] + b"\x1b[2J" + data[40:],
    "a byte of the upper half": lambda data: data[:40] + b"\x9b" + data[40:],
    "a huge file": lambda data: data + b"a" * (1 << 24),
    "a huge file without a line": lambda data: b"a" * (1 << 20),
    "too many bytes by one": lambda data: data + b"x" * (32769 - len(data)),
    "a line that is too long": lambda data: data[:-1] + b"0" * 40000 + b"\n",
    "version 3": pattern(rb" [12]\n", b" 3\n"),
    "a version with a zero": pattern(rb" ([12])\n", rb" 0\1\n"),
    "no version": pattern(rb" [12]\n", b"\n"),
    "two spaces": pattern(rb"generation ", b"generation  "),
    "a tab": pattern(rb"generation ", b"generation\t"),
    "a leading space": pattern(rb"generation", b" generation"),
    "a trailing space": pattern(rb"generation 1", b"generation 1 "),
    "generation 01": pattern(rb"generation 1", b"generation 01"),
    "generation of letters": pattern(rb"generation 1", b"generation a"),
    "generation too large": pattern(rb"generation 1", b"generation " + b"9" * 30),
    "generation 2**63": pattern(rb"generation 1", b"generation 9223372036854775808"),
    "a doubled line": pattern(rb"(generation 1\n)", rb"\1\1"),
    "a missing line": pattern(rb"generation 1\n", b""),
    "lines swapped": pattern(rb"(generation 1\n)(medium .*\n)", rb"\2\1"),
    "an unknown key": pattern(rb"generation", b"generations"),
    "a name with a slash": pattern(rb"medium \w+", b"medium ../../etc/passwd"),
    "a name too long": pattern(rb"medium \w+", b"medium " + b"a" * 33),
    "an empty name": pattern(rb"medium \w+", b"medium "),
    "a command in a name": pattern(rb"medium \w+", b"medium $(touch${IFS}/tmp/x)"),
    "a backquote in a name": pattern(rb"medium \w+", b"medium `id`"),
    "a star for a name": pattern(rb"medium \w+", b"medium *"),
    "a format for a name": pattern(rb"medium \w+", b"medium %s%n"),
    "a backslash in a name": pattern(rb"medium \w+", b"medium a\\\\b"),
}
HOSTILE_VAULTS: dict[str, Edit] = {
    **HOSTILE_BYTES,
    "version 2": swap(b"vault 1", b"vault 2"),
    "another file's name": swap(b"aemseal-vault", b"aemseal-acceptance"),
    "generation 0": swap(b"generation 1", b"generation 0"),
    "no generation value": swap(b"generation 1", b"generation"),
    "a counter that is no index": swap(b"counter 01", b"counter 81"),
    "a counter with a prefix": swap(b"counter 01", b"counter 0x"),
    "a counter of letters": pattern(rb"counter \w+", b"counter owner"),
    "a short counter": swap(b"counter 0", b"counter "),
    "a key in upper case": pattern(rb"key 0023000b", b"key 0023000B"),
    "a key of odd length": swap(b"key 0", b"key "),
    "a key too long": pattern(rb"key \w+", b"key " + b"00" * 600),
    "an empty key": pattern(rb"key \w+", b"key "),
    "a key that is none": pattern(rb"key \w+", b"key 00"),
    "a key cut short": pattern(rb"(key \w+)\w{8}", rb"\1"),
    "a short policy-ref": pattern(rb"policy-ref \w\w", b"policy-ref "),
    "no secret": pattern(rb"(?s)secret text.*", b""),
    "a secret of another kind": swap(b"text text", b"text script"),
    "a PIN of 2": swap(b"text text 0", b"text text 2"),
    "no PIN field": swap(b"text text 0 1", b"text text 1"),
    "a field more": swap(b"text text 0 1", b"text text 0 1 1"),
    "no parts": swap(b"text text 0 1", b"text text 0 0"),
    "a part missing": swap(b"text text 0 1", b"text text 0 2"),
    "17 parts": swap(b"text text 0 1", b"text text 0 17"),
    "a part too many": pattern(rb"(part .*\n)", rb"\1\1"),
    "two secrets of a kind": pattern(rb"(secret .*\npart .*\n)", rb"\1" * 2),
    "a part of one field": pattern(rb"part (\w+) \w+", rb"part \1"),
    "a part of three fields": pattern(rb"part (\w+)", rb"part \1 \1"),
    "a part that is no hex": pattern(rb"part \w\w", b"part zz"),
    "a private part damaged": pattern(rb"\w{8}\n$", b"00000000\n"),
    "a public part damaged": pattern(rb"part \w{8}", b"part ffffffff"),
    "a public part of another type": pattern(rb"part (\w{4})0008", rb"part \g<1>0001"),
    "a private part too short": pattern(rb"(part \w+) \w+", rb"\1 0000"),
}
MARKED = f"branch {STAGED_MARK.hex()} staged\nvalues -\n".encode()
HOSTILE_ACCEPTANCES: dict[str, Edit] = {
    **HOSTILE_BYTES,
    "another file's name": swap(b"aemseal-acceptance", b"aemseal-vault"),
    "another count": swap(b"count 1", b"count 2"),
    "count 01": swap(b"count 1", b"count 01"),
    "version 1": swap(b"acceptance 2", b"acceptance 1"),
    "no branch": pattern(rb"(branch .*\nvalues .*\n){2}", b""),
    "one branch": pattern(rb"branch .*\nvalues .*\n", b""),
    "9 branches": pattern(rb"(branch .*\nvalues .*\n)", rb"\1" * 8),
    "a branch without name": pattern(rb"(branch \w+) .*", rb"\1"),
    "a branch of two names": pattern(rb"(branch .*)", rb"\1 \1"),
    "a branch that is a path": pattern(rb"branch \w+", b"branch ../../../etc/passwd"),
    "a branch too short": pattern(rb"branch \w\w", b"branch "),
    "a branch name with a comma": pattern(rb"(branch \w+) .*", rb"\1 a,b"),
    "a branch without values": pattern(rb"values .*\n", b""),
    "values twice": pattern(rb"(values .*\n)", rb"\1\1"),
    "values without a branch": pattern(rb"branch .*\n", b""),
    "values in front of the branch": pattern(rb"(branch .*\n)(val.*\n)", rb"\2\1"),
    "empty values": pattern(rb"values .*", b"values "),
    "no word of values": pattern(rb"values .*", b"values"),
    "values in upper case": pattern(rb"values ..", b"values AB"),
    "values that are no hex": pattern(rb"values ..", b"values xx"),
    "values with a space": pattern(rb"(values \w+),", rb"\1, "),
    "values with a command": pattern(rb"values \w+", b"values $(reboot)"),
    "values with an escape": pattern(rb"values \w\w", b"values \x1b["),
    "an empty value": pattern(rb"(values \w+),", rb"\1,,"),
    "a comma in front of values": swap(b"values ", b"values ,"),
    "a comma behind values": pattern(rb"(values .*)", rb"\1,"),
    "a dash among values": pattern(rb"(values \w+),", rb"\1,-,"),
    "a value of another bank": pattern(rb"values \w{24}", b"values "),
    "values of half a byte": pattern(rb"values \w", b"values "),
    "a value less in one line": pattern(rb"(values .*),\w+", rb"\1"),
    "values of two banks": pattern(rb"values .*", b"values " + b"00" * 20),
    "25 values": pattern(rb"values .*", b"values " + b",".join([b"00" * 32] * 25)),
    "a mark in front": swap(b"branch ", MARKED + b"branch "),
    "a mark at the end": swap(b"policy ", MARKED + b"policy "),
    "two marks": pattern(rb"(branch .*\nv.*\n)", rb"\1" + MARKED * 2),
    "no policy": pattern(rb"policy .*\n", b""),
    "two policies": pattern(rb"(policy .*\n)", rb"\1\1"),
    "a policy too long": pattern(rb"policy ", b"policy 00"),
    "no signature": pattern(rb"signature .*\n", b""),
    "an empty signature": pattern(rb"signature .*", b"signature "),
    "a signature of odd length": pattern(rb"signature 0", b"signature "),
    "a signature that is none": pattern(rb"signature .*", b"signature 00000000"),
    "a signature of another scheme": swap(b"signature 0018", b"signature 0005"),
    "a signature cut short": pattern(rb"(signature \w+)\w{8}\n", rb"\1\n"),
    "a branch after the policy": pattern(
        rb"(branch .*\nval.*\n)(policy .*\n)", rb"\1\2\1"
    ),
}


@pytest.mark.parametrize("kind", HOSTILE_VAULTS)
def test_a_hostile_vault_is_refused(machine: Machine, kind: str) -> None:
    vault = machine.medium / "vault"
    vault.write_bytes(HOSTILE_VAULTS[kind](vault.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


@pytest.mark.parametrize("kind", HOSTILE_ACCEPTANCES)
def test_a_hostile_acceptance_is_refused(machine: Machine, kind: str) -> None:
    acceptance = machine.medium / "acceptance.1"
    acceptance.write_bytes(HOSTILE_ACCEPTANCES[kind](acceptance.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize(
    "kind",
    ["zero bytes", "a zero byte within", "random bytes", "a backslash in a name"],
)
def test_every_shell_refuses_bytes_that_shells_differ_in(
    machine: Machine, kind: str, shell: tuple[str, ...]
) -> None:
    vault = machine.medium / "vault"
    vault.write_bytes(HOSTILE_VAULTS[kind](vault.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(shell=shell), "bad-medium")


def test_a_signature_changed_in_one_bit_is_refused(machine: Machine) -> None:
    acceptance = machine.medium / "acceptance.1"
    text = acceptance.read_text().rstrip("\n")
    acceptance.write_text(text[:-1] + f"{int(text[-1], 16) ^ 1:x}\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_vault_that_names_another_counter_opens_nothing(machine: Machine) -> None:
    machine.tool(
        *("tpm2_nvdefine", "-C", "o", "-a", "nt=counter|ownerwrite|authread|no_da"),
        "0x1a10aef",
    )
    machine.tool("tpm2_nvincrement", "-C", "o", "0x1a10aef")
    vault = machine.medium / "vault"
    vault.write_bytes(
        swap(b"counter 01a10ae0", b"counter 01a10aef")(vault.read_bytes())
    )
    for count in range(4):
        acceptance = (machine.medium / "acceptance.1").read_text()
        edited = acceptance.replace("count 1", f"count {count}")
        if count != 1:
            (machine.medium / f"acceptance.{count}").write_text(edited)
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


@pytest.mark.parametrize("name", ["hook.conf", "srk.tr"])
def test_an_initramfs_that_is_not_enrolled_is_capped(
    machine: Machine, name: str
) -> None:
    (machine.etc / name).unlink()
    machine.boot(OLD)
    outcome = machine.hook()
    assert (outcome.code, outcome.record) == (18, {})
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aemseal-hook 2\nbank sha256\npcrs 13,17\n",
        "aemseal-hook 1\nbank md5\npcrs 13,17\n",
        "aemseal-hook 1\nbank sha256\n",
        "aemseal-hook 1\nbank sha256\npcrs 17,18\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,18\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17,\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,,17\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17,118\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17+sha1:1\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17",
        "aemseal-hook 1\nbank sha256\npcrs 13,17\n\n",
    ],
)
def test_a_configuration_not_of_the_format_is_refused(
    machine: Machine, text: str
) -> None:
    (machine.etc / "hook.conf").write_text(text)
    machine.boot(OLD)
    outcome = machine.hook()
    assert outcome.code == EXITS["not-enrolled"]
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


@pytest.mark.parametrize(
    "word",
    [
        "rd.luks.uuid=luks-0f0e7a6c-3f0b-4a50-8c0e-6d1f3b8fffff",
        "rd.luks.uuid=luks-0f0e7a6c",
        "rd.luks.uuid=",
        "rd.luks.uuid=../../../dev/zero",
        "rd.luks.uuid=*",
        "rd.luks.uuid=0F0E7A6C-3F0B-4A50-8C0E-6D1F3B8F0001",
    ],
)
def test_a_header_that_cannot_be_read_keeps_the_secret_in(
    machine: Machine, word: str
) -> None:
    machine.cmdline.write_text(f"{machine.cmdline.read_text().strip()} {word}\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "no-luks", measured=False)


def test_a_command_line_that_cannot_be_read_keeps_the_secret_in(
    machine: Machine,
) -> None:
    machine.cmdline.unlink()
    machine.boot(OLD)
    held(machine, machine.hook(), "no-luks", measured=False)


def test_a_device_without_luks_header_keeps_the_secret_in(
    machine: Machine, tmp_path: Path
) -> None:
    shutil.copytree(machine.disks.by_uuid, tmp_path / "by-uuid", symlinks=True)
    (tmp_path / "by-uuid" / Disks.UUIDS[1]).unlink()
    (tmp_path / "by-uuid" / Disks.UUIDS[1]).write_bytes(bytes(1 << 20))
    machine.boot(OLD)
    machine.more_arguments = ("-d", str(tmp_path / "by-uuid"))
    held(machine, machine.hook(), "no-luks", measured=False)


@pytest.mark.parametrize("words", [["-x"], ["-e"], ["word"]])
def test_a_wrong_command_line_caps_too(machine: Machine, words: list[str]) -> None:
    machine.boot(OLD)
    machine.more_arguments = tuple(words)
    outcome = machine.hook()
    assert outcome.code == EXITS["failed"]
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)

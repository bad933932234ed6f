# SPDX-License-Identifier: GPL-2.0-or-later
"""What aemseal-boot shows and asks, when the boot goes on, what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from boot_program import KNOWN, Initramfs
from hook_program import SHELLS, of_shell

HERON = "the heron stands in the ford"
THEIRS = (
    "If these words are yours, this boot is one that you accepted: type your "
    "passphrase."
)
WRONG = "The PIN was wrong three times. What it guards stays closed."
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)


@pytest.fixture
def machine(tmp_path: Path) -> Initramfs:
    return Initramfs(tmp_path, systemd=True)


def unguarded(machine: Initramfs, code: int, *secrets: str) -> None:
    """The hook shows what has no PIN, and ends with this code."""
    machine.write_core(
        machine.write_record(*secrets, outcome="wrong-pin")
        + f"echo '{HERON}'\n: >$run/keyfile\necho 'aemseal: {WRONG}' >&2\nexit {code}"
    )


@every_shell
def test_a_text_needs_no_key_and_no_time(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    machine.write_core(machine.write_record("text") + f"echo '{HERON}'")
    ended = machine.ended(shell)
    assert (ended.code, ended.powered_off) == (0, False)
    assert ended.screen == f"{HERON}\r\naemseal: {THEIRS}\r\n"
    assert set(machine.left()) == {"record", "done", "words"}


@every_shell
def test_a_boot_that_is_not_accepted_powers_off(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    machine.write_core("echo 'aemseal: It is not one.' >&2\nexit 10")
    ended = machine.ended(shell)
    assert ended.powered_off
    assert ended.screen.startswith("aemseal: It is not one.\r\n")
    assert "powers off in 120 seconds, or when you press Enter." in ended.screen
    assert "done" not in machine.left()


@every_shell
def test_the_typed_words_override_it_and_that_is_recorded(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    machine.write_core("exit 10")
    (machine.folder / "answer").write_text(f"{KNOWN}\n")
    ended = machine.ended(shell)
    assert (ended.code, ended.powered_off) == (0, False)
    assert "The check of this boot failed. Do not type your disk" in ended.screen
    assert "Nothing proves that this machine is still yours." in ended.screen
    assert set(machine.left()) == {"overridden", "done", "words"}


@pytest.mark.parametrize(
    ("code", "secrets", "is_proved"),
    [
        (22, ("text",), True),
        (22, ("totp",), True),
        (14, ("text",), True),
        (22, (), False),
        (22, ("keyfile",), False),
        (14, (), False),
        (23, (), False),
        (10, ("text",), False),
        (21, ("text",), False),
    ],
)
def test_a_boot_goes_on_by_itself_where_something_was_shown_that_proves_it(
    machine: Initramfs, code: int, secrets: tuple[str, ...], *, is_proved: bool
) -> None:
    unguarded(machine, code, *secrets)
    ended = machine.ended()
    assert ended.powered_off is not is_proved
    assert WRONG in ended.screen


def test_what_opened_before_the_pin_was_refused_is_left_in_no_file(
    machine: Initramfs,
) -> None:
    unguarded(machine, 10)
    (machine.folder / "answer").write_text(f"{KNOWN}\n")
    ended = machine.ended()
    assert not ended.powered_off
    assert HERON in ended.screen
    assert WRONG in ended.screen
    left = machine.left()
    assert set(left) == {"overridden", "done", "record", "words"}
    assert not any(b"heron" in data for data in left.values())
    said = (machine.folder / "plymouth.said").read_text()
    assert set(said.split()) == {"--ping"}


@pytest.mark.parametrize(
    "line",
    ["medium UUID=1 aemseal", "medium LABEL=aem boot/aemseal"],
)
def test_two_disks_with_the_mediums_name_are_refused_and_the_boot_is_capped(
    machine: Initramfs, line: str
) -> None:
    spec = line.split()[1]
    (machine.folder / "boot.conf").write_text(f"aemseal-boot 1\n{line}\n")
    (machine.folder / "devices").write_text(f"{spec} /dev/sda\n{spec} /dev/sdb\n")
    machine.write_tool("mount", f'echo "$*" >>{machine.folder}/mounted')
    machine.write_core("echo capped >$run/capped\necho 'aemseal: None.' >&2\nexit 15")
    ended = machine.ended()
    assert ended.powered_off
    assert ended.screen.startswith(
        "aemseal: Two disks answer to one name. Do not type your disk passphrase."
    )
    assert "None." not in ended.screen
    assert "capped" in machine.left()
    assert not (machine.folder / "mounted").exists()


@pytest.mark.parametrize(
    ("kind", "is_mounted"),
    [("ext2", True), ("ext3", True), ("ext4", True), ("vfat", True), ("xfs", False)],
)
def test_only_file_systems_of_a_boot_medium_are_mounted_and_nothing_on_them_runs(
    machine: Initramfs, kind: str, *, is_mounted: bool
) -> None:
    (machine.folder / "boot.conf").write_text("medium UUID=1 boot/aemseal\n")
    machine.write_tool(
        "blkid", f"case $* in *TYPE*) echo {kind} ;; *) echo /dev/sda ;; esac"
    )
    machine.write_tool("mount", f'echo "$*" >>{machine.folder}/mounted')
    machine.write_core(f'echo "$*" >{machine.folder}/called')
    machine.ended()
    mounted = machine.folder / "mounted"
    assert mounted.exists() is is_mounted
    if is_mounted:
        place = machine.folder / "medium"
        assert mounted.read_text() == (
            f"-t {kind} -o ro,nosuid,nodev,noexec /dev/sda {place}\n"
        )
    called = (machine.folder / "called").read_text()
    assert f"-m {machine.folder}/medium/boot/aemseal " in called
    assert called.endswith("by-uuid\n")


@pytest.mark.parametrize(
    ("secrets", "is_beside"),
    [(("text",), False), (("text", "totp"), True), (("keyfile",), False), ((), False)],
)
def test_only_a_one_time_code_is_counted_down(
    machine: Initramfs, secrets: tuple[str, ...], *, is_beside: bool
) -> None:
    """The medium says so beforehand; what lies there besides may be of any length."""
    machine.write_vault(*secrets)
    with (machine.folder / "medium/vault").open("a") as vault:
        vault.truncate(1 << 30)
    machine.write_core(
        machine.write_record("text") + f'echo "$*" >{machine.folder}/called'
    )
    assert not machine.ended().powered_off
    called = (machine.folder / "called").read_text()
    assert called.endswith(" -l -t 120\n") is is_beside
    assert "vault" not in machine.left()


@every_shell
@pytest.mark.parametrize("name", ["disks", "forget", "front", "keys"])
def test_without_a_whole_file_of_its_own_it_powers_off(
    machine: Initramfs, name: str, shell: tuple[str, ...]
) -> None:
    path = machine.folder / f"lib/{name}.sh"
    path.write_text(path.read_text().replace(f"$read_in {name}", "$read_in"))
    ended = machine.ended(shell)
    assert ended.powered_off
    assert "interrupted. Do not type your disk passphrase." in ended.screen

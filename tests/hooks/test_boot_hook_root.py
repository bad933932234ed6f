# SPDX-License-Identifier: GPL-2.0-or-later
"""Before the root is mounted: it lies on a disk that was measured, and nothing else
answers to a name that counts."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from boot_program import OTHER, UUID, Initramfs
from hook_program import SHELLS, of_shell

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
TAIL = " Nothing of it was started. This machine powers off.\n"
_CRYPTSETUP = """\
for file; do :; done
case $1 in
    luksUUID) cat $2.uuid ;;
    luksHeaderBackup) cat $2 >$file ;;
esac
"""


class Disks(Initramfs):
    """Block devices are files: what `stat` says of them is in the file itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dev = folder / "dev"
        self.dev.mkdir()
        self.run_folder.mkdir()
        self.write_tool("stat", 'for file; do :; done\ncat "$file"')
        self.write_tool("cryptsetup", _CRYPTSETUP)
        self.names: list[str] = []
        self.record = ["aemseal-record 3", "bank sha256"]
        self.encrypted("sda", UUID)
        self.volume("root", 0, "CRYPT-LUKS2-x-root", "sda")
        self.answers(f"UUID={UUID}", "sda")
        self.cmdline = f"root={self.dev}/root rd.luks.uuid=luks-{UUID}"

    def encrypted(self, name: str, uuid: str, *, is_measured: bool = True) -> None:
        header = f"{name}: a header"
        (self.dev / name).write_text(header)
        (self.dev / f"{name}.uuid").write_text(uuid)
        if is_measured:
            digest = hashlib.sha256(header.encode()).hexdigest()
            self.record.append(f"luks {uuid} {digest}")

    def volume(self, name: str, minor: int, dm: str, *below: str) -> None:
        """A device 253:minor on others: a disk by name, or a volume by its number."""
        path = self.dev / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"fd:{minor:x}")
        sys = self.folder / f"sys/253:{minor}"
        (sys / "dm").mkdir(parents=True)
        (sys / "dm/uuid").write_text(dm)
        for each in below:
            slave = sys / "slaves" / each.replace(":", "-")
            slave.mkdir(parents=True)
            (slave / "dev").write_text(each if ":" in each else "8:0")

    def answers(self, spec: str, *names: str) -> None:
        """What blkid finds of a name."""
        self.names += [f"{spec} {self.dev / name}" for name in names]

    def lvm(self, *groups: str) -> None:
        lines = "\n".join(f"  {name} {number}" for number, name in enumerate(groups))
        self.write_tool("lvm", f"[ \"$1\" = vgs ] && cat <<'END'\n{lines}\nEND")

    def check(
        self, shell: tuple[str, ...] = ("/bin/sh",)
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "devices").write_text("\n".join([*self.names, ""]))
        (self.run_folder / "record").write_text("\n".join([*self.record, ""]))
        return self.check_root(shell)

    def refuses(self, sentence: str) -> None:
        checked = self.check()
        assert (checked.stdout, checked.returncode) == (f"aemseal: {sentence}{TAIL}", 1)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


@every_shell
def test_a_root_on_a_measured_disk_is_entered(
    disks: Disks, shell: tuple[str, ...]
) -> None:
    checked = disks.check(shell)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_so_is_one_in_a_volume_over_two_of_them(disks: Disks) -> None:
    disks.encrypted("sdb", OTHER)
    disks.volume("more", 1, "CRYPT-LUKS1-x-more", "sdb")
    disks.volume("vg/root", 2, "LVM-x", "253:0", "253:1")
    disks.cmdline = f"root={disks.dev}/vg/root rd.lvm.lv=vg/root"
    assert disks.check().returncode == 0


@pytest.mark.parametrize(
    ("word", "what"),
    [("root", "the root"), ("resume", "the swap space"), ("rd.lvm.lv", "a volume")],
)
def test_a_volume_that_is_partly_on_another_disk_is_not(
    disks: Disks, word: str, what: str
) -> None:
    disks.volume("more", 1, "", "sdb")
    disks.volume("vg/root", 2, "LVM-x", "253:0", "8:16")
    name = "vg/root" if word == "rd.lvm.lv" else f"{disks.dev}/vg/root"
    disks.cmdline += f" {word}={name}"
    disks.refuses(f"The disk of {what} is not an encrypted one that was measured.")


def test_a_header_that_is_another_than_the_one_that_was_measured(disks: Disks) -> None:
    (disks.dev / "sda").write_text("sda: another header")
    disks.refuses("The disk of the root is not an encrypted one that was measured.")


@pytest.mark.parametrize("kind", ["LABEL", "UUID", "PARTUUID", "PARTLABEL"])
def test_a_name_with_one_answer_is_followed(disks: Disks, kind: str) -> None:
    disks.cmdline = f"root={kind}=dom0"
    disks.answers(f"{kind}=dom0", "root")
    assert disks.check().returncode == 0


@pytest.mark.parametrize("kind", ["LABEL", "UUID", "PARTUUID", "PARTLABEL"])
def test_a_second_disk_with_the_roots_name_is_refused_by_that(
    disks: Disks, kind: str
) -> None:
    disks.cmdline = f"root={kind}=dom0"
    disks.answers(f"{kind}=dom0", "root", "sdb")
    disks.refuses("Two disks answer to the name of the root.")


@pytest.mark.parametrize("kind", ["label", "uuid"])
def test_so_it_is_where_the_name_is_a_link(disks: Disks, kind: str) -> None:
    disks.cmdline = f"root=/dev/disk/by-{kind}/dom0"
    disks.answers(f"{kind.upper()}=dom0", "root", "sdb")
    disks.refuses("Two disks answer to the name of the root.")


def test_two_disks_with_one_swap_spaces_name(disks: Disks) -> None:
    disks.cmdline += " resume=UUID=5"
    disks.answers("UUID=5", "root", "sdb")
    disks.refuses("Two disks answer to the name of the swap space.")


def test_two_encrypted_disks_with_one_uuid(disks: Disks) -> None:
    disks.answers(f"UUID={UUID}", "sdb")
    disks.refuses("Two encrypted disks have one UUID.")


@every_shell
def test_two_volume_groups_with_one_name(disks: Disks, shell: tuple[str, ...]) -> None:
    disks.lvm("qubes_dom0", "other", "qubes_dom0")
    checked = disks.check(shell)
    assert checked.returncode == 1
    assert checked.stdout == f"aemseal: Two volume groups have one name.{TAIL}"


def test_volume_groups_with_names_of_their_own(disks: Disks) -> None:
    disks.lvm("qubes_dom0", "qubes_dom", "dom0")
    assert disks.check().returncode == 0
    disks.lvm()
    assert disks.check().returncode == 0


def test_an_lvm_that_does_not_answer_is_no_proof(disks: Disks) -> None:
    disks.write_tool("lvm", "exit 5")
    disks.refuses("The volume groups could not be listed.")


def test_a_root_that_is_not_there(disks: Disks) -> None:
    disks.cmdline = "root=LABEL=dom0"
    disks.refuses("The disk of the root is not there.")
    disks.cmdline = "root=nfs:somewhere"
    disks.refuses("The disk of the root is not there.")


def test_a_command_line_without_a_root(disks: Disks) -> None:
    disks.cmdline = "quiet"
    disks.refuses("No root is named on the command line.")


@pytest.mark.parametrize("record", [[], ["bank md5"], ["bank sha256;id"]])
def test_a_boot_without_a_record(disks: Disks, record: list[str]) -> None:
    disks.record = record
    disks.refuses("The check of this boot left no record.")


def test_an_overridden_boot_is_not_checked(disks: Disks) -> None:
    disks.cmdline = "quiet"
    (disks.run_folder / "overridden").touch()
    assert disks.check().returncode == 0


@every_shell
@pytest.mark.parametrize("name", ["disks", "forget"])
def test_without_a_whole_file_of_its_own_nothing_is_well(
    disks: Disks, name: str, shell: tuple[str, ...]
) -> None:
    path = disks.folder / f"lib/{name}.sh"
    path.write_text(path.read_text().replace(f"$read_in {name}", "$read_in"))
    assert disks.check(shell).returncode == 1

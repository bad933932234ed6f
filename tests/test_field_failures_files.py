# SPDX-License-Identifier: GPL-2.0-or-later
"""Field failures of forward sealing that came from files and their configuration.

Numbers and letters are those of docs/field-failures.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from field_machines import SHA1, FieldMachine, running
from tpm_sim.acm import Acm, AcmHeader
from tpm_sim.cache import Cache
from tpm_sim.machines import MACHINES
from tpm_sim.models import TbootModel

pytestmark = [
    pytest.mark.sim,
    pytest.mark.tpm,
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

Run = Callable[..., AbstractContextManager[FieldMachine]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Start a machine by its name or model."""
    return lambda model, *more: running(model, tmp_path, *more)


# --- 10: the file that boots, not one that a stale link names ---


def test_a_link_in_boot_is_followed_to_where_grub_follows_it(run: Run) -> None:
    with run("tboot-da") as machine:
        link = machine.file("xen.gz")
        link.rename(machine.boot_folder / "xen-4.17.5.gz")
        link.symlink_to("xen-4.17.5.gz")
        assert machine.predict().bank(machine.bank).values == machine.values()
        shutil.copy(Cache.default().xen_new, machine.boot_folder / "xen-4.17.7.gz")
        link.unlink()
        link.symlink_to("xen-4.17.7.gz")
        machine.boots_as_predicted()


# --- 14: the bank's own digest size ---


@pytest.mark.parametrize("name", ["tboot-da-tcg-sha1", "tboot-legacy-tcg-sha1"])
def test_a_sha1_bank_has_digests_of_20_bytes(run: Run, name: str) -> None:
    with run(name) as machine:
        assert machine.bank is SHA1
        machine.update("xen.gz", "vmlinuz")
        prediction = machine.boots_as_predicted()
        values = prediction.bank(SHA1).values.values()
        assert {len(each.value) for each in values} == {20}


# --- 21: what only looks like a SINIT module ---


def sinit_files() -> tuple[tuple[str, Acm], ...]:
    """Two modules in /boot, of which the second one is for the machine."""
    model = MACHINES["tboot-da-sinit-file"]
    assert isinstance(model, TbootModel)
    return model.sinit_files


def a_sinit_module() -> bytes:
    return sinit_files()[1][1].content


BIN_FILES = {
    "empty": b"",
    "microcode": bytes.fromhex("01000000b60000002420062024000000") + bytes(2032),
    "half an ACM": a_sinit_module()[:600],
    "an ACM of another vendor": a_sinit_module().replace(b"\x86\x80", b"\x22\x10", 1),
    "the first bytes of an ACM": a_sinit_module()[:8],
}


@pytest.mark.parametrize("content", BIN_FILES.values(), ids=list(BIN_FILES))
def test_a_bin_file_that_is_no_sinit_module_is_measured(
    run: Run, content: bytes
) -> None:
    with run("tboot-da", "module2 /ucode.bin") as machine:
        machine.file("ucode.bin").write_bytes(content)
        machine.boots_as_predicted()


# --- A, E: SINIT modules that are for this machine ---


@pytest.mark.parametrize("header", list(AcmHeader), ids=lambda each: each.name)
def test_a_sinit_module_of_either_header_is_told_from_a_module_and_updated(
    run: Run, header: AcmHeader
) -> None:
    """Taken for a module it would shift all behind it by one."""
    ((name, old),) = sinit_files()[1:]
    new = replace(old, header=header, build=old.build + 1, date=old.date + 1)
    with run("tboot-da-sinit-file") as machine:
        modules = len(machine.look().calibration.modules)
        machine.file(name).write_bytes(replace(old, header=header).content)
        machine.reboot()
        machine.remember()
        machine.file(name).write_bytes(new.content)
        machine.update("xen.gz")
        machine.boots_as_predicted()
        assert len(machine.look().calibration.modules) == modules


def test_a_sinit_module_where_none_was_is_refused_for_what_it_may_change(
    run: Run,
) -> None:
    with run("tboot-da", "module2 /sinit.bin") as machine:
        machine.file("sinit.bin").write_bytes(a_sinit_module())
        refused = machine.boots_as_far_as_predicted()
        assert set(refused) == {17, 18}
        assert all("SINIT" in why for why in refused.values())


# --- 24: order and options ---


def swap_kernel_and_initramfs(machine: FieldMachine) -> None:
    lines = machine.grub_cfg.read_text(encoding="utf-8").splitlines()
    kernel = next(n for n, line in enumerate(lines) if "module2\t/vmlinuz" in line)
    initramfs = next(n for n, line in enumerate(lines) if "module2\t/initramfs" in line)
    lines[kernel], lines[initramfs] = lines[initramfs], lines[kernel]
    machine.grub_cfg.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["tboot-da", "tboot-legacy"])
def test_modules_are_measured_in_the_order_of_the_entry(run: Run, name: str) -> None:
    with run(name, "module2 /ucode.bin") as machine:
        swap_kernel_and_initramfs(machine)
        machine.boots_as_predicted()
        machine.edit("grub.cfg", "ucode=scan", "ucode=-1")
        machine.boots_as_predicted()
        machine.edit("grub.cfg", "\tmodule2 /ucode.bin\n", "")
        machine.boots_as_predicted()


# --- 24: under TrenchBoot order and options are in what nobody can compute ---


def test_trenchboot_refuses_the_pcr_that_holds_the_multiboot_information(
    run: Run,
) -> None:
    with run("trenchboot-txt") as machine:
        machine.edit("grub.cfg", "ucode=scan", "ucode=-1")
        (reason,) = machine.boots_as_far_as_predicted().values()
        assert "the command line of Xen changed" in reason


# --- F, G: a configuration that a shell would have run ---

WORDS = {
    "stars and brackets": "name=* path=/etc/* x=(a)(b)",
    "a quote": 'x="it\'s"',
    "a command": r"'x=$(touch /tmp/run-as-root)' \`id\`",
    "variables": "x=${xen_rm_opts}$unset y=${unset}",
}


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_words_of_the_boot_entry_are_grubs_and_no_shells(run: Run, words: str) -> None:
    with run("tboot-da", f"module2 --nounzip /ucode.bin {words} more") as machine:
        machine.edit("grub.cfg", "ucode=scan", f"ucode=scan {words}")
        machine.boots_as_predicted()
        machine.update("ucode.bin")
        machine.boots_as_predicted()
    assert not Path("/tmp/run-as-root").exists()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The dynamic launch: the TPM holds what the log says, and what the files are."""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tpm2_tools import read_pcrs
from tpm_sim.cache import PROJECT
from tpm_sim.errors import SimulationError
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, HashStart, MachineModel, TbootModel
from tpm_sim.tboot_machines import TBOOT_MACHINES
from written_logs import Record, read_log, replay

Make = Callable[[MachineModel], Machine]
MLE, TBOOT = 0x404, 0x501
DYNAMIC = range(17, 23)
E5470 = PROJECT / "../shared/vectors/drtm/rebuilt_E5470_A_tpm20_tcg.bin"


def booted(
    machine: Machine, *, unmeasured: bool = False
) -> dict[str, dict[int, bytes]]:
    """Boot and return what tpm2_pcrread reads; the machine is off again then."""
    machine.boot(unmeasured=unmeasured)
    values = read_pcrs(machine.tcti)
    machine.power_off()
    return values


def log_of(machine: Machine) -> list[Record]:
    assert isinstance(machine.model, TbootModel)
    return read_log(machine.model.log_format.value, machine.log_path.read_bytes())


def tboots(records: list[Record]) -> list[tuple[int, bytes]]:
    return [
        (pcr, digests["sha256"]) for pcr, kind, digests, _ in records if kind == TBOOT
    ]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sinit_acm() -> bytes:
    """An ACM that tboot takes for a SINIT: header, scratch area, information table."""
    header = struct.pack("<HHIIHHIII", 2, 0, 161, 0, 0, 0, 0x8086, 0x20230101, 512)
    header = header.ljust(120, b"\0") + struct.pack("<II", 64, 143)
    table = bytes.fromhex("aa3ac07fa746db182eac698f8d417f5a") + bytes([1, 5])
    return (header.ljust(161 * 4 + 143 * 4, b"\0") + table).ljust(2048, b"\0")


@pytest.mark.parametrize("model", TBOOT_MACHINES, ids=lambda model: model.name)
@pytest.mark.parametrize("form", list(HashStart), ids=lambda form: form.value)
def test_the_log_replays_to_what_the_tpm_holds(
    laptop: Make, model: TbootModel, form: HashStart
) -> None:
    machine = laptop(replace(model, hash_start=form))
    live = booted(machine)
    records = log_of(machine)
    assert set(live) == {str(bank) for bank in machine.model.banks}
    for bank, values in live.items():
        launched = {pcr: values[pcr] for pcr in DYNAMIC}
        assert replay(records, bank, form.value) == launched


@pytest.mark.parametrize(
    "model", [TBOOT_DA, TBOOT_LEGACY], ids=lambda model: model.name
)
class TestWhatIsMeasured:
    def test_is_the_same_at_each_boot_of_the_same_files(
        self, laptop: Make, model: MachineModel
    ) -> None:
        machine = laptop(model)
        first, log = booted(machine), machine.log_path.read_bytes()
        assert booted(machine) == first
        assert machine.log_path.read_bytes() == log

    def test_is_tboot_with_its_command_line_then_each_module(
        self, laptop: Make, model: MachineModel
    ) -> None:
        machine = laptop(model)
        boot = machine.boot()
        machine.power_off()
        entry = boot.launch.entry
        assert entry is not None
        records = log_of(machine)
        [mle] = [digests for _, kind, digests, _ in records if kind == MLE]
        for bank, digest in mle.items():
            printed = subprocess.run(
                [
                    machine.cache.lcp2_mlehash,
                    *("--create", "--alg", bank),
                    *("--cmdline", "placeholder logging=memory,serial"),
                    machine.root / "boot/tboot.gz",
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert bytes.fromhex(printed) == digest
        images = [gzip.decompress((machine.root / "boot/xen.gz").read_bytes())]
        images += [
            (machine.root / "boot" / name).read_bytes()
            for name in ("vmlinuz", "initramfs.img")
        ]
        assert [digest for _, digest in tboots(records)][-3:] == [
            sha256(sha256(module.cmdline) + sha256(image))
            for module, image in zip(entry.modules, images, strict=True)
        ]

    def test_goes_from_tboot_into_the_sha256_bank_only(
        self, laptop: Make, model: MachineModel
    ) -> None:
        machine = laptop(model)
        booted(machine)
        banks = {(kind == TBOOT, *digests) for _, kind, digests, _ in log_of(machine)}
        assert banks == {(True, "sha256"), (False, "sha1", "sha256")}

    def test_is_nothing_when_tboot_falls_back(
        self, laptop: Make, model: MachineModel
    ) -> None:
        machine = laptop(model)
        booted(machine)
        live = booted(machine, unmeasured=True)
        for values in live.values():
            assert all(set(values[pcr]) == {0xFF} for pcr in DYNAMIC)
        assert not machine.log_path.exists()

    def test_is_nothing_in_an_entry_without_tboot(
        self, laptop: Make, model: MachineModel
    ) -> None:
        machine = laptop(model)
        grub_cfg = machine.root / "boot/grub/grub.cfg"
        text = grub_cfg.read_text(encoding="utf-8")
        grub_cfg.write_text("saved_entry=plain-xen\n" + text, encoding="utf-8")
        boot = machine.boot()
        assert not boot.launch.is_measured
        assert boot.launch.entry is not None
        assert boot.launch.entry.kernel.path == "/xen.gz"
        assert set(read_pcrs(machine.tcti)["sha256"][17]) == {0xFF}


def changed_pcrs(machine: Machine, change: Callable[[Path], None]) -> set[int]:
    before = booted(machine)["sha256"]
    change(machine.root / "boot")
    after = booted(machine)["sha256"]
    return {pcr for pcr in range(24) if before[pcr] != after[pcr]}


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "da", "legacy"),
    [
        (lambda boot: flip_last_byte(boot / "initramfs.img"), {17}, {19}),
        (lambda boot: flip_last_byte(boot / "vmlinuz"), {17}, {19}),
        (lambda boot: (boot / "xen.gz").write_bytes(b"another Xen"), {17}, {18}),
        (
            lambda boot: (boot / "grub/grub.cfg").write_text(
                (boot / "grub/grub.cfg").read_text().replace("memory,", "memory,vga,")
            ),
            {17},
            {18},
        ),
    ],
    ids=["initramfs", "kernel", "Xen", "tboot's command line"],
)
def test_a_change_shows_where_the_machines_map_says(
    laptop: Make, change: Callable[[Path], None], da: set[int], legacy: set[int]
) -> None:
    assert changed_pcrs(laptop(TBOOT_DA), change) == da
    assert changed_pcrs(laptop(TBOOT_LEGACY), change) == legacy


def test_on_the_da_machine_nothing_extends_pcr_19(laptop: Make) -> None:
    assert booted(laptop(TBOOT_DA))["sha256"][19] == bytes(32)


class TestModulesThatTbootDrops:
    def measured(self, machine: Machine, content: bytes, line: str) -> int:
        (machine.root / "boot/extra.bin").write_bytes(content)
        grub_cfg = machine.root / "boot/grub/grub.cfg"
        text = grub_cfg.read_text(encoding="utf-8")
        anchor = "\tmodule2\t/initramfs.img\n"
        grub_cfg.write_text(text.replace(anchor, anchor + line, 1), encoding="utf-8")
        booted(machine)
        return len(tboots(log_of(machine)))

    @pytest.mark.parametrize(
        ("content", "extra"),
        [
            (sinit_acm(), 0),
            (gzip.compress(sinit_acm(), mtime=0), 0),
            (sinit_acm().ljust(2048 + 0x10000, b"\0"), 0),
            (sinit_acm().ljust(2048 + 0x1000, b"\0"), 1),
            (sinit_acm()[:-4], 1),
            (sinit_acm().replace(b"\x86\x80\0\0", b"\x87\x80\0\0"), 1),
            (b"Intel(R) TXT LCP_POLICY_DATA\0\0\0\0 policy", 0),
            (bytes.fromhex("25190dabe7eeeb48fca90bac5a262d0e") + b"policy", 0),
            (bytes.fromhex("25190dabe7eeeb48fca90bac5a262d0f") + b"policy", 1),
            (b"microcode", 1),
            (b"", 1),
        ],
        ids=[
            *("SINIT", "SINIT in gzip", "SINIT padded", "SINIT padded too little"),
            *("SINIT cut short", "other vendor", "LCP data"),
            *("LCP data of version 1", "another UUID"),
            *("microcode", "empty"),
        ],
    )
    def test_are_sinit_modules_and_policy_data(
        self, laptop: Make, content: bytes, extra: int
    ) -> None:
        machine = laptop(TBOOT_LEGACY)
        line = "\tmodule2\t/extra.bin\n"
        assert self.measured(machine, content, line) == 4 + extra

    def test_only_one_is_policy_data(self, laptop: Make) -> None:
        machine = laptop(TBOOT_LEGACY)
        line = "\tmodule2\t/extra.bin\n\tmodule2\t/extra.bin again\n"
        assert self.measured(machine, b"Intel(R) TXT LCP_POLICY_DATA", line) == 5


class TestFilesThatAreNotThere:
    def test_a_missing_boot_file_stops_the_boot(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)
        (machine.root / "boot/vmlinuz").unlink()
        with pytest.raises(SimulationError, match="GRUB cannot find /vmlinuz"):
            machine.boot()
        assert not machine.log_path.exists()

    def test_boot_may_be_part_of_the_root_file_system(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)
        first = booted(machine)
        grub_cfg = machine.root / "boot/grub/grub.cfg"
        text = grub_cfg.read_text(encoding="utf-8")
        for name in ("tboot.gz", "xen.gz", "vmlinuz", "initramfs.img"):
            text = text.replace(f"\t/{name}", f"\t/boot/{name}")
        grub_cfg.write_text(text, encoding="utf-8")
        assert booted(machine) == first


def test_sinits_events_are_those_of_the_laptop_they_were_taken_from(
    laptop: Make,
) -> None:
    if not E5470.exists():
        pytest.skip("no ../shared/vectors beside the project")
    machine = laptop(TBOOT_DA)
    booted(machine)
    real = read_log("tcg-agile", E5470.read_bytes())
    ours = log_of(machine)

    def of_firmware(records: list[Record]) -> list[Record]:
        return [each for each in records if each[1] not in (MLE, TBOOT)]

    assert of_firmware(ours) == of_firmware(real)
    assert [each[:2] for each in ours[:-1]] == [each[:2] for each in real]
    assert tboots(ours)[:2] == tboots(real)[:2]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose kernel hands on no log, and machines with a TPM 1.2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from event_log_bytes import VECTORS, needs_vectors
from host_memory import memory_log, pack, plant_memory
from host_tree import plant
from laptop import Laptop, changed, run
from refusals import LOG

from aemseal.face import run as run_module
from aemseal.world.kernel_tpm import BANK_FOLDER, VERSION_FILE

pytestmark = pytest.mark.usefixtures("no_traceback")

CONSOLE_FILE = "/var/log/xen/console/hypervisor.log"
ADDRESS, SIZE = 0x180000, 0x8000
CONSOLE = f"(XEN) SLAUNCH: reserving event log [{ADDRESS:#x}, {ADDRESS + SIZE:#x})\n"
WHERE = f"the event log at {ADDRESS:#x} that Xen reserved (/dev/mem)"

LOG_FILE = "/sys/kernel/security/txt/tpm12_binary_evtlog"
T460P_TEXT = VECTORS / "drtm/tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt"
T460P = {
    17: "564d58b956e12bd98c0917e0185387df53556cb5",
    18: "9b99b3b24834ffab56a950d1af833a437c90bc71",
    19: "7246dc40ea65de09e43f7663d0118ec12eb2abec",
}
"""Its log replayed (tboot-devel, 2022-01-31)."""


@pytest.mark.tpm
class TestLogInMemory:
    """The launch's log where Xen set it aside, with no file of the kernel's."""

    @pytest.fixture
    def laptop(self, lent_da: Laptop) -> Iterator[Laptop]:
        log = lent_da.path(LOG).read_bytes()
        parts = {ADDRESS: log, 0x60000: memory_log(b"TBOOT: no event is told here\n")}
        made = [lent_da.path("/dev/mem"), lent_da.path(CONSOLE_FILE)]
        had_folders = [each.parent.exists() for each in made]
        with changed(lent_da, LOG, None):
            plant_memory(lent_da.root, parts, ADDRESS + SIZE)
            plant(lent_da.root, {CONSOLE_FILE: CONSOLE.encode()})
            yield lent_da
            for each, had in zip(made, had_folders, strict=True):
                each.unlink()
                for folder in each.parents:
                    if had or any(folder.iterdir()):
                        break
                    folder.rmdir()

    def test_it_is_held_against_the_tpm_as_any(self, laptop: Laptop) -> None:
        ran = laptop.aemseal("log")
        assert ran.code == 0
        assert f"log {WHERE}: replays to the TPM's" in ran.out

    def test_the_next_boot_is_predicted_from_it(self, laptop: Laptop) -> None:
        assert laptop.aemseal("predict").code == 0
        assert laptop.aemseal("plan").code == 0

    def test_a_recording_of_it_answers_alike(
        self, laptop: Laptop, tmp_path: Path
    ) -> None:
        assert laptop.aemseal("record", str(tmp_path / "r")).code == 0
        live = laptop.aemseal("log", "--json").report
        recorded = run("--host", str(tmp_path / "r"), "log", "--json").report
        assert recorded == live

    def test_where_it_is_spoilt_its_place_is_named(self, laptop: Laptop) -> None:
        log = laptop.path("/dev/mem").read_bytes()[ADDRESS:]
        spoilt = log[:200].ljust(SIZE, b"\xaa")
        plant_memory(laptop.root, {ADDRESS: spoilt}, ADDRESS + SIZE)
        ran = laptop.aemseal("log")
        assert ran.code == 4
        assert ran.error.startswith(WHERE)


@needs_vectors
class TestTpm12:
    """A ThinkPad T460p: the log is of the machine, the PCRs are its log replayed."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(run_module, "DEFAULT_TCTI", "device:/dev/no-such-tpm")
        log = (VECTORS / "drtm/rebuilt_T460p_tpm12.bin").read_bytes()
        values = {pcr: T460P.get(pcr, "00" * 20) for pcr in range(24)}
        pcrs = {f"{BANK_FOLDER}/{n}": f"{v}\n".encode() for n, v in values.items()}
        return plant(tmp_path, {VERSION_FILE: b"1\n", LOG_FILE: log, **pcrs})

    def test_its_log_is_held_against_the_kernels_pcrs(self, root: Path) -> None:
        ran = run("--root", str(root), "--pcrs", "sha1:17,18,19", "log")
        assert ran.code == 0
        assert "replays to the TPM's sha1 PCR 17, 18, 19" in ran.out

    @pytest.mark.parametrize("packed_lines", [0, 200])
    def test_its_log_may_be_in_tboots_memory_alone(
        self, root: Path, packed_lines: int
    ) -> None:
        printed = (
            T460P_TEXT.read_bytes().partition(b"\t buf:\n")[2].splitlines(keepends=True)
        )
        parts = [pack(b"".join(printed[:packed_lines]), 1)] if packed_lines else []
        rest = b"".join(printed[packed_lines:])
        plant_memory(root, {0x60000: memory_log(rest, parts)}, 0x68000)
        (root / LOG_FILE.lstrip("/")).unlink()
        ran = run("--root", str(root), "--pcrs", "sha1:17,18,19", "log")
        assert ran.code == 0
        assert "tboot-text log tboot's memory log at 0x60000 (/dev/mem): " in ran.out
        assert "replays to the TPM's sha1 PCR 17, 18, 19" in ran.out

    def test_another_value_there_is_found_out(self, root: Path) -> None:
        plant(root, {f"{BANK_FOLDER}/18": b"12" * 20})
        ran = run("--root", str(root), "--pcrs", "sha1:17,18,19", "log")
        assert ran.code == 4
        assert ran.error.startswith("the event log does not give PCR 18")

    def test_its_recording_is_one_of_the_same_boot(
        self, root: Path, tmp_path: Path
    ) -> None:
        folder = str(tmp_path / "recording")
        assert run("--root", str(root), "record", folder).code == 0
        ran = run("--host", folder, "--pcrs", "sha1:17,18,19", "log")
        assert ran.code == 0
        assert "replays to the TPM's sha1 PCR 17, 18, 19" in ran.out

    def test_another_bank_is_refused_with_what_to_ask_for(self, root: Path) -> None:
        ran = run("--root", str(root), "log")
        assert ran.code == 4
        assert ran.error == "the TPM is a TPM 1.2 and has no sha256 bank"
        assert "--pcrs sha1:17,18,19" in ran.hint

    @pytest.mark.parametrize("move", ["enrol text", "reseal", "confirm", "cancel"])
    def test_a_move_says_that_it_needs_a_tpm_2_0(self, root: Path, move: str) -> None:
        ran = run("--root", str(root), *move.split(), stdin=b"a secret")
        assert ran.code == 5
        assert (
            ran.error
            == "sealing needs a TPM 2.0, and the one of this machine is a TPM 1.2"
        )

    def test_status_does_not_send_anyone_to_enrol(self, root: Path) -> None:
        ran = run("--root", str(root), "status")
        assert ran.code == 5
        assert "problem:   sealing needs a TPM 2.0" in ran.out
        assert "next step: log, predict and record work with it" in ran.out
        assert "enrol" not in ran.out

    def test_a_tpm_that_was_named_is_told_by_its_name(self, root: Path) -> None:
        named = "device:/dev/another-tpm"
        ran = run("--root", str(root), "--tcti", named, "reseal")
        assert (ran.code, ran.error) == (5, f"no TPM answers at {named}")

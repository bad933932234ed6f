# SPDX-License-Identifier: GPL-2.0-or-later
"""Field failures of forward sealing that came from the launch and its log.

Numbers are those of docs/field-failures.md. Each machine is simulated, updated, booted
again and held to the prediction: what is wrong here would lock a person out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from field_machines import SHA256, FieldMachine, lay_out, running
from tpm_sim.boot_directory import install_tboot
from tpm_sim.cache import Cache
from tpm_sim.eventlog import LogFormat
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES, HashStart

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Calibrated
from aemseal.words.errors import EvidenceError, PredictionError, ReplayError

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


# --- 1, 2: two conventions of HASH_START ---

HASH_STARTS = (
    *("tboot-da", "tboot-da-set", "tboot-da-twice", "tboot-da-set-twice"),
    *("tboot-tpm12", "tboot-tpm12-ext", "tboot-gm45", "tboot-da-per-bank-set-twice"),
)


@pytest.mark.parametrize("name", HASH_STARTS)
def test_either_form_of_hash_start_is_predicted(run: Run, name: str) -> None:
    with run(name) as machine:
        machine.update("xen.gz")
        machine.boots_as_predicted()


def test_a_hash_start_in_neither_form_is_refused(run: Run) -> None:
    with run("tboot-da") as machine:
        start = next(e for e in machine.look().log.events if e.name == "HASH_START")
        path = machine.machine.log_path
        log = path.read_bytes()
        logged = start.digests[SHA256].value
        assert log.count(logged) == 1
        path.write_bytes(log.replace(logged, SHA256.hash(logged).value))
        with pytest.raises(ReplayError, match="does not give PCR 17"):
            machine.look()


def test_the_form_is_found_anew_in_each_boot(run: Run) -> None:
    """Nothing that was found out about a machine is kept for the next boot."""
    with run("tboot-da") as machine:
        for form in (HashStart.SET, HashStart.EXT, HashStart.SET):
            machine.becomes(hash_start=form)
            machine.file("vmlinuz").write_bytes(b"kernel %d" % machine.machine.boots)
            machine.boots_as_predicted()


# --- 3, 4, 5: what SINIT is asked for, by tboot, and without a SINIT file ---

UPGRADES = (
    ("tboot-da", "1.10.1", "1.11.6"),
    ("tboot-da", "1.10.1", "1.9.12"),
    ("tboot-da-getsec", "1.11.6", "1.10.1"),
    ("tboot-da-no-agile-module", "1.10.1", "1.11.6"),
)


def capabilities(machine: FieldMachine) -> set[int]:
    """What the log says that SINIT was asked for."""
    events = machine.look().log.events
    return {
        int.from_bytes(each.untrusted_data, "little")
        for each in events
        if each.name == "OSSINITDATA_CAP_HASH"
    }


@pytest.mark.parametrize(("name", "old", "new"), UPGRADES)
def test_another_tboot_is_predicted_with_what_it_asks_of_sinit(
    run: Run, name: str, old: str, new: str
) -> None:
    cache = Cache.default()
    with run(name) as machine:
        install_tboot(cache, machine.file("tboot.gz"), old)
        machine.reboot()
        machine.remember()
        before = capabilities(machine)
        install_tboot(cache, machine.file("tboot.gz"), new)
        if new == "1.9.12":  # its log is right in what it printed alone
            machine.becomes(log_format=LogFormat.TBOOT_TEXT)
        machine.boots_as_predicted()
        assert capabilities(machine) != before


@pytest.mark.parametrize("name", ["tboot-da", "tboot-da-cbnt"])
def test_without_a_sinit_file_the_log_is_enough(run: Run, name: str) -> None:
    with run(name) as machine:
        assert not list(machine.boot_folder.glob("*SINIT*"))
        install_tboot(Cache.default(), machine.file("tboot.gz"), "1.11.6")
        machine.update("xen.gz", "vmlinuz")
        machine.boots_as_predicted()


# --- 6: forms of the log ---

FORMS = (
    *("tboot-da-tcg-sha1", "tboot-da-txt-container", "tboot-legacy-txt-container"),
    *("tboot-da-text", "tboot-tpm12-text", "tboot-da-per-bank", "tboot-da-agile"),
    *("tboot-da-heap", "tboot-da-per-bank-heap", "tboot-tpm12-heap", "tboot-da-1.9.12"),
)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_log_is_predicted_from(run: Run, name: str) -> None:
    with run(name) as machine:
        machine.update("xen.gz", "initramfs.img")
        machine.boots_as_predicted()


def test_another_kernel_may_hand_the_log_on_in_another_form(run: Run) -> None:
    forms = (LogFormat.PER_BANK, LogFormat.TXT_HEAP, LogFormat.TBOOT_TEXT)
    with run("tboot-da") as machine:
        for form in forms:
            machine.becomes(log_format=form)
            machine.file("vmlinuz").write_bytes(b"a kernel for " + form.name.encode())
            machine.boots_as_predicted()


# --- 7: the words in front of Xen's command line ---


@pytest.mark.parametrize("version", ["", "-v0.5.3"])
@pytest.mark.parametrize("processor", ["skinit", "txt"])
def test_a_name_in_front_of_xens_command_line_is_learnt_from_the_log(
    run: Run, processor: str, version: str
) -> None:
    """Under UEFI Xen 4.17 hashes its own name with its options, later ones do not."""
    with run(f"trenchboot-{processor}-uefi{version}") as machine:
        machine.edit("xen-4.17.cfg", "max:4096M", "max:8192M")
        refused = machine.boots_as_far_as_predicted()
        assert refused  # Xen's live image, and with Intel the OS to MLE data
        assert all("a command line changed" in why for why in refused.values())
        assert (18 in refused) is (processor == "txt")


def test_words_that_our_rule_does_not_give_are_refused(run: Run) -> None:
    """A loader that puts a word in front of what grub.cfg says."""
    with run("tboot-da") as machine:
        words = "placeholder console=none"
        machine.edit("grub.cfg", words, f"xen {words}")
        machine.reboot()
        machine.edit("grub.cfg", f"xen {words}", words)
        machine.update("vmlinuz")
        look = machine.look()
        measured = {each.role: each for each in look.calibration.measured}
        assert measured[Role.XEN].calibrated is Calibrated.NO
        with pytest.raises(PredictionError):
            look.predict(None, hook=False).require(look.selection)


# --- 22: a log that something else was written over ---


@pytest.mark.parametrize("filler", [b"\0", b"\xaa", b"\xff"])
def test_a_log_that_was_written_over_is_refused_or_measures_the_same(
    run: Run, filler: bytes
) -> None:
    with run("tboot-da") as machine:
        path = machine.machine.log_path
        log, right = path.read_bytes(), machine.look().verified.bank
        refused = 0
        for at in range(0, len(log) - 64, 61):
            path.write_bytes(log[:at] + filler * 64 + log[at + 64 :])
            try:
                assert machine.look().verified.bank == right
            except EvidenceError:
                refused += 1
        assert refused > 10


def test_a_log_whose_end_tboot_wrote_elsewhere_is_refused_by_name(
    tmp_path: Path,
) -> None:
    with Machine(MACHINES["tboot-da-1.10.0"], tmp_path / "root") as machine:
        lay_out(machine.root, machine.model, tmp_path)
        machine.boot()
        with pytest.raises(ReplayError) as refused:
            FieldMachine(machine).look()
        assert "tboot 1.9.7 to 1.10.0" in str(refused.value.hint)


# --- 28: another way to launch ---

OTHER_WAYS = (
    ("tboot-da", "trenchboot-txt", "is launched by slaunch"),
    ("tboot-da", "trenchboot-txt-uefi", "is launched by slaunch"),
    ("trenchboot-txt", "tboot-da", "is launched by tboot"),
    ("trenchboot-txt", "trenchboot-txt-uefi", "is launched by slaunch and chainloader"),
)


@pytest.mark.parametrize(("now", "then", "message"), OTHER_WAYS)
def test_a_launch_by_another_launcher_is_refused_with_what_to_do(
    run: Run, tmp_path: Path, now: str, then: str, message: str
) -> None:
    with run(now) as machine:
        shutil.rmtree(machine.boot_folder)
        lay_out(machine.machine.root, MACHINES[then], tmp_path)
        with pytest.raises(PredictionError, match=message) as refused:
            machine.predict()
        assert "then take the vault down and enrol there" in str(refused.value.hint)

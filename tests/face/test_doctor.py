# SPDX-License-Identifier: GPL-2.0-or-later
"""doctor on whole laptops: each check of this boot and the next, and the verb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from contract import check
from disk_layouts import ROOT, STICK_BOOT, qubes_laptop
from laptop import CARRIED, KERNEL, Laptop, MakeLaptop, changed, run
from tpm_sim.boot_directory import INITRAMFS_TREE, LUKS_UUID, pack_initramfs
from tpm_sim.initramfs import HOOK
from tpm_sim.machine import Machine
from tpm_sim.machines import TRENCHBOOT_SKINIT
from ward import diagnosis, is_told

from aemseal.flows.doctor_patient import Finding, Result
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.words.digest import PcrSelection
from aemseal.world.storage_key import StorageKey

pytestmark = pytest.mark.tpm

FAILED, WARNING, SKIPPED, OK = Result.FAILED, Result.WARNING, Result.SKIPPED, Result.OK
MENU = "/boot/grub/grub.cfg"
IMAGE = "/boot/initramfs.img"
RECORD = "/run/aemseal/record"


def found(laptop: Laptop, name: str) -> Finding:
    """Make one check on a laptop."""
    return diagnosis(laptop.root, laptop.machine.tcti, name)


@contextmanager
def menu(laptop: Laptop, old: str, new: str) -> Iterator[None]:
    """Have grub.cfg say otherwise for a while."""
    text = laptop.path(MENU).read_text()
    assert old in text
    with changed(laptop, MENU, text.replace(old, new).encode()):
        yield


@contextmanager
def kernel_words(laptop: Laptop, *words: str) -> Iterator[None]:
    """Add words to the kernel's command line for a while."""
    with menu(laptop, "rhgb quiet", " ".join(["rhgb quiet", *words])):
        yield


@contextmanager
def initramfs(laptop: Laptop, **added: bytes) -> Iterator[None]:
    """Unpack more files over those of the initramfs; "/" is "__", "-" is "_0_"."""
    names = {each.replace("_0_", "-").replace("__", "/"): added[each] for each in added}
    whole = laptop.path(IMAGE).read_bytes() + pack_initramfs(names)
    with changed(laptop, IMAGE, whole):
        yield


@contextmanager
def restated(laptop: Laptop, **fields: object) -> Iterator[None]:
    """Have the state say otherwise for a while."""
    state = VaultState.parse(laptop.path(STATE_FILE).read_bytes())
    other = replace(state, **fields)  # type: ignore[arg-type] # by name
    with changed(laptop, STATE_FILE, other.to_bytes()):
        yield


def state_of(laptop: Laptop) -> VaultState:
    return VaultState.parse(laptop.path(STATE_FILE).read_bytes())


# --- this boot ---


def test_a_boot_without_a_launch_is_found_once(own: MakeLaptop) -> None:
    laptop = own(unmeasured=True)
    is_told(found(laptop, "launch"), FAILED, "no dynamic launch")
    for name in ("event-log", "calibration", "hook", "next-boot"):
        assert found(laptop, name).result is SKIPPED, name


def test_a_damaged_log_is_found(lent_da: Laptop) -> None:
    log = f"/{lent_da.machine.log_path.relative_to(lent_da.root)}"
    with changed(lent_da, log, b"damaged"):
        is_told(found(lent_da, "event-log"), FAILED, log)
        for name in ("calibration", "hook", "next-boot"):
            assert found(lent_da, name).result is SKIPPED, name


def test_files_that_do_not_explain_this_boot_are_found(lent_new: Laptop) -> None:
    with changed(lent_new, KERNEL, b"another kernel"):
        is_told(found(lent_new, "calibration"), WARNING, "kernel")


def test_a_boot_without_the_hook_is_found(own: MakeLaptop) -> None:
    laptop = own()
    laptop.path(IMAGE).write_bytes(pack_initramfs(INITRAMFS_TREE))
    assert laptop.reboot() is None
    is_told(found(laptop, "hook"), FAILED, "did not run", "with the hook in it")


def test_a_hook_for_another_vault_is_found(lent_da: Laptop) -> None:
    state = state_of(lent_da)
    other = StorageKey(state.storage.handle, state.storage.name, b"another pin")
    with restated(lent_da, storage=other):
        is_told(found(lent_da, "hook"), FAILED, "trusts another storage key")
    with restated(lent_da, selection=PcrSelection.parse("sha256:13,17")):
        is_told(found(lent_da, "hook"), FAILED, "asks for sha256:13,17,18")


# --- the next boot ---


def test_a_menu_that_leads_nowhere_is_found_once(lent_da: Laptop) -> None:
    with changed(lent_da, MENU, b""):
        is_told(found(lent_da, "boot-entry"), FAILED, "grub.cfg")
        for name in ("luks-uuid", "initramfs", "emergency-shell"):
            assert found(lent_da, name) == Finding(
                SKIPPED, "the next boot is not known"
            )


def test_a_next_boot_that_is_not_accepted_is_found(lent_da: Laptop) -> None:
    assert found(lent_da, "next-boot").result is OK
    with changed(lent_da, KERNEL, b"another kernel"):
        told = found(lent_da, "next-boot")
        is_told(told, WARNING, "not an accepted one", "aemseal reseal")
    state = state_of(lent_da)
    with restated(lent_da, accepted=(), retired=state.accepted):
        is_told(found(lent_da, "next-boot"), FAILED, "a retired one")


def test_a_disk_that_is_not_measured_is_found(lent_da: Laptop) -> None:
    with menu(lent_da, f"rd.luks.uuid=luks-{LUKS_UUID}", ""):
        told = found(lent_da, "luks-uuid")
        is_told(told, FAILED, "PCR 13 measures nothing", "rd.luks.uuid=luks-UUID")
        is_told(found(lent_da, "next-boot"), WARNING, "will be blind", "PCR 13")


def test_before_enrolment_a_next_boot_that_cannot_be_known_is_found(
    lent_new: Laptop,
) -> None:
    assert found(lent_new, "next-boot").result is OK
    with menu(lent_new, "module2\t/vmlinuz", "module2\t/vmlinuz-gone"):
        is_told(found(lent_new, "next-boot"), FAILED, "vmlinuz-gone", "does not exist")


@pytest.mark.sim
def test_before_enrolment_what_nothing_can_predict_is_told(tmp_path: Path) -> None:
    """PCR 18 holds the length of every module: docs/adr/0007."""
    with Machine(TRENCHBOOT_SKINIT, tmp_path / "laptop") as machine:
        machine.install().kernel.write_bytes(b"a kernel\n" * 99)
        laptop = Laptop(machine)
        laptop.reboot()
        assert found(laptop, "next-boot").result is OK
        laptop.write(IMAGE, laptop.path(IMAGE).read_bytes() + bytes(4096))
        told = found(laptop, "next-boot")
        is_told(told, WARNING, "cannot be known: ", "PCR 18", "aemseal predict")


def test_an_initramfs_that_lost_the_hook_is_found(lent_da: Laptop) -> None:
    assert found(lent_da, "initramfs").result is OK
    with changed(lent_da, IMAGE, pack_initramfs(INITRAMFS_TREE)):
        told = found(lent_da, "initramfs")
        is_told(told, FAILED, "aemseal-unseal", "hook.conf", "srk.tr", "build the")


@pytest.mark.parametrize("name", ["hook.conf", "srk.tr", "boot.conf"])
def test_an_initramfs_with_another_pin_or_selection_is_found(
    lent_da: Laptop, name: str
) -> None:
    with initramfs(lent_da, **{f"etc__aemseal__{name}": b"another"}):
        is_told(found(lent_da, "initramfs"), FAILED, f"{name} in the next boot's")


def test_an_initramfs_with_another_hook_than_is_installed_is_found(
    own: MakeLaptop,
) -> None:
    laptop = own()
    installed = "/usr/lib/aemseal/aemseal-boot"
    laptop.write(installed, (HOOK.parent / "aemseal-boot").read_bytes())
    assert found(laptop, "initramfs").result is OK
    laptop.write(installed, b"a newer one")
    told = found(laptop, "initramfs")
    is_told(told, WARNING, "another usr/lib/aemseal/aemseal-boot than", "build the")


def test_an_initramfs_that_cannot_be_listed_is_skipped(lent_da: Laptop) -> None:
    with changed(lent_da, IMAGE, b"damaged"):
        told = found(lent_da, "initramfs")
        assert told.result is SKIPPED
        assert "nobody can look inside" in told.message
        assert found(lent_da, "credentials").result is SKIPPED
        assert found(lent_da, "resume").result is OK


# --- the command line ---


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rd.shell=0 ", "", "lacks rd.shell=0:"),
        ("rd.emergency=poweroff ", "", "lacks rd.emergency=poweroff:"),
        ("rd.emergency=poweroff ", "rd.emergency=halt ", "rd.emergency=poweroff"),
        ("rhgb quiet", "rd.shell=1", "lacks rd.shell=0:"),
        ("rhgb quiet", "rd.break=pre-mount", "rd.break=pre-mount"),
    ],
)
def test_a_shell_beside_the_secret_is_found(
    lent_da: Laptop, old: str, new: str, words: str
) -> None:
    with menu(lent_da, old, new):
        is_told(found(lent_da, "emergency-shell"), FAILED, words)


def test_a_hibernation_image_from_anywhere_is_found(lent_da: Laptop) -> None:
    assert found(lent_da, "resume").result is OK
    with kernel_words(lent_da, "resume=UUID=0f0e7a6c"):
        is_told(found(lent_da, "resume"), FAILED, "resume=", "add noresume")
    with kernel_words(lent_da, "resume=UUID=0f0e7a6c", "noresume"):
        assert found(lent_da, "resume").result is OK
    with initramfs(lent_da, **{"usr__lib__systemd__libsystemd_0_core_0_255.so": b""}):
        is_told(found(lent_da, "resume"), WARNING, "systemd 255", "an EFI variable")


@pytest.mark.parametrize(
    ("library", "result"),
    [
        ("usr__lib__systemd__libsystemd_0_core_0_251.19_0_1.fc37.so", FAILED),
        ("usr__lib__systemd__libsystemd_0_shared_0_250.so", FAILED),
        ("usr__lib__systemd__libsystemd_0_core_0_249.so", OK),
        ("usr__lib__systemd__systemd", FAILED),
        ("usr__lib__other", OK),
    ],
)
def test_credentials_that_nothing_measures_are_found(
    lent_da: Laptop, library: str, result: Result
) -> None:
    with initramfs(lent_da, **{library: b""}):
        told = found(lent_da, "credentials")
        assert told.result is result, told
        with kernel_words(lent_da, "systemd.import_credentials=no"):
            assert found(lent_da, "credentials").result is OK


def test_a_fallback_entry_that_is_gone_is_found(lent_da: Laptop) -> None:
    config = lent_da.path("/etc/aemseal.yaml").read_text()
    for title, result in (
        ("AEM Qubes, with Xen hypervisor", OK),
        ("AEM Qubes, with the Xen before", FAILED),
    ):
        more = f"{config}fallback_entries: ['{title}']\n".encode()
        with changed(lent_da, "/etc/aemseal.yaml", more):
            assert found(lent_da, "fallback-entries").result is result


# --- disks, and the whole ---


def test_a_disk_that_lies_open_or_is_not_measured_is_found(own: MakeLaptop) -> None:
    laptop = own()
    layout = qubes_laptop(laptop.root)
    assert found(laptop, "root-disk").result is OK
    assert found(laptop, "swap").result is OK
    layout.swaps("/dev/sda1")
    is_told(found(laptop, "swap"), FAILED, "/dev/sda1 does not lie on an encrypted")
    layout.swaps("/boot/swapfile")
    is_told(found(laptop, "swap"), FAILED, "/boot/swapfile does not lie on")
    layout.swaps("/dev/unknown")
    layout.mounts(ROOT, STICK_BOOT, ("0:9", "/dev", "devtmpfs"))
    assert found(laptop, "swap").result is SKIPPED
    other = LUKS_UUID[::-1].replace("-", "")
    layout.device("dm-0", "253:0", on=("pci/sda/sda2",), dm=f"CRYPT-LUKS2-{other}-x")
    is_told(found(laptop, "root-disk"), FAILED, "does not measure", "rd.luks.uuid=luks")
    layout.mounts(("8:1", "/", "/dev/sda1"))
    is_told(found(laptop, "root-disk"), FAILED, "does not lie on an encrypted disk")
    layout.write("/proc/self/mountinfo", "")
    assert found(laptop, "root-disk").result is SKIPPED
    laptop.path("/proc/swaps").unlink()
    assert found(laptop, "swap").result is SKIPPED
    assert found(laptop, "resume").result is OK


def test_swap_is_a_word_of_caution_without_noresume(own: MakeLaptop) -> None:
    laptop = own()
    qubes_laptop(laptop.root)
    is_told(found(laptop, "resume"), WARNING, "there is swap space")


def test_a_healthy_laptop_passes_every_check(own: MakeLaptop) -> None:
    laptop = own()
    qubes_laptop(laptop.root).swaps()
    ran = laptop.aemseal("doctor", "--json")
    assert ran.code == 0
    check(ran.report, "doctor")
    results = {each["name"]: each["result"] for each in ran.report["checks"]}
    skipped = {name for name, result in results.items() if result == "skipped"}
    assert skipped == {"fallback-entries", "keyfile-slot"}
    assert set(results.values()) == {"ok", "skipped"}
    lines = laptop.aemseal("doctor").out.splitlines()
    assert lines[-1] == (
        f"{len(results)} checks: 0 failed, 0 warning, 2 skipped, {len(results) - 2} ok"
    )


def test_what_failed_comes_first_with_what_to_do(lent_da: Laptop) -> None:
    with menu(lent_da, "rd.shell=0 ", ""):
        ran = lent_da.aemseal("doctor")
    assert ran.code == 4
    first, second, *_ = ran.out.splitlines()
    assert first.startswith("failed   emergency-shell: the next boot's command line")
    assert second.startswith("         hint: add that to GRUB_CMDLINE_LINUX")


def test_without_a_tpm_it_goes_on_and_exits_5(lent_da: Laptop) -> None:
    ran = run("doctor", "--root", str(lent_da.root), "--json")
    assert ran.code == 5
    results = {each["name"]: each["result"] for each in ran.report["checks"]}
    assert results["tpm"] == "failed"
    assert results["initramfs"] == results["file-modes"] == "ok"


def test_before_enrolment_it_says_what_enrol_will_need(lent_new: Laptop) -> None:
    ran = lent_new.aemseal("doctor")
    assert ran.code == 0
    assert "ok       initramfs-command: how to build" in ran.out
    assert "skipped  state: nothing is sealed here: aemseal enrol text" in ran.out
    with changed(lent_new, "/etc/aemseal.yaml", CARRIED.encode()):
        told = lent_new.aemseal("doctor").out
    assert "warning  initramfs-command: how to build the initramfs is not" in told


def test_a_recording_is_examined_as_far_as_it_tells(
    lent_da: Laptop, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"
    assert lent_da.aemseal("record", str(folder)).code == 0
    ran = run("doctor", "--host", str(folder), "--json")
    assert ran.code == 0
    results = {each["name"]: each["result"] for each in ran.report["checks"]}
    for name in ("launch", "event-log", "hook", "next-boot", "initramfs", "pins"):
        assert results[name] == "ok", name
    for name in ("tpm", "owner-auth", "file-modes", "swap", "config", "other-sealer"):
        assert results[name] == "skipped", name


@pytest.mark.usefixtures("no_traceback")
def test_no_garbage_makes_it_crash(lent_da: Laptop) -> None:
    garbage = bytes(range(256)) * 9
    log = f"/{lent_da.machine.log_path.relative_to(lent_da.root)}"
    paths = (STATE_FILE, MENU, IMAGE, RECORD, "/etc/aemseal.yaml", log)
    for path in paths:
        with changed(lent_da, path, garbage):
            assert lent_da.aemseal("doctor").code == (0 if path == IMAGE else 4)
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(changed(lent_da, path, garbage))
        ran = lent_da.aemseal("doctor", "--json")
        assert ran.code == 4
        check(ran.report, "doctor")

# SPDX-License-Identifier: GPL-2.0-or-later
"""`enrol keyfile` by the commands that a person gives, on laptops with a LUKS disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from laptop import Laptop, MakeLaptop, Ran, changed
from luks_disks import OTHER_UUID, LuksDisk
from refusals import GRUB, refuses
from tpm_sim.boot_directory import LUKS_PASSPHRASE, LUKS_UUID
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, TRENCHBOOT_SKINIT, MachineModel
from tpm_sim.swtpm import LOCALITY_OS
from unsealer import unseal

from aemseal.flows.keyfile import disk_of as keyfile_disk
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import UsageError, VaultError
from aemseal.world.host import LiveHost
from aemseal.world.luks_headers import HeaderChange, LuksHeaders

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

PIN = "246810"
REBOOT = "reboot: the staged boot will show the secret"
CONFIRM = "keep this boot and retire the one before it: aemseal confirm"
NOTHING = "nothing: the next boot will show the secret"


def disk_of(laptop: Laptop) -> LuksDisk:
    return LuksDisk(laptop.root, LUKS_UUID)


def enrol_keyfile(
    laptop: Laptop, *arguments: str, passphrase: bytes = LUKS_PASSPHRASE
) -> Ran:
    laptop.write("/root/pin", PIN)
    return laptop.aemseal(
        *("enrol", "keyfile", "--pin-file", str(laptop.path("/root/pin"))),
        *arguments,
        stdin=passphrase,
    )


def key(laptop: Laptop) -> bytes:
    """Unseal the keyfile in the boot that runs now, before its hook would cap it."""
    folder = laptop.path("/boot/aemseal")
    return unseal(laptop.machine.tcti, folder, "keyfile", PIN.encode())


def status(laptop: Laptop) -> dict[str, Any]:
    found: dict[str, Any] = laptop.aemseal("status", "--json").report
    return found


@pytest.mark.parametrize("model", [TBOOT_DA, TBOOT_LEGACY], ids=lambda m: m.name)
def test_the_life_of_a_keyfile_beside_a_text(
    own: MakeLaptop, model: MachineModel
) -> None:
    laptop = own(model)
    disk = disk_of(laptop)
    before = disk.header
    assert status(laptop)["next_step"] == NOTHING
    ran = enrol_keyfile(laptop)
    assert ran.code == 0, ran.told
    assert ran.out == (
        "sealed a keyfile beside: text\n"
        f"its key is in slot 1 of LUKS device {LUKS_UUID}\n"
        "next step: reboot, since the LUKS header is another one now; then: aemseal "
        "confirm\n"
    )
    assert disk.header != before
    assert disk.slots == [0, 1]
    assert status(laptop)["next_step"] == REBOOT
    assert laptop.aemseal("status", "--check").code == 0
    assert laptop.aemseal("cancel").code == 4

    assert laptop.shows_the_secret(), "the hook measured the header that was staged"
    assert status(laptop)["next_step"] == CONFIRM
    assert laptop.aemseal("confirm").code == 0
    assert status(laptop)["next_step"] == NOTHING
    assert laptop.aemseal("status", "--check").code == 0
    assert disk.opens(LUKS_PASSPHRASE)

    again = enrol_keyfile(laptop)
    assert (again.code, again.error) == (
        4,
        "a keyfile is sealed on this machine already",
    )
    removed = laptop.aemseal("remove")
    assert removed.code == 0
    assert (disk.slots, disk.tokens) == ([0], [])
    assert disk.opens(LUKS_PASSPHRASE)


def test_the_report_names_device_and_slot(own: MakeLaptop) -> None:
    laptop = own()
    report = enrol_keyfile(laptop, "--json").report
    assert report["schema"] == "aemseal.enrol/1"
    assert report["disk"] == {"uuid": LUKS_UUID, "slot": 1}
    assert report["secrets"] == ["text", "keyfile"]
    assert len(report["staged"]) == 1


def test_the_sealed_key_opens_the_disk(own: MakeLaptop) -> None:
    laptop = own()
    assert enrol_keyfile(laptop, "--disk", f"luks-{LUKS_UUID}").code == 0
    found: list[bytes] = []
    laptop.machine.power_off()
    laptop.machine.boot(lambda machine: found.append(measured_key(laptop)))
    assert len(found[0]) == 64
    assert disk_of(laptop).opens(found[0])


def measured_key(laptop: Laptop) -> bytes:
    """Measure the LUKS header as the hook does, then unseal."""
    sha256 = HashAlgorithm.SHA256
    digest = sha256.hash(disk_of(laptop).header)
    laptop.machine.tpm.extend([(13, {sha256: digest})], LOCALITY_OS)
    return key(laptop)


def test_a_keyfile_can_be_the_first_secret(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    disk = disk_of(laptop)
    ran = enrol_keyfile(laptop)
    assert ran.code == 0, ran.told
    assert disk.slots == [0, 1]
    assert "luks (PCR 13)" in ran.told
    found = laptop.reboot()
    assert found is not None
    step = status(laptop)["next_step"]
    assert status(laptop)["this_boot"] == "staged", step
    confirmed = laptop.aemseal("confirm")
    assert confirmed.code == 0, confirmed.told
    report = status(laptop)
    assert (report["staged"], report["this_boot"]) == ([], "accepted")
    assert disk.opens(LUKS_PASSPHRASE)


def test_a_keyfile_can_be_the_first_where_the_hook_ran_already(
    tmp_path: Path,
) -> None:
    """With TrenchBoot the first half builds the hook; it foresees the header of now."""
    with Machine(TRENCHBOOT_SKINIT, tmp_path / "laptop") as machine:
        made = machine.install()
        made.kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
        laptop = Laptop(machine)
        laptop.reboot()
        first = enrol_keyfile(laptop)
        assert first.code == 4
        assert "nothing is sealed yet" in first.error
        disk = disk_of(laptop)
        assert disk.slots == [0]
        folder = laptop.path("/var/lib/aemseal")
        assert not [each for each in folder.iterdir() if "luks" in each.name]
        laptop.reboot()
        second = enrol_keyfile(laptop)
        assert second.code == 0, second.told
        assert disk.slots == [0, 1]
        assert [len(status(laptop)[each]) for each in ("accepted", "staged")] == [1, 1]
        assert status(laptop)["next_step"] == REBOOT
        laptop.reboot()
        assert status(laptop)["next_step"] == CONFIRM


# --- refusals, with nothing written ---


def asked(laptop: Laptop, more: str = "") -> str:
    laptop.root.with_name("pin").write_text(PIN)
    return f"enrol keyfile --pin-file {laptop.root.with_name('pin')}{more}"


def test_a_wrong_passphrase_writes_nothing(lent_da: Laptop) -> None:
    message = f"the passphrase does not open the LUKS device {LUKS_UUID}"
    hint = "nothing was written; type the passphrase that you type at boot"
    refuses(lent_da, asked(lent_da), 2, message, hint, stdin="wrong")


def test_a_wrong_passphrase_writes_nothing_at_the_first_enrolment_either(
    lent_new: Laptop,
) -> None:
    message = f"the passphrase does not open the LUKS device {LUKS_UUID}"
    hint = "nothing was written; type the passphrase that you type at boot"
    refuses(lent_new, asked(lent_new), 2, message, hint, stdin="wrong")


def test_another_disk_than_the_entrys_is_refused(lent_da: Laptop) -> None:
    other = "0f0e7a6c-3f0b-4a50-8c0e-6d1f3b8f0001"
    refuses(
        lent_da,
        asked(lent_da, f" --disk {other}"),
        2,
        f"--disk: the boot entry opens no LUKS device {other}",
        f"it opens {LUKS_UUID}",
        stdin=LUKS_PASSPHRASE.decode(),
    )


def test_a_keyfile_without_a_pin_is_refused(lent_da: Laptop) -> None:
    ran = lent_da.aemseal("enrol", "keyfile", stdin=LUKS_PASSPHRASE)
    assert ran.code == 2
    assert "needs a PIN" in ran.error


def test_a_next_boot_that_is_not_accepted_comes_first(lent_da: Laptop) -> None:
    kernel = lent_da.path("/boot/vmlinuz")
    aside = kernel.with_name("vmlinuz.aside")
    kernel.rename(aside)
    try:
        kernel.write_bytes(b"another kernel")
        refuses(
            lent_da,
            asked(lent_da),
            4,
            "the next boot is not an accepted one, and is none with the key either",
            "stage it first: aemseal reseal",
            stdin=LUKS_PASSPHRASE.decode(),
        )
    finally:
        aside.replace(kernel)


def test_status_warns_of_a_key_that_opens_no_disk(own: MakeLaptop) -> None:
    laptop = own()
    with a_change_meanwhile(disk_of(laptop)):
        ran = enrol_keyfile(laptop)
    assert ran.code == 4
    lost = (
        "the sealed keyfile opens no disk: the LUKS header changed while the key was "
        "being added, and was left as it is"
    )
    assert ran.error == lost
    again = "seal another key: aemseal enrol keyfile"
    assert again in ran.hint
    assert status(laptop)["warnings"] == [f"{lost}; {ran.hint}"]

    assert laptop.aemseal("reseal", "--accept", "luks").code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    assert enrol_keyfile(laptop).code == 0
    assert status(laptop)["warnings"] == []
    assert disk_of(laptop).slots == [0, 1, 2]
    assert laptop.shows_the_secret()


@contextmanager
def a_change_meanwhile(disk: LuksDisk) -> Iterator[None]:
    """Have somebody add a key while the new header waits to be installed."""
    install = LuksHeaders.install

    def late(headers: LuksHeaders, change: HeaderChange) -> None:
        disk.add(b"somebody's key", LUKS_PASSPHRASE)
        install(headers, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LuksHeaders, "install", late)
        yield


def test_of_two_disks_one_has_to_be_named(lent_da: Laptop) -> None:
    other = LuksDisk(lent_da.root, OTHER_UUID)
    config = lent_da.path(GRUB).read_bytes()
    word = f"rd.luks.uuid=luks-{LUKS_UUID}".encode()
    more = word + f" rd.luks.uuid=luks-{OTHER_UUID}".encode()
    host = LiveHost(lent_da.root)
    with changed(lent_da, GRUB, config.replace(word, more)):
        with pytest.raises(UsageError, match="opens 2 LUKS devices") as told:
            keyfile_disk(host, None, None)
        assert other.uuid in (told.value.hint or "")
        assert keyfile_disk(host, None, OTHER_UUID.upper()) == OTHER_UUID
    with (
        changed(lent_da, GRUB, config.replace(word, b"")),
        pytest.raises(VaultError, match="opens no LUKS device"),
    ):
        keyfile_disk(LiveHost(lent_da.root), "AEM Qubes, with Xen hypervisor", None)

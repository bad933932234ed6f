# SPDX-License-Identifier: GPL-2.0-or-later
"""A vault on laptops that TrenchBoot launches, by the commands that a person gives.

PCR 18 holds the multiboot information, and that the length of every module: the boot
with the hook cannot be predicted before it ran, nor one with a longer initramfs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import check
from laptop import SECRET, Laptop
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.sim,
    pytest.mark.usefixtures("no_traceback"),
]

IMAGE, KERNEL = "/boot/initramfs.img", "/boot/vmlinuz"
STATE, HALF = "/var/lib/aemseal/state.json", "/var/lib/aemseal/foreseen.json"
BLIND_STEP = (
    "the next boot will be blind: read what `aemseal reseal` says of it before you "
    "reboot"
)
REBOOT_ONCE = (
    "reboot now, then enrol again: aemseal enrol text. That boot will say "
    '"No aemseal vault was found on the boot medium. Do not type your disk '
    'passphrase." Expect it this once, right after this build, and only if you '
    "rebooted yourself: then type it"
)
HOLDS = "PCR 18 holds the multiboot information"
HALFWAY = (
    "the initramfs with the hook is built: reboot, unless you have since, then enrol "
    "again: aemseal enrol text"
)
NOT_REBOOTED = "reboot into what /boot holds now, then enrol"
AS_PREDICTED = (
    "This boot is not accepted, but all that could be predicted of it came as predicted"
)
NO_PROOF = "Nothing proves the command lines"
NO_MEDIUM = 15
NOT_ACCEPTED = 10


@pytest.fixture(params=["trenchboot-skinit", "trenchboot-txt"])
def laptop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Laptop]:
    """A laptop that has booted and on which nothing was enrolled yet."""
    with Machine(MACHINES[request.param], tmp_path / "laptop") as machine:
        made = machine.install()
        made.kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
        found = Laptop(machine)
        found.reboot()
        yield found


def enrolled(laptop: Laptop) -> Laptop:
    assert laptop.enrol().code == 4
    laptop.reboot()
    assert laptop.enrol().code == 0
    return laptop


def flip(laptop: Laptop, path: str) -> None:
    """Change a byte in the middle: a new file of the same length."""
    content = bytearray(laptop.path(path).read_bytes())
    content[len(content) // 2] ^= 1
    laptop.write(path, bytes(content))


def grow(laptop: Laptop) -> None:
    laptop.write(IMAGE, laptop.path(IMAGE).read_bytes() + bytes(512))


def grown_by(laptop: Laptop, image: bytes) -> str:
    more = laptop.path(IMAGE).stat().st_size - len(image)
    return f"{HOLDS}, and the initramfs grew by {more} bytes"


def next_step(laptop: Laptop, *more: str) -> str:
    step: str = laptop.aemseal("status", "--json", *more).report["next_step"]
    return step


def booted(laptop: Laptop) -> int:
    """Reboot and return the hook's exit code."""
    found = laptop.reboot()
    assert found is not None
    assert SECRET not in found.shown or found.exit_code == 0
    return found.exit_code


def test_the_life_of_a_vault(laptop: Laptop) -> None:
    image = laptop.path(IMAGE).read_bytes()
    ran = laptop.enrol()
    assert ran.code == 4
    assert ran.error == f"nothing is sealed yet: {grown_by(laptop, image)}"
    assert ran.hint == REBOOT_ONCE
    assert not laptop.path(STATE).exists()
    assert not laptop.path("/boot/aemseal").exists()
    assert next_step(laptop) == HALFWAY

    found = laptop.reboot()
    assert found is not None
    assert found.exit_code == NO_MEDIUM
    assert found.told.removeprefix("aemseal: ").strip() in REBOOT_ONCE
    ran = laptop.enrol()
    assert ran.code == 0
    assert "all that could be predicted of this boot came as predicted: " in ran.told
    assert "initramfs, LUKS headers; nothing checked the command lines" in ran.told
    assert ran.out.splitlines()[1].startswith("accepted: Xen 4.17.5")
    assert not laptop.path(HALF).exists()
    assert next_step(laptop, "--check") == "nothing: the next boot will show the secret"
    assert laptop.shows_the_secret()

    flip(laptop, KERNEL)
    assert laptop.aemseal("status", "--check").code == 3
    ran = laptop.aemseal("reseal", "--accept", "kernel")
    assert (ran.code, ran.out.startswith("staged: ")) == (0, True)
    assert laptop.shows_the_secret(), "an update of the same length is sighted"
    assert laptop.aemseal("confirm").code == 0
    assert laptop.shows_the_secret()

    image = laptop.path(IMAGE).read_bytes()
    grow(laptop)
    sentence = grown_by(laptop, image)
    for verb in ("plan", "reseal --dry-run", "reseal"):
        ran = laptop.aemseal(*verb.split())
        assert (ran.code, ran.error) == (4, sentence)
        assert ran.hint.startswith("nothing is staged, so the next boot will be blind")
    shown = laptop.aemseal("predict").out
    assert f"refused: {sentence}\n" in shown
    assert "caution: " not in shown, "it is blind anyway"
    (row,) = [each for each in shown.splitlines() if " boot-info " in each]
    row = " ".join(row.split())
    assert row.startswith("18 boot-info - not known refused, event ")
    assert next_step(laptop, "--check") == BLIND_STEP
    assert next_step(laptop) == BLIND_STEP, "it stays on record"

    assert booted(laptop) == NOT_ACCEPTED
    report = laptop.aemseal("explain", "--json").report
    check(report, "explain")
    assert (report["verdict"], report["role"]) == ("changed", "initramfs")
    assert report["known_as"] is None
    assert report["prediction"]["as_predicted"] is True
    assert report["prediction"]["not_known"][0] == sentence
    assert report["advice"].startswith(f"{AS_PREDICTED}: ")
    assert NO_PROOF in report["advice"]
    assert "\nalso differ: boot-info" in laptop.aemseal("explain").out
    assert next_step(laptop).endswith("see why: aemseal explain")
    assert laptop.aemseal("confirm").code == 6
    kept = laptop.kept()
    grow(laptop)
    ran = laptop.aemseal("reseal")
    assert ran.code == 6, "nothing is sealed from it"
    assert ran.error.startswith("this boot is not an accepted one")
    assert "initramfs" not in ran.told, "it is refused before anything is told"
    laptop.write(IMAGE, laptop.path(IMAGE).read_bytes()[:-512])
    assert laptop.kept()[0][STATE[1:]] == kept[0][STATE[1:]], "nor foreseen"

    digits = laptop.aemseal("recover").hint.rpartition(" ")[2]
    ran = laptop.aemseal("recover", "--accept-boot", digits, stdin=SECRET)
    assert ran.code == 0, ran.told
    assert laptop.shows_the_secret(), "the blind boot was the last one"


def test_a_xen_whose_console_was_overwritten_is_rebooted_first(laptop: Laptop) -> None:
    console = laptop.path("/var/log/xen/console/hypervisor.log")
    lines = console.read_text().splitlines(keepends=True)
    kept = [each for each in lines if "ommand line" not in each]
    assert kept != lines
    console.write_text("".join(kept))
    before = laptop.kept()
    ran = laptop.enrol()
    assert (ran.code, ran.error) == (
        4,
        f"{HOLDS}, and the command line that Xen runs with is not known",
    )
    assert ran.hint.endswith("reboot and enrol soon after")
    assert laptop.kept() == before
    laptop.reboot()
    assert laptop.enrol().hint == REBOOT_ONCE


def test_enrolling_again_without_a_reboot_seals_nothing(laptop: Laptop) -> None:
    assert laptop.enrol().code == 4
    ran = laptop.enrol()
    assert (ran.code, ran.hint) == (4, NOT_REBOOTED)
    assert "no file of any boot entry gives what this boot measured" in ran.error


def test_a_boot_that_was_changed_between_the_halves_is_not_sealed_to(
    laptop: Laptop,
) -> None:
    assert laptop.enrol().code == 4
    flip(laptop, KERNEL)
    laptop.reboot()
    ran = laptop.enrol()
    assert ran.code == 4
    assert ran.error == (
        "this boot is not the one that enrol built: kernel (PCR 17) is not as predicted"
    )
    assert ran.hint == f"if you changed it yourself, remove {HALF} and enrol"
    assert not laptop.path(STATE).exists()
    laptop.path(HALF).unlink()
    assert laptop.enrol().code == 0


@pytest.mark.parametrize("data", [b"", b"{}", b'{"refusals": []}', b"\xff"])
def test_a_damaged_first_half_is_not_taken_for_none(
    laptop: Laptop, data: bytes
) -> None:
    assert laptop.enrol().code == 4
    laptop.write(HALF, data)
    laptop.reboot()
    ran = laptop.enrol()
    assert (ran.code, ran.error) == (4, f"{HALF} is damaged")
    assert ran.hint == f"if you changed it yourself, remove {HALF} and enrol"


def test_a_blind_boot_that_is_not_as_predicted_is_told_by_its_file(
    laptop: Laptop, tmp_path: Path
) -> None:
    enrolled(laptop)
    assert laptop.shows_the_secret()
    grow(laptop)
    assert laptop.aemseal("reseal").code == 4
    flip(laptop, KERNEL)
    assert booted(laptop) == NOT_ACCEPTED
    ran = laptop.aemseal("explain", "--json")
    told = ran.report["prediction"]
    assert (told["as_predicted"], told["role"], told["path"]) == (
        False,
        "kernel",
        KERNEL,
    )
    assert ran.report["advice"].startswith(
        f"Do not trust this boot unless you changed {KERNEL} yourself"
    )
    folder = tmp_path / "recording"
    assert laptop.aemseal("record", str(folder)).code == 0
    recorded = laptop.aemseal("--host", str(folder), "explain", "--json")
    assert recorded.report == ran.report


def test_only_a_reseal_that_could_have_staged_keeps_a_prediction(
    laptop: Laptop,
) -> None:
    enrolled(laptop)
    assert laptop.shows_the_secret()
    before = laptop.kept()
    grow(laptop)
    grown = laptop.kept()
    for verb in ("plan", "predict", "explain", "reseal --dry-run"):
        laptop.aemseal(*verb.split())
    assert laptop.kept() == grown != before
    assert laptop.aemseal("reseal").code == 4
    state = json.loads(laptop.path(STATE).read_bytes())
    assert state["foreseen"]["refusals"][0]["pcr"] == 18
    assert state["checked"]["result"] == "unknown"

    laptop.write(IMAGE, laptop.path(IMAGE).read_bytes()[:-512])
    flip(laptop, KERNEL)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    state = json.loads(laptop.path(STATE).read_bytes())
    assert "foreseen" not in state, "the next move forgets it"

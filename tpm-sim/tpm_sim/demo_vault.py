# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's second half on one laptop: a PIN, a copied medium, a boot gone blind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tpm_sim.demo_laptop import (
    SECRET,
    Laptop,
    Story,
    is_dead_copy,
    is_refused,
    is_shown,
    is_shut_by_pin,
    rebuilt,
)
from tpm_sim.initramfs import HookRun

PIN = "ford-at-dusk"
WRONG_PIN = "dusk-at-ford"
NEW_PIN = "otter-at-dawn"
NEW_SECRET = "two otters, and no moon"
_SPARE = "mnt/spare/aemseal"
_PIN_FILE = "root/pin"
_MEDIA = "media:\n  - {{label: stick, path: /boot/aemseal, carried: true}}\n{}"
_SPARE_MEDIUM = f"  - {{label: spare, path: /{_SPARE}}}\n"


def tell(laptop: Laptop, story: Story) -> None:
    """Go on on a laptop that is booted, accepted and has a text sealed without PIN."""
    print("6. A PIN, and a spare medium at home")
    _enrol_pin(laptop, story)
    print("7. Somebody copies the spare, and sees the PIN typed")
    copied = _copy_and_revoke(laptop, story)
    print("8. A kernel is updated, and nobody thinks of reseal: a blind boot")
    _recover(laptop, story, copied)


def _enrol_pin(laptop: Laptop, story: Story) -> None:
    folder = laptop.machine.root / _SPARE
    folder.mkdir(parents=True)
    laptop.configure(_MEDIA.format(_SPARE_MEDIUM))
    sealed = laptop.aemseal("pin", *_pin_words(laptop, PIN), stdin=SECRET)
    story.step("pin seals everything anew, with a PIN", held=sealed.code == 0)
    shown = laptop.reboot(pin=WRONG_PIN)
    story.step(
        "the accepted boot shows nothing for a wrong PIN", held=is_shut_by_pin(shown)
    )
    status = laptop.aemseal("status")
    story.step(
        "status says how many wrong PINs the TPM counted",
        held=status.code == 0 and "PIN tries: 3 of 32" in status.out,
    )
    shown = laptop.reboot(pin=PIN)
    story.step("it shows the secret for the right one", held=is_shown(shown))


def _copy_and_revoke(laptop: Laptop, story: Story) -> Path:
    root = laptop.machine.root
    copied = root / "copied"
    shutil.copytree(root / _SPARE, copied)
    shown = _boot_with(laptop, copied)
    story.step("the copy opens, with the PIN that was seen", held=is_shown(shown))
    revoked = laptop.aemseal("revoke", "spare")
    story.step("revoke takes the spare out", held=revoked.code == 0)
    shown = _boot_with(laptop, copied)
    story.step(
        "the copy is dead, on the accepted boot and for the right PIN",
        held=is_dead_copy(shown),
    )
    laptop.configure(_MEDIA.format(""))
    return copied


def _recover(laptop: Laptop, story: Story, copied: Path) -> None:
    kernel = laptop.boot_directory.kernel
    before = kernel.read_bytes()
    kernel.write_bytes(rebuilt(before))
    shown = laptop.reboot(pin=PIN)
    story.step("the secret stays in", held=is_refused(shown))
    words = ("recover", *_pin_words(laptop, NEW_PIN))
    asked = laptop.aemseal(*words, stdin=NEW_SECRET)
    named = re.search("--accept-boot ([0-9a-f]{16})", asked.told)
    story.step(
        "recover shows what differs, and asks for the owner's own word (exit 2)",
        held=asked.code == 2 and named is not None and "/boot/vmlinuz" in asked.told,
    )
    digits = named[1] if named else ""
    sealed = laptop.aemseal(*words, "--accept-boot", digits, stdin=NEW_SECRET)
    story.step(
        "accepted by that word, another text and another PIN are sealed to it",
        held=sealed.code == 0 and "retired:" in sealed.out,
    )
    shown = laptop.reboot(pin=NEW_PIN)
    story.step("it shows the new secret", held=is_shown(shown, NEW_SECRET))
    shown = _boot_with(laptop, copied)
    story.step("the old copy opens nothing on it", held=is_dead_copy(shown))
    kernel.write_bytes(before)
    shown = _boot_with(laptop, copied)
    story.step("nor together with the old kernel", held=is_dead_copy(shown))
    kernel.write_bytes(rebuilt(before))
    shown = laptop.reboot(pin=NEW_PIN)
    story.step("the owner's medium still opens", held=is_shown(shown, NEW_SECRET))


def _pin_words(laptop: Laptop, pin: str) -> tuple[str, str]:
    """Write a PIN where the tool is to read it, and return the words that say so."""
    path = laptop.machine.root / _PIN_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{pin}\n", encoding="ascii")
    return "--pin-file", str(path)


def _boot_with(laptop: Laptop, copied: Path) -> HookRun | None:
    """Boot with a copied medium in the place of the owner's; then put that back."""
    medium, aside = laptop.machine.root / "boot/aemseal", laptop.machine.root / "aside"
    medium.rename(aside)
    shutil.copytree(copied, medium)
    print("    (the copy lies in the place of the owner's medium)")
    try:
        return laptop.reboot(pin=PIN)
    finally:
        shutil.rmtree(medium)
        aside.rename(medium)

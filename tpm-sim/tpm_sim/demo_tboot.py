# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo on a laptop that tboot launches: one Xen update from end to end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tpm_sim import demo_vault
from tpm_sim.cache import Cache
from tpm_sim.demo_laptop import (
    SECRET,
    Laptop,
    Story,
    boot_and_confirm,
    is_refused,
    is_shown,
)
from tpm_sim.machine import Machine


@dataclass(frozen=True, slots=True)
class Update:
    """What the demo updates: a file below /boot, its old and its new content.

    `known_by` is what the tool calls the old one by.
    """

    role: str
    words: str
    old: Path
    new: Path
    known_by: str


def choose_update(cache: Cache) -> Update:
    """Two real Xen packages where the archives offer two, else another kernel."""
    if cache.has_two_xens:
        old, new = cache.version("xen-old"), cache.version("xen-new")
        words = f"Xen {old} -> {new} (Debian's main and security archives)"
        return Update("xen", words, cache.xen_old, cache.xen_new, old)
    words = (
        f"kernel {cache.linux.name} -> {cache.linux_new.name}, since the archives "
        f"offer only one Xen ({cache.version('xen-old')})"
    )
    # dom0's kernel has a fixed name here: its file tells nobody which version it is
    return Update("kernel", words, cache.linux, cache.linux_new, "vmlinuz")


def tell_all(machine: Machine, story: Story) -> None:
    """Tell of one update, and then of a PIN, a copied medium and a blind boot."""
    laptop = Laptop(machine)
    _tell_update(laptop, story)
    demo_vault.tell(laptop, story)


def tell(machine: Machine, story: Story) -> None:
    """Tell of one update, on one machine."""
    _tell_update(Laptop(machine), story)


def _tell_update(laptop: Laptop, story: Story) -> None:
    update = choose_update(laptop.machine.cache)
    target = {
        "xen": laptop.boot_directory.xen,
        "kernel": laptop.boot_directory.kernel,
    }[update.role]
    shutil.copyfile(update.old, target)
    _enrol(laptop, story)
    _update(laptop, story, update, target)
    print("3. Reboot into the new files")
    boot_and_confirm(laptop, story)
    _evil_maid(laptop, story)
    _rollback(laptop, story, update, target)


def _enrol(laptop: Laptop, story: Story) -> None:
    print("1. A first boot without aemseal; then enrol")
    laptop.reboot()
    enrolled = laptop.aemseal("enrol", "text", stdin=SECRET)
    story.step("enrol stages the next boot, hook inside", held=enrolled.code == 0)
    shown = laptop.reboot()
    story.step("the first boot after enrol shows the secret", held=is_shown(shown))
    confirmed = laptop.aemseal("confirm")
    story.step("confirm accepts it", held=confirmed.code == 0)


def _update(laptop: Laptop, story: Story, update: Update, target: Path) -> None:
    print(f"2. The update: {update.words}")
    shutil.copyfile(update.new, target)
    status = laptop.aemseal("status", "--check")
    story.step(
        "status says that the next boot would be blind (exit 3)", held=status.code == 3
    )
    laptop.aemseal("predict")
    code, plan = laptop.report("plan")
    changes = plan["changes"]
    assert isinstance(changes, list)
    named = [(each["name"], each["path"]) for each in changes]
    print(f"    changed: {', '.join(f'{name} ({path})' for name, path in named)}")
    story.step(
        "plan names the one file behind every changed PCR",
        held=code == 3 and named == [(update.role, f"/boot/{target.name}")],
    )
    refused = laptop.aemseal("reseal", quiet=True)
    refused.show_end(2)
    story.step(
        "reseal stops at bytes nobody answers for (exit 4)", held=refused.code == 4
    )
    staged = laptop.aemseal("reseal", "--accept", update.role)
    story.step("accepted by name, the new boot is staged", held=staged.code == 0)


def _evil_maid(laptop: Laptop, story: Story) -> None:
    print("4. Evil maid: one byte of the initramfs is changed")
    image = laptop.boot_directory.initramfs
    genuine = image.read_bytes()
    at = genuine.index(b"a simulated laptop")
    image.write_bytes(genuine[:at] + b"A" + genuine[at + 1 :])
    shown = laptop.reboot()
    story.step("the secret stays in", held=is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain names the file (exit 6)",
        held=explained.code == 6 and "/boot/initramfs.img" in explained.out,
    )
    refused = laptop.aemseal("reseal")
    story.step("nothing can be sealed from that boot", held=refused.code == 6)
    image.write_bytes(genuine)


def _rollback(laptop: Laptop, story: Story, update: Update, target: Path) -> None:
    print(f"5. Rollback: the old {update.role} is put back")
    shutil.copyfile(update.old, target)
    shown = laptop.reboot()
    story.step("the secret stays in", held=is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain names it, and says that it is the retired one",
        held=explained.code == 6
        and "retired" in explained.out
        and update.known_by in explained.out,
    )
    shutil.copyfile(update.new, target)
    shown = laptop.reboot()
    story.step("the accepted boot still shows the secret", held=is_shown(shown))

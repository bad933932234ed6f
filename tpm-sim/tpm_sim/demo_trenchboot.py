# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo on a laptop that TrenchBoot launches: sighted updates, and blind ones.

TrenchBoot keeps the multiboot information in PCR 18, and in it the length of every
file: an update of the same length is foreseen whole, a longer one but for that PCR.
"""

from __future__ import annotations

from tpm_sim.boot_directory import pack_initramfs
from tpm_sim.demo_laptop import (
    SECRET,
    Laptop,
    Story,
    boot_and_confirm,
    is_not_sealed_yet,
    is_refused,
    is_shown,
    rebuilt,
)
from tpm_sim.machine import Machine

_NEW_FILE = "usr/lib/firmware/touchpad.bin"


def tell(machine: Machine, story: Story) -> None:
    """Tell the whole story on one machine."""
    laptop = Laptop(machine)
    _enrol(laptop, story)
    _update_of_same_length(laptop, story)
    _longer_update(laptop, story)
    _evil_maid(laptop, story)


def _enrol(laptop: Laptop, story: Story) -> None:
    print("1. A first boot without aemseal; then enrol, in two halves")
    laptop.reboot()
    half = laptop.aemseal("enrol", "text", stdin=SECRET, quiet=True)
    half.show_end(2)
    story.step(
        "enrol builds the hook in, seals nothing, says why and what to do (exit 4)",
        held=half.code == 4
        and "PCR 18 holds the multiboot information" in half.told
        and "the initramfs grew by" in half.told
        and "reboot now, then enrol again" in half.told
        and "No aemseal vault was found" in half.told,
    )
    shown = laptop.reboot()
    story.step(
        "that boot says what enrol foretold, and no secret",
        held=is_not_sealed_yet(shown),
    )
    whole = laptop.aemseal("enrol", "text", stdin=SECRET)
    story.step(
        "enrol finds the boot that it built, and seals to it",
        held=whole.code == 0 and "of this boot came as predicted" in whole.told,
    )
    shown = laptop.reboot()
    story.step("the next boot shows the secret", held=is_shown(shown))


def _update_of_same_length(laptop: Laptop, story: Story) -> None:
    print("2. An update of the same length: the kernel")
    print("    (the same kernel with another build number stands for it: real ones are")
    print("    seldom equally long. Any other Xen, whatever its length, goes as in 3.)")
    kernel = laptop.boot_directory.kernel
    kernel.write_bytes(rebuilt(kernel.read_bytes()))
    staged = laptop.aemseal("reseal", "--accept", "kernel")
    story.step("accepted by name, the new boot is staged", held=staged.code == 0)
    boot_and_confirm(laptop, story)


def _longer_update(laptop: Laptop, story: Story) -> None:
    print(f"3. A longer update: the initramfs, with {_NEW_FILE} added")
    image = laptop.boot_directory.initramfs
    more = pack_initramfs({_NEW_FILE: b"what a new touchpad wants to be told\n"})
    image.write_bytes(image.read_bytes() + more)
    predicted = laptop.aemseal("predict")
    story.step(
        "predict gives what it can, and refuses PCR 18 with the reason (exit 4)",
        held=predicted.code == 4
        and f"the initramfs grew by {len(more)} bytes" in predicted.out,
    )
    refused = laptop.aemseal("reseal")
    story.step(
        "reseal stages nothing, and warns before the reboot (exit 4)",
        held=refused.code == 4 and "the next boot will be blind" in refused.told,
    )
    shown = laptop.reboot()
    story.step("the boot is blind: the secret stays in", held=is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain says that all that could be predicted came so, and what is not proven",
        held=explained.code == 6
        and "all that could be predicted of it came as predicted" in explained.out
        and "Nothing proves the command lines" in explained.out,
    )


def _evil_maid(laptop: Laptop, story: Story) -> None:
    print("4. The same blind boot with an evil maid: one byte of the kernel besides")
    kernel = laptop.boot_directory.kernel
    changed = bytearray(kernel.read_bytes())
    changed[len(changed) // 2] ^= 1
    kernel.write_bytes(changed)
    shown = laptop.reboot()
    story.step("the secret stays in", held=is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain says that it is not as predicted, and names the kernel (exit 6)",
        held=explained.code == 6
        and "Do not trust this boot unless you changed /boot/vmlinuz" in explained.out
        and "came as predicted" not in explained.out,
    )

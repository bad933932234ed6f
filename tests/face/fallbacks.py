# SPDX-License-Identifier: GPL-2.0-or-later
"""A second measured entry in grub.cfg, and how a person starts it."""

from __future__ import annotations

from laptop import Laptop
from tpm_sim.grub import write_environment
from tpm_sim.initramfs import HookRun

TITLE = "Rescue Qubes, with Xen hypervisor"
OLD_KERNEL = "/boot/vmlinuz-old"
GRUB, CONFIG = "/boot/grub/grub.cfg", "/etc/aemseal.yaml"


def entries_with(grub: str, title: str = TITLE, **names: str) -> str:
    """Return grub.cfg with one more entry: the first with other files."""
    entry = grub[grub.index("menuentry 'AEM") : grub.index("menuentry 'Qubes")]
    entry = entry.replace("AEM Qubes, with Xen hypervisor", title)
    entry = entry.replace("'aem-xen'", f"'{title[:6].lower()}'")
    for name, other in ({"vmlinuz": "vmlinuz-old"} | names).items():
        entry = entry.replace(f"\t/{name} ", f"\t/{other} ")
    return grub + entry


def config_with(laptop: Laptop, *titles: str) -> str:
    """Return the configuration with these fallback entries."""
    listed = "".join(f'  - "{title}"\n' for title in titles)
    return laptop.path(CONFIG).read_text() + f"fallback_entries:\n{listed}"


def add_fallback(laptop: Laptop) -> None:
    """Give the laptop a second entry with an older kernel, and name it."""
    laptop.write(OLD_KERNEL, b"the kernel of last month\n" * 99)
    laptop.write(GRUB, entries_with(laptop.path(GRUB).read_text()))
    laptop.write(CONFIG, config_with(laptop, TITLE))


def start(laptop: Laptop, title: str = TITLE) -> HookRun | None:
    """Reboot into an entry once, as `grub-reboot` or a key at the menu does."""
    environment = laptop.path(GRUB).with_name("grubenv")
    write_environment(environment, {b"next_entry": title.encode()})
    return laptop.reboot()

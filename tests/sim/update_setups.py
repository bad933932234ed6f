# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine boots, as data: its files, and the grub.cfg that loads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from tpm_sim.boot_directory import BOOT_UUID, GRUB_HEADER
from tpm_sim.grub import write_environment
from tpm_sim.models import Firmware, MachineModel, PolicyRule, TrenchbootModel

TBOOT = "/tboot.gz"
XEN = "/xen.gz"
KERNEL = "/vmlinuz"
INITRAMFS = "/initramfs.img"
XEN_EFI = "/xen-4.17.efi"
SKL = "/skl.bin"

_ESP = "efi/EFI/qubes"
"""Where a UEFI Xen and what it loads lie, below /boot."""

_SECTION = "vmlinuz"


class Form(Enum):
    """How a machine is launched; the words of the table at the end of a run."""

    TBOOT = "tboot"
    MULTIBOOT = "TrenchBoot by multiboot"
    UEFI = "TrenchBoot by UEFI"

    @classmethod
    def of(cls, model: MachineModel) -> Form:
        """Return the form that a machine's entries have."""
        if not isinstance(model, TrenchbootModel):
            return cls.TBOOT
        return cls.UEFI if model.firmware is Firmware.UEFI else cls.MULTIBOOT


@dataclass(frozen=True)
class Loaded:
    """A line that loads a file: GRUB's path, the words behind it."""

    path: str
    words: str = ""
    nounzip: bool = False

    def line(self, command: str) -> str:
        """Return the line of grub.cfg."""
        option = "--nounzip " if self.nounzip else ""
        words = f" {self.words}" if self.words else ""
        return f"\t{command}\t{option}{self.path}{words}"


@dataclass(frozen=True)
class Menu:
    """How grub.cfg is laid out, and how the entry that boots is chosen.

    `before` is the number of entries in front of it that are not measured; `chosen` is
    "number", "id", "title", or "plain" for an entry that is not measured.
    """

    title: str = "AEM Qubes, with Xen hypervisor"
    before: int = 0
    chosen: str = "number"
    is_next: bool = False
    comment: str = ""

    @property
    def environment(self) -> dict[bytes, bytes]:
        """The variables of grubenv."""
        words = {
            "number": str(self.before),
            "id": "aem-xen",
            "title": self.title,
            "plain": "plain-last",
        }
        chosen = words[self.chosen].encode()
        if not self.is_next:
            return {b"saved_entry": chosen}
        return {b"saved_entry": b"aem-xen", b"next_entry": chosen}


@dataclass(frozen=True)
class Setup:
    """A boot directory. `files` are by GRUB's path; a UEFI Xen's own lie on the ESP.

    `kernel` is tboot, or Xen; of a UEFI Xen its words are the options of its
    configuration, and the modules those that it names. `slaunch_modules` are SINIT
    files or skl.bin. `note` is a comment in Xen's configuration. `policy` is what the
    owner last put into the TPM, the number of times beside it; 0 is the machine's own.
    """

    form: Form
    files: Mapping[str, bytes] = field(repr=False)
    kernel: Loaded
    modules: tuple[Loaded, ...]
    slaunch_modules: tuple[str, ...] = ()
    has_slaunch: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    menu: Menu = field(default_factory=Menu)
    note: str = ""
    policy: tuple[PolicyRule, ...] = ()
    policy_number: int = 0

    def with_file(self, path: str, content: bytes) -> Setup:
        """Return the setup with another file at this path."""
        return replace(self, files={**self.files, path: content})

    def without_file(self, path: str) -> Setup:
        """Return the setup with a file gone that its entry still loads."""
        files = {name: each for name, each in self.files.items() if name != path}
        return replace(self, files=files)

    def with_module(self, number: int, **changes: Any) -> Setup:
        """Return the setup with one module's line changed."""
        modules = list(self.modules)
        modules[number] = replace(modules[number], **changes)
        return self.with_modules(modules)

    def with_modules(self, modules: Sequence[Loaded]) -> Setup:
        """Return the setup with other modules."""
        return replace(self, modules=tuple(modules))

    @property
    def used_paths(self) -> set[str]:
        """The files that the entry loads."""
        modules = {module.path for module in self.modules}
        return {self.kernel.path, *modules, *self.slaunch_modules}

    @property
    def grub_cfg(self) -> str:
        """The text of grub.cfg."""
        plain = [_PLAIN.format(number) for number in range(self.menu.before)]
        settings = [f"set {name}='{text}'" for name, text in self.variables.items()]
        comment = [f"# {self.menu.comment}"] if self.menu.comment else []
        parts = (*settings, *comment, *plain, self._entry(), _PLAIN.format("last"))
        return GRUB_HEADER + "\n".join(parts) + "\n"

    @property
    def xen_cfg(self) -> str:
        """The text of a UEFI Xen's configuration."""
        options = f"options={self.kernel.words}"
        keys = ["kernel", "ramdisk", "ucode"]
        lines = [
            f"{key}={module.path[1:]}" + (f" {module.words}" if module.words else "")
            for key, module in zip(keys, self.modules, strict=False)
        ]
        note = [f"# {self.note}"] if self.note else []
        return "\n".join((*note, f"[{_SECTION}]", options, *lines, ""))

    def place(self, path: str) -> str:
        """Return where a file lies below /boot."""
        is_esp = self.form is Form.UEFI and path not in self.slaunch_modules
        return f"{_ESP}{path}" if is_esp else path[1:]

    def write(self, root: Path, before: Setup | None = None) -> None:
        """Put everything below root/boot; `before` is what was written there last.

        Files are overwritten in place, and those that no entry loads are removed.
        """
        boot = root / "boot"
        kept = (
            {before.place(path): each for path, each in before.files.items()}
            if (before)
            else {}
        )
        files = {
            self.place(path): self.files[path]
            for path in self.used_paths & self.files.keys()
        }
        for name in kept.keys() - files.keys():
            (boot / name).unlink(missing_ok=True)
        for name, content in files.items():
            path = boot / name
            if kept.get(name) is not content or not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        (boot / "grub").mkdir(parents=True, exist_ok=True)
        (boot / "grub/grub.cfg").write_text(self.grub_cfg, encoding="utf-8")
        write_environment(boot / "grub/grubenv", self.menu.environment)
        if self.form is Form.UEFI:
            config = (boot / _ESP / XEN_EFI[1:]).with_suffix(".cfg")
            config.write_text(self.xen_cfg, encoding="utf-8")

    def _entry(self) -> str:
        lines = [f"\tsearch --no-floppy --fs-uuid --set=root {BOOT_UUID}"]
        if self.form is not Form.TBOOT and self.has_slaunch:
            lines.insert(0, "\tslaunch")
        device = ""
        if self.form is Form.UEFI:
            device = "($root_dev)"
            lines[-1:] = _DEVICES
            lines.append(f"\tchainloader\t/EFI/qubes{self.kernel.path} {_SECTION}")
        else:
            lines.append(self.kernel.line("multiboot2"))
            lines += [module.line("module2") for module in self.modules]
        lines += [f"\tslaunch_module\t{device}{path}" for path in self.slaunch_modules]
        inside = "\n".join(lines)
        return (
            f"menuentry '{self.menu.title}' --class xen $menuentry_id_option "
            f"'aem-xen' {{\n{inside}\n}}"
        )

    def __str__(self) -> str:
        """Show what a person needs to see of a failure."""
        files = "".join(
            f"{path}: {len(self.files[path])} bytes, {self.files[path][:32].hex()}\n"
            if path in self.files
            else f"{path}: gone\n"
            for path in sorted(self.used_paths)
        )
        config = f"{self.xen_cfg}\n" if self.form is Form.UEFI else ""
        return f"{self.grub_cfg}{self.menu.environment}\n{config}{files}"


_DEVICES = (
    '\tset esp_dev="$root"',
    f"\tsearch --no-floppy --fs-uuid --set=root {BOOT_UUID}",
    '\tset root_dev="$root"',
    '\tset root="$esp_dev"',
)
_PLAIN = (
    "menuentry 'Plain {0}' --class os $menuentry_id_option 'plain-{0}' {{\n"
    "\tlinux\t/vmlinuz root=/dev/sda1\n}}"
)

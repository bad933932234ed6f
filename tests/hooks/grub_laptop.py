# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with the generator in its /etc/grub.d, and a grub-mkconfig to run it.

grub-mkconfig, its library, 00_header and 20_linux_xen are the distribution's, but for
the folders that they begin their paths with. Stand-ins are grub-probe, which asks
devices, grub-mkrelpath, since /boot is a plain folder here, and grub-editenv, which
writes into the /boot of the machine that it runs on.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.boot_directory import BOOT_UUID, LUKS_UUID, BootDirectory
from tpm_sim.cache import PROJECT, Cache
from tpm_sim.disk import Disk
from tpm_sim.grub import GrubRun, LoadedEntry, entry_of, run_grub

GENERATOR = PROJECT / "boot-hooks/grub.d/99_linux_xen_aemseal"
ROOT_DEVICE = "/dev/mapper/qubes_dom0-root"
LUKS_WORD = f"rd.luks.uuid=luks-{LUKS_UUID}"
SHUT = "rd.shell=0 rd.emergency=poweroff noresume"
PROBED: Mapping[str, str] = {
    "device": ROOT_DEVICE,
    "fs_uuid": BOOT_UUID,
    "fs": "ext2",
    "partmap": "msdos",
    "abstraction": "",
    "compatibility_hint": "hd0,msdos1",
    "hints_string": "--hint-bios=hd0,msdos1",
}
"""What the stand-in for grub-probe answers, by its --target."""

ESP_PROBED: Mapping[str, str] = {
    "device": "/dev/esp",
    "fs_uuid": "5E1F-20AA",
    "fs": "fat",
    "partmap": "gpt",
    "abstraction": "",
    "compatibility_hint": "hd0,gpt1",
    "hints_string": "--hint-efi=hd0,gpt1",
}
"""And what of the EFI system partition."""

_GRUB_PROBE = """\
#!/bin/sh
# Stands for grub-probe.
target='' of=root
for word; do
    case $word in
    --target=*) target=${word#*=} ;;
    -t) target=next ;;
    */boot/efi | /dev/esp) of=esp ;;
    *) [ "$target" != next ] || target=$word ;;
    esac
done
exec cat "$0.says/$of/$target" 2>/dev/null
"""
_GRUB_MKRELPATH = """\
#!/bin/sh
# Stands for grub-mkrelpath, on a machine whose /boot and EFI partition are mounted.
case $1 in
*/boot/efi*) printf '%s\\n' "${1##*/boot/efi}" ;;
*/boot*) printf '%s\\n' "${1##*/boot}" ;;
*) cat "$0.says" 2>/dev/null || echo / ;;
esac
"""
_GRUB_EDITENV = """\
#!/bin/sh
# Stands for grub-editenv.
"""
_DEFAULTS: Mapping[str, str] = {
    "GRUB_DISTRIBUTOR": "Qubes",
    "GRUB_TERMINAL": "console",
    "GRUB_DEFAULT": "0",
    "GRUB_AEMSEAL": "true",
    "GRUB_CMDLINE_LINUX": f"{LUKS_WORD} quiet",
    "GRUB_CMDLINE_XEN": "console=none",
    "GRUB_CMDLINE_TBOOT": "logging=memory",
}


@dataclass(frozen=True, slots=True)
class Written:
    """The grub.cfg that was written, and what was told on the way."""

    path: Path
    told: str

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def ids(self) -> list[str]:
        """The ids of the generator's entries and submenus, in order."""
        return re.findall(r"\$menuentry_id_option '(aemseal-[^']*)'", self.text)

    @property
    def words(self) -> list[str]:
        """What the generator itself told, a line each."""
        marked = [e for e in self.told.splitlines() if e.startswith("aemseal: ")]
        return [each.removeprefix("aemseal: ") for each in marked]


class GrubLaptop:
    """A root with what grub-mkconfig reads; `defaults` is /etc/default/grub."""

    def __init__(self, root: Path, cache: Cache, shell: str = "sh") -> None:
        self.root, self.cache = root, cache
        self.defaults = dict(_DEFAULTS)
        self.probed = dict(PROBED)
        self._install(shell)

    def _install(self, shell: str) -> None:
        taken = self.cache.grub_config
        shutil.copytree(taken, self.root, dirs_exist_ok=True)
        for each in (self.root / "etc/grub.d").iterdir():
            if each.name not in ("00_header", "20_linux_xen", "41_custom"):
                each.unlink()
        (self.root / "boot/grub").mkdir(parents=True, exist_ok=True)
        self.write("usr/sbin/grub-probe", _GRUB_PROBE, 0o755)
        self.write("usr/bin/grub-mkrelpath", _GRUB_MKRELPATH, 0o755)
        self.write("usr/bin/grub-editenv", _GRUB_EDITENV, 0o755)
        for name in ("usr/sbin/grub-mkconfig", "usr/share/grub/grub-mkconfig_lib"):
            self.edit(name, '="/usr', f'="{self.root}/usr')
        self.edit("usr/sbin/grub-mkconfig", '="/etc"', f'="{self.root}/etc"')
        self.edit("etc/grub.d/20_linux_xen", " /boot/", f" {self.root}/boot/")
        run = f"#!/bin/sh\nexec {shell} {GENERATOR}\n"
        self.write(f"etc/grub.d/{GENERATOR.name}", run, 0o755)

    def write(self, inside: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def edit(self, inside: str, old: str, new: str) -> None:
        path = self.root / inside
        text = path.read_text(encoding="utf-8")
        assert old in text, (inside, old)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def stock(self, name: str) -> Path:
        """Return where a generator of the distribution's lies."""
        return self.root / "etc/grub.d" / name

    def add_kernel(self, version: str, content: bytes = b"dom0's kernel") -> Path:
        """Put a kernel there, with its initramfs and its configuration."""
        boot = self.root / "boot"
        (boot / f"vmlinuz-{version}").write_bytes(content)
        (boot / f"initramfs-{version}.img").write_bytes(b"an initramfs")
        (boot / f"config-{version}").write_text("CONFIG_XEN_DOM0=y\n")
        return boot / f"vmlinuz-{version}"

    def add_xen(self, version: str) -> Path:
        """Put the distribution's Xen there, by whatever version."""
        path = self.root / f"boot/xen-{version}.gz"
        shutil.copyfile(self.cache.xen_old, path)
        return path

    def add_tboot(self) -> None:
        shutil.copyfile(self.cache.tboot, self.root / "boot/tboot.gz")

    def with_versions(self, made: BootDirectory) -> None:
        """Give what a simulated machine boots by BIOS the names that packages give."""
        made.xen.rename(made.xen.with_name("xen-4.17.5.gz"))
        made.kernel.rename(made.kernel.with_name("vmlinuz-6.6.68-1"))
        made.initramfs.rename(made.initramfs.with_name("initramfs-6.6.68-1.img"))
        made.kernel.with_name("config-6.6.68-1").write_text("CONFIG_XEN_DOM0=y\n")

    def mkconfig(self) -> Written:
        """Run grub-mkconfig; it has GRUB check the syntax of what it wrote."""
        lines = [f"{name}='{value}'\n" for name, value in self.defaults.items()]
        self.write("etc/default/grub", "".join(lines))
        for device, probed in (("root", self.probed), ("esp", ESP_PROBED)):
            for target, answer in probed.items():
                said = f"{answer}\n" if answer else ""
                self.write(f"usr/sbin/grub-probe.says/{device}/{target}", said)
        path = self.root / "boot/grub/grub.cfg"
        done = subprocess.run(
            ["dash", str(self.root / "usr/sbin/grub-mkconfig"), "-o", str(path)],
            # It wants root; only its shell tells it who that is.
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "EUID": "0",
                "AEMSEAL_ROOT": str(self.root),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stderr, done.stderr
        assert "not found" not in done.stderr, done.stderr
        return Written(path, done.stderr)

    # --- what GRUB makes of it ---

    def chosen(self, default: str = "") -> GrubRun:
        """Let GRUB run what was written, with another default where one is given."""
        path = self.root / "boot/grub/grub.cfg"
        if default:
            text = path.read_text(encoding="utf-8")
            path = path.with_name("chosen.cfg")
            path.write_text(f'{text}\nset default="{default}"\n', encoding="utf-8")
        return run_grub(self.cache.grub_emu, path)

    def loaded(self, default: str) -> LoadedEntry:
        """Return what GRUB loads for one of the generator's entries, by its id."""
        entry = entry_of(self.chosen(default))
        assert entry is not None
        disk = Disk(self.root, self.cache)
        for each in (entry.kernel, *entry.modules, *entry.launch_modules):
            disk.resolve(each.path)
        return entry

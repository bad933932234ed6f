# SPDX-License-Identifier: GPL-2.0-or-later
"""A plausible /boot of a Qubes OS laptop with Anti Evil Maid, from real packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.models import MachineModel, TbootModel
from tpm_sim.tboot_image import of_version

LUKS_UUID = "3f2a7c61-9c0e-4a55-8f0d-5d1f6f1c2b30"
LUKS_PASSPHRASE = b"correct horse battery staple"
_TOOL_TIMEOUT = 60.0
_LUKS_SIZE = 32 << 20
"""Bytes of the sparse file with the LUKS header; the header itself is 16 MiB."""

INITRAMFS_TREE: Mapping[str, bytes] = {
    "init": b"#!/bin/sh\n# Stands for dracut's init.\n",
    "etc/machine": b"a simulated laptop\n",
}

# As grub-mkconfig begins every grub.cfg.
GRUB_HEADER = """\
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
set timeout=5
"""

# The form of Anti Evil Maid's grub.d/19_linux_xen_tboot.
_ENTRIES = """\
menuentry 'AEM Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'aem-xen' {{
\tinsmod part_msdos
\tinsmod ext2
\tset root='hd0,msdos1'
\tif [ x$feature_platform_search_hint = xy ]; then
\t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1 {boot_uuid}
\telse
\t  search --no-floppy --fs-uuid --set=root {boot_uuid}
\tfi
\techo\t'Loading tboot ...'
\tmultiboot2\t/tboot.gz placeholder {tboot_args}
\techo\t'Loading Xen ...'
\tmodule2\t/{xen} placeholder {xen_args} ${{xen_rm_opts}}
\techo\t'Loading Linux ...'
\tmodule2\t/{kernel} placeholder {kernel_args}
\techo\t'Loading initial ramdisk ...'
\tmodule2\t/{initramfs}
{more}}}
menuentry 'Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'plain-xen' {{
\tmultiboot2\t/{xen} placeholder {xen_args}
\tmodule2\t/{kernel} placeholder {kernel_args}
\tmodule2\t/{initramfs}
}}
"""

BOOT_UUID = "7d0c9e1e-2f60-4e2f-b2a5-4a0e4b0f7a11"


@dataclass(frozen=True, slots=True)
class BootDirectory:
    """A machine's /boot: `root` is the machine's root, the names are below /boot.

    `launch_modules` are SINIT files or skl.bin; TrenchBoot's machines have no tboot.
    Where Xen is a UEFI program, `xen_config` is its configuration, and Xen, kernel and
    initramfs are those on the EFI system partition.
    """

    root: Path
    grub_cfg: Path
    tboot: Path
    xen: Path
    kernel: Path
    initramfs: Path
    luks_header: Path
    launch_modules: tuple[Path, ...] = ()
    xen_config: Path | None = None


def make_boot_directory(
    root: Path,
    cache: Cache | None = None,
    *,
    xen: Path | None = None,
    kernel: Path | None = None,
    initramfs: Mapping[str, bytes] | Path = INITRAMFS_TREE,
    tboot_args: str = "logging=memory,serial ${GRUB_CMDLINE_TBOOT}",
    xen_args: str = "console=none dom0_mem=min:1024M dom0_mem=max:4096M ucode=scan",
    kernel_args: str = "",
    more_modules: Sequence[str] = (),
    model: MachineModel | None = None,
) -> BootDirectory:
    """Build root/boot and a disk with a real LUKS2 header; return where all lies.

    Xen and kernel are the cache's older Xen and its kernel unless given; they are
    copied under fixed names, as a Xen respin does. `initramfs` is a tree to pack, or a
    file. `more_modules` are lines such as "module2 /extra.bin arg". `model` says which
    version of tboot is wanted and which SINIT modules.
    """
    cache = cache or Cache.default()
    tboot_version, sinit_files = "", {}
    if isinstance(model, TbootModel):
        tboot_version = model.tboot_version
        sinit_files = {name: acm.content for name, acm in model.sinit_files}
    boot = root / "boot"
    made = BootDirectory(
        root=root,
        grub_cfg=boot / "grub/grub.cfg",
        tboot=boot / "tboot.gz",
        xen=boot / "xen.gz",
        kernel=boot / "vmlinuz",
        initramfs=boot / "initramfs.img",
        luks_header=root / "dev/disk/by-uuid" / LUKS_UUID,
        launch_modules=tuple(boot / name for name in sinit_files),
    )
    made.grub_cfg.parent.mkdir(parents=True, exist_ok=True)
    install_tboot(cache, made.tboot, tboot_version)
    for path, content in zip(made.launch_modules, sinit_files.values(), strict=True):
        path.write_bytes(content)
    shutil.copyfile(xen or cache.xen_old, made.xen)
    shutil.copyfile(kernel or cache.linux, made.kernel)
    write_initramfs(made.initramfs, initramfs)
    lines = (*more_modules, *(f"module2 /{name}" for name in sinit_files))
    made.grub_cfg.write_text(
        GRUB_HEADER
        + _ENTRIES.format(
            boot_uuid=BOOT_UUID,
            tboot_args=tboot_args,
            xen=made.xen.name,
            xen_args=xen_args,
            kernel=made.kernel.name,
            kernel_args=kernel_args or default_kernel_args(),
            initramfs=made.initramfs.name,
            more="".join(f"\t{line}\n" for line in lines),
        ),
        encoding="utf-8",
    )
    if not made.luks_header.exists():
        make_luks_header(made.luks_header, LUKS_UUID)
    return made


def install_tboot(cache: Cache, path: Path, version: str = "") -> None:
    """Write tboot.gz: the package's, or one that stands for another version."""
    content = cache.tboot.read_bytes()
    path.write_bytes(of_version(content, version) if version else content)


def default_kernel_args() -> str:
    """Return dom0's kernel arguments as Anti Evil Maid's entry has them."""
    return (
        "root=/dev/mapper/qubes_dom0-root ro "
        f"rd.luks.uuid=luks-{LUKS_UUID} rd.lvm.lv=qubes_dom0/root "
        f"aem.uuid={BOOT_UUID} rd.luks.key=/tmp/aem-keyfile rd.luks.crypttab=no "
        "rd.shell=0 rd.emergency=poweroff rhgb quiet"
    )


def write_initramfs(path: Path, initramfs: Mapping[str, bytes] | Path) -> None:
    """Write an initramfs: a copy of a file, or a tree packed."""
    if isinstance(initramfs, Path):
        shutil.copyfile(initramfs, path)
    else:
        path.write_bytes(pack_initramfs(initramfs))


def pack_initramfs(tree: Mapping[str, bytes]) -> bytes:
    """Pack a newc archive with cpio: the same tree always gives the same bytes."""
    with tempfile.TemporaryDirectory(prefix="initramfs-") as scratch:
        folder = Path(scratch)
        for name, content in tree.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o755)
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*")
        )
        for name in [".", *names]:
            (folder / name).chmod(0o755)
            os.utime(folder / name, (0, 0))
        finished = subprocess.run(
            [
                "cpio",
                *("--quiet", "--create", "--format=newc"),
                *("--owner=0:0", "--reproducible"),
            ],
            cwd=folder,
            input="\n".join(names).encode() + b"\n",
            capture_output=True,
            check=False,
            timeout=_TOOL_TIMEOUT,
        )
    if finished.returncode != 0:
        raise SimulationError(f"cpio failed: {finished.stderr!r}")
    return finished.stdout


def make_luks_header(path: Path, uuid: str) -> None:
    """Format a sparse file as LUKS2, with a key derivation that takes no time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(_LUKS_SIZE)
    finished = subprocess.run(
        [
            "cryptsetup",
            "luksFormat",
            *("--type", "luks2", "--batch-mode", "--uuid", uuid),
            *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
            *("--key-file", "-"),
            str(path),
        ],
        input=LUKS_PASSPHRASE,
        capture_output=True,
        check=False,
        timeout=_TOOL_TIMEOUT,
    )
    if finished.returncode != 0:
        raise SimulationError(f"cryptsetup failed: {finished.stderr!r}")

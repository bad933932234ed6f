# SPDX-License-Identifier: GPL-2.0-or-later
"""A plausible /boot of a Qubes OS laptop with TrenchBoot's Anti Evil Maid.

Xen is Debian's with an MLE header patched in, skl.bin and the SINIT modules are
stand-ins: no archive ships what TrenchBoot needs. The entries are those of etc/grub.d/
19_linux_xen_trenchboot of TrenchBoot's qubes-antievilmaid, for 0.5.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tpm_sim.boot_directory import (
    BOOT_UUID,
    GRUB_HEADER,
    INITRAMFS_TREE,
    LUKS_UUID,
    BootDirectory,
    default_kernel_args,
    make_luks_header,
    write_initramfs,
)
from tpm_sim.cache import Cache
from tpm_sim.models import Processor, TrenchbootModel
from tpm_sim.slr import make_skl
from tpm_sim.xen_image import install_launchable

_LEGACY_ENTRY = """\
menuentry 'AEM Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'aem-xen' {{
\techo\t'Enabling slaunch ...'
\tslaunch
\tinsmod part_msdos
\tinsmod ext2
\tset root='hd0,msdos1'
\tsearch --no-floppy --fs-uuid --set=root {boot_uuid}
\techo\t'Loading Xen ...'
\tmultiboot2\t/{xen} placeholder {xen_args} no-real-mode edd=off
\techo\t'Loading Linux ...'
\tmodule2\t/{kernel} placeholder {kernel_args}
\techo\t'Loading initial ramdisk ...'
\tmodule2\t/{initramfs}
{more}{launch_modules}}}
"""

_PLAIN_ENTRY = """\
menuentry 'Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'plain-xen' {{
\tmultiboot2\t/{xen} placeholder {xen_args}
\tmodule2\t/{kernel} placeholder {kernel_args}
\tmodule2\t/{initramfs}
}}
"""


def launch_files(model: TrenchbootModel) -> dict[str, bytes]:
    """Return what GRUB launches with, by name: skl.bin, or the SINIT modules."""
    if model.processor is Processor.AMD:
        return {"skl.bin": make_skl(model.skl_header)}
    return {name: acm.content for name, acm in model.sinit_files}


def make_trenchboot_directory(
    root: Path,
    model: TrenchbootModel,
    cache: Cache | None = None,
    *,
    xen: Path | None = None,
    kernel: Path | None = None,
    initramfs: Mapping[str, bytes] | Path = INITRAMFS_TREE,
    xen_args: str = "console=none dom0_mem=min:1024M dom0_mem=max:4096M ucode=scan",
    kernel_args: str = "",
    more_modules: Sequence[str] = (),
) -> BootDirectory:
    """Build root/boot for a model and a disk with a real LUKS2 header.

    `xen` is any xen.gz, which gets its MLE header on the way; all else is as
    `make_boot_directory` has it.
    """
    cache = cache or Cache.default()
    boot = root / "boot"
    files = launch_files(model)
    made = BootDirectory(
        root=root,
        grub_cfg=boot / "grub/grub.cfg",
        tboot=boot / "tboot.gz",
        xen=boot / "xen.gz",
        kernel=boot / "vmlinuz",
        initramfs=boot / "initramfs.img",
        luks_header=root / "dev/disk/by-uuid" / LUKS_UUID,
        launch_modules=tuple(boot / name for name in files),
    )
    made.grub_cfg.parent.mkdir(parents=True, exist_ok=True)
    install_launchable(xen or cache.xen_old, made.xen)
    shutil.copyfile(kernel or cache.linux, made.kernel)
    write_initramfs(made.initramfs, initramfs)
    for path, content in zip(made.launch_modules, files.values(), strict=True):
        path.write_bytes(content)
    modules = [f"slaunch_module\t/{each.name}" for each in made.launch_modules]
    made.grub_cfg.write_text(
        GRUB_HEADER
        + (_LEGACY_ENTRY + _PLAIN_ENTRY).format(
            boot_uuid=BOOT_UUID,
            xen=made.xen.name,
            xen_args=xen_args,
            kernel=made.kernel.name,
            kernel_args=kernel_args or default_kernel_args(),
            initramfs=made.initramfs.name,
            more="".join(f"\t{line}\n" for line in more_modules),
            launch_modules="".join(f"\t{line}\n" for line in modules),
        ),
        encoding="utf-8",
    )
    if not made.luks_header.exists():
        make_luks_header(made.luks_header, LUKS_UUID)
    return made

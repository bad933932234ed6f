# SPDX-License-Identifier: GPL-2.0-or-later
"""A plausible /boot of a Qubes OS laptop with TrenchBoot's Anti Evil Maid.

Xen is Debian's with an MLE header patched in, skl.bin and the SINIT modules are
stand-ins: no archive ships what TrenchBoot needs. The entries are those of etc/grub.d/
19_linux_xen_trenchboot of TrenchBoot's qubes-antievilmaid, for 0.5.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from tpm_sim.disk import ESP
from tpm_sim.efi_image import install_launchable_efi
from tpm_sim.models import Firmware, Processor, TrenchbootModel
from tpm_sim.slr import make_skl
from tpm_sim.xen_image import install_launchable

_LEGACY_ENTRIES = """\
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
menuentry 'Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'plain-xen' {{
\tmultiboot2\t/{xen} placeholder {xen_args}
\tmodule2\t/{kernel} placeholder {kernel_args}
\tmodule2\t/{initramfs}
}}
"""

_EFI_ENTRIES = """\
set esp_dev="$root"
search --no-floppy --fs-uuid --set=root {boot_uuid}
set root_dev="$root"
menuentry 'AEM Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'aem-xen' {{
\techo\t'Enabling slaunch ...'
\tslaunch
\tset root="$esp_dev"
\techo\t'Loading Xen ...'
\tchainloader\t/EFI/qubes/{xen} {section}
{more}{launch_modules}}}
menuentry 'Qubes, with Xen hypervisor' --class xen $menuentry_id_option 'plain-xen' {{
\tset root="$esp_dev"
\tchainloader\t/EFI/qubes/{xen} {section}
}}
"""

_XEN_CONFIG = """\
    [{section}]
    options=placeholder {xen_args} no-real-mode edd=off
    kernel={kernel} placeholder {kernel_args}
    ramdisk={initramfs}
"""


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

    `xen` is any xen.gz, or xen.efi, which gets its MLE header on the way.
    `more_modules` are lines of the entry, or of Xen's configuration ("ucode=..."). All
    else is as `make_boot_directory` has it.
    """
    cache = cache or Cache.default()
    is_efi = model.firmware is Firmware.UEFI
    made = _efi_paths(root, model) if is_efi else _legacy_paths(root, model)
    made.grub_cfg.parent.mkdir(parents=True, exist_ok=True)
    made.kernel.parent.mkdir(parents=True, exist_ok=True)
    if is_efi:
        install_launchable_efi(xen or cache.xen_old_efi, made.xen)
    else:
        install_launchable(xen or cache.xen_old, made.xen)
    shutil.copyfile(kernel or cache.linux, made.kernel)
    write_initramfs(made.initramfs, initramfs)
    for path, content in _launch_files(root, model).items():
        path.write_bytes(content)
    entries = _EFI_ENTRIES if is_efi else _LEGACY_ENTRIES
    words = {
        "boot_uuid": BOOT_UUID,
        "xen": made.xen.name,
        "xen_args": xen_args,
        "kernel": made.kernel.name,
        "kernel_args": kernel_args or default_kernel_args(),
        "initramfs": made.initramfs.name,
        "section": "vmlinuz",
    }
    text = GRUB_HEADER + entries.format(
        **words,
        more="" if is_efi else "".join(f"\t{line}\n" for line in more_modules),
        launch_modules="".join(
            f"\tslaunch_module\t{'($root_dev)' if is_efi else ''}/{each.name}\n"
            for each in made.launch_modules
        ),
    )
    made.grub_cfg.write_text(text, encoding="utf-8")
    if made.xen_config:
        more = "".join(f"    {line}\n" for line in more_modules)
        made.xen_config.write_text(_XEN_CONFIG.format(**words) + more, encoding="utf-8")
    if not made.luks_header.exists():
        make_luks_header(made.luks_header, LUKS_UUID)
    return made


def _launch_files(root: Path, model: TrenchbootModel) -> dict[Path, bytes]:
    """Return what GRUB launches with: skl.bin, or the SINIT modules."""
    boot = root / "boot"
    if model.processor is Processor.AMD:
        return {boot / "skl.bin": make_skl(model.skl_header)}
    return {boot / name: acm.content for name, acm in model.sinit_files}


def _legacy_paths(root: Path, model: TrenchbootModel) -> BootDirectory:
    boot = root / "boot"
    return BootDirectory(
        root=root,
        grub_cfg=boot / "grub/grub.cfg",
        tboot=boot / "tboot.gz",
        xen=boot / "xen.gz",
        kernel=boot / "vmlinuz",
        initramfs=boot / "initramfs.img",
        luks_header=root / "dev/disk/by-uuid" / LUKS_UUID,
        launch_modules=tuple(_launch_files(root, model)),
    )


def _efi_paths(root: Path, model: TrenchbootModel) -> BootDirectory:
    folder = root / ESP / "EFI/qubes"
    return replace(
        _legacy_paths(root, model),
        xen=folder / "xen-4.17.efi",
        kernel=folder / "aem-vmlinuz",
        initramfs=folder / "aem-initramfs.img",
        xen_config=folder / "xen-4.17.cfg",
    )

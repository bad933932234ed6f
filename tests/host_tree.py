# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's files below a folder, and a TPM of one bank, for tests of the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import AemsealError, BankError, TpmError
from aemseal.words.wanted import View, Wanted
from aemseal.world.config import Config
from aemseal.world.host import Host, LiveHost

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256

POLICY_INDEX, NO_INDEX, LOCKED_INDEX = 0x01C10131, 0x01200001, 0x01C10132
XEN_CFG = "/boot/efi/EFI/qubes/xen.cfg"
LOG = "/sys/kernel/security/txt/tpm20_binary_evtlog_tcg"
GRUB = "/boot/grub2/grub.cfg"
LUKS_UUID = "0f0e7a6c-0000-4000-8000-000000000001"
LUKS = f"/dev/disk/by-uuid/{LUKS_UUID}"

FILES: Mapping[str, bytes] = {
    LOG: b"the log",
    GRUB: b"menuentry 'Qubes' { multiboot /xen.gz placeholder }\n",
    "/boot/grub2/grubenv": b"# GRUB Environment Block\nsaved_entry=0\n",
    "/boot/grub2/custom.cfg": b"set timeout=1\n",
    "/boot/xen.gz": b"xen",
    "/boot/vmlinuz": b"kernel",
    XEN_CFG: b"[qubes]\noptions=console=vga\n",
    "/run/aemseal/record": b"aemseal-record 1\n",
    "/var/lib/aemseal/state.json": b"{}\n",
    "/var/lib/aemseal/baseline.json": b"{}\n",
    "/var/lib/aemseal/initramfs.json": b"{}\n",
}

XEN = Wanted("/boot/xen.gz", View.RAW)
XEN_AS_LOADED = Wanted("/boot/xen.gz", View.GRUB)
KERNEL = Wanted("/boot/vmlinuz", View.RAW)
GONE = Wanted("/boot/gone", View.RAW)
NO_TBOOT = Wanted("/boot/xen.gz", View.MLE, b"logging=memory")
NO_LUKS = Wanted("/boot/vmlinuz", View.LUKS)


LOOKS: Mapping[str, list[Wanted]] = {
    "xen": [XEN],
    "xen twice": [XEN, XEN_AS_LOADED, XEN],
    "all": [XEN, KERNEL],
    "none": [],
    "gone": [XEN, GONE, KERNEL],
    "gone first": [GONE, NO_LUKS],
    "no tboot": [XEN, NO_TBOOT],
    "no luks": [NO_LUKS, GONE],
}


def plant(root: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """Write the files below `root`."""
    for path, data in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return root


def sha256_only(algorithm: HashAlgorithm) -> PcrBank:
    """Answer like a TPM whose only bank is sha256, after a dynamic launch."""
    if algorithm is not SHA256:
        raise BankError(f"the TPM has no {algorithm} bank", "use sha256")
    return PcrBank.at_startup(algorithm).after_dynamic_launch()


def machine(root: Path, files: Mapping[str, bytes] = FILES) -> LiveHost:
    """Return a host with these files and that TPM."""
    return LiveHost(plant(root, files), sha256_only, Config(), one_index)


def one_index(index: int) -> bytes | None:
    """Answer like a TPM in which one NV index is defined, and one is locked."""
    if index == LOCKED_INDEX:
        raise TpmError(f"the TPM's NV index {index:#x} may not be read")
    return b"a policy" if index == POLICY_INDEX else None


def outcome(ask: Callable[[], object]) -> object:
    """Return what a question gave: its value, or its error's class and words."""
    try:
        return ask()
    except AemsealError as error:
        offset = getattr(error, "offset", None)
        return type(error), error.message, error.hint, str(error), offset


def questions(host: Host) -> dict[str, Callable[[], object]]:
    """Return every question of Host, and each of its ways to fail on these files."""
    asked: dict[str, Callable[[], object]] = {
        "log": host.event_log,
        "logs": lambda: list(host.event_logs()),
        "pcrs": lambda: host.pcrs(SHA256),
        "no bank": lambda: host.pcrs(SHA1),
        "grub": host.grub_config,
        "env": host.grub_env,
        "efi": host.is_efi,
        "hook": host.hook_record,
        "state": lambda: host.saved("state.json"),
        "baseline": lambda: host.saved("baseline.json"),
        "initramfs": lambda: host.saved("initramfs.json"),
        "xen.cfg": lambda: host.small_file(XEN_CFG),
        "no file": lambda: host.small_file("/boot/efi/EFI/xen/xen.cfg"),
    }
    for index in (POLICY_INDEX, NO_INDEX, LOCKED_INDEX):
        asked[f"nv {index:#x}"] = partial(host.nv_read, index)
    for path in ("/grub2/custom.cfg", "/boot/xen.gz", "/gone", "/grub2", "/a\0b"):
        asked[f"exists {path}"] = partial(host.grub_exists, path)
        asked[f"read {path}"] = partial(host.grub_read, path)
        asked[f"resolve {path}"] = partial(host.resolve, path)
    for name, wanted in LOOKS.items():
        for banks in ([SHA256], [SHA1, SHA256]):
            asked[f"look {name} {len(banks)}"] = partial(host.look, wanted, banks)
    return asked

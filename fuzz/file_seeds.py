# SPDX-License-Identifier: GPL-2.0-or-later
"""What fuzzing of aemseal's own files begins with, mostly as it writes them itself."""

from __future__ import annotations

import json

from aemseal.flows.journal import Journal
from aemseal.flows.state import KeptSecret, NextBootCheck, SealedBoot, VaultState
from aemseal.formats.file_list import FileKind, FileList, ListedFile, dump_lists
from aemseal.formats.slot import (
    MARK,
    Acceptance,
    AcceptedBranch,
    SealedPart,
    SealedSecret,
    VaultFile,
)
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.words.digest import HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.config import Medium
from aemseal.world.recording_format import (
    FACTS_FILE,
    MANIFEST_FILE,
    PCRS_FILE,
    Found,
    Recording,
    write_files,
)
from aemseal.world.storage_key import StorageKey
from aemseal.world.told import Told
from fuzz.image_seeds import BETWEEN

_SHA256 = HashAlgorithm.SHA256
_DIGESTS = {_SHA256: _SHA256.hash(b"xen")}
_UUID = "0f0e7a6c-1b5a-4c1e-9a53-6d0c5c2b9f11"


def records() -> list[bytes]:
    """The boot hook's records: of a boot that unsealed, and of one that did not."""
    head = "aemseal-record 1\nbank sha256\npcrs 13,17,18\npin " + "77" * 32 + "\n"
    luks = f"luks {_UUID} {'ab' * 32}\n"
    cap = f"cap {'cd' * 32}\n"
    return [
        f"{head}{luks}{cap}outcome unsealed\ncount 7\nbranch Xen-4.17.5\n".encode(),
        (
            f"{head.replace('record 1', 'record 3')}{luks}{cap}outcome unsealed\n"
            "count 7\nbranch Xen-4.17.5\nrole before-update\nsecret text text\n"
        ).encode(),
        f"{head}{luks * 2}outcome cap-failed\n".encode(),
        f"{head.replace('sha256', 'sha1')}outcome no-luks\n".encode(),
    ]


def vaults() -> list[bytes]:
    """A vault of one secret, in two parts."""
    parts = (SealedPart(b"\1" * 40, b"\2" * 60), SealedPart(b"\3", b"\4"))
    secret = SealedSecret("text", "text", pin=False, parts=parts)
    key = b"\0\x23\0\x0b" + bytes(40)
    return [VaultFile(1, "internal", 0x1A10AE0, key, bytes(32), (secret,)).to_bytes()]


def acceptances() -> list[bytes]:
    """An acceptance of one boot, and of two, and of one that is staged beside one."""
    one = AcceptedBranch(bytes(32), "Xen-4.17.5", (bytes(32), b"\x17" * 32))
    other = AcceptedBranch(b"\1" * 32, "Xen-4.17.7")
    return [
        Acceptance(1, "internal", 7, boots, bytes(32), b"\0\x18" * 20).to_bytes()
        for boots in ((one,), (one, other), (one, MARK, other))
    ]


def objects() -> list[bytes]:
    """JSON of every kind of value."""
    values = {"text": 'a"\\\u00e9', "number": 7, "flag": True, "none": None}
    nested = {"texts": ["a", "b"], "objects": [{"a": 1}, {}], "inner": {"b": -0.5e9}}
    return [json.dumps({**values, **nested}).encode(), b"{}", b'{"a": NaN}', b"[[[]]]"]


def lists() -> list[bytes]:
    """The files of two images that share some."""
    files = (
        ListedFile(".", FileKind.FOLDER, 0o755, "0:0", 0),
        ListedFile("init", FileKind.FILE, 0o755, "0:0", 4, "ab" * 32),
        ListedFile("bin/sh", FileKind.LINK, 0o777, "0:0", 4, "init"),
        ListedFile("dev/tpm0", FileKind.CHARACTER_DEVICE, 0o600, "0:0", 0, "10:224"),
    )
    one, other = FileList(_DIGESTS, files), FileList(_DIGESTS, files[1:])
    return [dump_lists([one]), dump_lists([one, other]), dump_lists([])]


def _baseline() -> Baseline:
    source = Source(
        SourceKind.FILE,
        path="/boot/xen.gz",
        cmdline=b"ucode=scan \xff",
        file_digests=_DIGESTS,
        version="4.17.5",
        view=View.GRUB,
        size=3,
        notes={"a": "b"},
    )
    xen = Measurement(18, _DIGESTS, Role.XEN, source, Calibrated.NOW)
    carried = Source(SourceKind.CARRIED, event=3)
    sinit = Measurement(17, _DIGESTS, Role.SINIT, carried, Calibrated.BASELINE)
    return Baseline("Xen 4.17.5", "tboot", "legacy", (sinit, xen))


def _state() -> VaultState:
    boot = SealedBoot("Xen 4.17.5", "2026-01-01T00:00:00Z", bytes(32), _baseline())
    return VaultState(
        generation=1,
        selection=PcrSelection.of(_SHA256, {13, 17, 18}),
        storage=StorageKey(0x81000001, b"\0\x0b" + bytes(32), b"serialized"),
        counter=0x01A10AE0,
        count=7,
        media=(Medium("internal", "/boot/aemseal"),),
        secrets=(KeptSecret("text", "text"),),
        baseline=_baseline(),
        accepted=(boot,),
        retired=(boot,),
        stale=("stick",),
        checked=NextBootCheck("staged", "2026-01-01T00:00:00Z"),
    )


def states() -> list[bytes]:
    """state.json."""
    return [_state().to_bytes()]


def journals() -> list[bytes]:
    """The journal of a move that was cut short."""
    return [Journal("reseal", 6, 7, _state()).to_bytes()]


def baselines() -> list[bytes]:
    """A baseline, as it is in state.json."""
    return [json.dumps(_baseline().to_json()).encode()]


def configs() -> list[bytes]:
    """aemseal's configuration, and Anti Evil Maid's behind it."""
    ours = b"""\
event_log: /var/log/launch.bin
pcrs: "sha256:13,17,18"
media:
  - {label: internal, path: /boot/aemseal}
  - label: stick
    path: '/run/media/stick'
initramfs_command: [dracut, --force]
"""
    aem = b"# comment\nSEAL=\"--pcr 13 --pcr 17\"\nSEAL='--pcr 13'\n"
    return [ours, b"# nothing\n" + BETWEEN + aem, b"a: &x [1]\nb: *x\n", b"--- {}\n..."]


def pcr_lists() -> list[bytes]:
    """The 24 PCRs of a TPM 1.2 as old kernels list them."""
    value = " ".join(["0A"] * 20)
    lines = "".join(f"PCR-{number:02}: {value} \n" for number in range(24))
    return [lines.encode()]


def recordings() -> list[bytes]:
    """A recording's three files, and one more."""
    xen = Wanted("/boot/xen.gz", View.RAW)
    told = Told("bank", "the TPM has no sha1 bank", "use sha256")
    recording = Recording(
        made="2026-01-01T00:00:00Z",
        tool="0.1.0",
        answers={
            ("event_logs",): (Found("/sys/log", b"log"),),
            ("grub_config",): Found("/boot/grub2/grub.cfg", b"menuentry"),
            ("grub_exists", "/a"): True,
            ("resolve", "/a"): "/boot/a",
            ("grub_env",): None,
            ("pcrs", "sha256"): PcrBank.at_startup(_SHA256),
            ("pcrs", "sha1"): told,
        },
        facts={xen: FileFacts(xen, 3, _DIGESTS, {"version": "4.17.5"})},
        refused={(xen, HashAlgorithm.SHA1): told},
        warnings=("it may hold a secret",),
    )
    files = write_files(recording)
    names = (MANIFEST_FILE, PCRS_FILE, FACTS_FILE)
    return [BETWEEN.join(files[each].replace(b" ", b"") for each in names) + BETWEEN]


def selections() -> list[bytes]:
    """Selections of PCRs, in both spellings."""
    return [b"sha256:13,17,18", b" --pcr 13 --pcr=17", b"sm3_256: 1 , 2"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUKS2 disk with a root file system in it, made without device mapper or root.

cryptsetup formats the image and hands out its volume key; the payload is encrypted
here, sector by sector, as dm-crypt does aes-xts-plain64 (IV: the sector's number, 64
bits little endian).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tpm_sim.boot_disk import make_file_system
from tpm_sim.cache import Cache

PASSPHRASE = b"correct horse battery staple"
_PAYLOAD_AT = 1 << 20
_SECTOR = 512
_SIZE = 24 << 20
_ROOT_UUID = "5b0c3a52-51a5-4a7c-9a55-2f0d6a1e0a11"
_PLAIN_UUID = "9c41f7d8-0a6e-4a0e-8f7e-6d1b0c2f4e53"
_TIMEOUT = 60.0

_INIT = """\
#!/bin/sh
exec >/dev/console 2>&1 </dev/console
/bin/busybox mount -t devtmpfs none /dev 2>/dev/null
echo "{verdict}"
echo "RECORD-BEGIN"
/bin/busybox cat /run/aemseal/record
echo "RECORD-END"
{more}
/bin/busybox sync
/bin/busybox poweroff -f
"""


def make_luks_root(
    image: Path, uuid: str, cache: Cache, verdict: str, more: str = ""
) -> None:
    """Write a LUKS2 image whose root says `verdict`, shows the hook's record, ends.

    `more` are lines of sh that its init runs before it powers off.
    """
    with image.open("wb") as disk:
        disk.truncate(_PAYLOAD_AT + _SIZE)
    _format(image, uuid)
    rewrite_luks_root(image, cache, verdict, more)


def rewrite_luks_root(
    image: Path, cache: Cache, verdict: str, more: str = "", files: Path | None = None
) -> None:
    """Write the root anew behind the header that is there: that one is not touched.

    So what was measured of the disk stays as it is. `files` is a folder whose files
    are laid over the root's; links in it stay links.
    """
    with tempfile.TemporaryDirectory(prefix="root-") as scratch:
        tree, plain = Path(scratch, "tree"), Path(scratch, "plain")
        _root_tree(tree, cache, _INIT.format(verdict=verdict, more=more))
        if files is not None:
            shutil.copytree(files, tree, symlinks=True, dirs_exist_ok=True)
        make_file_system(plain, tree, _ROOT_UUID, _SIZE, label="root")
        payload = plain.read_bytes()
    with image.open("r+b") as disk:
        disk.seek(_PAYLOAD_AT)
        disk.write(_through_xts(payload, _volume_key(image), encrypts=True))


def read_luks_root(image: Path) -> bytes:
    """Return the root's file system, decrypted: an ext4 image."""
    with image.open("rb") as disk:
        disk.seek(_PAYLOAD_AT)
        return _through_xts(disk.read(_SIZE), _volume_key(image), encrypts=False)


def make_plain_root(image: Path, cache: Cache, verdict: str) -> None:
    """Write a root that says `verdict` and lies on no encrypted disk: an impostor's.

    It has the label of the genuine one, "root", and another UUID.
    """
    with tempfile.TemporaryDirectory(prefix="root-") as scratch:
        tree = Path(scratch, "tree")
        _root_tree(tree, cache, _INIT.format(verdict=verdict, more=""))
        make_file_system(image, tree, _PLAIN_UUID, _SIZE, label="root")


def _root_tree(tree: Path, cache: Cache, init: str) -> None:
    for name in ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "usr/lib"):
        (tree / name).mkdir(parents=True)
    busybox = cache.folder / "busybox-static/bin/busybox"
    (tree / "bin/busybox").write_bytes(busybox.read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "etc/os-release").write_text("ID=simulated\n", encoding="ascii")
    (tree / "sbin/init").write_text(init, encoding="ascii")
    (tree / "sbin/init").chmod(0o755)


def _format(image: Path, uuid: str) -> None:
    """Make the header, cheap to open."""
    _cryptsetup(
        *("luksFormat", "--type", "luks2", "--batch-mode", "--uuid", uuid),
        *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
        *("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "960k"),
        *("--offset", str(_PAYLOAD_AT // _SECTOR), "--sector-size", str(_SECTOR)),
        *("--cipher", "aes-xts-plain64", "--key-size", "512"),
        *("--key-file", "-", str(image)),
    )


def _volume_key(image: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix="key-") as scratch:
        key = Path(scratch, "volume-key")
        _cryptsetup(
            *("luksDump", "--batch-mode", "--dump-volume-key"),
            *("--volume-key-file", str(key), "--key-file", "-", str(image)),
        )
        return key.read_bytes()


def _through_xts(data: bytes, key: bytes, *, encrypts: bool) -> bytes:
    cipher = algorithms.AES(key)
    result = bytearray()
    for number in range(len(data) // _SECTOR):
        sector = data[number * _SECTOR : (number + 1) * _SECTOR]
        both = Cipher(cipher, modes.XTS(number.to_bytes(16, "little")))
        way = both.encryptor() if encrypts else both.decryptor()
        result += way.update(sector)
    return bytes(result)


def _cryptsetup(*words: str) -> None:
    subprocess.run(
        ["cryptsetup", *words],
        input=PASSPHRASE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
        timeout=_TIMEOUT,
    )

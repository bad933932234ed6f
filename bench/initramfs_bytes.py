# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hook adds to an initramfs, in bytes and by where they come from."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

LIBCURL = "libcurl and what it needs"
_OTHER = "coreutils, util-linux, other"
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the programs", ("usr/lib/aemseal/*", "usr/lib/aem-calls/*", "etc/aemseal/*")),
    ("kernel modules", ("*.ko", "*.ko.*", "*/modules.*")),
    ("libtss2", ("*/libtss2-*",)),
    ("tpm2-tools", ("usr/bin/tpm2*",)),
    ("cryptsetup", ("*/cryptsetup", "*/libcryptsetup*", "*/libpopt*")),
    ("openssl", ("*/libcrypto*", "*/libssl*", "*/openssl*", "*/ossl-modules/*")),
    ("oathtool", ("*/oathtool", "*/liboath*")),
)
"""The first pattern that a path meets decides; paths are from the image's root."""

_NEEDED = re.compile(r"=> (/\S+)")
_TIMEOUT = 300.0


def libraries(ldd: str) -> frozenset[str]:
    """Return the file names of the libraries that ldd(1) lists, as linked against."""
    return frozenset(path.rpartition("/")[2] for path in _NEEDED.findall(ldd))


def group_of(path: str, drawn: Iterable[str]) -> str:
    """Name the group of a file; `drawn` are the names of libcurl and what it needs."""
    for group, patterns in _GROUPS:
        if any(fnmatch(path, pattern) for pattern in patterns):
            return group
    name = path.rpartition("/")[2]
    if any(name.startswith(each.partition(".so")[0] + ".so") for each in drawn):
        return LIBCURL
    return _OTHER


def by_group(
    without: Mapping[str, int], with_it: Mapping[str, int], drawn: Iterable[str]
) -> dict[str, int]:
    """Add up what the second image has beyond the first, largest group first.

    Images are bytes by path. A file that grew counts with what it grew by.
    """
    drawn, sums = tuple(drawn), Counter[str]()
    for path, size in with_it.items():
        sums[group_of(path, drawn)] += max(0, size - without.get(path, 0))
    return {group: size for group, size in sums.most_common() if size}


def drawn_by_libcurl() -> frozenset[str]:
    """Return the names of libcurl, as tpm2-tools are linked, and what it needs.

    What libtss2 or cryptsetup need as well is left out; empty without libcurl.
    """
    tools = _ldd("/usr/bin/tpm2")
    curl = re.search(r"=> (/\S*/libcurl\S*)", tools)
    if curl is None:
        return frozenset()
    others = re.findall(r"=> (/\S*/libtss2\S*)", tools)
    needed = libraries(_ldd(curl[1])) | {curl[1].rpartition("/")[2]}
    for each in (*others, "/usr/sbin/cryptsetup"):
        needed -= libraries(_ldd(each))
    return needed


def compressed_files(image: Path) -> dict[str, int]:
    """Unpack an image and return each file's bytes when compressed by itself.

    Their sum is a little more than the image: it is compressed as one.
    """
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        unpack = 'zstd -dcq "$1" | (cd "$2" && cpio --quiet -idm 2>/dev/null)'
        subprocess.run(
            ["sh", "-c", unpack, "sh", str(image), scratch],
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,  # device nodes need root
        )
        root = Path(scratch)
        return {
            str(path.relative_to(root)): _compressed(path)
            for path in root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }


def _compressed(path: Path) -> int:
    done = subprocess.run(
        ["zstd", "-15", "-qc", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT,
        check=True,
    )
    return len(done.stdout)


def _ldd(path: str) -> str:
    done = subprocess.run(
        ["ldd", path], capture_output=True, text=True, timeout=_TIMEOUT, check=True
    )
    return done.stdout

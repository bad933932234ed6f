# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot files are on the disk before anything is signed for them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from power_cuts import PowerCut

from aemseal.words.errors import AemsealError, BootFileError
from aemseal.world.durable import make_durable
from aemseal.world.store import Files

XEN, KERNEL = "/boot/xen.gz", "/boot/vmlinuz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "boot").mkdir()
    for name in (XEN, KERNEL):
        (tmp_path / name.lstrip("/")).write_bytes(b"bytes")
    return tmp_path


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the path of everything that is fsynced."""
    found: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: found.append(path_of(handle)))
    return found


def path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 (it is compared as text)


def test_each_file_once_and_then_its_folder_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = synced(monkeypatch)
    make_durable(Files(root), [XEN, KERNEL, XEN])
    assert found == [f"{root}{path}" for path in (XEN, KERNEL, "/boot")]


def test_a_link_counts_with_both_folders(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "efi").mkdir()
    (root / "efi/xen.gz").symlink_to("/boot/xen.gz")
    found = synced(monkeypatch)
    make_durable(Files(root), ["/efi/xen.gz"])
    assert found == [f"{root}{path}" for path in (XEN, "/efi", "/boot")]


def test_every_step_can_be_cut(root: Path) -> None:
    seam = PowerCut()
    make_durable(Files(root, seam), [XEN])
    assert seam.steps == [f"sync {XEN}", "sync /boot"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EINVAL, errno.ENOTSUP])
def test_a_medium_that_takes_no_writes_has_none_pending(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(monkeypatch, number)
    make_durable(Files(root), [XEN])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_told_by_the_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(monkeypatch, number)
    with pytest.raises(
        AemsealError, match=r"^/boot/xen\.gz could not be written out: "
    ):
        make_durable(Files(root), [XEN])


def fail_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)


def test_a_file_that_is_gone_is_told(root: Path) -> None:
    (root / "boot/xen.gz").unlink()
    with pytest.raises(
        BootFileError, match=r"^/boot/xen\.gz is gone since it was read"
    ):
        make_durable(Files(root), [XEN])


def test_a_file_that_cannot_be_opened_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(AemsealError, match=r"^/boot/xen\.gz: permission denied"):
        make_durable(Files(root), [XEN])


def test_nothing_waits_for_a_fifo(root: Path) -> None:
    os.mkfifo(root / "boot/fifo")
    make_durable(Files(root), ["/boot/fifo"])

# SPDX-License-Identifier: GPL-2.0-or-later
"""The lists of the files inside images: which are kept, and what they are held to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cpio_images import archive, member
from host_tree import SHA256, machine

import aemseal.flows.initramfs as initramfs_module
from aemseal.flows.initramfs import LISTS_FILE, ImageLists, initramfs_sources
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.formats.file_list import FileList, dump_lists, load_lists
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.measure.file_changes import SAME_FILES, FileChanges
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import View, Wanted
from aemseal.world.host import LiveHost
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import Files

IMAGE, OLDER = "/boot/initramfs-2.img", "/boot/initramfs-1.img"
OLD = archive(member("init", b"1"), member("etc/x", b"2"))
NEW = archive(member("init", b"3"), member("etc/x", b"2"))


class CountingHost(LiveHost):
    """A machine that remembers which images were listed."""

    listed: list[str]

    def list_initramfs(self, wanted: Wanted) -> FileList:
        self.listed.append(wanted.path)
        return super().list_initramfs(wanted)


@pytest.fixture
def host(tmp_path: Path) -> CountingHost:
    """A machine after an update: the kernel before keeps its own image."""
    root = machine(tmp_path, {IMAGE: NEW, OLDER: OLD}).root
    found = CountingHost(root)
    object.__setattr__(found, "listed", [])
    return found


def source(path: str, image: bytes, view: View = View.GRUB) -> Source:
    digests = {SHA256: SHA256.hash(image)}
    return Source(SourceKind.FILE, path=path, file_digests=digests, view=view)


def measured(*sources: Source, role: Role = Role.INITRAMFS) -> tuple[Measurement, ...]:
    digests = {SHA256: SHA256.hash(b"module")}
    return tuple(Measurement(19, digests, role, each) for each in sources)


def state(
    accepted: tuple[Source, ...] = (),
    staged: tuple[Source, ...] = (),
    baseline: tuple[Source, ...] = (),
) -> VaultState:
    def boot(sources: tuple[Source, ...]) -> Baseline:
        return Baseline("AEM", "tboot", "legacy", measured(*sources))

    def sealed(each: Source) -> SealedBoot:
        return SealedBoot("a boot", "2024-05-01T12:00:00Z", bytes(32), boot((each,)))

    return VaultState(
        generation=1,
        selection=PcrSelection.parse("sha256:13,17,18,19"),
        storage=StorageKey(0x81000001, b"name", b"serialized"),
        counter=0x01800000,
        count=1,
        media=(),
        secrets=(),
        baseline=boot(baseline),
        accepted=tuple(map(sealed, accepted)),
        staged=tuple(map(sealed, staged)),
    )


def kept_in(files: Files) -> list[str]:
    """The images whose lists are on the disk, by the content of their init."""
    data = files.read(LISTS_FILE)
    assert data is not None
    inits = {SHA256.hash(name).hex: name.decode() for name in (b"1", b"3")}
    lists = load_lists(LISTS_FILE, data)
    return [inits[each.files[0].content] for each in lists]


def test_an_image_that_lies_beside_the_new_one_needs_no_kept_list(
    host: CountingHost,
) -> None:
    found = ImageLists(host).between(source(OLDER, OLD), source(IMAGE, NEW))
    assert found is not None
    assert [str(each) for each in found.changes] == ["~ init"]
    assert host.listed == [IMAGE, OLDER]


def test_no_image_is_listed_twice(host: CountingHost) -> None:
    lists = ImageLists(host)
    for _ in range(2):
        lists.between(source(OLDER, OLD), source(IMAGE, NEW))
        lists.look_if_possible([source(IMAGE, b"an older one, overwritten")])
    assert host.listed == [IMAGE, OLDER]


def test_the_image_that_is_listed_is_the_one_that_was_hashed(
    host: CountingHost,
) -> None:
    with pytest.raises(
        BootFileError, match=r"initramfs-2\.img is another image by now"
    ):
        ImageLists(host).look(source(IMAGE, b"what was hashed before"))
    changed = ImageLists(host).between(source(OLDER, OLD), source(IMAGE, b"hashed"))
    assert changed == FileChanges(note=f"{IMAGE} is another image by now")


def test_an_image_is_looked_at_in_the_view_that_was_measured(
    host: CountingHost,
) -> None:
    wanted = []

    class Noting(CountingHost):
        def list_initramfs(self, each: Wanted) -> FileList:
            wanted.append(each)
            return super().list_initramfs(each)

    noting = Noting(host.root)
    object.__setattr__(noting, "listed", [])
    for view in (View.RAW, View.GRUB):
        ImageLists(noting).look(source(IMAGE, NEW, view))
    ImageLists(noting).look(replace(source(IMAGE, NEW), view=None))
    assert [each.view for each in wanted] == [View.RAW, View.GRUB, View.GRUB]


def test_the_same_image_is_not_looked_at(host: CountingHost) -> None:
    one = source(IMAGE, NEW)
    for other in (one, replace(one, file_digests={})):
        assert ImageLists(host).between(one, other) is None
        assert ImageLists(host).between(other, one) is None
    assert host.listed == []


def test_an_old_image_under_a_new_name_is_the_same(host: CountingHost) -> None:
    repacked = OLD + bytes(512)
    host.root.joinpath(IMAGE.lstrip("/")).write_bytes(repacked)
    found = ImageLists(host).between(source(OLDER, OLD), source(IMAGE, repacked))
    assert found == FileChanges(note=SAME_FILES)


def test_lists_are_kept_for_known_boots_and_dropped_after_them(
    host: CountingHost,
) -> None:
    files = Files(host.root)
    both = state(accepted=(source(OLDER, OLD),), staged=(source(IMAGE, NEW),))
    assert ImageLists.kept(host).keep(files, both) is None
    assert kept_in(files) == ["1", "3"]
    host.root.joinpath(OLDER.lstrip("/")).unlink()
    again = replace(both, baseline=both.accepted[0].boot)
    assert ImageLists.kept(host).keep(files, again) is None
    assert kept_in(files) == ["1", "3"]
    assert (
        ImageLists.kept(host).keep(files, state(staged=(source(IMAGE, NEW),))) is None
    )
    assert kept_in(files) == ["3"]
    assert host.listed == [OLDER, IMAGE]
    assert ImageLists.kept(host).keep(files, state()) is None
    assert kept_in(files) == []


def test_the_last_verified_boots_list_is_kept_too(host: CountingHost) -> None:
    files = Files(host.root)
    ImageLists.kept(host).keep(files, state(baseline=(source(OLDER, OLD),)))
    assert kept_in(files) == ["1"]


def test_what_did_not_change_is_not_written(host: CountingHost) -> None:
    files = Files(host.root)
    ImageLists.kept(host).keep(files, state())
    assert files.read(LISTS_FILE) is None
    ImageLists.kept(host).keep(files, state(accepted=(source(IMAGE, NEW),)))
    place = files.below_root(LISTS_FILE)
    before = place.stat()
    ImageLists.kept(host).keep(files, state(accepted=(source(IMAGE, NEW),)))
    assert place.stat().st_ino == before.st_ino


def test_lists_beyond_the_limit_are_left_out_the_accepted_boots_last(
    host: CountingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(host.root)
    both = state(accepted=(source(OLDER, OLD),), staged=(source(IMAGE, NEW),))
    one = len(dump_lists([ImageLists(host).look(source(OLDER, OLD))]))
    monkeypatch.setattr(initramfs_module, "LISTS_LIMIT", one)
    ImageLists.kept(host).keep(files, both)
    assert kept_in(files) == ["1"]


def test_damaged_lists_are_as_good_as_none(host: CountingHost) -> None:
    files = Files(host.root)
    files.write(LISTS_FILE, b"{")
    assert ImageLists.kept(host).lists == []
    ImageLists.kept(host).keep(files, state(accepted=(source(IMAGE, NEW),)))
    assert kept_in(files) == ["3"]


def test_a_folder_in_the_lists_place_is_told_and_no_error(host: CountingHost) -> None:
    files = Files(host.root)
    files.below_root(LISTS_FILE).mkdir(parents=True)
    told = ImageLists.kept(host).keep(files, state(accepted=(source(IMAGE, NEW),)))
    assert told is not None
    assert told.startswith("the list of the initramfs's files was not kept: ")


def test_only_files_of_the_initramfs_have_lists() -> None:
    known = source(IMAGE, NEW)
    carried = Source(SourceKind.CARRIED, event=7)
    unread = replace(known, file_digests={})
    assert initramfs_sources(measured(known, carried, unread)) == [known]
    assert initramfs_sources(measured(known, role=Role.KERNEL)) == []

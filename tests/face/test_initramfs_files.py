# SPDX-License-Identifier: GPL-2.0-or-later
"""An update of the initramfs, told file by file by the commands a person gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contract import check
from cpio_images import MICROCODE, archive, early_microcode, member, packed_by
from laptop import Laptop, MakeLaptop, Ran, changed, run

from aemseal.face.render import MOST_FILES
from aemseal.words.errors import AemsealError
from aemseal.world.store import Files

pytestmark = pytest.mark.tpm

IMAGE = "/boot/initramfs.img"
LISTS = "/var/lib/aemseal/initramfs.json"
ANOTHER_BOOTED = (
    "the image at /boot/initramfs.img is not the one that booted, or had another "
    "command line"
)
SAID = b"a simulated laptop"


def image_of(laptop: Laptop) -> bytes:
    return laptop.path(IMAGE).read_bytes()


def in_the_plan(ran: Ran) -> tuple[list[str], str | None]:
    check(ran.report, "plan")
    (change,) = ran.report["changes"]
    assert change["role"] == "initramfs"
    return change["files"], change["files_note"]


@contextmanager
def updated(laptop: Laptop, image: bytes) -> Iterator[None]:
    with changed(laptop, IMAGE, image):
        yield


def test_a_changed_file_is_named_by_plan(lent: Laptop) -> None:
    with updated(lent, image_of(lent).replace(SAID, SAID.upper())):
        ran, text = lent.aemseal("plan", "--json"), lent.aemseal("plan")
    assert in_the_plan(ran) == (["~ etc/machine"], None)
    assert (
        "    files inside: 1 changed\n"
        "      ~ etc/machine (other content, 19 bytes as before)\n"
    ) in text.out


def test_microcode_and_an_appended_archive_are_named(lent_da: Laptop) -> None:
    evil = archive(member("init", b"#!/bin/evil\n"), member("usr/evil", b"x"))
    main = packed_by("zstd", "-q", data=image_of(lent_da) + evil)
    with updated(lent_da, early_microcode() + main):
        ran, text = lent_da.aemseal("plan", "--json"), lent_da.aemseal("plan")
    files, note = in_the_plan(ran)
    assert note is None
    assert f"+ {MICROCODE}" in files
    assert "+ init (2)" in files
    assert "+ usr/evil" in files
    assert not any(each.startswith(("~", "-")) for each in files)
    assert f"+ {MICROCODE} (CPU microcode, mode 644, 9 bytes)\n" in text.out


def test_the_same_files_packed_anew_are_called_so(lent_da: Laptop) -> None:
    with updated(lent_da, packed_by("zstd", "-q", data=image_of(lent_da))):
        ran, text = lent_da.aemseal("plan", "--json"), lent_da.aemseal("plan")
    assert in_the_plan(ran) == ([], "the same files, packed anew")
    assert "    files inside: the same files, packed anew\n" in text.out


def test_many_files_are_counted_and_the_json_names_them_all(lent_da: Laptop) -> None:
    more = archive(*(member(f"lib/{number:04}") for number in range(500)))
    with updated(lent_da, image_of(lent_da) + more):
        ran, text = lent_da.aemseal("plan", "--json"), lent_da.aemseal("plan")
    assert len(in_the_plan(ran)[0]) == 500
    lines = text.out.splitlines()
    assert "    files inside: 500 added" in lines
    assert len([each for each in lines if "+ lib/" in each]) == MOST_FILES
    assert f"      and {500 - MOST_FILES} more" in lines


def test_odd_names_are_escaped(lent_da: Laptop) -> None:
    more = archive(member(b"a\x1b[2J\nb\xff"))
    with updated(lent_da, image_of(lent_da) + more):
        ran, text = lent_da.aemseal("plan", "--json"), lent_da.aemseal("plan")
    assert in_the_plan(ran)[0] == [r"+ a\x1b[2J\nb\udcff"]
    assert r"+ a\x1b[2J\nb\udcff (file, mode 644, 0 bytes)" in text.out


def test_what_is_no_archive_is_planned_all_the_same(lent_da: Laptop) -> None:
    with updated(lent_da, b"no archive, but GRUB loads it\n"):
        ran, text = lent_da.aemseal("plan", "--json"), lent_da.aemseal("plan")
    why = "the files inside /boot/initramfs.img cannot be listed: there is no magic"
    files, note = in_the_plan(ran)
    assert (ran.code, files) == (3, [])
    assert note is not None
    assert note.startswith(why)
    assert f"    files inside: {why}" in text.out


@pytest.mark.parametrize("content", [None, b"{", b'{"format": 2}'])
def test_without_an_old_list_the_plan_says_so(
    lent_da: Laptop, content: bytes | None
) -> None:
    with (
        changed(lent_da, LISTS, content),
        updated(lent_da, image_of(lent_da) + archive(member("x"))),
    ):
        ran = lent_da.aemseal("plan", "--json")
    assert ran.code == 3
    assert in_the_plan(ran) == (
        [],
        "which files changed is not known: no list of those before was kept",
    )


def test_another_command_line_is_no_other_image(lent_da: Laptop) -> None:
    menu = lent_da.path("/boot/grub/grub.cfg").read_bytes()
    other = menu.replace(b"/initramfs.img\n", b"/initramfs.img more\n", 1)
    assert other != menu
    with changed(lent_da, "/boot/grub/grub.cfg", other):
        ran = lent_da.aemseal("plan", "--json")
    assert in_the_plan(ran) == ([], None)


def test_enrol_tells_what_it_built_into_the_initramfs(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    enrolled = laptop.enrol()
    assert enrolled.code == 0
    assert "+ etc/aemseal/srk.tr (file, mode 755, " in enrolled.told
    assert "+ usr/lib/aemseal/aemseal-unseal (file" in enrolled.told
    lists = json.loads(laptop.path(LISTS).read_bytes())
    assert len(lists["images"]) == 2  # the staged boot's and the running one's


def test_lists_are_kept_for_the_boots_that_are_known(own: MakeLaptop) -> None:
    laptop = own()
    old, new = image_of(laptop), image_of(laptop) + archive(member("new"))

    def count() -> int:
        return len(json.loads(laptop.path(LISTS).read_bytes())["images"])

    assert count() == 1
    laptop.write(IMAGE, new)
    assert laptop.aemseal("plan").code == 3
    assert laptop.aemseal("reseal", "--dry-run").code == 0
    assert count() == 1
    staged = laptop.aemseal("reseal", "--accept", "initramfs", "--json")
    assert staged.report["plan"]["changes"][0]["files"] == ["+ new"]
    assert "+ new (file, mode 644, 0 bytes)" in staged.told
    assert count() == 2
    assert laptop.aemseal("cancel").code == 0
    assert count() == 1
    assert laptop.aemseal("reseal", "--accept", "initramfs").code == 0
    assert laptop.shows_the_secret()
    laptop.path(LISTS).unlink()
    assert laptop.aemseal("confirm").code == 0
    assert count() == 1
    laptop.write(IMAGE, old)
    assert in_the_plan(laptop.aemseal("plan", "--json"))[0] == ["- new"]
    assert laptop.aemseal("remove").code == 0
    assert not laptop.path(LISTS).exists()


def test_a_list_that_cannot_be_kept_stops_no_move(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own()
    laptop.write(IMAGE, image_of(laptop) + archive(member("new")))
    real = Files.write

    def write(self: Files, path: str, data: bytes, mode: int = 0o600) -> None:
        if path == LISTS:
            raise AemsealError("no space left on device")
        real(self, path, data, mode)

    monkeypatch.setattr(Files, "write", write)
    staged = laptop.aemseal("reseal", "--accept", "initramfs")
    assert staged.code == 0
    told = "aemseal: the list of the initramfs's files was not kept: no space left"
    assert told in staged.told
    assert laptop.shows_the_secret()


def test_explain_tells_the_files_of_an_evil_maids_image(own: MakeLaptop) -> None:
    laptop = own()
    good, evil = image_of(laptop), image_of(laptop).replace(SAID, SAID.upper())
    laptop.write(IMAGE, evil)
    laptop.reboot()
    ran, text = laptop.aemseal("explain", "--json"), laptop.aemseal("explain")
    check(ran.report, "explain")
    assert (ran.code, ran.report["path"]) == (6, IMAGE)
    assert (ran.report["files"], ran.report["files_note"]) == (["~ etc/machine"], None)
    assert "  files inside: 1 changed\n    ~ etc/machine (other content" in text.out

    laptop.write(IMAGE, good)
    report = laptop.aemseal("explain", "--json").report
    assert report["files"] == []
    assert report["files_note"] == (
        "the image at /boot/initramfs.img is the expected one now: it was put back "
        "after this boot"
    )
    laptop.write(IMAGE, good + archive(member("x")))
    report = laptop.aemseal("explain", "--json").report
    assert (report["files"], report["files_note"]) == (
        [],
        ANOTHER_BOOTED,
    )
    laptop.path(IMAGE).unlink()
    note = laptop.aemseal("explain", "--json").report["files_note"]
    assert "/boot/initramfs.img does not exist" in note

    laptop.write(IMAGE, evil)
    laptop.path(LISTS).unlink()
    note = laptop.aemseal("explain", "--json").report["files_note"]
    assert "no list of those before was kept" in note


def test_explain_of_an_accepted_boot_tells_of_no_files(lent_da: Laptop) -> None:
    report = lent_da.aemseal("explain", "--json").report
    assert (report["files"], report["files_note"]) == ([], None)


def test_a_recording_tells_the_same_files(own: MakeLaptop, tmp_path: Path) -> None:
    laptop = own()
    laptop.write(IMAGE, image_of(laptop) + archive(member("new", b"content")))
    live = laptop.aemseal("plan", "--json")
    folder = str(tmp_path / "recorded")
    recorded = laptop.aemseal("record", folder, "--json")
    assert recorded.code == 0
    assert "initramfs.json" in recorded.report["files"]
    assert run("plan", "--json", "--host", folder).report == live.report
    assert in_the_plan(live)[0] == ["+ new"]
    (name,) = [e for e in recorded.report["files"] if e.startswith("initramfs-")]
    assert b"content" not in Path(folder, name).read_bytes()

    # a recording of before there were lists
    manifest = Path(folder, "manifest.json")
    value = json.loads(manifest.read_bytes())
    value["answers"] = [
        each for each in value["answers"] if each["question"][0] != "list_initramfs"
    ]
    manifest.write_text(json.dumps(value))
    older = run("plan", "--json", "--host", folder)
    assert older.code == 3
    note = in_the_plan(older)[1]
    assert note is not None
    assert "does not tell list_initramfs /boot/initramfs.img grub" in note


def test_a_recorded_list_may_be_an_error(own: MakeLaptop, tmp_path: Path) -> None:
    laptop = own()
    laptop.write(IMAGE, b"no archive\n")
    live = laptop.aemseal("plan", "--json")
    folder = str(tmp_path / "recorded")
    assert laptop.aemseal("record", folder).code == 0
    assert run("plan", "--json", "--host", folder).report == live.report

# SPDX-License-Identifier: GPL-2.0-or-later
"""What explain says a changed boot is: an entry, a file or a command line of now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contract import check
from laptop import KERNEL, Laptop, MakeLaptop, changed, run
from refusals import GRUB, XEN
from tpm_sim.cache import Cache

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.sim,
    pytest.mark.usefixtures("no_traceback"),
    pytest.mark.skipif(
        not Cache.default().has_two_xens, reason="make setup has unpacked one Xen"
    ),
]

TITLE = "AEM Qubes, with Xen hypervisor"
IMAGE = "/boot/initramfs.img"


def explained(laptop: Laptop) -> dict[str, Any]:
    ran = laptop.aemseal("explain", "--json")
    check(ran.report, "explain")
    assert (ran.code, ran.report["verdict"]) == (6, "changed")
    assert "safe" not in ran.report["advice"]
    return ran.report


def entry_of(config: str) -> str:
    at = config.index(f"menuentry '{TITLE}'")
    return config[at : config.index("\n}\n", at) + 3]


def with_entry(laptop: Laptop, title: str, old: str, new: str, *, first: bool) -> None:
    """Add a changed copy of the accepted entry, before it (the default) or behind."""
    config = laptop.path(GRUB).read_text()
    entry = entry_of(config)
    other = entry.replace(TITLE, title).replace("'aem-xen'", f"'{title}'")
    assert old in other
    both = (
        (other.replace(old, new), entry) if first else (entry, other.replace(old, new))
    )
    laptop.write(GRUB, config.replace(entry, "".join(both)))


def test_an_older_file_of_another_name_is_named_with_its_version(
    own: MakeLaptop, tmp_path: Path
) -> None:
    laptop = own()
    cache = Cache.default()
    laptop.write("/boot/xen-other.gz", cache.xen_new.read_bytes())
    laptop.write("/boot/xen-unread.gz", b"\x1f\x8b damaged, and of no use")
    with changed(laptop, XEN, cache.xen_new.read_bytes()):
        laptop.reboot()
        found = explained(laptop)
        version = cache.version("xen-new")
        assert found["known_as"] == f"the bytes of /boot/xen-other.gz ({version})"
    assert explained(laptop) == found  # the accepted one is back: the copy is there
    assert found["advice"] == (
        "Do not type the passphrase unless you put it there yourself: instead of the "
        f"accepted {XEN} this has {found['known_as']}."
    )
    assert (found["role"], found["differences"]) == ("xen", 1)
    assert laptop.aemseal("record", str(tmp_path / "r")).code == 0
    assert run("explain", "--json", "--host", str(tmp_path / "r")).report == found
    laptop.path("/boot/xen-other.gz").unlink()
    found = explained(laptop)
    assert found["known_as"] is None
    assert found["advice"].endswith("it is not what was accepted.")


def test_another_entry_is_named_whole_and_then_its_command_line(
    own: MakeLaptop,
) -> None:
    laptop = own()
    config = laptop.path(GRUB).read_bytes()
    line = next(e for e in config.decode().splitlines() if "/vmlinuz placeholder" in e)
    with_entry(laptop, "recovery", line, f"{line} single", first=True)
    laptop.reboot()
    found = explained(laptop)
    assert found["known_as"] == "the entry 'recovery'"
    assert found["advice"] == (
        "Do not type the passphrase unless you chose it yourself: this is what the "
        "entry 'recovery' boots with the files that are in /boot now, and no accepted "
        "boot."
    )
    assert (found["role"], found["path"]) == ("kernel", KERNEL)

    with changed(laptop, IMAGE, laptop.path(IMAGE).read_bytes() + bytes(4)):
        found = explained(laptop)  # that is no longer what the whole entry boots
    assert found["known_as"] == (
        "the accepted bytes, but the command line of the entry 'recovery'"
    )
    laptop.write(GRUB, config)
    assert explained(laptop)["known_as"] is None


def test_a_swap_to_the_file_of_an_entry_that_is_not_measured_is_named(
    own: MakeLaptop,
) -> None:
    laptop = own()
    plain = "module2\t/vmlinuz placeholder"
    config = laptop.path(GRUB).read_text()
    at = config.rindex(plain)
    other = (
        config[:at] + plain.replace("/vmlinuz", "/memtest") + config[at + len(plain) :]
    )
    laptop.write(GRUB, other)
    laptop.write("/boot/memtest", b"what another entry loads\n")
    with changed(laptop, KERNEL, b"what another entry loads\n"):
        laptop.reboot()
    assert explained(laptop)["known_as"] == "the bytes of /boot/memtest"


def test_other_bytes_at_the_accepted_path_are_a_changed_file_and_no_more(
    own: MakeLaptop,
) -> None:
    laptop = own()
    with changed(laptop, KERNEL, b"another kernel"):
        laptop.reboot()
        found = explained(laptop)
    assert found["known_as"] is None
    assert found["advice"] == (
        f"Do not type the passphrase unless you changed {KERNEL} yourself: it is not "
        "what was accepted."
    )


def test_the_accepted_entrys_own_changed_words_are_told_from_its_file(
    own: MakeLaptop,
) -> None:
    laptop = own()
    config = laptop.path(GRUB).read_text()
    laptop.write(GRUB, config.replace("/vmlinuz placeholder", "/vmlinuz placeholder x"))
    laptop.reboot()
    found = explained(laptop)
    assert found["known_as"] == (
        f"the accepted bytes, but the command line of the entry {TITLE!r}"
    )
    assert found["path"] == KERNEL


def test_a_menu_that_cannot_be_read_leaves_the_rest_of_the_explanation(
    own: MakeLaptop,
) -> None:
    laptop = own()
    laptop.write("/boot/vmlinuz-5.9", b"another kernel")
    with changed(laptop, KERNEL, b"another kernel"):
        laptop.reboot()
        assert explained(laptop)["known_as"] is not None
        laptop.write(GRUB, "menuentry {")
        found = explained(laptop)
    assert (found["role"], found["known_as"]) == ("kernel", None)

# SPDX-License-Identifier: GPL-2.0-or-later
"""For which explanations `explain` looks for known files, and at which of them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from tboot_boots import DA, SHA256, a_boot

from aemseal.flows.explain_search import MOST_FILES, recognise
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.measure.explain import Explanation, Verdict, unmeasured
from aemseal.words.errors import EvidenceError
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.host import Host

BOOTED = a_boot().with_module(1, image=b"another kernel")
DIGEST = SHA256.hash(b"kernel")
KERNEL = Source(
    SourceKind.FILE,
    path="/boot/vmlinuz-6.1",
    cmdline=a_boot().modules[1].cmdline,
    file_digests={SHA256: DIGEST},
    view=View.GRUB,
)
CONFIG = (
    b"menuentry tboot {\n multiboot2 /tboot.gz\n module2 /xen.gz\n"
    b" module2 /vmlinuz-6.1\n}\nmenuentry other {\n linux /memtest\n}\n"
    b"menuentry esp {\n linux (hd1)/elsewhere\n linux relative\n}\n"
)


class Menu:
    """A host with a boot menu and names in /boot; it remembers what it looked at."""

    def __init__(self, names: list[str] | None, image: bytes = b"") -> None:
        self.listed, self.image = names, image
        self.looked: list[str] = []

    def grub_config(self) -> tuple[str, bytes]:
        return "/boot/grub2/grub.cfg", CONFIG

    def grub_env(self) -> None:
        return None

    def is_efi(self) -> bool:
        return False

    def resolve(self, path: str) -> str:
        return f"/boot{path}"

    def names(self, folder: str) -> list[str]:
        assert folder == "/boot"
        if self.listed is None:
            raise EvidenceError("the recording does not tell")
        return self.listed

    def look(self, wanted: list[Wanted], banks: object) -> dict[Wanted, FileFacts]:
        self.looked.append(wanted[0].path)
        is_it = wanted[0].path.endswith("-5.9")
        digest = SHA256.hash(self.image if is_it else b"no such file")
        return {each: FileFacts(each, 1, {SHA256: digest}, {}) for each in wanted}


def explanation(source: Source = KERNEL, role: Role = Role.KERNEL) -> Explanation:
    [measured] = [
        digests[SHA256]
        for event, digests in DA.launched(BOOTED).extends
        if digests[SHA256] not in {e[SHA256] for _, e in DA.launched(a_boot()).extends}
    ]
    return Explanation(
        Verdict.CHANGED,
        "Advice.",
        pcr=17,
        role=role,
        path=source.path,
        expected=Measurement(17, {SHA256: DIGEST}, role, source),
        measured=measured,
    )


def found(menu: Menu, what: Explanation) -> Explanation:
    return recognise(cast("Host", menu), DA.launched(BOOTED), what)


def test_an_older_version_beside_the_accepted_file_is_found() -> None:
    menu = Menu(
        ["grub2", "vmlinuz-5.9", "vmlinuz-\x1b[2J", "xen.gz"], b"another kernel"
    )
    named = found(menu, explanation())
    assert named.known_as == "the bytes of /boot/vmlinuz-5.9"
    assert named.advice.endswith(
        "instead of the accepted /boot/vmlinuz-6.1 this has the bytes of "
        "/boot/vmlinuz-5.9."
    )
    loaded = ["/boot/tboot.gz", "/boot/xen.gz", "/boot/memtest"]
    assert set(menu.looked) == {"/boot/vmlinuz-6.1", "/boot/vmlinuz-5.9", *loaded}
    assert len(menu.looked) == len(set(menu.looked)), "each is read once"


def test_the_files_looked_at_are_bounded() -> None:
    menu = Menu([f"vmlinuz-{number}" for number in range(999)])
    assert found(menu, explanation()) == explanation()
    of_the_entry = {"/boot/tboot.gz", "/boot/xen.gz"}
    assert len(set(menu.looked) - of_the_entry) <= MOST_FILES


def test_without_a_list_of_names_the_menu_is_looked_at_all_the_same() -> None:
    menu = Menu(None)
    assert found(menu, explanation()) == explanation()
    assert "/boot/memtest" in menu.looked


def test_without_digests_of_the_accepted_file_only_entries_are_looked_at() -> None:
    menu = Menu([])
    what = explanation(replace(KERNEL, file_digests={}))
    assert found(menu, what) == what
    assert "/boot/memtest" not in menu.looked


NOTHING_TO_LOOK_FOR = {
    "no launch": unmeasured(),
    "a boot on record": replace(explanation(), known_as="Xen 4.17.4 (retired)"),
    "a retired boot": replace(explanation(), verdict=Verdict.RETIRED),
    "something that was added": replace(explanation(), expected=None),
    "something that is missing": replace(explanation(), measured=None),
    "a LUKS header": explanation(role=Role.LUKS),
}


@pytest.mark.parametrize(
    "what", NOTHING_TO_LOOK_FOR.values(), ids=list(NOTHING_TO_LOOK_FOR)
)
def test_nothing_else_is_looked_for(what: Explanation) -> None:
    nobody = cast("Menu", object())  # whatever were asked of it would fail
    assert found(nobody, what) == what

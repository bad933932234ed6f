# SPDX-License-Identifier: GPL-2.0-or-later
"""Fallback entries by the commands that a person gives."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import pytest
from contract import check
from fallbacks import (
    CONFIG,
    GRUB,
    OLD_KERNEL,
    TITLE,
    add_fallback,
    config_with,
    entries_with,
    start,
)
from laptop import KERNEL, SECRET, Laptop, MakeLaptop, Ran, changed

from aemseal.flows.reseal import next_boot
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.wanted import Wanted
from aemseal.world.host import LiveHost, Looked

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

STEP = "a fallback entry would be blind; stage it, too: aemseal reseal"


def shows_after(laptop: Laptop, title: str = TITLE) -> bool:
    found = start(laptop, title)
    return found is not None and SECRET in found.shown


def fallbacks(laptop: Laptop, *more: str) -> list[tuple[str, str | None]]:
    found = laptop.aemseal("status", "--json", *more).report["fallbacks"]
    return [(each["next_boot"], each["problem"]) for each in found]


def groups(laptop: Laptop) -> tuple[list[bool], list[bool]]:
    """Whether each accepted and each staged boot is a fallback."""
    report = laptop.aemseal("status", "--json").report
    check(report, "status")
    accepted, staged = report["accepted"], report["staged"]
    return [each["fallback"] for each in accepted], [
        each["fallback"] for each in staged
    ]


def asked(ran: Ran) -> list[str]:
    """The options that a refusal's hint says."""
    return shlex.split(ran.hint.rpartition("say so: ")[2])


def test_the_life_of_a_fallback_entry(own: MakeLaptop) -> None:
    laptop = own()
    add_fallback(laptop)
    assert not shows_after(laptop), "it is not accepted yet"
    laptop.reboot()
    assert fallbacks(laptop) == [], "nobody looked"
    looked = laptop.aemseal("status", "--check", "--json")
    assert (looked.code, looked.report["next_boot"]) == (3, "accepted")
    assert looked.report["next_step"] == STEP
    assert fallbacks(laptop, "--check") == [("not-accepted", None)]
    planned = laptop.aemseal("plan", "--json")
    check(planned.report, "plan")
    assert (planned.code, planned.report["changes"]) == (3, [])
    (entry,) = planned.report["fallbacks"]
    assert (entry["title"], entry["standing"]) == (TITLE, "unknown")
    assert [each["path"] for each in entry["plan"]["changes"]] == [OLD_KERNEL]
    assert f"the fallback entry {TITLE!r}, Xen" in laptop.aemseal("plan").out

    refused = laptop.aemseal("reseal")
    assert refused.code == 4
    assert refused.error == f"nobody answers for what changed in kernel ({OLD_KERNEL})"
    assert re.search(r"--accept kernel=[0-9a-f]{16}$", refused.hint)
    staged = laptop.aemseal("reseal", "--json", *asked(refused))
    assert (staged.code, staged.report["staged"]) == (0, None)
    assert staged.report["next_boot"] == "accepted"
    (entry,) = staged.report["plan"]["fallbacks"]
    assert entry["standing"] == "staged"
    assert groups(laptop) == ([False], [True])
    assert "nothing to do" in laptop.aemseal("reseal").out

    confirmed = laptop.aemseal("confirm", "--json")
    assert confirmed.report["fallbacks"] == [entry["name"]]
    assert groups(laptop) == ([False, True], [])
    assert (fallbacks(laptop, "--check")) == [("accepted", None)]
    assert laptop.aemseal("status", "--check").code == 0
    assert shows_after(laptop)
    assert entry["name"] in laptop.aemseal("explain").out

    laptop.write(KERNEL, b"a newer kernel\n" * 99)
    update = laptop.aemseal("reseal", "--accept", "kernel")
    assert update.code == 0, "nothing of the fallback changed"
    assert laptop.shows_the_secret()
    done = laptop.aemseal("confirm", "--json")
    assert len(done.report["retired"]) == 1
    assert done.report["fallbacks"] == [entry["name"]]
    assert groups(laptop) == ([False, True], [])
    assert "a fallback" in laptop.aemseal("status").out
    assert shows_after(laptop)
    again = laptop.aemseal("confirm")
    assert (again.code, "retired" in again.out) == (0, False)
    assert laptop.shows_the_secret()


def test_a_new_xen_is_staged_for_both_with_one_consent(own: MakeLaptop) -> None:
    laptop = own()
    add_fallback(laptop)
    beside = laptop.aemseal("reseal", "--accept", "kernel")
    assert beside.code == 0, beside.told
    assert beside.out.startswith("the next boot is the accepted one, ")
    assert "nothing to do" not in beside.out
    assert laptop.aemseal("confirm").code == 0
    shutil.copyfile(laptop.machine.cache.xen_new, laptop.path("/boot/xen.gz"))
    staged = laptop.aemseal("reseal", "--accept", "xen")
    assert staged.code == 0, staged.told
    assert "staged as a fallback: " in staged.out
    assert groups(laptop) == ([False, True], [False, True])
    assert shows_after(laptop)
    confirmed = laptop.aemseal("confirm", "--json")
    assert len(confirmed.report["retired"]) == 2, "both have the old Xen"
    assert groups(laptop) == ([True], [False])
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    assert groups(laptop) == ([False, True], [])


def test_cancel_keeps_an_accepted_fallback(own: MakeLaptop) -> None:
    laptop = own()
    add_fallback(laptop)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.aemseal("confirm").code == 0
    with changed(laptop, KERNEL, b"a newer kernel"):
        assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
        assert groups(laptop) == ([False, True], [False])
        assert laptop.aemseal("cancel").code == 0
    assert groups(laptop) == ([False, True], [])
    assert shows_after(laptop)


# --- what is refused ---


def configure(laptop: Laptop, title: str, **names: str) -> None:
    """Name an entry; grub.cfg has one more, of an old kernel or of these files."""
    laptop.write(OLD_KERNEL, b"the kernel of last month\n" * 99)
    laptop.write(GRUB, entries_with(laptop.path(GRUB).read_text(), **names))
    laptop.write(CONFIG, config_with(laptop, title))


def is_refused(laptop: Laptop, title: str, message: str) -> None:
    """Assert that the entry is refused by its name, and that status tells it blind."""
    before = laptop.kept()
    for options in ((), ("--dry-run",), ("--accept", "kernel")):
        refused = laptop.aemseal("reseal", *options)
        assert refused.code == 4
        assert refused.error.startswith(f"the fallback entry {title!r}: ")
        assert message in refused.error
        assert "take the title out of fallback_entries" in refused.hint
    looked = laptop.aemseal("status", "--check", "--json")
    (entry,) = looked.report["fallbacks"]
    assert (looked.code, entry["next_boot"]) == (3, "not-accepted")
    assert message in entry["problem"]
    told = laptop.aemseal("status", "--check").out
    assert f"blind:     the fallback entry {title!r}" in told
    planned = laptop.aemseal("plan")
    assert planned.code == 3
    assert f"the fallback entry {title!r}: " in planned.out
    assert laptop.kept()[2] == before[2], "no move was made"


NOT_ENTRIES = {
    "of no entry": ("Nowhere", "grub.cfg has no entry 'Nowhere'"),
    "of an entry without a measured launch": (
        "Qubes, with Xen hypervisor",
        "is no measured boot",
    ),
}


@pytest.mark.parametrize(("title", "why"), NOT_ENTRIES.values(), ids=list(NOT_ENTRIES))
def test_a_title_is_refused(own: MakeLaptop, title: str, why: str) -> None:
    laptop = own()
    configure(laptop, title)
    is_refused(laptop, title, why)


def test_a_title_of_two_entries_is_refused(own: MakeLaptop) -> None:
    laptop = own()
    configure(laptop, TITLE)
    laptop.write(GRUB, entries_with(laptop.path(GRUB).read_text()))
    is_refused(laptop, TITLE, f"several entries are {TITLE!r}")


def test_an_entry_whose_file_is_missing_is_refused(own: MakeLaptop) -> None:
    laptop = own()
    configure(laptop, TITLE, vmlinuz="vmlinuz-gone")
    is_refused(laptop, TITLE, "/boot/vmlinuz-gone (or /vmlinuz-gone) does not exist")


def test_an_entry_with_another_xen_is_refused(own: MakeLaptop) -> None:
    laptop = own()
    new = laptop.path("/boot/xen-new.gz")
    shutil.copyfile(laptop.machine.cache.xen_new, new)
    configure(laptop, TITLE, **{"xen.gz": "xen-new.gz"})
    is_refused(laptop, TITLE, "another launcher or another Xen than the next boot")


def test_a_fallback_that_is_the_next_boot_is_no_boot_of_its_own(
    own: MakeLaptop,
) -> None:
    laptop = own()
    configure(laptop, TITLE, vmlinuz="vmlinuz")
    assert laptop.aemseal("status", "--check").code == 0
    ran = laptop.aemseal("reseal")
    assert (ran.code, ran.out.startswith("nothing to do")) == (0, True)
    assert "accepted" in ran.told


def test_a_retired_kernel_is_refused_as_a_fallback_too(own: MakeLaptop) -> None:
    laptop = own()
    old = laptop.path(KERNEL).read_bytes()
    laptop.write(KERNEL, b"a newer kernel\n" * 99)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    laptop.write(GRUB, entries_with(laptop.path(GRUB).read_text()))
    laptop.write(CONFIG, config_with(laptop, TITLE))
    laptop.write(OLD_KERNEL, old)
    is_refused(laptop, TITLE, "is retired: that is never accepted again")


# --- consent to a digest ---


def test_a_file_swapped_after_the_dry_run_is_refused(lent_da: Laptop) -> None:
    with changed(lent_da, KERNEL, b"the kernel that was looked at"):
        dry = lent_da.aemseal("reseal", "--dry-run")
        (change,) = lent_da.aemseal("plan", "--json").report["changes"]
    accept = change["accept"]
    assert accept == f"kernel={change['after']['digests']['sha256'][:16]}"
    assert f"if it is yours: --accept {accept}\n" in dry.told
    with changed(lent_da, KERNEL, b"another one, put there since"):
        before = lent_da.kept()
        refused = lent_da.aemseal("reseal", "--accept", accept)
        assert refused.code == 4
        assert refused.error.startswith("kernel is not what was to be accepted: ")
        assert "reseal --dry-run" in refused.hint
        assert lent_da.kept() == before


def test_the_file_that_was_looked_at_is_staged(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write(KERNEL, b"a new kernel")
    (change,) = laptop.aemseal("plan", "--json").report["changes"]
    assert laptop.aemseal("reseal", "--accept", change["accept"]).code == 0
    assert laptop.shows_the_secret()


# --- what is read ---


class CountingHost(LiveHost):
    """Counts how often each path is looked at."""

    looked: ClassVar[Counter[str]] = Counter()

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        asked = list(wanted)
        self.looked.update({each.path for each in asked})
        return super().look(asked, algorithms)


def test_each_file_is_hashed_once_for_all_entries(own: MakeLaptop) -> None:
    laptop = own()
    grub = laptop.path(GRUB).read_text()
    other = entries_with(grub)[len(grub) :]
    laptop.write(GRUB, grub + other.replace("logging=memory,serial", "logging=serial"))
    laptop.write(OLD_KERNEL, b"the kernel of last month")
    laptop.write(KERNEL, b"a newer kernel")
    state = VaultState.parse(laptop.path(STATE_FILE).read_bytes())

    def pcrs(bank: HashAlgorithm) -> PcrBank:
        return PcrBank(bank, dict(laptop.machine.tpm.read_pcrs(bank)))

    CountingHost.looked.clear()
    found = next_boot(CountingHost(laptop.root, pcrs), state, fallbacks=[TITLE])
    assert [each.name for each in found.fallbacks] == [TITLE]
    assert {KERNEL, OLD_KERNEL} < set(CountingHost.looked)
    assert set(CountingHost.looked.values()) == {1}, CountingHost.looked

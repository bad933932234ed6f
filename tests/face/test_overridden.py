# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot that the hook refused, and that somebody started all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import check
from laptop import Laptop, MakeLaptop, run

from aemseal.face.render import explanation_lines
from aemseal.flows.hook_word import OVERRIDDEN, hook_word
from aemseal.measure.explain import Explanation, Verdict, after_hook
from aemseal.world.host import HOOK_RECORD, LiveHost

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

WENT_ON = (
    "The boot hook refused this boot, and somebody typed the words to start it all the "
    "same. "
)
SEEN = "change the passphrase from an accepted boot."


def override(laptop: Laptop) -> None:
    """Do what aemseal-boot does when the words were typed."""
    laptop.write(OVERRIDDEN, "overridden\n")


def refused(laptop: Laptop) -> None:
    """Start another kernel than the accepted one."""
    laptop.write("/boot/vmlinuz", b"another kernel\n" * 99)
    laptop.reboot()


def test_explain_and_status_say_that_somebody_went_on(own: MakeLaptop) -> None:
    laptop = own()
    refused(laptop)
    before = laptop.aemseal("explain", "--json").report
    check(before, "explain")
    assert (before["overridden"], before["hook_outcome"]) == (False, "not-accepted")
    assert laptop.aemseal("status", "--json").report["overridden"] is False

    override(laptop)
    told = laptop.aemseal("explain", "--json")
    check(told.report, "explain")
    assert told.code == 6
    assert told.report["overridden"] is True
    assert told.report["verdict"] == before["verdict"] == "changed"
    advice = told.report["advice"]
    assert advice.startswith(WENT_ON + before["advice"])
    assert advice.endswith(SEEN)
    lines = laptop.aemseal("explain").out.splitlines()
    assert lines[0] == advice
    assert "the boot hook said not-accepted: the TPM refused what is on" in lines[-1]

    status = laptop.aemseal("status", "--json")
    check(status.report, "status")
    assert status.report["overridden"] is True
    warning = status.report["warnings"][-1]
    assert warning.endswith("to start it all the same; see: aemseal explain")
    assert f"warning:   {warning}\n" in laptop.aemseal("status").out


def test_confirm_gives_the_same_advice(own: MakeLaptop) -> None:
    laptop = own()
    refused(laptop)
    override(laptop)
    confirmed = laptop.aemseal("confirm")
    assert confirmed.code == 6
    assert confirmed.hint.startswith(WENT_ON)


def test_a_boot_without_a_launch_has_the_hooks_word_too(own: MakeLaptop) -> None:
    laptop = own()
    hook = laptop.reboot()
    assert hook is not None
    record = laptop.path(HOOK_RECORD).read_bytes()
    laptop.reboot(unmeasured=True)
    laptop.write(
        HOOK_RECORD, record.split(b"outcome ")[0].replace(b" 2", b" 1", 1) + NO_LAUNCH
    )
    told = laptop.aemseal("explain")
    assert told.code == 6
    assert "the boot hook said no-launch: there was no dynamic launch" in told.out


NO_LAUNCH = b"outcome no-launch\n"


def test_an_accepted_boot_that_showed_its_secret_has_no_such_word(
    lent_da: Laptop,
) -> None:
    told = lent_da.aemseal("explain")
    assert "hook" not in told.out
    report = lent_da.aemseal("explain", "--json").report
    assert (report["hook_outcome"], report["overridden"]) == ("unsealed", False)


def test_an_accepted_boot_whose_hook_refused_is_none_to_trust(own: MakeLaptop) -> None:
    laptop = own()
    away = laptop.path("/boot/aemseal").rename(laptop.root / "away")
    laptop.reboot()
    override(laptop)
    away.rename(laptop.path("/boot/aemseal"))
    report = laptop.aemseal("explain", "--json").report
    assert report["verdict"] == "accepted"
    assert report["hook_outcome"] == "no-medium"
    assert report["advice"].startswith(f"{WENT_ON}Do not type the passphrase before ")


def test_a_recording_tells_of_it(own: MakeLaptop) -> None:
    laptop = own()
    refused(laptop)
    override(laptop)
    folder = laptop.root / "recording"
    assert laptop.aemseal("record", str(folder)).code == 0
    told = run("explain", "--json", "--host", str(folder))
    assert told.report["overridden"] is True
    assert run("status", "--json", "--host", str(folder)).report["overridden"] is True


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    record, overridden = (tmp_path / path[1:] for path in (HOOK_RECORD, OVERRIDDEN))
    overridden.mkdir(parents=True)
    for content in (b"no record", None):
        record.unlink(missing_ok=True)
        if content is not None:
            record.write_bytes(content)
        word = hook_word(LiveHost(tmp_path))
        assert (word.outcome, word.overridden) == (None, False)


def test_a_word_that_nobody_knows_yet_is_told_as_it_is() -> None:
    found = Explanation(Verdict.UNMEASURED, "Advice.")
    told = after_hook(found, "a-new-word", overridden=False)
    assert explanation_lines(told) == ["Advice.", "the boot hook said a-new-word"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person answers for, by name or by name and digest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from predictions import next_boot, running
from tboot_boots import LEGACY, SHA256, Boot, File, a_boot

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Prediction, Source, SourceKind
from aemseal.measure.consent import Consent, asked_for, require_known, require_origins
from aemseal.measure.plan import Plan, plan
from aemseal.words.errors import OriginError, UsageError

UCODE = File("/boot/ucode.bin", b"microcode")
XSM = File("/boot/xsm.bin", b"xsm policy")
NOTHING = "0" * 16


def plan_of(following: Boot) -> Plan:
    here = running(LEGACY, a_boot())
    return plan(here.measured, next_boot(here, following), here.measured)


def new_xen(image: bytes = b"new") -> Boot:
    return a_boot().with_module(0, image=image)


def digest_of(changes: Plan, name: str) -> str:
    (found,) = [each for each in changes.changes if each.name == name]
    assert found.after is not None
    return found.after.extends[0][1][SHA256].hex


def consents(*texts: str) -> list[Consent]:
    return [Consent.parse(text) for text in texts]


def test_every_unknown_change_must_be_accepted_by_name() -> None:
    following = replace(new_xen(), modules=(*new_xen().modules, UCODE, XSM))
    changes = plan_of(following)
    with pytest.raises(OriginError) as caught:
        require_origins([changes], consents("xen"), SHA256)
    assert caught.value.exit_code == 4
    assert caught.value.message == (
        "nobody answers for what changed in module (/boot/ucode.bin), "
        "module 2 (/boot/xsm.bin)"
    )
    first, second = (digest_of(changes, each)[:16] for each in ("module", "module 2"))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(
        f": --accept xen --accept module={first} --accept 'module 2={second}'"
    )
    everything = consents("xen", f"module={first}", f"module 2={second}")
    require_origins([changes], everything, SHA256)
    require_origins([changes], consents("xen", "module", "module 2"), SHA256)


def test_a_change_without_a_file_is_named_alone() -> None:
    one = Measurement(
        17, {SHA256: SHA256.hash(b"1")}, Role.PLATFORM, Source(SourceKind.CARRIED)
    )
    changes = plan([], Prediction("tboot", "da", "t", (one,)))
    with pytest.raises(OriginError, match=r"in platform$"):
        require_origins([changes], (), SHA256)


def test_nothing_unknown_needs_no_consent() -> None:
    require_origins([Plan(())], (), SHA256)


def test_a_digest_is_of_one_file_and_no_other() -> None:
    seen, swapped = plan_of(new_xen()), plan_of(new_xen(b"swapped"))
    whole = consents(f"xen={digest_of(seen, 'xen')}")
    begun = consents(f"xen={digest_of(seen, 'xen')[:16].upper()}")
    for consent in (whole, begun):
        require_known([seen], consent, SHA256)
        require_origins([seen], consent, SHA256)
        with pytest.raises(OriginError, match="is not what was to be accepted") as told:
            require_known([swapped], consent, SHA256)
        assert digest_of(swapped, "xen") in told.value.message
        assert "--dry-run" in (told.value.hint or "")
        with pytest.raises(OriginError, match="nobody answers for what changed in xen"):
            require_origins([swapped], consent, SHA256)


def test_a_digest_holds_the_command_line_too() -> None:
    words = a_boot().with_module(0, cmdline=b"one more word")
    seen, changed = plan_of(new_xen()), plan_of(words)
    with pytest.raises(OriginError):
        require_known([changed], [asked_for(seen.changes[0], SHA256)], SHA256)


def test_each_of_several_boots_needs_consent() -> None:
    first, second = plan_of(new_xen()), plan_of(new_xen(b"the fallback's"))
    one = [asked_for(first.changes[0], SHA256)]
    with pytest.raises(OriginError) as caught:
        require_origins([first, second], one, SHA256)
    assert caught.value.hint is not None
    digest = digest_of(second, "xen")[:16]
    assert caught.value.hint.endswith(f"--accept {one[0]} --accept xen={digest}")
    both = [*one, asked_for(second.changes[0], SHA256)]
    require_known([first, second], both, SHA256)
    require_origins([first, second], both, SHA256)
    require_origins([first, second], consents("xen"), SHA256)


def test_one_that_is_gone_is_accepted_by_its_name_alone() -> None:
    here = running(LEGACY, replace(a_boot(), modules=(*a_boot().modules, UCODE)))
    changes = plan(here.measured, next_boot(here, a_boot()), here.measured)
    (gone,) = changes.changes
    assert (gone.name, gone.after) == ("module", None)
    assert str(asked_for(gone, SHA256)) == "module"
    require_origins([changes], consents("module"), SHA256)
    with pytest.raises(OriginError, match=f"{NOTHING} was named, and it is gone"):
        require_known([changes], consents(f"module={NOTHING}"), SHA256)


def test_what_did_not_change_cannot_be_accepted() -> None:
    changes = plan_of(new_xen())
    with pytest.raises(UsageError, match="--accept kernel: no such change") as told:
        require_known([changes], consents("kernel"), SHA256)
    assert told.value.hint == "changed: xen"
    with pytest.raises(UsageError) as told:
        require_known([Plan(())], consents("kernel"), SHA256)
    assert told.value.hint == "changed: nothing"
    require_known([Plan(()), changes], consents("xen"), SHA256)


@pytest.mark.parametrize("text", ["xen=", "xen=12", f"xen={'g' * 16}", f"={'0' * 15}"])
def test_a_digest_that_tells_too_little_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no digest of 16 hex digits or more"):
        Consent.parse(text)

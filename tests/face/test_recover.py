# SPDX-License-Identifier: GPL-2.0-or-later
"""After a blind boot: this one by the person's own word, and all sealed anew."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from contract import check
from laptop import CARRIED, KERNEL, SECRET, Laptop, MakeLaptop, Ran
from refusals import CONFIG, STATE, refuses

from aemseal.flows.owner import LOCKOUT_FILE
from aemseal.flows.state import VaultState

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

ANOTHER = "two herons stand in the ford at noon"


def clear(laptop: Laptop) -> None:
    """Clear the TPM, by the lockout authorisation."""
    value = laptop.path(LOCKOUT_FILE).read_bytes().hex()
    subprocess.run(
        ("tpm2_clear", "-c", "l", f"hex:{value}"),
        env={**os.environ, "TPM2TOOLS_TCTI": laptop.machine.tcti},
        check=True,
        timeout=60,
    )


def blind(laptop: Laptop) -> Laptop:
    """Boot a kernel that nobody staged."""
    laptop.write(KERNEL, b"another kernel")
    assert not laptop.shows_the_secret()
    return laptop


def digits_in(refused: Ran) -> str:
    found = re.search(r"--accept-boot ([0-9a-f]{16})$", refused.hint)
    assert found is not None, refused
    return found[1]


def shown_now(laptop: Laptop) -> str:
    found = laptop.reboot()
    assert found is not None
    return found.shown


def recovered(laptop: Laptop, *arguments: str, text: str = ANOTHER) -> Ran:
    digits = digits_in(laptop.aemseal("recover"))
    words = ("recover", "--accept-boot", digits, *arguments)
    return laptop.aemseal(*words, stdin=text)


def test_a_blind_boot_is_accepted_by_name_and_shows_a_new_secret(
    own: MakeLaptop,
) -> None:
    laptop = blind(own())
    refused = refuses(
        laptop, "recover", 2, "is not accepted without your word", "--accept"
    )
    assert "accept nothing yet: first start the boot that was accepted: 'AEM Qubes" in (
        refused.told
    )
    assert f"first difference: PCR 17, {KERNEL}" in refused.told
    ran = recovered(laptop, "--json")
    assert ran.code == 0, ran.told
    check(ran.report, "recover")
    (accepted,), (retired,) = ran.report["accepted"], ran.report["retired"]
    assert accepted == f"{retired} (2)"
    assert (ran.report["staged"], ran.report["left"]) == ([], [])
    assert laptop.aemseal("explain").code == 0
    shown = shown_now(laptop)
    assert ANOTHER in shown
    assert SECRET not in shown
    assert laptop.aemseal("status", "--json").report["this_boot"] == "accepted"


def test_another_boot_than_the_one_named_is_not_accepted(own: MakeLaptop) -> None:
    laptop = blind(own())
    digits = digits_in(laptop.aemseal("recover"))
    laptop.write(KERNEL, b"a third kernel")
    laptop.reboot()
    command = f"recover --accept-boot {digits}"
    refuses(laptop, command, 2, f"--accept-boot {digits}: this boot is ", stdin=ANOTHER)


def test_an_accepted_boot_is_told_of_pin_and_may_be_recovered_too(
    own: MakeLaptop,
) -> None:
    laptop = own()
    assert "there is aemseal pin" in laptop.aemseal("recover").told
    assert recovered(laptop).code == 0
    assert ANOTHER in shown_now(laptop)


def test_a_retired_boot_comes_back_by_the_persons_word_alone(own: MakeLaptop) -> None:
    laptop = own()
    old = laptop.path(KERNEL).read_bytes()
    blind(laptop)
    assert recovered(laptop).code == 0
    laptop.write(KERNEL, old)
    message = "the next boot is the retired one"
    refuses(laptop, "reseal", 4, message, "aemseal recover")
    assert ANOTHER not in shown_now(laptop)
    assert laptop.aemseal("explain", "--json").report["verdict"] == "retired"
    assert recovered(laptop, text=SECRET).code == 0
    assert laptop.shows_the_secret()


def test_without_a_dynamic_launch_nothing_is_accepted(own: MakeLaptop) -> None:
    laptop = own(unmeasured=True)
    refuses(laptop, "recover", 4, "no dynamic launch", stdin=ANOTHER)


def test_on_a_cleared_tpm_the_initramfs_is_built_anew_and_staged(
    own: MakeLaptop,
) -> None:
    laptop = own()
    clear(laptop)
    refused = laptop.aemseal("recover")
    assert "the storage key at 0x81000001 is gone" in refused.told
    ran = recovered(laptop, "--json")
    assert ran.code == 0, ran.told
    assert (ran.report["accepted"], len(ran.report["staged"])) == ([], 1)
    assert ANOTHER in shown_now(laptop)
    assert laptop.aemseal("confirm").code == 0


def test_a_vault_that_was_shut_opens_again(own: MakeLaptop) -> None:
    laptop = own()
    state = laptop.path(STATE).read_text()
    laptop.write(STATE, state.replace('"count": 2', '"count": 1'))
    assert "the vault is shut" in laptop.aemseal("recover").told
    assert recovered(laptop).code == 0
    assert ANOTHER in shown_now(laptop)


def test_a_new_set_of_media_is_that_of_the_configuration(own: MakeLaptop) -> None:
    laptop = own()
    media = CARRIED.replace(
        "}]", "}, {label: second, path: /media/second/aemseal, carried: true}]"
    )
    config = laptop.path(CONFIG).read_text().replace(CARRIED, media)
    laptop.write(CONFIG, config)
    message = "the medium second is not at hand: /media/second/aemseal"
    refuses(laptop, "pin", 4, message, "mount it", stdin=ANOTHER)
    laptop.path("/media/second").mkdir(parents=True)
    ran = laptop.aemseal("pin", "--json", stdin=ANOTHER)
    assert ran.code == 0, ran.told
    check(ran.report, "pin")
    assert ran.report["media"] == ["stick", "second"]
    assert laptop.path("/media/second/aemseal/vault").exists()
    assert ANOTHER in shown_now(laptop)
    revoked = laptop.aemseal("revoke", "stick", "--json")
    check(revoked.report, "revoke")
    assert revoked.report["removed_files"] is True
    assert revoked.report["media"] == ["second"]
    assert ANOTHER not in shown_now(laptop), "the hook was built for the stick alone"


def test_a_pin_is_changed_on_an_accepted_boot_alone(own: MakeLaptop) -> None:
    laptop = own()
    laptop.write("/pin", b"a-new-pin\n")
    before = VaultState.parse(laptop.path(STATE).read_bytes())
    command = ("pin", "--pin-file", str(laptop.path("/pin")))
    ran = laptop.aemseal(*command, stdin=ANOTHER)
    assert ran.code == 0, ran.told
    assert "the old one would open copies made before for ever" in ran.told
    after = VaultState.parse(laptop.path(STATE).read_bytes())
    assert after.accepted == before.accepted
    assert after.generation == 2
    assert [each.pin for each in after.secrets] == [True]
    blind(laptop)
    refuses(laptop, " ".join(command), 6, "not an accepted one", stdin=ANOTHER)


def test_an_unknown_medium_and_the_last_one_are_not_revoked(lent_da: Laptop) -> None:
    refuses(lent_da, "revoke cd-rom", 2, "no medium 'cd-rom'", "there are: stick")
    refuses(lent_da, "revoke stick", 4, "stick is the last medium", "aemseal remove")

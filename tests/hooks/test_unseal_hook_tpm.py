# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook and a TPM that is not as it was left, or an approval that is forged."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from hook_bus import CC_PCR_EVENT, CC_START_AUTH_SESSION, CC_UNSEAL, NEW, OLD, Wire
from hook_keys import Key, policy_ref, run
from hook_outcome import assert_closed, held
from hook_world import COUNTER, SECRET, SRK_HANDLE, Machine

pytestmark = pytest.mark.tpm


def test_no_tpm_is_named(machine: Machine, tmp_path: Path) -> None:
    machine.boot(OLD)
    for tcti in (f"swtpm:path={tmp_path}/none", f"device:{tmp_path}/none"):
        outcome = machine.hook(tcti=tcti)
        assert (outcome.code, outcome.word) == (12, "no-tpm")
        assert_closed(outcome)
        assert "cap" not in outcome.record
        assert "luks" not in outcome.record


@pytest.mark.parametrize("code", [CC_START_AUTH_SESSION, CC_UNSEAL, CC_PCR_EVENT])
def test_a_tpm_that_goes_away_half_way_is_named(machine: Machine, code: int) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        wire.at(code, machine.tpm.power_cut)
        outcome = machine.hook(tcti=wire.tcti)
    assert outcome.word == "cap-failed"
    assert_closed(outcome)


def test_an_undefined_counter_is_named(machine: Machine) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_counter_defined_again_never_has_its_old_value(machine: Machine) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    machine.make_counter(increments=0)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")
    machine.count_up()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


@pytest.mark.parametrize(
    "attributes",
    [
        "ownerwrite|authread|no_da",
        "ownerwrite|ownerread",
        "nt=bits|ownerwrite|authread",
    ],
)
def test_another_index_at_the_counters_handle_is_refused(
    machine: Machine, attributes: str
) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    size = () if "bits" in attributes else ("-s", "8")
    machine.tool("tpm2_nvdefine", "-C", "o", "-a", attributes, *size, hex(COUNTER))
    if "bits" in attributes:
        machine.tool("tpm2_nvsetbits", "-C", "o", "-i", "0x1", hex(COUNTER))
    else:
        count = (1).to_bytes(8, "big")
        machine.tool("tpm2_nvwrite", "-C", "o", "-i", "-", hex(COUNTER), input=count)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, outcome.word)
    assert outcome.word in ("tpm-changed", "not-accepted")


def test_a_cleared_tpm_is_named(machine: Machine) -> None:
    machine.tool("tpm2_clear", "-c", "p")
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_cleared_tpm_made_up_to_look_the_same_is_named(machine: Machine) -> None:
    pinned = (machine.etc / "srk.tr").read_bytes()
    machine.tool("tpm2_clear", "-c", "p")
    machine.make_storage_key("ecc")
    machine.make_counter()
    machine.accept({"old": OLD})
    (machine.etc / "srk.tr").write_bytes(pinned)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_planted_storage_key_is_named_and_learns_nothing(machine: Machine) -> None:
    public, private, planted = (
        machine.folder / name for name in ("public", "private", "planted")
    )
    known = machine.folder / "known.pem"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")(known)
    machine.tool(
        *("tpm2_import", "-C", SRK_HANDLE, "-G", "ecc:aes128cfb", "-i", known),
        *("-a", "restricted|decrypt|userwithauth|noda", "-u", public, "-r", private),
    )
    machine.tool(
        "tpm2_load", "-C", SRK_HANDLE, "-u", public, "-r", private, "-c", planted
    )
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", SRK_HANDLE)
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", planted, SRK_HANDLE)
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(tcti=wire.tcti)
    held(machine, outcome, "tpm-changed")
    assert CC_UNSEAL not in wire.codes


def test_a_missing_storage_key_is_named(machine: Machine) -> None:
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", SRK_HANDLE)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_lockout_is_named(bare: Machine) -> None:
    bare.enrol(guarded=True)
    bare.tool("tpm2_dictionarylockout", "-s", "-n", "1", "-t", "1000", "-l", "1000")
    public, private, context = (bare.folder / name for name in ("a", "b", "c"))
    bare.tool(
        *("tpm2_create", "-C", SRK_HANDLE, "-p", "right", "-i", "-"),
        *("-u", public, "-r", private, "-c", context),
        input=b"x",
    )
    with pytest.raises(CalledProcessError):
        bare.tool("tpm2_unseal", "-c", context, "-p", "wrong")
    bare.boot(OLD)
    held(bare, bare.hook(), "lockout")


def test_power_cuts_after_the_hook_do_not_count_towards_lockout(
    machine: Machine,
) -> None:
    for _ in range(5):
        machine.boot(OLD)  # a reset without TPM2_Shutdown
        assert machine.hook().stdout == SECRET


def test_power_cuts_do_count_where_the_storage_key_is_without_no_da(
    bare: Machine,
) -> None:
    """Why the tool must not take such a key: three cuts lock an honest user out."""
    bare.enrol(guarded=True)
    words = []
    for _ in range(6):
        bare.boot(OLD)
        words.append(bare.hook().word)
    assert words[0] == "unsealed"
    assert words[-1] == "lockout"


def test_a_signature_by_another_key_is_refused(machine: Machine) -> None:
    thief = Key(machine.folder / "thief")
    machine.accept({"evil": NEW}, key=thief)
    machine.boot(NEW)
    held(machine, machine.hook(), "not-accepted")


def test_another_key_in_the_vault_as_well_is_refused(machine: Machine) -> None:
    thief = Key(machine.folder / "thief")
    vault = machine.medium / "vault"
    vault.write_text(
        vault.read_text().replace(machine.key.public.hex(), thief.public.hex())
    )
    machine.accept({"evil": NEW}, key=thief)
    machine.boot(NEW)
    held(machine, machine.hook(), "not-accepted")


def test_an_acceptance_of_another_medium_opens_nothing(machine: Machine) -> None:
    machine.accept({"old": OLD}, medium="stick")
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")
    moved = machine.medium / "acceptance.1"
    moved.write_text(moved.read_text().replace("medium stick", "medium internal"))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_an_acceptance_of_another_generation_opens_nothing(machine: Machine) -> None:
    machine.generation = 2
    machine.accept({"old": OLD})
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def test_a_policy_ref_changed_along_with_the_medium_opens_nothing(
    machine: Machine,
) -> None:
    machine.accept({"old": OLD}, medium="stick")
    vault = machine.medium / "vault"
    vault.write_text(
        vault.read_text()
        .replace("medium internal", "medium stick")
        .replace(policy_ref(1, "internal").hex(), policy_ref(1, "stick").hex())
    )
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_secret_sealed_by_somebody_else_stays_in(machine: Machine) -> None:
    mine = machine.key
    machine.key = Key(machine.folder / "thief")
    part = machine.seal(b"what the thief would have us believe")[0]
    machine.key = mine
    vault = machine.medium / "vault"
    vault.write_text(re.sub("part .*", part, vault.read_text()))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")

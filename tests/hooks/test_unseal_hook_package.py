# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook opens what the package sealed, and the package reads its record."""

from __future__ import annotations

import pytest
from hook_bus import NEW, OLD, Boot
from hook_world import Machine, held

from aemseal.flows.moves import confirm, stage
from aemseal.flows.provision import own_the_tpm, seal, write_hook_files
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Secret
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.hook_files import HookRecord, pin_of
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.world.config import Medium
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm

pytestmark = pytest.mark.tpm


def selection() -> PcrSelection:
    return PcrSelection.parse("sha256:13,17,18,19")


def sealed_boot(machine: Machine, name: str, what: Boot) -> SealedBoot:
    values = {
        pcr: Digest(HashAlgorithm.SHA256, value)
        for pcr, value in what.pcrs("sha256", machine.disks.headers).items()
    }
    baseline = Baseline(title=name, stack="tboot", map="legacy", measurements=())
    policy = policy_pcr(selection(), values)
    return SealedBoot(name, "2026-01-01T00:00:00Z", policy, baseline)


@pytest.mark.parametrize("size", [1, 128, 300])
def test_the_hook_opens_what_the_package_sealed(bare: Machine, size: int) -> None:
    text = b"z" * size
    old, new = (
        sealed_boot(bare, "Xen 4.17.5", OLD),
        sealed_boot(bare, "Xen 4.17.7", NEW),
    )
    medium = bare.folder / "root" / "boot" / "aemseal"
    medium.mkdir(parents=True)
    files = Files(bare.folder / "root")
    bare.medium, bare.etc = medium, bare.folder / "root/var/lib/aemseal/hook"

    def tpm() -> Tpm:
        return Tpm(bare.tpm.tcti)

    with tpm() as esys:
        vault = Vault(files, esys)
        key = own_the_tpm(vault, None)
        state = VaultState(
            generation=1,
            selection=selection(),
            storage=key,
            counter=0,
            count=0,
            media=(Medium(label="internal", path="/boot/aemseal"),),
            secrets=(),
            baseline=old.boot,
            accepted=(old,),
        )
        write_hook_files(vault, key, selection())
        state = seal(vault, state, (ToSeal(Secret("text", "text", text)),))

    def shows(what: Boot, word: str) -> None:
        bare.boot(what)
        outcome = bare.hook()
        held(bare, outcome, word)
        record = HookRecord.parse((bare.run / "record").read_bytes())
        assert record.left.value == bare.pcr(13)
        assert record.pin == pin_of(key.serialized)
        assert record.selection == selection()
        assert outcome.stdout == (text + b"\n" if word == "unsealed" else b"")

    shows(OLD, "unsealed")
    shows(NEW, "not-accepted")
    with tpm() as esys:
        state = stage(Vault(files, esys), state, old.policy, new)
    shows(OLD, "unsealed")
    shows(NEW, "unsealed")
    with tpm() as esys:
        confirm(Vault(files, esys), state, new)
    shows(NEW, "unsealed")
    shows(OLD, "not-accepted")

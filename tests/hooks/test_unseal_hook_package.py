# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook opens what the package sealed, and the package reads its record."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hook_bus import NEW, OLD, Boot
from hook_outcome import OLD_BOOT, held
from hook_world import Machine

from aemseal.flows.moves import confirm, stage
from aemseal.flows.provision import own_the_tpm, seal, write_hook_files
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.hook_files import HookRecord, OpenedSecret, pin_of
from aemseal.formats.slot import SECRET_KINDS
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source, SourceKind
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
    headers = [(13, header) for header in machine.disks.headers]
    measured = tuple(
        Measurement(
            pcr,
            {HashAlgorithm.SHA256: HashAlgorithm.SHA256.hash(data)},
            Role.LUKS if pcr == 13 else Role.PLATFORM,
            Source(SourceKind.CONSTANT),
        )
        for pcr, data in [(17, what.launched), *what.extends, *headers]
    )
    baseline = Baseline(name, "tboot", "legacy", measured)
    policy = policy_pcr(selection(), values)
    return SealedBoot(name, "2026-01-01T00:00:00Z", policy, baseline)


def sealed_by_the_package(
    machine: Machine, secrets: Sequence[ToSeal], accepted: SealedBoot
) -> tuple[Files, VaultState]:
    """Enrol as the package does; the machine then boots with what it wrote."""
    medium = machine.folder / "root" / "boot" / "aemseal"
    medium.mkdir(parents=True)
    files = Files(machine.folder / "root")
    machine.medium = medium
    machine.etc = machine.folder / "root/var/lib/aemseal/hook"
    with Tpm(machine.tpm.tcti) as esys:
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
            baseline=accepted.boot,
            accepted=(accepted,),
        )
        write_hook_files(vault, key, selection())
        return files, seal(vault, state, secrets)


@pytest.mark.parametrize("size", [1, 104, 300])
def test_the_hook_opens_what_the_package_sealed(bare: Machine, size: int) -> None:
    text = b"z" * size
    old, new = (
        sealed_boot(bare, "Xen 4.17.5", OLD),
        sealed_boot(bare, "Xen 4.17.7", NEW),
    )
    secret = ToSeal(Secret("text", "text", text))
    files, state = sealed_by_the_package(bare, (secret,), old)

    def shows(what: Boot, word: str, *, waits: bool = False) -> None:
        """`waits`: an update does, and this is the boot from before it."""
        bare.boot(what)
        outcome = bare.hook()
        held(bare, outcome, word, before_update=waits)
        record = HookRecord.parse((bare.run / "record").read_bytes())
        assert record.left.value == bare.pcr(13)
        assert record.pin == pin_of(state.storage.serialized)
        assert record.selection == selection()
        assert record.before_update == waits
        told = OLD_BOOT.encode() if waits else b""
        assert outcome.stdout == (told + text + b"\n" if word == "unsealed" else b"")
        assert ("PCR 18 differs" in outcome.stderr) == (word == "not-accepted")

    shows(OLD, "unsealed")
    shows(NEW, "not-accepted")
    with Tpm(bare.tpm.tcti) as esys:
        state = stage(Vault(files, esys), state, old.policy, new)
    shows(OLD, "unsealed", waits=True)
    shows(NEW, "unsealed")
    with Tpm(bare.tpm.tcti) as esys:
        confirm(Vault(files, esys), state, new)
    shows(NEW, "unsealed")
    shows(OLD, "not-accepted")


def test_the_hook_opens_every_kind_with_the_pin_of_the_package(bare: Machine) -> None:
    pin, keyfile = "~correct+horse~", bytes(range(192, 256))
    secrets = [
        ToSeal(Secret(kind, kind, value), Pin(pin.encode()))
        for kind, value in (
            ("text", b"the text"),
            ("totp", b"12345678901234567890"),
            ("keyfile", keyfile),
        )
    ]
    sealed_by_the_package(bare, secrets, sealed_boot(bare, "Xen 4.17.5", OLD))
    bare.person.types("not-the-pin", pin)
    bare.boot(OLD)
    outcome = bare.hook()
    held(bare, outcome, "unsealed", opened=[f"{kind} {kind}" for kind in SECRET_KINDS])
    assert outcome.stdout.startswith(b"the text\nThe disk key is ready.\none-time code")
    assert (bare.run / "keyfile").read_bytes() == keyfile
    record = HookRecord.parse((bare.run / "record").read_bytes())
    assert record.opened == tuple(OpenedSecret(kind, kind) for kind in SECRET_KINDS)
    bare.person.types(pin)
    bare.boot(NEW)
    held(bare, bare.hook(), "not-accepted")
    assert bare.person.heard == ()

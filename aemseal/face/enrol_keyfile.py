# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb `enrol keyfile`: the first secret, or one beside others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aemseal.face.enrol import Asking, enrol_first
from aemseal.face.pin import read_pin
from aemseal.face.run import Run
from aemseal.flows.secret import KEYFILE
from aemseal.flows.state import VaultState
from aemseal.words.errors import EXIT_DONE, AemsealError

if TYPE_CHECKING:
    from aemseal.flows.sealing import ToSeal
    from aemseal.flows.vault import Vault
    from aemseal.world.luks_headers import HeaderChange


class AskingKey(Asking):
    """Asks for the PIN and the device's passphrase, and drafts the key with them."""

    def __init__(self, run: Run, vault: Vault) -> None:
        super().__init__(run, KEYFILE)
        self.vault = vault
        self._header: HeaderChange | None = None

    def __call__(self, state: VaultState | None = None) -> ToSeal:
        """Ask; nothing is asked for where it is not known for which device."""
        from aemseal.flows.keyfile import disk_of, draft_key

        arguments = self.run.arguments
        uuid = disk_of(self.run.host, arguments.entry, arguments.disk)
        pin = read_pin(self.run, KEYFILE, state)
        assert pin is not None, "a keyfile always has one"
        passphrase = self.run.terminal.read_secret(
            f"passphrase of the LUKS device {uuid} (not shown): "
        )
        secret, self._header = draft_key(self.vault, uuid, passphrase, pin)
        self.is_answered = True
        return secret

    def header(self) -> HeaderChange | None:
        """Return the header that was drafted."""
        return self._header

    def forget(self) -> None:
        """Throw the draft away, if nothing was promised of it."""
        from aemseal.flows.keyfile import forget_draft

        if self._header is not None:
            forget_draft(self.vault, self._header.uuid)


def enrol_keyfile(run: Run) -> int:
    """Add a random key to a LUKS device, and seal it."""
    with run.vault() as vault:
        asking = AskingKey(run, vault)
        try:
            if vault.load() is None:
                state, lines = enrol_first(run, vault, asking)
            else:
                state, lines = _enrol_beside(run, vault, asking)
        except (AemsealError, KeyboardInterrupt):
            asking.forget()
            raise
    return _show(run, state, lines)


def _enrol_beside(
    run: Run, vault: Vault, asking: AskingKey
) -> tuple[VaultState, list[str]]:
    """Seal a key beside other secrets, for the accepted boots with its header."""
    from aemseal.flows.enrol_beside import require_room_beside
    from aemseal.flows.keyfile import enrol_keyfile_beside, require_shown_next
    from aemseal.flows.reseal import next_boot

    state = require_room_beside(vault, run.host, KEYFILE)
    following = next_boot(run.host, state, entry=run.arguments.entry, asked=run.asked)
    require_shown_next(following)
    secret = asking(state)
    header = asking.header()
    assert header is not None, "asking drafted it"
    others = ", ".join(each.name for each in state.secrets)
    after = enrol_keyfile_beside(vault, state, following, (secret, header))
    return after, [f"sealed a keyfile beside: {others}"]


def _show(run: Run, state: VaultState, lines: list[str]) -> int:
    from aemseal.flows.keyfile import kept_slot
    from aemseal.flows.luks_boots import lost_key

    lost = lost_key(state)
    if lost is not None:
        raise lost
    disk = kept_slot(state)
    assert disk is not None, "it is not lost"
    report = {
        "schema": "aemseal.enrol/1",
        "accepted": [boot.name for boot in state.accepted],
        "staged": [boot.name for boot in state.staged],
        "selection": str(state.selection),
        "secrets": [each.name for each in state.secrets],
        "disk": disk.to_dict(),
    }
    place = f"its key is in slot {disk.slot} of LUKS device {disk.uuid}"
    step = "reboot, since the LUKS header is another one now; then: aemseal confirm"
    run.terminal.result(report, [*lines, place, f"next step: {step}"])
    return EXIT_DONE

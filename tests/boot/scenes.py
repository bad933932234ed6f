# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens at the screen: looked for, typed, and written down for the docs.

A verdict is a word that nothing but the thing itself prints, and how the machine went
off: neither a hang nor a panic can pass for it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from boot_world import PROMPT, SECRET, VERDICT, record_of
from tpm_sim.luks_root import PASSPHRASE
from tpm_sim.qemu import Pc

BOOTED = 240
"""Seconds until the hook has spoken, on two busy cores without KVM."""

QUESTION = "To start it all the same, type: boot it blindly"
DRACUTS_PROMPT = "Enter passphrase for "
"""How the prompt begins where there is no systemd in the initramfs."""

DO_NOT_TYPE = "Do not type your disk passphrase."


def require_boots() -> None:
    """Skip what boots a machine in QEMU: half a minute each is not for every run."""
    if not os.environ.get("AEMSEAL_BOOT"):
        pytest.skip("real boots are run by: make test-boot")


def shows_the_secret(pc: Pc) -> None:
    """The secret stands on the screen before any passphrase is asked for."""
    pc.wait_for(SECRET, BOOTED)
    assert not re.search(PROMPT, pc.console)


def enters_the_root(pc: Pc, *, asked: bool = True) -> str:
    """The passphrase opens the root, which is entered; returns the hook's record.

    `asked` off: nobody asks for the passphrase, since the sealed key opens the disk.
    """
    if asked:
        pc.wait_for(PROMPT, 90)
        pc.type(PASSPHRASE.decode())
    pc.wait_for(VERDICT, 120)
    pc.wait_for("RECORD-END", 30)
    pc.wait_until_off(60)
    return record_of(pc.console)


def is_refused(pc: Pc, sentence: str) -> None:
    """The sentence is said, no secret, no passphrase prompt; Enter powers off.

    `sentence` is a pattern of all that is said before "Do not type your disk
    passphrase."
    """
    pc.wait_for(rf"aemseal: {sentence} {re.escape(DO_NOT_TYPE)}", BOOTED)
    pc.wait_for(QUESTION, 30)
    pc.type("")
    pc.wait_until_off(60)
    assert SECRET not in pc.console
    assert VERDICT not in pc.console
    assert not re.search(PROMPT, pc.console)


def write_down(pc: Pc, name: str) -> None:
    """Keep what the console showed as a transcript, where one is asked for.

    From the initramfs on: what GRUB, tboot and Xen say before has nothing to read. What
    the screen shows one after the other on one line are lines here.
    """
    folder = os.environ.get("AEMSEAL_TRANSCRIPTS")
    if not folder:
        return
    first = rf"^(?=.*(?:aemseal: |aemseal vault:|{SECRET}))"
    spoken = re.split(first, pc.console, flags=re.M)
    text = "".join(spoken[1:]).split("RECORD-BEGIN")[0]
    lines = re.sub(r"(?<=s left\)) +(?=\S)", "\n", text).splitlines()
    text = "\n".join(line.rstrip() for line in lines if line.strip())
    Path(folder, f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")

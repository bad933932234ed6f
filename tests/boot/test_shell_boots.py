# SPDX-License-Identifier: GPL-2.0-or-later
"""A shell in the very initramfs that unsealed: what it gets out of the TPM afterwards.

The boot is an accepted one, with a shell in its command line, so that the person at it
has all that the hook has, and the disk open besides.
"""

from __future__ import annotations

import pytest
from boot_world import PROMPT, SECRET, VERDICT, BootWorld
from scenes import shows_the_secret, write_down
from tpm_sim.boot_directory import BOOT_UUID
from tpm_sim.luks_root import PASSPHRASE
from tpm_sim.qemu import Pc

pytestmark = pytest.mark.tpm

SHELL = r"sh-\S*# "
RESET_13 = r"\200\2\0\0\0\33\0\0\1\75\0\0\0\15\0\0\0\11\100\0\0\11\0\0\0\0\0"
"""TPM2_PCR_Reset of PCR 13, with an empty password."""

LOCALITY = "80 01 00 00 00 0a 00 00 09 07"
"""The answer to it: TPM_RC_LOCALITY."""


def test_a_shell_after_the_cap_cannot_unseal(world: BootWorld) -> None:
    world.accept_menu("rd.shell=0", "rd.shell=1 rd.break=pre-mount")
    with world.pc() as pc:
        shows_the_secret(pc)
        pc.wait_for(PROMPT, 90)
        pc.type(PASSPHRASE.decode())
        reach_the_shell(pc)
        did(pc, "stty columns 200")
        did(pc, f"mkdir /m; mount -o ro /dev/disk/by-uuid/{BOOT_UUID} /m")
        its_policy_by_hand_is_refused(pc)
        pcr_13_cannot_be_reset(pc)
        the_hook_again_is_refused(pc)
        pc.type("poweroff -f")
        pc.wait_until_off(60)
        write_down(pc, "shell-after-the-cap")
        assert pc.console.count(SECRET) == 1
        assert VERDICT not in pc.console


def the_hook_again_is_refused(pc: Pc) -> None:
    code = run(pc, "/usr/lib/aemseal/aemseal-unseal -r /run/again -m /m/aemseal")
    assert code == 10
    assert "This boot is not one that you accepted: PCR 13 differs." in pc.console


def its_policy_by_hand_is_refused(pc: Pc) -> None:
    """PolicyOR in its order, then the unsealing without it.

    Before the hook is run again: that measures the disks once more, so that PCR 13
    would differ without a cap as well.
    """
    did(pc, ". /usr/lib/aemseal/lib/bytes.sh; mkdir /run/hand; cd /run/hand")
    did(pc, "tpm2_startauthsession --policy-session -S s -c /etc/aemseal/srk.tr")
    did(pc, "pcrs=$(sed -n 's/pcrs /sha256:/p' /etc/aemseal/hook.conf)")
    did(pc, "tpm2_policypcr -S s -l $pcrs")
    did(pc, "set $(sed -n 's/^branch \\([0-9a-f]*\\).*/\\1/p' /m/aemseal/acceptance.*)")
    did(pc, "l=; for d; do bytes $d >b$#; l=$l,b$#; shift; done; l=${l#,}")
    assert run(pc, "tpm2_policyor -S s -l sha256:$l 2>e; r=$?; cat e; (exit $r)") == 1
    assert "tpm:parameter(1):value is out of range" in pc.console
    did(pc, "set $(sed -n 's/^part //p' /m/aemseal/vault)")
    did(pc, "bytes $1 >u; bytes $2 >r; tpm2_load -C /etc/aemseal/srk.tr -u u -r r -c o")
    assert run(pc, "tpm2_unseal -c o -p session:s") == 1
    assert "a policy check failed" in pc.console


def pcr_13_cannot_be_reset(pc: Pc) -> None:
    did(pc, f"printf '{RESET_13}' >reset; tpm2_send -o answer reset")
    did(pc, "od -An -tx1 answer")
    assert LOCALITY in pc.console


def reach_the_shell(pc: Pc) -> None:
    """Where there is a password database, sulogin asks for Enter first."""
    if not pc.wait_for(rf"Press Enter for maintenance|{SHELL}", 90).endswith("# "):
        pc.type("")
        pc.wait_for(SHELL, 30)


def run(pc: Pc, command: str) -> int:
    """Type a command at the shell, wait for it, and return its exit status."""
    pc.type(f"{command}; echo =$?=")
    return int(pc.wait_for(r"^=\d+=$", 90).strip("="))


def did(pc: Pc, command: str) -> None:
    """Type a command that has to succeed."""
    assert run(pc, command) == 0, pc.console[-2000:]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The one thing to do next, as `status` says it: a sentence for each finding."""

from __future__ import annotations

ENROL = "seal a secret: aemseal enrol text"
HALFWAY = (
    "the initramfs with the hook is built: reboot, unless you have since, then enrol "
    "again: aemseal enrol text"
)
FIRST_BOOT = (
    "reboot: the boot that enrol staged shows the secret; if it does not, see: "
    "aemseal explain"
)
TPM = "the TPM changed; see why: aemseal explain"
EXPLAIN = "this boot is not an accepted one; see why: aemseal explain"
BLIND = (
    "the next boot will be blind: read what `aemseal reseal` says of it before you "
    "reboot"
)
PROBLEM = "put right what the problem says, then look again: aemseal status"
SHUT = (
    "the vault is shut: somebody counted the TPM's counter on, or this disk is an "
    "older copy; if you know which, begin anew: aemseal recover"
)
CONFIRM = "keep this boot and retire the one before it: aemseal confirm"
NOTHING = "nothing: the next boot will show the secret"
NEEDS_MEDIUM = "{}, with a medium in: {}"
LOCKOUT = "have the tries forgotten, since this boot is accepted: aemseal confirm"
REBOOT = "reboot: the staged boot will show the secret"
RESEAL = "stage the next boot before you reboot: aemseal reseal"
FALLBACK = "a fallback entry would be blind; stage it, too: aemseal reseal"
RETIRED = (
    "do not reboot yet: the files in /boot are those of a retired boot; put the newer "
    "ones back"
)
CHECK = "look at the next boot: aemseal status --check"

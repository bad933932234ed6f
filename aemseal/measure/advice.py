# SPDX-License-Identifier: GPL-2.0-or-later
"""What `explain` advises, one sentence for each finding.

Whether to type the passphrase is said here and nowhere else. Only an accepted boot is
ever called safe.
"""

from __future__ import annotations

ACCEPTED = (
    "This is the accepted boot {}: once you have seen your secret, it is safe to type "
    "the passphrase."
)
RETIRED = (
    "Do not type the passphrase: this is {}, which is no longer accepted, and unless "
    "you put it back yourself someone else did."
)
CHANGED = (
    "Do not type the passphrase unless you changed {} yourself: it is not what was "
    "accepted."
)
ANOTHER = (
    "Do not type the passphrase unless you put it there yourself: instead of the "
    "accepted {} this is {}."
)
SAME_BYTES = (
    "Do not type the passphrase unless you put it there yourself: instead of the "
    "accepted {} this has {}."
)
AN_ENTRY = (
    "Do not type the passphrase unless you chose it yourself: this is what the entry "
    "{!r} boots with the files that are in /boot now, and no accepted boot."
)
ADDED = (
    "Do not type the passphrase unless you added it yourself: something was measured "
    "into PCR {} that the accepted boot does not have."
)
ADDED_HEADER = (
    "Do not type the passphrase unless you added a disk yourself: a LUKS header was "
    "measured into PCR {} that the accepted boot does not have."
)
MISSING = (
    "Do not type the passphrase unless you took it out yourself: {} belongs to the "
    "accepted boot and was not measured."
)
MISSING_HEADER = (
    "Do not type the passphrase unless you took the disk or aemseal's hook out "
    "yourself: the LUKS header of {} was not measured, which happens when this boot's "
    "initramfs has no hook."
)
FIRMWARE = (
    "Do not type the passphrase unless you have just changed the firmware, its "
    "settings or the SINIT file: what was measured before the boot files is not what "
    "is accepted."
)
BOOT_INFO = (
    "Do not type the passphrase unless you changed a command line, GRUB or firmware "
    "yourself: the files are the accepted ones, but the multiboot information, which "
    "holds every command line, is not."
)
HEADER = (
    "Do not type the passphrase unless you changed a key of that disk yourself: the "
    "LUKS header of {} is not the accepted one, and the disk may be another one."
)
NOT_SHOWN = (
    "Do not type the passphrase before you know why the secret did not appear: this is "
    "the accepted boot {}, but {}."
)
OUTCOMES = {
    "no-medium": "nothing sealed was found on the boot medium",
    "stale": "the medium holds no acceptance for the TPM's counter",
    "bad-medium": "the medium's files were damaged or tampered with",
    "not-accepted": "the TPM refused what is on the medium",
    "lockout": "the TPM was in lockout",
    "tpm-changed": "the TPM had lost our key or counter",
    "no-tpm": "the TPM did not answer the hook",
    "no-launch": "there was no dynamic launch",
    "two-disks": "two disks answered to one name",
    "no-luks": "the header of an encrypted disk could not be measured",
    "cap-failed": "PCR 13 could not be capped",
    "failed": "the hook was interrupted",
    "wrong-pin": "the PIN was wrong three times",
    "no-pin": "no PIN was typed",
}
"""The outcomes of docs/slot-format.md other than unsealed, in words."""

OVERRIDDEN = (
    "The boot hook refused this boot, and somebody typed the words to start it all the "
    "same. {} Unless it was you, and you expected this, take the passphrase typed "
    "after it, and all that was open since, for seen: switch off, and change the "
    "passphrase from an accepted boot."
)

SHUT = (
    "Do not type the passphrase: the TPM's counter has gone on, so this disk is an "
    "older copy that somebody put back, or somebody counted to lock the secret away. "
    "If you know which: aemseal recover."
)
NOTHING_KNOWN = (
    "Do not type the passphrase because of this tool: no accepted boot is on record to "
    "hold this one against."
)
UNMEASURED = (
    "Do not type the passphrase: no measured launch took place, so nothing about this "
    "boot is proven; start the entry with the measured launch."
)
TPM_CHANGED = (
    "Do not type the passphrase before you know why the TPM changed: it was cleared or "
    "lost our key, which says nothing good or bad about the boot files. If it was you: "
    "aemseal recover."
)

FORESEEN = (
    "This boot is not accepted, but all that could be predicted of it came as "
    "predicted: {}. Nothing proves {}. If this is the update you expected, accept it "
    "by your own word: aemseal recover."
)
UNFORESEEN = (
    "Do not trust this boot unless you changed {} yourself: it is neither what was "
    "accepted nor what was predicted. Put the accepted files back, or do not use this "
    "machine for anything secret. Only if you made the change, accept it: aemseal "
    "recover."
)
UNFORESEEN_OTHER = (
    "Do not trust this boot: something was measured into PCR {} that was neither "
    "accepted nor predicted. Put the accepted files back, or do not use this machine "
    "for anything secret. Only if you made the change, accept it: aemseal recover."
)
COMMAND_LINES = "the command lines"
"""All that nothing else measures of the multiboot information, which holds them."""

WHICH_XEN = "which Xen this is"
TABLES = "the launch's own tables"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What Anti Evil Maid 4.2 does in its initramfs around unseal_like_aem.sh: the boot
# medium is found by `aem.uuid=`, looked at for a second one of that name, its files are
# copied, and the disks of `rd.luks.uuid=` handed over. Written anew from what
# 90anti-evil-maid/anti-evil-maid-unseal does (QubesOS/qubes-antievilmaid). The splash,
# udevadm, TPM 1.2's daemon and the key to press are left out: no TPM command is theirs.

set -e -o pipefail
export TPM2TOOLS_TCTI=device:/dev/tpm0 TSS2_LOG=all+none

# words NAME: the kernel's arguments of that name.
words() {
    tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"
}

uuid=$(words aem.uuid)
device=/dev/disk/by-uuid/$uuid
number=$(lsblk -nr -o UUID | grep -Fixc "$uuid")
[ "$number" = 1 ]
label=$(lsblk -dnr -o LABEL "$device")
medium=/run/aem-medium
mkdir -p "$medium" /var/lib
mount -t ext4 -o ro "$device" "$medium"
cp -Tr "$medium/aem/tpms" /var/lib/tpms
umount "$medium"
blockdev --getro "$device" >/dev/null

disks=$(words rd.luks.uuid | sed 's/^luks-//' | sort -u | sed 's,^,/dev/disk/by-uuid/,')
mkdir -p /run/anti-evil-maid
echo "$label" >/run/anti-evil-maid/suffix
# shellcheck disable=SC2046,SC2086 # lists of words
exec /usr/lib/aem-calls/unseal /var/lib/tpms $(words aem.key) $(words aem.pcrs) $disks

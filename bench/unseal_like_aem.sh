#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# unseal_like_aem.sh [-n] BLOBS KEY_HANDLE PCRS DEVICE...
#
# The calls of tpm2-tools that Anti Evil Maid 4.2 makes at boot for one text secret
# without a storage key password, in its order and no others. Written anew from what
# its programs do: 90anti-evil-maid/anti-evil-maid-unseal, sbin/anti-evil-maid-lib-tpm2
# (QubesOS/qubes-antievilmaid), sbin/tpm2_id (qubes-trousers-changer), sbin/tpm2_z_srk
# (qubes-tpm-extra). What it asks of udev, plymouth and the person is left out.
# -n: end before the freshness token and the secret, to tell their calls from the rest.

set -e -o pipefail

only_before=no
if [ "$1" = -n ]; then
    only_before=yes
    shift
fi
blobs=$1
key=$2
pcrs=$3
shift 3
work=$(mktemp -d)
leave() {
    tpm2_flushcontext -tls
    rm -rf "$work"
}
trap leave EXIT

identity_index=0x7562
token_index=0x454d

hex() {
    od -An -v -tx1 | tr -dc 0-9a-f
}

# reading_session: both indices are read by a policy that anybody satisfies.
reading_session() {
    tpm2_startauthsession -S "$work/reading" --policy-session
    tpm2_policycommandcode -Q -S "$work/reading" TPM2_CC_NV_Read
}

# Which TPM is this? Its files lie in a folder of that name.
tpm2_nvreadpublic "$identity_index" | grep -i writedefine >/dev/null
reading_session
identity=$(tpm2_nvread "$identity_index" -P "session:$work/reading" | hex)
tpm2_flushcontext "$work/reading"
folder=$blobs/$identity

# Each LUKS header into PCR 13.
for device in "$@"; do
    cryptsetup luksHeaderBackup "$device" --header-backup-file "$work/header"
    digest=$(sha256sum "$work/header" | cut -f 1 -d ' ')
    tpm2_pcrextend "13:sha256=$digest"
    rm -f "$work/header"
done

# Has the storage key a password? Tried by sealing a line end.
echo | tpm2_create -Q -C "$key" -i -

if [ "$only_before" = yes ]; then exit 0; fi

# unsealed NAME: the key for this boot out of the TPM, the file by that.
unsealed() {
    tpm2_load -Q -C "$key" -P str: --private "$folder/key.priv" \
        --public "$folder/key.pub" -c "$work/key"
    tpm2_unseal -Q -c "$work/key" -p "pcr:$pcrs" | hex |
        openssl enc -aes-256-ctr -pbkdf2 -d -kfile - \
            -in "$folder/secret.$1.sealed2" -out "$work/$1"
    tpm2_flushcontext -t
}

# The freshness token must be in one of eight slots; ours is the first.
unsealed fre
hash=$(sha256sum "$work/fre" | cut -d ' ' -f 1)
reading_session
found=no
for slot in 0 1 2 3 4 5 6 7; do
    kept=$(tpm2_nvread "$token_index" -P "session:$work/reading" \
        --offset=$((slot * 32)) -s 32 | hex)
    if [ "$kept" = "$hash" ]; then
        found=yes
        break
    fi
done
tpm2_flushcontext "$work/reading"
[ "$found" = yes ]

unsealed txt
cat "$work/txt"

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The TPM's part: the counter, the signature, the session, its policy, the secret.
#
# Needs `etc`, `work`, `bank`, `pcrs`, the fields of slot.sh, bytes.sh and tpm.sh. Sets
# `count` (before the acceptance is read: it says which), `branch` and `secret`. Leaves
# with the outcome of the step that the TPM refused.

# read_counter: 8 bytes, big endian, kept as they are for PolicyNV.
read_counter() {
    tpm tpm2_nvread -C "$counter" -s 8 -o "$work/count" "$counter" ||
        refused tpm-changed
    hex_of "$work/count" || leave failed
    case $hex in
        [0-7]???????????????) ;;
        *) leave tpm-changed ;; # an index of another kind, planted
    esac
    count=$((0x$hex))
}

# approve: have K's signature checked, for a ticket that this TPM believes.
approve() {
    digits=$(printf '%04x' $((${#public_key} / 2))) # TPM2B_PUBLIC from TPMT_PUBLIC
    bytes "$digits$public_key" >"$work/key.public" || leave failed
    bytes "$policy$policy_ref" >"$work/message" || leave failed
    bytes "$policy" >"$work/policy" || leave failed
    bytes "$policy_ref" >"$work/policy-ref" || leave failed
    bytes "$signature" >"$work/signature" || leave failed
    loaded=yes
    tpm tpm2_loadexternal -C o -u "$work/key.public" -c "$work/key" \
        -n "$work/key.name" || refused bad-medium
    tpm tpm2_verifysignature -c "$work/key" -g sha256 -m "$work/message" \
        -s "$work/signature" -t "$work/ticket" || {
        read_code
        case $code in
            0x2db) refused not-accepted ;; # TPM_RC_SIGNATURE
            *) refused bad-medium ;;
        esac
    }
    flush_objects
}

# start_session: salted to srk.tr, so that a key planted at its handle learns nothing,
# with the parameters of commands and responses encrypted.
start_session() {
    tpm tpm2_startauthsession --policy-session -c "$etc/srk.tr" \
        -S "$work/session" || refused tpm-changed
}

# satisfy: the policy, once for each unsealing, since using a session resets it.
satisfy() {
    tpm tpm2_policypcr -S "$work/session" -l "$bank:$pcrs" -L "$work/now" ||
        refused not-accepted
    hex_of "$work/now" || leave failed
    case $branch_list in
        *"$newline$hex "*) ;;
        *) judge not-accepted ;;
    esac
    branch=${branch_list#*"$newline$hex "}
    branch=${branch%%"$newline"*}
    tpm tpm2_policyor -S "$work/session" -l "sha256:${branch_files#,}" ||
        refused not-accepted
    tpm tpm2_policynv -S "$work/session" -C "$counter" -i "$work/count" \
        "$counter" eq || refused not-accepted
    tpm tpm2_policyauthorize -S "$work/session" -i "$work/policy" \
        -q "$work/policy-ref" -n "$work/key.name" -t "$work/ticket" ||
        refused not-accepted
}

unseal() {
    part=1
    while [ "$part" -le "$parts" ]; do
        satisfy
        loaded=yes
        tpm tpm2_load -C "$etc/srk.tr" -u "$work/public.$part" \
            -r "$work/private.$part" -c "$work/object" || refused bad-medium
        # The mark keeps line feeds at the end of a part.
        dirty=yes
        text=$(
            bounded tpm2_unseal -c "$work/object" -p "session:$work/session" \
                2>"$work/error" && printf '.'
        ) || refused not-accepted
        dirty=no
        secret=$secret${text%.}
        flush_objects
        part=$((part + 1))
    done
}

read_in="$read_in unseal"

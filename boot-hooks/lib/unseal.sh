# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The TPM's part: the counter, the signature, the session, its policy, the secrets.
#
# Needs `etc`, `work`, `bank`, `pcrs`, the fields of slot.sh, bytes.sh, pin.sh and
# tpm.sh. Sets `count` (before the acceptance is read: it says which), `branch`,
# `is_before`, `approved` and `opened`, and writes $work/secret.KIND. Leaves with the outcome of the
# step that the TPM refused, or with no-pin.

# read_counter: TPM2_NV_Read as its own bytes, with the index' empty authValue: one
# command, where the tool for it takes nine. The 8 bytes, big endian, are kept as they
# are for PolicyNV; it is the TPM that compares them.
read_counter() {
    index=${counter#0x}
    {
        bytes "8002000000230000014e$index$index" &&
            bytes 0000000940000009000000000000080000
    } >"$work/nv-read" || leave failed
    tpm tpm2_send -o "$work/nv-value" "$work/nv-read" || refused tpm-changed
    hex_of "$work/nv-value" || leave failed
    case $hex in
        80020000001d00000000????????0008[0-7]*) ;;
        80010000000a*)
            printf '(0x%s)' "${hex#80010000000a}" >"$work/error"
            refused tpm-changed
            ;;
        *) leave tpm-changed ;; # an index of another kind, planted
    esac
    hex=${hex#????????????????????????????????}
    hex=${hex%"${hex#????????????????}"}
    bytes "$hex" >"$work/count" || leave failed
    count=$((0x$hex))
}

# approve: have K's signature checked, for a ticket that this TPM believes.
approve() {
    digits=$(printf '%04x' $((${#public_key} / 2))) # TPM2B_PUBLIC from TPMT_PUBLIC
    bytes "$digits$public_key" >"$work/key.public" || leave failed
    message=$(bytes "$policy$policy_ref" | sha256sum) || leave failed
    bytes "${message%% *}" >"$work/message" || leave failed
    bytes "$policy" >"$work/policy" || leave failed
    bytes "$policy_ref" >"$work/policy-ref" || leave failed
    bytes "$signature" >"$work/signature" || leave failed
    loaded=yes
    tpm tpm2_loadexternal -C o -u "$work/key.public" -c "$work/key" \
        -n "$work/key.name" || refused bad-medium
    tpm tpm2_verifysignature -c "$work/key" -d "$work/message" \
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
    tpm tpm2_policypcr -S "$work/session" -l "$bank:$pcrs" >"$work/now" ||
        refused not-accepted
    IFS= read -r hex <"$work/now" && is_hex "$hex" 64 64 || leave failed
    case $branch_list in
        *"$newline$hex "*) ;;
        *) judge not-accepted ;;
    esac
    case $branch_list in
        *"$newline$hex "*"$newline$staged_mark "*) is_before=yes ;;
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

# load_part: of the secret `kind`.
load_part() {
    loaded=yes
    tpm tpm2_load -C "$etc/srk.tr" -u "$work/public.$kind.$part" \
        -r "$work/private.$kind.$part" -c "$work/object" || refused bad-medium
}

# take AUTHORISATION: add the loaded part's bytes to the secret's file.
take() {
    loaded=yes
    was=$dirty
    dirty=yes
    bounded tpm2_unseal -c "$work/object" -p "$1" \
        >"$work/secret.part" 2>"$work/error" || return 1
    dirty=$was
    add_part || leave bad-medium
}

# add_part: the part says itself which of which secret it is, and the vault file, which
# says so too, was in anybody's hands: a TOTP seed called a text would be shown.
add_part() {
    label="aemseal $kind $part/$parts"
    line=''
    IFS= read -r line <"$work/secret.part" || return 1
    [ "$line" = "$label" ] || return 1
    tail -c +$((${#label} + 2)) "$work/secret.part" >>"$work/secret.$kind" || return 1
    overwrite "$work/secret.part"
}

# take_guarded: with the PIN, which is asked for when every other policy holds and not
# before. A wrong PIN leaves the session as it was.
take_guarded() {
    satisfy_guarded
    again=yes
    while need_pin; do
        # ADR 8: no tool takes it otherwise. As hex, it means nothing else to the tool.
        if take "session:$work/session+hex:$typed"; then return 0; fi
        flush_objects
        if told_code 0x98e 0x9a2; then # TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH
            wrong_pin
        elif [ "$again" = yes ] && told_code 0x128; then # TPM_RC_PCR_CHANGED
            again=no # another PCR was extended while the person typed
            tpm tpm2_policyrestart -S "$work/session" || refused not-accepted
            satisfy_guarded
        else
            refused not-accepted
        fi
    done
    return 1
}

# satisfy_guarded: up to the PIN. The session then holds what the part's public area
# asks for: TPM2B_PUBLIC with type, nameAlg and attributes before the policy. Else the
# TPM would refuse any PIN, and none is asked for.
satisfy_guarded() {
    satisfy
    tpm tpm2_policyauthvalue -S "$work/session" >"$work/now" ||
        refused not-accepted
    IFS= read -r policy_now <"$work/now" && is_hex "$policy_now" 64 64 ||
        leave failed
    hex_of "$work/public.$kind.$part" || leave failed
    case $hex in
        ????????????????????0020"$policy_now"*) ;;
        *) judge not-accepted ;;
    esac
    approved=yes
}

# unseal_secret ENTRY: of slot.sh. Fails where the person goes without the PIN.
unseal_secret() {
    kind=${1%%:*}
    : >"$work/secret.$kind" || leave failed
    part=0
    parts=${1#*:*:}
    parts=${parts%%:*}
    while [ "$part" -lt "$parts" ]; do
        part=$((part + 1))
        load_part
        case $1 in
            *:0:*:*)
                satisfy
                take "session:$work/session" || refused not-accepted
                ;;
            *) take_guarded || return 1 ;;
        esac
        flush_objects
    done
    approved=yes
    opened="$opened$1 "
}

# unseal: what has no PIN first, then the others.
unseal() {
    for entry in $sealed; do
        case $entry in
            *:0:*:*) unseal_secret "$entry" ;;
        esac
    done
    for entry in $sealed; do
        case $entry in
            *:1:*:*) unseal_secret "$entry" || break ;;
        esac
    done
    [ -n "$opened" ] || leave no-pin
}

read_in="$read_in unseal"

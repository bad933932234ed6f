# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Tools that talk to the TPM: run, tidied up after, and the reason when one is refused.
#
# Needs `work`, `etc`, `bank`, `managed`, bytes.sh and differ.sh. Sets `answered`, `loaded`,
# `dirty`, and `code` (read_code, told_code). Leaves with what the TPM's response code
# says.

# tpm TOOL ARGUMENT...: run a tool of tpm2-tools; its words go to files, not out.
tpm() {
    was=$dirty
    dirty=yes # until the tool has ended well: a signal may come meanwhile
    bounded "$@" 2>"$work/error" || return 1
    answered=yes
    dirty=$was
}

# tidy_tpm: leave no session behind, nor, without a resource manager, an object.
tidy_tpm() {
    [ -n "$work" ] || return 0
    if [ -f "$work/session" ]; then
        bounded tpm2_flushcontext "$work/session" || dirty=yes
    fi
    flush_objects
    if [ "$dirty" = yes ] && [ "$managed" = no ] && [ "$answered" = yes ]; then
        bounded tpm2_flushcontext -l || :
        bounded tpm2_flushcontext -s || :
    fi
}

# flush_objects: a resource manager drops a tool's objects when the tool ends; a bare
# TPM keeps them, and has room for three.
flush_objects() {
    if [ "$managed" = no ] && [ "$loaded" = yes ]; then
        bounded tpm2_flushcontext -t || :
        loaded=no
    fi
}

# refused OUTCOME: a TPM tool has failed; leave, saying why. The tool's words carry
# the response code, `ERROR: Esys_Unseal(0x99D) - ...`; only the code is believed.
refused() {
    read_code
    case $code in
        0x921) leave lockout ;;                     # TPM_RC_LOCKOUT
        0x100 | 0x101 | 0xa????) leave no-tpm ;;    # INITIALIZE, FAILURE; TCTI layer
        0x?8b | 0x149 | 0x14a) leave tpm-changed ;; # HANDLE; the counter is another
    esac
    flush_objects
    judge "$1"
}

# judge OUTCOME: leave with it, unless something graver is behind it. No TPM, a
# foreign storage key or a missing launch can make any step fail, so ask for these.
judge() {
    if ! tpm tpm2_pcrread "$bank:17" -o "$work/pcr17"; then
        read_code
        if [ "$code" = none ]; then leave no-tpm; fi
    fi
    srk_is_ours || leave tpm-changed
    if [ "$1" = not-accepted ]; then
        leave_if_unlaunched
        outcome=not-accepted # whatever interrupts the look for the reason
        find_differing
    fi
    leave "$1"
}

# read_code: the first response code in the words of the tool that failed, in lower
# case and without its layer where that is the resource manager's; `none` if there is
# none.
read_code() {
    code=none
    while IFS= read -r line; do
        case $line in
            *'(0x'[0-9A-Fa-f]*')'*) ;;
            *) continue ;;
        esac
        line=${line#*"(0x"}
        line=${line%%")"*}
        case $line in
            *[!0-9A-Fa-f]* | '' | ?????????*) continue ;;
        esac
        code=$((0x$line))
        case $((code >> 16)) in
            0 | 11 | 12) code=$((code & 65535)) ;; # the TPM's, through a manager
        esac
        code=$(printf '0x%x' "$code")
        break
    done <"$work/error"
}

# told_code: one of these is the code of the tool that failed last.
told_code() {
    read_code
    case " $* " in
        *" $code "*) ;;
        *) return 1 ;;
    esac
}

# leave_if_unlaunched: PCR 17 as a locality-4 reset left it never was extended.
leave_if_unlaunched() {
    hex_of "$work/pcr17" || return 0
    case $hex in
        *[!f]*) ;;
        *) leave no-launch ;;
    esac
    case $hex in
        *[!0]*) ;;
        *) leave no-launch ;;
    esac
}

# srk_is_ours: no, if the key at srk.tr's persistent handle has not srk.tr's Name.
# ESYS_TR_Serialize writes the handle, 4 bytes, and the Name with its size, 2 bytes.
srk_is_ours() {
    hex_of "$etc/srk.tr" || return 1
    serialized=$hex
    handle=${hex%"${hex#????????}"}
    tpm tpm2_readpublic -c "0x$handle" -n "$work/name" || {
        read_code
        case $code in
            0x?8b) return 1 ;; # TPM_RC_HANDLE: no such key
            *) return 0 ;;     # nothing is known of it
        esac
    }
    hex_of "$work/name" || return 1
    case $serialized in
        "$handle"????"$hex"*) ;;
        *) return 1 ;;
    esac
}

read_in="$read_in tpm"

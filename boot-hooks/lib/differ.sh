# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Which PCRs differ, for the sentence about a boot that is not accepted. A hint: the
# values of the accepted boots are the medium's, and no signature covers them. Nothing
# in here leaves, so that it makes nothing else of the refusal; what cannot be told is
# left out.
#
# Needs `bank`, `bank_digits`, `pcrs` and `work`, `branch_values` of slot.sh, and
# tpm.sh. Sets `differing`: numbers, ascending, of hook.conf's selection.

# find_differing: of the branch that is nearest to what the TPM holds. None, where one
# is the same: then it was not for a PCR.
find_differing() {
    select_pcrs
    read_pcrs || return 0
    fewest=$((selected_pcrs + 1))
    left_values=$branch_values
    while [ -n "$left_values" ]; do
        compare_values "${left_values%%"$newline"*}"
        left_values=${left_values#*"$newline"}
    done
}

# select_pcrs: in the TPM's order, whatever that of hook.conf is.
select_pcrs() {
    selected=''
    selected_pcrs=0
    pcr=0
    while [ "$pcr" -lt 24 ]; do
        case ,$pcrs, in
            *,"$pcr",*)
                selected="$selected $pcr"
                selected_pcrs=$((selected_pcrs + 1))
                ;;
        esac
        pcr=$((pcr + 1))
    done
}

# read_pcrs: what the TPM holds as in a `values` line, in `live_values`.
read_pcrs() {
    tpm tpm2_pcrread "$bank:$pcrs" -o "$work/pcrs" || return 1
    # At most 24 values of 64 bytes; hex_of is for less.
    hex=$(head -c 1537 <"$work/pcrs" | od -An -v -tx1 | tr -dc '0-9a-f') || return 1
    [ "${#hex}" -eq $((selected_pcrs * bank_digits)) ] || return 1
    one_value=''
    while [ "${#one_value}" -lt "$bank_digits" ]; do one_value="$one_value?"; done
    live_values=''
    while [ -n "$hex" ]; do
        # shellcheck disable=SC2295 # a pattern: as many characters as a value has
        after=${hex#$one_value}
        live_values="$live_values,${hex%"$after"}"
        hex=$after
    done
    live_values=${live_values#,}
}

# compare_values VALUES: keep which ones differ, if these are fewer than before.
# Another length is that of another selection, or of `-`.
compare_values() {
    [ "${#1}" -eq "${#live_values}" ] || return 0
    theirs=$1,
    ours=$live_values,
    others=''
    other_pcrs=0
    for pcr in $selected; do
        if [ "${theirs%%,*}" != "${ours%%,*}" ]; then
            others="$others $pcr"
            other_pcrs=$((other_pcrs + 1))
        fi
        theirs=${theirs#*,}
        ours=${ours#*,}
    done
    if [ "$other_pcrs" -lt "$fewest" ]; then
        fewest=$other_pcrs
        differing=$others
    fi
}

# tell_differing: `differing` as the end of a sentence, in `difference`: `: PCR 17 and
# PCR 18 differ`.
tell_differing() {
    difference=''
    # shellcheck disable=SC2086 # a list of numbers
    set -- $differing
    while [ $# -gt 0 ]; do
        case $#,$difference in
            *,) difference=": PCR $1" ;;
            1,*) difference="$difference and PCR $1" ;;
            *) difference="$difference, PCR $1" ;;
        esac
        shift
    done
    case $difference in
        '') ;;
        *' and '*) difference="$difference differ" ;;
        *) difference="$difference differs" ;;
    esac
}

read_in="$read_in differ"

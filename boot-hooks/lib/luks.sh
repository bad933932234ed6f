# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The LUKS headers: what the kernel's command line names is digested and extended into
# PCR 13, as Anti Evil Maid does.
#
# Needs `cmdline_file`, `by_uuid`, `work`, `bank`, `bank_digits`, bytes.sh and tpm.sh.
# Sets `measured`, the record's lines. Leaves with no-luks and two-disks.

# list_disks: the UUIDs of rd.luks.uuid= into $work/disks, sorted, without doubles.
list_disks() {
    line=''
    IFS= read -r line <"$cmdline_file" || [ -n "$line" ] || return 1
    : >"$work/disks" || return 1
    disks=0
    while [ -n "$line" ]; do
        word=${line%%[ 	]*}
        case $line in
            *[\ \	]*) line=${line#*[ 	]} ;;
            *) line='' ;;
        esac
        case $word in
            rd.luks.uuid=*) ;;
            *) continue ;;
        esac
        word=${word#rd.luks.uuid=}
        word=${word#luks-}
        case $word in
            *[!0-9a-f-]*) return 1 ;;
            ????????-????-????-????-????????????) ;;
            *) return 1 ;;
        esac
        printf '%s\n' "$word" >>"$work/disks" || return 1
        disks=$((disks + 1))
    done
    [ "$disks" -lt 2 ] || sort -u -o "$work/disks" "$work/disks"
}

# find_twins: whether two block devices answer to one name. Whoever put in the second
# shall not choose which of them is measured and which is opened. What the folder holds
# otherwise, a plain file of a test, is the only one of its name.
find_twins() {
    while IFS= read -r uuid; do
        [ -b "$by_uuid/$uuid" ] || continue
        bounded blkid -c /dev/null -o device -t "UUID=$uuid" >"$work/named" ||
            leave no-luks
        {
            IFS= read -r line || leave no-luks
            if IFS= read -r line; then leave two-disks; fi
        } <"$work/named"
    done <"$work/disks"
}

# measure_disks: every header is read before the first is extended.
measure_disks() {
    list_disks || leave no-luks
    find_twins
    set --
    lines=''
    header=$work/header
    while IFS= read -r uuid; do
        [ $# -lt 16 ] || leave no-luks
        bounded cryptsetup luksHeaderBackup "$by_uuid/$uuid" --batch-mode \
            --header-backup-file "$header" </dev/null ||
            leave no-luks
        digest=$("${bank}sum" <"$header") || leave no-luks
        digest=${digest%% *}
        is_hex "$digest" "$bank_digits" "$bank_digits" || leave no-luks
        set -- "$@" "13:$bank=$digest"
        header=$work/header.$#
        lines="${lines}luks $uuid $digest$newline"
    done <"$work/disks"
    if [ $# -gt 0 ]; then
        measured=$lines
        tpm tpm2_pcrextend "$@" || {
            measured=''
            refused no-luks
        }
    fi
}

read_in="$read_in luks"

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Which block devices answer to a name, for aemseal-boot and aemseal-root. Whoever adds
# a disk chooses the names that are on it, so a name that two answer to is worth nothing.
#
# Needs `words`, those of the kernel's command line, and `set -f`. Sets `uuids`, `found`
# and `answering`.

blkid_seconds=60

# list_uuids: the LUKS devices that the hook is to measure (docs/slot-format.md).
list_uuids() {
    uuids=''
    for word in $words; do
        case $word in
            rd.luks.uuid=*) ;;
            *) continue ;;
        esac
        word=${word#rd.luks.uuid=}
        word=${word#luks-}
        case " $uuids " in
            *" $word "*) ;;
            *) uuids="$uuids $word" ;;
        esac
    done
}

# find_devices SPEC: the devices that answer to it in `found`, how many in `answering`.
find_devices() {
    found=$(timeout -s KILL "$blkid_seconds" blkid -c /dev/null -o device -t "$1") ||
        found=''
    # shellcheck disable=SC2086 # a list of names, with `set -f`
    set -- $found
    answering=$#
}

# one_each: no LUKS device that is measured has a double.
one_each() {
    for uuid in $uuids; do
        find_devices "UUID=$uuid"
        [ "$answering" -lt 2 ] || return 1
    done
}

read_in="$read_in disks"

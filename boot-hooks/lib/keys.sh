# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# shellcheck disable=SC2015 # `a && b || c` is meant: c where either has failed
#
# The disk's key, which aemseal-unseal leaves as $run/keyfile: handed to whoever opens
# the disk. A key that opens nothing does no harm: the passphrase is asked for then.
#
# With systemd it lies where systemd-cryptsetup looks for the key of a volume, whatever
# that is called (crypttab(5), /run/cryptsetup-keys.d). Without, dracut's own job leaves
# alone what is open already (cryptroot-ask), so the disk is opened here.
#
# Needs `run`, `words`, `by_uuid`, `systemd`, `keys_folder`, `mapper` and `crypttab`, and
# disks.sh and forget.sh. $run/keys lists the copies that are to be forgotten.

open_seconds=120 # a slow machine, and a slot of argon2id

# hand_over_key: to what opens disks in this initramfs.
hand_over_key() {
    [ -f "$run/keyfile" ] || return 0
    list_uuids
    list_marked
    for uuid in $marked; do
        if [ -d "$systemd" ]; then
            lay_down_key
        else
            open_disk
        fi
    done
    overwrite_key "$run/keyfile"
    [ -d "$systemd" ] || forget_keys
}

# list_marked: the devices whose header has a slot of ours, in `marked`; all of them
# where none has. It was measured, so what it says is what enrol wrote.
list_marked() {
    marked=''
    for uuid in $uuids; do
        read_slot
        [ -z "$slot" ] || marked="$marked $uuid"
    done
    [ -n "$marked" ] || marked=$uuids
}

# read_slot: the number of our slot in the header of `uuid`, in `slot`; a LUKS2 token of
# the type "aemseal" names it.
read_slot() {
    slot=''
    ours=no
    timeout -s KILL "$open_seconds" cryptsetup luksDump "$by_uuid/$uuid" \
        >"$run/dump" 2>/dev/null </dev/null || :
    while read -r name value _; do
        case $name in
            [0-9]*:) if [ "$value" = aemseal ]; then ours=yes; else ours=no; fi ;;
            Keyslot:)
                case $ours$value in
                    yes[0-9] | yes[0-9][0-9]) slot=$value ;;
                esac
                ;;
        esac
    done <"$run/dump"
    rm -f -- "$run/dump"
}

# list_names: what the volume of `uuid` may be called, in `names`; the last one is what
# it is called: crypttab's word counts most.
list_names() {
    names=luks-$uuid
    for word in $words; do
        case $word in
            rd.luks.name="$uuid"=*) add_name "${word#rd.luks.name="$uuid"=}" ;;
        esac
    done
    if [ -f "$crypttab" ]; then
        while read -r name device _; do
            case $device in
                UUID="$uuid" | UUID=\""$uuid"\" | "/dev/disk/by-uuid/$uuid")
                    add_name "$name"
                    ;;
            esac
        done <"$crypttab"
    fi
}

# add_name NAME: of letters that need no escape, and no path.
add_name() {
    case $1 in
        '' | .* | *[!A-Za-z0-9._+-]*) return 0 ;;
    esac
    names="$names $1"
}

# lay_down_key: a copy for systemd-cryptsetup under each name.
lay_down_key() {
    list_names
    mkdir -p -- "$keys_folder" || return 0
    for name in $names; do
        copy=$keys_folder/$name.key
        [ ! -e "$copy" ] && printf '%s\n' "$copy" >>"$run/keys" &&
            cat -- "$run/keyfile" >"$copy" || :
    done
}

# open_disk: `uuid`, as dracut's cryptroot-ask would open it.
open_disk() {
    list_names
    volume=${names##* }
    [ ! -e "$mapper/$volume" ] || return 0
    read_slot
    set -- --batch-mode --type luks --key-file "$run/keyfile"
    [ -z "$slot" ] || set -- "$@" --key-slot "$slot"
    if wants_discards; then set -- "$@" --allow-discards; fi
    modprobe dm_crypt 2>/dev/null || :
    timeout -s KILL "$open_seconds" cryptsetup open "$@" \
        "$by_uuid/$uuid" "$volume" </dev/null >/dev/null 2>&1 || :
}

# wants_discards: the command line, or crypttab, lets the device be told what is unused.
wants_discards() {
    for word in $words; do
        case $word in
            rd.luks.allow-discards | rd.luks.allow-discards=1) return 0 ;;
            rd.luks.allow-discards=yes | rd.luks.allow-discards=true) return 0 ;;
            rd.luks.allow-discards=on) return 0 ;;
            rd.luks.allow-discards="$uuid") return 0 ;;
            rd.luks.allow-discards=luks-"$uuid") return 0 ;;
            rd.luks.options="$uuid"=*) word=${word#rd.luks.options="$uuid"=} ;;
            rd.luks.options=????????-????-????-????-????????????=*) continue ;;
            rd.luks.options=*) word=${word#rd.luks.options=} ;;
            *) continue ;;
        esac
        has_discard "$word" && return 0
    done
    [ -f "$crypttab" ] || return 1
    while read -r _ device _ options _; do
        case $device in
            UUID="$uuid" | UUID=\""$uuid"\" | "/dev/disk/by-uuid/$uuid") ;;
            *) continue ;;
        esac
        has_discard "$options" && return 0
    done <"$crypttab"
    return 1
}

has_discard() {
    case ,$1, in
        *,discard,* | *,allow-discards,*) ;;
        *) return 1 ;;
    esac
}

read_in="$read_in keys"

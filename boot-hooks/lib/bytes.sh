# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Bytes and fields: a file's bytes as hex and back, and what a hex, number or name field
# may hold. Pure shell but for `od`; it changes nothing of the run.
#
# Needs nothing. Sets `hex` (hex_of).

# hex_of FILE: the file's bytes in `hex`, lower case; od's words joined at once, since a
# shell's time for one piece after the other grows with the square of their number.
hex_of() {
    hex=$(od -An -v -tx1 "$1") || return 1
    # shellcheck disable=SC2086 # its words
    set -- $hex
    IFS=''
    hex="$*"
    unset IFS
    [ -n "$hex" ]
}

# bytes HEX: to stdout, as bytes, with one printf for all; four at a time, as above.
bytes() {
    digits=$1
    octal=''
    while [ -n "$digits" ]; do
        after=${digits#????????}
        [ "$after" != "$digits" ] || after=${digits#??}
        word=$((0x${digits%"$after"}))
        if [ $((${#digits} - ${#after})) -eq 8 ]; then
            octal=$octal\\0$((word >> 30))$((word >> 27 & 7))$((word >> 24 & 7))
            octal=$octal\\0$((word >> 22 & 3))$((word >> 19 & 7))$((word >> 16 & 7))
            octal=$octal\\0$((word >> 14 & 3))$((word >> 11 & 7))$((word >> 8 & 7))
        fi
        octal=$octal\\0$((word >> 6 & 3))$((word >> 3 & 7))$((word & 7))
        digits=$after
    done
    printf '%b' "$octal"
}

# is_hex TEXT LEAST MOST: whole bytes in lower case, that many digits.
is_hex() {
    case $1 in
        '' | *[!0-9a-f]*) return 1 ;;
    esac
    [ "${#1}" -ge "$2" ] && [ "${#1}" -le "$3" ] && [ $((${#1} % 2)) -eq 0 ]
}

# is_number TEXT: decimal, no leading zero, below 2^63.
is_number() {
    case $1 in
        '' | *[!0-9]* | 0?*) return 1 ;;
    esac
    [ "${#1}" -le 19 ] && [ "$1" -le 9223372036854775807 ]
}

is_name() {
    case $1 in
        '' | *[!A-Za-z0-9._-]*) return 1 ;;
    esac
    [ "${#1}" -le 32 ]
}

read_in="$read_in bytes"

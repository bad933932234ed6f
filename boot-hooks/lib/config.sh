# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The initramfs' own files: `hook.conf` says which bank and which PCRs, `srk.tr` pins
# the storage key. Both are measured with the initramfs; no medium can change them.
#
# Needs `etc`, and is_hex of bytes.sh. Sets `bank`, `bank_digits`, `pcrs` and `pin`.

read_config() {
    [ -f "$etc/hook.conf" ] && [ -s "$etc/srk.tr" ] || return 1
    lines=0
    while IFS= read -r line; do
        lines=$((lines + 1))
        case "$lines $line" in
            '1 aemseal-hook 1') ;;
            '2 bank sha1') bank=sha1 bank_digits=40 ;;
            '2 bank sha256') bank=sha256 bank_digits=64 ;;
            '2 bank sha384') bank=sha384 bank_digits=96 ;;
            '2 bank sha512') bank=sha512 bank_digits=128 ;;
            '3 pcrs '*) pcrs=${line#pcrs } ;;
            *) return 1 ;;
        esac
    done <"$etc/hook.conf"
    [ "$lines" -eq 3 ] && [ -z "$line" ] || return 1
    # PCR 17 is the launch; PCR 13 is what the cap closes.
    case $pcrs in
        *[!0-9,]*) return 1 ;;
    esac
    case ,$pcrs, in
        *,,* | *[0-9][0-9][0-9]*) return 1 ;;
        *,13,*,17,* | *,17,*,13,* | *,13,17,* | *,17,13,*) ;;
        *) return 1 ;;
    esac
    pin=$(sha256sum <"$etc/srk.tr") || return 1
    pin=${pin%% *}
    is_hex "$pin" 64 64
}

read_in="$read_in config"

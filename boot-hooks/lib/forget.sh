# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The disk's key, and every copy of it: overwritten, and gone before the root is entered.
#
# Needs `run`; $run/keys lists the copies (keys.sh).

key_bytes=2048 # the longest secret has fewer

# forget_keys: overwrite and remove every copy. Also run when there was none.
forget_keys() {
    if [ -f "$run/keys" ]; then
        while IFS= read -r copy; do
            overwrite_key "$copy"
        done <"$run/keys"
        rm -f -- "$run/keys"
    fi
    overwrite_key "$run/keyfile"
}

overwrite_key() {
    [ -f "$1" ] || return 0
    head -c "$key_bytes" /dev/zero 1<>"$1"
    rm -f -- "$1"
}

read_in="$read_in forget"

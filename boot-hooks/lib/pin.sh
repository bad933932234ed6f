# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The PIN: asked for at most three times in a boot, kept as hex, forgotten.
#
# Needs `asker`, `ask_seconds`, `console` and `work`. Sets `typed`: the PIN in hex while
# there is one. It is never exported; $work/answer, which holds it as it was typed, is
# overwritten as soon as it was read (secrets.sh). Leaves with wrong-pin.

pin_digits=64 # an authValue has at most the 32 bytes of SHA-256
tries_left=3
typed=''
question='PIN of the aemseal vault:'

# need_pin: `typed` holds a PIN to try. Fails where the person goes without: nothing was
# typed, in time or at all.
need_pin() {
    while [ -z "$typed" ]; do
        [ "$tries_left" -gt 0 ] || leave wrong-pin
        tries_left=$((tries_left - 1))
        : >"$work/answer" || leave failed
        ask "$question"
        read_answer || leave failed
        overwrite "$work/answer"
        [ -n "$typed" ] || return 1
        # What cannot be a PIN is not worth one of the TPM's tries.
        if [ "$strange" -gt 0 ] || [ "${#typed}" -gt "$pin_digits" ]; then
            wrong_pin
        fi
    done
}

# wrong_pin: it was not the one. The next question says so.
wrong_pin() {
    typed=''
    question='That PIN was wrong. PIN of the aemseal vault:'
}

# read_answer: its first line as hex in `typed`; how many bytes of it are not printable
# ASCII in `strange`.
read_answer() {
    typed=$(head -n 1 <"$work/answer" | head -c 80 | tr -d '\n' |
        od -An -v -tx1 | tr -dc '0-9a-f') || return 1
    strange=$(head -n 1 <"$work/answer" | head -c 80 | tr -d '\n!-~' |
        od -An -v -tu1 | tr -dc '0-9') || return 1
    strange=${#strange}
}

# ask QUESTION: have the answer in $work/answer; left empty when there is none. A file,
# since a program that leaves a child behind would hold a pipe open.
ask() {
    if [ -n "$asker" ]; then
        patient "$asker" "$1"
    elif command -v systemd-ask-password; then
        patient systemd-ask-password --timeout="$ask_seconds" "$1"
    else
        ask_console "$1"
    fi
}

# patient PROGRAM ARGUMENT...: bounded as a person is, and without our screen, which a
# child that it leaves behind would keep open. In the foreground where `timeout`
# can: a process of another group may not read from a terminal.
patient() {
    if timeout --foreground 1 true; then
        timeout --foreground -s KILL $((ask_seconds + 5)) "$@" \
            >"$work/answer" 3>&- 4>&-
    else
        timeout -s KILL $((ask_seconds + 5)) "$@" >"$work/answer" 3>&- 4>&-
    fi || : >"$work/answer"
}

# ask_console QUESTION: a line of the console, which must not show what is typed.
ask_console() {
    [ -c "$console" ] && echo_was=$(stty -g <"$console") || return 0
    if stty -echo <"$console"; then
        printf '%s ' "$1" >"$console"
        patient head -n 1 <"$console"
        printf '\n' >"$console"
    fi
    restore_echo
}

# restore_echo: the console as it was before.
restore_echo() {
    if [ -n "$echo_was" ]; then stty "$echo_was" <"$console" || :; fi
    echo_was=''
}

read_in="$read_in pin"

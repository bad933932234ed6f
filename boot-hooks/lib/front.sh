# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# What aemseal-boot shows and asks, on the console or on the splash.
#
# Needs `run`, `console`, `systemd` and `answer_seconds`. Sets `shown`.

# tell FILE: a file's text on the console. The splash makes way for it: its program
# takes a message as an argument alone, where a secret has no business.
tell() {
    plymouth hide-splash 2>/dev/null || :
    cat -- "$1"
    shown=yes
}

# say SENTENCE: one of ours.
say() {
    printf 'aemseal: %s\n' "$1" >"$run/words" && tell "$run/words"
}

# ask QUESTION: one line typed on the console or the splash, within a bounded time.
ask() {
    if command -v systemd-ask-password >/dev/null 2>&1 && [ -d "$systemd" ]; then
        timeout -s KILL $((answer_seconds + 5)) systemd-ask-password \
            --echo=yes --timeout="$answer_seconds" "$1"
    else
        printf '%s\n> ' "$1" >"$console"
        timeout -s KILL "$answer_seconds" head -n 1 <"$console"
    fi
}

read_in="$read_in front"

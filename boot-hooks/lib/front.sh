# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # `shown` and the settings are the program's
#
# What aemseal-boot shows and asks: on the text console, on every screen of it, and
# nowhere else. While plymouth runs, what is written to /dev/console goes to plymouthd
# (TIOCCONS), which shows it or not, keeps it, and writes it to /var/log/boot.log of the
# root that is entered; and what is typed into its splash it keeps as well, to be handed
# out again. So the splash ends before anything is asked or shown.
#
# Needs `run`, `console`, `systemd` and `answer_seconds`. Sets `shown`, and `screens`
# once they are taken.

: "${active:=/sys/class/tty/console/active}"
: "${splash_pid:=/run/plymouth/pid}"
: "${devices:=/dev}"
: "${splash_seconds:=10}"
screens=''
had_splash=no

# take_screens: end the splash, and find the screens. Only the first call does it. What
# the splash leaves on them, messages that it kept among it, would stand about the secret.
take_screens() {
    [ -z "$screens" ] || return 0
    if splash_is_there; then
        had_splash=yes
        end_splash
    fi
    list_screens
    [ "$had_splash" = no ] || wipe_screens '\033[0m\033[H\033[2J'
}

# wipe_screens CODES: have every screen obey a terminal's codes, as printf writes them.
wipe_screens() {
    for screen in $screens; do
        # shellcheck disable=SC2016 # the words are that shell's
        timeout -s KILL "$splash_seconds" sh -c 'printf "$1" >"$2"' sh "$1" "$screen" || :
    done
}

splash_is_there() {
    [ -e "$splash_pid" ] ||
        timeout -s KILL "$splash_seconds" plymouth --ping >/dev/null 2>&1
}

# end_splash: by asking, else by force. It answers once the screen is the console's
# again. Its agent for passphrases is of no use without it; the console's was not
# started because of it. Its own unit stays: stopped, it would come back with the switch
# of the root, and take /dev/console again.
end_splash() {
    timeout -s KILL "$splash_seconds" plymouth quit >/dev/null 2>&1 || :
    if splash_is_there; then
        if read -r splash <"$splash_pid"; then kill -s KILL "$splash"; fi
        rm -f -- "$splash_pid"
    fi 2>/dev/null
    [ -d "$systemd" ] || return 0
    timeout -s KILL "$splash_seconds" systemctl stop \
        systemd-ask-password-plymouth.path systemd-ask-password-plymouth.service \
        >/dev/null 2>&1 || :
    timeout -s KILL "$splash_seconds" systemctl start --no-block \
        systemd-ask-password-console.path >/dev/null 2>&1 || :
}

# list_screens: the consoles that the kernel speaks on, by their own names, the screen in
# front (tty0) before others: what is written to /dev/console is on one of them alone.
# Where a splash was, somebody looks at tty0 also if the kernel does not speak there.
list_screens() {
    screens=$console
    [ "$console" = /dev/console ] || return 0
    read -r names <"$active" || names=''
    case " $had_splash $names " in
        ' yes '* | *' tty0 '*) names="tty0 $names" ;;
    esac
    screens=''
    for name in $names; do
        case " $screens " in
            *" $devices/$name "*) continue ;;
        esac
        [ ! -c "$devices/$name" ] || screens="$screens $devices/$name"
    done
    screens=${screens# }
} 2>/dev/null

# open_screens: descriptor 5 leads to the screens for what comes bit by bit: to the one
# there is, or by `tee` to each of them, which passes on what it gets at once.
open_screens() {
    take_screens
    spreader=''
    case $screens in
        '') exec 5>&1 ;;
        *' '*)
            rm -f -- "$run/screens" && mkfifo -- "$run/screens" || return 1
            # shellcheck disable=SC2086 # each is a word
            tee -- $screens <"$run/screens" >/dev/null 2>&1 &
            spreader=$!
            exec 5>"$run/screens"
            rm -f -- "$run/screens"
            ;;
        *) exec 5>"$screens" ;;
    esac
}

# close_screens: what came is on them. One that takes nothing does not hold up the boot.
close_screens() {
    exec 5>&-
    [ -n "$spreader" ] || return 0
    patience=$((splash_seconds * 10))
    while is_spreading && [ "$patience" -gt 0 ]; do
        patience=$((patience - 1))
        sleep 0.1
    done
    kill -s KILL "$spreader" 2>/dev/null || :
    wait "$spreader" 2>/dev/null || :
}

is_spreading() {
    state=''
    read -r _ _ state _ <"/proc/$spreader/stat" && [ "$state" != Z ]
} 2>/dev/null

# tell FILE: a file's text on every screen. Its name is an argument, it itself never is.
# One that does not take it shall not keep it from the others, nor hold up the boot.
tell() {
    take_screens
    told=no
    for screen in $screens; do
        # shellcheck disable=SC2016 # the words are that shell's
        if timeout -s KILL "$splash_seconds" sh -c 'cat -- "$1" >"$2"' \
            sh "$1" "$screen"; then
            told=yes
        fi
    done
    [ "$told" = yes ] || cat -- "$1"
    shown=yes
}

# say SENTENCE: one of ours.
say() {
    printf 'aemseal: %s\n' "$1" >"$run/words" && tell "$run/words"
}

# ask QUESTION: one line typed at any screen, within a bounded time; without systemd, at
# the console alone.
ask() {
    take_screens
    if command -v systemd-ask-password >/dev/null 2>&1 && [ -d "$systemd" ]; then
        timeout -s KILL $((answer_seconds + 5)) systemd-ask-password \
            --echo=yes --timeout="$answer_seconds" "$1"
    else
        printf '%s\n> ' "$1" >"$console"
        timeout -s KILL "$answer_seconds" head -n 1 <"$console"
    fi
}

# clear_screens: nothing that was shown is left, to be read or scrolled back to. Whether
# there was a splash is not known any more: the screen in front is cleared in any case.
clear_screens() {
    had_splash=yes
    list_screens
    wipe_screens '\033[0m\033[H\033[2J\033[3J'
}

read_in="$read_in front"

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# What was unsealed. Until the cap a secret is the file $work/secret.KIND, since a shell
# holds no NUL; after it a text and a TOTP seed are in the shell, the keyfile is in its
# place, and the work folder is overwritten and gone before anything is shown.
#
# Needs `work`, `run`, `opened`, `outcome`, `approved`, `refresh`, `live`, `newline`, the
# screen as descriptor 3. Sets `text`, `seed` and `code`. Never exported: text, seed, typed.

text=''
seed=''
zeros='\0' # as escapes, for the shell's own printf
while [ "${#zeros}" -lt 4096 ]; do zeros=$zeros$zeros; done
step_seconds=30 # RFC 6238, as are SHA-1 and six digits
carriage_return=$(printf '\r')

# was_accepted: the TPM held this boot to be an accepted one, and the outcome stands by
# it: what was unsealed is shown, whatever became of the PIN.
was_accepted() {
    case $outcome in
        unsealed | wrong-pin | no-pin) ;;
        lockout) [ "$approved" = yes ] ;;
        *) return 1 ;;
    esac
}

# hand_over: take what was unsealed out of the work folder. After the cap.
hand_over() {
    if ! was_accepted; then opened=''; fi
    for each in $opened; do
        case $each in
            text:*) take_text ;;
            totp:*) take_seed ;;
            *) mv -f -- "$work/secret.keyfile" "$run/keyfile" ;;
        esac || {
            outcome=failed
            opened=''
            rm -f -- "$run/keyfile"
            return 0
        }
    done
}

# take_text: control bytes but the line feed are dropped; then the UTF-8 of U+0080 to
# U+009F, which a terminal obeys as well, becomes a question mark (a mark, since
# dropping it could join the halves of another). The full stop keeps line feeds at the
# end.
take_text() {
    c1=$(printf '\302[\200-\237]')
    lead=${c1%%\[*}
    text=$(
        tr -d '\000-\011\013-\037\177' <"$work/secret.text" && printf '.'
    ) || return 1
    case $text in
        *"$lead"*) text=$(printf '%s' "$text" | sed "s/$c1/?/g") || return 1 ;;
    esac
    text=${text%.}
}

take_seed() {
    hex_of "$work/secret.totp" || return 1
    seed=$hex
    hex=''
    one_time_code "$(date +%s)"
}

# one_time_code NOW: the six digits in `code`. The seed goes by stdin.
one_time_code() {
    is_number "$1" || return 1
    code=$(printf '%s' "$seed" | bounded oathtool --totp -d 6 -N "@$1" -) || return 1
    case $code in
        [0-9][0-9][0-9][0-9][0-9][0-9]) ;;
        *) return 1 ;;
    esac
}

# wipe: overwrite what was secret, in place, and remove the work folder.
wipe() {
    typed=''
    [ -n "$work" ] || return 0
    for each in answer secret.part secret.text secret.totp secret.keyfile; do
        if [ -f "$work/$each" ]; then overwrite "$work/$each"; fi
    done
    rm -rf -- "$work"
}

# overwrite FILE: with as many zeros as the longest secret has bytes, not by a new file.
overwrite() {
    printf '%b' "$zeros" 1<>"$1"
}

# show_secrets: as they were unsealed, the code last, since it may be shown anew.
show_secrets() {
    for each in $opened; do
        case $each in
            text:*) printf '%s\n' "${text%"$newline"}" >&3 ;;
            keyfile:*) printf 'The disk key is ready.\n' >&3 ;;
        esac
    done
    if [ -n "$seed" ]; then show_code; fi
}

# show_code: one line, and another whenever the code changes, for `refresh` seconds. On
# a screen it stays one line, that counts down each second. A signal ends the wait, as
# a screen that is gone does.
show_code() {
    ended=no
    trap 'ended=yes' HUP INT QUIT TERM
    begin='' end=$newline in_place=no
    if [ -t 3 ]; then live=yes; fi
    if [ "$refresh" -gt 0 ] && [ "$live" = yes ]; then
        # The spaces: `(9 s left)` is shorter than what was there before it.
        begin=$carriage_return end=' ' in_place=yes
    fi
    shown=''
    code_line || ended=yes
    while [ "$refresh" -gt 0 ] && [ "$ended" = no ]; do
        refresh=$((refresh - 1))
        sleep 1
        code_line || ended=yes
    done
    if [ "$in_place" = yes ]; then printf '\n' >&3; fi
    trap '' HUP INT QUIT TERM
}

# code_line: what is new of it. A code is reckoned once.
code_line() {
    now=$(date +%s)
    if [ "$((now / step_seconds))" != "$shown" ]; then
        shown=$((now / step_seconds))
        one_time_code "$now" || return 1
    elif [ "$in_place" = no ]; then
        return 0
    fi
    printf '%sone-time code: %s (%s s left)%s' "$begin" "$code" \
        $((step_seconds - now % step_seconds)) "$end" >&3
}

read_in="$read_in secrets"

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# What a run leaves behind it: the record in /run, and on the screen the secret or one
# sentence.
#
# Needs `outcome`, `run` and `work`; what the run came to know: `bank`, `pcrs`, `pin`,
# `measured`, `cap_digest`, `count`, `branch`, `secret`; `say` and its `interrupted`,
# and the screen as descriptor 3. Sets `status`, the exit code.

write_record() {
    # Without a configuration there is no bank to write a record about.
    if [ -z "$bank" ] || [ -z "$pin" ] || [ -z "$work" ]; then return 0; fi
    {
        printf 'aemseal-record 1\nbank %s\npcrs %s\n' "$bank" "$pcrs"
        printf 'pin %s\n%s' "$pin" "$measured"
        if [ -n "$cap_digest" ]; then printf 'cap %s\n' "$cap_digest"; fi
        printf 'outcome %s\n' "$outcome"
        if [ "$outcome" = unsealed ]; then
            printf 'count %s\nbranch %s\n' "$count" "$branch"
        fi
    } >"$work/record" && mv -f -- "$work/record" "$run/record"
}

# show: the secret, or the outcome's one sentence; sets the exit status.
show() {
    case $outcome in
        unsealed)
            status=0
            show_secret
            return 0
            ;;
        not-accepted)
            status=10
            words='This boot is not one that you accepted.'
            ;;
        no-launch)
            status=11
            words='This boot was not measured: there was no dynamic launch.'
            ;;
        no-tpm)
            status=12
            words='The TPM does not answer.'
            ;;
        tpm-changed)
            status=13
            words='The TPM was cleared, or its aemseal objects are not the ones made.'
            ;;
        lockout)
            status=14
            words='The TPM is in lockout after wrong attempts.'
            ;;
        no-medium)
            status=15
            words='No aemseal vault was found on the boot medium.'
            ;;
        stale)
            status=16
            words='The boot medium is out of date.'
            ;;
        bad-medium)
            status=17
            words='The files on the boot medium are damaged or were tampered with.'
            ;;
        not-enrolled)
            status=18
            words='This initramfs is not enrolled.'
            ;;
        cap-failed)
            status=19
            words='The TPM could not be closed again.'
            ;;
        no-luks)
            status=20
            words='The header of an encrypted disk could not be measured.'
            ;;
        *)
            status=21
            words=$interrupted
            ;;
    esac
    say "$words"
}

# show_secret: as text. Control bytes but the line feed are dropped; then the UTF-8 of
# U+0080 to U+009F, which a terminal obeys as well, becomes a question mark (a mark,
# since dropping it could join the halves of another).
show_secret() {
    c1=$(printf '\302[\200-\237]')
    printf '%s\n' "${secret%"$newline"}" |
        tr -d '\000-\011\013-\037\177' | sed "s/$c1/?/g" >&3
}

read_in="$read_in screen"

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# What a run leaves behind it: the record in /run, and on the screen the secrets or one
# sentence.
#
# Needs `outcome`, `run` and `work`; what the run came to know: `bank`, `pcrs`, `pin`,
# `measured`, `cap_digest`, `count`, `branch`, `is_before`, `opened`, `differing`;
# differ.sh and secrets.sh; `say`, `tell` and `interrupted`. Sets `status`, the exit code.

write_record() {
    # Without a configuration there is no bank to write a record about.
    if [ -z "$bank" ] || [ -z "$pin" ] || [ -z "$work" ]; then return 0; fi
    {
        printf 'aemseal-record 3\nbank %s\npcrs %s\n' "$bank" "$pcrs"
        printf 'pin %s\n%s' "$pin" "$measured"
        if [ -n "$cap_digest" ]; then printf 'cap %s\n' "$cap_digest"; fi
        printf 'outcome %s\n' "$outcome"
        if was_accepted; then
            printf 'count %s\nbranch %s\n' "$count" "$branch"
            if [ "$is_before" = yes ]; then printf 'role before-update\n'; fi
            for each in $opened; do
                printf 'secret %s %s\n' "${each##*:}" "${each%%:*}"
            done
        fi
    } >"$work/record" && mv -f -- "$work/record" "$run/record"
}

old_boot='This is the boot from before the update that you staged.'

# show: the secrets, or the outcome's one sentence, or both where the PIN was refused
# after others had opened; before them whether an update waits. Sets the exit status.
show() {
    if [ "$is_before" = yes ] && was_accepted; then
        printf 'aemseal: %s\n' "$old_boot" >&3
    fi
    case $outcome in
        unsealed)
            status=0
            show_secrets
            return 0
            ;;
        not-accepted)
            status=10
            tell_differing
            words="This boot is not one that you accepted$difference."
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
            words='The TPM was cleared, or the boot medium is of an earlier enrolment.'
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
        two-disks)
            status=24
            words='Two disks answer to one name.'
            ;;
        wrong-pin)
            status=22
            words='The PIN was wrong three times.'
            ;;
        no-pin)
            status=23
            words='No PIN was typed, so nothing was unsealed.'
            ;;
        *)
            status=21
            words=$interrupted
            ;;
    esac
    if [ -z "$opened" ]; then
        say "$words"
    else
        tell "$words What it guards stays closed."
        show_secrets
    fi
}

read_in="$read_in screen"

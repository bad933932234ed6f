# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# The medium's files, `vault` and `acceptance.N`: copied once, bounded, and read line by
# line. Whoever held the machine last wrote them. Nothing here asks the TPM.
#
# Needs `medium` and `work`, bytes.sh, and for the acceptance `count` as the TPM has it.
# Sets `generation`, `label`, `counter`, `public_key`, `policy_ref` and `sealed` from
# the vault, `policy`, `signature`, `branch_files`, `branch_list` and `branch_values`
# from the acceptance. `sealed` has a word KIND:PIN:PARTS:NAME for each secret, in the vault's
# order. Writes $work/public.KIND.N, private.KIND.N and branch.N. Leaves with no-medium,
# bad-medium and stale.

vault_bytes=32768
acceptance_bytes=32768

# Between the accepted branches and the staged ones: SHA-256 of `aemseal staged 1`,
# which no session gets to. PolicyOR takes it with the others, so it cannot be moved.
staged_mark=cae16cd79b907a5a7e7d280bcf3a3aab69e0ae4e16fef0bb4b5e8a1fe7a57e03

# copy_in NAME LIMIT: a copy of at most LIMIT + 1 bytes. What is neither printable
# ASCII nor a line feed is an exclamation mark in it, which no field may hold.
copy_in() {
    [ -f "$medium/$1" ] && [ ! -L "$medium/$1" ] || return 1
    bounded head -c $(($2 + 1)) -- "$medium/$1" |
        tr -c '\n -~' '!' >"$work/$1"
}

# exists NAME: anything at all, a dangling link too.
exists() {
    [ -e "$medium/$1" ] || [ -L "$medium/$1" ]
}

# each_line READER NAME LIMIT: hand every line to READER, as `key` and `rest`.
each_line() {
    want=title
    size=0
    while IFS= read -r line; do
        size=$((size + ${#line} + 1))
        key=${line%% *}
        rest=${line#* }
        [ "$key" != "$line" ] || return 1
        "$1" || return 1
    done <"$work/$2"
    [ -z "$line" ] && [ "$size" -le "$3" ]
}

vault_line() {
    case "$want $key" in
        'title aemseal-vault')
            [ "$rest" = 1 ] && want=generation
            ;;
        'generation generation')
            is_number "$rest" && [ "$rest" != 0 ] && generation=$rest want=medium
            ;;
        'medium medium')
            is_name "$rest" && label=$rest want=counter
            ;;
        'counter counter')
            is_hex "$rest" 8 8 || return 1
            case $rest in
                01*) counter=0x$rest want=key ;; # an NV index
                *) return 1 ;;
            esac
            ;;
        'key key')
            is_hex "$rest" 2 1024 && public_key=$rest want=policy-ref
            ;;
        'policy-ref policy-ref')
            is_hex "$rest" 64 64 && policy_ref=$rest want=secret
            ;;
        'secret secret') secret_line ;;
        'part part') part_line ;;
        *) return 1 ;;
    esac
}

# secret_line: NAME KIND PIN PARTS, one of each kind.
secret_line() {
    case $rest in
        *' '*' '*' '*' '*) return 1 ;;
        *' '*' '*' '*) ;;
        *) return 1 ;;
    esac
    name=${rest%% *}
    is_name "$name" || return 1
    rest=${rest#* }
    kind=${rest%% *}
    rest=${rest#* }
    case $kind in
        text | totp | keyfile) ;;
        *) return 1 ;;
    esac
    case " $sealed" in
        *" $kind:"*) return 1 ;;
    esac
    case $rest in
        "0 "[1-9] | "1 "[1-9] | "0 "1[0-6] | "1 "1[0-6]) ;;
        *) return 1 ;;
    esac
    parts=${rest#* }
    part=0
    sealed="$sealed$kind:${rest%% *}:$parts:$name "
    want=part
}

part_line() {
    tail=${rest#* }
    rest=${rest%% *}
    is_hex "$rest" 4 1024 && is_hex "$tail" 4 1024 || return 1
    part=$((part + 1))
    bytes "$rest" >"$work/public.$kind.$part" || return 1
    bytes "$tail" >"$work/private.$kind.$part" || return 1
    if [ "$part" -eq "$parts" ]; then want=secret; fi
}

read_vault() {
    exists . || leave no-medium
    [ ! -L "$medium" ] && [ -d "$medium" ] || leave bad-medium
    exists vault || leave no-medium
    copy_in vault "$vault_bytes" || leave bad-medium
    sealed=''
    each_line vault_line vault "$vault_bytes" || leave bad-medium
    [ "$want" = secret ] && [ -n "$sealed" ] || leave bad-medium
}

acceptance_line() {
    case "$want $key" in
        'title aemseal-acceptance')
            [ "$rest" = 2 ] && want=generation
            ;;
        'generation generation')
            is_number "$rest" || return 1
            if [ "$rest" != "$generation" ]; then foreign=yes; fi
            want=medium
            ;;
        'medium medium')
            is_name "$rest" || return 1
            if [ "$rest" != "$label" ]; then foreign=yes; fi
            want=count
            ;;
        'count count')
            [ "$rest" = "$count" ] && want=branch
            ;;
        'branch branch')
            tail=${rest#* }
            rest=${rest%% *}
            is_hex "$rest" 64 64 && is_name "$tail" || return 1
            branches=$((branches + 1))
            [ "$branches" -le 8 ] || return 1
            bytes "$rest" >"$work/branch.$branches" || return 1
            branch_files=$branch_files,$work/branch.$branches
            branch_list="$branch_list$newline$rest $tail"
            if [ "$rest" = "$staged_mark" ]; then
                [ "$mark_at" -eq 0 ] && [ "$branches" -gt 1 ] || return 1
                mark_at=$branches
            fi
            want=values
            ;;
        'values values')
            are_values "$rest" || return 1
            branch_values="$branch_values$rest$newline"
            want=branch
            ;;
        'branch policy')
            [ "$branches" -ge 2 ] && [ "$mark_at" -lt "$branches" ] || return 1
            is_hex "$rest" 64 64 && policy=$rest want=signature
            ;;
        'signature signature')
            is_hex "$rest" 4 1024 && signature=$rest want=end
            ;;
        *) return 1 ;;
    esac
}

# are_values TEXT: `-`, or a PCR's value for each of 1 to 24, all of one bank and as
# many as in the lines before. Whether of this bank and selection, differ.sh sees.
are_values() {
    [ "$1" != - ] || return 0
    tail=$1,
    one=${1%%,*}
    case ${#one} in
        40 | 64 | 96 | 128) ;;
        *) return 1 ;;
    esac
    values=0
    while [ -n "$tail" ]; do
        is_hex "${tail%%,*}" "${#one}" "${#one}" || return 1
        tail=${tail#*,}
        values=$((values + 1))
        [ "$values" -le 24 ] || return 1
    done
    [ "${#1}" -eq "${values_size:=${#1}}" ]
}

read_acceptance() {
    exists "acceptance.$count" || leave stale
    copy_in "acceptance.$count" "$acceptance_bytes" || leave bad-medium
    foreign=no
    branches=0
    branch_files=''
    branch_list=''
    branch_values=''
    mark_at=0
    values_size=''
    each_line acceptance_line "acceptance.$count" "$acceptance_bytes" ||
        leave bad-medium
    [ "$want" = end ] || leave bad-medium
    # Of another medium or generation: honest perhaps, but not for this vault.
    [ "$foreign" = no ] || leave stale
}

read_in="$read_in slot"

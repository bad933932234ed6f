#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dracut's module: the boot hook, what enrol wrote for it, and the tools it calls.
# Left out, with a word, while nothing is enrolled.

# shellcheck disable=SC2154 # dracut sets moddir, initdir, systemdsystemunitdir, ...
# shellcheck disable=SC2015 # `a && b || c` is meant: c where either has failed

aemseal_programs=${AEMSEAL_PROGRAMS:-/usr/lib/aemseal}
aemseal_files=${AEMSEAL_FILES:-/var/lib/aemseal/hook}
aemseal_tools="
    tpm2_flushcontext tpm2_load tpm2_loadexternal tpm2_nvread tpm2_pcrevent
    tpm2_pcrextend tpm2_pcrread tpm2_policyauthorize tpm2_policyauthvalue
    tpm2_policynv tpm2_policyor tpm2_policypcr tpm2_readpublic
    tpm2_policyrestart tpm2_send tpm2_startauthsession tpm2_unseal
    tpm2_verifysignature
    cryptsetup timeout head tail tr od sed sort sha256sum date mkdir mv rm cat sleep stat
    blkid mount umount modprobe sync mkfifo tee"

check() {
    [ -s "$aemseal_files/srk.tr" ] && [ -s "$aemseal_files/hook.conf" ] || {
        dinfo "aemseal: nothing is enrolled: the boot hook is left out"
        return 1
    }
    # shellcheck disable=SC2086 # a list of names
    require_binaries $aemseal_tools
}

depends() {
    echo dm rootfs-block crypt
    if dracut_module_included systemd; then
        echo systemd-ask-password
    fi
}

installkernel() {
    hostonly='' instmods tpm_tis tpm_crb =drivers/char/tpm
    hostonly='' instmods ext4 vfat nls_cp437 nls_iso8859-1
}

install() {
    # shellcheck disable=SC2086 # a list of names
    inst_multiple $aemseal_tools
    # The bank is measured with the image; its sum program need not be sha256sum.
    inst_multiple -o oathtool stty \
        "$(sed -n 's/^bank //p' "$aemseal_files/hook.conf")sum"
    # tpm2-tools load their way to the device by name, so no linker knows of it.
    inst_libdir_file "libtss2-tcti-device.so*"
    inst_script "$aemseal_programs/aemseal-unseal" /usr/lib/aemseal/aemseal-unseal
    inst_script "$aemseal_programs/aemseal-boot" /usr/lib/aemseal/aemseal-boot
    inst_script "$aemseal_programs/aemseal-root" /usr/lib/aemseal/aemseal-root
    local step
    for step in "$aemseal_programs"/lib/*.sh; do
        inst_simple "$step" "/usr/lib/aemseal/lib/${step##*/}"
    done
    for step in hook.conf srk.tr boot.conf; do
        inst_simple "$aemseal_files/$step" "/etc/aemseal/$step"
    done
    if dracut_module_included systemd; then
        install_units
        inst_hook initqueue/settled 00 "$moddir/aemseal-patience.sh"
    else
        inst_hook initqueue/settled 00 "$moddir/aemseal-settled.sh"
        inst_hook initqueue/finished 00 "$moddir/aemseal-finished.sh"
        inst_hook pre-mount 00 "$moddir/aemseal-pre-mount.sh"
    fi
}

install_units() {
    local unit
    for unit in aemseal-unseal.service aemseal-root.service; do
        inst_simple "$moddir/$unit" "$systemdsystemunitdir/$unit"
        $SYSTEMCTL -q --root "$initdir" add-requires initrd.target "$unit"
    done
}

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dracut's module with Anti Evil Maid's part of the initramfs, as far as a TPM 2.0 and
# a text or a one-time code need it: what boot_like_aem.sh and unseal_like_aem.sh call,
# and the tools of tpm2-tools that its own module takes. Left out is what it takes for
# TPM 1.2 and for its encrypted key file (tcsd, tpm_*, scrypt, file and its magic).

# shellcheck disable=SC2154 # dracut sets initdir, systemdsystemunitdir, SYSTEMCTL

depends() {
    echo dm rootfs-block crypt
    if dracut_module_included systemd; then
        echo systemd-ask-password
    fi
}

installkernel() {
    hostonly='' instmods tpm_tis tpm_crb
}

install() {
    inst_multiple bash tpm2_changeauth tpm2_create tpm2_createprimary \
        tpm2_evictcontrol tpm2_encryptdecrypt tpm2_flushcontext tpm2_load \
        tpm2_nvdefine tpm2_nvread tpm2_nvreadpublic tpm2_nvundefine tpm2_nvwrite \
        tpm2_nvwritelock tpm2_pcrextend tpm2_pcrread tpm2_policycommandcode \
        tpm2_startauthsession tpm2_unseal \
        cryptsetup openssl oathtool base32 blockdev cat cp cut date grep head lsblk \
        mkdir mktemp mount od rm sed seq sha256sum sort tail tee tr umount uniq wc
    inst_libdir_file "libtss2-tcti-device.so*"
    inst_script "$BENCH/boot_like_aem.sh" /usr/lib/aem-calls/boot
    inst_script "$BENCH/unseal_like_aem.sh" /usr/lib/aem-calls/unseal
    if dracut_module_included systemd; then
        inst_simple "$moddir/aem-calls.service" \
            "$systemdsystemunitdir/aem-calls.service"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd.target aem-calls.service
    else
        inst_hook initqueue/settled 00 "$moddir/aem-calls-settled.sh"
    fi
}

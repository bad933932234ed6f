#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What the boot tests need besides make setup: QEMU and dracut (boot-test-packages.txt;
# dracut-core only, which touches no boot of this machine), and, unpacked into the
# cache and not installed, what a PC boots from. Layout:
#   linux-modules/lib/modules/VERSION  grub-pc/usr/lib/grub/i386-pc
#   grub-common/usr/bin/grub-mkimage   busybox-static/bin/busybox
#   plymouth plymouth-libraries plymouth-themes: with usr/{bin,sbin,lib,share}
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh
. setup/unpack.sh
. setup/system-packages.sh

# The package of the kernel that is in the cache, by the name of its file.
kernel_package() {
    set -- "$cache"/linux/boot/vmlinuz-*
    echo "linux-image-${1#"$cache"/linux/boot/vmlinuz-}"
}

install_system_packages setup/boot-test-packages.txt
kernel=$(kernel_package)
unpack linux-modules "$kernel" "$(cat "$cache/linux/VERSION")" ./lib/modules
unpack grub-pc grub-pc-bin "$(latest grub-pc-bin)" ./usr/lib/grub/i386-pc
unpack grub-common grub-common "$(latest grub-common)" ./usr/bin/grub-mkimage
unpack busybox-static busybox-static "$(latest busybox-static)" ./bin/busybox
unpack plymouth plymouth "$(latest plymouth)" './*'
unpack plymouth-libraries libplymouth5 "$(latest libplymouth5)" './*'
unpack plymouth-themes plymouth-themes "$(latest plymouth-themes)" './*'
for modules in "$cache"/linux-modules/lib/modules/*; do
    [ -f "$modules/modules.dep" ] ||
        depmod -b "$cache/linux-modules" "${modules##*/}"
done

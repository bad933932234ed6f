#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Downloads the packages that simulated boots are made of and unpacks them into the
# cache (AEMSEAL_CACHE, else .cache); installs none of them. A folder is complete when
# its VERSION is there. Layout:
#   tboot/{boot/tboot.gz,usr/sbin/lcp2_mlehash,usr/sbin/tb_polgen}
#   grub-emu/usr/bin/grub-emu
#   grub-config/{etc/grub.d,usr/sbin/grub-mkconfig,usr/share/grub/grub-mkconfig_lib}
#   grub-config/usr/bin/{grub-script-check,grub-file}
#   xen-old/boot/xen-*.{gz,efi}  xen-new/boot/xen-*.{gz,efi}  linux/boot/vmlinuz-*
# Where the archives offer one version of Xen only, there is no xen-new; linux-new
# holds another kernel instead.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh
. setup/unpack.sh

# Names of packages that match a regular expression, oldest first.
packages_named() { apt-cache pkgnames | grep -xE "$1" | sort -V; }

xen_package() { packages_named 'xen-hypervisor-[0-9.]+-amd64' | tail -n 1; }

# The names of the kernels that can be downloaded, oldest first: the newest series 6.1
# of Debian 12, or whatever this distribution's newest kernel is.
kernel_packages() {
    found=$(packages_named 'linux-image-6\.1\.0-[0-9]+-amd64')
    [ -n "$found" ] ||
        found=$(packages_named 'linux-image-[0-9.]+(-[0-9]+|\+deb[0-9]+)-amd64')
    for package in $found; do
        [ -z "$(versions_of "$package")" ] || echo "$package"
    done
}

know_package_lists() {
    if [ -z "$(xen_package)" ] || [ -z "$(versions_of tboot)" ]; then
        update_package_lists
    fi
}

# Whether xen.efi was looked for: an earlier set-up left it out, and so may a package.
knows_efi() {
    [ ! -f "$cache/$1/NO-EFI" ] || return 0
    set -- "$cache/$1"/boot/xen-*.efi
    [ -f "$1" ]
}

# unpack_xen FOLDER PACKAGE VERSION
unpack_xen() {
    knows_efi "$1" || rm -f "$cache/$1/VERSION"
    unpack "$1" "$2" "$3" './boot/xen-*'
    knows_efi "$1" || touch "$cache/$1/NO-EFI"
}

unpack_xen_and_linux() {
    xen=$(xen_package)
    old=$(versions_of "$xen" | head -n 1)
    new=$(latest "$xen")
    kernels=$(kernel_packages)
    linux=$(echo "$kernels" | tail -n 1)
    unpack_xen xen-old "$xen" "$old"
    unpack linux "$linux" "$(latest "$linux")" './boot/vmlinuz-*'
    if [ "$old" != "$new" ]; then
        unpack_xen xen-new "$xen" "$new"
        return
    fi
    say "the archives offer one version of $xen only: taking a second kernel instead"
    second=$(echo "$kernels" | tail -n 2 | head -n 1)
    unpack linux-new "$second" "$(latest "$second")" './boot/vmlinuz-*'
}

cache_is_complete() {
    for folder in tboot grub-emu grub-config xen-old linux; do
        [ -f "$cache/$folder/VERSION" ] || return 1
    done
    knows_efi xen-old || return 1
    [ ! -f "$cache/xen-new/VERSION" ] || knows_efi xen-new || return 1
    [ -f "$cache/xen-new/VERSION" ] || [ -f "$cache/linux-new/VERSION" ]
}

! cache_is_complete || exit 0
mkdir -p "$cache"
know_package_lists
unpack tboot tboot "$(latest tboot)" ./boot/tboot.gz ./usr/sbin
unpack grub-emu grub-emu "$(latest grub-emu)" ./usr/bin/grub-emu
unpack grub-config grub-common "$(latest grub-common)" ./etc/grub.d \
    ./usr/sbin/grub-mkconfig ./usr/share/grub/grub-mkconfig_lib \
    ./usr/bin/grub-script-check ./usr/bin/grub-file
unpack_xen_and_linux

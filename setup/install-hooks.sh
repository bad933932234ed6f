#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install-hooks.sh: put boot-hooks/ where a system looks for it, below DESTDIR; for
# packages. Nothing is enabled, and no initramfs and no grub.cfg is written: dracut and
# grub-mkconfig find their parts when they run next, systemctl enables the service.
set -eu
cd "$(dirname "$0")/../boot-hooks"
to=${DESTDIR:?name the folder to install below: make install DESTDIR=...}

programs=$to/usr/lib/aemseal
install -d "$programs/lib"
install -m 0755 aemseal-unseal aemseal-boot aemseal-root aemseal-confirm aemseal-notice \
    "$programs"
install -m 0644 lib/*.sh "$programs/lib"

module=$to/usr/lib/dracut/modules.d/90aemseal
install -d "$module"
install -m 0755 dracut/90aemseal/*.sh "$module"
install -m 0644 dracut/90aemseal/*.service "$module"

install -d "$to/usr/lib/systemd/system" "$to/etc/xdg/autostart" "$to/etc/grub.d"
install -m 0644 systemd/*.service "$to/usr/lib/systemd/system"
install -m 0644 xdg/*.desktop "$to/etc/xdg/autostart"
install -m 0755 grub.d/* "$to/etc/grub.d"

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Without systemd: once, when udev has settled, before dracut asks for a passphrase
# (its own job is behind this one by name).
if [ ! -e /run/aemseal/done ]; then
    mkdir -p /run/aemseal
    : >/run/aemseal/done
    /usr/lib/aemseal/aemseal-boot </dev/null >/dev/console 2>/dev/console || poweroff -f
fi

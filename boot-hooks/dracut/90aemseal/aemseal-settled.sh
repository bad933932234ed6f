#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Without systemd, sourced by dracut: when udev has settled, and before dracut asks for
# a passphrase (its own job is behind this one by name).
if [ ! -e /run/aemseal/done ]; then
    /usr/lib/aemseal/aemseal-boot </dev/null >/dev/console 2>/dev/console || {
        echo o >/proc/sysrq-trigger
        sleep 30
        echo b >/proc/sysrq-trigger
    }
fi

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Without systemd: once, when udev has settled.
if [ ! -e /run/aem-calls ]; then
    : >/run/aem-calls
    /usr/lib/aem-calls/boot </dev/null >/dev/console 2>/dev/console
fi

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Without systemd, sourced by dracut: whatever is there already, the boot does not go on
# before aemseal-boot has said so.
[ -e /run/aemseal/done ]

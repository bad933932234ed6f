#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# With systemd, sourced by dracut: its time for the disks to be opened (rd.retry) begins
# when aemseal-unseal.service has ended. That one waits for a person, within bounds.
# shellcheck disable=SC2034 # dracut-initqueue counts in it
[ -e /run/aemseal/done ] || main_loop=0

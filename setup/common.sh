# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# What the set-up scripts share; sourced, not run.

say() { echo "setup: $*"; }

# die WHAT [HINT]
die() {
    echo "setup: error: $1" >&2
    [ $# -lt 2 ] || echo "setup: hint: $2" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "this needs root: $*" "run it as root or install sudo"
    fi
}

update_package_lists() {
    say "updating the package lists (apt-get update)"
    as_root apt-get update -q
}

# Runs a command that may fail on old package lists; then updates them and tries
# once more.
apt_or_update() {
    "$@" || {
        update_package_lists
        "$@"
    }
}

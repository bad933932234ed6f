# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# System packages by lists of names; sourced behind common.sh, not run.

# missing_packages LIST
missing_packages() {
    sed 's/#.*//' "$1" | while read -r package; do
        [ -n "$package" ] || continue
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

# install_system_packages LIST: those of a list that are missing, and no others.
install_system_packages() {
    missing=$(missing_packages "$1")
    [ -n "$missing" ] || return 0
    say "installing system packages: $missing"
    # Word splitting is meant: a list of package names.
    # shellcheck disable=SC2086
    apt_or_update as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $missing
}

# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# Packages downloaded and unpacked into the cache, without installing them; sourced
# behind common.sh, not run.

# shellcheck disable=SC2034 # for those who source this
cache=${AEMSEAL_CACHE:-.cache}

# Every version of a package that the archives offer, oldest first.
versions_of() {
    apt-cache madison "$1" | awk -F'|' '/Packages$/ {gsub(/ /, "", $2); print $2}' |
        sort -uV
}

latest() { versions_of "$1" | tail -n 1; }


# download PACKAGE VERSION FOLDER
download() {
    (cd "$3" && apt-get download -q "$1=$2") >/dev/null
}

# Old package lists name versions that the archives no longer hold: once, update them
# and begin again with what they name now.
start_over() {
    [ -z "${AEMSEAL_LISTS_UPDATED:-}" ] || die "$1"
    update_package_lists
    AEMSEAL_LISTS_UPDATED=yes exec sh "$0"
}

# unpack FOLDER PACKAGE VERSION PATH...: the paths of the package, and VERSION last.
unpack() {
    folder=$1 package=$2 version=$3
    shift 3
    [ ! -f "$cache/$folder/VERSION" ] || return 0
    [ -n "$version" ] || die "no package $package in this machine's archives"
    say "unpacking $package $version into $cache/$folder"
    scratch=$(mktemp -d)
    # apt drops its rights to the user _apt, who must be able to write here.
    [ "$(id -u)" != 0 ] || chown _apt "$scratch" 2>/dev/null || true
    download "$package" "$version" "$scratch" ||
        start_over "cannot download $package $version"
    rm -rf "${cache:?}/$folder" "$cache/$folder.new"
    mkdir -p "$cache/$folder.new"
    dpkg-deb --fsys-tarfile "$scratch"/*.deb |
        tar -x -C "$cache/$folder.new" --no-same-owner --wildcards "$@"
    rm -rf "$scratch"
    echo "$version" >"$cache/$folder.new/VERSION"
    mv "$cache/$folder.new" "$cache/$folder"
}

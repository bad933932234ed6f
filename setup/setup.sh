#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what is missing, and nothing else: system packages (packages.txt), the
# virtual environments (environments.txt), and boot files unpacked into the cache
# (boot-files.sh). It touches neither /boot nor GRUB nor the initramfs tool in use.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh
. setup/system-packages.sh

require_debian() {
    command -v apt-get >/dev/null 2>&1 ||
        die "this set-up needs Debian's apt-get" \
            "elsewhere, install the counterparts of setup/packages.txt by hand"
    [ "$(dpkg --print-architecture)" = amd64 ] ||
        die "the boot files are for amd64, this is $(dpkg --print-architecture)"
}

# Whether an interpreter is of the right version and has these modules.
python_has() {
    "$1" -c "import sys, $2
sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1
}

suitable_python() {
    for candidate in "${PYTHON:-python3}" /usr/bin/python3; do
        if python_has "$candidate" 'venv, ensurepip'; then
            echo "$candidate"
            return
        fi
    done
    die "no Python >= 3.11 with venv and ensurepip found" \
        "install python3 and python3-venv, or set PYTHON to another interpreter"
}

# What an environment was made from: it is made anew when any of it differs.
environment_stamp() {
    pwd
    echo "$1"
    sed '/^\[tool/,$d' pyproject.toml | cksum
}

environment_is_current() {
    [ -f "$1/aemseal-stamp" ] &&
        [ "$(environment_stamp "$2")" = "$(cat "$1/aemseal-stamp")" ] &&
        "$1/bin/python" -c 'import aemseal, tpm2_pytss' >/dev/null 2>&1
}

make_environment() {
    folder=$1 requirements=$2
    environment_is_current "$folder" "$requirements" && return
    say "installing Python packages into $folder: aemseal[dev] $requirements"
    if ! python_has "$folder/bin/python" pip; then
        python=$(suitable_python)
        "$python" -m venv --clear "$folder" ||
            die "cannot make the virtual environment $folder" \
                "remove the folder and run make setup again"
    fi
    rm -f "$folder/aemseal-stamp"
    # Word splitting is meant: a list of requirements.
    # shellcheck disable=SC2086
    "$folder/bin/python" -m pip install -q --disable-pip-version-check \
        -e '.[dev]' $requirements ||
        die "pip could not install into $folder" \
            "see its message above; remove the folder to start afresh"
    environment_stamp "$requirements" >"$folder/aemseal-stamp"
}

make_environments() {
    sed 's/#.*//' setup/environments.txt | while read -r folder requirements; do
        [ -n "$folder" ] || continue
        make_environment "$folder" "$requirements" </dev/null
    done
}

require_debian
install_system_packages setup/packages.txt
make_environments
sh setup/boot-files.sh

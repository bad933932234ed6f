#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the fuzzer into the environment of this interpreter: fuzz.sh PYTHON
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh

say "installing what setup/fuzz.txt names"
"$1" -m pip install -q --disable-pip-version-check --only-binary :all: \
    -r setup/fuzz.txt ||
    die "pip found no atheris for $("$1" --version)" \
        "make the environment with another one: make setup PYTHON=python3.11"

# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit in a real systemd: a user's manager, in a mount namespace of its own.

Only ExecStart is another: it names a root and a stub of aemseal. As a user's manager it
knows none of the system's units, so what the unit is ordered after is not held here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from after_boot import CONFIRM

UNIT = CONFIRM.parent / "systemd" / "aemseal-confirm.service"
SYSTEMD = Path("/usr/lib/systemd/systemd")
STUB = r"""#!/bin/sh
verdict=accepted this_boot=accepted
[ ! -e changed ] || verdict=changed this_boot=unknown
case "$*" in
    *--json*)
        printf '{\n "this_boot": "%s",\n' $this_boot
        printf ' "verdict": "%s"\n}\n' $verdict
        ;;
    confirm*)
        echo confirmed >>times
        echo 'nothing to do: X is accepted already'
        ;;
esac
"""
DROP_IN = """[Service]
WorkingDirectory={folder}
Environment=TPM2TOOLS_TCTI=none
ExecStart=
ExecStart={confirm} -r {folder}/root -a {folder}/aemseal
"""
SCRIPT = """
mount -t tmpfs none /run && mount -t tmpfs none /var/lib || exit 77
mkdir -p /run/systemd/system /run/user /var/lib/aemseal && chmod 700 /run/user
export XDG_RUNTIME_DIR=/run/user XDG_CONFIG_HOME=$PWD/config
{systemd} --user >log 2>&1 &
manager=$!
trap 'kill $manager; wait $manager' EXIT
left=50
until systemctl --user is-system-running >/dev/null 2>&1; do
    left=$((left - 1)); [ $left -gt 0 ] || exit 77
    sleep 0.1
done
look() {{
    systemctl --user $1 aemseal-confirm 2>/dev/null
    systemctl --user show -P ConditionResult -P ActiveState -P Result \
        -P ExecMainStatus aemseal-confirm | tr '\\n' ' '
    echo
}}
look start
touch /var/lib/aemseal/state.json
look start
look start
touch changed
look restart
"""


def systemd_runs(folder: Path) -> list[str]:
    """Run SCRIPT; what each look at the unit showed."""
    if shutil.which("unshare") is None or not SYSTEMD.exists():
        pytest.skip("no systemd, or no unshare")
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", SCRIPT.format(systemd=SYSTEMD)),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no systemd can be run here")
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_systemd_runs_it_once_where_something_is_sealed_and_shows_a_mismatch(
    tmp_path: Path,
) -> None:
    units = tmp_path / "config/systemd/user"
    drop_in = units / f"{UNIT.name}.d/test.conf"
    drop_in.parent.mkdir(parents=True)
    shutil.copy(UNIT, units)
    drop_in.write_text(DROP_IN.format(folder=tmp_path, confirm=CONFIRM))
    (tmp_path / "aemseal").write_text(STUB)
    (tmp_path / "aemseal").chmod(0o755)
    record = tmp_path / "root/run/aemseal/record"
    record.parent.mkdir(parents=True)
    record.write_text("aemseal-record 2\noutcome unsealed\n")
    assert systemd_runs(tmp_path) == [
        "success 0 inactive no ",
        "success 0 active yes ",
        "success 0 active yes ",
        "exit-code 6 failed yes ",
    ]
    assert (tmp_path / "times").read_text() == "confirmed\n"
    notice = record.with_name("notice").read_text()
    assert notice.startswith("critical\nThis boot is not one that you accepted.\n")

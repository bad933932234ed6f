# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running system says of its own boot, where logs and files do not tell.

Sources: Linux Documentation/filesystems/proc.rst (cmdline) and
Documentation/ABI/stable/sysfs-hypervisor-xen (buildid).
"""

from __future__ import annotations

from aemseal.measure.launch import RunningSystem
from aemseal.words.errors import AemsealError
from aemseal.world.host import Host

DOM0_CMDLINE = "/proc/cmdline"
XEN_BUILD_ID = "/sys/hypervisor/buildid"


def read_running_system(host: Host) -> RunningSystem:
    """Ask the running kernel and Xen; what cannot be read is unknown."""
    cmdline = _line(host, DOM0_CMDLINE)
    build_id = _line(host, XEN_BUILD_ID)
    return RunningSystem(
        xen_cmdline=_xen_cmdline(host),
        dom0_cmdline=cmdline,
        xen_build_id=build_id.decode("ascii", "replace") if build_id else None,
    )


def _xen_cmdline(host: Host) -> bytes | None:
    try:
        return host.xen_cmdline()
    except AemsealError:
        return None


def _line(host: Host, path: str) -> bytes | None:
    try:
        data = host.small_file(path)
    except AemsealError:
        return None
    return None if data is None else data.removesuffix(b"\n")

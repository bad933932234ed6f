# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running system says of its own boot, where logs and files do not tell.

Sources: Linux Documentation/filesystems/proc.rst (cmdline) and
Documentation/ABI/stable/sysfs-hypervisor-xen (buildid).
"""

from __future__ import annotations

from aemseal.formats.tboot_policy import parse_policy, wrapped_policies
from aemseal.measure.launch import RunningSystem
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.stack import wants_policies
from aemseal.measure.tboot_places import NV_INDEXES
from aemseal.words.errors import (
    AemsealError,
    EvidenceError,
    FormatError,
    TpmError,
)
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
        stored_policies=_stored_policies(host),
    )


def read_policies(host: Host, verified: VerifiedLog) -> tuple[bytes, ...]:
    """Return what may be tboot's policy: none is asked for where a default explains.

    They are an NV index each, as far as a TPM 2.0 lets it be read, and the file that
    the configuration names: a policy, or LCP policy data around one. FormatError when
    that file is neither, BootFileError when it is not there.
    """
    if not wants_policies(verified):
        return ()
    copy = host.tboot_policy()
    named = () if copy is None else _policies_of(copy)
    return (*_stored_policies(host), *named)


def _stored_policies(host: Host) -> tuple[bytes, ...]:
    indexes = (_nv_index(host, index) for index in NV_INDEXES)
    return tuple(each for each in indexes if each is not None)


def _policies_of(copy: bytes) -> tuple[bytes, ...]:
    wrapped = wrapped_policies(copy)
    if wrapped:
        return wrapped
    try:
        parse_policy(copy)
    except FormatError as error:
        raise FormatError(
            f"the file of tboot_policy holds no verified-launch policy: {error.what}",
            error.offset,
            "name the file that tb_polgen made, or the LCP policy data it went into",
        ) from None
    return (copy,)


def _nv_index(host: Host, index: int) -> bytes | None:
    try:
        return host.nv_read(index)
    except (TpmError, EvidenceError):  # an old recording does not tell
        return None


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

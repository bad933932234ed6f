# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that tboot prints, for tests: written as its print functions write it.

Nothing here imports the readers, so a text that parses back is no echo of them.
Source of the forms: tboot txt/heap.c, common/integrity.c, common/printk.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from event_log_bytes import SIZES

SHA1, SHA256, SM3 = 0x04, 0x0B, 0x12
NAMES = {0x04: "SHA1", 0x0B: "SHA256", 0x0C: "SHA384", 0x0D: "SHA512", 0x12: "SM3_256"}

Record = tuple[int, int, Mapping[int, bytes], bytes]
"""PCR, type, digests by TCG identifier, data."""


def spaced(data: bytes) -> str:
    return "".join(f"{each:02x} " for each in data)


def sized(head: str, data: bytes, indent: str) -> str:
    """print_hex with a prefix: 16 bytes a line, none of which is marked as tboot's."""
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    lines = "".join(f"\n{indent}{spaced(row)}" for row in rows)
    return f"TBOOT: {head}: {len(data)} bytes{lines}\n"


def record(pcr: int, kind: int, digest: bytes, data: bytes = b"") -> str:
    indent = "\t\t\t         "
    return (
        "TBOOT: \t\t\t Event:\n"
        f"TBOOT: \t\t\t     PCRIndex: {pcr}\n"
        f"TBOOT: {indent}Type: {kind:#x}\n"
        f"TBOOT: \t\t\t       Digest: {spaced(digest)}\n"
    ) + sized(f"{indent}Data", data, indent)


def agile_record(pcr: int, kind: int, digests: Mapping[int, bytes], data: bytes) -> str:
    indent = "\t\t\t     "
    text = (
        "TBOOT: \t\t\t TCG Event:\n"
        f"TBOOT: \t\t\t      pcr_index: {pcr}\n"
        f"TBOOT: {indent}event_type: {kind:#x}\n"
        f"TBOOT: \t\t\t          count: {len(digests)}\n"
    )
    for number, digest in digests.items():
        text += f"TBOOT: {NAMES[number]}: \nTBOOT: {spaced(digest)}\n"
    return text + sized(f"{indent}event_data", data, indent)


def container(records: Sequence[Record], *, closing: str = "]") -> str:
    end = 48 + sum(32 + len(data) for *_, data in records)
    return (
        "TBOOT: \t\t\t Event Log Container:\n"
        "TBOOT: \t\t\t     Signature: TXT Event Container\n"
        "TBOOT: \t\t\t  ContainerVer: 1.0\n"
        "TBOOT: \t\t\t   PCREventVer: 1.0\n"
        "TBOOT: \t\t\t          Size: 20480\n"
        f"TBOOT: \t\t\t  EventsOffset: [48,{end}{closing}\n"
    ) + "".join(record(pcr, kind, d[SHA1], data) for pcr, kind, d, data in records)


def bank(number: int, records: Sequence[Record]) -> str:
    ours = [(pcr, kind, d[number], data) for pcr, kind, d, data in records]
    size = sum(12 + len(digest) + len(data) for *_, digest, data in ours)
    head = ""
    if number != SHA1 and ours:
        size += 60
        head = record(0, 3, bytes(20), bytes(28))
    text = (
        "TBOOT: \t\t\t Log Descrption:\n"
        f"TBOOT: \t\t\t             Alg: {number}\n"
        "TBOOT: \t\t\t            Size: 4096\n"
        f"TBOOT: \t\t\t    EventsOffset: [0,{size}]\n"
    )
    if not ours:
        return text + "TBOOT: \t\t\t              No Event Log.\n"
    return text + head + "".join(record(*each) for each in ours)


def banks(logs: Mapping[int, Sequence[Record]]) -> str:
    head = (
        "TBOOT: \t\t EVENT_LOG_PTR:\n"
        f"TBOOT: \t\t       size: {12 + 24 * len(logs)}\n"
        f"TBOOT: \t\t      count: {len(logs)}\n"
    )
    return head + "".join(bank(number, records) for number, records in logs.items())


def agile(
    numbers: Sequence[int], records: Sequence[Record], *, vendor: bytes = b""
) -> str:
    spec_size = 29 + 4 * len(numbers) + len(vendor)
    end = 32 + spec_size
    for _, _, digests, data in records:
        end += 16 + sum(2 + len(each) for each in digests.values()) + len(data)
    algorithms = "".join(
        f"TBOOT: \t\t\t\t   algorithm_id: {each:#x} \n"
        f"TBOOT: \t\t\t\t    digest_size: {SIZES.get(each, 32)}\n"
        for each in numbers
    )
    return (
        "TBOOT: \t TCG EVENT_LOG_PTR:\n"
        "TBOOT: \t\t       type: 8\n"
        "TBOOT: \t\t       size: 28\n"
        "TBOOT: \t TCG Event Log Descrption:\n"
        "TBOOT: \t     allcoated_event_container_size: 8192\n"
        f"TBOOT: \t                       EventsOffset: [0,{end}]\n"
        "TBOOT: \t TCG Event Log Header:\n"
        "TBOOT: \t\t       pcr_index: 0\n"
        "TBOOT: \t\t      event_type: 3\n"
        "TBOOT: \t\t          digest: \n"
        f"TBOOT: \t\t event_data_size: {spec_size}\n"
        "TBOOT: \t\t \t   header event data:  \n"
        "TBOOT: \t\t\t              signature: Spec ID Event03\n"
        "TBOOT: \t\t\t         platform_class: 0\n"
        "TBOOT: \t\t\t     spec_version_major: 2\n"
        "TBOOT: \t\t\t     spec_version_minor: 0\n"
        "TBOOT: \t\t\t            spec_errata: 0\n"
        "TBOOT: \t\t\t             uintn_size: 1\n"
        f"TBOOT: \t\t\t   number_of_algorithms: {len(numbers)}\n"
        f"{algorithms}"
        f"TBOOT: \t\t\t       vendor_info: {len(vendor)} bytes\n"
        f"TBOOT: {spaced(vendor)}\n"
    ) + "".join(agile_record(*each) for each in records)


def empty_agile() -> str:
    return (
        "TBOOT: \t TCG Event Log Descrption:\n"
        "TBOOT: \t     allcoated_event_container_size: 8192\n"
        "TBOOT: \t                       EventsOffset: [0,0]\n"
        "TBOOT: \t\t\t No Event Log found.\n"
    )


def measurements(entries: Sequence[tuple[int, Mapping[int, bytes]]]) -> str:
    """The list since 1.8, and the line that follows it."""
    text = "TBOOT: \t VL measurements:\n"
    for pcr, digests in entries:
        text += f"TBOOT: \t   PCR {pcr} (alg count {len(digests)}):\n"
        for number, digest in digests.items():
            text += f"TBOOT: \t\t   alg {number:04X}: {spaced(digest)}\n"
    return text + "TBOOT: TPM: seal data, return value = 00000001\n"


def old_measurements(entries: Sequence[tuple[int, bytes]]) -> str:
    """The list before 1.8, and the line that follows it."""
    rows = "".join(f"TBOOT: \t   PCR {pcr}: {spaced(d)}\n" for pcr, d in entries)
    return f"TBOOT: \t VL measurements:\n{rows}TBOOT: PCRs before extending:\n"


def os_sinit(version: int, capabilities: int) -> str:
    return (
        "TBOOT: os_sinit_data (@0xb9935154, 0x64):\n"
        f"TBOOT: \t version: {version}\n"
        "TBOOT: \t mle_ptab: 0x801000\n"
        f"TBOOT: \t capabilities: {capabilities:#010x}\n"
        "TBOOT: \t     rlp_wake_getsec: 0\n"
    )


def sinit_mle(
    version: int,
    *,
    acm_id: bytes = b"\x80" * 20,
    edx: int = 0,
    mseg: int = 0,
    sinit: bytes = b"\1" * 20,
    mle: bytes = b"\2" * 20,
    stm: bytes = bytes(20),
    lcp: bytes = bytes(20),
    control: int = 0,
    scrtm: int = 0,
) -> str:
    text = (
        "TBOOT: sinit_mle_data (@0xb99351b8, 0x250):\n"
        f"TBOOT: \t version: {version}\n"
        f"TBOOT: \t bios_acm_id: \n\t{spaced(acm_id)}\n"
        f"TBOOT: \t edx_senter_flags: {edx:#010x}\n"
        f"TBOOT: \t mseg_valid: {mseg:#x}\n"
        f"TBOOT: \t sinit_hash:\n\t{spaced(sinit)}\n"
        f"TBOOT: \t mle_hash:\n\t{spaced(mle)}\n"
        f"TBOOT: \t stm_hash:\n\t{spaced(stm)}\n"
        f"TBOOT: \t lcp_policy_hash:\n\t{spaced(lcp)}\n"
        f"TBOOT: \t lcp_policy_control: {control:#010x}\n"
        "TBOOT: \t rlp_wakeup_addr: 0xb9901af0\n"
        "TBOOT: \t num_mdrs: 1\n"
        "TBOOT: \t mdrs_off: 0x98\n"
        "TBOOT: \t num_vtd_dmars: 272\n"
        "TBOOT: \t vtd_dmars_off: 0x140\n"
        "TBOOT: \t sinit_mdrs:\n"
        "TBOOT: \t\t 0000000000000000 - 00000000000a0000 (GOOD)\n"
    )
    if version >= 8:
        text += f"TBOOT: \t proc_scrtm_status: {scrtm:#010x}\n"
    return text

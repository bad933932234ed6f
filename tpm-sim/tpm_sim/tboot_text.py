# SPDX-License-Identifier: GPL-2.0-or-later
"""What txt-stat prints of a launch: registers, then what tboot logged into memory.

Written line for line after the logs of a Dell E5470 (tboot 1.10.2, TPM 2.0), a ThinkPad
T460p (1.10.3, TPM 1.2) and a GM45 laptop (1.9.12, TPM 1.2, no event log) that were
posted to tboot-devel; the parts that no reader needs (memory maps, processors) are
left out. Form: tboot common/policy.c, txt/heap.c, include/
tboot.h (tboot_log_t), utils/txt-stat.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aemseal.words.digest import Digest, Digests, HashAlgorithm
from tpm_sim.errors import SimulationError
from tpm_sim.eventlog import LogFormat, LogRecord, binary_log
from tpm_sim.heap import HEAP_BASE, HEAP_SIZE, SinitTable
from tpm_sim.tboot_image import TbootImage
from tpm_sim.tboot_policy import NO_PCR, LaunchPolicy

_REGISTERS = f"""\
Intel(r) TXT Configuration Registers:
\tSTS: 0x000180b1
\t    senter_done: TRUE
\t    sexit_done: FALSE
\tERRORCODE: 0x00000000
\tDIDVID: 0x00000001b0068086
\t    vendor_id: 0x8086
\t    device_id: 0xb006
\t    revision_id: 0x1
\tFSBIF: 0xffffffffffffffff
\tQPIIF: 0x000000009d003000
\tHEAP.BASE: {HEAP_BASE:#x}
\tHEAP.SIZE: {HEAP_SIZE}B ({HEAP_SIZE:#x})

***********************************************************
\t TXT measured launch: TRUE
\t secrets flag set: TRUE
***********************************************************
"""

MEMORY_LOG_ADDRESS = 0x60000
_MEMORY_LOG_SIZE = 32706
_MEMORY_LOG_UUID = bytes.fromhex("262519c0306bb44d4c84a3e953b88174")
_MEMORY_LOG_HEAD = struct.Struct("<16sHH40xx")
"""UUID, size, end; ten positions and sizes of packed parts and their number: none."""

_FLAGS = (
    *("rlp_wake_getsec", "rlp_wake_monitor", "ecx_pgtbl", "stm", "pcr_map_no_legacy"),
    *("pcr_map_da", "platform_type", "max_phy_addr", "tcg_event_log_format"),
    "cbnt_supported",
)
_FLAG_BITS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)
_ALGORITHMS = {HashAlgorithm.SHA1: "SHA1", HashAlgorithm.SHA256: "SHA256"}
_POLICY_ALGORITHMS = {4: "TB_HALG_SHA1", 11: "TB_HALG_SHA256"}
_TYPES = (
    "TB_POLTYPE_CONT_NON_FATAL",
    "TB_POLTYPE_CONT_VERIFY_FAIL",
    "TB_POLTYPE_HALT",
)


@dataclass(frozen=True, slots=True)
class ToldLaunch:
    """A launch as tboot tells of it.

    `log_format` is the form of the event log behind it, None where SINIT keeps none.
    `own` are tboot's records, `capabilities` what it asked SINIT for,
    `module_capabilities` what that can, `bios_sinit_size` the size of the firmware's
    own SINIT module.
    """

    tboot: TbootImage
    cmdline: bytes
    is_tpm2: bool
    banks: tuple[HashAlgorithm, ...]
    log_format: LogFormat | None
    sinit: tuple[LogRecord, ...]
    own: tuple[LogRecord, ...]
    policy: LaunchPolicy
    table: SinitTable
    capabilities: int
    module_capabilities: int
    bios_sinit_size: int

    def text(self) -> bytes:
        """Return txt-stat's output."""
        printed = self._printed()
        head = f"TBOOT log:\n\t max_size={_MEMORY_LOG_SIZE}\n\t zip_count=0\n"
        head += f"\t curr_pos={len(printed)}\n\t buf:\n"
        return (_REGISTERS + head).encode() + printed

    def memory_log(self) -> bytes:
        """Return what tboot keeps in memory, with `logging=memory`.

        Nothing is packed in it. SimulationError when it is longer than its place.
        """
        printed = self._printed()
        if len(printed) > _MEMORY_LOG_SIZE:
            raise SimulationError("tboot would pack a log that is so long")
        head = _MEMORY_LOG_HEAD.pack(_MEMORY_LOG_UUID, _MEMORY_LOG_SIZE, len(printed))
        return head + printed.ljust(_MEMORY_LOG_SIZE + 1, b"\0")

    def _printed(self) -> bytes:
        return "".join(f"{line}\n" for line in self._lines()).encode()

    def _lines(self) -> Iterator[str]:
        yield from self._banner()
        yield from self._module()
        yield from self._policy()
        yield from self._bios_data()
        yield from self._os_sinit(before=True)
        yield "TBOOT: executing GETSEC[SENTER]..."
        yield from self._banner()
        yield "TBOOT: SINIT ACM successfully returned..."
        yield "TBOOT: Post_launch started ..."
        yield "TBOOT: measured launch succeeded"
        yield from self._policy()
        yield from self._bios_data()
        yield from self._os_sinit(before=False)
        yield from self._table()
        yield from self._measurements()
        if self.log_format is LogFormat.TCG_AGILE:
            for record in self.own:
                yield from _agile_event(record)
        elif self.log_format is not None:
            for record in self.own:
                yield from _sha1_event(record)
        yield "TBOOT: transfering control to kernel @0x2800000..."

    def _banner(self) -> Iterator[str]:
        yield "TBOOT: *********************** TBOOT ***********************"
        yield f"TBOOT:    {self.tboot.date} {self.tboot.version}"
        yield "TBOOT: *****************************************************"
        yield f"TBOOT: command line: {self.cmdline.decode('utf-8', 'replace')}"
        yield "TBOOT: TXT chipset and all needed capabilities present"

    def _module(self) -> Iterator[str]:
        yield "TBOOT: chipset ids: vendor: 0x8086, device: 0xb006, revision: 0x1"
        yield "TBOOT: processor family/model/stepping: 0x506e3"
        yield "TBOOT: SINIT matches platform"
        yield "TBOOT: AC module header dump for SINIT:"
        yield "TBOOT: \t type: 0x2 (ACM_TYPE_CHIPSET)"
        yield "TBOOT: \t date: 0x20180904"
        yield "TBOOT: \t info_table:"
        yield "TBOOT: \t\t version: 6"
        yield f"TBOOT: \t\t capabilities: {self.module_capabilities:#010x}"
        yield from _flags("\t\t", self.module_capabilities)
        kind = "TPM2.0 Family 0x1" if self.is_tpm2 else "TPM1.2 Family 0x0"
        yield f"TBOOT: TPM: discrete {kind}"

    def _policy(self) -> Iterator[str]:
        content = self.policy.content
        yield "TBOOT: policy:"
        yield f"TBOOT: \t version: {content[0]}"
        yield f"TBOOT: \t policy_type: {_TYPES[content[1]]}"
        algorithm = _POLICY_ALGORITHMS.get(content[2], f"unsupported ({content[2]})")
        yield f"TBOOT: \t hash_alg: {algorithm}"
        yield f"TBOOT: \t policy_control: {content[3]:08x} (EXTEND_PCR17)"
        yield f"TBOOT: \t num_entries: {len(self.policy.entries)}"
        names = {129: "any", 130: "nv", 131: "nv_raw"}
        for number, entry in enumerate(self.policy.entries):
            pcr = "none" if entry.pcr == NO_PCR else str(entry.pcr)
            hashed = "ANY" if entry.hashes is None else "IMAGE"
            yield f"TBOOT: \t policy entry[{number}]:"
            yield f"TBOOT: \t\t mod_num: {names.get(entry.module, str(entry.module))}"
            if entry.module > 129:
                yield "\t\t nv_index: 40000010"
            yield f"TBOOT: \t\t pcr: {pcr}"
            yield f"TBOOT: \t\t hash_type: TB_HTYPE_{hashed}"
            yield f"TBOOT: \t\t num_hashes: {len(entry.hashes or ())}"
            for index, value in enumerate(entry.hashes or ()):
                yield f"TBOOT: \t\t hashes[{index}]: {_hex(value)}"

    def _bios_data(self) -> Iterator[str]:
        size = self.bios_sinit_size
        yield f"TBOOT: TXT.HEAP.BASE: {HEAP_BASE:#x}"
        yield f"TBOOT: TXT.HEAP.SIZE: {HEAP_SIZE:#x} ({HEAP_SIZE})"
        yield f"TBOOT: bios_data (@{HEAP_BASE + 8:#x}, 0x56):"
        yield "TBOOT: \t version: 6"
        yield f"TBOOT: \t bios_sinit_size: {size:#x} ({size})"
        yield "TBOOT: \t lcp_pd_base: 0x0"
        yield "TBOOT: \t lcp_pd_size: 0x0 (0)"
        yield "TBOOT: \t num_logical_procs: 4"

    def _os_sinit(self, *, before: bool) -> Iterator[str]:
        """Print what tboot asks SINIT for, and the log as far as it is then."""
        version = 5 if self.log_format is None else 7
        yield f"TBOOT: os_sinit_data (@{HEAP_BASE + 0x1517E:#x}, 0x88):"
        yield f"TBOOT: \t version: {version}"
        yield "TBOOT: \t mle_ptab: 0x801000"
        yield f"TBOOT: \t capabilities: {self.capabilities:#010x}"
        yield from _flags("\t", self.capabilities)
        yield "TBOOT: \t efi_rsdt_ptr: 0x2472e20"
        if self.log_format is None:
            return
        yield "TBOOT: \t ext_data_elts[]:"
        sinit = () if before else self.sinit
        if self.log_format is LogFormat.TCG_AGILE:
            yield from self._agile_log(sinit)
        else:
            yield from self._container(sinit)

    def _agile_log(self, sinit: Sequence[LogRecord]) -> Iterator[str]:
        yield "TBOOT: \t TCG EVENT_LOG_PTR:"
        yield "TBOOT: \t\t       type: 8"
        yield "TBOOT: \t\t       size: 28"
        yield "TBOOT: \t TCG Event Log Descrption:"
        yield "TBOOT: \t     allcoated_event_container_size: 8192"
        if not sinit:
            yield "TBOOT: \t                       EventsOffset: [0,0]"
            yield "TBOOT: \t\t\t No Event Log found."
            return
        end = len(binary_log(LogFormat.TCG_AGILE, sinit, self.banks))
        yield f"TBOOT: \t                       EventsOffset: [0,{end}]"
        yield "TBOOT: \t TCG Event Log Header:"
        yield "TBOOT: \t\t       pcr_index: 0"
        yield "TBOOT: \t\t      event_type: 3"
        yield "TBOOT: \t\t          digest: "
        yield f"TBOOT: \t\t event_data_size: {29 + 4 * len(self.banks)}"
        yield "TBOOT: \t\t \t   header event data:  "
        yield "TBOOT: \t\t\t              signature: Spec ID Event03"
        yield "TBOOT: \t\t\t         platform_class: 0"
        yield "TBOOT: \t\t\t     spec_version_major: 2"
        yield "TBOOT: \t\t\t     spec_version_minor: 0"
        yield "TBOOT: \t\t\t            spec_errata: 0"
        yield "TBOOT: \t\t\t             uintn_size: 1"
        yield f"TBOOT: \t\t\t   number_of_algorithms: {len(self.banks)}"
        for bank in self.banks:
            yield f"TBOOT: \t\t\t\t   algorithm_id: {bank.tcg_id:#x} "
            yield f"TBOOT: \t\t\t\t    digest_size: {bank.size}"
        yield "TBOOT: \t\t\t       vendor_info: 0 bytes"
        yield "TBOOT: "
        for record in sinit:
            yield from _agile_event(record)

    def _container(self, sinit: Sequence[LogRecord]) -> Iterator[str]:
        yield "TBOOT: \t\t EVENT_LOG_POINTER:"
        yield "TBOOT: \t\t       size: 16"
        yield f"TBOOT: \t\t  elog_addr: {HEAP_BASE + 0x10176:#x}"
        yield "TBOOT: \t\t\t Event Log Container:"
        yield "TBOOT: \t\t\t     Signature: TXT Event Container"
        yield "TBOOT: \t\t\t  ContainerVer: 1.0"
        yield "TBOOT: \t\t\t   PCREventVer: 1.0"
        yield "TBOOT: \t\t\t          Size: 20480"
        end = 48 + len(binary_log(LogFormat.TCG_SHA1, sinit, self.banks))
        yield f"TBOOT: \t\t\t  EventsOffset: [48,{end}]"
        for record in sinit:
            yield from _sha1_event(record)

    def _table(self) -> Iterator[str]:
        table = self.table
        yield f"TBOOT: sinit_mle_data (@{HEAP_BASE + 0x15206:#x}, 0x2fc):"
        yield f"TBOOT: \t version: {table.version}"
        yield "TBOOT: \t bios_acm_id: "
        yield f"\t{_hex(table.bios_acm_id)}"
        yield "TBOOT: \t edx_senter_flags: 0x00000000"
        yield f"TBOOT: \t mseg_valid: {table.mseg_valid:#x}"
        for name in ("sinit_hash", "mle_hash", "stm_hash", "lcp_policy_hash"):
            yield f"TBOOT: \t {name}:"
            yield f"\t{_hex(getattr(table, name))}"
        yield f"TBOOT: \t lcp_policy_control: {table.lcp_policy_control:#010x}"
        yield "TBOOT: \t rlp_wakeup_addr: 0xb9ed1ce0"
        yield "TBOOT: \t num_mdrs: 7"
        if table.has_scrtm_status:
            yield f"TBOOT: \t proc_scrtm_status: {table.scrtm_status:#010x}"

    def _measurements(self) -> Iterator[str]:
        yield "TBOOT: all modules are verified"
        yield "TBOOT: pre_k_s3_state:"
        yield "TBOOT: \t vtd_pmr_lo_base: 0x0"
        own = HashAlgorithm.SHA256 if self.is_tpm2 else HashAlgorithm.SHA1
        yield f"TBOOT: \t pol_hash: {_hex(own.hash(self.policy.content).value)}"
        yield "TBOOT: \t VL measurements:"
        for record in self.own:
            count = len(record.digests)
            yield f"TBOOT: \t   PCR {record.pcr} (alg count {count}):"
            for digest in _in_order(record.digests):
                algorithm = digest.algorithm.tcg_id
                yield f"TBOOT: \t\t   alg {algorithm:04X}: {_hex(digest.value)}"


def _flags(indent: str, capabilities: int) -> Iterator[str]:
    for name, bit in zip(_FLAGS, _FLAG_BITS, strict=True):
        yield f"TBOOT: {indent}     {name}: {capabilities >> bit & 1}"


def _agile_event(record: LogRecord) -> Iterator[str]:
    yield "TBOOT: \t\t\t TCG Event:"
    yield f"TBOOT: \t\t\t      pcr_index: {record.pcr}"
    yield f"TBOOT: \t\t\t     event_type: {record.type:#x}"
    yield f"TBOOT: \t\t\t          count: {len(record.digests)}"
    for digest in _in_order(record.digests):
        yield f"TBOOT: {_ALGORITHMS[digest.algorithm]}: "
        yield f"TBOOT: {_hex(digest.value)}"
    yield f"TBOOT: \t\t\t     event_data: {len(record.data)} bytes"
    yield from _dump("\t\t\t     ", record.data)


def _sha1_event(record: LogRecord) -> Iterator[str]:
    yield "TBOOT: \t\t\t Event:"
    yield f"TBOOT: \t\t\t     PCRIndex: {record.pcr}"
    yield f"TBOOT: \t\t\t         Type: {record.type:#x}"
    digest = record.digests[HashAlgorithm.SHA1]
    yield f"TBOOT: \t\t\t       Digest: {_hex(digest.value)}"
    yield f"TBOOT: \t\t\t         Data: {len(record.data)} bytes"
    yield from _dump("\t\t\t         ", record.data)


def _dump(indent: str, data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        yield indent + _hex(data[at : at + 16])


def _in_order(digests: Digests) -> list[Digest]:
    return sorted(digests.values(), key=lambda each: each.algorithm.tcg_id)


def _hex(value: bytes) -> str:
    """Return bytes as tboot prints them: two digits and a space each."""
    return "".join(f"{byte:02x} " for byte in value)

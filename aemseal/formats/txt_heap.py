# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of a raw TXT heap: BiosData, OsMleData, OsSinitData, SinitMleData.

The heap begins with these four tables, one behind the other, each with its size as a
u64 in front, which counts itself. OsSinitData of version 6 and later ends in a list of
extended data elements (u32 type, u32 size of the whole element, data; type 0 ends it);
one of them says where the event log is. `txt_heap_log` reads that log.

Source: Intel TXT Software Development Guide, appendix C; tboot include/txt/heap.h and
txt/heap.c (verify_bios_data, calc_os_sinit_data_size, verify_ext_data_elts). Sizes and
offsets were held against the tables of a GM45 laptop, a T460p and an E5470.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aemseal.formats.per_bank_log import BankDescriptor, read_bank_descriptor
from aemseal.formats.reader import ByteReader
from aemseal.formats.sinit_mle import SinitMleData, read_sinit_mle_data
from aemseal.words.errors import FormatError

PAGE_SIZE = 4096
_SIZE_PREFIX = 8
_FIRST_BIOS_VERSION = 2
_FIRST_BIOS_WITH_FLAGS = 3
_OS_SINIT_VERSIONS = range(4, 8)
_FIRST_OS_SINIT_WITH_RSDP = 5
_FIRST_OS_SINIT_WITH_ELEMENTS = 6
_MAXIMAL_PROCESSORS = 65536

_END, _CONTAINER_POINTER, _BANK_POINTERS, _AGILE_POINTER = 0, 5, 7, 8
_ELEMENT_HEADER_SIZE = 8
_MOST_BANKS = 16
"""Banks of one TPM (TSS specification, TPM2_NUM_PCR_BANKS); tboot knows five."""
_TABLES = ("BiosData", "OsMleData", "OsSinitData", "SinitMleData")


@dataclass(frozen=True, slots=True)
class BiosData:
    """What the firmware left; later versions only add to it.

    `bios_sinit_size` is the size in bytes of the SINIT that the firmware brings, 0
    without one. `flags` is None before version 3.
    """

    version: int
    bios_sinit_size: int
    lcp_pd_base: int
    lcp_pd_size: int
    logical_processors: int
    flags: int | None = None

    def __post_init__(self) -> None:
        if self.version < _FIRST_BIOS_VERSION:
            raise ValueError(f"BiosData of version {self.version} is not known")
        if not 0 < self.logical_processors <= _MAXIMAL_PROCESSORS:
            raise ValueError(f"BiosData of {self.logical_processors} processors")


@dataclass(frozen=True, slots=True)
class OsMleData:
    """The launcher's own table: where it lies in the heap, behind its size.

    Its content is a matter between the parts of the launcher; tboot keeps the event
    log in it.
    """

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ContainerPointer:
    """Element 5: the physical address of a TPM 1.2's TXT event container."""

    address: int


@dataclass(frozen=True, slots=True)
class BankPointers:
    """Element 7: the logs of a TPM 2.0's banks, at least one."""

    banks: tuple[BankDescriptor, ...]

    def __post_init__(self) -> None:
        if not self.banks:
            raise ValueError("an event log of no bank")


@dataclass(frozen=True, slots=True)
class AgilePointer:
    """Element 8: a crypto-agile log; its records are at `first` to `next` from it."""

    address: int
    allocated: int
    first: int
    next: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.next <= self.allocated:
            raise ValueError(
                f"records from {self.first} to {self.next} of {self.allocated} bytes"
            )


LogPointer = ContainerPointer | BankPointers | AgilePointer


@dataclass(frozen=True, slots=True)
class OsSinitData:
    """What the launcher told SINIT. Addresses and sizes are in bytes, of 64 bits.

    `capabilities` is what OSSINITDATA_CAP_HASH (0x40f) measures. `rsdp` is None before
    version 5. `logs` are the pointers to event logs, in their order; none before
    version 6, where SINIT keeps no log.
    """

    version: int
    flags: int
    mle_page_table: int
    mle_size: int
    mle_header: int
    lcp_po_base: int
    lcp_po_size: int
    capabilities: int
    rsdp: int | None = None
    logs: tuple[LogPointer, ...] = ()

    def __post_init__(self) -> None:
        if self.version not in _OS_SINIT_VERSIONS:
            raise ValueError(f"OsSinitData of version {self.version} is not known")


@dataclass(frozen=True, slots=True)
class TxtHeap:
    """A heap: its four tables, and the bytes that an event log is to be found in.

    `base` is the heap's physical address, None when it is not known.
    """

    bios: BiosData
    os_mle: OsMleData
    os_sinit: OsSinitData
    sinit_mle: SinitMleData
    base: int | None
    untrusted_bytes: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.base is not None and (self.base < 0 or self.base % PAGE_SIZE):
            raise ValueError("a TXT heap begins at a page")


def is_txt_heap(data: bytes) -> bool:
    """Whether the bytes begin with four tables of known versions that fit in them."""
    try:
        tables = _tables(data)
        _read_bios(tables[0])
        version = tables[2].u32("OsSinitData: version")
        read_sinit_mle_data(tables[3])
    except FormatError:
        return False
    return version in _OS_SINIT_VERSIONS


def parse_txt_heap(data: bytes, base: int | None = None) -> TxtHeap:
    """Read the tables of a heap, of which `data` holds at least these.

    `base` is the heap's physical address (the register TXT.HEAP.BASE), where it is
    known; it is a multiple of 4096. Raises FormatError with the offset when a table is
    cut off, of a version that is not known, or contradicts itself.
    """
    bios, os_mle, os_sinit, sinit_mle = _tables(data)
    return TxtHeap(
        _read_bios(bios),
        OsMleData(os_mle.offset, os_mle.remaining),
        _read_os_sinit(data, os_sinit),
        read_sinit_mle_data(sinit_mle),
        base,
        data,
    )


def _tables(data: bytes) -> list[ByteReader]:
    """Return a reader of each table, behind its size."""
    readers = []
    heap = ByteReader(data)
    for name in _TABLES:
        start = heap.offset
        size = heap.u64(f"{name}: size")
        if size <= _SIZE_PREFIX:
            raise FormatError(f"{name} of {size} bytes", start)
        if size > len(data) - start:
            raise FormatError(
                f"{name} claims {size} bytes and {len(data) - start} are left", start
            )
        readers.append(ByteReader(data, heap.offset, start + size))
        heap = ByteReader(data, start + size)
    return readers


def _read_bios(reader: ByteReader) -> BiosData:
    start = reader.offset
    version = reader.u32("BiosData: version")
    sinit_size = reader.u32("BiosData: size of the SINIT")
    lcp_base = reader.u64("BiosData: LCP policy data")
    lcp_size = reader.u64("BiosData: size of the LCP policy data")
    processors = reader.u32("BiosData: processors")
    flags = None
    if version >= _FIRST_BIOS_WITH_FLAGS:
        flags = reader.u64("BiosData: flags")
    try:
        return BiosData(version, sinit_size, lcp_base, lcp_size, processors, flags)
    except ValueError as error:
        raise FormatError(str(error), start) from None


def _read_os_sinit(data: bytes, reader: ByteReader) -> OsSinitData:
    start = reader.offset
    version = reader.u32("OsSinitData: version")
    if version not in _OS_SINIT_VERSIONS:
        raise FormatError(f"OsSinitData of version {version} is not known", start)
    flags = reader.u32("OsSinitData: flags")
    page_table, size, header = (
        reader.u64(f"OsSinitData: {what}") for what in ("page table", "size", "header")
    )
    for _ in range(4):
        reader.u64("OsSinitData: protected memory region")
    lcp_base = reader.u64("OsSinitData: LCP policy")
    lcp_size = reader.u64("OsSinitData: size of the LCP policy")
    capabilities = reader.u32("OsSinitData: capabilities")
    rsdp = None
    if version >= _FIRST_OS_SINIT_WITH_RSDP:
        rsdp = reader.u64("OsSinitData: RSDP")
    logs: tuple[LogPointer, ...] = ()
    if version >= _FIRST_OS_SINIT_WITH_ELEMENTS:
        logs = _read_log_pointers(data, reader)
    return OsSinitData(
        version,
        flags,
        page_table,
        size,
        header,
        lcp_base,
        lcp_size,
        capabilities,
        rsdp,
        logs,
    )


def _read_log_pointers(data: bytes, reader: ByteReader) -> tuple[LogPointer, ...]:
    """Walk the extended data elements; all but those of a log are stepped over."""
    pointers: list[LogPointer] = []
    while True:
        start = reader.offset
        element_type = reader.u32("heap element: type")
        size = reader.u32("heap element: size")
        if element_type == _END:
            return tuple(pointers)
        if size < _ELEMENT_HEADER_SIZE:
            raise FormatError(
                f"heap element of type {element_type} and {size} bytes", start
            )
        name = f"heap element of type {element_type}"
        body_start = reader.offset
        reader.take(size - _ELEMENT_HEADER_SIZE, name)
        body = ByteReader(data, body_start, reader.offset)
        try:
            pointer = _read_pointer(element_type, body)
        except ValueError as error:
            raise FormatError(f"{name}: {error}", start) from None
        if pointer is not None:
            pointers.append(pointer)


def _read_pointer(element_type: int, body: ByteReader) -> LogPointer | None:
    if element_type == _CONTAINER_POINTER:
        return ContainerPointer(body.u64("heap element of type 5: address"))
    if element_type == _BANK_POINTERS:
        start = body.offset
        count = body.u32("heap element of type 7: number of banks")
        if count > _MOST_BANKS:
            raise FormatError(f"heap element of type 7: {count} banks", start)
        return BankPointers(tuple(read_bank_descriptor(body) for _ in range(count)))
    if element_type == _AGILE_POINTER:
        address = body.u64("heap element of type 8: address")
        fields = (body.u32("heap element of type 8: offset") for _ in range(3))
        return AgilePointer(address, *fields)
    return None

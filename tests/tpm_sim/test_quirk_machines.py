# SPDX-License-Identifier: GPL-2.0-or-later
"""Each quirk is in its machine: in what the TPM holds, or in what the log tells."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from tpm2_tools import read_pcrs
from tpm_sim.launch import Launch
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import MachineModel, TbootModel
from tpm_sim.quirk_machines import QUIRK_MACHINES
from written_logs import read_log

Make = Callable[[MachineModel], Machine]
Values = dict[str, dict[int, bytes]]


def booted(machine: Machine) -> tuple[Launch, Values]:
    launch = machine.boot().launch
    values = read_pcrs(machine.tcti)
    machine.power_off()
    return launch, values


def model_of(name: str) -> TbootModel:
    model = MACHINES[name]
    assert isinstance(model, TbootModel)
    return model


def of_type(launch: Launch, kind: int) -> list[tuple[int, bytes]]:
    return [(each.pcr, each.data) for each in launch.records if each.type == kind]


def tboots(launch: Launch) -> list[tuple[int, set[str]]]:
    return [
        (each.pcr, {str(bank) for bank in each.digests})
        for each in launch.records
        if each.type == 0x501
    ]


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


def replayed(launch: Launch, bank: str, is_set: bool) -> dict[int, bytes]:
    """Replay by the rule that the last HASH_START counts, in the form it is in."""
    size = hashlib.new(bank).digest_size
    values = dict.fromkeys(range(17, 23), bytes(size))
    for record in launch.records:
        digests = {str(each): digest.value for each, digest in record.digests.items()}
        if record.pcr > 23 or bank not in digests:
            continue
        if record.type == 0x402:
            digest = digests[bank]
            start = hashlib.new(bank, bytes(size) + digest).digest()
            values[17] = digest if is_set else start
        else:
            joined = values[record.pcr] + digests[bank]
            values[record.pcr] = hashlib.new(bank, joined).digest()
    return values


@pytest.mark.parametrize("model", QUIRK_MACHINES, ids=lambda model: model.name)
def test_what_was_measured_is_what_the_tpm_holds(
    laptop: Make, model: TbootModel
) -> None:
    launch, live = booted(laptop(model))
    assert set(live) == {str(bank) for bank in model.banks}
    for bank in model.sinit_banks or model.banks:
        values = live[str(bank)]
        launched = {pcr: values[pcr] for pcr in range(17, 23)}
        is_set = model.hash_start.value == "set"
        assert replayed(launch, str(bank), is_set) == launched


def test_names_are_unique() -> None:
    assert len({each.name for each in MACHINES.values()}) == len(MACHINES)


class TestTpm12:
    @pytest.mark.parametrize(
        ("name", "size"),
        [("tboot-tpm12", 80), ("tboot-tpm12-v7", 76), ("tboot-gm45", 76)],
    )
    def test_has_one_combined_event_of_the_tables_version(
        self, laptop: Make, name: str, size: int
    ) -> None:
        launch, live = booted(laptop(model_of(name)))
        [(pcr, data)] = of_type(launch, 0x403)
        assert (pcr, len(data)) == (17, size)
        assert not any(live["sha1"][pcr] == bytes(20) for pcr in (17, 18, 19))

    def test_counts_the_capabilities_if_the_policy_says_so(self, laptop: Make) -> None:
        launch, _ = booted(laptop(model_of("tboot-tpm12-controlled")))
        [(_, data)] = of_type(launch, 0x403)
        control, _, capabilities, scrtm = struct.unpack("<I20sII", data[48:])
        assert (control, capabilities, scrtm) == (2, 0x402, 0)

    def test_may_hold_the_mles_hash(self, laptop: Make) -> None:
        launch, _ = booted(laptop(model_of("tboot-tpm12-mle-policy")))
        [(_, data)] = of_type(launch, 0x403)
        [mle] = [each.digests for each in launch.records if each.type == 0x404]
        assert data[52:72] in {digest.value for digest in mle.values()}

    def test_of_the_t460p_hashes_as_its_log_says(self, laptop: Make) -> None:
        launch, _ = booted(laptop(model_of("tboot-tpm12")))
        [combined] = [each for each in launch.records if each.type == 0x403]
        [digest] = combined.digests.values()
        assert digest.hex == "1d16259892393a9834babda4214ef4eb86654036"
        own = [each for each in launch.records if each.type == 0x501]
        assert [each.pcr for each in own] == [17, 18, 19, 19]
        [policy] = own[0].digests.values()
        assert policy.hex == "c3438497fda827be3b321c5309a204f0c9e53943"

    def test_of_gm45_starts_from_the_module_hashed_by_sha1(self, laptop: Make) -> None:
        launch, _ = booted(laptop(model_of("tboot-gm45")))
        [(_, data)] = of_type(launch, 0x402)
        assert len(data) == 24
        assert data[:20].hex() in launch.log.decode().replace(" ", "")


def own_bytes(name: str, laptop: Make) -> tuple[Machine, Launch]:
    machine = laptop(model_of(name))
    launch, _ = booted(machine)
    return machine, launch


class TestTheLogOfEachBank:
    @pytest.mark.parametrize(
        "name", ["tboot-da-per-bank", "tboot-da-per-bank-set-twice", "tboot-da-1.9.4"]
    )
    def test_follows_its_descriptor(self, laptop: Make, name: str) -> None:
        machine, launch = own_bytes(name, laptop)
        path = "sys/kernel/security/txt/tpm20_binary_evtlog_legacy"
        log = (machine.root / path).read_bytes()
        found = []
        while log:
            algorithm, _, _, size, first, end = struct.unpack_from("<HHQIII", log)
            assert (size, first) == (4096, 0)
            found.append(algorithm)
            log, events = log[24 + end :], log[24 : 24 + end]
            if algorithm != 4:
                pcr, kind, data_size = struct.unpack_from("<II20xI", events)
                assert (pcr, kind, data_size) == (0, 3, 28)
                continue
            expected = [
                (each.pcr, each.type, each.data)
                for each in launch.records
                if "sha1" in {str(bank) for bank in each.digests}
            ]
            read = [(pcr, kind, data) for pcr, kind, _, data in read_log("", events)]
            assert read == expected
        assert found == [4, 11]


def memory(machine: Machine, address: int, size: int) -> bytes:
    with open(machine.root / "dev/mem", "rb") as file:
        file.seek(address)
        return file.read(size)


class TestTheHeap:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("tboot-da-heap", 8),
            ("tboot-tpm12-heap", 5),
            ("tboot-da-per-bank-heap", 7),
        ],
    )
    def test_holds_tables_that_name_the_log(
        self, laptop: Make, name: str, kind: int
    ) -> None:
        machine, launch = own_bytes(name, laptop)
        base, size = struct.unpack("<QQ", memory(machine, 0xFED30300, 16))
        heap = memory(machine, base, size)
        assert heap.startswith(launch.log)
        tables = []
        for _ in range(4):
            (length,) = struct.unpack_from("<Q", heap)
            tables.append(heap[8:length])
            heap = heap[length:]
        assert [struct.unpack_from("<I", each)[0] for each in tables[:3]] == [6, 3, 7]
        # The sizes that the E5470 and the T460p print.
        assert (len(tables[0]), len(tables[1])) == (0x56 - 8, 0x15120 - 8)
        assert len(tables[3]) == 0x2FC - 8
        element = tables[2][92:]
        assert struct.unpack_from("<I", element)[0] == kind
        self._check(machine, kind, element[8:], launch)

    def _check(
        self, machine: Machine, kind: int, element: bytes, launch: Launch
    ) -> None:
        if kind == 7:
            (count,) = struct.unpack_from("<I", element)
            addresses = [
                struct.unpack_from("<Q", element, 4 + number * 24 + 4)[0]
                for number in range(count)
            ]
            assert [each - addresses[0] for each in addresses] == [0, 4096]
            return
        (address,) = struct.unpack_from("<Q", element)
        if kind == 5:
            log, form = memory(machine, address, 20480), "txt-container"
        else:
            size, first, end = struct.unpack_from("<III", element, 8)
            assert (size, first) == (0x2000, 0)
            log, form = memory(machine, address, end), "tcg-agile"
        assert [each[:2] for each in read_log(form, log)] == [
            (each.pcr, each.type) for each in launch.records
        ]


def test_what_tboot_printed_may_lie_in_memory(laptop: Make) -> None:
    machine, launch = own_bytes("tboot-da-memory", laptop)
    log = memory(machine, 0x60000, 0x8000)
    assert log[: len(launch.log)] == launch.log
    size, end = struct.unpack_from("<HH", log, 16)
    assert size == 32706
    assert not any(log[20:61])
    printed = log[61 : 61 + end].decode()
    assert printed.startswith("TBOOT: ****")
    assert printed.endswith("\n")
    assert not log[61 + end :].strip(b"\0")


class TestTheVersionOfTboot:
    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("tboot-da-1.9.4", 0x2),
            ("tboot-da-1.9.6", 0x202),
            ("tboot-da-1.9.12", 0x202),
            ("tboot-da-1.10.1", 0x602),
            ("tboot-da-1.11.6", 0x4602),
            ("tboot-da", 0x602),
            ("tboot-da-getsec", 0x601),
            ("tboot-da-no-agile-module", 0x402),
        ],
    )
    def test_and_the_module_make_the_capabilities(
        self, laptop: Make, name: str, asked: int
    ) -> None:
        launch, _ = booted(laptop(model_of(name)))
        data = asked.to_bytes(4, "little")
        assert of_type(launch, 0x40F) == [(17, data), (18, data)]

    @pytest.mark.parametrize(
        ("name", "policy"),
        [
            ("tboot-da-1.9.4", "27808f64e638"),
            ("tboot-da-1.9.12", "71be5852a14e"),
            ("tboot-da-1.11.6", "71be5852a14e"),
            ("tboot-tpm12-1.9.12", "c1aabfc9fd8e"),
            ("tboot-gm45", "c1aabfc9fd8e"),
            ("tboot-da-tcg-sha1", "7c41072ad035"),
            ("tboot-legacy", "9f6449ddf2b1"),
        ],
    )
    def test_says_the_policy(self, laptop: Make, name: str, policy: str) -> None:
        launch, _ = booted(laptop(model_of(name)))
        first = next(each for each in launch.records if each.type == 0x501)
        assert {digest.hex[:12] for digest in first.digests.values()} == {policy}

    @pytest.mark.parametrize("name", ["tboot-da-1.9.12", "tboot-da-1.10.0"])
    def test_may_fill_the_logs_end_with_zeros(self, laptop: Make, name: str) -> None:
        machine, launch = own_bytes(name, laptop)
        own = [each for each in launch.records if each.type == 0x501]
        size = sum(18 + 32 for _ in own)
        assert not launch.log[-size:].strip(b"\0")
        sinit = launch.records[: -len(own)]
        read = read_log("tcg-agile", launch.log)
        assert [each[:2] for each in read] == [(each.pcr, each.type) for each in sinit]
        assert machine.log_path.read_bytes() == launch.log

    def test_1_9_6_leaves_its_own_out(self, laptop: Make) -> None:
        _, launch = own_bytes("tboot-da-1.9.6", laptop)
        read = read_log("tcg-agile", launch.log)
        assert {each[1] for each in read} & {0x501, 0x402} == {0x402}

    def test_is_right_in_what_tboot_printed(self, laptop: Make) -> None:
        machine, launch = own_bytes("tboot-da-1.9.12", laptop)
        text = (machine.root / "var/log/txt-stat").read_text(encoding="utf-8")
        assert "1.9.12" in text
        for record in launch.records:
            for digest in record.digests.values():
                spaced = "".join(f"{byte:02x} " for byte in digest.value)
                assert spaced in text


class TestPolicies:
    @pytest.mark.parametrize(
        ("name", "pcrs"),
        [
            ("tboot-da", [17, 18, 17, 17, 17]),
            ("tboot-da-policy", [17, 18, 17, 19, 19]),
            ("tboot-da-policy-each", [17, 18, 17, 18, 19, 20]),
            ("tboot-da-policy-hashes", [17, 18, 17, 19, 19]),
            ("tboot-tpm12", [17, 18, 19, 19]),
        ],
    )
    def test_say_where_modules_go(
        self, laptop: Make, name: str, pcrs: list[int]
    ) -> None:
        launch, _ = booted(laptop(model_of(name)))
        assert [pcr for pcr, _ in tboots(launch)] == pcrs

    def test_in_the_tpm_are_read_from_there(self, laptop: Make) -> None:
        machine = laptop(model_of("tboot-da-policy"))
        machine.tpm.power_on()
        stored = machine.tpm.read_nv(0x01C10131)
        assert stored is not None
        machine.tpm.power_off()
        launch, _ = booted(machine)
        own = next(each for each in launch.records if each.type == 0x501)
        [digest] = own.digests.values()
        inner = hashlib.sha256(stored).digest()
        assert digest.value == hashlib.sha256(stored[3:7] + inner).digest()

    def test_with_a_list_change_with_what_is_listed(self, laptop: Make) -> None:
        machine = laptop(model_of("tboot-da-policy-hashes"))
        before, _ = booted(machine)
        xen = machine.root / "boot/xen.gz"
        xen.write_bytes(b"another Xen")
        after, _ = booted(machine)
        assert before.records[-4] == after.records[-4]  # the policy in PCR 18
        machine.provision_policy()
        again, _ = booted(machine)
        assert again.records[-4] != after.records[-4]

    def test_that_halt_stop_a_module_that_is_not_listed(self, laptop: Make) -> None:
        machine = laptop(model_of("tboot-da-policy-halt"))
        booted(machine)
        (machine.root / "boot/xen.gz").write_bytes(b"another Xen")
        with pytest.raises(Exception, match="tboot halts: module 0"):
            machine.boot()


class TestEventsThatCannotBeForeseen:
    def test_random_ones_are_others_each_time(self, laptop: Make) -> None:
        machine = laptop(model_of("tboot-da-random"))
        first, second = booted(machine)[1], booted(machine)[1]
        changed = [
            pcr for pcr in range(24) if first["sha256"][pcr] != second["sha256"][pcr]
        ]
        assert changed == [17]

    def test_caps_close_the_bank_that_sinit_cannot_hash_for(self, laptop: Make) -> None:
        launch, live = booted(laptop(model_of("tboot-da-capped")))
        caps = [each for each in launch.records if each.type == 0x4FF]
        assert [(each.pcr, [str(bank) for bank in each.digests]) for each in caps] == [
            (17, ["sha384"]),
            (18, ["sha384"]),
        ]
        one = bytes([1]) + bytes(47)
        assert live["sha384"][18] == hashlib.sha384(bytes(48) + one).digest()

    @pytest.mark.parametrize(
        ("name", "is_listed"),
        [("tboot-da-capped", False), ("tboot-da-capped-listed", True)],
    )
    def test_caps_are_in_some_logs_only(
        self, laptop: Make, name: str, is_listed: bool
    ) -> None:
        launch, _ = booted(laptop(model_of(name)))
        kinds = {each[1] for each in read_log("tcg-agile", launch.log)}
        assert (0x4FF in kinds) is is_listed
        assert 0x501 in kinds


class TestSinitModules:
    @pytest.mark.parametrize(
        ("name", "is_firmwares"),
        [
            ("tboot-da-sinit-file", False),
            ("tboot-da-sinit-firmware-newer", True),
            ("tboot-da-sinit-firmware-older", False),
        ],
    )
    def test_are_launched_from_the_file_unless_the_firmwares_is_newer(
        self, laptop: Make, name: str, is_firmwares: bool
    ) -> None:
        model = model_of(name)
        machine = laptop(model)
        launch, _ = booted(machine)
        path = machine.root / "boot/6TH_GEN_SINIT_MADE_UP.bin"
        acm = path.read_bytes()
        if is_firmwares:
            assert model.firmware_sinit is not None
            acm = model.firmware_sinit.content
        header, size = (struct.unpack_from("<I", acm, at)[0] for at in (4, 24))
        start = (header + struct.unpack_from("<I", acm, 124)[0]) * 4
        digest = hashlib.sha256(acm[:128] + acm[start : size * 4]).digest()
        assert of_type(launch, 0x402) == [(17, digest + bytes(4))]

    def test_are_not_measured_as_modules(self, laptop: Make) -> None:
        with_files, _ = booted(laptop(model_of("tboot-da-sinit-file")))
        without, _ = booted(laptop(model_of("tboot-da")))
        assert tboots(with_files) == tboots(without)


def test_cbnt_has_its_manifests_behind_hash_start(laptop: Make) -> None:
    launch, _ = booted(laptop(model_of("tboot-da-cbnt")))
    assert [each.type for each in launch.records[:4]] == [0x402, 0x416, 0x417, 0x41A]

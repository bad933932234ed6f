# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's rules: constants by version, roles and PCR maps, what is not measured."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from tboot_boots import (
    DA,
    LEGACY,
    MACHINES,
    SHA1,
    SHA256,
    Boot,
    File,
    Machine,
    a_boot,
    facts_of,
    live_after,
    log_of,
    module_digest,
    verified,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.stack import identify
from aemseal.measure.tboot import read_launch
from aemseal.measure.tboot_files import measured_files, module_hash
from aemseal.measure.tboot_tables import (
    COMPOSITE,
    POLICIES,
    TPM2_OTHER,
    TPM2_SHA1,
    TPM12,
    PolicyRow,
    parse_version,
    policies_of,
    policies_with,
)
from aemseal.words.digest import Digest, PcrBank
from aemseal.words.errors import PredictionError

REFUSED = b"refused"


def policy_bytes(alg: int, any_pcr: int, with_nv: bool) -> bytes:
    """A default policy, by the layout of tboot's tb_policy.h."""
    entries = [(0, 255, 0), (129, any_pcr, 0)]
    if with_nv:
        entries.append((131, 22, 0x40000010))
    data = struct.pack("<BBBIIB", 2, 0, alg, 1, 0, len(entries))
    for module, pcr, index in entries:
        data += struct.pack("<BBBIB", module, pcr, 0, index, 0)
    return data


def layout_of(row: PolicyRow) -> tuple[bytes, str]:
    """The policy's bytes and tboot's own algorithm (cur_alg), by version and TPM."""
    any_pcr = 19 if row.map == "legacy" else 17
    if row.kind == TPM12:
        alg = {(1,): 0, (1, 8): 4, (1, 9, 12): 0x0B, (1, 10): 4}[row.since]
        if row.since == (1, 10):
            any_pcr = 19
        return policy_bytes(alg, any_pcr, row.since != (1,)), "sha1"
    alg = 4 if row.since == (1, 8) else 0x0B
    return policy_bytes(
        alg, any_pcr, True
    ), "sha1" if row.kind == TPM2_SHA1 else "sha256"


@pytest.mark.parametrize("row", POLICIES, ids=lambda r: f"{r.since}-{r.kind}-{r.map}")
def test_every_policy_constant_follows_from_the_policys_bytes(row: PolicyRow) -> None:
    data, own_algorithm = layout_of(row)
    inner = hashlib.new(own_algorithm, data).digest()
    bank = str(row.digest.algorithm)
    assert row.digest.value == hashlib.new(bank, struct.pack("<I", 1) + inner).digest()
    assert row.source


def test_the_composite_machine_has_the_legacy_policy_with_sha256() -> None:
    rows = policies_of([COMPOSITE], "legacy", SHA256, (1, 10, 5))
    assert [each.digest.hex for each in rows] == [LEGACY.policy]


@pytest.mark.parametrize(
    ("version", "digest"),
    [("1.9.11", "27808f64"), ("1.9.12", "71be5852"), ("1.11.12", "71be5852")],
)
def test_the_policy_changes_with_tboots_version(version: str, digest: str) -> None:
    parsed = parse_version(version)
    assert parsed is not None
    rows = policies_of([TPM2_OTHER], "da", SHA256, parsed)
    assert [each.digest.hex[:8] for each in rows] == [digest]


def test_a_digest_of_two_kinds_of_machine_leaves_two_policies_for_later() -> None:
    old = Digest.from_hex(SHA1, "fbb1b9eab0c92ac09c2814f538b5ad02afe0eeaf")
    kinds = {row.kind for row in policies_with(old, "da")}
    assert kinds == {TPM12, TPM2_SHA1}
    assert len(policies_of(kinds, "da", SHA1, (1, 10, 5))) == 2


@pytest.mark.parametrize("row", POLICIES, ids=lambda r: f"{r.since}-{r.kind}-{r.map}")
def test_a_row_covers_its_first_version_and_not_the_one_after_its_last(
    row: PolicyRow,
) -> None:
    assert row.covers(row.since)
    assert row.before is None or not row.covers(row.before)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.10.5", (1, 10, 5)),
        ("1.11.1-rc1", (1, 11, 1)),
        ("1.9.12 2020-04-30", (1, 9, 12)),
        ("next", None),
        ("", None),
        (None, None),
        ("99999.1", None),
    ],
)
def test_a_version_is_read_off_the_start_of_a_release_string(
    text: str | None, version: tuple[int, ...] | None
) -> None:
    assert parse_version(text) == version


def test_the_x200s_kernel_and_initramfs_give_what_its_tboot_logged() -> None:
    """ThinkPad X200, Fedora 15 (openpts README.fedora15): figures of a real machine."""
    cmdline = (
        b"ro root=/dev/mapper/vg_munetohx200f15-lv_root "
        b"rd_LVM_LV=vg_munetohx200f15/lv_root rd_LVM_LV=vg_munetohx200f15/lv_swap "
        b"rd_NO_LUKS rd_NO_MD rd_NO_DM LANG=en_US.UTF-8 SYSFONT=latarcyrheb-sun16 "
        b"KEYTABLE=us selinux=0 rhgb quiet xdriver=vesa nomodeset 1"
    )
    kernel = Digest.from_hex(SHA1, "eba86a80d8918dea585ed8a516ece743620ce837")
    initrd = Digest.from_hex(SHA1, "0d91dfa01639232ece1acf404afb0d205fd36f60")
    measured = module_hash(cmdline, kernel), module_hash(b"", initrd)
    assert [each.hex for each in measured] == [
        "d25c5b182a9a62ce15e46d08919d4efc1b7cfcad",
        "0f93a82c3b3b2030986139a2032e3823733fc642",
    ]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_launch_is_read_with_its_map_and_roles(machine: Machine) -> None:
    boot = replace(a_boot(), modules=(*a_boot().modules, File("/boot/ucode", b"u")))
    launch = read_launch(machine.launched(boot))
    assert launch.pcr_map.name == machine.map
    assert [each.role for each in launch.modules] == [
        Role.XEN,
        Role.KERNEL,
        Role.INITRAMFS,
        Role.MODULE,
    ]
    extended = [(p, d) for _, p, d, _ in machine.extends(boot) if p < 24]
    assert [(e.pcr, e.digest.value) for e in launch.extends] == extended
    assert {e.role for e in launch.policy} == {Role.POLICY}
    roles = {e.event.untrusted_type: e.role for e in launch.before_tboot}
    assert roles[0x402] is Role.SINIT
    assert roles[0x404] is Role.MLE
    assert roles[0x40A] is Role.PLATFORM


def extends_of(machine: Machine) -> list[tuple[int, int, bytes, bytes]]:
    return machine.extends(a_boot())


def refusal(extends: list[tuple[int, int, bytes, bytes]]) -> str:
    with pytest.raises(PredictionError) as caught:
        identify(verified(log_of(extends)))
    return caught.value.message


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_tboot_event_in_an_unexpected_pcr_is_refused_by_number(
    machine: Machine,
) -> None:
    extends = extends_of(machine)
    for number, (kind, pcr, digest, data) in enumerate(extends):
        if kind == 0x501:
            changed = list(extends)
            changed[number] = (kind, 20 if pcr == 17 else 17, digest, data)
            assert f"event {number} puts " in refusal(changed)


def test_two_different_policies_in_17_and_18_are_refused() -> None:
    extends = extends_of(DA)
    number = max(n for n, each in enumerate(extends) if each[1] == 18)
    extends[number] = (0x501, 18, REFUSED * 4 + bytes(4), b"")
    assert f"event {number} puts the policy" in refusal(extends)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_measured_nv_index_is_refused(machine: Machine) -> None:
    extends = [*extends_of(machine), (0x501, 22, bytes(32), b"")]
    assert f"event {len(extends) - 1} puts module 3 into PCR 22" in refusal(extends)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_log_that_ends_before_the_modules_is_refused(machine: Machine) -> None:
    assert "no module" in refusal(extends_of(machine)[:-3])


def test_an_event_after_tboots_own_is_refused() -> None:
    assert "(EV_IPL) follows" in refusal([*extends_of(DA), (0xD, 17, bytes(32), b"")])


def test_a_log_of_no_known_launcher_is_named() -> None:
    bare = [each for each in extends_of(DA) if each[0] != 0x501]
    assert "on Intel TXT by neither tboot (0x501) nor TrenchBoot" in refusal(bare)
    amd = [(0x4000, 17, bytes(32), b""), (0x4000, 18, bytes(32), b"")]
    assert "without Intel TXT" in refusal(amd)


@pytest.mark.parametrize("count", [0, 2])
def test_a_log_with_no_mle_or_two_is_refused(count: int) -> None:
    extends = []
    for each in extends_of(DA):
        extends += [each] * (count if each[0] == 0x404 else 1)
    assert f"{count} MLE hashes" in refusal(extends)


def test_an_mle_in_a_pcr_of_no_map_is_refused() -> None:
    extends = [
        (kind, 19 if kind == 0x404 else pcr, digest, data)
        for kind, pcr, digest, data in extends_of(DA)
    ]
    assert "puts the MLE into PCR 19" in refusal(extends)


def test_a_log_of_which_another_pcr_does_not_replay_is_refused() -> None:
    log = LEGACY.log(a_boot())
    live = live_after(log)
    other = PcrBank(SHA256, {**live.values, 18: SHA256.hash(b"other")})
    with pytest.raises(PredictionError, match=r"PCR 18 .* is not what the TPM holds"):
        identify(verified(log, other))


def test_a_log_that_tells_only_pcr_17s_value_after_its_start_is_refused() -> None:
    """What was extended is in the data alone, and there is none."""
    extends = extends_of(DA)
    kind, pcr, digest, _ = extends[0]
    value = hashlib.sha256(bytes(32) + digest).digest()
    extends[0] = (kind, pcr, value, b"")
    live = live_after(log_of(extends_of(DA)))
    with pytest.raises(PredictionError, match=r"event 0 .* has no data"):
        identify(verified(log_of(extends), live))


def test_reading_a_log_without_tboots_events_is_refused_by_itself() -> None:
    bare = [each for each in extends_of(DA) if each[0] != 0x501]
    with pytest.raises(PredictionError, match="0x501"):
        read_launch(verified(log_of(bare)))


def test_firmware_events_of_other_pcrs_are_none_of_the_launch() -> None:
    extends = [(0xD, 4, bytes(32), b""), *extends_of(DA)]
    assert {each.pcr for each in read_launch(verified(log_of(extends))).extends} == {
        17,
        18,
    }


def measured(boot: Boot) -> list[tuple[Role, str | None, bytes | None]]:
    files = measured_files(boot.entry, facts_of(boot), SHA256)
    return [
        (f.role, f.source.path, f.digest.value if f.digest else None) for f in files
    ]


def test_sinit_modules_and_lcp_data_are_not_measured() -> None:
    boot = a_boot()
    skipped = [
        File("/boot/a.bin", b"acm", notes={"tboot_skips": "sinit-acm"}),
        policy_data("/boot/b.lcp"),
    ]
    xen, *others = boot.modules
    with_acms = replace(boot, modules=(xen, skipped[0], *others, skipped[1]))
    assert measured(with_acms) == measured(boot)


def policy_data(path: str, kind: str = "lcp-policy-data") -> File:
    return File(path, bytes(28), notes={"tboot_skips": kind})


def measured_of(*modules: File) -> list[str | None]:
    """The paths of what tboot measures when these stand behind the initramfs."""
    boot = a_boot()
    paths = measured(replace(boot, modules=(*boot.modules, *modules)))
    return [path for _, path, _ in paths[4:]]


def test_of_several_lcp_files_only_the_last_is_dropped() -> None:
    assert measured_of(policy_data("/a"), policy_data("/b")) == ["/a"]


def test_lcp_data_of_the_first_versions_is_dropped_before_any_later() -> None:
    old = policy_data("/old", "lcp-policy-data-v1")
    assert measured_of(old, policy_data("/new")) == ["/new"]
    assert measured_of(policy_data("/new"), old) == ["/new"]


@pytest.mark.parametrize(
    ("kind", "mark"), [("lcp-policy-data", 28), ("lcp-policy-data-v1", 16)]
)
def test_a_module_shorter_than_the_mark_ends_tboots_search(
    kind: str, mark: int
) -> None:
    data = policy_data("/data", kind)
    assert measured_of(data, File("/short", bytes(mark - 1))) == ["/data", "/short"]
    assert measured_of(data, File("/long", bytes(mark))) == ["/long"]


def test_a_sinit_module_is_gone_before_lcp_data_is_looked_for() -> None:
    short = File("/acm", b"acm", notes={"tboot_skips": "sinit-acm"})
    assert measured_of(policy_data("/data"), short) == []


def test_the_first_module_is_measured_whatever_it_looks_like() -> None:
    boot = a_boot().with_module(0, notes={"tboot_skips": "sinit-acm"})
    assert measured(boot)[1][:2] == (Role.XEN, "/boot/xen.gz")


def test_a_files_measurement_tells_its_path_version_and_command_line() -> None:
    boot = a_boot()
    mle, xen, *_ = measured_files(boot.entry, facts_of(boot), SHA256)
    assert mle.source.version == "1.10.5"
    assert mle.source.capabilities == "0x627"
    assert (xen.source.path, xen.source.cmdline) == ("/boot/xen.gz", b"placeholder")
    assert xen.source.version == "4.17.5"
    assert xen.digest is not None
    assert xen.digest.value == module_digest(b"placeholder", b"Xen")


def test_a_file_that_is_gone_has_no_digest() -> None:
    boot = a_boot()
    files = measured_files(boot.entry, {}, SHA256)
    assert [each.digest for each in files] == [None] * 4

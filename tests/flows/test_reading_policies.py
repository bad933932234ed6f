# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a policy of tboot's owner is asked for: the TPM's indexes and a named file."""

from __future__ import annotations

from pathlib import Path

import pytest
from custom_policies import with_policy
from tboot_boots import DA, a_boot, log_of, verified
from tboot_policies import ANY, NONE, Entry, packed

from aemseal.flows.running_system import read_policies
from aemseal.measure.replay import VerifiedLog
from aemseal.words.errors import BootFileError, FormatError, TpmError
from aemseal.world.config import Config
from aemseal.world.host import LiveHost
from aemseal.world.recording import RecordedHost, RecordingHost

OWN = with_policy(DA, [Entry(0, NONE), Entry(1, 18), Entry(ANY, 19)])
OTHER = packed([Entry(ANY, 17)])
COPY = "/boot/vl.pol"


def a_host(
    root: Path, indexes: dict[int, bytes], copy: bytes | None = None
) -> LiveHost:
    """A machine whose TPM lets these indexes be read, and refuses any other."""

    def read(index: int) -> bytes | None:
        if index not in indexes:
            raise TpmError(f"index {index:#x} needs a password")
        return indexes[index]

    if copy is not None:
        path = root / COPY[1:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(copy)
    config = Config(tboot_policy=None if copy is None else COPY)
    return LiveHost(root, config=config, read_nv=read)


def own_log() -> VerifiedLog:
    return OWN.launched(a_boot())


def test_both_indexes_and_the_file_are_asked_in_order(tmp_path: Path) -> None:
    indexes = {0x01C10131: OTHER, 0x01200001: OWN.data + bytes(100)}
    host = a_host(tmp_path, indexes, OWN.data)
    found = read_policies(host, own_log())
    assert found == (OTHER, OWN.data + bytes(100), OWN.data)


def test_an_index_that_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    host = a_host(tmp_path, {0x01200001: OWN.data})
    assert read_policies(host, own_log()) == (OWN.data,)
    assert read_policies(a_host(tmp_path, {}), own_log()) == ()


def test_a_machine_without_a_tpm_2_has_the_file_alone(tmp_path: Path) -> None:
    a_host(tmp_path, {}, OWN.data)
    host = LiveHost(tmp_path, config=Config(tboot_policy=COPY))
    assert read_policies(host, own_log()) == (OWN.data,)


def test_nothing_is_asked_for_where_a_default_policy_explains(tmp_path: Path) -> None:
    host = LiveHost(tmp_path, config=Config(tboot_policy="/boot/missing"))
    assert read_policies(host, DA.launched(a_boot())) == ()


def test_nothing_is_asked_for_where_tboot_did_not_launch(tmp_path: Path) -> None:
    extends = [each for each in DA.extends(a_boot()) if each[0] != 0x501]
    host = a_host(tmp_path, {0x01C10131: OTHER}, OTHER)
    assert read_policies(host, verified(log_of(extends))) == ()


def test_a_policy_is_taken_out_of_lcp_policy_data(tmp_path: Path) -> None:
    element = bytes.fromhex("410693c3cbe3404fd79127f8b9e25c86") + OWN.data
    data = b"Intel(R) TXT LCP_POLICY_DATA".ljust(48, b"\0") + element + bytes(32)
    found = read_policies(a_host(tmp_path, {}, data), own_log())
    assert found == (OWN.data + bytes(32),)


def test_a_recording_answers_as_the_machine_did(tmp_path: Path) -> None:
    host = a_host(tmp_path, {0x01200001: OTHER}, OWN.data)
    recorder = RecordingHost(host)
    asked = read_policies(recorder, own_log())
    recorder.save(tmp_path / "recording")
    replay = RecordedHost(tmp_path / "recording")
    assert read_policies(replay, own_log()) == asked == (OTHER, OWN.data)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    host = LiveHost(tmp_path, config=Config(tboot_policy="/boot/missing"))
    with pytest.raises(BootFileError, match="/boot/missing is missing"):
        read_policies(host, own_log())


def test_a_named_file_that_is_no_policy_is_an_error(tmp_path: Path) -> None:
    host = a_host(tmp_path, {}, b"\2\7" + bytes(20))
    with pytest.raises(FormatError) as caught:
        read_policies(host, own_log())
    assert "the file of tboot_policy" in caught.value.message
    assert "policy type 7 at offset 1" in caught.value.message

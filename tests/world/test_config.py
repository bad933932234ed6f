# SPDX-License-Identifier: GPL-2.0-or-later
"""/etc/aemseal.yaml: what it may say, and that nothing else is let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.words.errors import EvidenceError
from aemseal.world.config import CONFIG_LIMIT, Config, Medium, load_config

AEM_CONF = """\
# Anti Evil Maid: which PCRs to seal to
#SEAL="--pcr 1"
SEAL="--pcr 13 --pcr 17 --pcr 18 --pcr 19"
"""


def written(root: Path, text: str | bytes, where: str = "etc/aemseal.yaml") -> Path:
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def refused(root: Path, text: str | bytes, where: str = "etc/aemseal.yaml") -> str:
    with pytest.raises(EvidenceError) as refusal:
        load_config(written(root, text, where))
    assert refusal.value.exit_code == 4
    return refusal.value.message


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    assert config == Config()
    assert config.media == (Medium("internal", "/boot/aemseal"),)


@pytest.mark.parametrize("text", ["", "# nothing settled\n", "---\n"])
def test_an_empty_file_is_like_none(tmp_path: Path, text: str) -> None:
    assert load_config(written(tmp_path, text)) == Config()


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """\
event_log: /var/log/launch.bin
grub_config: /boot/efi/EFI/qubes/grub.cfg
pcrs: sha256:13,17,18
media:
  - label: internal
    path: /boot/aemseal
  - {path: /run/media/stick/aemseal, label: stick}
initramfs_command: [dracut, --force, "--kver=6.1"]
owner_auth_file: /root/owner
tboot_policy: /boot/vl.pol
"""
    assert load_config(written(tmp_path, text)) == Config(
        event_log="/var/log/launch.bin",
        grub_config="/boot/efi/EFI/qubes/grub.cfg",
        pcrs="sha256:13,17,18",
        media=(
            Medium("internal", "/boot/aemseal"),
            Medium("stick", "/run/media/stick/aemseal"),
        ),
        initramfs_command=("dracut", "--force", "--kver=6.1"),
        owner_auth_file="/root/owner",
        tboot_policy="/boot/vl.pol",
    )


MEDIUM = "media:\n- label: stick\n  path: /media/aemseal\n"


def test_a_medium_may_say_who_carries_it_and_how_it_is_found(tmp_path: Path) -> None:
    more = "  carried: true\n  device: LABEL=aem\n  folder: boot/aemseal\n"
    [medium] = load_config(written(tmp_path, MEDIUM + more)).media
    assert medium == Medium(
        "stick", "/media/aemseal", True, device="LABEL=aem", folder="boot/aemseal"
    )
    [plain] = load_config(written(tmp_path, MEDIUM)).media
    assert (plain.carried, plain.device, plain.folder) == (False, None, None)


def test_rotation_and_fallback_entries_are_settled(tmp_path: Path) -> None:
    text = "rotate: true\nfallback_entries: [Qubes, 'Advanced>Qubes, older']\n"
    config = load_config(written(tmp_path, text))
    assert config.rotate
    assert config.fallback_entries == ("Qubes", "Advanced>Qubes, older")
    nothing = load_config(written(tmp_path, "rotate: false\n"))
    assert (nothing.rotate, nothing.fallback_entries) == (False, ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pcr: sha256:13,17\n", "line 1: unknown key 'pcr'"),
        ("\n[a]: b\n", "line 2: unknown key that is not a word"),
        ("pcrs: sha256:13,17\n\npcrs: sha256:13\n", "line 3: pcrs is there twice"),
        ("- pcrs\n", "line 1: the file is not a list of `key: value`"),
        ("pcrs: 13\n", "line 1: pcrs is not a text"),
        ("pcrs:\n", "line 1: pcrs is not a text"),
        ("pcrs: ''\n", "line 1: pcrs is empty or holds a control character"),
        ("pcrs: sha256\n", "line 1: pcrs: cannot read the PCR selection 'sha256'"),
        ("pcrs: sha999:17\n", "line 1: pcrs: unknown hash algorithm 'sha999'"),
        ("pcrs: sha256:99\n", "line 1: pcrs: there is no PCR 99"),
        (f"pcrs: sha256:{'9' * 5000}\n", "line 1: pcrs: over 512 characters"),
        ("event_log: log.bin\n", "line 1: event_log is not an absolute path"),
        ("event_log: /a/../b\n", "line 1: event_log is not an absolute path"),
        ('event_log: "/a\\0b"\n', "event_log is empty or holds a control character"),
        ("event_log: !!python/name:os.system x\n", "event_log is not a text"),
        ("event_log: [/a]\n", "event_log is not a text"),
        ("media: []\n", "media is not a list of one item or more"),
        ("media: /boot\n", "media is not a list of one item or more"),
        ("media:\n- /boot\n", "line 2: an item of media is not a list of `key:"),
        ("media:\n- label: x\n", "line 2: an item of media has a label and a path"),
        ("media:\n- label: a b\n  path: /x\n", "line 2: label 'a b' is not 1 to 32"),
        ("media:\n- label: a\n  size: 1\n", "line 3: unknown key 'size'"),
        (MEDIUM + "  carried: yes\n", "line 4: carried is neither true nor false"),
        (MEDIUM + "  carried: 'true'\n", "line 4: carried is neither true nor false"),
        (MEDIUM + "  device: /dev/sda1\n", "line 4: device '/dev/sda1' is neither"),
        (MEDIUM + "  folder: ../up\n", "line 4: folder '../up' is not a folder of"),
        ("rotate: 1\n", "line 1: rotate is neither true nor false"),
        ("fallback_entries: Qubes\n", "fallback_entries is not a list of one item"),
        ("fallback_entries: [a, b, c, d]\n", "fallback_entries: over 3 titles, or one"),
        ("fallback_entries: [a, a]\n", "fallback_entries: over 3 titles, or one"),
        ("initramfs_command: dracut --force\n", "initramfs_command is not a list"),
        ("initramfs_command: [dracut, 5]\n", "a word of initramfs_command is not"),
        ("pcrs: 'sha256:13\n", "line 2: found unexpected end of stream"),
        ("pcrs: *no\n", "line 1: found undefined alias"),
        ("a: b\n---\nc: d\n", "line 2: but found another document"),
        ("pcrs: \x00\n", "unacceptable character"),
        (b"# ok\npcrs: \xff\n", "line 2: not UTF-8"),
        ("[" * 30000, "nested too deeply"),
        ("# " + "x" * CONFIG_LIMIT, f"is larger than {CONFIG_LIMIT} bytes"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    message = refused(tmp_path, text)
    assert "/etc/aemseal.yaml" in message
    assert complaint in message


@pytest.mark.parametrize(
    "second", ["{label: a, path: /y}", "{label: b, path: /x}"], ids=["label", "path"]
)
def test_a_medium_is_named_once(tmp_path: Path, second: str) -> None:
    text = f"media:\n- {{label: a, path: /x}}\n- {second}\n"
    assert "line 3: media: this label or path" in refused(tmp_path, text)


def test_there_are_at_most_eight_media(tmp_path: Path) -> None:
    lines = [f"- {{label: m{number}, path: /m{number}}}\n" for number in range(9)]
    eight = load_config(written(tmp_path, "media:\n" + "".join(lines[:8])))
    assert len(eight.media) == 8
    assert "line 10: media: more than 8" in refused(
        tmp_path, "media:\n" + "".join(lines)
    )


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc/aemseal.yaml").mkdir(parents=True)
    with pytest.raises(EvidenceError, match="not a regular file"):
        load_config(tmp_path)


def test_anti_evil_maids_selection_is_the_default(tmp_path: Path) -> None:
    written(tmp_path, AEM_CONF, "etc/anti-evil-maid.conf")
    assert load_config(tmp_path).pcrs == "--pcr 13 --pcr 17 --pcr 18 --pcr 19"
    written(tmp_path, "pcrs: sha1:13,17\n")
    assert load_config(tmp_path).pcrs == "sha1:13,17"


def test_a_selection_of_ours_makes_anti_evil_maids_file_irrelevant(
    tmp_path: Path,
) -> None:
    written(tmp_path, "SEAL=$(cat /secret)\n", "etc/anti-evil-maid.conf")
    written(tmp_path, "pcrs: sha256:13,17\n")
    assert load_config(tmp_path).pcrs == "sha256:13,17"


@pytest.mark.parametrize(
    ("text", "pcrs"),
    [
        ("", None),
        ("OTHER=1\n", None),
        ("SEAL='--pcr 13 --pcr 17'\n", "--pcr 13 --pcr 17"),
        ('  export SEAL="--pcr=13 --pcr=17"  # why\n', "--pcr=13 --pcr=17"),
        ("SEAL='--pcr 1'\nSEAL='--pcr 2'\n", "--pcr 2"),
        (b"# \xff\nSEAL='--pcr 2'", "--pcr 2"),
    ],
)
def test_the_last_seal_line_counts(
    tmp_path: Path, text: str | bytes, pcrs: str | None
) -> None:
    written(tmp_path, text, "etc/anti-evil-maid.conf")
    assert load_config(tmp_path).pcrs == pcrs


@pytest.mark.parametrize(
    "value",
    [
        '"$SEAL --pcr 19"',
        "$(reboot)",
        '"--pcr 13" --pcr 17',
        '"--pcr 13',
        "--pcr",
        '""',
        '"--file x"',
        '"--pcr 77"',
        f'"--pcr {"9" * 600}"',
    ],
)
def test_what_only_a_shell_would_understand_is_refused(
    tmp_path: Path, value: str
) -> None:
    message = refused(tmp_path, f"\nSEAL={value}\n", "etc/anti-evil-maid.conf")
    assert "/etc/anti-evil-maid.conf line 2: SEAL: " in message


def test_anti_evil_maids_owner_password_is_found(tmp_path: Path) -> None:
    place = "/var/lib/anti-evil-maid/tpm-owner-pw"
    written(tmp_path, "00" * 16, place.lstrip("/"))
    assert load_config(tmp_path).owner_auth_file == place
    written(tmp_path, "owner_auth_file: /root/owner\n")
    assert load_config(tmp_path).owner_auth_file == "/root/owner"


def test_a_medium_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="medium"):
        Medium("a b", "/x")
    with pytest.raises(ValueError, match="absolute"):
        Medium("a", "x")


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=80) | st.text("pcrs:[]{}!&*'\"-\n #|>%@`", max_size=60))
def test_no_bytes_are_worse_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes | str
) -> None:
    root = written(tmp_path_factory.mktemp("root"), data)
    try:
        load_config(root)
    except EvidenceError as refusal:
        complaint = refusal.message
    else:
        complaint = "/etc/aemseal.yaml is read"
    assert "/etc/aemseal.yaml" in complaint

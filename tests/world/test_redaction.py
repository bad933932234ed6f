# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's passwords leave its files; nothing that is measured does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.grub_config import evaluate
from aemseal.world.redaction import is_text, redact_env, redact_script, suspects

HASH = "grub.pbkdf2.sha512.10000.0A1B2C.3D4E5F"


@pytest.mark.parametrize(
    ("script", "clean"),
    [
        (f"password_pbkdf2 root {HASH}\n", "password_pbkdf2 root redacted\n"),
        ("\tpassword root hunter2\n", "\tpassword root redacted\n"),
        ("password root 'hunter 2'\n", "password root redacted\n"),
        ('password root "hun\\"ter"2\n', "password root redacted\n"),
        ("password hunter2\n", "password redacted\n"),
        ("password root hun\\\nter2\n", "password root redacted\n"),
        ("'password' root hunter2\n", "'password' root redacted\n"),
        ("pass\\word root hunter2\n", "pass\\word root redacted\n"),
        (
            "if true; then password root hunter2; fi",
            "if true; then password root redacted; fi",
        ),
        ("f () { password root hunter2 }", "f () { password root redacted }"),
        ("echo a | password root hunter2", "echo a | password root redacted"),
        ("GRUB2_PASSWORD=hunter2\n", "GRUB2_PASSWORD=redacted\n"),
        ("set GRUB2_PASSWORD='hunter 2'\n", "set GRUB2_PASSWORD=redacted\n"),
        ('set "my_secret=hunter2"\n', 'set "my_secret=redacted"\n'),
        ("export passwd=hunter2\n", "export passwd=redacted\n"),
        ("cryptomount -u 1234 -p hunter2\n", "cryptomount -u 1234 -p redacted\n"),
        ("cryptomount --password hunter2 x\n", "cryptomount --password redacted x\n"),
        ("cryptomount --password=hunter2\n", "cryptomount redacted\n"),
        ("cryptomount -phunter2 (hd0)\n", "cryptomount redacted (hd0)\n"),
        ("legacy_password --md5 hunter2\n", "legacy_password redacted redacted\n"),
        ("# password root hunter2\necho\n", "#redacted\necho\n"),
        (f"module /x {HASH}\n", "module /x redacted\n"),
        ("password root 'hunter2", "password root 'redacted"),
    ],
)
def test_a_password_is_taken_out(script: str, clean: str) -> None:
    redacted = redact_script(script.encode())
    assert b"hunter" not in redacted
    assert HASH.encode() not in redacted
    assert redacted.decode() == clean


@pytest.mark.parametrize(
    "script",
    [
        "",
        "set timeout=5\n",
        "password_pbkdf2 root ${GRUB2_PASSWORD}\n",
        "password root $pw\n",
        'set GRUB2_PASSWORD="${other}"\n',
        "set GRUB2_PASSWORD=\n",
        'set "GRUB2_PASSWORD="\n',
        "cryptomount -a\n",
        "menuentry 'Reset the password root hunter2' --class x {\n",
        "multiboot2 /tboot.gz placeholder password=hunter2\n",
        "module2 /vmlinuz a; module2 /initrd password x\n",
        "# BEGIN /etc/grub.d/00_header\n",
        'if [ -n "${GRUB2_PASSWORD}" ]; then\n',
        "linux /vmlinuz passwd $(\n",
        "echo \"unended 'quotes\n",
        "${" * 200,
    ],
)
def test_nothing_else_changes(script: str) -> None:
    assert redact_script(script.encode()) == script.encode()


def test_a_redacted_menu_boots_the_same() -> None:
    script = b"""
set superusers="root"
password_pbkdf2 root grub.pbkdf2.sha512.10000.0A.0B
password guest 'hunter 2'
# the password of guest is hunter2
set GRUB2_PASSWORD=hunter2
if [ -n "${GRUB2_PASSWORD}" ]; then default=1; fi
menuentry 'Plain' { multiboot /other.gz }
menuentry 'The password is measured' {
    multiboot /tboot.gz password=hunter2 x
    module /xen.gz placeholder
    module /vmlinuz placeholder
}
"""
    clean = redact_script(script)
    assert clean.count(b"hunter") == 1
    assert evaluate(clean, None).next_entry() == evaluate(script, None).next_entry()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"set x='\xc3\xb6'\t\r\n\x1b[0m", True),
        (b"", True),
        (b"\x1f\x8b", False),
        (b"a\0", False),
        (b"\xff", False),
        (b"a\x01", False),
    ],
)
def test_scripts_are_told_from_other_files(data: bytes, text: bool) -> None:
    assert is_text(data) is text


def test_a_grubenv_keeps_its_size() -> None:
    block = b"# GRUB Environment Block\nsaved_entry=Qubes\nGRUB2_PASSWORD=hunter2\n"
    block += f"x={HASH}\n".encode()
    block = block.ljust(1024, b"#")
    clean = redact_env(block)
    assert len(clean) == 1024
    assert b"saved_entry=Qubes\nGRUB2_PASSWORD=xxxxxxx\n" in clean
    assert HASH.encode() not in clean


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("rd.iscsi.password=hunter2", "rd.iscsi.password="),
        ("systemd.set_credential=x:hunter2", "systemd.set_credential="),
        ("systemd.set_credential_binary=x:aGk=", "systemd.set_credential_binary="),
        ('inst.vncpassword="hunter2"', None),
        ("inst.vncpassword=hunter2", "inst.vncpassword="),
        ("token=hunter2", "token="),
        ("root=cifs://me:hunter2@host/x", "an address with a password"),
        ("netroot=iscsi:me:hunter2@host::3260", "an address with a password"),
        ("rd.luks.key=/etc/key", None),
        ("password=/etc/file", None),
        ("password=$pw", None),
        ("systemd.import_credentials=no", None),
        ("password=redacted", None),
        ("use_token=1 quiet", None),
        ("root=nfs://host/x", None),
    ],
)
def test_words_that_look_like_secrets_are_named_without_their_value(
    words: str, name: str | None
) -> None:
    found = suspects(f"one\ntwo\nmodule2 /vmlinuz ro {words}\n".encode())
    assert found == ([] if name is None else [(3, name)])


@given(st.text("password rt'\"\\${}#;|&=-\n", max_size=120))
def test_any_script_can_be_redacted_and_a_second_time_changes_nothing(
    script: str,
) -> None:
    clean = redact_script(script.encode())
    assert redact_script(clean) == clean
    suspects(clean)


@given(st.sampled_from(["password root ", "set GRUB2_PASSWORD="]), st.data())
def test_no_way_of_quoting_keeps_a_password(command: str, data: st.DataObject) -> None:
    quote = data.draw(st.sampled_from(["", "'", '"']))
    before = data.draw(st.sampled_from(["", "\n", "echo;", "if x; then ", "x\\\n\n"]))
    script = f"{before}{command}{quote}hunter2{quote}\necho after\n"
    clean = redact_script(script.encode())
    assert b"hunter2" not in clean
    assert clean.endswith(b"\necho after\n")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What enrol seals to, and what it refuses with nothing written.

The boot it stages is the running one but for what enrol builds: whatever else lies in
/boot by then, somebody put there since, and nobody was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from attacker import AEM_SRK_PUBLIC, COUNTER_LIKE_OURS, Attacker
from laptop import CARRIED, KERNEL, MODELS, SECRET, Laptop, MakeLaptop, changed
from refusals import CONFIG, GRUB, STATE, refuses
from tpm_sim.initramfs import build_command
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, MachineModel
from unsealer import connected

from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.world.tpm import NV_RANGE
from aemseal.world.tpm_storage import SRK_HANDLE

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

REBOOT = "reboot into what /boot holds now, then enrol"
ANOTHER = "the next boot is not the running one: it changes "
TITLE = "AEM Qubes, with Xen hypervisor"
ROOT_SHELL = "init=/bin/sh"

both_maps = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def with_first_entry(config: bytes, title: str, change: Callable[[str], str]) -> bytes:
    """grub.cfg with a changed copy of the measured entry in front, as the default."""
    text = config.decode()
    at = text.index("menuentry 'AEM Qubes")
    entry = text[at : text.index("\n}\n", at) + 3].replace(TITLE, title)
    changed_entry = change(entry.replace("'aem-xen'", "'aem-first'"))
    assert changed_entry != entry
    return (text[:at] + changed_entry + text[at:]).encode()


def with_shell(entry: str) -> str:
    line = next(each for each in entry.splitlines() if "/vmlinuz" in each)
    return entry.replace(line, f"{line} {ROOT_SHELL}")


def named(laptop: Laptop, group: str) -> list[str]:
    boots = laptop.aemseal("status", "--json").report[group]
    return [each["name"] for each in boots]


def checked(laptop: Laptop) -> str | None:
    state = json.loads(laptop.path("/var/lib/aemseal/state.json").read_bytes())
    found = state["checked"]
    return None if found is None else found["result"]


def build_and(laptop: Laptop, more: str) -> None:
    """Have the configured build do something else besides."""
    build = " ".join(build_command(laptop.root))
    command = json.dumps(["/bin/sh", "-c", f"{build} && {more}"])
    laptop.write(CONFIG, f"initramfs_command: {command}\n{CARRIED}")


# --- a boot that nobody answers for ---


def test_a_changed_next_entry_is_refused_by_what_it_changes(lent_new: Laptop) -> None:
    """The attack: a clean boot, then another default with a shell for init."""
    config = lent_new.path(GRUB).read_bytes()
    xen = lent_new.write("/boot/other-xen.gz", b"a Xen of somebody's")
    other = with_first_entry(
        config,
        "AEM Qubes",
        lambda entry: with_shell(entry.replace("/xen", "/other-xen")),
    )
    try:
        with changed(lent_new, GRUB, other):
            ran = refuses(
                lent_new,
                "enrol text",
                4,
                f"{ANOTHER}xen (/boot/other-xen.gz), kernel ({KERNEL})",
                REBOOT,
                stdin=SECRET,
            )
            as_json = lent_new.aemseal("enrol", "text", "--json", stdin=SECRET)
    finally:
        xen.unlink()
    assert as_json.report["kind"] == "origin"
    assert ROOT_SHELL in ran.told, "the plan is shown"
    assert "! kernel (PCR 17): " in ran.told
    assert "initramfs" not in ran.told


def test_another_entry_of_the_menu_is_refused_in_the_same_way(lent_new: Laptop) -> None:
    config = lent_new.path(GRUB).read_bytes()
    other = with_first_entry(config, "rescue", with_shell)
    with changed(lent_new, GRUB, other):
        for entry in ("", " --entry rescue"):
            message = f"{ANOTHER}kernel ({KERNEL})"
            refuses(lent_new, f"enrol text{entry}", 4, message, REBOOT, stdin=SECRET)


def test_an_initramfs_that_was_changed_since_is_not_called_built_here(
    lent_new: Laptop,
) -> None:
    path = lent_new.path("/boot/initramfs.img")
    other = path.read_bytes() + bytes(4)
    lent_new.write("/boot/other.img", other)
    config = with_first_entry(
        lent_new.path(GRUB).read_bytes(),
        "other",
        lambda entry: entry.replace("/initramfs.img", "/other.img"),
    )
    try:
        with changed(lent_new, GRUB, config):
            message = f"{ANOTHER}initramfs (/boot/other.img)"
            refuses(lent_new, "enrol text", 4, message, REBOOT, stdin=SECRET)
    finally:
        lent_new.path("/boot/other.img").unlink()


def test_a_further_module_is_refused(lent_new: Laptop) -> None:
    config = with_first_entry(
        lent_new.path(GRUB).read_bytes(),
        "more",
        lambda entry: entry.replace("\n}\n", "\n\tmodule2 /xen.gz extra\n}\n"),
    )
    with changed(lent_new, GRUB, config):
        message = f"{ANOTHER}module (/boot/xen.gz)"
        refuses(lent_new, "enrol text", 4, message, REBOOT, stdin=SECRET)


BUILDS = {
    "the kernel": (
        "echo another kernel > {boot}/vmlinuz",
        f"kernel ({KERNEL})",
    ),
    "the boot menu": (
        "sed -i '/vmlinuz placeholder/s,$, init=/bin/sh,' {boot}/grub/grub.cfg",
        f"kernel ({KERNEL})",
    ),
    "the initramfs' name": (
        "cd {boot} && mv initramfs.img new.img && sed -i s,initramfs,new, */grub.cfg",
        "initramfs (/boot/new.img)",
    ),
}


@pytest.mark.parametrize(("more", "what"), BUILDS.values(), ids=list(BUILDS))
def test_a_build_that_changes_more_than_the_initramfs_seals_nothing(
    own: MakeLaptop, more: str, what: str
) -> None:
    laptop = own(enrolled=False)
    build_and(laptop, more.format(boot=laptop.path("/boot")))
    ran = laptop.enrol()
    assert (ran.code, ran.error, ran.hint) == (4, ANOTHER + what, REBOOT)
    assert "! " in ran.told
    assert not laptop.path("/boot/aemseal").exists()
    assert not laptop.path("/var/lib/aemseal/state.json").exists()


# --- a boot that is staged ---


@both_maps
def test_enrol_shows_what_it_changes(own: MakeLaptop, model: MachineModel) -> None:
    laptop = own(model, enrolled=False)
    ran = laptop.enrol()
    assert ran.code == 0
    pcr = 17 if model is TBOOT_DA else 19
    assert f"  initramfs (PCR {pcr}): built here just now\n" in ran.told
    assert [line for line in ran.told.splitlines() if line.startswith("! ")] == [
        "! luks (PCR 13): no hook measured it in this boot: taken as it is"
    ]
    assert checked(laptop) == "staged"
    assert laptop.shows_the_secret()


def test_enrolling_into_a_named_entry_says_nothing_of_grubs_own(
    own: MakeLaptop,
) -> None:
    laptop = own(enrolled=False)
    config = laptop.path(GRUB).read_bytes()
    laptop.write(GRUB, with_first_entry(config, "rescue", with_shell))
    ran = laptop.aemseal("enrol", "text", "--entry", TITLE, stdin=SECRET)
    assert ran.code == 0
    assert "next step: look at the next boot: aemseal status --check\n" in ran.out
    assert checked(laptop) is None
    assert laptop.aemseal("status", "--json").report["next_boot"] == "unknown"
    assert not laptop.shows_the_secret(), "GRUB boots its own choice"
    laptop.write(GRUB, config)
    assert laptop.shows_the_secret()


def test_enrolling_an_accepted_boot_says_what_grub_boots_next(own: MakeLaptop) -> None:
    laptop = own()
    config = laptop.path(GRUB).read_bytes()
    found = []
    for now in (config, with_first_entry(config, "rescue", with_shell), b"menuentry {"):
        laptop.path(STATE).unlink(missing_ok=True)
        with changed(laptop, GRUB, now):
            ran = laptop.enrol()
        if ran.code:
            found.append(ran.error)
            continue
        found.append(checked(laptop) or "")
        assert named(laptop, "accepted")
    assert found[:2] == ["accepted", "not-accepted"]
    assert "grub.cfg line 1" in found[2]


# --- the same machine, enrolled for other PCRs ---


def enrol_anew(laptop: Laptop, *arguments: str) -> list[str]:
    laptop.path(STATE).unlink()
    ran = laptop.enrol("--json", *arguments)
    assert ran.code == 0, ran.told
    return [word for word in ("accepted", "staged") if ran.report[word]]


def test_an_initramfs_for_other_pcrs_is_built_anew(own: MakeLaptop) -> None:
    """Or the hook inside would ask for the old ones, and the boot be a blind one."""
    laptop = own()
    assert enrol_anew(laptop, "--pcrs", "sha256:13,17") == ["staged"]
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    assert enrol_anew(laptop, "--pcrs", "sha256:13,17") == ["accepted"]
    assert laptop.shows_the_secret()


def test_what_the_initramfs_holds_decides_and_not_the_disk(own: MakeLaptop) -> None:
    laptop = own()
    conf = laptop.path("/var/lib/aemseal/hook/hook.conf")
    before = conf.read_bytes()
    conf.write_bytes(before.replace(b"13,17,18", b"13,17"))
    assert conf.read_bytes() != before
    assert enrol_anew(laptop, "--pcrs", "sha256:13,17") == ["staged"]
    assert laptop.shows_the_secret()


def test_a_configuration_on_the_disk_for_other_pcrs_is_put_right(
    own: MakeLaptop,
) -> None:
    """The next initramfs is built from it: accepted at once, that one were blind."""
    laptop = own(TBOOT_LEGACY)
    conf = laptop.path("/var/lib/aemseal/hook/hook.conf")
    before = conf.read_bytes()
    conf.write_bytes(before.replace(b"13,17,18,19", b"13,17,18"))
    assert enrol_anew(laptop) == ["staged"]
    assert conf.read_bytes() == before
    assert laptop.shows_the_secret()


def test_no_boot_is_accepted_whose_initramfs_pins_another_key(own: MakeLaptop) -> None:
    """Another tool's key went away, and a genuine one was put in its place."""
    laptop = own(enrolled=False)
    with connected(laptop.machine.tcti) as esapi:
        other = Attacker(esapi)
        other.persist(other.primary(AEM_SRK_PUBLIC, b"AEM's password"), SRK_HANDLE)
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()
    laptop.path(STATE).unlink()
    owner = laptop.path("/var/lib/aemseal/owner.auth").read_bytes()
    with connected(laptop.machine.tcti) as esapi:
        other = Attacker(esapi, owner)
        other.clear_persistent(SRK_HANDLE)
        other.persist(other.primary(OWN_TEMPLATE.public), SRK_HANDLE)
    pin = "/var/lib/aemseal/hook/srk.tr"
    message = "the storage key at 0x81000001 is not the one in this initramfs"
    refuses(laptop, "enrol text", 4, message, f"remove {pin}", stdin=SECRET)
    laptop.path(pin).unlink()
    assert laptop.enrol("--json").report["accepted"] == []
    assert laptop.shows_the_secret()


# --- refused, and nothing written ---


def stick_is_absent(laptop: Laptop) -> None:
    config = laptop.path(CONFIG).read_text()
    laptop.write(CONFIG, config.replace("/boot/aemseal", "/media/stick/aemseal"))


def no_index_is_free(laptop: Laptop) -> None:
    with connected(laptop.machine.tcti) as esapi:
        for handle in NV_RANGE:
            Attacker(esapi).define(handle, COUNTER_LIKE_OURS)
            Attacker(esapi).increment(Attacker(esapi).index(handle))


def no_build_is_configured(laptop: Laptop) -> None:
    laptop.write(CONFIG, CARRIED)


def the_kernel_is_new(laptop: Laptop) -> None:
    laptop.write(KERNEL, b"another kernel")


REFUSED = {
    "an absent medium": (stick_is_absent, 4, "the medium stick is not at hand"),
    "a full range of indices": (no_index_is_free, 5, "all NV indices of our range"),
    "no way to build": (no_build_is_configured, 4, "the initramfs with it is not"),
    "other files": (the_kernel_is_new, 4, "no file of any boot entry gives what"),
}


@pytest.mark.parametrize(
    ("spoil", "code", "message"), REFUSED.values(), ids=list(REFUSED)
)
def test_a_first_enrolment_is_refused_with_nothing_written_for(
    own: MakeLaptop, spoil: Callable[[Laptop], None], code: int, message: str
) -> None:
    laptop = own(enrolled=False)
    spoil(laptop)
    refuses(laptop, "enrol text", code, message, stdin=SECRET)
    assert not laptop.path("/var/lib/aemseal/owner.auth").exists()


UNFIT = {
    "blanks alone": " \u00a0\u2003\n ",
    "NUL": "a\0b",
    "a tab": "left\tright",
    "a carriage return": "typed on another system\r\n",
    "an escape sequence": "\x1b[31mred",
    "delete": "a\x7fb",
    "a control character beyond ASCII": "a\u009bb",
    "line ends alone": "\n\n\n",
    "no visible character": "\u200b\u200d",
    "no UTF-8": b"the heron \xff\xfe",
    "an encoded surrogate": b"the heron \xed\xa0\x80",
}


@pytest.mark.parametrize("text", UNFIT.values(), ids=list(UNFIT))
def test_no_secret_is_taken_that_the_hook_cannot_show(
    lent_new: Laptop, text: str | bytes
) -> None:
    ran = refuses(lent_new, "enrol text", 2, "the secret ", "recognise", stdin=text)
    told = ran.told.encode()
    data = text if isinstance(text, bytes) else text.encode()
    for word in data.split():
        assert len(word) < 4 or word not in told


@pytest.mark.parametrize("text", ["two\nlines", "żółw 🐢 \u200d", "  x  "])
def test_what_is_taken_is_shown_as_it_was_given(own: MakeLaptop, text: str) -> None:
    laptop = own(enrolled=False)
    assert laptop.aemseal("enrol", "text", stdin=text).code == 0
    found = laptop.reboot()
    assert found is not None
    assert (found.exit_code, found.shown) == (0, f"{text}\n")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What TrenchBoot's GRUB loads: slaunch, its modules, and what it launches."""

from __future__ import annotations

import pytest
from grub_evaluation import entry

from aemseal.formats.grub_config import GrubLoad
from aemseal.words.errors import GrubError

XEN = "multiboot2 /xen.gz placeholder; module2 /vmlinuz"


def loads(body: str, before: str = "") -> tuple[GrubLoad, ...]:
    return entry(f"{before}\nmenuentry a {{ {body}; }}\n").loads


def commands(body: str) -> list[str]:
    return [load.command for load in loads(body)]


class TestSlaunch:
    def test_stands_before_what_it_launches(self) -> None:
        found = loads(f"slaunch; {XEN}; slaunch_module /skl.bin", "set root=hd0,gpt2")
        assert [(load.command, load.path) for load in found] == [
            ("slaunch", ""),
            ("multiboot2", "/xen.gz"),
            ("module2", "/vmlinuz"),
            ("slaunch_module", "/skl.bin"),
        ]
        assert found[-1] == GrubLoad(
            "slaunch_module", "/skl.bin", "hd0,gpt2", (), nounzip=False, line=2
        )

    def test_keeps_its_arguments_for_builds_that_heed_them(self) -> None:
        assert loads(f"slaunch skinit; {XEN}")[0].arguments == ("skinit",)

    def test_outlives_another_kernel(self) -> None:
        body = f"slaunch; slaunch_module /a; linux /vmlinuz; {XEN}"
        assert commands(body) == ["slaunch", "slaunch_module", "multiboot2", "module2"]

    def test_whether_it_succeeds_is_unknown(self) -> None:
        with pytest.raises(GrubError, match="what the command at"):
            loads(f"if slaunch; then {XEN}; fi")

    def test_its_state_is_only_shown(self) -> None:
        assert commands(f"slaunch; slaunch_state; {XEN}") == [
            "slaunch",
            "multiboot2",
            "module2",
        ]


class TestSlaunchModule:
    def test_has_a_device_of_its_own(self) -> None:
        found = loads("slaunch; slaunch_module (hd1,gpt1)/A_SINIT.BIN")
        assert (found[1].path, found[1].device) == ("/A_SINIT.BIN", "hd1,gpt1")

    def test_without_a_file_loads_nothing(self) -> None:
        assert commands("slaunch; slaunch_module") == ["slaunch"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (
                "slaunch_module /skl.bin; slaunch",
                "'slaunch_module' follows no 'slaunch'",
            ),
            ("slaunch; slaunch_module /a /b", "'slaunch_module' takes one file"),
            ("slaunch; slaunch_module skl.bin", "'skl.bin' is no absolute path"),
            ("slaunch; read x; slaunch_module $x", "depends on what 'read' answers"),
            ("read x; slaunch $x", "depends on what 'read' answers"),
        ],
    )
    def test_that_cannot_be_known_is_refused(self, body: str, message: str) -> None:
        with pytest.raises(GrubError, match=message):
            loads(body)


class TestChainloader:
    def test_that_is_launched_is_loaded_with_its_arguments(self) -> None:
        body = (
            "slaunch; set root=hd0,gpt1; chainloader /EFI/qubes/xen.efi 'a  b' 'c\\x41'"
        )
        found = loads(body, "set root=hd0,gpt2")[1]
        assert found.command == "chainloader"
        assert (found.path, found.device) == ("/EFI/qubes/xen.efi", "hd0,gpt1")
        assert found.arguments == ("a  b", "c\\x41")

    def test_takes_the_place_of_another_kernel(self) -> None:
        body = f"slaunch; {XEN}; chainloader /EFI/xen.efi; slaunch_module /a"
        assert commands(body) == ["slaunch", "chainloader", "slaunch_module"]

    def test_that_is_not_launched_is_only_named(self) -> None:
        found = loads(f"{XEN}; chainloader +1")
        assert [(load.command, load.path) for load in found] == [("chainloader", "+1")]
        assert loads("read x; chainloader $x")[0].path.startswith("<what 'read'")

    def test_without_a_file_is_only_named(self) -> None:
        assert commands("slaunch; chainloader") == ["slaunch", "chainloader"]

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The ABI check notices what it is there for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import abi  # noqa: E402

LAYOUT = [
    "constant MR_A 1",
    "enum mr_e",
    "  MR_E_ONE 1",
    "struct mr_s size 8 align 4",
    "  a offset 0 size 4",
    "  b offset 4 size 4",
]


def test_struct_without_holes_passes() -> None:
    assert list(abi.check_holes(LAYOUT)) == []


@pytest.mark.parametrize("field", ["  b offset 4 size 2", "  b offset 6 size 2"])
def test_hole_is_found(field: str) -> None:
    assert len(list(abi.check_holes([*LAYOUT[:-1], field]))) == 1


@pytest.mark.parametrize("compiler", abi.COMPILERS)
@pytest.mark.parametrize(
    "wrong",
    [
        "constant MR_CACHE_LINE_BYTES 65",
        "enum mr_protocol\n  MR_PROTOCOL_TCP 7",
        "struct mr_addr size 17 align 1",
        "struct mr_addr size 16 align 1\n  bytes offset 1 size 16",
    ],
)
def test_every_compiler_notices_a_wrong_number(compiler: str, wrong: str) -> None:
    headers = ["flow_abi.h", "shm_abi.h"]
    text = abi.preamble(headers) + abi.assertions(wrong.splitlines())
    built = abi.compile_text([*abi.COMPILERS[compiler], "-fsyntax-only"], text)
    assert built.returncode != 0
    assert re.search("static.assert", built.stderr)


def test_changed_layout_differs_from_golden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    golden = tmp_path / "layout.golden"
    golden.write_text("\n".join(LAYOUT) + "\n")
    monkeypatch.setattr(abi, "GOLDEN", golden)
    assert list(abi.check_golden(LAYOUT)) == []
    assert len(list(abi.check_golden([*LAYOUT[:-1], "  c offset 4 size 4"]))) == 1


def test_name_that_is_not_the_enumerators_is_found() -> None:
    contract = abi.read_contract()
    assert list(abi.check_names(contract)) == []
    contract.enums["mr_drop_reason"][1] = "MR_DROP_RENAMED"
    contract.enums["mr_flow_state"].insert(0, "MR_FLOW_NEW")
    assert len(list(abi.check_names(contract))) > 2


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:], __file__]))

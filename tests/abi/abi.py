#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The contract headers mean the same to every compiler, and what they meant yesterday.

Each header of dataplane/contract and dataplane/rules compiles alone, warnings as errors, as C11
(gcc), C++20 (g++ and clang++) and BPF (clang). The contract's structs, fields, enumerators and
constants come from clang's syntax tree, their numbers from a program that gcc builds; the other
compilers confirm the numbers by static assertions. The result is compared with layout.golden.

  tests/abi/abi.py            check
  tests/abi/abi.py --update   write layout.golden anew, after raising MR_ABI_VERSION
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "dataplane" / "contract"
RULES = ROOT / "dataplane" / "rules"
GOLDEN = Path(__file__).with_name("layout.golden")

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", f"-I{ROOT}"]
COMPILERS: dict[str, list[str]] = {
    "C11 (gcc)": ["gcc", "-x", "c", "-std=c11", *WARNINGS],
    "C++20 (g++)": ["g++", "-x", "c++", "-std=c++20", *WARNINGS],
    "C++20 (clang++)": ["clang++", "-x", "c++", "-std=c++20", *WARNINGS],
    "BPF (clang)": ["clang", "-x", "c", "-std=gnu11", "-target", "bpf", "-ffreestanding", "-O2"]
    + WARNINGS,
}


@dataclass
class Struct:
    fields: list[str] = field(default_factory=list)


@dataclass
class Contract:
    """What the headers declare, by name, in order of declaration."""

    headers: list[str]
    structs: dict[str, Struct] = field(default_factory=dict)
    enums: dict[str, list[str]] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)


def preamble(headers: list[str]) -> str:
    return "".join(f'#include "dataplane/contract/{header}"\n' for header in headers)


def compile_text(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as unit:
        unit.write(text)
        unit.flush()
        return subprocess.run([*command, unit.name], capture_output=True, text=True, check=False)


def declared(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Top-level declarations of a syntax tree whose names are ours."""
    for child in node.get("inner", []):
        if child.get("name", "").startswith("mr_"):
            yield child


def read_contract() -> Contract:
    contract = Contract(sorted(path.name for path in CONTRACT.glob("*_abi.h")))
    dump = ["clang", "-x", "c", "-std=c11", f"-I{ROOT}", "-fsyntax-only", "-Xclang"]
    dumped = compile_text([*dump, "-ast-dump=json"], preamble(contract.headers))
    for node in declared(json.loads(dumped.stdout)):
        inner = node.get("inner", [])
        if node["kind"] == "RecordDecl" and node.get("completeDefinition"):
            names = [child["name"] for child in inner if child["kind"] == "FieldDecl"]
            contract.structs[node["name"]] = Struct(names)
        elif node["kind"] == "EnumDecl":
            kinds = [child["name"] for child in inner if child["kind"] == "EnumConstantDecl"]
            contract.enums[node["name"]] = kinds
    for header in contract.headers:
        text = (CONTRACT / header).read_text(encoding="utf-8")
        contract.constants += re.findall(r"^#define (MR_\w+)[ \t]+\S", text, re.MULTILINE)
    return contract


def probe_program(contract: Contract) -> str:
    """A C program that prints one golden line per struct, field, enumerator and constant."""
    lines = [preamble(contract.headers), "#include <stdio.h>\n", "int main(void) {\n"]

    def show(form: str, *values: str) -> None:
        casts = "".join(f", (unsigned long long)({value})" for value in values)
        lines.append(f'  printf("{form}\\n"{casts});\n')

    for name in contract.constants:
        show(f"constant {name} %llu", name)
    for enum, names in contract.enums.items():
        show(f"enum {enum}")
        for name in names:
            show(f"  {name} %llu", name)
    for struct, content in contract.structs.items():
        kind = f"struct {struct}"
        show(f"{kind} size %llu align %llu", f"sizeof({kind})", f"_Alignof({kind})")
        for name in content.fields:
            size = f"sizeof((({kind}*)0)->{name})"
            show(f"  {name} offset %llu size %llu", f"offsetof({kind}, {name})", size)
    return "".join([*lines, "  return 0;\n}\n"])


def measure(contract: Contract) -> list[str]:
    """The golden lines, as gcc's program says them."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/probe"
        command = ["gcc", "-x", "c", "-std=c11", f"-I{ROOT}", "-o", program]
        built = compile_text(command, probe_program(contract))
        if built.returncode != 0:
            raise RuntimeError(f"the probe does not compile:\n{built.stderr}")
        shown = subprocess.run([program], capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()


def assertions(layout: list[str]) -> str:
    """The golden lines as static assertions, for compilers whose output cannot be run."""
    owner = ""
    out = []
    for line in layout:
        words = line.split()
        claims = {}
        if words[0] == "struct":
            owner = f"struct {words[1]}"
            claims = {f"sizeof({owner})": words[3]}
        elif words[0] == "enum":
            owner = ""
        elif words[0] == "constant":
            claims = {f"(unsigned long long)({words[1]})": words[2]}
        elif owner:
            claims = {f"offsetof({owner}, {words[0]})": words[2]}
            claims[f"sizeof((({owner}*)0)->{words[0]})"] = words[4]
        else:
            claims = {f"(unsigned long long)({words[0]})": words[1]}
        out += [
            f'MR_ABI_ASSERT({what} == {value}ull, "{line}");\n' for what, value in claims.items()
        ]
    return "".join(out)


def check_compilers(contract: Contract, layout: list[str]) -> Iterator[str]:
    paths = [CONTRACT / header for header in contract.headers] + sorted(RULES.glob("*.h"))
    for name, command in COMPILERS.items():
        for path in paths:
            include = f'#include "{path.relative_to(ROOT)}"\n'
            built = compile_text([*command, "-fsyntax-only"], include)
            if built.returncode != 0:
                yield f"{path.name} does not compile as {name}:\n{built.stderr}"
        text = preamble(contract.headers) + assertions(layout)
        confirmed = compile_text([*command, "-fsyntax-only"], text)
        if confirmed.returncode != 0:
            yield f"{name} lays the structs out differently:\n{confirmed.stderr}"


def check_holes(layout: list[str]) -> Iterator[str]:
    """Structs name their padding, so that nothing undefined is ever shared."""
    struct, size, end = "", 0, 0
    for line in [*layout, "struct end size 0 align 0"]:
        words = line.split()
        if words[0] == "struct":
            if end != size:
                yield f"{struct}: {size - end} unnamed bytes at its end"
            struct, size, end = words[1], int(words[3]), 0
        elif struct and words[1] == "offset":
            if int(words[2]) != end:
                yield f"{struct}: {int(words[2]) - end} unnamed bytes before {words[0]}"
            end = int(words[2]) + int(words[4])


def check_golden(layout: list[str]) -> Iterator[str]:
    golden = GOLDEN.read_text(encoding="utf-8").splitlines() if GOLDEN.exists() else []
    changed = list(difflib.unified_diff(golden, layout, "layout.golden", "headers", lineterm=""))
    if changed:
        yield (
            "the contract is not what layout.golden says. If that is meant, raise MR_ABI_VERSION"
            " and run tests/abi/abi.py --update:\n" + "\n".join(changed)
        )


def names_of(source: str, array: str) -> list[str]:
    """The strings of a names table in C++."""
    text = (ROOT / source).read_text(encoding="utf-8")
    table = re.search(array + r"[^=]*= \{(.*?)\};", text, re.DOTALL)
    return re.findall(r'"([^"]*)"', table.group(1)) if table else []


def check_names(contract: Contract) -> Iterator[str]:
    """Names for people are the enumerators' own, in order: nobody looks up a number."""
    for enum, prefix, array in (
        ("mr_drop_reason", "MR_DROP_", "kDropReasonNames"),
        ("mr_flow_state", "MR_FLOW_", "kFlowStateNames"),
    ):
        names = names_of("dataplane/core/drop_reason.cc", array)
        wanted = [n.removeprefix(prefix).lower() for n in contract.enums[enum]][:-1]
        for number, (name, want) in enumerate(zip(names, wanted)):
            if name != want:
                yield f"{array}[{number}] is {name!r}, but the enumerator is {prefix}{want.upper()}"
        if len(names) != len(wanted):
            yield f"{array} has {len(names)} names for {len(wanted)} enumerators"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", action="store_true", help="write layout.golden anew")
    options = parser.parse_args()
    contract = read_contract()
    layout = measure(contract)
    if options.update:
        GOLDEN.write_text("\n".join(layout) + "\n", encoding="utf-8")
    problems = [
        *check_compilers(contract, layout),
        *check_holes(layout),
        *check_golden(layout),
        *check_names(contract),
    ]
    for problem in problems:
        print(problem)
    counts = f"{len(contract.headers)} headers, {len(contract.structs)} structs"
    print(f"abi: {counts}, {len(COMPILERS)} compilers, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

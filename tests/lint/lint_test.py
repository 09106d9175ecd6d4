#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lint catches what it says it catches: each rule gets a planted violation and a clean twin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lint import CHECKS, run  # noqa: E402
from tree import Tree  # noqa: E402

LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
HEADER = LICENCE + "//\n// Says in some words what this header is for. Cold.\n#pragma once\n"
HOT_HEADER = LICENCE + "//\n// One worker's packets, looked at from near. HOT.\n#pragma once\n"
PYTHON = "# SPDX-License-Identifier: Apache-2.0\n"
BASH = "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\nset -euo pipefail\n"

LONG_FUNCTION = "int f() {\n" + "  g();\n" * 80 + "}\n"

# (check, rule, path, text that breaks the rule)
PLANTED = [
    ("layers", "layer", "dataplane/core/a.h", HEADER + '#include "controlplane/model/m.h"\n'),
    ("layers", "layer", "dataplane/shm/a.h", HEADER + '#include "dataplane/worker/w.h"\n'),
    ("layers", "layer", "controlplane/net/a.h", HEADER + '#include "dataplane/dpdk/d.h"\n'),
    ("layers", "layer", "controlplane/net/a.h", HEADER + '#include "controlplane/api/s.h"\n'),
    ("layers", "include-root", "dataplane/core/a.h", HEADER + '#include "b.h"\n'),
    ("layers", "include-exists", "dataplane/core/a.h", HEADER + '#include "dataplane/core/no.h"\n'),
    ("layers", "wrapped-library", "dataplane/core/a.h", HEADER + "#include <rte_mbuf.h>\n"),
    ("layers", "wrapped-library", "dataplane/worker/a.h", HEADER + "#include <rte_ring.h>\n"),
    ("layers", "wrapped-library", "dataplane/shm/a.h", HEADER + "#include <bpf/libbpf.h>\n"),
    ("layers", "wrapped-library", "controlplane/api/a.h", HEADER + "#include <yaml-cpp/yaml.h>\n"),
    ("layers", "core-is-pure", "dataplane/core/a.h", HEADER + "#include <sys/mman.h>\n"),
    ("layers", "core-is-pure", "dataplane/core/a.h", HEADER + "#include <mutex>\n"),
    ("layers", "c-subset", "dataplane/contract/a_abi.h", HEADER + "#include <vector>\n"),
    ("layers", "c-subset", "dataplane/contract/a_abi.h", HEADER),
    ("layers", "c-subset", "dataplane/rules/a_rule.h", HEADER + "#include <vector>\n"),
    ("layers", "tree", "misc/a.h", HEADER),
    ("rte", "wrapped-library", "dataplane/worker/a.h", HEADER + "struct rte_mbuf;\n"),
    ("sizes", "file-lines", "dataplane/core/a.cc", LICENCE + "int a;\n" * 501),
    ("sizes", "line-columns", "dataplane/core/a.cc", LICENCE + "int " + "a" * 100 + ";\n"),
    ("sizes", "white-space", "dataplane/core/a.cc", LICENCE + "int a; \n"),
    ("sizes", "white-space", "dataplane/core/a.cc", LICENCE + "\tint a;\n"),
    ("sizes", "white-space", "dataplane/core/a.cc", LICENCE + "int a;"),
    ("functions", "function-lines", "dataplane/core/a.cc", LICENCE + LONG_FUNCTION),
    ("functions", "function-lines", "tests/e2e/a.py", "def f() -> None:\n" + "    g()\n" * 80),
    ("names", "file-name", "dataplane/core/FlowTable.h", HEADER),
    ("openings", "spdx", "dataplane/core/a.cc", "int a;\n"),
    ("openings", "spdx", "tests/support/a.py", "import os\n"),
    ("openings", "opening", "dataplane/core/a.h", LICENCE + "#pragma once\n"),
    ("openings", "guard", "dataplane/core/a.h", HEADER.replace("#pragma once\n", "")),
    ("openings", "own-header", "dataplane/core/own.cc", LICENCE + "#include <vector>\n"),
    ("tokens", "volatile", "dataplane/core/a.cc", LICENCE + "volatile int a;\n"),
    ("tokens", "process-exit", "dataplane/dpdk/a.cc", LICENCE + 'void f() { rte_panic("x"); }\n'),
    ("tokens", "using-namespace", "dataplane/core/a.cc", LICENCE + "using namespace std;\n"),
    ("tokens", "using-namespace", "dataplane/core/a.h", HEADER + "using namespace core;\n"),
    ("tokens", "printing", "controlplane/net/a.cc", LICENCE + 'void f() { printf("x"); }\n'),
    ("tokens", "printing", "controlplane/net/a.cc", LICENCE + 'void f() { std::cerr << "x"; }\n'),
    ("tokens", "throw", "controlplane/net/a.cc", LICENCE + "void f() { throw 1; }\n"),
    ("tokens", "sleep-in-test", "tests/unit/core/a_test.cc", LICENCE + "void f() { usleep(9); }\n"),
    (
        "tokens",
        "hot-memory",
        "dataplane/core/a.h",
        HOT_HEADER + "inline auto f() { return new int; }\n",
    ),
    ("tokens", "hot-indirection", "dataplane/core/a.h", HOT_HEADER + "std::function<int()> f;\n"),
    ("tokens", "hot-lock", "dataplane/core/a.h", HOT_HEADER + "std::mutex m;\n"),
    ("tokens", "hot-clock", "dataplane/core/a.h", HOT_HEADER + "std::chrono::seconds s;\n"),
    ("tokens", "todo", "dataplane/core/a.cc", LICENCE + "// TODO: later\n"),
    ("tokens", "todo", "dataplane/core/a.cc", LICENCE + "// FIXME(me, 7): later\n"),
    ("tokens", "nolint", "dataplane/core/a.cc", LICENCE + "int a;  // NOLINT\n"),
    ("tokens", "nolint", "dataplane/core/a.cc", LICENCE + "int a;  // NOLINT(bugprone-x)\n"),
    ("tokens", "ifdef", "dataplane/core/a.cc", LICENCE + "#ifdef FAST_PATH\n#endif\n"),
    ("tokens", "ifdef", "dataplane/core/a.h", HEADER + "#if defined(__AVX2__)\n#endif\n"),
    ("tokens", "macro", "dataplane/core/a.cc", LICENCE + "#define MAX(a, b) (a)\n"),
    ("python-tokens", "todo", "tests/e2e/a.py", PYTHON + "# TODO: later\n"),
    ("python-tokens", "shell", "deploy/a.sh", "#!/bin/bash\necho\n"),
    ("links", "link", "README.md", "[a](no/such/file.md)\n"),
    ("links", "link", "README.md", "# One\n[a](#two)\n"),
    ("columns", "columns", "README.md", "words " * 20 + "\n"),
    ("references", "reference", "dataplane/core/a.h", HEADER + '// As README.md, "Two" says.\n'),
    ("references", "reference", "dataplane/core/a.h", HEADER + '// deploy/a.md,\n// "B"\n'),
    ("changelog", "changelog", "CHANGELOG.md", "# Changes\n\nsome\n"),
    ("changelog", "changelog", "CHANGELOG.md", "# Changes\n\n## Unreleased\n\n### Fun\n"),
    ("changelog", "changelog", "CHANGELOG.md", "# Changes\n\n## yesterday\n"),
    ("faults", "faults", "tests/FAULTS.md", "| 1 | runt | `packets/none.packets` | holds |\n"),
    ("faults", "faults", "tests/unit/core/a_test.cc", LICENCE + "TEST(A, fault_09_x_is_y) {}\n"),
    ("permissions", "permissions", "deploy/a", BASH),
    ("workplace", "workplace", "README.md", "Clone into /home/" + "me/millrace.\n"),
    ("workplace", "workplace", "deploy/a.sh", BASH + "curl https://pypi" + ".org/x\n"),
    ("shell-syntax", "shell", "deploy/a.sh", BASH + "if true\n"),
    ("cxx-format", "cxx-format", "dataplane/core/a.cc", LICENCE + "int   a;\n"),
    ("python-format", "python-format", "tests/e2e/a.py", PYTHON + "a = {  }\n"),
    ("python-types", "python-types", "tests/e2e/a.py", PYTHON + "def f(a):\n    return a\n"),
    ("self-contained", "self-contained", "dataplane/core/a.h", HEADER + "inline std::size_t a;\n"),
]

# Each of these looks like a violation and is none.
CLEAN = [
    ("dataplane/core/a.h", HOT_HEADER + "// No new flow without a mutex or a volatile word.\n"),
    ("dataplane/core/a.h", HEADER + "class A {\n  A(const A&) = delete;\n};\n"),
    ("dataplane/core/a.cc", LICENCE + 'const char* a = "#ifdef volatile printf(";\n'),
    ("dataplane/core/a.cc", LICENCE + "int a = 1'000'000;  // it's new\nint b = 2'000;\n"),
    ("dataplane/core/a.cc", LICENCE + "// TODO(ana, roadmap 4): later\n"),
    ("dataplane/core/a.cc", LICENCE + "int a;  // NOLINT(bugprone-x): the name is the wire's\n"),
    ("dataplane/core/own.cc", LICENCE + '#include "dataplane/core/own.h"\n\n#include <vector>\n'),
    ("controlplane/net/a.cc", LICENCE + 'int f() { return std::snprintf(nullptr, 0, ""); }\n'),
    ("controlplane/cli/a.cc", LICENCE + 'void f() { std::printf("x"); }\n'),
    ("dataplane/core/a.cc", LICENCE + "using namespace std::literals;\n"),
    ("dataplane/core/a.cc", LICENCE + "#ifdef __cplusplus\n#endif\n"),
    ("CHANGELOG.md", "# Changes\n\n## Unreleased (0.1.0)\n"),
    ("CHANGELOG.md", "# Changes\n\n## Unreleased\n\n### Performance\n\n- Faster.\n"),
    ("README.md", "| " + "words " * 20 + "|\n\n    " + "words " * 20 + "\n"),
    ("README.md", "[a](#b)" + "`words " + "words " * 20 + "`\n# b\n"),
    ("README.md", "# One two\n[a](#one-two) [b](https://example.org/) [c](README.md)\n"),
]


def tree_with(root: Path, path: str, text: str) -> Tree:
    """A tree of its own with what planted files lean on, and one file more."""
    for other in ("controlplane/model/m.h", "controlplane/api/s.h", "dataplane/worker/w.h"):
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_text(HEADER)
    for other in ("dataplane/dpdk/d.h", "dataplane/core/own.h"):
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_text(HEADER)
    (root / "tests").mkdir(exist_ok=True)
    (root / "tests/FAULTS.md").write_text("| 8 | cut short | | not yet |\n")
    (root / ".clang-format").write_text("BasedOnStyle: Google\nColumnLimit: 100\n")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return Tree(root)


@pytest.mark.parametrize(("check", "rule", "path", "text"), PLANTED)
def test_planted_violation_is_found(
    tmp_path: Path, check: str, rule: str, path: str, text: str
) -> None:
    found = run(tree_with(tmp_path, path, text), [check])
    assert {(finding.path, finding.rule) for finding in found} == {(path, rule)}


@pytest.mark.parametrize(("path", "text"), CLEAN)
def test_clean_file_is_left_alone(tmp_path: Path, path: str, text: str) -> None:
    without_tools = [n for n in CHECKS if n not in ("cxx-format", "self-contained")]
    assert run(tree_with(tmp_path, path, text), without_tools) == []


def test_source_that_no_target_compiles_is_found(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "dataplane/core/used.cc", LICENCE + "int main() { return 0; }\n")
    (tmp_path / "dataplane/core/unused.cc").write_text(LICENCE + "int a;\n")
    (tmp_path / "meson.build").write_text(
        "project('planted', 'cpp')\nexecutable('used', 'dataplane/core/used.cc')\n"
    )
    tree.build = tmp_path / "build"
    subprocess.run(["meson", "setup", "build"], cwd=tmp_path, check=True, capture_output=True)
    found = run(tree, ["compiled"])
    assert [(finding.path, finding.rule) for finding in found] == [
        ("dataplane/core/unused.cc", "not-compiled")
    ]


def test_clang_tidy_findings_are_reported(tmp_path: Path) -> None:
    # One without a proposed change: until the first of those paths are relative to the build.
    text = LICENCE + "bool f(int a) { return a == a; }\n"
    tree = tree_with(tmp_path, "dataplane/core/a.cc", text)
    (tmp_path / ".clang-tidy").write_text("Checks: 'misc-redundant-expression'\n")
    tree.build = tmp_path / "build"
    tree.build.mkdir()
    command = {
        "directory": str(tree.build),
        "file": "../dataplane/core/a.cc",
        "command": "c++ -c ../dataplane/core/a.cc",
    }
    (tree.build / "compile_commands.json").write_text(json.dumps([command]))
    found = run(tree, ["clang-tidy"])
    assert {finding.path for finding in found} == {"dataplane/core/a.cc"}


def test_every_check_has_a_planted_violation() -> None:
    planted = {check for check, *_ in PLANTED} | {"compiled", "clang-tidy"}
    assert planted == set(CHECKS)


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:], __file__]))

# SPDX-License-Identifier: Apache-2.0
"""Which folder may include what (ARCHITECTURE.md, "The tree")."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree import Finding, Include, SourceFile, Tree, is_c_subset

# Folder -> project folders that its files may include besides themselves. The first match of the
# longest prefix counts. Nothing under dataplane includes controlplane; the control plane reaches an
# engine only through contract, rules, core, os and shm.
LAYERS: dict[str, tuple[str, ...]] = {
    "dataplane/contract": (),
    "dataplane/rules": ("dataplane/contract",),
    "dataplane/core": ("dataplane/contract", "dataplane/rules"),
    "dataplane/os": ("dataplane/contract", "dataplane/rules", "dataplane/core"),
    "dataplane/shm": ("dataplane/contract", "dataplane/rules", "dataplane/core", "dataplane/os"),
    "dataplane/dpdk": ("dataplane/contract", "dataplane/rules", "dataplane/core"),
    "dataplane/worker": (
        "dataplane/contract",
        "dataplane/rules",
        "dataplane/core",
        "dataplane/os",
        "dataplane/shm",
        "dataplane/dpdk",
    ),
    "dataplane/program": ("dataplane/core",),
    "dataplane": ("dataplane",),
    "controlplane/model": ("dataplane/contract", "dataplane/rules", "dataplane/core"),
    "controlplane/lookup": (),
    "controlplane/yaml": ("controlplane/model",),
    "controlplane/config": ("controlplane/model", "controlplane/yaml"),
    "controlplane/store": ("controlplane/model",),
    "controlplane/publish": ("controlplane/model",),
    "controlplane/health": ("controlplane/model",),
    "controlplane/net": ("controlplane/model",),
    "controlplane/reconcile": (
        "controlplane/model",
        "controlplane/config",
        "controlplane/lookup",
        "controlplane/store",
        "controlplane/publish",
        "controlplane/health",
        "controlplane/net",
    ),
    "controlplane/api": (
        "controlplane/model",
        "controlplane/yaml",
        "controlplane/config",
        "controlplane/reconcile",
    ),
    "controlplane/http": (),
    "controlplane/telemetry": ("controlplane/model", "controlplane/reconcile", "controlplane/http"),
    "controlplane/cli": (
        "controlplane/model",
        "controlplane/yaml",
        "controlplane/config",
        "controlplane/api",
    ),
    "controlplane/daemon": (
        "controlplane/model",
        "controlplane/config",
        "controlplane/store",
        "controlplane/health",
        "controlplane/net",
        "controlplane/reconcile",
        "controlplane/api",
        "controlplane/telemetry",
    ),
    "controlplane": ("controlplane", "dataplane/program"),  # main.cc alone
    "bpf/engine": (
        "dataplane/contract",
        "dataplane/rules",
        "dataplane/core",
        "dataplane/os",
        "dataplane/shm",
        "dataplane/program",
        "bpf",
    ),
    "bpf": ("dataplane/contract", "dataplane/rules"),
    "bench": ("dataplane", "controlplane", "bpf", "tests/support"),
    "deploy/lab": (),
    "tests": ("dataplane", "controlplane", "bpf", "bench"),
}
# What every folder of the control plane may include besides its own list.
CONTROLPLANE_BASE = (
    "dataplane/contract",
    "dataplane/rules",
    "dataplane/core",
    "dataplane/os",
    "dataplane/shm",
)

# Library header -> folders that wrap the library; nobody else includes it.
WRAPPED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"rte_", ("dataplane/dpdk", "tests/unit/dpdk", "tests/integration/dpdk")),
    (r"(bpf|xdp)/", ("bpf", "deploy/lab", "tests/support/bpf", "tests/integration/bpf")),
    (
        r"linux/bpf\.h",
        ("bpf", "dataplane/os", "deploy/lab", "tests/support/bpf", "tests/integration/bpf"),
    ),
    (r"linux/if_xdp\.h", ("bpf", "dataplane/dpdk")),  # AF_XDP's sockets say what they dropped
    (r"yaml-cpp/", ("controlplane/yaml", "controlplane/config/dump")),
    (r"sqlite3", ("controlplane/store", "tests/unit/store")),
    (r"prometheus/", ("controlplane/telemetry", "tests/unit/telemetry")),
    (r"libmnl/", ("controlplane/net", "tests/unit/net")),
    (
        r"spdlog/",
        (
            "dataplane/dpdk",
            "dataplane/worker",
            "dataplane/program",
            "dataplane/main.cc",
            "bpf/engine",
            "controlplane",
            "tests/unit/program",
        ),
    ),
    (
        r"boost/",
        (
            "controlplane",
            "dataplane/main.cc",
            "dataplane/program",
            "dataplane/worker",
            "bpf/engine/main.cc",
            "tests",
            "bench",
        ),
    ),
    (r"(gtest|gmock|rapidcheck)", ("tests",)),
    (r"benchmark/", ("bench",)),
)

# core is pure: no system calls, clocks, threads, files or streams.
CORE_FORBIDDEN = re.compile(
    r"(sys|linux|net|netinet|arpa|asm)/|(unistd|fcntl|time|stdio|signal|pthread|poll|errno)\.h"
    r"|(thread|mutex|shared_mutex|condition_variable|future|chrono|ctime|cstdio|iostream|fstream"
    r"|sstream|filesystem|random|functional|memory_resource)$"
)
C_SUBSET_SYSTEM = {"stdbool.h", "stdint.h", "stddef.h"}


def _layer_of(path: str) -> str | None:
    fitting = [layer for layer in LAYERS if path.startswith(layer + "/")]
    return max(fitting, key=len) if fitting else None


def _is_under(path: str, folders: tuple[str, ...]) -> bool:
    """True for the folder itself, what is in it, and names that go on, as in dpdk_ring_test.cc."""
    return any(
        path == folder or path.startswith((folder + "/", folder + "_", folder + "."))
        for folder in folders
    )


def _allowed(layer: str) -> tuple[str, ...]:
    base = CONTROLPLANE_BASE if layer.startswith("controlplane") else ()
    return (layer, *LAYERS[layer], *base)


def _check_project_include(file: SourceFile, layer: str, include: Include) -> Iterator[Finding]:
    if "/" not in include.target or include.target.startswith("."):
        yield file.finding(
            include.line, "include-root", f'write "{include.target}" from the root of the tree'
        )
    elif not (file.root / include.target).is_file():
        yield file.finding(include.line, "include-exists", f'"{include.target}" does not exist')
    elif not any(include.target.startswith(folder + "/") for folder in _allowed(layer)):
        yield file.finding(include.line, "layer", f'{layer} must not include "{include.target}"')


def _check_c_subset(file: SourceFile) -> Iterator[Finding]:
    names = ", ".join(sorted(C_SUBSET_SYSTEM))
    for include in file.includes:
        is_own = is_c_subset(include.target)
        if not (is_own or (include.is_system and include.target in C_SUBSET_SYSTEM)):
            yield file.finding(
                include.line,
                "c-subset",
                f"{include.target}: a C-subset header includes {names} and its kind",
            )
    if "#pragma once" in file.code:
        yield file.finding(1, "c-subset", "a C-subset header has include guards")


def _check_system_include(file: SourceFile, include: Include) -> Iterator[Finding]:
    for pattern, folders in WRAPPED:
        if re.match(pattern, include.target) and not _is_under(file.path, folders):
            yield file.finding(
                include.line,
                "wrapped-library",
                f"<{include.target}> belongs behind {' or '.join(folders[:1])}",
            )
    if file.path.startswith("dataplane/core/") and CORE_FORBIDDEN.match(include.target):
        yield file.finding(
            include.line,
            "core-is-pure",
            f"<{include.target}>: core has no system calls, clocks, threads or streams",
        )


def check_layers(tree: Tree) -> Iterator[Finding]:
    """Include edges between folders, library wrappers, purity of core, the C subset."""
    for file in tree.cxx:
        layer = _layer_of(file.path)
        if layer is None:
            yield file.finding(1, "tree", "this folder has no layer in tests/lint/check_layers.py")
            continue
        for include in file.includes:
            if include.is_system:
                yield from _check_system_include(file, include)
            else:
                yield from _check_project_include(file, layer, include)
        if file.is_c_subset:
            yield from _check_c_subset(file)


def check_rte_tokens(tree: Tree) -> Iterator[Finding]:
    """DPDK's names stay in its folder even where a header would let them through."""
    folders = WRAPPED[0][1]
    for file in tree.cxx:
        if _is_under(file.path, folders):
            continue
        for match in re.finditer(r"\b(rte|RTE)_\w+", file.code):
            yield file.finding(
                file.line_at(match.start()),
                "wrapped-library",
                f"{match.group()} outside dataplane/dpdk",
            )

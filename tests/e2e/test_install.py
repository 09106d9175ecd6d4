# SPDX-License-Identifier: Apache-2.0
"""What `meson install` puts in place: programs, units, settings and documents."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.node import REPOSITORY, build_directory
from lab.process import run

DEPLOY = REPOSITORY / "deploy"
DOCUMENTS = Path("usr/local/share/doc/millrace")
UNITS = ("millrace-controlplane", "millrace-dataplane", "millrace-xdp")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    build = build_directory()
    run(["meson", "install", "-C", build, "--destdir", root, "--no-rebuild"], timeout_s=60)
    return root


def test_install_puts_programs_units_and_documents_in_place(installed: Path) -> None:
    prefix = installed / "usr" / "local"
    engines = ("sbin/millrace-dataplane", "sbin/millrace-xdp")
    for name in ("bin/millrace", "bin/millrace-controlplane", *engines):
        assert (prefix / name).is_file()
    for name in ("millrace-dataplane", "millrace-xdp", "millrace-controlplane"):
        unit = (units(installed) / f"{name}.service").read_text()
        assert not re.search(r"@\w+@", unit)
    assert (prefix / "share" / "doc" / "millrace" / "runbook.md").is_file()


SOURCE_FOLDERS = "bench|bpf|controlplane|dataplane|deploy|tests"


def texts_for_operators(installed: Path) -> Iterator[tuple[str, str]]:
    """What somebody reads who has no source: documents, examples, scripts, and what programs say,
    which are the literals of their sources without those of includes."""
    for path in sorted((installed / DOCUMENTS).rglob("*")):
        if path.is_file():
            yield str(path), path.read_text()
    for name in ("host-setup", "host-setup-pci", "host-check"):
        yield name, (DEPLOY / name).read_text()
    for unit in UNITS:
        yield unit, (units(installed) / f"{unit}.service").read_text()
    for folder in ("bpf", "controlplane", "dataplane"):
        for path in sorted((REPOSITORY / folder).rglob("*.cc")):
            lines = [line for line in path.read_text().splitlines() if line[:8] != "#include"]
            # One literal goes on in the next line; a raw one has lines of its own.
            said = re.findall(r'"((?:[^"\\\n]|\\.)*)"', "\n".join(lines))
            raw = re.findall(r'R"\((.*?)\)"', "\n".join(lines), re.DOTALL)
            yield str(path), "".join(said) + "\n" + "\n".join(raw)


def pointers_in(text: str) -> Iterator[str]:
    """Files that it names: of the source's folders, documents, what is beside them, and paths.
    Those "of the source" are meant to be looked for there."""
    patterns = (
        rf"(?<![\w/.-])(?:{SOURCE_FOLDERS})/[\w./-]*\w",
        r"(?<![\w/.*-])(?:[\w/-]*\w\.md|README|(?:alerts|dashboards)/[\w.]+)\b",
        r"/usr/local/[\w./-]*\w",
    )
    for pattern in patterns:
        for match in re.finditer(pattern, text):
            if not text[match.end() :].lstrip("`").startswith(" of the source"):
                yield match[0]


def test_whatever_operators_are_pointed_to_is_installed(installed: Path) -> None:
    documents = installed / DOCUMENTS
    wrong = [
        f"{place}: {name}"
        for place, text in texts_for_operators(installed)
        for name in pointers_in(text)
        if not (installed / name.lstrip("/") if name[0] == "/" else documents / name).exists()
    ]
    assert wrong == []


def test_install_leaves_settings_alone_that_somebody_edited(installed: Path) -> None:
    etc = installed / "etc" / "millrace"
    examples = installed / "usr" / "local" / "share" / "doc" / "millrace" / "examples"
    names = {"controlplane.env", "dataplane.env", "xdp.env"}
    assert {path.name for path in etc.iterdir()} == names
    for name in ("dataplane.env", "xdp.env"):
        text = (etc / name).read_text()
        assert text == (examples / name).read_text()
        assert "\nNIC=\n" in text, "no interface is taken that nobody has named"
    (etc / "xdp.env").write_text("NIC=eth7\n")
    (etc / "dataplane.env").unlink()
    build = build_directory()
    run(["meson", "install", "-C", build, "--destdir", installed, "--no-rebuild"], timeout_s=60)
    assert (etc / "xdp.env").read_text() == "NIC=eth7\n"
    assert {path.name for path in etc.iterdir()} == names


def test_unit_gives_what_root_left_to_the_group(tmp_path: Path) -> None:
    """What its tmpfiles settings do before each start, here with a root directory of their own."""
    user, group = 54321, 54322
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text(f"millrace:x:{group}:\n")
    passwd = f"root:x:0:0::/:/bin/sh\nmillrace:x:{user}:{group}::/:/bin/sh\n"
    (tmp_path / "etc" / "passwd").write_text(passwd)
    runtime = tmp_path / "run" / "millrace"
    (runtime / "flows").mkdir(parents=True)
    left = [runtime / name for name in ("controlplane.lock", "stats", "flows/flows.0")]
    for path in left:
        path.touch(mode=0o640)
    state = tmp_path / "var" / "lib" / "millrace"
    state.mkdir(parents=True, mode=0o750)
    os.chown(state, user, group)
    store = state / "state.db"
    store.touch()
    store.chmod(0o660)
    elsewhere = tmp_path / "secret"
    elsewhere.touch(mode=0o600)
    (state / "link").symlink_to(elsewhere)
    settings = DEPLOY / "systemd" / "millrace.tmpfiles"
    run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", settings])
    assert {path.stat().st_gid for path in (*left, runtime, runtime / "flows")} == {group}
    modes = [path.stat().st_mode & 0o7777 for path in left]
    assert modes == [0o660, 0o640, 0o640], "none but a lock may be written to"
    (runtime / "later").touch()
    assert (runtime / "later").stat().st_gid == group
    found = store.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (user, group, 0o640)
    assert state.stat().st_mode & 0o7777 == 0o750
    assert (elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o7777) == (0, 0o600)


def units(installed: Path) -> Path:
    return installed / "usr" / "local" / "lib" / "systemd" / "system"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    # Beside ours, the root holds what every Debian has: the base units, and what we call of it.
    shutil.copytree("/lib/systemd/system", installed / "lib" / "systemd" / "system", symlinks=True)
    for program in ("sh", "systemd-tmpfiles"):
        for folder in (installed / "bin", installed / "usr" / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(f"/bin/{program}", folder / program)
    for unit in sorted(units(installed).glob("*.service")):
        words = ["systemd-analyze", "verify", "--man=no", f"--root={installed}", unit.name]
        done = run(words, check=False)
        own = [line for line in (done.stdout + done.stderr).splitlines() if "millrace" in line]
        assert own == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_calls_the_exposure_of_the_units_no_more_than_medium(installed: Path) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=45"]
    for unit in UNITS:
        done = run([*words, units(installed) / f"{unit}.service"], check=False)
        assert done.returncode == 0, done.stdout[-300:]

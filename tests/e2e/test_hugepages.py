# SPDX-License-Identifier: Apache-2.0
"""What host-setup reserves of huge pages, and what host-check says of them, on machines that this
one is not: /sys in a mount namespace."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess

from lab.node import REPOSITORY
from lab.process import run

DEPLOY = REPOSITORY / "deploy"


def test_host_check_knows_that_huge_pages_are_the_engine_s_that_runs() -> None:
    """Its own take most of them, as "Sizing" has it."""
    script = """
        mount -t tmpfs none /run; mkdir /run/millrace
        pages=/sys/kernel/mm/hugepages
        mount -t tmpfs none $pages; mkdir $pages/hugepages-2048kB
        echo 256 >$pages/hugepages-2048kB/nr_hugepages
        echo 9 >$pages/hugepages-2048kB/free_hugepages
        "$0"
        echo $$ >/run/millrace/dataplane.lock; echo millrace-dataplane >/proc/$$/comm
        "$0"
        echo bash >/proc/$$/comm
        "$0"
    """
    words = ["unshare", "--mount", "bash", "-c", script, f"{DEPLOY}/host-check"]
    lines = re.findall(r"^.*\bhugepages  .*$", run(words, check=False).stdout, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["LACKS", "ok", "LACKS"], lines
    assert "9 of 256 free beside the engine that runs" in lines[1]


def test_host_check_wants_pages_for_flows_beside_those_of_1_gib() -> None:
    """Packets take these, but flows those of the mount."""
    script = """
        pages=/sys/kernel/mm/hugepages
        mount -t tmpfs none $pages; mkdir $pages/hugepages-2048kB $pages/hugepages-1048576kB
        echo 1 >$pages/hugepages-1048576kB/free_hugepages
        mkdir --parents /dev/hugepages; mount -t hugetlbfs -o pagesize=2M none /dev/hugepages
        for count in 0 64; do
          echo $count | tee $pages/hugepages-2048kB/{nr,free}_hugepages >/dev/null
          "$0"
        done
    """
    words = ["unshare", "--mount", "bash", "-c", script, f"{DEPLOY}/host-check"]
    lines = re.findall(r"^.*\bhugepages  .*$", run(words, check=False).stdout, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["LACKS", "ok"], lines
    assert "1 free (1 GiB each), 64 of 64 free (2 MiB each)" in lines[1], lines


def test_huge_pages_are_those_of_2_mib_whatever_the_machines_default_is(tmp_path: Path) -> None:
    """A machine that was booted with default_hugepagesz=1G, in a mount namespace."""
    sizes = {"2048kB": 200, "1048576kB": 0}
    default = tmp_path / "default"
    default.write_text("4\n")
    script = f"""set -e
mount --bind {default} /proc/sys/vm/nr_hugepages
mount -t tmpfs none /sys/kernel/mm/hugepages
cd /sys/kernel/mm/hugepages
""" + "".join(
        f"mkdir hugepages-{size}; echo {count} | tee hugepages-{size}/nr_hugepages"
        f" >hugepages-{size}/free_hugepages\n"
        for size, count in sizes.items()
    )
    check = f"{DEPLOY}/host-check || true"
    grow = f"{DEPLOY}/host-setup hugepages 300; cat hugepages-2048kB/nr_hugepages"
    said = run(["unshare", "--mount", "sh", "-c", f"{script}{check}\n{grow}"]).stdout
    assert "200 of 200 free (2 MiB each)" in said, said
    assert said.endswith("\n300\n"), said
    assert default.read_text() == "4\n"


def test_huge_pages_that_do_not_suffice_are_given_back() -> None:
    """A number with a digit too many would leave the machine without memory."""
    script = """
        pages=/sys/kernel/mm/hugepages
        mount -t tmpfs none $pages; mkdir $pages/hugepages-2048kB
        builtin echo 200 >$pages/hugepages-2048kB/nr_hugepages
        echo() { [[ $1 != 99999 ]] && builtin echo "$@" || builtin echo 300; }  # all that it has
        export -f echo
        "$0" hugepages 99999
        cat $pages/hugepages-2048kB/nr_hugepages
    """
    done = run(["unshare", "--mount", "bash", "-c", script, f"{DEPLOY}/host-setup"])
    assert "asked for 99999 hugepages, the kernel gave 300" in done.stderr, done
    assert done.stdout == "200\n", done


def on_two_nodes(with_memory: tuple[int, ...], script: str) -> CompletedProcess[str]:
    """A machine with a NIC at each of two nodes, in a mount namespace. `show` prints the pages of
    the nodes and of all."""
    machine = f"""set -e
for folder in /sys/kernel/mm/hugepages /sys/devices/system/node /sys/bus/pci/devices; do
  mount -t tmpfs none $folder
done
cd /sys/devices/system/node; mkdir node0 node1; mkdir /sys/kernel/mm/hugepages/hugepages-2048kB
for node in {' '.join(map(str, with_memory))}; do
  mkdir -p node$node/hugepages/hugepages-2048kB
done
for pages in node*/hugepages /sys/kernel/mm/hugepages; do
  [ ! -d $pages ] || echo 10 >$pages/hugepages-2048kB/nr_hugepages
done
for node in 0 1; do
  mkdir /sys/bus/pci/devices/0000:0$node:00.0
  echo $node >/sys/bus/pci/devices/0000:0$node:00.0/numa_node
done
show() {{ cat node*/hugepages/*/nr_hugepages /sys/kernel/mm/hugepages/*/nr_hugepages; }}
"""
    return run(["unshare", "--mount", "sh", "-c", machine + script])


def test_huge_pages_are_of_the_nics_node_and_of_others_where_that_has_no_memory() -> None:
    done = on_two_nodes(
        (0,),
        f"""
{DEPLOY}/host-setup hugepages 30 0000:00:00.0 0000:01:00.0; show
{DEPLOY}/host-setup hugepages 20 0000:01:00.0 0000:00:00.0; show
""",
    )
    assert done.stdout.split() == ["30", "10", "30", "20"], done
    assert done.stderr.count("NUMA node 1, where 0000:01:00.0 is, has no memory") == 1, done


def test_each_member_of_a_bond_has_huge_pages_on_its_own_node() -> None:
    """DPDK's bonding driver takes no others."""
    bond = "bond:0000:00:00.0,0000:01:00.0"
    done = on_two_nodes((0, 1), f"{DEPLOY}/host-setup hugepages 30 {bond}; show")
    assert done.stdout.split() == ["30", "30", "10"], done
    done = on_two_nodes((0,), f"{DEPLOY}/host-setup hugepages 30 0000:00:00.0 {bond}; show")
    assert done.stdout.split() == ["30", "10"], done
    assert "NUMA node 1, where 0000:01:00.0 is, has no memory for 30" in done.stderr, done

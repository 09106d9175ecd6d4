# SPDX-License-Identifier: Apache-2.0
"""README's first steps on a PCI NIC, word by word, with and without an IOMMU."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from lab.addresses import NODE_CLIENT_V4
from lab.configs import standard
from lab.node import REPOSITORY
from lab.process import wait_until
from lab.traffic import ping
from vm import Kernel
from vm.nic import E1000E
from vm.node import LAYOUT, TWIN, GuestNode, installed_node

HEADING = "## First steps on a PCI NIC\n"
# Names of README's example.
INTERFACE, PCI_ADDRESS, MAC = "eth1", "0000:3b:00.0", "02:00:00:00:00:01"


def steps(names: Mapping[str, str]) -> list[list[str]]:
    """The lines of each step's block, without comments, and with these names for README's."""
    section = (REPOSITORY / "README.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    for ours, theirs in names.items():
        section = section.replace(ours, theirs)
    found = []
    for step in re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]:
        block = re.findall(r"^ {7}(\S.*)$", step, re.MULTILINE)
        found.append([line.partition("  #")[0].partition("   ")[0].strip() for line in block])
    return found


def run(node: GuestNode, line: str) -> str:
    said: str = node.run(["bash", "-ec", line], timeout_s=100).stdout
    return said


def assert_stays_the_kernels(node: GuestNode, address: str, holder: str) -> None:
    """Because `holder` has addresses."""
    refused = node.run(["deploy/host-setup", "bind", address], check=False)
    assert refused.returncode == 1
    assert f"(ip address flush dev {holder} scope global)" in refused.stderr, refused


@pytest.mark.parametrize("with_iommu", [False, True])
def test_first_steps_lead_there_and_back(with_iommu: bool) -> None:
    with installed_node(Kernel.find(), LAYOUT, [E1000E], with_iommu=with_iommu) as (lab, node):
        address, mac = E1000E.pci_address(0), E1000E.mac(0)
        interface = node.interface_of(address)
        find, settings, start, undo = steps({INTERFACE: interface, PCI_ADDRESS: address, MAC: mac})
        node.give_addresses(interface)

        listed, path, checked = [run(node, f"{line} || true") for line in find]
        assert interface in listed and mac in listed
        assert path.strip().endswith(address)
        assert ("vfio-pci" if with_iommu else "uio_pci_generic") in checked, checked

        assert_stays_the_kernels(node, address, interface)

        node.write_config(standard(members=(1, 2)), "dpdk")
        values = dict(line.split("=", 1) for line in settings)
        node.write_environment(
            "millrace-dataplane", {**node.environment("millrace-dataplane"), **values}
        )
        for line in start:
            run(node, line)
            if TWIN in line and "address" in line:
                node.give_addresses(TWIN)
        node.wait_forwarding()
        lab.assert_served()
        assert node.alarms() == []

        refused = node.run(["deploy/host-setup", "release", address], check=False)
        assert refused.returncode == 1
        user = f"{address} is in use by process {node.main_pid('millrace-dataplane')} "
        assert user in refused.stderr
        lab.assert_served()

        for line in undo:
            run(node, line)
        assert node.driver_of(address) == E1000E.module
        wait_until(
            lambda: ping(lab.client, NODE_CLIENT_V4, count=1) == 1, "eth1 is back", timeout_s=10
        )


def test_nic_below_what_has_addresses_stays_the_kernels() -> None:
    """A bond's member, or with a VLAN on it: that would go with the NIC."""
    with installed_node(Kernel.find(), LAYOUT, [E1000E]) as (_, node):
        address = E1000E.pci_address(0)
        interface = node.interface_of(address)
        run(node, "modprobe bonding max_bonds=0; ip link add bond0 type bond mode active-backup")
        run(node, f"ip link set {interface} master bond0")
        run(node, "ip link add link bond0 name bond0.9 type vlan id 9")
        run(node, "ip address add 192.0.9.1/24 dev bond0.9")
        assert_stays_the_kernels(node, address, "bond0.9")
        run(node, "ip link delete bond0")
        node.host_setup("bind", address)

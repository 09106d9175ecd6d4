# SPDX-License-Identifier: Apache-2.0
"""What host-setup does to NICs of the PCI bus and their users, on machines that this one is not:
/sys and /dev in a mount namespace, interfaces in a network namespace."""

from __future__ import annotations

from subprocess import CompletedProcess

import pytest
from lab.node import REPOSITORY
from lab.process import run

SETUP = REPOSITORY / "deploy" / "host-setup"
ADDRESS = "0000:3b:00.0"
DEVICE = f"/sys/bus/pci/devices/{ADDRESS}"


def refusal(holder: str) -> str:
    """What is said of eth1, since `holder` has addresses."""
    return (
        f"host-setup: eth1 ({ADDRESS}) stays the kernel's, since {holder} still has addresses: note"
        f" them and the routes for the twin, take them off (ip address flush dev {holder} scope"
        " global) and out of the files that set them at boot\n"
    )


def on_a_machine(script: str) -> CompletedProcess[str]:
    """That has one NIC, which a driver of the kernel's has, and drivers that take it."""
    machine = f"""set -e
mount -t sysfs none /sys
mount -t tmpfs none /sys/bus/pci
mkdir -p {DEVICE} /sys/bus/pci/drivers/{{e1000e,uio_pci_generic}}
echo 0x020000 >{DEVICE}/class
use() {{ ln --symbolic --force --no-dereference /sys/bus/pci/drivers/$1 {DEVICE}/driver; }}
use e1000e
"""
    return run(["unshare", "--mount", "--net", "bash", "-c", machine + script], check=False)


@pytest.mark.parametrize("folder", ["net", "virtio3/net"])
def test_nic_with_addresses_stays_the_kernels(folder: str) -> None:
    """Those of a virtio NIC are an interface of a device of its own."""
    done = on_a_machine(
        f"""
mkdir -p {DEVICE}/{folder}/eth1; echo 02:00:00:00:00:07 >{DEVICE}/{folder}/eth1/address
ip link add eth1 type veth peer name other
{SETUP} bind {ADDRESS} || true  # nobody probes it here
echo ---; rm {DEVICE}/driver_override
ip address add 192.0.2.9/24 dev eth1
{SETUP} bind {ADDRESS} || true
ls {DEVICE}
"""
    )
    assert "driver_override" not in done.stdout, done
    free, given, rest = done.stderr.partition("host-setup: eth1 (")
    assert "its MAC address, for NIC_OR_MAC, is 02:00:00:00:00:07" in free, done
    assert given + rest == refusal("eth1"), done


def test_nic_under_a_bridge_with_addresses_stays_the_kernels() -> None:
    """As under a bond or a VLAN: these would go with it."""
    done = on_a_machine(
        f"""
mkdir -p {DEVICE}/net/eth1; echo 02:00:00:00:00:07 >{DEVICE}/net/eth1/address
ip link add eth1 type veth peer name other
ip link add br0 type bridge
ip link set eth1 master br0
ip address add 192.0.2.9/24 dev br0
{SETUP} bind {ADDRESS} || true
ls {DEVICE}
"""
    )
    assert "driver_override" not in done.stdout, done
    assert done.stderr == refusal("br0"), done


def test_bond_goes_on_without_a_nic_that_is_gone() -> None:
    """One that broke, as after a reboot; but a single NIC is waited for."""
    bond = f"bond:0000:3b:00.1,{ADDRESS}"
    done = on_a_machine(
        f"""
mkdir {DEVICE}/net
{SETUP} await {bond}
{SETUP} bind {bond} || true  # nobody probes it here
{SETUP} await 0000:3b:00.1 & sleep 1; kill $!
"""
    )
    said = "there is still no NIC '0000:3b:00.1'"
    assert done.stdout.count("waiting for the NIC '0000:3b:00.1'") == 2, done
    assert done.stderr.count(said) == 1 and f"{bond} goes on without" in done.stderr, done
    assert f"uio_pci_generic does not take {ADDRESS}" in done.stderr, done
    assert "0000:3b:00.1" not in done.stderr.replace(said, "").replace(bond, "").replace(
        "(/sys/bus/pci/devices/0000:3b:00.1)", ""
    ), done


def test_nic_that_shares_its_iommu_group_with_the_kernel_is_told_of() -> None:
    """vfio-pci gives DPDK a group as a whole."""
    group = "/sys/bus/pci/group/devices"
    done = on_a_machine(
        f"""
mkdir -p {group} /sys/bus/pci/drivers/vfio-pci; ln -s {group}/.. {DEVICE}/iommu_group
use vfio-pci
for other in 0000:3a:00.0:0x060400 0000:3b:00.1:0x020000 0000:3b:00.2:0x020000; do
  device=/sys/bus/pci/devices/${{other%:*}}
  mkdir $device; echo ${{other##*:}} >$device/class; ln -s $device {group}
done
ln -s {DEVICE} {group}
for busy in 0000:3a:00.0 0000:3b:00.2; do
  ln -s /sys/bus/pci/drivers/e1000e /sys/bus/pci/devices/$busy/driver
done
{SETUP.with_name("host-check")} {ADDRESS} | grep {ADDRESS}
"""
    )
    ok, lacks = done.stdout.splitlines()
    assert ok == f"ok     {ADDRESS} bound to vfio-pci", done
    said = f"LACKS  {ADDRESS} is in one IOMMU group with 0000:3b:00.2, which the kernel has"
    assert lacks.startswith(said), done


@pytest.mark.parametrize("nic", [ADDRESS, f"bond:{ADDRESS},0000:3b:00.1"])
def test_address_on_the_bus_is_not_taken_for_a_mac_address(nic: str) -> None:
    done = run([SETUP, "twin", "twin9", nic], check=False)
    assert done.returncode == 1 and f"'{nic}' is no MAC address" in done.stderr, done


@pytest.mark.parametrize("driver", ["uio_pci_generic", "vfio-pci"])
def test_nic_in_use_is_not_released(driver: str) -> None:
    """The kernel would take it from under the engine, and end that."""
    file = "/dev/uio7" if driver == "uio_pci_generic" else "/dev/vfio/12"
    done = on_a_machine(
        f"""
use {driver}; mkdir -p {DEVICE}/uio/uio7; ln -s ../../kernel/iommu_groups/12 {DEVICE}/iommu_group
mkdir -p /tmp/dev; mount -t tmpfs none /tmp/dev
cp --archive /dev/null /dev/fd /tmp/dev; mkdir /tmp/dev/vfio; touch /tmp{file}
mount --move /tmp/dev /dev
sleep 30 <>{file} & user=$!
{SETUP} release {ADDRESS} || true
echo ---; kill $user; wait $user || true
{SETUP} release {ADDRESS} || true  # nobody probes it here
cat {DEVICE}/driver_override
echo $user
"""
    )
    user = done.stdout.split()[-1]
    assert done.stdout.split()[0] == "---", done
    refused, *others = done.stderr.splitlines()
    assert refused == (
        f"host-setup: {ADDRESS} is in use by process {user} (sleep): stop it first"
        " (systemctl stop millrace-dataplane)"
    ), done
    assert not any("in use" in line for line in others), done


def test_nic_that_the_kernel_has_is_not_released() -> None:
    """Every command may be repeated: the interface would lose its addresses."""
    done = on_a_machine(
        f"""
echo vfio-pci >{DEVICE}/driver_override
{SETUP} release {ADDRESS}; cat {DEVICE}/driver_override
ls /sys/bus/pci/drivers/e1000e /sys/bus/pci
"""
    )
    assert done.stdout.split() == [
        "/sys/bus/pci:",
        "devices",
        "drivers",
        "/sys/bus/pci/drivers/e1000e:",
    ], done


def test_nic_in_use_without_an_iommu_is_not_released() -> None:
    """vfio-pci's unsafe mode names its file in a way of its own."""
    done = on_a_machine(
        f"""
use vfio-pci; ln -s ../../kernel/iommu_groups/12 {DEVICE}/iommu_group
mkdir -p /tmp/dev; mount -t tmpfs none /tmp/dev
cp --archive /dev/null /dev/fd /tmp/dev; mkdir /tmp/dev/vfio; touch /tmp/dev/vfio/noiommu-12
mount --move /tmp/dev /dev
sleep 30 <>/dev/vfio/noiommu-12 & user=$!
{SETUP} release {ADDRESS} || true
kill $user; echo $user
"""
    )
    assert f"{ADDRESS} is in use by process {done.stdout.split()[-1]} (sleep)" in done.stderr, done


def test_nic_keeps_a_driver_of_dpdks_own() -> None:
    """igb_uio also takes virtual functions, which uio_pci_generic does not."""
    done = on_a_machine(
        f"""
use igb_uio
{SETUP} driver {ADDRESS}; {SETUP} bind {ADDRESS}
ls {DEVICE}
"""
    )
    assert done.stdout.split() == ["igb_uio", "class", "driver"] and not done.stderr, done


WITH_TWO_PORTS = f"""
for name in eth1 eth2; do
  mkdir -p {DEVICE}/net/$name; echo 02:00:00:00:00:07 >{DEVICE}/net/$name/address
done
ip link add eth1 type veth peer name eth2
mkdir /sys/bus/pci/bin; cd /sys/bus/pci/bin
echo 'echo ip $* >>/sys/bus/pci/bin/asked; exec /usr/sbin/ip "$@"' >ip
echo 'exit 1' >modprobe
sed --in-place '1i #!/bin/sh' ip modprobe; chmod +x ip modprobe
export PATH=$PWD:$PATH
"""


@pytest.mark.parametrize(
    "lacking",
    ["ip address add 192.0.2.9/24 dev eth2", "rmdir /sys/bus/pci/drivers/uio_pci_generic"],
)
def test_nic_that_stays_the_kernels_keeps_its_programs(lacking: str) -> None:
    """Nothing is taken from its interfaces before all of them may leave."""
    done = on_a_machine(
        f"""{WITH_TWO_PORTS}{lacking}
{SETUP} bind {ADDRESS} && exit
grep xdp /sys/bus/pci/bin/asked || true
"""
    )
    assert done.stdout == "" and "leaves the kernel" not in done.stderr, done
    assert "host-setup: " in done.stderr, done


def test_nic_that_dpdks_driver_refuses_goes_back() -> None:
    """The XDP engine, which the engine's message then names, needs its interface."""
    done = on_a_machine(
        f"""
{SETUP} bind {ADDRESS} || true  # nobody probes it here
cat {DEVICE}/driver_override
"""
    )
    assert f"uio_pci_generic does not take {ADDRESS}" in done.stderr, done
    assert done.stdout == "\n", done


WITH_VIRTUAL_FUNCTION = f"""
function=/sys/bus/pci/devices/0000:3b:02.0
mkdir $function; ln -s ../0000:3b:02.0 {DEVICE}/virtfn0
"""


def test_nic_with_addresses_on_a_virtual_function_stays_the_kernels() -> None:
    """Virtual functions end with the driver that made them."""
    done = on_a_machine(
        f"""{WITH_VIRTUAL_FUNCTION}
mkdir -p $function/net/eth1; ip link add eth1 type veth peer name other
ip address add 192.0.2.9/24 dev eth1
{SETUP} bind {ADDRESS} || true
ls {DEVICE}
"""
    )
    assert "driver_override" not in done.stdout and done.stderr == refusal("eth1"), done


def test_nic_whose_virtual_function_a_process_has_stays_the_kernels() -> None:
    done = on_a_machine(
        f"""{WITH_VIRTUAL_FUNCTION}
mkdir -p $function/uio/uio7
mkdir -p /tmp/dev; mount -t tmpfs none /tmp/dev
cp --archive /dev/null /dev/fd /tmp/dev; touch /tmp/dev/uio7; mount --move /tmp/dev /dev
sleep 30 <>/dev/uio7 & user=$!
{SETUP} bind {ADDRESS} || true
kill $user; echo $user; ls {DEVICE}
"""
    )
    assert "driver_override" not in done.stdout, done
    assert done.stderr == (
        f"host-setup: {ADDRESS} stays the kernel's, since process {done.stdout.split()[0]} (sleep)"
        " has its virtual function 0000:3b:02.0, which would end\n"
    ), done


def test_interface_with_an_odd_name_is_asked_for_its_addresses() -> None:
    """Not the files in the folder where the shell is that the name also stands for."""
    done = on_a_machine(
        f"""
mkdir -p "{DEVICE}/net/eth?"; ip link add 'eth?' type veth peer name other
ip address add 192.0.2.9/24 dev 'eth?'
mkdir /sys/bus/pci/here; cd /sys/bus/pci/here; touch eth9
{SETUP} bind {ADDRESS} || true
"""
    )
    assert "since eth? still has addresses" in done.stderr, done


CHECK = SETUP.with_name("host-check")


@pytest.mark.parametrize("command", ["await", "twin twin9", "xdp", "close", "forward"])
def test_alternative_name_of_an_interface_is_told_from_a_missing_one(command: str) -> None:
    """/sys does not know it, `ip link` shows it."""
    done = on_a_machine(
        f"""
ip link add eth1 type veth peer name other; ip link property add dev eth1 altname enxodd
{SETUP} {command} enxodd || true
{CHECK} enxodd | grep enxodd; {CHECK} --engine xdp enxodd | grep enxodd
"""
    )
    said = "an alternative name of eth1: give that one"
    assert done.stderr == f"host-setup: 'enxodd' is {said}\n", done
    assert done.stdout == f"LACKS  enxodd      is {said}\n" * 2, done


def test_twin_has_a_name_of_its_own() -> None:
    """Each restart of the unit would make one more, which nobody finds."""
    done = on_a_machine(f'{SETUP} twin "twin%d" 02:00:00:00:00:07 || true; ip link show type tun')
    assert "'twin%d' is no name of an interface" in done.stderr and done.stdout == "", done


def test_tools_run_by_a_link_to_them() -> None:
    done = on_a_machine(
        f"""
ln -s {SETUP} {CHECK} /sys/bus/pci
/sys/bus/pci/host-setup driver {ADDRESS}
/sys/bus/pci/host-check {ADDRESS} | grep {ADDRESS}
"""
    )
    assert done.stdout.startswith("uio_pci_generic\nLACKS  "), done
    assert f"({SETUP} bind {ADDRESS})" in done.stdout and not done.stderr, done


def test_host_check_goes_on_after_a_device_that_is_no_nic() -> None:
    done = on_a_machine(
        f"""
other=/sys/bus/pci/devices/0000:3c:00.0; mkdir $other; echo 0x010802 >$other/class
{CHECK} 0000:3c:00.0 {ADDRESS} | grep 0000:
"""
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("LACKS  0000:3c:00.0 no such PCI device, or no NIC"), done
    assert lines[1].startswith(f"LACKS  {ADDRESS} bound to e1000e"), done


def test_host_check_names_the_members_of_a_bond_in_a_domain_of_five_digits() -> None:
    """As Intel's VMD has, which begins at 10000."""
    done = on_a_machine(
        f"""
member=/sys/bus/pci/devices/10000:e1:00.0; mkdir $member
mount -t tmpfs none /sys/class/net
cd /sys/class/net; mkdir -p bond0/bonding bond0/queues eth1; ln -s $member eth1/device
echo eth1 >bond0/bonding/slaves
echo 1500 >bond0/mtu; echo up >bond0/operstate; echo 02:00:00:00:00:07 >bond0/address
{CHECK} bond0 | grep "is a bond,"
"""
    )
    assert "(host-check bond:10000:e1:00.0)" in done.stdout, done

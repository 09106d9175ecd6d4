# SPDX-License-Identifier: Apache-2.0
"""The lab: a small network of real hosts in network namespaces on this machine.

The demo and the end-to-end tests use the same code. `Lab` (lab.py) builds the network and removes
all of it; `Node` (node.py) runs Millrace in it; `Target` (target.py) runs the real servers;
`traffic.py` is what clients do. Needs root, iproute2 and the packages of deploy/install-packages.
"""

from lab.lab import Lab
from lab.layout import Layout
from lab.namespace import Namespace
from lab.node import Node
from lab.process import CommandFailed, LabError, Service, run
from lab.target import Target

__all__ = [
    "CommandFailed",
    "Lab",
    "LabError",
    "Layout",
    "Namespace",
    "Node",
    "Service",
    "Target",
    "run",
]

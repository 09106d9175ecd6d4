# SPDX-License-Identifier: Apache-2.0
"""python3 -m vm [--kernel SUITE] [--systemd] -- COMMAND: by hand."""

from __future__ import annotations

import argparse
import sys

from vm.kernel import STANDARD, Kernel
from vm.machine import Machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="vm", description="Runs one command in a VM.")
    parser.add_argument(
        "--kernel", default=STANDARD, help="release of Debian that the kernel is of"
    )
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--systemd", action="store_true", help="with systemd as init")
    parser.add_argument("--seconds", type=float, default=300.0, help="give up after so many")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    machine = Machine(
        Kernel.find(options.kernel),
        memory_mib=options.memory_mib,
        with_systemd=options.systemd,
    )
    done = machine.run(options.command, timeout_s=options.seconds)
    print(done.output, end="")
    return done.code


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""One command in a virtual machine with a kernel of Debian's, for what this machine's refuses.

The guest sees this machine's files, read-only beneath a layer of its own memory, so that nothing is
installed and nothing stays. It reaches no network. This runs one by hand:
`PYTHONPATH=tests/support:deploy python3 -m vm -- COMMAND`.
"""

from vm.kernel import Kernel
from vm.machine import Finished, Machine

__all__ = ["Finished", "Kernel", "Machine"]

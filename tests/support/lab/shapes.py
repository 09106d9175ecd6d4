# SPDX-License-Identifier: Apache-2.0
"""Which of the lab's shapes the engines of this tree can live with: what `Layout` and the configs
take for granted. ARCHITECTURE.md, "The lab's shapes", says why each is there."""

from __future__ import annotations

# A second VIP per family and a second port, all to the same target ports.
SEVERAL_LISTENERS = True
NIC_QUEUES = 4
SNOOPING = True
SECOND_MAC = True
BYSTANDER = True

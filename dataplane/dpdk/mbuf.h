// SPDX-License-Identifier: Apache-2.0
//
// DPDK's packet buffer under our name, for those who pass it on and never look inside.
#pragma once

struct rte_mbuf;

namespace millrace::dpdk {

using Mbuf = rte_mbuf;

}  // namespace millrace::dpdk

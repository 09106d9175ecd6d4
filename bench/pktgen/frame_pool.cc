// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/frame_pool.h"

#include <cstring>
#include <vector>

#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::pktgen {

Result<dpdk::MbufPool> make_zero_pool(const std::string& name, std::uint32_t mbuf_count) {
  auto pool = dpdk::MbufPool::create(name, mbuf_count);
  if (!pool) return pool;
  std::vector<dpdk::Mbuf*> taken;
  while (dpdk::Mbuf* mbuf = pool->take(0)) {
    taken.push_back(mbuf);
    dpdk::MbufBurst one;
    one.mbufs[0] = mbuf;
    one.view.count = 1;
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(one, bytes);  // a new mbuf is in one piece
    std::memset(one.view.packets[0].data, 0, dpdk::kFrameBytesUsual);
  }
  dpdk::free_mbufs(taken);
  return pool;
}

}  // namespace millrace::pktgen

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/mbuf_ring.h"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <array>

#include "dataplane/core/packet.h"
#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::dpdk {

Result<MbufRing> MbufRing::create(const std::string& name, std::uint32_t size) {
  rte_ring* ring =
      ::rte_ring_create(name.c_str(), size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (ring != nullptr) return MbufRing{ring};
  return Error{"cannot make ring " + name + " of " + std::to_string(size) +
               " packets: " + ::rte_strerror(rte_errno)};
}

MbufRing::~MbufRing() {
  if (ring_ == nullptr) return;
  std::array<rte_mbuf*, core::kBurstMax> left;
  for (std::uint32_t count = pop(left); count > 0; count = pop(left)) {
    free_mbufs(std::span(left).first(count));
  }
  ::rte_ring_free(ring_);
}

std::uint32_t MbufRing::push(std::span<rte_mbuf*> mbufs) noexcept {
  return ::rte_ring_sp_enqueue_burst(ring_, reinterpret_cast<void**>(mbufs.data()),
                                     static_cast<unsigned>(mbufs.size()), nullptr);
}

std::uint32_t MbufRing::pop(std::span<rte_mbuf*> mbufs) noexcept {
  return ::rte_ring_sc_dequeue_burst(ring_, reinterpret_cast<void**>(mbufs.data()),
                                     static_cast<unsigned>(mbufs.size()), nullptr);
}

}  // namespace millrace::dpdk

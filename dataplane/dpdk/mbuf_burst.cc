// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/mbuf_burst.h"

#include <rte_mbuf.h>

namespace millrace::dpdk {

std::uint32_t view_mbufs(MbufBurst& burst, std::uint64_t& bytes) noexcept {
  const std::uint32_t received = burst.view.count;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < received; ++i) {
    rte_mbuf* mbuf = burst.mbufs[i];
    bytes += mbuf->pkt_len;
    if (mbuf->nb_segs > 1 && ::rte_pktmbuf_linearize(mbuf) != 0) [[unlikely]] {
      ::rte_pktmbuf_free(mbuf);
      continue;
    }
    burst.mbufs[kept] = mbuf;
    burst.view.packets[kept] = {.data = rte_pktmbuf_mtod(mbuf, std::uint8_t*),
                                .length = mbuf->data_len,
                                .headroom = ::rte_pktmbuf_headroom(mbuf),
                                .nic = nic_of(mbuf),
                                .reserved = 0};
    ++kept;
  }
  burst.view.count = kept;
  return received - kept;
}

void take_view(rte_mbuf* mbuf, const core::Packet& packet) noexcept {
  mbuf->data_off =
      static_cast<std::uint16_t>(packet.data - static_cast<std::uint8_t*>(mbuf->buf_addr));
  mbuf->data_len = static_cast<std::uint16_t>(packet.length);
  mbuf->pkt_len = packet.length;
}

std::uint8_t nic_of(const rte_mbuf* mbuf) noexcept { return static_cast<std::uint8_t>(mbuf->port); }

void free_mbufs(std::span<rte_mbuf* const> mbufs) noexcept {
  for (rte_mbuf* mbuf : mbufs) ::rte_pktmbuf_free(mbuf);
}

}  // namespace millrace::dpdk

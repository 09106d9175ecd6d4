// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/mbuf_pool.h"

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>

namespace millrace::dpdk {

namespace {

// Mbufs that an lcore may keep to itself: several bursts, so that the shared ring is touched
// rarely.
constexpr std::uint32_t kCacheMbufs = 256;
constexpr std::uint32_t data_room(std::uint32_t frame_bytes) {
  return RTE_PKTMBUF_HEADROOM + frame_bytes;
}

}  // namespace

std::uint64_t MbufPool::bytes_for(std::uint32_t mbuf_count, std::uint32_t frame_bytes) {
  return std::uint64_t{mbuf_count} *
         (sizeof(rte_mbuf) + data_room(frame_bytes) + RTE_CACHE_LINE_SIZE);
}

Result<MbufPool> MbufPool::create(const std::string& name, std::uint32_t mbuf_count,
                                  std::uint32_t frame_bytes) {
  rte_mempool* pool = ::rte_pktmbuf_pool_create(
      name.c_str(), mbuf_count, kCacheMbufs, 0,
      static_cast<std::uint16_t>(std::min<std::uint32_t>(data_room(frame_bytes), UINT16_MAX)),
      SOCKET_ID_ANY);
  if (pool != nullptr) return MbufPool{pool};
  return Error{"no memory for " + std::to_string(mbuf_count) + " packet buffers (" +
               std::to_string(bytes_for(mbuf_count, frame_bytes) >> 20) +
               " MB of hugepages): " + ::rte_strerror(rte_errno)};
}

MbufPool::~MbufPool() { ::rte_mempool_free(pool_); }

std::uint32_t MbufPool::available() const { return ::rte_mempool_avail_count(pool_); }

std::uint32_t MbufPool::frame_bytes() const {
  return static_cast<std::uint32_t>(::rte_pktmbuf_data_room_size(pool_)) - RTE_PKTMBUF_HEADROOM;
}

bool MbufPool::is_contiguous() const { return pool_->nb_mem_chunks == 1; }

rte_mbuf* MbufPool::take(std::uint8_t nic) const noexcept {
  rte_mbuf* mbuf = ::rte_pktmbuf_alloc(pool_);
  if (mbuf != nullptr) mbuf->port = nic;
  return mbuf;
}

bool MbufPool::take_all(std::uint8_t nic, std::span<rte_mbuf*> mbufs) const noexcept {
  if (::rte_pktmbuf_alloc_bulk(pool_, mbufs.data(), static_cast<unsigned>(mbufs.size())) != 0) {
    return false;
  }
  for (rte_mbuf* mbuf : mbufs) mbuf->port = nic;
  return true;
}

rte_mbuf* MbufPool::take(std::uint8_t nic, std::span<const std::uint8_t> frame) const noexcept {
  if (frame.size() > frame_bytes()) return nullptr;
  rte_mbuf* mbuf = take(nic);
  if (mbuf == nullptr) return nullptr;
  std::ranges::copy(frame, rte_pktmbuf_mtod(mbuf, std::uint8_t*));
  mbuf->data_len = static_cast<std::uint16_t>(frame.size());
  mbuf->pkt_len = mbuf->data_len;
  return mbuf;
}

}  // namespace millrace::dpdk

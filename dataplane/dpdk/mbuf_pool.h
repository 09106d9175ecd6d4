// SPDX-License-Identifier: Apache-2.0
//
// The engine's packet memory: one pool for all nics, rings and workers. Taking and freeing is hot
// (a per-lcore cache), creating is cold.
//
// One pool because a packet that came in on one nic leaves on another or goes to another worker:
// with AF_XDP, frames of the pool that a socket was made with are sent without a copy.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/dpdk/mbuf.h"

struct rte_mempool;

namespace millrace::dpdk {

// Room for a frame behind the headroom, as long as no nic has a larger MTU: 1500 bytes, two VLAN
// tags, and what drivers demand.
inline constexpr std::uint32_t kFrameBytesUsual = 2048;

class MbufPool {
 public:
  // `mbuf_count` is everything that can be out at once: descriptors, rings, bursts and lcore
  // caches. Every one has room for `frame_bytes` in one piece: scattered over several, long frames
  // would have to be copied together for the parser, and memory is what a node with a large MTU
  // has. Errors: no memory (names the hugepages that are missing).
  [[nodiscard]] static Result<MbufPool> create(const std::string& name, std::uint32_t mbuf_count,
                                               std::uint32_t frame_bytes = kFrameBytesUsual);
  // Hugepage memory of such a pool, for EalOptions::memory_bytes.
  [[nodiscard]] static std::uint64_t bytes_for(std::uint32_t mbuf_count,
                                               std::uint32_t frame_bytes = kFrameBytesUsual);

  MbufPool(MbufPool&& other) noexcept : pool_(other.pool_) { other.pool_ = nullptr; }
  MbufPool& operator=(MbufPool&&) = delete;
  MbufPool(const MbufPool&) = delete;
  MbufPool& operator=(const MbufPool&) = delete;
  ~MbufPool();

  [[nodiscard]] rte_mempool* get() const { return pool_; }
  // Mbufs that nobody holds. Exact only when all lcores are quiet; walks all caches.
  [[nodiscard]] std::uint32_t available() const;
  [[nodiscard]] std::uint32_t frame_bytes() const;
  // All mbufs lie in one range of addresses.
  [[nodiscard]] bool is_contiguous() const;

  // A new mbuf with empty data, marked as of `nic`; null when the pool is empty.
  [[nodiscard]] Mbuf* take(std::uint8_t nic) const noexcept;
  // As many as `mbufs` has room for, in one go; false, and nothing, when there are fewer.
  [[nodiscard]] bool take_all(std::uint8_t nic, std::span<Mbuf*> mbufs) const noexcept;
  // The same as take(), holding `frame` (at most frame_bytes()).
  [[nodiscard]] Mbuf* take(std::uint8_t nic, std::span<const std::uint8_t> frame) const noexcept;

 private:
  explicit MbufPool(rte_mempool* pool) : pool_(pool) {}
  rte_mempool* pool_;
};

}  // namespace millrace::dpdk

// SPDX-License-Identifier: Apache-2.0
//
// A lock-free queue of mbufs from exactly one thread to exactly one other. HOT.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/dpdk/mbuf.h"

struct rte_ring;

namespace millrace::dpdk {

class MbufRing {
 public:
  // `size` is a power of two; the ring holds size - 1. `name` is unique in the process.
  [[nodiscard]] static Result<MbufRing> create(const std::string& name, std::uint32_t size);

  MbufRing(MbufRing&& other) noexcept : ring_(other.ring_) { other.ring_ = nullptr; }
  MbufRing& operator=(MbufRing&&) = delete;
  MbufRing(const MbufRing&) = delete;
  MbufRing& operator=(const MbufRing&) = delete;
  // Frees the mbufs that are still inside; both threads must be done with it.
  ~MbufRing();

  // Enters as many as there is room for, from the front; returns how many. The rest stay the
  // caller's.
  [[nodiscard]] std::uint32_t push(std::span<Mbuf*> mbufs) noexcept;
  // Fills `mbufs` from the front; returns how many there were. About 5 ns when empty.
  [[nodiscard]] std::uint32_t pop(std::span<Mbuf*> mbufs) noexcept;

 private:
  explicit MbufRing(rte_ring* ring) : ring_(ring) {}
  rte_ring* ring_;
};

}  // namespace millrace::dpdk

// SPDX-License-Identifier: Apache-2.0
//
// Single-writer counters in shared memory. HOT.
#pragma once

#include <atomic>
#include <cstdint>

namespace millrace::core {

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free,
              "counters are read by another process");

// Adds with a relaxed load and store: no locked instruction, because only the caller writes.
inline void add(std::uint64_t& counter, std::uint64_t amount) noexcept {
  std::atomic_ref<std::uint64_t> shared(counter);
  shared.store(shared.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

inline void set(std::uint64_t& gauge, std::uint64_t value) noexcept {
  std::atomic_ref<std::uint64_t>(gauge).store(value, std::memory_order_relaxed);
}

}  // namespace millrace::core

// SPDX-License-Identifier: Apache-2.0
//
// Atomic access to plain fields of shared structs (contract/ is C and cannot say std::atomic). HOT.
//
// Counters and gauges: one writer, relaxed. Generations and acknowledgements: the store releases
// what was written or read before it, the load acquires it.
#pragma once

#include <atomic>
#include <cstdint>

namespace millrace::shm {

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free,
              "a lock would live in one process only, and the other would not see it");

// C++20 has no std::atomic_ref<const T>; the cast only lets a load through, never a store.
[[nodiscard]] inline std::uint64_t load_relaxed(const std::uint64_t& field) noexcept {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(field))
      .load(std::memory_order_relaxed);
}
[[nodiscard]] inline std::uint64_t load_acquire(const std::uint64_t& field) noexcept {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(field))
      .load(std::memory_order_acquire);
}
inline void store_relaxed(std::uint64_t& field, std::uint64_t value) noexcept {
  std::atomic_ref<std::uint64_t>(field).store(value, std::memory_order_relaxed);
}
inline void store_release(std::uint64_t& field, std::uint64_t value) noexcept {
  std::atomic_ref<std::uint64_t>(field).store(value, std::memory_order_release);
}
// For a counter whose only writer is the caller: no locked instruction.
inline void add_relaxed(std::uint64_t& counter, std::uint64_t amount) noexcept {
  store_relaxed(counter, load_relaxed(counter) + amount);
}

}  // namespace millrace::shm

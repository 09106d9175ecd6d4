// SPDX-License-Identifier: Apache-2.0
//
// The memory that the daemon shares with the XDP program: the values of its maps (xdp_abi.h), in
// place. Programs on all CPUs read and write it at the same time, so that every field that both
// sides write is accessed atomically.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "dataplane/contract/xdp_abi.h"

namespace millrace::xdp {

struct Maps {
  mr_xdp_control* control = nullptr;
  std::span<mr_config_line> config_lines;
  std::span<mr_flow_record> flows;  // a power of two
  std::span<mr_xdp_last_hop> last_hops;
  std::span<std::uint64_t> no_room;  // two halves
  std::span<mr_xdp_cpu> cpus;        // by CPU
  // Rows of control->listener_slots and control->target_slots: one per CPU, and the daemon's.
  std::span<mr_listener_stats> listener_stats;
  std::span<mr_target_stats> target_stats;
};

// What a flow record's word at the client's port says: programs and daemon change the state of a
// record by compare-and-swap of the whole word, so that neither overwrites the other's change.
struct StateWord {
  std::uint32_t word;

  [[nodiscard]] std::uint8_t state() const { return static_cast<std::uint8_t>(word >> 24); }
  [[nodiscard]] StateWord with(std::uint8_t state) const {
    // A record is free when its whole word is 0.
    return {state == 0 ? 0 : (word & 0x00ffffffu) | std::uint32_t{state} << 24};
  }
};

[[nodiscard]] inline std::atomic_ref<std::uint32_t> state_word_of(mr_flow_record& record) {
  return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(&record.client_port_be));
}

[[nodiscard]] inline StateWord load_state(mr_flow_record& record) {
  return {state_word_of(record).load(std::memory_order_acquire)};
}

// False when somebody changed the word since `from` was read.
[[nodiscard]] inline bool change_state(mr_flow_record& record, StateWord from, std::uint8_t to) {
  return state_word_of(record).compare_exchange_strong(from.word, from.with(to).word,
                                                       std::memory_order_acq_rel);
}

}  // namespace millrace::xdp

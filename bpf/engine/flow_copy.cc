// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/flow_copy.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <vector>

#include "dataplane/core/flow_class.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/wire.h"

namespace millrace::xdp {

namespace {

// Bits of mr_xdp_last_hop.
constexpr std::uint64_t kMacMask = 0xffff'ffff'ffff;
constexpr unsigned kNicShift = 48;
constexpr std::uint64_t kInUse = std::uint64_t{1} << 56;

mr_last_hop to_last_hop(std::uint64_t word) {
  mr_last_hop hop{};
  if ((word & kInUse) == 0) return hop;
  std::memcpy(hop.mac, &word, sizeof(hop.mac));
  hop.nic = static_cast<std::uint8_t>(word >> kNicShift);
  hop.in_use = 1;
  return hop;
}

std::uint64_t to_word(const mr_last_hop& hop) {
  if (hop.in_use == 0) return 0;
  std::uint64_t word = 0;
  std::memcpy(&word, hop.mac, sizeof(hop.mac));
  return (word & kMacMask) | std::uint64_t{hop.nic} << kNicShift | kInUse;
}

bool is_flow(std::uint8_t state) { return state != MR_FLOW_FREE && state < MR_FLOW_STATE_COUNT; }

// Enters flows one by one, each with the neighbour that its client's packets come from.
class Importer {
 public:
  explicit Importer(const Maps& into) : into_(into) {}

  void enter(const mr_flow_record& flow, std::uint64_t last_hop_word) {
    const core::AddrWords addr = core::words_of(flow.client_addr);
    const std::uint32_t port_protocol = flow.client_port_be | std::uint32_t{flow.protocol} << 16;
    const std::uint32_t first = mr_xdp_flow_hash(into_.control, addr.low, addr.high, port_protocol);
    const std::uint32_t mask = into_.control->flow_mask;
    for (std::uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
      mr_flow_record& record = into_.flows[(first + probe) & mask];
      if (record.state != MR_FLOW_FREE) continue;
      record = flow;
      record.last_hop = index_of(last_hop_word);
      ++import.flows;
      return;
    }
    if (!core::is_over(flow)) ++import.refused;
  }

  Import import;

 private:
  // Where programs look for it first, so that they find it again.
  [[nodiscard]] std::uint16_t index_of(std::uint64_t word) {
    if (word == 0) return 0;
    word |= kInUse;
    for (std::uint32_t probe = 0; probe < MR_XDP_LAST_HOP_PROBE_MAX; ++probe) {
      const std::uint32_t index = mr_xdp_last_hop_index(word, probe);
      if (index == 0) continue;
      std::uint64_t& known = into_.last_hops[index].word;
      if (known == 0) known = word;
      if (known == word) return static_cast<std::uint16_t>(index);
    }
    return 0;
  }

  const Maps& into_;
};

}  // namespace

FlowCopy::FlowCopy(std::span<std::byte> table) {
  auto* header = reinterpret_cast<mr_flow_table_header*>(table.data());
  header->record_high = header->capacity;  // any of them may be in use
  std::byte* start = table.data();
  records_ = {reinterpret_cast<mr_flow_record*>(start + header->records_offset), header->capacity};
  last_hops_ = reinterpret_cast<mr_last_hop*>(start + header->last_hops_offset);
}

Result<FlowCopy> FlowCopy::create(shm::FlowSet& set, std::uint32_t capacity) {
  Result<std::vector<core::FlowTable>> made = set.make({.worker_count = 1, .capacity = capacity});
  if (!made) return made.error();
  return FlowCopy(set.files().front().bytes());
}

Result<FlowCopy> FlowCopy::reuse(shm::FlowSet& set, std::uint32_t capacity) {
  const shm::FlowSet::Shape shape{.worker_count = 1, .capacity = capacity};
  if (!set.is_left_as(shape)) return create(set, capacity);
  const Result<shm::FlowSet::TakenOver> taken = set.take_over(shape);
  if (!taken) return taken.error();
  return FlowCopy(set.files().front().bytes());
}

void FlowCopy::set(std::uint32_t index, mr_flow_record& record) {
  mr_flow_record& copy = records_[index];
  const StateWord word = load_state(record);
  std::atomic_ref<std::uint8_t> state(copy.state);
  if (!is_flow(word.state())) {
    if (copy.state != MR_FLOW_FREE) state.store(MR_FLOW_FREE, std::memory_order_relaxed);
    return;
  }
  mr_flow_record taken;
  std::memcpy(&taken, &record, sizeof(taken));
  std::atomic_thread_fence(std::memory_order_acquire);
  if (load_state(record).word != word.word) return;  // under change: the next round has it
  taken.state = MR_FLOW_FREE;
  taken.bytes = 0;  // counted by the sweep already
  taken.packets = 0;
  // Whoever finds the file after a kill in between finds no flow here rather than half of one.
  state.store(MR_FLOW_FREE, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  copy = taken;
  state.store(word.state(), std::memory_order_release);
}

void FlowCopy::set_last_hop(std::uint32_t index, const mr_xdp_last_hop& hop) {
  if (index == 0) return;
  const std::uint64_t word = std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(hop.word))
                                 .load(std::memory_order_relaxed);
  last_hops_[index] = to_last_hop(word);
}

void FlowCopy::set_last_hops(std::span<mr_xdp_last_hop> last_hops) {
  for (std::uint32_t index = 1; index < last_hops.size(); ++index) {
    set_last_hop(index, last_hops[index]);
  }
}

void FlowCopy::set_all(std::span<mr_flow_record> flows, std::span<mr_xdp_last_hop> last_hops) {
  set_last_hops(last_hops);
  for (std::uint32_t index = 0; index < flows.size(); ++index) set(index, flows[index]);
}

Import import_tables(std::span<const core::FlowTable::Left> left, const Maps& into) {
  Importer importer(into);
  for (const bool wants_over : {false, true}) {
    for (const core::FlowTable::Left& table : left) {
      for (const mr_flow_record& record : table.records) {
        if (!core::FlowTable::is_believable(record) || core::is_over(record) != wants_over)
          continue;
        const mr_last_hop& hop = table.last_hops[record.last_hop];
        importer.enter(record, core::LastHops::is_believable(hop) ? to_word(hop) : 0);
      }
    }
  }
  return importer.import;
}

Import import_flows(std::span<mr_flow_record> records, std::span<const mr_xdp_last_hop> last_hops,
                    const Maps& into) {
  Importer importer(into);
  for (const bool wants_over : {false, true}) {
    for (mr_flow_record& record : records) {
      const StateWord word = load_state(record);
      const mr_flow_record taken = record;
      std::atomic_thread_fence(std::memory_order_acquire);
      // Programs may be using it: what changes meanwhile is left to the lookup table.
      if (!is_flow(word.state()) || load_state(record).word != word.word) continue;
      if (core::is_over(taken) != wants_over || taken.last_hop >= last_hops.size()) continue;
      importer.enter(taken, last_hops[taken.last_hop].word);
    }
  }
  return importer.import;
}

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
//
// What an earlier process may have left of a flow table: attach() must refuse it or make a table of
// it that works, and never reach outside.
//
// Input: [u8 mode][...]. Mode bit 0: the rest is the file; otherwise patches to a table with flows.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "dataplane/core/flow_table.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/patches.h"

namespace millrace::fuzz {
namespace {

constexpr std::uint32_t kCapacity = 32;
constexpr core::FlowTable::Layout kLayout = {.capacity = kCapacity,
                                             .worker_index = 0,
                                             .worker_count = 1,
                                             .secret = {11, 22, 33, 44},
                                             .created_ns = 5,
                                             .creator_pid = 6};

core::ClientKey key_of(std::uint32_t n) {
  return {.addr = {.low = 0, .high = n}, .port_protocol = (n + 1) | MR_PROTOCOL_TCP << 16};
}

// Enters flow `n`; false when there is no room.
bool insert(core::FlowTable& table, std::uint32_t n) {
  const core::ClientKey key = key_of(n);
  const std::uint32_t index = table.insert(table.hash(key), key, MR_FLOW_ESTABLISHED);
  if (index == MR_RECORD_NONE) return false;
  require(index < kCapacity, "a record is inside the table");
  mr_flow_record& record = table.record(index);
  record.listener_id = 1;
  record.target_id = 1;
  record.target_slot = n;
  return true;
}

std::uint32_t find(const core::FlowTable& table, std::uint32_t n) {
  const core::ClientKey key = key_of(n);
  const std::uint64_t hash = table.hash(key);
  return table.find(hash, key, [](const mr_flow_record&) { return true; });
}

// Empties the table and fills it again: everything that it may hold must be reachable. With a
// secret that damage made weak, flows may crowd in few buckets; the table is then smaller, not
// wrong.
void use(core::FlowTable& table, bool has_its_secret) {
  require(table.used() <= kCapacity && table.record_high() <= kCapacity, "no more than capacity");
  require(table.inconsistency() == nullptr, "its books agree with what it kept");
  for (std::uint32_t i = 0; i < table.record_high(); ++i) {
    const mr_flow_record& record = table.record(i);
    if (record.state == MR_FLOW_FREE) continue;
    const auto key = core::ClientKey::of(record);
    const std::uint64_t hash = table.hash(key);
    const std::uint32_t found =
        table.find(hash, key, [&](const mr_flow_record& other) { return &other == &record; });
    require(found == i, "what was kept is found");
    static_cast<void>(table.last_hops().at(record.last_hop).in_use);
  }
  for (std::uint32_t i = 0; i < table.record_high(); ++i) {
    if (table.record(i).state != MR_FLOW_FREE) table.remove(table.record(i));
  }
  require(table.used() == 0, "it can be emptied");
  std::uint32_t entered = 0;
  for (std::uint32_t n = 0; n < 2 * kCapacity; ++n) entered += insert(table, n);
  require(entered == table.used() && entered <= kCapacity, "it counts what it took in");
  require(table.inconsistency() == nullptr, "its books agree with what it took in");
  require(entered == kCapacity || !has_its_secret, "an emptied table has room again");
  for (std::uint32_t n = 0; n < entered; ++n) {
    const std::uint32_t index = find(table, n);
    require(index == MR_RECORD_NONE || table.record(index).target_slot == n, "found is right");
  }
}

void run(Input input, std::span<const std::uint8_t> whole) {
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines(core::FlowTable::bytes_for(kCapacity) / sizeof(Line));
  const std::span<std::byte> memory = std::as_writable_bytes(std::span{lines});
  if ((input.u8() & 1) != 0) {
    const auto rest = std::as_bytes(whole.subspan(1));
    std::memcpy(memory.data(), rest.data(), std::min(rest.size(), memory.size()));
    auto attached =
        core::FlowTable::attach(memory.first(std::min(rest.size(), memory.size())), kLayout);
    if (attached) use(*attached, false);
    return;
  }
  core::FlowTable table = core::FlowTable::format(memory, kLayout);
  for (std::uint32_t n = 0; n < kCapacity / 2; ++n) static_cast<void>(insert(table, n));
  table.remove(table.record(3));
  damage(memory, input);
  auto attached = core::FlowTable::attach(memory, kLayout);
  const auto* header = reinterpret_cast<const mr_flow_table_header*>(memory.data());
  const auto is_weak = [](std::uint64_t word) { return word == 0 || ~word == 0; };
  require(!attached || std::ranges::none_of(header->secret, is_weak),
          "a secret of zeros or ones gives all clients one hash");
  if (attached) use(*attached, std::ranges::equal(header->secret, kLayout.secret));
  if (!attached) require(!attached.error().message.empty(), "a refusal says why");
}

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) millrace::fuzz::run({data, size}, {data, size});
  return 0;
}

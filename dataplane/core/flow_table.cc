// SPDX-License-Identifier: Apache-2.0
//
// Insertion, removal and the taking over of a table that an earlier process left. Insertion and
// removal are HOT (once per flow), attaching is cold.
#include "dataplane/core/flow_table.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstdint>
#include <string>

namespace millrace::core {
namespace {

std::uint32_t bucket_count_for(std::uint32_t capacity) {
  // A bucket of 8 ways per 4 records: at most half full (see the picture in the header).
  return std::bit_ceil(std::max<std::uint32_t>(capacity / 4, 16));
}

constexpr std::uint64_t kLastHopsOffset = sizeof(mr_flow_table_header);
constexpr std::uint64_t kBucketsOffset =
    kLastHopsOffset + std::uint64_t{MR_LAST_HOP_COUNT} * sizeof(mr_last_hop);

std::uint64_t records_offset_for(std::uint32_t capacity) {
  return kBucketsOffset + std::uint64_t{bucket_count_for(capacity)} * sizeof(mr_flow_bucket);
}

bool is_believable(const mr_flow_record& record) {
  const bool is_tcp = record.protocol == MR_PROTOCOL_TCP;
  const bool is_udp = record.protocol == MR_PROTOCOL_UDP;
  const bool is_udp_state = record.state == MR_FLOW_UDP || record.state == MR_FLOW_UDP_NEW;
  const bool state_fits =
      is_udp ? is_udp_state
             : record.state >= MR_FLOW_SYN && !is_udp_state && record.state < MR_FLOW_STATE_COUNT;
  return (is_tcp || is_udp) && state_fits && record.client_port_be != 0 &&
         record.listener_id != 0 && record.target_id != 0 &&
         record.target_slot < MR_TARGET_SLOTS_MAX && record.last_hop < MR_LAST_HOP_COUNT;
}

Status refuse(const std::string& what, std::uint64_t found, std::uint64_t wanted) {
  return Error{"flow table: " + what + " is " + std::to_string(found) + ", expected " +
               std::to_string(wanted)};
}

Status check_header(const mr_flow_table_header& header, std::uint64_t memory_bytes) {
  const mr_segment_header& segment = header.segment;
  if (segment.magic != MR_SEGMENT_MAGIC) return refuse("magic", segment.magic, MR_SEGMENT_MAGIC);
  if (segment.abi_version != MR_ABI_VERSION) {
    return refuse("ABI version", segment.abi_version, MR_ABI_VERSION);
  }
  if (segment.kind != MR_SEGMENT_FLOW_TABLE) {
    return refuse("segment kind", segment.kind, MR_SEGMENT_FLOW_TABLE);
  }
  if (segment.struct_bytes[0] != sizeof(mr_flow_table_header) ||
      segment.struct_bytes[1] != sizeof(mr_flow_bucket) ||
      segment.struct_bytes[2] != sizeof(mr_flow_record)) {
    return Error{"flow table: struct sizes differ from this build's"};
  }
  if (header.capacity == 0 || header.capacity > MR_FLOW_CAPACITY_MAX) {
    return Error{"flow table: capacity is " + std::to_string(header.capacity) + ", expected 1 to " +
                 std::to_string(MR_FLOW_CAPACITY_MAX)};
  }
  if (header.worker_index >= header.worker_count) {
    return Error{"flow table: of worker " + std::to_string(header.worker_index) + ", with " +
                 std::to_string(header.worker_count) + " workers"};
  }
  // A set of a generation that cannot be would be in force for ever.
  if (header.set_generation > INT64_MAX) {
    return refuse("generation of the set", header.set_generation, INT64_MAX);
  }
  const std::uint64_t wanted_bytes = FlowTable::bytes_for(header.capacity);
  if (segment.total_bytes != wanted_bytes || memory_bytes < wanted_bytes) {
    return refuse("size in bytes", std::min(segment.total_bytes, memory_bytes), wanted_bytes);
  }
  if (header.bucket_count != bucket_count_for(header.capacity) ||
      header.last_hops_offset != kLastHopsOffset || header.buckets_offset != kBucketsOffset ||
      header.records_offset != records_offset_for(header.capacity)) {
    return Error{"flow table: offsets differ from this build's"};
  }
  // Words of all zeros or all ones give all clients one hash; no creator draws them.
  const auto is_weak = [](std::uint64_t word) { return word == 0 || ~word == 0; };
  if (std::ranges::any_of(header.secret, is_weak)) {
    return Error{"flow table: the secret of its hash is gone"};
  }
  if (header.record_high > header.capacity) {
    return refuse("highest used record", header.record_high, header.capacity);
  }
  return ok();
}

Status check_shape(const FlowTable::Left& left, const FlowTable::Layout& layout) {
  if (left.capacity != layout.capacity) return refuse("capacity", left.capacity, layout.capacity);
  if (left.worker_count != layout.worker_count) {
    return refuse("worker count", left.worker_count, layout.worker_count);
  }
  if (left.worker_index != layout.worker_index) {
    return refuse("worker index", left.worker_index, layout.worker_index);
  }
  return ok();
}

}  // namespace

bool FlowTable::is_believable(const mr_flow_record& record) noexcept {
  return core::is_believable(record);
}

std::uint64_t FlowTable::bytes_for(std::uint32_t capacity) noexcept {
  return records_offset_for(capacity) + std::uint64_t{capacity} * sizeof(mr_flow_record);
}

void FlowTable::bind(std::span<std::byte> memory) noexcept {
  header_ = reinterpret_cast<mr_flow_table_header*>(memory.data());
  last_hops_ = LastHops(reinterpret_cast<mr_last_hop*>(memory.data() + header_->last_hops_offset),
                        header_->secret);
  buckets_ = reinterpret_cast<mr_flow_bucket*>(memory.data() + header_->buckets_offset);
  records_ = reinterpret_cast<mr_flow_record*>(memory.data() + header_->records_offset);
  bucket_mask_ = header_->bucket_count - 1;
  capacity_ = header_->capacity;
  std::copy_n(header_->secret, 4, secret_);
}

FlowTable FlowTable::format(std::span<std::byte> memory, const Layout& layout) noexcept {
  auto* header = reinterpret_cast<mr_flow_table_header*>(memory.data());
  header->segment.magic = 0;
  header->segment.abi_version = MR_ABI_VERSION;
  header->segment.kind = MR_SEGMENT_FLOW_TABLE;
  header->segment.total_bytes = bytes_for(layout.capacity);
  header->segment.created_ns = layout.created_ns;
  header->segment.creator_pid = layout.creator_pid;
  header->segment.struct_bytes[0] = sizeof(mr_flow_table_header);
  header->segment.struct_bytes[1] = sizeof(mr_flow_bucket);
  header->segment.struct_bytes[2] = sizeof(mr_flow_record);
  header->capacity = layout.capacity;
  header->bucket_count = bucket_count_for(layout.capacity);
  header->last_hops_offset = kLastHopsOffset;
  header->buckets_offset = kBucketsOffset;
  header->records_offset = records_offset_for(layout.capacity);
  std::copy_n(layout.secret, 4, header->secret);
  header->worker_index = layout.worker_index;
  header->worker_count = layout.worker_count;
  header->record_high = 0;
  header->set_generation = layout.set_generation;
  // Pairs with the acquire in readers that join by magic.
  std::atomic_ref<std::uint64_t>(header->segment.magic)
      .store(MR_SEGMENT_MAGIC, std::memory_order_release);
  FlowTable table;
  table.bind(memory);
  return table;
}

Result<FlowTable::Left> FlowTable::read(std::span<const std::byte> memory) {
  if (memory.size() < sizeof(mr_flow_table_header)) {
    return Error{"flow table: file of " + std::to_string(memory.size()) + " bytes has no header"};
  }
  const auto* header = reinterpret_cast<const mr_flow_table_header*>(memory.data());
  if (Status status = check_header(*header, memory.size()); !status) return status.error();
  const std::byte* start = memory.data();
  return Left{.capacity = header->capacity,
              .worker_index = header->worker_index,
              .worker_count = header->worker_count,
              .set_generation = header->set_generation,
              .records = {reinterpret_cast<const mr_flow_record*>(start + header->records_offset),
                          header->record_high},
              .last_hops = {reinterpret_cast<const mr_last_hop*>(start + kLastHopsOffset),
                            MR_LAST_HOP_COUNT}};
}

Result<FlowTable> FlowTable::attach(std::span<std::byte> memory, const Layout& layout) {
  const Result<Left> left = read(memory);
  if (!left) return left.error();
  if (Status status = check_shape(*left, layout); !status) return status.error();
  FlowTable table;
  table.bind(memory);
  table.rebuild();
  return table;
}

void FlowTable::rebuild() noexcept {
  std::fill_n(buckets_, std::size_t{bucket_mask_} + 1, mr_flow_bucket{});
  free_head_ = MR_RECORD_NONE;
  used_ = 0;
  for (std::uint32_t index = 0; index < header_->record_high; ++index) {
    mr_flow_record& record = records_[index];
    if (is_believable(record) && enter(hash(ClientKey::of(record)), index)) {
      ++used_;
      last_hops_.keep(record.last_hop);
      continue;
    }
    record = mr_flow_record{};
    record.listener_id = free_head_;
    free_head_ = index;
  }
  last_hops_.forget_unused();
}

std::uint32_t FlowTable::insert(std::uint64_t hash, const ClientKey& key,
                                std::uint32_t state) noexcept {
  const bool from_free_list = free_head_ != MR_RECORD_NONE;
  const std::uint32_t index = from_free_list ? free_head_ : header_->record_high;
  if (index >= capacity_ || !enter(hash, index)) return MR_RECORD_NONE;
  mr_flow_record& record = records_[index];
  if (from_free_list) {
    free_head_ = record.listener_id;
    if (free_head_ != MR_RECORD_NONE) __builtin_prefetch(&records_[free_head_], 1);
  } else {
    header_->record_high = index + 1;
  }
  ++used_;
  record = mr_flow_record{};
  store(record.client_addr.bytes, key.addr.low);
  store(record.client_addr.bytes + 8, key.addr.high);
  record.client_port_be = static_cast<std::uint16_t>(key.port_protocol);
  record.protocol = static_cast<std::uint8_t>(key.port_protocol >> 16);
  // The state makes the record a flow: a process killed before this line leaves a free record, and
  // one killed after it a record that is_believable() refuses until the caller has set the ids.
  std::atomic_signal_fence(std::memory_order_release);
  record.state = static_cast<std::uint8_t>(state);
  return index;
}

bool FlowTable::insert_copy(const mr_flow_record& flow, const mr_last_hop& hop) noexcept {
  if (used_ >= capacity_) return false;
  const ClientKey key = ClientKey::of(flow);
  const std::uint32_t index = insert(hash(key), key, flow.state);
  if (index == MR_RECORD_NONE) return false;
  records_[index] = flow;
  records_[index].last_hop = LastHops::is_believable(hop) ? last_hops_.learn(hop.mac, hop.nic) : 0;
  return true;
}

void FlowTable::remove(mr_flow_record& record) noexcept {
  const std::uint32_t index = index_of(record);
  assert(index < header_->record_high && record.state != MR_FLOW_FREE && used_ > 0);
  const std::uint64_t h = hash(ClientKey::of(record));
  record.state = MR_FLOW_FREE;
  std::atomic_signal_fence(std::memory_order_release);
  mr_flow_bucket& first = buckets_[first_bucket(h)];
  if (!leave_bucket(first, tag_of(h), index) &&
      leave_bucket(buckets_[second_bucket(h)], tag_of(h), index)) {
    --first.overflowed;
  }
  record.listener_id = free_head_;
  free_head_ = index;
  --used_;
}

bool FlowTable::is_entered_once(std::uint32_t index) const noexcept {
  const std::uint64_t h = hash(ClientKey::of(records_[index]));
  const mr_flow_bucket& first = buckets_[first_bucket(h)];
  const mr_flow_bucket& second = buckets_[second_bucket(h)];
  std::uint32_t entries = 0;
  for (std::uint32_t way = 0; way < MR_BUCKET_WAYS; ++way) {
    entries += first.tags[way] == tag_of(h) && first.records[way] == index ? 1 : 0;
    if (&first == &second) continue;
    const bool is_second = second.tags[way] == tag_of(h) && second.records[way] == index;
    if (is_second && first.overflowed == 0) return false;
    entries += is_second ? 1 : 0;
  }
  return entries == 1;
}

const char* FlowTable::inconsistency() const noexcept {
  if (header_ == nullptr) return nullptr;
  const std::uint32_t high = header_->record_high;
  std::uint32_t used = 0;
  for (std::uint32_t index = 0; index < high; ++index) {
    if (records_[index].state == MR_FLOW_FREE) continue;
    ++used;
    if (!is_entered_once(index)) return "a flow is not entered once in a bucket of its own";
  }
  if (used != used_) return "the number of flows is wrong";
  std::uint32_t free = 0;
  for (std::uint32_t index = free_head_; index != MR_RECORD_NONE; ++free) {
    if (index >= high || free >= high || records_[index].state != MR_FLOW_FREE) {
      return "the list of free records leads to one that is none";
    }
    index = records_[index].listener_id;
  }
  if (used + free != high) return "a record is neither a flow's nor free";
  std::uint32_t entries = 0;
  for (std::uint32_t i = 0; i <= bucket_mask_; ++i) {
    for (const std::uint16_t tag : buckets_[i].tags) entries += tag != 0 ? 1 : 0;
  }
  return entries == used ? nullptr : "a bucket names a record that is no flow";
}

bool FlowTable::enter(std::uint64_t hash, std::uint32_t index) noexcept {
  mr_flow_bucket& first = buckets_[first_bucket(hash)];
  if (enter_bucket(first, tag_of(hash), index)) [[likely]]
    return true;
  if (!enter_bucket(buckets_[second_bucket(hash)], tag_of(hash), index)) return false;
  ++first.overflowed;
  return true;
}

bool FlowTable::enter_bucket(mr_flow_bucket& bucket, std::uint16_t tag,
                             std::uint32_t index) noexcept {
  const std::uint32_t empty = matching_ways(bucket, 0);
  if (empty == 0) return false;
  const std::uint32_t way = way_of(empty);
  bucket.tags[way] = tag;
  bucket.records[way] = index;
  return true;
}

bool FlowTable::leave_bucket(mr_flow_bucket& bucket, std::uint16_t tag,
                             std::uint32_t index) noexcept {
  for (std::uint32_t way = 0; way < MR_BUCKET_WAYS; ++way) {
    if (bucket.tags[way] != tag || bucket.records[way] != index) continue;
    bucket.tags[way] = 0;
    return true;
  }
  return false;
}

}  // namespace millrace::core

// SPDX-License-Identifier: Apache-2.0
//
// Damaged config images through core::check_image(), and what passes through the packet path: no
// image that is accepted may lead a worker outside the segment, whatever its indexes say.
//
// Input: [u8 mode][...]. Mode bit 0: the rest is the segment itself. Otherwise the rest are patches
// to a valid segment; bit 1: checksums of tables, bit 2: of the image, are put right afterwards, as
// a publisher with a fault would.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/forwarder.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/patches.h"
#include "tests/support/cc/frame_text.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::fuzz {
namespace {

constexpr std::uint32_t kFlowCapacity = 64;
constexpr std::uint16_t kHeadroom = mr_outer_bytes(MR_FORWARDING_GUE, false) + MR_VLAN_BYTES;
constexpr std::uint64_t kNowNs = 1'000'000'000'000;

test::Image build_image(std::uint64_t generation) {
  test::ImageBuilder builder;
  const auto nat = builder.add_group({.table_slots = 13});
  const auto gue = builder.add_group({.forwarding = MR_FORWARDING_GUE, .table_slots = 7});
  static_cast<void>(builder.add_group({}));  // without a target
  for (const char* addr : {"10.0.1.11", "10.0.1.12"}) {
    static_cast<void>(
        builder.add_target({.group_slot = nat, .addr = test::addr_of(addr), .port = 8080}));
  }
  static_cast<void>(builder.add_target({.group_slot = gue,
                                        .addr = test::addr_of("2001:db8:1::11"),
                                        .port = 53,
                                        .protocol = MR_PROTOCOL_UDP}));
  static_cast<void>(builder.add_listener(
      {.vip_addr = test::addr_of("203.0.113.10"), .port = 80, .group_slot = nat}));
  static_cast<void>(builder.add_listener({.vip_addr = test::addr_of("2001:db8::10"),
                                          .port = 53,
                                          .protocol = MR_PROTOCOL_UDP,
                                          .group_slot = gue}));
  builder.add_local_addr(test::addr_of("10.0.1.1"));
  builder.add_local_mac({.mac = {2, 0, 0, 0, 0, 9}, .nic = 0, .reserved = 0});
  builder.set_encap_source(test::addr_of("2001:db8:1::1"));
  builder.set_default_next_hops(test::next_hop_of("02:00:00:00:00:fe"), {});
  return builder.build(generation);
}

// Requests and replies of both listeners, echo, ARP.
const std::vector<test::Bytes>& probes() {
  static const std::vector<test::Bytes> frames = [] {
    std::vector<test::Bytes> made;
    for (const char* text : {
             "eth 02:00:00:00:00:fe > 02:00:00:00:00:01 / ip 198.51.100.7 > 203.0.113.10"
             " / tcp 40000 > 80 flags S",
             "eth 02:00:00:00:00:fe > 02:00:00:00:00:01 / ip 198.51.100.8 > 203.0.113.10"
             " / tcp 40001 > 80",
             "eth 02:00:00:00:01:11 > 02:00:00:00:00:01 / ip 10.0.1.11 > 198.51.100.7"
             " / tcp 8080 > 40000 flags SA",
             "eth 02:00:00:00:01:11 > 02:00:00:00:00:01 / ip 10.0.1.12 > 198.51.100.9"
             " / tcp 8080 > 40000",
             "eth 02:00:00:00:00:fe > 02:00:00:00:00:01 / ip6 2001:db8:c::7 > 2001:db8::10"
             " / udp 40000 > 53",
             "eth 02:00:00:00:00:fe > 02:00:00:00:00:01 / ip 198.51.100.7 > 203.0.113.10 / icmp",
             "eth 02:00:00:00:00:fe > ff:ff:ff:ff:ff:ff / arp request"
             " sender_mac 02:00:00:00:00:fe sender 203.0.113.1 target 203.0.113.10",
         }) {
      made.push_back(*test::frame_of(text, {}));
    }
    return made;
  }();
  return frames;
}

// A worker that goes from a good config over the accepted one and back, with flows.
void use(const core::ConfigView& good, const core::ConfigView& accepted) {
  const std::uint64_t bytes = core::FlowTable::bytes_for(kFlowCapacity);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> memory(bytes / sizeof(Line) + 1);
  constexpr core::FlowTable::Layout kLayout = {.capacity = kFlowCapacity,
                                               .worker_index = 0,
                                               .worker_count = 1,
                                               .secret = {1, 2, 3, 4},
                                               .created_ns = 1,
                                               .creator_pid = 1};
  const auto memory_bytes = std::as_writable_bytes(std::span{memory});
  mr_worker_stats stats{};
  std::vector<mr_listener_stats> listeners(2);
  std::vector<mr_target_stats> targets(2);
  const std::vector<core::MacAddr> macs = {{.bytes = {2, 0, 0, 0, 0, 1}}};
  core::Forwarder forwarder(
      {.flow_table = core::FlowTable::format(memory_bytes, kLayout),
       .nic_macs = macs,
       .counters = {.worker = &stats, .listeners = listeners, .targets = targets}});
  for (const core::ConfigView* view : {&good, &accepted, &good, &accepted}) {
    forwarder.adopt(*view);
    std::vector<test::Bytes> frames = probes();
    core::Burst burst;
    for (test::Bytes& frame : frames) {
      frame.insert(frame.begin(), kHeadroom, 0);
      burst.packets[burst.count++] = {
          .data = frame.data() + kHeadroom,
          .length = static_cast<std::uint32_t>(frame.size()) - kHeadroom,
          .headroom = kHeadroom,
          .nic = 0,
          .reserved = 0};
    }
    forwarder.process_burst(burst, kNowNs);
    forwarder.sweep(kNowNs, kFlowCapacity);
    std::uint64_t counted = 0;
    for (const std::uint64_t drops : stats.drops) counted += drops;
    counted += stats.counters[MR_COUNTER_FORWARDED_PACKETS] +
               stats.counters[MR_COUNTER_REPLIED_PACKETS] +
               stats.counters[MR_COUNTER_PUNTED_PACKETS];
    require(counted % frames.size() == 0, "every packet is counted once");
  }
  forwarder.recount_flows();
}

// Where the segment says something is, if it is inside.
template <typename T>
T* placed(std::span<std::byte> segment, std::uint64_t offset, std::uint64_t count) {
  if (offset % 8 != 0 || offset > segment.size() || count > (segment.size() - offset) / sizeof(T)) {
    return nullptr;
  }
  return reinterpret_cast<T*>(segment.data() + offset);
}

void mend_tables(std::span<std::byte> segment, const mr_image& image) {
  // A copy: damaged offsets may lay a group over the image itself.
  const std::uint32_t count = image.group_slots;
  auto* groups = placed<mr_target_group>(segment, image.groups_offset, count);
  for (std::uint32_t i = 0; groups != nullptr && i < count; ++i) {
    const auto* table =
        placed<mr_lookup_slot>(segment, groups[i].table_offset, groups[i].table_slots);
    if (table == nullptr) continue;
    groups[i].table_checksum =
        core::checksum64(std::as_bytes(std::span{table, groups[i].table_slots}));
  }
}

void mend_image(std::span<std::byte> segment, mr_image& image) {
  const std::uint64_t listener_entries = std::uint64_t{image.listener_table_mask} + 1;
  const std::uint64_t reverse_entries = std::uint64_t{image.reverse_table_mask} + 1;
  const auto* listener_table =
      placed<mr_table_entry>(segment, image.listener_table_offset, listener_entries);
  const auto* listeners =
      placed<mr_listener>(segment, image.listeners_offset, image.listener_slots);
  const auto* groups = placed<mr_target_group>(segment, image.groups_offset, image.group_slots);
  const auto* targets = placed<mr_target>(segment, image.targets_offset, image.target_slots);
  const auto* reverse_table =
      placed<mr_table_entry>(segment, image.reverse_table_offset, reverse_entries);
  const auto* local_addrs =
      placed<mr_addr>(segment, image.local_addrs_offset, image.local_addr_count);
  const auto* local_macs =
      placed<mr_local_mac>(segment, image.local_macs_offset, image.local_mac_count);
  const auto* port_ranges =
      placed<mr_port_range>(segment, image.port_ranges_offset, image.port_range_count);
  if (listener_table == nullptr || listeners == nullptr || groups == nullptr ||
      targets == nullptr || reverse_table == nullptr || local_addrs == nullptr ||
      local_macs == nullptr || port_ranges == nullptr) {
    return;
  }
  core::ConfigView view;
  view.image = &image;
  view.listener_table = {listener_table, static_cast<std::size_t>(listener_entries)};
  view.listeners = {listeners, image.listener_slots};
  view.groups = {groups, image.group_slots};
  view.targets = {targets, image.target_slots};
  view.reverse_table = {reverse_table, static_cast<std::size_t>(reverse_entries)};
  view.local_addrs = {local_addrs, image.local_addr_count};
  view.local_macs = {local_macs, image.local_mac_count};
  view.port_ranges = {port_ranges, image.port_range_count};
  image.checksum = core::image_checksum(view);
}

void try_segment(const test::Image& good, std::span<std::byte> segment) {
  for (const std::uint64_t generation : {std::uint64_t{0}, std::uint64_t{2}}) {
    const auto accepted = core::check_image(segment, generation, &good.view());
    if (accepted) use(good.view(), *accepted);
    if (!accepted) require(!accepted.error().message.empty(), "a refusal says why");
  }
}

void run(Input input, std::span<const std::uint8_t> whole) {
  static const test::Image good = build_image(1);
  const std::uint8_t mode = input.u8();
  if ((mode & 1) != 0) {
    // On the heap, aligned as mmap would do, and of just this size.
    const auto rest = whole.subspan(1);
    std::unique_ptr<std::byte[]> memory(new std::byte[rest.size()]);
    std::ranges::copy(std::as_bytes(rest), memory.get());
    return try_segment(good, {memory.get(), rest.size()});
  }
  test::Image image = build_image(2);
  damage(image.segment(), input);
  const auto* header = reinterpret_cast<const mr_config_header*>(image.segment().data());
  auto* root = placed<mr_image>(image.segment(), header->roots[2].image_offset, 1);
  if (root != nullptr && (mode & 2) != 0) mend_tables(image.segment(), *root);
  if (root != nullptr && (mode & 4) != 0) mend_image(image.segment(), *root);
  try_segment(good, image.segment());
}

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) millrace::fuzz::run({data, size}, {data, size});
  return 0;
}

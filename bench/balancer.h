// SPDX-License-Identifier: Apache-2.0
//
// A balancer under measurement: one listener, 100 targets, a flow table with so many flows in it.
// Cold to build; process() is the packet path itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/memory.h"
#include "bench/traffic.h"
#include "dataplane/core/forwarder.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::bench {

inline constexpr std::uint32_t kTargets = 100;
inline constexpr std::uint32_t kTargetsOfMany = 10;  // for each of several listeners
inline constexpr std::uint32_t kSlotsOfMany = 4093;
// Any time will do as long as it is the same for all packets: nothing is to expire.
inline constexpr std::uint64_t kNowNs = std::uint64_t{1000} << 30;

[[nodiscard]] inline FlowShape shape_of(bool is_v4, std::uint8_t protocol, std::uint8_t tcp_flags) {
  return {.vip = test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10"),
          .port = 80,
          .protocol = protocol,
          .tcp_flags = tcp_flags};
}

// One listener of the shape's VIP in front of kTargets targets, or as many as the shape says with
// kTargetsOfMany each.
[[nodiscard]] inline test::Image make_image(const FlowShape& shape, std::uint8_t forwarding) {
  test::ImageBuilder builder;
  for (const char* source : {"10.1.1.1", "2001:db8:2::1"}) {
    builder.set_encap_source(test::addr_of(source));
  }
  const bool has_many = shape.listeners > 1;
  for (std::uint32_t listener = 0; listener < shape.listeners; ++listener) {
    const std::uint32_t group = builder.add_group(
        {.forwarding = forwarding,
         .table_slots = has_many ? kSlotsOfMany : std::uint32_t{MR_LOOKUP_SLOTS_DEFAULT}});
    for (std::uint32_t i = 0; i < (has_many ? kTargetsOfMany : kTargets); ++i) {
      mr_addr addr = test::addr_of(core::is_v4(shape.vip) ? "10.1.0.1" : "2001:db8:1::1");
      addr.bytes[14] = static_cast<std::uint8_t>((listener * kTargetsOfMany + i) >> 8);
      addr.bytes[15] = static_cast<std::uint8_t>(listener * kTargetsOfMany + i + 1);
      builder.add_target({.group_slot = group,
                          .addr = addr,
                          .port = shape.takes_any_port ? std::uint16_t{0} : std::uint16_t{8080},
                          .protocol = shape.protocol});
    }
    mr_addr vip = shape.vip;
    vip.bytes[15] = static_cast<std::uint8_t>(vip.bytes[15] + listener % kVipsMax);
    const auto port = static_cast<std::uint16_t>(shape.port + listener / kVipsMax);
    builder.add_listener(
        {.vip_addr = vip,
         .port = shape.takes_any_port ? std::uint16_t{0} : port,
         .protocol = shape.protocol,
         .group_slot = group,
         .last_port = shape.takes_any_port ? std::uint16_t{0xffff} : std::uint16_t{0}});
  }
  return builder.build(1);
}

class Balancer {
 public:
  // Half again as many records as flows: a table that is well used.
  [[nodiscard]] static std::uint32_t capacity_for(std::uint32_t flows) {
    return std::max(flows + flows / 2, 4096u);
  }

  Balancer(std::uint32_t flows, const FlowShape& shape, std::uint8_t forwarding)
      : Balancer(flows, shape, forwarding, capacity_for(flows)) {}
  Balancer(std::uint32_t flows, const FlowShape& shape, std::uint8_t forwarding,
           std::uint32_t capacity)
      : flow_count_(flows),
        writer_(shape),
        memory_(core::FlowTable::bytes_for(capacity)),
        table_(core::FlowTable::format(memory_.span(), layout_for(capacity))),
        image_(make_image(shape, forwarding)),
        forwarder_({.flow_table = table_,
                    .nic_macs = macs_,
                    .counters = {.worker = &worker_stats_,
                                 .listeners = listener_stats_,
                                 .targets = target_stats_},
                    .flow_inserts_per_ms = 0xffffffffu}) {
    forwarder_.adopt(image_.view());
  }
  Balancer(const Balancer&) = delete;
  Balancer& operator=(const Balancer&) = delete;

  // Opens flows 0 to flow_count - 1.
  void open_flows() {
    std::vector<std::uint8_t> frames(core::kBurstMax * kFrameRoom);
    core::Burst burst;
    for (std::uint32_t flow = 0; flow < flow_count_; flow += burst.count) {
      burst.count = std::min(core::kBurstMax, flow_count_ - flow);
      for (std::uint32_t i = 0; i < burst.count; ++i) {
        std::uint8_t* frame = frames.data() + i * kFrameRoom + kFrameHeadroom;
        writer_.write(frame, flow + i);
        burst.packets[i] = packet_at(frame);
      }
      process(burst);
    }
  }

  [[nodiscard]] core::Packet packet_at(std::uint8_t* frame) const {
    return {.data = frame,
            .length = writer_.length(),
            .headroom = kFrameHeadroom,
            .nic = 0,
            .reserved = 0};
  }
  void process(core::Burst& burst) { forwarder_.process_burst(burst, kNowNs); }
  void process(core::Burst& burst, const core::Ownership& ownership) {
    forwarder_.process_burst(burst, kNowNs, ownership);
  }

  [[nodiscard]] const FrameWriter& writer() const { return writer_; }
  [[nodiscard]] std::uint32_t flow_count() const { return flow_count_; }
  [[nodiscard]] std::uint64_t counter(mr_counter counter) const {
    return worker_stats_.counters[counter];
  }
  [[nodiscard]] mr_worker_stats& worker_stats() { return worker_stats_; }
  [[nodiscard]] const char* memory_kind() const { return memory_.kind(); }
  [[nodiscard]] std::uint64_t memory_bytes() const { return memory_.span().size(); }
  [[nodiscard]] core::Forwarder& forwarder() { return forwarder_; }
  [[nodiscard]] const core::ConfigView& config() const { return image_.view(); }

  static constexpr std::size_t kFrameRoom = 256;
  static constexpr std::uint16_t kFrameHeadroom = 64;  // of it, for encapsulation

 private:
  static core::FlowTable::Layout layout_for(std::uint32_t capacity) {
    return {
        .capacity = capacity,
        .worker_index = 0,
        .worker_count = 1,
        .secret = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
        .created_ns = 1,
        .creator_pid = 1};
  }
  std::uint32_t flow_count_;
  FrameWriter writer_;
  HugeMemory memory_;
  core::FlowTable table_;
  test::Image image_;
  std::array<core::MacAddr, 1> macs_{core::MacAddr{{2, 0, 0, 0, 0, 0}}};
  mr_worker_stats worker_stats_{};
  std::vector<mr_listener_stats> listener_stats_{1024};
  std::vector<mr_target_stats> target_stats_{16384};
  core::Forwarder forwarder_;
};

}  // namespace millrace::bench

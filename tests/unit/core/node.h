// SPDX-License-Identifier: Apache-2.0
//
// A worker's packet path without a worker: config, flow table and counters in memory, time in hand.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <numeric>
#include <vector>

#include "dataplane/core/forwarder.h"
#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/image_builder.h"
#include "tests/unit/core/frame.h"

namespace millrace::test {

// What became of one packet.
struct Outcome {
  core::VerdictKind kind;
  std::uint8_t nic;
  std::uint8_t reason;
  std::uint8_t owner;
  std::vector<std::uint8_t> frame;
};

struct NodeOptions {
  std::uint32_t capacity = 1024;
  std::uint32_t flow_inserts_per_ms = 100'000;
  std::uint32_t replies_per_ms = 1000;
  std::uint32_t foreign_per_ms = 1000;
};

class Node {
 public:
  Node() { reset({}); }
  Node(const Node&) = delete;  // the forwarder points at its members
  Node& operator=(const Node&) = delete;

  // An empty table of another shape; before the first publish().
  void reset(const NodeOptions& options) {
    options_ = options;
    memory_.assign(core::FlowTable::bytes_for(options.capacity) / sizeof(Line) + 1, Line{});
    table_ = core::FlowTable::format(bytes(), layout());
    make_forwarder();
  }

  ImageBuilder builder;

  // Publishes what the builder holds. Slots whose target changed keep the old one as `prev`.
  void publish() { publish_after(images_.empty() ? nullptr : &images_.back()); }
  // The same when the drain window of every slot is over: no slot has a `prev`.
  void publish_without_history() { publish_after(nullptr); }

  [[nodiscard]] Outcome send(const FrameSpec& spec) { return send(make_frame(spec)); }
  [[nodiscard]] Outcome send(std::vector<std::uint8_t> frame, std::uint8_t nic = 0) {
    core::Burst burst = burst_of(frame, nic);
    ++sent_;
    forwarder_->process_burst(burst, now_ns_);
    return outcome_of(burst, frame);
  }
  // As one of several workers would receive it from a nic.
  [[nodiscard]] Outcome send_to(const core::Ownership& ownership, std::vector<std::uint8_t> frame) {
    core::Burst burst = burst_of(frame, 0);
    forwarder_->process_burst(burst, now_ns_, ownership);
    if (burst.verdicts[0].kind() != core::VerdictKind::hand_over) ++sent_;
    return outcome_of(burst, frame);
  }

  void set_nic_mac(std::uint32_t nic, const core::MacAddr& mac) {
    forwarder_->set_nic_mac(nic, mac);
  }
  void pass_seconds(std::uint64_t seconds) { now_ns_ += seconds * kSecondNs; }
  void sweep() { forwarder_->sweep(now_ns_, table_.capacity()); }

  // Another process takes over the same flow table memory.
  void restart() {
    Result<core::FlowTable> attached = core::FlowTable::attach(bytes(), layout());
    if (!attached) std::abort();
    table_ = *attached;
    worker_stats_ = {};
    std::fill(target_stats_.begin(), target_stats_.end(), mr_target_stats{});
    sent_ = 0;
    make_forwarder();
    if (images_.empty()) return;
    forwarder_->adopt(images_.back().view());
    forwarder_->recount_flows();
  }

  [[nodiscard]] const core::FlowTable& table() const { return forwarder_->flows(); }
  [[nodiscard]] const core::ConfigView& config() const { return images_.back().view(); }
  [[nodiscard]] std::uint64_t counter(mr_counter counter) const {
    return worker_stats_.counters[counter];
  }
  [[nodiscard]] std::uint64_t dropped(mr_drop_reason reason) const {
    return worker_stats_.drops[reason];
  }
  [[nodiscard]] const mr_worker_stats& worker() const { return worker_stats_; }
  [[nodiscard]] const mr_target_stats& target(std::uint32_t slot) const {
    return target_stats_[slot];
  }
  [[nodiscard]] const mr_listener_stats& listener(std::uint32_t slot) const {
    return listener_stats_[slot];
  }

  // rx = forwarded + replied + punted + drops, to the packet.
  [[nodiscard]] bool is_balanced() const {
    const auto& c = worker_stats_.counters;
    const std::uint64_t drops = std::accumulate(std::begin(worker_stats_.drops),
                                                std::end(worker_stats_.drops), std::uint64_t{0});
    return sent_ == c[MR_COUNTER_FORWARDED_PACKETS] + c[MR_COUNTER_REPLIED_PACKETS] +
                        c[MR_COUNTER_PUNTED_PACKETS] + drops;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  [[nodiscard]] std::span<std::byte> bytes() {
    return {memory_.front().bytes, memory_.size() * sizeof(Line)};
  }
  [[nodiscard]] core::FlowTable::Layout layout() const {
    return {
        .capacity = options_.capacity,
        .worker_index = 0,
        .worker_count = 1,
        .secret = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
        .created_ns = 1,
        .creator_pid = 1};
  }
  [[nodiscard]] static core::Burst burst_of(std::vector<std::uint8_t>& frame, std::uint8_t nic) {
    core::Burst burst;
    burst.count = 1;
    burst.packets[0] = {.data = frame.data(),
                        .length = static_cast<std::uint32_t>(frame.size()),
                        .headroom = 0,
                        .nic = nic,
                        .reserved = 0};
    return burst;
  }
  [[nodiscard]] static Outcome outcome_of(const core::Burst& burst,
                                          std::vector<std::uint8_t>& frame) {
    frame.resize(burst.packets[0].length);
    const core::Verdict verdict = burst.verdicts[0];
    return {verdict.kind(), verdict.nic(), verdict.reason(), verdict.owner(), frame};
  }
  void publish_after(const Image* previous) {
    images_.push_back(builder.build(++generation_, previous));
    forwarder_->adopt(images_.back().view());
  }
  void make_forwarder() {
    forwarder_ = std::make_unique<core::Forwarder>(core::Forwarder::Options{
        .flow_table = table_,
        .nic_macs = macs_,
        .counters = {.worker = &worker_stats_,
                     .listeners = listener_stats_,
                     .targets = target_stats_},
        .flow_inserts_per_ms = options_.flow_inserts_per_ms,
        .replies_per_ms = options_.replies_per_ms,
        .foreign_per_ms = options_.foreign_per_ms,
    });
  }

  NodeOptions options_;
  std::vector<Line> memory_;
  core::FlowTable table_ = core::FlowTable::none();
  std::array<core::MacAddr, 2> macs_{core::MacAddr{{2, 0, 0, 0, 0, 1}},
                                     core::MacAddr{{2, 0, 0, 0, 0, 2}}};
  mr_worker_stats worker_stats_{};
  std::vector<mr_listener_stats> listener_stats_{64};
  std::vector<mr_target_stats> target_stats_{256};
  std::list<Image> images_;
  std::uint64_t generation_ = 0;
  std::uint64_t now_ns_ = 1000 * kSecondNs;
  std::uint64_t sent_ = 0;
  std::unique_ptr<core::Forwarder> forwarder_;
};

}  // namespace millrace::test

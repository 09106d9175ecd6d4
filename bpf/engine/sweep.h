// SPDX-License-Identifier: Apache-2.0
//
// Looks at every flow record about once a second: folds its counts into the listener's and the
// target's counters, ends what has been idle for too long, gives records up that ended, and keeps
// the copy outside the kernel (flow_copy.h). Warm: the daemon's thread, in slices of at most a
// millisecond. The rules are core/forwarder_flows.cc's; what differs is that programs on other CPUs
// use the records meanwhile.
//
//   a flow --idle, its listener or target gone, or given up for want of room--> EXPIRED or GONE
//          --a round later, when no program can still have it--> REUSABLE
//          --a round later, when the record behind it is FREE--> FREE
//
// Rounds go downwards, so that a run of records that can become free does so at once.
//
// Neighbours that clients' packets come from are given back when no flow needs them: out of use
// after a round without one, forgotten after another.
#pragma once

#include <cstdint>
#include <vector>

#include "bpf/engine/flow_copy.h"
#include "bpf/engine/maps.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::xdp {

// All records are seen once in this time.
inline constexpr std::uint64_t kSweepRoundNs = kSecondNs;

class Sweep {
 public:
  // `copy` may be null. Both outlive this.
  Sweep(const Maps& maps, FlowCopy* copy);

  // As many records as are due by `now_ns` (CLOCK_MONOTONIC). `view`: the config in force.
  void run(const core::ConfigView& view, std::uint64_t now_ns);
  // A whole round now, however long it takes: at start, for the gauges, and at the end.
  void run_round(const core::ConfigView& view, std::uint64_t now_ns);

  // Whether flows have been counted since this was made: before, "0" says nothing.
  [[nodiscard]] bool has_counted() const { return has_counted_; }
  // Of the last complete round.
  [[nodiscard]] std::uint64_t active_flows() const { return active_flows_; }
  [[nodiscard]] const std::vector<std::uint64_t>& target_flows() const { return target_flows_; }
  // Since this was made.
  [[nodiscard]] std::uint64_t removed() const { return removed_; }
  [[nodiscard]] std::uint64_t expired() const { return expired_; }
  [[nodiscard]] std::uint64_t given_up() const { return given_up_; }

 private:
  void step(std::uint32_t records);
  void visit(std::uint32_t index);
  void visit_flow(std::uint32_t index, mr_flow_record& flow, StateWord word);
  void visit_reusable(std::uint32_t index, mr_flow_record& record, StateWord word);
  [[nodiscard]] bool end_flow(mr_flow_record& flow, StateWord word, std::uint32_t seen_tick,
                              std::uint8_t state);
  [[nodiscard]] bool is_double(std::uint32_t index, const mr_flow_record& flow, StateWord word);
  void note_round(mr_flow_record& flow, StateWord word);
  [[nodiscard]] bool gives_way(const mr_flow_record& flow, std::uint8_t state) const;
  void give_up(mr_flow_record& flow, StateWord word, std::uint32_t seen_tick);
  void note_last_hop(std::uint16_t index);
  void give_back_last_hops();
  void age_no_room();
  void fold_counts(mr_flow_record& flow);
  void finish_round();
  [[nodiscard]] const mr_listener* listener_of(const mr_flow_record& flow) const;
  [[nodiscard]] bool has_target(const mr_flow_record& flow) const;
  [[nodiscard]] std::span<mr_listener_stats> listeners() const;
  [[nodiscard]] std::span<mr_target_stats> targets() const;

  Maps maps_;
  FlowCopy* copy_;
  const core::ConfigView* view_ = nullptr;  // during a call
  std::uint32_t tick_ = 0;
  std::uint32_t next_ = 0;                // records [0, next_) are left in this round
  std::uint64_t swept_ns_ = 0;            // the time up to which records have been seen
  std::vector<std::uint8_t> last_state_;  // of each record at its last visit
  // Of the round under way, and of the last one.
  bool has_counted_ = false;
  std::uint64_t used_counted_ = 0;  // records that are not free
  std::uint64_t used_ = 0;
  std::uint64_t active_counted_ = 0;
  std::uint64_t active_flows_ = 0;
  std::vector<std::uint64_t> target_counted_;
  std::vector<std::uint64_t> target_flows_;
  std::uint64_t removed_ = 0;
  std::uint64_t expired_ = 0;
  std::uint64_t given_up_ = 0;
  std::vector<bool> last_hop_is_used_;  // in this round
  std::uint32_t no_room_tick_ = 0;      // when the halves changed
};

}  // namespace millrace::xdp

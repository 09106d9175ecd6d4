// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/sweep.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace millrace::xdp {

namespace {

// A slice looks at the clock after so many records, and ends after so long.
constexpr std::uint32_t kRecordsPerLook = 512;
constexpr std::uint64_t kSliceNs = 1'000'000;

std::uint64_t monotonic_ns() {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail with a valid clock
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// The daemon's row has one writer, the daemon; readers copy it in the same thread.
void add(std::uint64_t& counter, std::uint64_t amount) { counter += amount; }

std::uint32_t load_tick(const mr_flow_record& flow) {
  return std::atomic_ref<std::uint32_t>(const_cast<std::uint32_t&>(flow.last_seen_tick))
      .load(std::memory_order_relaxed);
}

// Signed, because a program's clock may be a jiffy ahead of ours.
bool is_idle(const mr_flow_record& flow, std::uint8_t state, const mr_listener& listener,
             std::uint32_t tick) {
  return static_cast<std::int32_t>(tick - load_tick(flow)) >
         static_cast<std::int32_t>(listener.timeout_ticks[state & 7u]);
}

}  // namespace

Sweep::Sweep(const Maps& maps, FlowCopy* copy)
    : maps_(maps),
      copy_(copy),
      next_(static_cast<std::uint32_t>(maps.flows.size())),
      last_state_(maps.flows.size()),
      target_counted_(maps.control->target_slots),
      target_flows_(maps.control->target_slots) {}

void Sweep::run(const core::ConfigView& view, std::uint64_t now_ns) {
  if (view.image == nullptr)
    return;  // flows of an earlier daemon wait for the config they belong to
  if (swept_ns_ == 0) swept_ns_ = now_ns;
  const std::uint64_t records = maps_.flows.size();
  // After a pause: one round, not all missed ones.
  swept_ns_ = std::max(swept_ns_, now_ns - std::min(now_ns, kSweepRoundNs));
  std::uint64_t due = records * (now_ns - swept_ns_) / kSweepRoundNs;
  view_ = &view;
  tick_ = static_cast<std::uint32_t>(now_ns >> MR_TICK_SHIFT);
  while (due != 0) {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(due, kRecordsPerLook));
    step(count);
    due -= count;
    swept_ns_ += count * kSweepRoundNs / records;
    if (monotonic_ns() - now_ns > kSliceNs) break;
  }
}

void Sweep::run_round(const core::ConfigView& view, std::uint64_t now_ns) {
  if (view.image == nullptr) return;
  view_ = &view;
  tick_ = static_cast<std::uint32_t>(now_ns >> MR_TICK_SHIFT);
  step(next_);
  if (next_ != maps_.flows.size()) step(static_cast<std::uint32_t>(maps_.flows.size()));
  swept_ns_ = now_ns;
}

void Sweep::step(std::uint32_t records) {
  for (; records != 0; --records) {
    visit(--next_);
    if (next_ != 0) continue;
    finish_round();
    next_ = static_cast<std::uint32_t>(maps_.flows.size());
  }
}

void Sweep::visit(std::uint32_t index) {
  mr_flow_record& record = maps_.flows[index];
  const StateWord word = load_state(record);
  const std::uint8_t state = word.state();
  const bool was_same = last_state_[index] == state;
  if (word.word == 0) {
    if (was_same) return;  // its copy is free already
  } else if (state < MR_FLOW_STATE_COUNT) {
    visit_flow(record, word);
  } else if (state == MR_XDP_FLOW_REUSABLE) {
    if (was_same) visit_reusable(index, record, word);
  } else if (was_same) {
    // GONE for a round: nobody uses it any more. BUSY for a round: nobody will ever finish it.
    if (state == MR_XDP_FLOW_GONE) fold_counts(record);
    (void)change_state(record, word, MR_XDP_FLOW_REUSABLE);  // only the sweep ends these states
  }
  last_state_[index] = load_state(record).state();
  if (copy_ != nullptr) copy_->set(index, record);
}

void Sweep::visit_flow(mr_flow_record& flow, StateWord word) {
  const std::uint8_t state = word.state();
  fold_counts(flow);
  ++used_counted_;
  const mr_listener* listener = listener_of(flow);
  if (listener == nullptr || !has_target(flow)) {
    (void)end_flow(flow, word, MR_XDP_FLOW_GONE);
    return;
  }
  if (state == MR_FLOW_EXPIRED) {
    const std::uint64_t kept_below = maps_.flows.size() - maps_.flows.size() / 8;
    if (used_ > kept_below || is_idle(flow, state, *listener, tick_)) {
      (void)end_flow(flow, word, MR_XDP_FLOW_GONE);
    }
    return;
  }
  if (!is_idle(flow, state, *listener, tick_)) {
    ++active_counted_;
    if (flow.target_slot < target_counted_.size()) ++target_counted_[flow.target_slot];
    return;
  }
  const bool is_worth_a_reset = state == MR_FLOW_ESTABLISHED || state == MR_FLOW_CLOSING;
  const auto end =
      is_worth_a_reset ? std::uint8_t{MR_FLOW_EXPIRED} : std::uint8_t{MR_XDP_FLOW_GONE};
  expired_ += end_flow(flow, word, end);
}

// A packet may come between the look at the record and this: whoever changed the state first wins.
bool Sweep::end_flow(mr_flow_record& flow, StateWord word, std::uint8_t state) {
  if (!change_state(flow, word, state)) return false;
  std::atomic_ref<std::uint32_t>(flow.last_seen_tick).store(tick_, std::memory_order_relaxed);
  removed_ += state == MR_XDP_FLOW_GONE;
  return true;
}

// Free when no probe has to go on behind it. A program may claim the next record at this very
// moment, because it has passed this one as not free: then this one must not end probes.
void Sweep::visit_reusable(std::uint32_t index, mr_flow_record& record, StateWord word) {
  mr_flow_record& next = maps_.flows[(index + 1) & maps_.control->flow_mask];
  if (load_state(next).word != 0) return;
  if (!change_state(record, word, MR_FLOW_FREE)) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (load_state(next).word == 0) return;
  StateWord free_word{0};
  (void)state_word_of(record).compare_exchange_strong(  // claimed meanwhile is as good
      free_word.word, word.word, std::memory_order_acq_rel);
}

void Sweep::fold_counts(mr_flow_record& flow) {
  if (std::atomic_ref<std::uint32_t>(flow.packets).load(std::memory_order_relaxed) == 0) return;
  const std::uint64_t packets = std::atomic_ref<std::uint32_t>(flow.packets).exchange(0);
  const std::uint64_t bytes = std::atomic_ref<std::uint64_t>(flow.bytes).exchange(0);
  if (flow.listener_slot < listeners().size()) {
    add(listeners()[flow.listener_slot].packets, packets);
    add(listeners()[flow.listener_slot].bytes, bytes);
  }
  if (flow.target_slot < targets().size()) {
    add(targets()[flow.target_slot].packets, packets);
    add(targets()[flow.target_slot].bytes, bytes);
  }
}

void Sweep::finish_round() {
  used_ = std::exchange(used_counted_, 0);
  active_flows_ = std::exchange(active_counted_, 0);
  target_flows_.swap(target_counted_);
  std::fill(target_counted_.begin(), target_counted_.end(), 0);
  if (copy_ != nullptr) copy_->set_last_hops(maps_.last_hops);
}

const mr_listener* Sweep::listener_of(const mr_flow_record& flow) const {
  if (flow.listener_slot >= view_->listeners.size()) return nullptr;
  const mr_listener& listener = view_->listeners[flow.listener_slot];
  return listener.id == flow.listener_id ? &listener : nullptr;
}

bool Sweep::has_target(const mr_flow_record& flow) const {
  return flow.target_slot < view_->targets.size() &&
         view_->targets[flow.target_slot].id == flow.target_id;
}

std::span<mr_listener_stats> Sweep::listeners() const {
  const std::uint32_t slots = maps_.control->listener_slots;
  return maps_.listener_stats.subspan(std::size_t{maps_.control->cpu_count} * slots, slots);
}

std::span<mr_target_stats> Sweep::targets() const {
  const std::uint32_t slots = maps_.control->target_slots;
  return maps_.target_stats.subspan(std::size_t{maps_.control->cpu_count} * slots, slots);
}

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/sweep.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <utility>

#include "dataplane/core/nanoseconds.h"
#include "dataplane/core/wire.h"
#include "dataplane/os/clock.h"
#include "dataplane/rules/flow_rule.h"
#include "dataplane/rules/forwarding_rule.h"

namespace millrace::xdp {

namespace {

// A slice looks at the clock after so many records, and ends after so long.
constexpr std::uint32_t kRecordsPerLook = 512;
constexpr std::uint64_t kSliceNs = kMillisecondNs;

// The daemon's row has one writer, the daemon; readers copy it in the same thread.
void add(std::uint64_t& counter, std::uint64_t amount) { counter += amount; }

std::uint32_t load_tick(const mr_flow_record& flow) {
  return std::atomic_ref<std::uint32_t>(const_cast<std::uint32_t&>(flow.last_seen_tick))
      .load(std::memory_order_relaxed);
}

// Flags share their word with the last hop, as programs have it.
constexpr unsigned kFlagsShift = 16;
static_assert(offsetof(mr_flow_record, flags) == offsetof(mr_flow_record, last_hop) + 2);

std::atomic_ref<std::uint32_t> flags_word_of(const mr_flow_record& flow) {
  auto* word = const_cast<std::uint16_t*>(&flow.last_hop);
  return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(word));
}

std::uint32_t flags_of(const mr_flow_record& flow) {
  return flags_word_of(flow).load(std::memory_order_relaxed) >> kFlagsShift;
}

bool is_silent(const mr_flow_record& flow, std::uint32_t ticks, std::uint32_t tick) {
  return mr_is_silent(tick, load_tick(flow), ticks);
}

bool is_idle(const mr_flow_record& flow, std::uint8_t state, const mr_listener& listener,
             std::uint32_t tick) {
  return is_silent(flow, listener.timeout_ticks[mr_timeout_index(state, flags_of(flow))], tick);
}

// A fuller table gives flows up that have been silent for less long. The program makes room, too,
// where it finds none in reach; this keeps that rare, and searches short. In sixteenths of the
// table and ticks; a second is the least, so that an answer that is on its way finds its flow.
struct Pressure {
  std::uint64_t fill;
  std::uint32_t silent_ticks;
};
constexpr std::uint32_t kSecondTicks = 1'000'000'000u >> MR_TICK_SHIFT;
constexpr std::array<Pressure, 4> kPressures = {{{.fill = 15, .silent_ticks = kSecondTicks},
                                                 {.fill = 14, .silent_ticks = 2 * kSecondTicks},
                                                 {.fill = 13, .silent_ticks = 4 * kSecondTicks},
                                                 {.fill = 12, .silent_ticks = 8 * kSecondTicks}}};
constexpr std::uint64_t kPlausibleFill = 14;
// A neighbour that was learned so recently may have a flow that this round has missed.
constexpr std::uint32_t kLastHopTicks = 3 * kSecondTicks;
// The default idle timeout of TCP, as in core/no_room.h.
constexpr std::uint32_t kNoRoomTicks = 350'000'000'000u >> MR_TICK_SHIFT;
constexpr std::uint64_t kLastHopInUse = std::uint64_t{1} << 56;

}  // namespace

Sweep::Sweep(const Maps& maps, FlowCopy* copy)
    : maps_(maps),
      copy_(copy),
      next_(static_cast<std::uint32_t>(maps.flows.size())),
      last_state_(maps.flows.size()),
      target_counted_(maps.control->target_slots),
      target_flows_(maps.control->target_slots),
      last_hop_is_used_(maps.last_hops.size()) {}

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
    if (clock_ns(CLOCK_MONOTONIC) - now_ns > kSliceNs) break;
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
    visit_flow(index, record, word);
  } else if (state == MR_XDP_FLOW_REUSABLE) {
    if (was_same) visit_reusable(index, record, word);
  } else if (was_same) {
    // GONE for a round: nobody uses it any more. BUSY for a round: nobody will ever finish it.
    if (state == MR_XDP_FLOW_GONE) fold_counts(record);
    (void)change_state(record, word, MR_XDP_FLOW_REUSABLE);  // only the sweep ends these states
  }
  used_counted_ += word.word != 0;
  last_state_[index] = load_state(record).state();
  if (copy_ == nullptr) return;
  copy_->set_last_hop(record.last_hop % MR_LAST_HOP_COUNT,
                      maps_.last_hops[record.last_hop % MR_LAST_HOP_COUNT]);
  copy_->set(index, record);
}

void Sweep::visit_flow(std::uint32_t index, mr_flow_record& flow, StateWord word) {
  const std::uint8_t state = word.state();
  // Before anything is decided by it: what is seen from here on keeps the flow.
  const std::uint32_t seen_tick = load_tick(flow);
  note_last_hop(flow.last_hop);
  if (std::atomic_ref<std::uint32_t>(flow.packets).load(std::memory_order_relaxed) != 0) {
    note_round(flow, word);
  }
  fold_counts(flow);
  const mr_listener* listener = listener_of(flow);
  const bool is_orphaned = listener == nullptr || !has_target(flow) || is_double(index, flow, word);
  const bool is_idle_now = !is_orphaned && is_idle(flow, state, *listener, tick_);
  const mr_sweep what = mr_sweep_of(state, is_orphaned, is_idle_now);
  if (what != MR_SWEEP_KEEP) {
    const auto end =
        what == MR_SWEEP_EXPIRE ? std::uint8_t{MR_FLOW_EXPIRED} : std::uint8_t{MR_XDP_FLOW_GONE};
    const bool has_ended = end_flow(flow, word, seen_tick, end);
    if (is_idle_now && !mr_is_over(state)) expired_ += has_ended;  // else it had ended by itself
    return;
  }
  if (gives_way(flow, state)) return give_up(flow, word, seen_tick);
  if (mr_is_over(state)) return;
  ++active_counted_;
  if (flow.target_slot < target_counted_.size()) ++target_counted_[flow.target_slot];
}

// A packet may come between the look at the record and this: whoever changed the state first wins.
// A program may even have ended the flow and entered another one with the same word: then it has
// been seen since `seen_tick`.
bool Sweep::end_flow(mr_flow_record& flow, StateWord word, std::uint32_t seen_tick,
                     std::uint8_t state) {
  if (!change_state(flow, word, state)) return false;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (load_tick(flow) != seen_tick) {
    (void)change_state(flow, word.with(state), word.state());  // or it is claimed already
    return false;
  }
  if (state == MR_FLOW_EXPIRED) {
    flags_word_of(flow).fetch_and(~(std::uint32_t{MR_FLOW_OF_ITS_LIFE} << kFlagsShift));
    std::atomic_ref<std::uint32_t>(flow.last_seen_tick).store(tick_, std::memory_order_relaxed);
  }
  removed_ += state == MR_XDP_FLOW_GONE;
  return true;
}

// Whether a probe meets another record of the same client and listener before this one, which is
// never found then: two CPUs entered the flow at the same moment.
bool Sweep::is_double(std::uint32_t index, const mr_flow_record& flow, StateWord word) {
  const core::AddrWords addr = core::words_of(flow.client_addr);
  const std::uint32_t mask = maps_.control->flow_mask;
  const std::uint32_t key = word.word & 0xffffffu;
  const std::uint32_t first = mr_xdp_flow_hash(maps_.control, addr.low, addr.high, key) & mask;
  const std::uint32_t distance = std::min((index - first) & mask, MR_XDP_PROBE_MAX);
  for (std::uint32_t probe = 0; probe < distance; ++probe) {
    mr_flow_record& other = maps_.flows[(first + probe) & mask];
    const StateWord other_word = load_state(other);
    if ((other_word.word & 0xffffffu) == key && other_word.state() < MR_FLOW_STATE_COUNT &&
        core::listener_word_of(other) == core::listener_word_of(flow) &&
        core::words_of(other.client_addr) == addr) {
      return true;
    }
  }
  return false;
}

// One more round in which the client spoke.
void Sweep::note_round(mr_flow_record& flow, StateWord word) {
  const std::uint8_t state = word.state();
  const std::uint32_t flags = mr_flags_of_round(state, flags_of(flow));
  if (flags != 0) flags_word_of(flow).fetch_or(flags << kFlagsShift);
  if ((flags & MR_FLOW_PLAUSIBLE) == 0) return;
  const std::uint32_t next = mr_plausible_state(state);
  if (next != state) (void)change_state(flow, word, static_cast<std::uint8_t>(next));
}

bool Sweep::gives_way(const mr_flow_record& flow, std::uint8_t state) const {
  const std::uint64_t sixteenth = maps_.flows.size() / 16;
  const mr_flow_worth worth = mr_flow_worth_of(state, flags_of(flow));
  if (worth == MR_WORTH_CONFIRMED) return false;
  if (worth == MR_WORTH_PLAUSIBLE && used_ <= kPlausibleFill * sixteenth) return false;
  const auto* pressure = std::ranges::find_if(
      kPressures, [&](const Pressure& at) { return used_ > at.fill * sixteenth; });
  return pressure != kPressures.end() && is_silent(flow, pressure->silent_ticks, tick_);
}

void Sweep::give_up(mr_flow_record& flow, StateWord word, std::uint32_t seen_tick) {
  const core::AddrWords addr = core::words_of(flow.client_addr);
  const bool is_missed = mr_sees_replies(view_->targets[flow.target_slot].forwarding) &&
                         mr_may_go_on(word.state(), flags_of(flow));
  const std::uint32_t hash =
      mr_xdp_flow_hash(maps_.control, addr.low, addr.high, word.word & 0xffffffu);
  if (!end_flow(flow, word, seen_tick, MR_XDP_FLOW_GONE)) return;
  ++given_up_;
  if (!is_missed) return;
  const std::size_t half = (maps_.control->no_room_newer & 1) * std::size_t{MR_XDP_NO_ROOM_WORDS};
  std::atomic_ref<std::uint64_t>(maps_.no_room[half + hash % MR_XDP_NO_ROOM_BITS / 64])
      .fetch_or(std::uint64_t{1} << hash % 64);
}

void Sweep::age_no_room() {
  if (no_room_tick_ == 0) no_room_tick_ = tick_;
  if (tick_ - no_room_tick_ < kNoRoomTicks) return;
  no_room_tick_ = tick_;
  const std::uint32_t older = ~maps_.control->no_room_newer & 1;
  for (std::uint64_t& word :
       maps_.no_room.subspan(std::size_t{older} * MR_XDP_NO_ROOM_WORDS, MR_XDP_NO_ROOM_WORDS)) {
    std::atomic_ref<std::uint64_t>(word).store(0, std::memory_order_relaxed);
  }
  std::atomic_ref<std::uint32_t>(maps_.control->no_room_newer)
      .store(older, std::memory_order_release);
}

// A flow may have learned a neighbour in the very moment in which it went out of use.
void Sweep::note_last_hop(std::uint16_t index) {
  const std::size_t at = index % maps_.last_hops.size();
  if (at == 0) return;
  last_hop_is_used_[at] = true;
  const std::atomic_ref<std::uint64_t> word(maps_.last_hops[at].word);
  const std::uint64_t known = word.load(std::memory_order_relaxed);
  if (known != 0 && (known & kLastHopInUse) == 0) word.store(known | kLastHopInUse);
}

void Sweep::give_back_last_hops() {
  for (std::size_t index = 1; index < maps_.last_hops.size(); ++index) {
    const bool is_used = last_hop_is_used_[index];
    last_hop_is_used_[index] = false;
    mr_xdp_last_hop& hop = maps_.last_hops[index];
    std::atomic_ref<std::uint64_t> word(hop.word);
    std::uint64_t known = word.load(std::memory_order_relaxed);
    const std::uint32_t learned_tick =
        std::atomic_ref<std::uint32_t>(hop.learned_tick).load(std::memory_order_relaxed);
    const bool is_fresh =
        static_cast<std::int32_t>(tick_ - learned_tick) < static_cast<std::int32_t>(kLastHopTicks);
    if (known == 0 || is_used || is_fresh) continue;
    const bool is_in_use = (known & kLastHopInUse) != 0;
    (void)word.compare_exchange_strong(known, is_in_use ? known & ~kLastHopInUse : 0);
  }
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
  // By id: the slot's next owner has not had these packets.
  if (flow.listener_slot < listeners().size() && listener_of(flow) != nullptr) {
    add(listeners()[flow.listener_slot].packets, packets);
    add(listeners()[flow.listener_slot].bytes, bytes);
  }
  if (flow.target_slot < targets().size() && has_target(flow)) {
    add(targets()[flow.target_slot].packets, packets);
    add(targets()[flow.target_slot].bytes, bytes);
  }
}

void Sweep::finish_round() {
  has_counted_ = true;
  age_no_room();
  give_back_last_hops();
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

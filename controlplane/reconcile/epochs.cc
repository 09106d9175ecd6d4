// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/epochs.h"

#include <malloc.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>
#include <utility>

#include "controlplane/lookup/fallback.h"
#include "controlplane/lookup/maglev.h"
#include "dataplane/core/checksum64.h"
#include "dataplane/core/invariant.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

constexpr std::uint16_t kNone = MR_MEMBER_NONE;
constexpr std::size_t kChangesMax = 0xffff;
// kFromHeapBytes covers the largest table. kKeptBytes covers what many groups that change together
// give back at once.
constexpr int kFromHeapBytes = 4 << 20;
constexpr int kKeptBytes = 64 << 20;

std::uint32_t ms_of(std::uint64_t ns) { return static_cast<std::uint32_t>(ns / kMillisecondNs); }

// How many changes came after it; numbers wrap.
int age_of_change(int newest, int change) { return (newest - change) & 0xffff; }

// `old_index` has, for each member that stays, the index that it had.
void renumber(std::span<mr_lookup_slot> slots, std::span<std::uint16_t> base,
              std::span<const std::uint16_t> old_index) {
  // One more, for slots that have no `prev`.
  std::vector<std::uint16_t> new_index(std::size_t{kNone} + 1, kNone);
  for (std::size_t i = 0; i < old_index.size(); ++i) {
    new_index[old_index[i]] = static_cast<std::uint16_t>(i);
  }
  for (mr_lookup_slot& slot : slots) {
    slot.cur = new_index[slot.cur];
    slot.prev = new_index[slot.prev];
  }
  for (std::uint16_t& owner : base) owner = new_index[owner];
}

std::vector<std::uint16_t> owners_of(std::span<const mr_lookup_slot> slots) {
  std::vector<std::uint16_t> owners(slots.size());
  std::ranges::transform(slots, owners.begin(), &mr_lookup_slot::cur);
  return owners;
}

}  // namespace

void keep_table_memory() {
  // Either is refused only when its value is out of range.
  (void)::mallopt(M_MMAP_THRESHOLD, kFromHeapBytes);
  (void)::mallopt(M_TRIM_THRESHOLD, kKeptBytes);
}

void Epochs::update(std::span<const EpochMember> members, const EpochSettings& settings,
                    std::uint64_t now_ns) {
  const std::vector<std::uint16_t> old_index = sync_members(members);
  if (settings.seed != settings_.seed || settings.slot_count != settings_.slot_count) {
    is_base_stale_ = true;
  }
  if (settings.window_ns != settings_.window_ns || now_ns >= next_expiry_ns_) {
    is_window_stale_ = true;
  }
  settings_ = settings;
  is_choice_stale_ = is_choice_stale_ || is_base_stale_;
  if (is_choice_stale_ || is_window_stale_ || !old_index.empty()) renew_table(old_index, now_ns);
  check_books();
}

void Epochs::restore(std::span<const mr_lookup_slot> slots,
                     std::span<const std::uint32_t> member_ids, std::uint64_t now_ns) {
  members_.clear();
  member_slots_.clear();
  for (const std::uint32_t id : member_ids) {
    members_.push_back({.target_id = id, .keeps_flows = true});
    member_slots_.push_back(0);  // the next update() knows it
  }
  index_members();
  auto restored = std::make_shared<LookupTable>();
  restored->slots.assign(slots.begin(), slots.end());
  restored_ = std::move(restored);
  changed_at_ms_ = {ms_of(now_ns)};
  change_of_slot_.assign(slots.size(), newest_change_);
  base_.clear();
  is_base_stale_ = true;
}

std::uint32_t Epochs::slots_owned(std::uint32_t target_id) const {
  const auto id_of = [this](std::uint16_t index) { return members_[index].target_id; };
  const auto found = std::ranges::lower_bound(by_target_id_, target_id, {}, id_of);
  return found == by_target_id_.end() || id_of(*found) != target_id ? 0 : owned_[*found];
}

// Members keep their index while they live, so that a target that comes or goes changes no more
// slots than Maglev moves. The last member takes the place of one that goes. If any went, returns
// for each member that stays the index that it had.
std::vector<std::uint16_t> Epochs::sync_members(std::span<const EpochMember> members) {
  std::vector<EpochMember> wanted(members.begin(), members.end());
  std::ranges::sort(wanted, {}, &EpochMember::target_id);
  std::vector<bool> is_known(wanted.size());
  const std::size_t known_count = members_.size();
  std::vector<std::uint16_t> old_index(known_count);
  std::iota(old_index.begin(), old_index.end(), std::uint16_t{0});
  for (std::uint32_t index = 0; index < members_.size();) {
    const EpochMember& before = members_[index];
    const auto found =
        std::ranges::lower_bound(wanted, before.target_id, {}, &EpochMember::target_id);
    if (found == wanted.end() || found->target_id != before.target_id) {
      is_base_stale_ = is_base_stale_ || before.weight > 0;
      members_[index] = members_.back();
      member_slots_[index] = member_slots_.back();
      old_index[index] = old_index.back();
      members_.pop_back();
      member_slots_.pop_back();
      old_index.pop_back();
      continue;
    }
    const bool shares_alike = before.weight == found->weight && before.identity == found->identity;
    is_base_stale_ = is_base_stale_ || !shares_alike;
    is_choice_stale_ = is_choice_stale_ || before.is_in != found->is_in;
    is_window_stale_ = is_window_stale_ || (before.keeps_flows && !found->keeps_flows);
    // Otherwise no slot names it: its flows were forgotten when it lost them, and it has owned
    // nothing since.
    has_lost_flows_ =
        has_lost_flows_ || (!found->keeps_flows && (before.keeps_flows || before.is_in));
    members_[index] = *found;
    member_slots_[index] = found->target_slot;
    is_known[static_cast<std::size_t>(found - wanted.begin())] = true;
    ++index;
  }
  const bool has_lost_any = members_.size() < known_count;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (is_known[i]) continue;
    is_base_stale_ = is_base_stale_ || wanted[i].weight > 0;
    members_.push_back(wanted[i]);
    member_slots_.push_back(wanted[i].target_slot);
  }
  if (members_.size() != known_count || has_lost_any) index_members();
  if (!has_lost_any) old_index.clear();
  return old_index;
}

void Epochs::index_members() {
  owned_.resize(members_.size());
  by_target_id_.resize(members_.size());
  std::iota(by_target_id_.begin(), by_target_id_.end(), std::uint16_t{0});
  std::ranges::sort(by_target_id_, {},
                    [this](std::uint16_t index) { return members_[index].target_id; });
}

// Makes the table anew from the one before. That one stays if nothing differs.
void Epochs::renew_table(std::span<const std::uint16_t> old_index, std::uint64_t now_ns) {
  const auto before = restored_ != nullptr ? restored_ : table_;
  const std::vector<MaglevTarget> targets = choices();
  if (targets.empty() || (before == nullptr && !is_choice_stale_)) return drop_table();
  auto next = std::make_shared<LookupTable>();
  if (before != nullptr) *next = *before;
  if (!old_index.empty()) {
    renumber(next->slots, is_base_stale_ ? std::span<std::uint16_t>{} : base_, old_index);
  }
  if (is_choice_stale_) {
    const std::vector<std::uint16_t> owners = choose_owners(targets, next->slots);
    next->digest = maglev_digest(targets, owners);
    enter_owners(next->slots, owners, now_ns);
  } else {
    enter_owners(next->slots, owners_of(next->slots), now_ns);
  }
  count(next->slots, now_ns);
  is_base_stale_ = is_choice_stale_ = is_window_stale_ = has_lost_flows_ = false;
  restored_ = nullptr;
  const auto bytes = std::as_bytes(std::span(next->slots));
  const bool is_same = before == table_ && before != nullptr &&
                       before->slots.size() == next->slots.size() &&
                       std::memcmp(before->slots.data(), bytes.data(), bytes.size()) == 0;
  if (is_same) return;
  next->checksum = core::checksum64(bytes);
  table_ = std::move(next);
}

// The table of before, `now`, is the base where nobody was out.
std::vector<std::uint16_t> Epochs::choose_owners(std::span<const MaglevTarget> targets,
                                                 std::span<const mr_lookup_slot> now) {
  if (is_base_stale_ || (base_.empty() && now.empty())) {
    base_ = maglev_table(targets, settings_.seed, settings_.slot_count);
  } else if (base_.empty()) {
    base_ = owners_of(now);
  }
  std::vector<std::uint8_t> is_in(members_.size());
  bool is_anybody_out = false;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    is_in[i] = members_[i].is_in ? 1 : 0;
    is_anybody_out = is_anybody_out || (members_[i].weight > 0 && !members_[i].is_in);
  }
  if (!is_anybody_out) return std::exchange(base_, {});
  return fallback_table(base_, targets, is_in, settings_.seed);
}

// All members, with their weights; none when nobody is in.
std::vector<MaglevTarget> Epochs::choices() const {
  if (std::ranges::none_of(members_, &EpochMember::is_in)) return {};
  std::vector<MaglevTarget> targets;
  for (const EpochMember& member : members_) {
    targets.push_back({.identity = member.identity, .weight = member.weight});
  }
  return targets;
}

// Gives each slot its owner. `prev` is the owner before that, while the window since the change is
// open and that target keeps its flows.
void Epochs::enter_owners(Slots& slots, std::span<const std::uint16_t> owners,
                          std::uint64_t now_ns) {
  if (slots.size() != owners.size()) {  // another size means other slots: no history
    slots.clear();
    for (const std::uint16_t owner : owners) slots.push_back({.cur = owner, .prev = kNone});
    forget_changes();
    return;
  }
  change_of_slot_.resize(slots.size());
  if (is_choice_stale_) note_change(now_ns);
  close_windows(now_ns);
  // Locals, because a store could change a member, as far as the compiler knows. int and no short
  // circuit, so that the compiler handles several slots at once.
  mr_lookup_slot* const slot = slots.data();
  std::uint16_t* const change_of_slot = change_of_slot_.data();
  const int newest = newest_change_;
  const auto open_changes = static_cast<int>(changed_at_ms_.size());
  for (std::size_t i = 0, slot_count = slots.size(); i < slot_count; ++i) {
    const int owner = owners[i];
    const int cur = slot[i].cur;
    const int prev = cur != owner ? cur : slot[i].prev;
    const int change = cur != owner ? newest : change_of_slot[i];
    const auto is_open = static_cast<int>(age_of_change(newest, change) < open_changes) &
                         static_cast<int>(prev != owner);
    change_of_slot[i] = static_cast<std::uint16_t>(change);
    slot[i] = {.cur = static_cast<std::uint16_t>(owner),
               .prev = static_cast<std::uint16_t>(is_open != 0 ? prev : kNone)};
  }
  forget_flows_not_kept(slots);
}

void Epochs::note_change(std::uint64_t now_ns) {
  ++newest_change_;
  changed_at_ms_.push_back(ms_of(now_ns));
  // With more changes than that, a number would stand for two changes. It takes 18 changes a second
  // for an hour, which is the longest window.
  if (changed_at_ms_.size() > kChangesMax) changed_at_ms_.pop_front();
}

void Epochs::close_windows(std::uint64_t now_ns) {
  const std::uint32_t now_ms = ms_of(now_ns);
  const std::uint32_t window_ms = ms_of(settings_.window_ns);
  while (!changed_at_ms_.empty() && now_ms - changed_at_ms_.front() >= window_ms) {
    changed_at_ms_.pop_front();
  }
}

void Epochs::forget_flows_not_kept(Slots& slots) const {
  if (!has_lost_flows_) return;
  const std::size_t member_count = members_.size();
  std::vector<std::uint16_t> kept(member_count + 1, kNone);  // the last for slots without `prev`
  for (std::size_t i = 0; i < member_count; ++i) {
    if (members_[i].keeps_flows) kept[i] = static_cast<std::uint16_t>(i);
  }
  for (mr_lookup_slot& slot : slots) {
    slot.prev = kept[std::min<std::size_t>(slot.prev, member_count)];
  }
}

// What each member owns, how many windows are open, and when the first of them ends.
void Epochs::count(std::span<const mr_lookup_slot> slots, std::uint64_t now_ns) {
  owned_.assign(members_.size(), 0);
  std::uint32_t* const owned = owned_.data();
  for (const mr_lookup_slot& slot : slots) ++owned[slot.cur];
  const std::span<const std::uint16_t> change_of_slot = change_of_slot_;
  const int newest = newest_change_;
  std::uint32_t open_count = 0;
  int oldest_age = 0;
  for (std::size_t i = 0; i < change_of_slot.size(); ++i) {
    const bool is_open = slots[i].prev != kNone;
    const int age = age_of_change(newest, change_of_slot[i]);
    open_count += is_open ? 1 : 0;
    oldest_age = std::max(oldest_age, is_open ? age : 0);
  }
  slots_with_prev_ = open_count;
  next_expiry_ns_ = kNever;
  if (slots_with_prev_ == 0) return forget_changes();
  const std::uint32_t began_ms = *(changed_at_ms_.end() - 1 - oldest_age);
  const std::uint64_t oldest_began_ms = now_ns / kMillisecondNs - (ms_of(now_ns) - began_ms);
  next_expiry_ns_ = (oldest_began_ms + settings_.window_ns / kMillisecondNs) * kMillisecondNs;
}

// A slot leads to a member that gets new flows, and its `prev` to another that keeps its own.
void Epochs::check_books() const {
  assert(member_slots_.size() == members_.size() && owned_.size() == members_.size() &&
         by_target_id_.size() == members_.size());
  if (!kChecksInvariants) return;
  if (table_ == nullptr) return;
  std::uint32_t with_prev = 0;
  for (const mr_lookup_slot& slot : table_->slots) {
    assert(slot.cur < members_.size() && members_[slot.cur].is_in);
    if (slot.prev == kNone) continue;
    assert(slot.prev < members_.size() && slot.prev != slot.cur && members_[slot.prev].keeps_flows);
    ++with_prev;
  }
  assert(with_prev == slots_with_prev_ && table_->slots.size() == settings_.slot_count);
}

void Epochs::forget_changes() {
  changed_at_ms_.clear();
  change_of_slot_.clear();
  change_of_slot_.shrink_to_fit();
}

void Epochs::drop_table() {
  base_ = {};
  is_base_stale_ = is_choice_stale_ = is_window_stale_ = has_lost_flows_ = false;
  restored_ = nullptr;
  table_ = nullptr;
  forget_changes();
  count({}, 0);
}

}  // namespace millrace::control

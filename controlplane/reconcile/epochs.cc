// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/epochs.h"

#include <algorithm>
#include <numeric>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/maglev.h"

namespace millrace::control {

namespace {

constexpr std::uint16_t kNone = MR_MEMBER_NONE;
constexpr std::uint64_t kMillisecondNs = 1'000'000;

std::uint32_t ms_of(std::uint64_t ns) { return static_cast<std::uint32_t>(ns / kMillisecondNs); }

// `old_index`: of each member that stays, what its index was.
void renumber_slots(std::span<mr_lookup_slot> slots, std::span<const std::uint16_t> old_index) {
  // One more, for slots that have no `prev`.
  std::vector<std::uint16_t> new_index(std::size_t{kNone} + 1, kNone);
  for (std::size_t i = 0; i < old_index.size(); ++i) {
    new_index[old_index[i]] = static_cast<std::uint16_t>(i);
  }
  for (mr_lookup_slot& slot : slots) {
    slot.cur = new_index[slot.cur];
    slot.prev = new_index[slot.prev];
  }
}

// By member index, and false for kNone.
std::vector<std::uint8_t> keeps_flows_by_index(std::span<const EpochMember> members) {
  std::vector<std::uint8_t> keeps(std::size_t{kNone} + 1);
  for (std::size_t i = 0; i < members.size(); ++i) keeps[i] = members[i].keeps_flows ? 1 : 0;
  return keeps;
}

}  // namespace

void Epochs::update(std::span<const EpochMember> members, const EpochSettings& settings,
                    std::uint64_t now_ns) {
  const std::vector<std::uint16_t> old_index = sync_members(members);
  if (settings.seed != settings_.seed || settings.slot_count != settings_.slot_count) {
    is_choice_stale_ = true;
  }
  if (settings.window_ns != settings_.window_ns || now_ns >= next_expiry_ns_) {
    is_window_stale_ = true;
  }
  settings_ = settings;
  if (is_choice_stale_ || is_window_stale_ || !old_index.empty()) renew_table(old_index, now_ns);
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
  changed_at_ms_.assign(slots.size(), ms_of(now_ns));
  is_choice_stale_ = true;
}

std::uint32_t Epochs::slots_owned(std::uint32_t target_id) const {
  const auto id_of = [this](std::uint16_t index) { return members_[index].target_id; };
  const auto found = std::ranges::lower_bound(by_target_id_, target_id, {}, id_of);
  return found == by_target_id_.end() || id_of(*found) != target_id ? 0 : owned_[*found];
}

// Members keep their index while they live, so that a target's coming or going changes no more
// slots than Maglev moves; the last one takes the place of one that goes. Returns, if any went, of
// each that stays what its index was.
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
      is_choice_stale_ = is_choice_stale_ || before.weight > 0;
      members_[index] = members_.back();
      member_slots_[index] = member_slots_.back();
      old_index[index] = old_index.back();
      members_.pop_back();
      member_slots_.pop_back();
      old_index.pop_back();
      continue;
    }
    const bool chooses_alike = before.weight == found->weight && before.identity == found->identity;
    is_choice_stale_ = is_choice_stale_ || !chooses_alike;
    is_window_stale_ = is_window_stale_ || (before.keeps_flows && !found->keeps_flows);
    members_[index] = *found;
    member_slots_[index] = found->target_slot;
    is_known[static_cast<std::size_t>(found - wanted.begin())] = true;
    ++index;
  }
  const bool has_lost_any = members_.size() < known_count;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (is_known[i]) continue;
    is_choice_stale_ = is_choice_stale_ || wanted[i].weight > 0;
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

// Makes the table anew from the one before; that one stays when nothing differs.
void Epochs::renew_table(std::span<const std::uint16_t> old_index, std::uint64_t now_ns) {
  const auto before = restored_ != nullptr ? restored_ : table_;
  const std::vector<core::MaglevTarget> targets = choices();
  if (targets.empty() || (before == nullptr && !is_choice_stale_)) return drop_table();
  auto next = std::make_shared<LookupTable>();
  if (before != nullptr) *next = *before;
  if (!old_index.empty()) renumber_slots(next->slots, old_index);
  bool is_changed = !old_index.empty() || before != table_;
  if (is_choice_stale_) {
    const std::vector<std::uint16_t> owners =
        core::maglev_table(targets, settings_.seed, settings_.slot_count);
    next->digest = core::maglev_digest(targets, owners);
    if (next->slots.size() == owners.size()) {
      is_changed = enter_owners(
                       next->slots, [&](std::size_t i) { return owners[i]; }, now_ns) ||
                   is_changed;
    } else {
      begin_slots(next->slots, owners);
      is_changed = true;
    }
  } else {
    const Slots& slots = next->slots;
    is_changed = enter_owners(
                     next->slots, [&](std::size_t i) { return slots[i].cur; }, now_ns) ||
                 is_changed;
  }
  is_choice_stale_ = is_window_stale_ = false;
  restored_ = nullptr;
  if (!is_changed) return;
  next->checksum = core::checksum64(std::as_bytes(std::span(next->slots)));
  table_ = std::move(next);
}

// All members, with their weights; none when nobody has any.
std::vector<core::MaglevTarget> Epochs::choices() const {
  if (std::ranges::all_of(members_, [](const EpochMember& m) { return m.weight == 0; })) return {};
  std::vector<core::MaglevTarget> targets;
  for (const EpochMember& member : members_) {
    targets.push_back({.identity = member.identity, .weight = member.weight});
  }
  return targets;
}

// A table of a size that the group did not have before: other slots, so no history.
void Epochs::begin_slots(Slots& slots, std::span<const std::uint16_t> owners) {
  slots.clear();
  slots.reserve(owners.size());
  owned_.assign(members_.size(), 0);
  for (const std::uint16_t owner : owners) {
    slots.push_back({.cur = owner, .prev = kNone});
    ++owned_[owner];
  }
  note_windows(0, 0, 0);
}

// Gives each slot its owner. `prev` is the owner before it as long as the window since the change
// is open and that target keeps its flows. True when any slot differs from before.
//
// Without a branch on what a slot holds, which no CPU could foresee.
template <typename OwnerOf>
bool Epochs::enter_owners(Slots& slots, OwnerOf owner_of, std::uint64_t now_ns) {
  const std::vector<std::uint8_t> keeps_flows = keeps_flows_by_index(members_);
  const std::uint32_t now_ms = ms_of(now_ns);
  const std::uint32_t window_ms = ms_of(settings_.window_ns);
  changed_at_ms_.resize(slots.size());
  owned_.assign(members_.size(), 0);
  // Locals, because a store could change a member, for all that the compiler knows.
  mr_lookup_slot* const slot = slots.data();
  std::uint32_t* const changed_at_ms = changed_at_ms_.data();
  std::uint32_t* const owned = owned_.data();
  const std::uint8_t* const keeps = keeps_flows.data();
  std::uint32_t open_count = 0;
  std::uint32_t oldest_ms = 0;
  std::uint32_t differences = 0;
  for (std::size_t i = 0, count = slots.size(); i < count; ++i) {
    const std::uint16_t owner = owner_of(i);
    const mr_lookup_slot before = slot[i];
    const bool is_moved = before.cur != owner;
    const std::uint16_t prev = is_moved ? before.cur : before.prev;
    const std::uint32_t since_ms = is_moved ? now_ms : changed_at_ms[i];
    const std::uint32_t age_ms = now_ms - since_ms;
    const std::uint32_t is_open =
        (age_ms < window_ms ? 1u : 0u) & keeps[prev] & (prev != owner ? 1u : 0u);
    const std::uint16_t kept = is_open != 0 ? prev : kNone;
    changed_at_ms[i] = since_ms;
    slot[i] = {.cur = owner, .prev = kept};
    ++owned[owner];
    open_count += is_open;
    oldest_ms = std::max(oldest_ms, is_open * age_ms);
    differences |= static_cast<std::uint32_t>(before.cur ^ owner) | (before.prev ^ kept);
  }
  note_windows(open_count, oldest_ms, now_ns);
  return differences != 0;
}

void Epochs::note_windows(std::uint32_t open_count, std::uint32_t oldest_ms, std::uint64_t now_ns) {
  slots_with_prev_ = open_count;
  next_expiry_ns_ = kNever;
  if (open_count == 0) {
    changed_at_ms_.clear();
    changed_at_ms_.shrink_to_fit();
    return;
  }
  const std::uint64_t oldest_began_ms = now_ns / kMillisecondNs - oldest_ms;
  next_expiry_ns_ = (oldest_began_ms + settings_.window_ns / kMillisecondNs) * kMillisecondNs;
}

void Epochs::drop_table() {
  is_choice_stale_ = is_window_stale_ = false;
  restored_ = nullptr;
  table_ = nullptr;
  owned_.assign(members_.size(), 0);
  note_windows(0, 0, 0);
}

}  // namespace millrace::control

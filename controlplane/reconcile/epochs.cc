// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/epochs.h"

#include <algorithm>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/maglev.h"

namespace millrace::control {

namespace {

constexpr std::uint16_t kNone = MR_MEMBER_NONE;

}  // namespace

void Epochs::update(std::span<const EpochMember> members, const EpochSettings& settings,
                    std::uint64_t now_ns) {
  bool is_changed = sync_members(members);
  if (settings.seed != settings_.seed || settings.slot_count != settings_.slot_count) {
    is_stale_ = true;
  }
  if (is_stale_) is_changed = choose_owners(settings, now_ns) || is_changed;
  settings_ = settings;
  is_changed = close_windows(settings, now_ns) || is_changed;
  // After restore() the table is still to be made, though all may be as it was.
  const bool is_restored = table_ == nullptr && !slots_.empty();
  if (is_changed || is_restored) rebuild_table();
}

void Epochs::restore(std::span<const mr_lookup_slot> slots,
                     std::span<const std::uint32_t> member_ids, std::uint64_t now_ns) {
  members_.clear();
  member_slots_.clear();
  for (const std::uint32_t id : member_ids) {
    members_.push_back({.target_id = id, .keeps_flows = true});
    member_slots_.push_back(0);  // the next update() knows it
  }
  slots_.assign(slots.begin(), slots.end());
  changed_at_ns_.assign(slots_.size(), now_ns);
  is_stale_ = true;
}

std::uint32_t Epochs::slots_owned(std::uint32_t target_id) const {
  const std::uint16_t index = index_of(target_id);
  return index < owned_.size() ? owned_[index] : 0;
}

std::uint16_t Epochs::index_of(std::uint32_t target_id) const {
  const auto found = std::ranges::find(members_, target_id, &EpochMember::target_id);
  return found == members_.end() ? kNone : static_cast<std::uint16_t>(found - members_.begin());
}

// Members keep their index while they live, so that a target's coming or going changes no more
// slots than Maglev moves. True when the published member list changed.
bool Epochs::sync_members(std::span<const EpochMember> members) {
  std::vector<EpochMember> wanted(members.begin(), members.end());
  std::ranges::sort(wanted, {}, &EpochMember::target_id);
  auto find_wanted = [&](std::uint32_t id) {
    const auto at = std::ranges::lower_bound(wanted, id, {}, &EpochMember::target_id);
    return at != wanted.end() && at->target_id == id ? at : wanted.end();
  };
  bool is_changed = false;
  for (std::uint32_t index = 0; index < members_.size();) {
    const auto found = find_wanted(members_[index].target_id);
    if (found == wanted.end()) {
      drop_member(index);
      is_changed = true;
      continue;
    }
    const bool chooses_alike =
        members_[index].weight == found->weight && members_[index].identity == found->identity;
    is_stale_ = is_stale_ || !chooses_alike;
    is_changed = is_changed || member_slots_[index] != found->target_slot;
    members_[index] = *found;
    member_slots_[index] = found->target_slot;
    wanted.erase(found);
    ++index;
  }
  for (const EpochMember& member : wanted) {
    is_stale_ = is_stale_ || member.weight > 0;
    members_.push_back(member);
    member_slots_.push_back(member.target_slot);
    is_changed = true;
  }
  owned_.resize(members_.size());
  return is_changed;
}

// The last member takes the place of the one that goes.
void Epochs::drop_member(std::uint32_t index) {
  const auto gone = static_cast<std::uint16_t>(index);
  const auto last = static_cast<std::uint16_t>(members_.size() - 1);
  for (mr_lookup_slot& slot : slots_) {
    // A slot without an owner gets one at once: the set of choices has changed.
    if (slot.cur == gone) {
      slot.cur = kNone;
      is_stale_ = true;
    }
    if (slot.prev == gone) slot.prev = kNone;
    if (slot.cur == last) slot.cur = gone;
    if (slot.prev == last) slot.prev = gone;
  }
  members_[index] = members_.back();
  member_slots_[index] = member_slots_.back();
  members_.pop_back();
  member_slots_.pop_back();
}

// Asks Maglev and enters what differs. True when any slot changed.
bool Epochs::choose_owners(const EpochSettings& settings, std::uint64_t now_ns) {
  is_stale_ = false;
  std::vector<core::MaglevTarget> targets;
  for (const EpochMember& member : members_) {
    targets.push_back({.identity = member.identity, .weight = member.weight});
  }
  if (std::ranges::all_of(members_, [](const EpochMember& m) { return m.weight == 0; })) {
    const bool was_empty = slots_.empty();
    slots_.clear();
    changed_at_ns_.clear();
    return !was_empty;
  }
  const std::vector<std::uint32_t> owners =
      core::maglev_table(targets, settings.seed, settings.slot_count);
  digest_ = core::maglev_digest(targets, owners);
  if (slots_.size() != owners.size()) {  // another size means other slots: no history
    slots_.assign(owners.size(), {.cur = kNone, .prev = kNone});
    changed_at_ns_.clear();
  }
  bool is_changed = false;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    const auto owner = static_cast<std::uint16_t>(owners[i]);
    mr_lookup_slot& slot = slots_[i];
    if (slot.cur == owner) continue;
    is_changed = true;
    slot.prev = slot.cur;
    slot.cur = owner;
    if (slot.prev == kNone) continue;
    if (changed_at_ns_.empty()) changed_at_ns_.resize(slots_.size());
    changed_at_ns_[i] = now_ns;
  }
  return is_changed;
}

// Clears every `prev` whose window is over or whose target gave up its flows. True when any was.
bool Epochs::close_windows(const EpochSettings& settings, std::uint64_t now_ns) {
  slots_with_prev_ = 0;
  next_expiry_ns_ = kNever;
  bool is_changed = false;
  for (std::size_t i = 0; i < changed_at_ns_.size(); ++i) {
    mr_lookup_slot& slot = slots_[i];
    if (slot.prev == kNone) continue;
    const std::uint64_t end_ns = changed_at_ns_[i] + settings.window_ns;
    if (end_ns > now_ns && members_[slot.prev].keeps_flows && slot.prev != slot.cur) {
      ++slots_with_prev_;
      next_expiry_ns_ = std::min(next_expiry_ns_, end_ns);
      continue;
    }
    slot.prev = kNone;
    is_changed = true;
  }
  if (slots_with_prev_ == 0) {
    changed_at_ns_.clear();
    changed_at_ns_.shrink_to_fit();
  }
  return is_changed;
}

void Epochs::rebuild_table() {
  std::ranges::fill(owned_, 0);
  if (slots_.empty()) {
    table_ = nullptr;
    return;
  }
  for (const mr_lookup_slot& slot : slots_) ++owned_[slot.cur];
  auto table = std::make_shared<LookupTable>();
  table->slots = slots_;
  table->digest = digest_;
  table->checksum = core::checksum64(std::as_bytes(std::span(slots_)));
  table_ = std::move(table);
}

}  // namespace millrace::control

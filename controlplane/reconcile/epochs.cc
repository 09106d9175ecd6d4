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
  index_members();
  slots_.assign(slots.begin(), slots.end());
  changed_at_ms_.assign(slots_.size(), ms_of(now_ns));
  is_stale_ = true;
}

std::uint32_t Epochs::slots_owned(std::uint32_t target_id) const {
  const auto id_of = [this](std::uint16_t index) { return members_[index].target_id; };
  const auto found = std::ranges::lower_bound(by_target_id_, target_id, {}, id_of);
  return found == by_target_id_.end() || id_of(*found) != target_id ? 0 : owned_[*found];
}

// Members keep their index while they live, so that a target's coming or going changes no more
// slots than Maglev moves; the last one takes the place of one that goes. True when the published
// member list changed.
bool Epochs::sync_members(std::span<const EpochMember> members) {
  std::vector<EpochMember> wanted(members.begin(), members.end());
  std::ranges::sort(wanted, {}, &EpochMember::target_id);
  std::vector<bool> is_known(wanted.size());
  const std::size_t known_count = members_.size();
  std::vector<std::uint16_t> old_index(known_count);
  std::iota(old_index.begin(), old_index.end(), std::uint16_t{0});
  bool is_changed = false;
  for (std::uint32_t index = 0; index < members_.size();) {
    const auto found =
        std::ranges::lower_bound(wanted, members_[index].target_id, {}, &EpochMember::target_id);
    if (found == wanted.end() || found->target_id != members_[index].target_id) {
      members_[index] = members_.back();
      member_slots_[index] = member_slots_.back();
      old_index[index] = old_index.back();
      members_.pop_back();
      member_slots_.pop_back();
      old_index.pop_back();
      is_changed = true;
      continue;
    }
    const bool chooses_alike =
        members_[index].weight == found->weight && members_[index].identity == found->identity;
    is_stale_ = is_stale_ || !chooses_alike;
    is_changed = is_changed || member_slots_[index] != found->target_slot;
    members_[index] = *found;
    member_slots_[index] = found->target_slot;
    is_known[static_cast<std::size_t>(found - wanted.begin())] = true;
    ++index;
  }
  if (members_.size() < known_count) renumber_slots(old_index);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (is_known[i]) continue;
    is_stale_ = is_stale_ || wanted[i].weight > 0;
    members_.push_back(wanted[i]);
    member_slots_.push_back(wanted[i].target_slot);
    is_changed = true;
  }
  if (is_changed) index_members();
  return is_changed;
}

// `old_index`: of each member that stays, what its index was.
void Epochs::renumber_slots(std::span<const std::uint16_t> old_index) {
  // One more, for slots that have no `prev`.
  std::vector<std::uint16_t> new_index(std::size_t{kNone} + 1, kNone);
  for (std::size_t i = 0; i < old_index.size(); ++i) {
    new_index[old_index[i]] = static_cast<std::uint16_t>(i);
  }
  for (mr_lookup_slot& slot : slots_) {
    slot.cur = new_index[slot.cur];
    slot.prev = new_index[slot.prev];
    // A slot without an owner gets one at once: the set of choices has changed.
    is_stale_ = is_stale_ || slot.cur == kNone;
  }
}

void Epochs::index_members() {
  owned_.resize(members_.size());
  by_target_id_.resize(members_.size());
  std::iota(by_target_id_.begin(), by_target_id_.end(), std::uint16_t{0});
  std::ranges::sort(by_target_id_, {},
                    [this](std::uint16_t index) { return members_[index].target_id; });
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
    changed_at_ms_.clear();
    return !was_empty;
  }
  const std::vector<std::uint32_t> owners =
      core::maglev_table(targets, settings.seed, settings.slot_count);
  digest_ = core::maglev_digest(targets, owners);
  if (slots_.size() != owners.size()) {  // another size means other slots: no history
    slots_.assign(owners.size(), {.cur = kNone, .prev = kNone});
    changed_at_ms_.clear();
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
    if (changed_at_ms_.empty()) changed_at_ms_.resize(slots_.size());
    changed_at_ms_[i] = ms_of(now_ns);
  }
  return is_changed;
}

// Clears every `prev` whose window is over or whose target gave up its flows. True when any was.
bool Epochs::close_windows(const EpochSettings& settings, std::uint64_t now_ns) {
  slots_with_prev_ = 0;
  next_expiry_ns_ = kNever;
  const std::uint32_t now_ms = ms_of(now_ns);
  const std::uint64_t window_ms = settings.window_ns / kMillisecondNs;
  std::uint32_t oldest_ms = 0;
  bool is_changed = false;
  for (std::size_t i = 0; i < changed_at_ms_.size(); ++i) {
    mr_lookup_slot& slot = slots_[i];
    if (slot.prev == kNone) continue;
    const std::uint32_t age_ms = now_ms - changed_at_ms_[i];
    if (age_ms < window_ms && members_[slot.prev].keeps_flows && slot.prev != slot.cur) {
      ++slots_with_prev_;
      oldest_ms = std::max(oldest_ms, age_ms);
      continue;
    }
    slot.prev = kNone;
    is_changed = true;
  }
  if (slots_with_prev_ == 0) {
    changed_at_ms_.clear();
    changed_at_ms_.shrink_to_fit();
  } else {
    const std::uint64_t oldest_began_ms = now_ns / kMillisecondNs - oldest_ms;
    next_expiry_ns_ = (oldest_began_ms + window_ms) * kMillisecondNs;
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

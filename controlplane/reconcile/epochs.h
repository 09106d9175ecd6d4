// SPDX-License-Identifier: Apache-2.0
//
// One group's lookup table through time: which target owns each slot, and which one did before.
// Cold and pure; time is an argument.
//
//   slot:  cur   the target that owns the slot now (controlplane/lookup/fallback.h)
//          prev  the target that owned it before the slot's last change, while that change is
//                younger than the window and the target still keeps its flows; else none
//
// Each slot has its own time of change, so that a change elsewhere in the table does not shorten
// its window. A packet in the middle of a connection that the engine has never seen goes to `prev`:
// it belongs to a flow from before the change (ARCHITECTURE.md, "Choosing a target").
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "controlplane/lookup/maglev.h"
#include "controlplane/publish/image_contents.h"

namespace millrace::control {

// A target of the group, as the table sees it.
struct EpochMember {
  std::uint32_t target_id = 0;
  std::uint32_t target_slot = 0;
  std::uint64_t identity = 0;  // unique within the group, equal on every node
  std::uint32_t weight = 0;    // share of the base; 0: none
  bool is_in = false;          // gets new flows; has a weight then
  bool keeps_flows = false;

  friend bool operator==(const EpochMember&, const EpochMember&) = default;
};

struct EpochSettings {
  std::uint64_t seed = 0;
  std::uint32_t slot_count = 0;  // prime
  std::uint64_t window_ns = 0;

  friend bool operator==(const EpochSettings&, const EpochSettings&) = default;
};

inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// Call once for the process, before the first table. Memory of tables that are gone is then kept
// for later ones. Fresh pages cost as much time as choosing the owners: 64 page faults a table.
void keep_table_memory();

class Epochs {
 public:
  // Makes `members` (all targets of the group that have a slot, in any order) the ones that the
  // table chooses among. Takes about 0.7 ms when weights or the set changed, 0.3 ms when a target
  // comes in or goes out, 0.2 ms when a window ends, and no time otherwise.
  void update(std::span<const EpochMember> members, const EpochSettings& settings,
              std::uint64_t now_ns);

  // Takes over a published table, of which everything is known but the time of its changes. They
  // count as made now, so that their windows end late rather than early. `member_ids` has the
  // target id of each member index, 0 for a member that no longer exists.
  void restore(std::span<const mr_lookup_slot> slots, std::span<const std::uint32_t> member_ids,
               std::uint64_t now_ns);

  // When the next slot's window ends and update() has something to do; kNever when none is open.
  [[nodiscard]] std::uint64_t next_expiry_ns() const { return next_expiry_ns_; }

  // As published: target slots by member index, and the table (null when nobody gets new flows).
  [[nodiscard]] const std::vector<std::uint32_t>& member_slots() const { return member_slots_; }
  [[nodiscard]] const std::shared_ptr<const LookupTable>& table() const { return table_; }

  [[nodiscard]] std::uint32_t slots_with_prev() const { return slots_with_prev_; }
  // Slots that the target owns now; 0 for one that is not a member.
  [[nodiscard]] std::uint32_t slots_owned(std::uint32_t target_id) const;

 private:
  using Slots = std::vector<mr_lookup_slot>;

  [[nodiscard]] std::vector<std::uint16_t> sync_members(std::span<const EpochMember> members);
  void index_members();
  void renew_table(std::span<const std::uint16_t> old_index, std::uint64_t now_ns);
  [[nodiscard]] std::vector<std::uint16_t> choose_owners(std::span<const MaglevTarget> targets,
                                                         std::span<const mr_lookup_slot> now);
  [[nodiscard]] std::vector<MaglevTarget> choices() const;
  void enter_owners(Slots& slots, std::span<const std::uint16_t> owners, std::uint64_t now_ns);
  void note_change(std::uint64_t now_ns);
  void close_windows(std::uint64_t now_ns);
  void forget_flows_not_kept(Slots& slots) const;
  void count(std::span<const mr_lookup_slot> slots, std::uint64_t now_ns);
  void forget_changes();
  void drop_table();
  void check_books() const;

  std::vector<EpochMember> members_;         // by member index
  std::vector<std::uint32_t> member_slots_;  // likewise
  std::vector<std::uint16_t> by_target_id_;  // member indexes in order of target id
  // When owners were chosen within the window, oldest first: CLOCK_MONOTONIC in ms, wraps after 49
  // days, which no window comes near.
  std::deque<std::uint32_t> changed_at_ms_;
  std::uint16_t newest_change_ = 0;  // number of the last of these; the one before has one less
  // By slot, valid where `prev` is set: the number of the change that set it. Empty: no slot has a
  // `prev`. A number takes half the memory of a time, in up to a thousand groups that change by
  // turns.
  std::vector<std::uint16_t> change_of_slot_;
  std::vector<std::uint32_t> owned_;  // by member index
  std::uint32_t slots_with_prev_ = 0;
  std::uint64_t next_expiry_ns_ = kNever;
  EpochSettings settings_;
  // Owners while everybody is in, as member indexes. Kept only while somebody is out: else the
  // table has them.
  std::vector<std::uint16_t> base_;
  bool is_base_stale_ = true;     // the base must be made anew, and owners be chosen anew
  bool is_choice_stale_ = true;   // owners must be chosen anew
  bool is_window_stale_ = false;  // some member gave up its flows, or a window ends
  bool has_lost_flows_ = false;   // slots may name a member that does not keep its flows
  std::shared_ptr<const LookupTable> table_;
  std::shared_ptr<const LookupTable> restored_;  // slots alone; until the next update()
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Laws of the two-epoch lookup table, against random histories of targets that come, go, drain,
// fail and change weight.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "controlplane/lookup/fallback.h"
#include "controlplane/lookup/maglev.h"
#include "controlplane/reconcile/epochs.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {
namespace {

constexpr std::uint32_t kSlots = 127;
// Windows are kept to the millisecond.
constexpr EpochSettings kHistorySettings{
    .seed = 3, .slot_count = kSlots, .window_ns = 50 * kMillisecondNs};

// Target ids of one slot; 0: none.
struct Owners {
  std::uint32_t cur = 0;
  std::uint32_t prev = 0;
};

std::vector<Owners> owners_of(const Epochs& epochs) {
  std::vector<Owners> out;
  if (epochs.table() == nullptr) return out;
  for (const mr_lookup_slot& slot : epochs.table()->slots) {
    Owners owners;
    owners.cur = epochs.member_slots().at(slot.cur);
    if (slot.prev != MR_MEMBER_NONE) owners.prev = epochs.member_slots().at(slot.prev);
    out.push_back(owners);
  }
  return out;
}

// A group of up to eight targets (slot == id == 1..8) and one random event in its life.
class History {
 public:
  struct Event {
    std::uint8_t target;
    std::uint8_t kind;
    std::uint8_t elapsed;
  };

  void happen(const Event& event) {
    now_ += event.elapsed % 40 * kMillisecondNs;
    const std::uint32_t id = 1 + event.target % 8;
    EpochMember& member = members_[id];
    member.target_id = id;
    member.target_slot = id;
    member.identity = id * 0x9e3779b97f4a7c15ull;
    switch (event.kind % 8) {
      case 0:
        member.weight = 100;
        member.is_in = member.keeps_flows = true;
        break;
      case 1:
        member.weight = 1 + event.kind;
        member.is_in = member.keeps_flows = true;
        break;
      case 2:  // drained by the operator, or new
        member.is_in = false;
        member.keeps_flows = true;
        break;
      case 3:  // unhealthy
        member.is_in = member.keeps_flows = false;
        break;
      case 4:  // gets flows and keeps none: nobody is that now, but the table can do it
        member.weight = 50;
        member.is_in = true;
        member.keeps_flows = false;
        break;
      case 5:  // left the config
        member.weight = 0;
        member.is_in = false;
        break;
      case 6:  // healthy again, with the weight that it had
        member.is_in = member.keeps_flows = member.weight > 0;
        break;
      default:  // retired
        members_.erase(id);
        break;
    }
    epochs_.update(members(), kHistorySettings, now_);
  }
  [[nodiscard]] std::vector<EpochMember> members() const {
    std::vector<EpochMember> out;
    for (const auto& [id, member] : members_) out.push_back(member);
    return out;
  }
  [[nodiscard]] bool keeps_flows(std::uint32_t id) const {
    return members_.contains(id) && members_.at(id).keeps_flows;
  }
  [[nodiscard]] std::uint64_t now() const { return now_; }
  [[nodiscard]] const Epochs& epochs() const { return epochs_; }

 private:
  std::map<std::uint32_t, EpochMember> members_;
  Epochs epochs_;
  std::uint64_t now_ = 1000 * kMillisecondNs;
};

std::vector<History::Event> random_events() {
  using Numbers = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t>;
  std::vector<History::Event> events;
  for (const auto& [target, kind, elapsed] : *rc::gen::arbitrary<std::vector<Numbers>>()) {
    events.push_back({target, kind, elapsed});
  }
  return events;
}

// What the documentation promises, slot by slot, in the plainest form.
class Model {
 public:
  void update(const History& history, const std::vector<Owners>& before) {
    std::vector<MaglevTarget> targets;
    std::vector<std::uint8_t> is_in;
    std::vector<std::uint32_t> ids;
    for (const EpochMember& member : history.members()) {
      targets.push_back({member.identity, member.weight});
      is_in.push_back(member.is_in ? 1 : 0);
      ids.push_back(member.target_id);
    }
    const auto owners = fallback_table(maglev_table(targets, kHistorySettings.seed, kSlots),
                                       targets, is_in, kHistorySettings.seed);
    if (owners.front() == kMaglevNoTarget) {
      slots_.clear();
      return;
    }
    slots_.resize(kSlots);
    for (std::size_t i = 0; i < kSlots; ++i) {
      Slot& slot = slots_[i];
      const std::uint32_t old = before.empty() ? 0 : before[i].cur;
      const std::uint32_t cur = ids[owners[i]];
      if (cur != old) slot = {.cur = cur, .prev = old, .changed_at = history.now()};
      const bool is_open = history.now() < slot.changed_at + kHistorySettings.window_ns;
      if (!is_open || !history.keeps_flows(slot.prev)) slot.prev = 0;
    }
  }
  struct Slot {
    std::uint32_t cur = 0;
    std::uint32_t prev = 0;
    std::uint64_t changed_at = 0;
  };
  [[nodiscard]] const std::vector<Slot>& slots() const { return slots_; }

 private:
  std::vector<Slot> slots_;
};

TEST(EpochsLaw, table_is_what_the_plain_model_says) {
  const bool holds = rc::check("table_is_what_the_plain_model_says", [] {
    History history;
    Model model;
    for (const History::Event& event : random_events()) {
      const std::vector<Owners> before = owners_of(history.epochs());
      history.happen(event);
      model.update(history, before);
      const std::vector<Owners> after = owners_of(history.epochs());
      RC_ASSERT(after.size() == model.slots().size());
      std::map<std::uint32_t, std::uint32_t> owned;
      std::uint32_t with_prev = 0;
      std::uint64_t next_expiry_ns = kNever;
      for (std::size_t i = 0; i < after.size(); ++i) {
        const Model::Slot& slot = model.slots()[i];
        RC_ASSERT(after[i].cur == slot.cur);
        RC_ASSERT(after[i].prev == slot.prev);
        ++owned[slot.cur];
        if (slot.prev == 0) continue;
        ++with_prev;
        next_expiry_ns = std::min(next_expiry_ns, slot.changed_at + kHistorySettings.window_ns);
      }
      RC_ASSERT(history.epochs().slots_with_prev() == with_prev);
      RC_ASSERT(history.epochs().next_expiry_ns() == next_expiry_ns);
      for (std::uint32_t id = 1; id <= 8; ++id) {
        RC_ASSERT(history.epochs().slots_owned(id) == owned[id]);
      }
    }
  });
  EXPECT_TRUE(holds);
}

TEST(EpochsLaw, slot_without_change_gets_no_prev) {
  const bool holds = rc::check("slot_without_change_gets_no_prev", [] {
    History history;
    for (const History::Event& event : random_events()) {
      const std::vector<Owners> before = owners_of(history.epochs());
      history.happen(event);
      const std::vector<Owners> after = owners_of(history.epochs());
      for (std::size_t i = 0; i < std::min(before.size(), after.size()); ++i) {
        if (before[i].cur != after[i].cur) continue;
        RC_ASSERT(after[i].prev == 0 || after[i].prev == before[i].prev);
      }
    }
  });
  EXPECT_TRUE(holds);
}

// A flow whose entry is lost (its node changed) and whose target is still usable: the slot leads to
// it as `cur` or `prev` while its slot has changed at most once since the flow began.
// NOLINTNEXTLINE(readability-function-size): the property nests what it checks once more
TEST(EpochsLaw, established_flow_keeps_its_target_while_usable) {
  const bool holds = rc::check("established_flow_keeps_its_target_while_usable", [] {
    History history;
    struct Flow {
      std::uint32_t target;
      std::uint32_t changes = 0;
      std::uint64_t changed_at = 0;
    };
    std::vector<std::optional<Flow>> flows(kSlots);
    for (const History::Event& event : random_events()) {
      const std::vector<Owners> before = owners_of(history.epochs());
      history.happen(event);
      const std::vector<Owners> after = owners_of(history.epochs());
      for (std::size_t i = 0; i < kSlots; ++i) {
        if (after.empty()) flows[i].reset();
        if (!flows[i]) {
          if (!after.empty()) flows[i] = Flow{.target = after[i].cur};
          continue;
        }
        Flow& flow = *flows[i];
        if (before[i].cur != after[i].cur) {
          ++flow.changes;
          flow.changed_at = history.now();
        }
        const bool is_over =
            flow.changes > 1 || !history.keeps_flows(flow.target) ||
            (flow.changes == 1 && history.now() >= flow.changed_at + kHistorySettings.window_ns);
        if (is_over) {
          flows[i] = Flow{.target = after[i].cur};
          continue;
        }
        RC_ASSERT(after[i].cur == flow.target || after[i].prev == flow.target);
      }
    }
  });
  EXPECT_TRUE(holds);
}

// NOLINTNEXTLINE(readability-function-size): the property nests what it checks once more
TEST(EpochsLaw, slot_moves_only_when_its_owner_in_the_base_or_its_own_one_is_out) {
  const bool holds = rc::check("slot_moves_only_when_an_owner_is_out", [] {
    History history;
    std::vector<EpochMember> members_before;
    for (const History::Event& event : random_events()) {
      const std::vector<Owners> before = owners_of(history.epochs());
      history.happen(event);
      const std::vector<EpochMember> members = history.members();
      const bool is_base_same = std::ranges::equal(
          members_before, members, [](const EpochMember& a, const EpochMember& b) {
            return a.identity == b.identity && a.weight == b.weight;
          });
      if (is_base_same && !before.empty() && history.epochs().table() != nullptr) {
        std::vector<MaglevTarget> targets;
        for (const EpochMember& member : members)
          targets.push_back({member.identity, member.weight});
        const auto base = maglev_table(targets, kHistorySettings.seed, kSlots);
        const std::vector<Owners> after = owners_of(history.epochs());
        for (std::size_t i = 0; i < base.size(); ++i) {
          if (!members_before[base[i]].is_in || !members[base[i]].is_in) continue;
          RC_ASSERT(before[i].cur == members[base[i]].target_id);
          RC_ASSERT(after[i].cur == members[base[i]].target_id);
        }
      }
      members_before = members;
    }
  });
  EXPECT_TRUE(holds);
}

TEST(EpochsLaw, table_does_not_depend_on_the_way_there) {
  const bool holds = rc::check("table_does_not_depend_on_the_way_there", [] {
    History history;
    for (const History::Event& event : random_events()) history.happen(event);
    Epochs fresh;
    fresh.update(history.members(), kHistorySettings, history.now());
    const std::vector<Owners> long_way = owners_of(history.epochs());
    const std::vector<Owners> direct = owners_of(fresh);
    RC_ASSERT(long_way.size() == direct.size());
    for (std::size_t i = 0; i < direct.size(); ++i) RC_ASSERT(long_way[i].cur == direct[i].cur);
    if (fresh.table() != nullptr) {
      RC_ASSERT(fresh.table()->digest == history.epochs().table()->digest);
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/state_keeper.h"

#include "controlplane/reconcile/restore.h"

namespace millrace::control {

Status StateKeeper::save(const ControlState& state, std::uint64_t generation, const Moment& now) {
  trouble_.note_try(now.monotonic_ns);
  if (is_floor_reached(generation)) generation_floor_ = generation + 1 + kNumberStep;
  Status saved = store_->save(to_store(state, generation_floor_, now));
  note_saved(saved);
  return saved;
}

void StateKeeper::save_targets(const std::vector<StoredTarget>& targets, const ControlState& state,
                               std::uint64_t generation, const Moment& now) {
  if (trouble_.waits(now.monotonic_ns)) return;  // the next one has all
  if (is_floor_reached(generation) || !alarm().empty()) {
    (void)save(state, generation, now);  // it has its alarm
    return;
  }
  note_saved(store_->save_targets(targets));
}

Status StateKeeper::reserve_ids(NumberSource<std::uint32_t>& ids, std::uint32_t count) {
  if (count <= ids.room()) return ok();
  const std::uint64_t floor = std::uint64_t{ids.next()} + count + kNumberStep;
  if (floor > UINT32_MAX) {
    return Error{"no ids are left for " + std::to_string(count) +
                 " new listeners, target groups and targets"};
  }
  const auto new_floor = static_cast<std::uint32_t>(floor);
  const Status saved = store_->save_id_floor(new_floor);
  if (!saved) {
    note_saved(saved);  // success would say nothing of the rest of the state
    return saved.error().within(std::to_string(count) +
                                " new listeners, target groups and targets get no ids while these "
                                "cannot be stored");
  }
  ids.raise(new_floor);
  return ok();
}

void StateKeeper::note_saved(const Status& saved) {
  trouble_.note(saved ? "" : "state is not saved: " + saved.error().message,
                "state is saved again");
}

}  // namespace millrace::control

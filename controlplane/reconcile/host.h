// SPDX-License-Identifier: Apache-2.0
//
// The process that the reconciler is part of, as the reconciler sees it: its loop, its log, and
// what else is in it. Cold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

// As journald's priorities go: what needs somebody, what somebody should know, what happens.
enum class LogLevel : std::uint8_t { error, warning, info };

enum class Haste : std::uint8_t {
  gather,   // everything is worked out anew, and more of its kind may come within kGatherNs
  at_once,  // one group's matter, and waited for
};
// Long enough for what one event of the network tells in several messages.
inline constexpr std::uint64_t kGatherNs = 2 * kMillisecondNs;
// When settle() is due after wake(); times of CLOCK_MONOTONIC. A single change of one group is
// carried out at once. Those that follow closely gather, because an image costs more than a change
// in it. `settled_ns` says when the last settle() ended; one that left something over has not.
[[nodiscard]] inline std::uint64_t settle_due_ns(Haste haste, std::uint64_t now_ns,
                                                 std::uint64_t settled_ns) {
  return haste == Haste::gather ? now_ns + kGatherNs : std::max(now_ns, settled_ns + kGatherNs);
}

class Host {
 public:
  virtual ~Host() = default;

  // Something changed: call settle() soon. Called once until then, so that changes gather.
  virtual void wake(Haste haste) = 0;
  // A part of a long piece of work is done: the largest configs take seconds in all, during which
  // the loop does not turn, and whoever waits for a sign of life must not take that for a hang.
  virtual void note_progress() = 0;
  // One line about what happened.
  virtual void log(LogLevel level, const std::string& line) = 0;
  // What the parts outside of reconcile/ find wrong, for the operator.
  [[nodiscard]] virtual std::vector<Alarm> alarms() const = 0;
  // The highest id of a listener or target in the first `table_count` flow tables in `directory`, 0
  // when there is none. Reads them whole; asked only when no config is in force.
  [[nodiscard]] virtual std::uint32_t highest_flow_id(const std::string& directory,
                                                      std::uint32_t table_count) const = 0;
};

}  // namespace millrace::control

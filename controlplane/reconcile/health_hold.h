// SPDX-License-Identifier: Apache-2.0
//
// When a failed probe says nothing about its target. Probes travel through the engine, by its nics,
// and any of its workers may get their answers. Cold and pure; time is an argument.
//
//   no engine, or one that just started or is silent --> nobody's health gets worse
//   a program that forwards without its daemon        --> health goes on: it carries probes, too
//   a worker that stands still                        --> nobody's: any answer may be in its queue
//   a nic without link, XDP program or kernel twin    --> not that of the targets behind it
//
// Health is held for a while longer after the cause has passed: the first probes meet a kernel that
// must look for its neighbours again.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

using NicMask = std::uint32_t;  // bit i: nic i
static_assert(MR_NIC_COUNT_MAX <= 32, "a bit for each");

struct HoldDecision {
  std::string reason{};     // for the operator; "": health goes on
  bool is_for_all = false;  // else for the targets behind these
  NicMask held_nics = 0;
  Alarm alarm{};  // what needs the operator's attention, without text while it may pass by itself
};

class HoldWatch {
 public:
  struct Inputs {
    const EngineSnapshot& engine;
    std::uint64_t silence_ns = 0;  // of its main thread
    std::uint64_t now_ns = 0;      // CLOCK_MONOTONIC
    std::uint64_t probe_timeout_min_ns = 0;
    NicMask target_nics = 0;  // those by which targets are reached
  };
  [[nodiscard]] HoldDecision decide(const Inputs& inputs);
  // Another engine runs. It warms up, and has other nics.
  void restart() { *this = HoldWatch(); }

 private:
  struct Link {
    bool is_up = true;
    std::string trouble_text{};  // of the last one
    std::uint64_t down_since_ns = 0;
    std::uint64_t down_until_ns = 0;  // 0: was never seen down
  };
  void note_links(const Inputs& inputs);
  [[nodiscard]] HoldDecision for_worker(const Inputs& inputs);
  [[nodiscard]] HoldDecision for_links(const Inputs& inputs) const;
  [[nodiscard]] bool is_held(std::size_t nic, const Inputs& inputs) const;

  std::uint64_t engine_since_ns_ = 0;  // 0: not running
  std::uint64_t stalled_until_ns_ = 0;
  std::uint32_t stalled_worker_ = 0;
  std::array<Link, MR_NIC_COUNT_MAX> links_{};
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// The live view: what changed between two looks at the control plane, per second. Cold; pure.
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace millrace::control {

// Results of four API commands, taken one right after the other.
struct TopSample {
  double at_seconds = 0;  // CLOCK_MONOTONIC
  boost::json::value status;
  boost::json::value listeners;
  boost::json::value targets;
  boost::json::value counters;
};

// One screen. Counters that went backwards (the engine was restarted) count from 0.
[[nodiscard]] std::string render_top(const TopSample& before, const TopSample& after);

}  // namespace millrace::control

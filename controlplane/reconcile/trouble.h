// SPDX-License-Identifier: Apache-2.0
//
// What fails at the moment: the alarm, and when to try again. Cold; time is an argument.
#pragma once

#include <cstdint>
#include <string>

#include "controlplane/reconcile/host.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

class Trouble {
 public:
  // How long to wait before trying again to publish, to save or to make a lost segment. Each try
  // works out everything anew and asks for memory or a disk that was short a moment ago. Whatever
  // else wants a try meanwhile (a tick, a health that changed) waits as well, but for an operator's
  // request.
  static constexpr std::uint64_t kRetryNs = kSecondNs;

  explicit Trouble(Host& host) : host_(host) {}

  void note_try(std::uint64_t now_ns) { tried_at_ns_ = now_ns; }
  // What is wrong from now on, "" for nothing. The log is told of each change; `over` is what to
  // say at the end.
  void note(const std::string& alarm, const char* over) {
    if (alarm != alarm_) {
      host_.log(alarm.empty() ? LogLevel::info : LogLevel::error, alarm.empty() ? over : alarm);
    }
    alarm_ = alarm;
  }

  [[nodiscard]] const std::string& alarm() const { return alarm_; }
  // The last try failed, and the next one is not due yet.
  [[nodiscard]] bool waits(std::uint64_t now_ns) const {
    return !alarm_.empty() && now_ns < tried_at_ns_ + kRetryNs;
  }
  [[nodiscard]] bool is_retry_due(std::uint64_t now_ns) const {
    return !alarm_.empty() && !waits(now_ns);
  }

 private:
  Host& host_;
  std::string alarm_;
  std::uint64_t tried_at_ns_ = 0;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Whether probes that start late are a moment's matter or a lasting one. Cold and pure: time is an
// argument.
//
// A large config that comes into force holds up the loop, and with it every probe that is due
// meanwhile: late, but once. With too few places or too little CPU, probes are late again and
// again. Late starts that follow each other make a spell, until probes start in time again. Its
// cause is that of the last of them: who asks later can no longer see it. Whether places are
// lacking shows in those that wait for one, so that such a spell ends soon after nobody does; a
// lack of CPU shows at the next start alone.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "controlplane/health/health_state.h"

namespace millrace::control {

enum class LateCause : std::uint8_t {
  cpu,     // the loop came to it late
  places,  // as many probes as may be open were
};

class ProbeLateness {
 public:
  // What is late: a death is noticed so much later.
  static constexpr std::chrono::milliseconds kMax{1000};
  // A spell lasts from this length on: longer than a large config takes, and nobody can do
  // anything about a shorter one any more.
  static constexpr std::chrono::seconds kLasting{5};
  // One start in time may be luck; after so long without a late one it says that all is well.
  static constexpr std::chrono::seconds kCalm{5};

  // A probe started; `cause` counts when that was late. True when a spell is over.
  bool note_start(ProbeTime due, ProbeTime started, LateCause cause) {
    const bool is_late = started - due > kMax;
    const bool is_over = is_on_ && (is_late ? !goes_on(started) : started - seen_ >= kCalm);
    if (is_over) is_on_ = false;
    note_late(due, started, cause);
    return is_over;
  }

  // One that was due at `due` is late now, started or not. No matter when it is not.
  void note_late(ProbeTime due, ProbeTime now, LateCause cause) {
    if (now - due <= kMax) return;
    since_ = goes_on(now) ? std::min(since_, due + kMax) : due + kMax;
    seen_ = now;
    cause_ = cause;
    is_on_ = true;
  }

  [[nodiscard]] bool lasts() const { return is_on_ && seen_ - since_ >= kLasting; }
  [[nodiscard]] LateCause cause() const { return cause_; }
  // Whether late starts of the past still say something of the present: a short spell ends by
  // itself, since the next probe may be due in minutes.
  [[nodiscard]] bool is_on(ProbeTime now) const {
    return (lasts() && cause_ == LateCause::cpu) || (is_on_ && now - seen_ < kCalm);
  }

 private:
  // Whether one that is late now belongs to the spell.
  [[nodiscard]] bool goes_on(ProbeTime now) const {
    return is_on_ && (cause_ == LateCause::cpu || now - seen_ < kCalm);
  }

  bool is_on_ = false;
  ProbeTime since_;                   // when the first probe of the spell became late
  ProbeTime seen_;                    // when the last one was seen to be
  LateCause cause_ = LateCause::cpu;  // of that one
};

}  // namespace millrace::control

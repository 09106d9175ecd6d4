// SPDX-License-Identifier: Apache-2.0
//
// Timers of flows that all run equally long: first in, first out. HOT. Nothing is ever cancelled:
// the owner looks whether the flow still wants what is due, and holds at most one entry per flow.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace::pktgen {

class DelayQueue {
 public:
  DelayQueue(std::uint32_t delay_ms, std::uint32_t flow_count)
      : delay_ms_(delay_ms), entries_(flow_count) {}

  // `flow` has no entry.
  void push(std::uint32_t now_ms, std::uint32_t flow) noexcept {
    entries_[tail_] = {now_ms + delay_ms_, flow};
    tail_ = tail_ + 1 == entries_.size() ? 0 : tail_ + 1;
    ++count_;
  }

  // Takes out the oldest entry if it is due.
  [[nodiscard]] bool pop_due(std::uint32_t now_ms, std::uint32_t& flow) noexcept {
    if (count_ == 0 || static_cast<std::int32_t>(now_ms - entries_[head_].due_ms) < 0) return false;
    flow = entries_[head_].flow;
    head_ = head_ + 1 == entries_.size() ? 0 : head_ + 1;
    --count_;
    return true;
  }

  [[nodiscard]] std::uint32_t delay_ms() const noexcept { return delay_ms_; }

 private:
  struct Entry {
    std::uint32_t due_ms;
    std::uint32_t flow;
  };

  std::uint32_t delay_ms_;
  std::vector<Entry> entries_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::size_t count_ = 0;
};

}  // namespace millrace::pktgen

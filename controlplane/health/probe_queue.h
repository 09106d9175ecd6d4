// SPDX-License-Identifier: Apache-2.0
//
// Whose probe starts next when more are due than may be open at once. Cold and pure: no clock, no
// sockets.
//
// A probe of a target that answers is over within milliseconds; one that nobody answers holds its
// place for the whole timeout. In one queue, thousands of dead targets would make the living wait
// for them, and a death among the living would be noticed late. So there are two kinds, of which
// neither may have all the places, and those that answer go first.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

namespace millrace::control {

enum class ProbeKind : std::uint8_t {
  answering,  // ended by itself last time, or was never probed
  silent,     // ran into its timeout last time
};

// `Item` is a handle that is cheap to copy and to compare.
template <typename Item>
class ProbeQueue {
 public:
  // At most `places_max` probes at once, at least 1.
  explicit ProbeQueue(std::size_t places_max)
      : places_max_(std::max<std::size_t>(places_max, 1)),
        // Three quarters; the rest is kept for the other kind.
        places_of_kind_max_(places_max_ - places_max_ / 4) {}

  void push(Item item, ProbeKind kind) { waiting_[index(kind)].push_back(item); }

  // Takes one that may start now: its place is taken until release(kind).
  [[nodiscard]] std::optional<Item> pop() {
    for (const ProbeKind kind : {ProbeKind::answering, ProbeKind::silent}) {
      std::deque<Item>& queue = waiting_[index(kind)];
      if (queue.empty() || !has_place(kind)) continue;
      Item item = queue.front();
      queue.pop_front();
      ++open_[index(kind)];
      return item;
    }
    return std::nullopt;
  }

  void release(ProbeKind kind) { --open_[index(kind)]; }
  // Of one that waits; no matter when it does not.
  void remove(Item item) {
    for (std::deque<Item>& queue : waiting_) std::erase(queue, item);
  }

  [[nodiscard]] std::size_t open_count() const { return open_[0] + open_[1]; }
  [[nodiscard]] std::size_t waiting_count() const {
    return waiting_[0].size() + waiting_[1].size();
  }
  [[nodiscard]] std::size_t places_max() const { return places_max_; }

 private:
  static std::size_t index(ProbeKind kind) { return static_cast<std::size_t>(kind); }
  [[nodiscard]] bool has_place(ProbeKind kind) const {
    return open_count() < places_max_ && open_[index(kind)] < places_of_kind_max_;
  }

  std::size_t places_max_;
  std::size_t places_of_kind_max_;
  std::array<std::size_t, 2> open_{};
  std::array<std::deque<Item>, 2> waiting_;  // each in the order in which they were due
};

}  // namespace millrace::control

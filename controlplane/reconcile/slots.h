// SPDX-License-Identifier: Apache-2.0
//
// Gives out array slots and ids. Cold and pure.
//
// A slot is reused as soon as its owner is gone, so that arrays stay short. An id is never reused.
// So a flow record that names (slot, id) can never mean the slot's next owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>

namespace millrace::control {

class SlotAllocator {
 public:
  explicit SlotAllocator(std::uint32_t slots_max) : slots_max_(slots_max) {}

  // The lowest free slot; nullopt when all are taken.
  [[nodiscard]] std::optional<std::uint32_t> take();
  // Takes this one, as found in the store. False when it is taken or out of range.
  [[nodiscard]] bool take(std::uint32_t slot);
  void release(std::uint32_t slot);

  // Slots at and beyond this are free: the length of an array that has them all.
  [[nodiscard]] std::uint32_t slot_count() const { return high_; }
  [[nodiscard]] std::uint32_t free_count() const {
    return slots_max_ - high_ + static_cast<std::uint32_t>(gaps_.size());
  }

 private:
  std::uint32_t slots_max_;
  std::uint32_t high_ = 0;
  std::set<std::uint32_t> gaps_;  // free slots below high_; the slot below high_ is taken
};

// Numbers that are never given out twice, not even over a crash. Only numbers below a floor are
// given out, and the floor is stored before it is raised here.
template <typename Number>
class NumberSource {
 public:
  // Numbers below `floor` may have been used by somebody before.
  explicit NumberSource(Number floor) : next_(floor), floor_(floor) {}

  // How many can be taken before the floor must be raised.
  [[nodiscard]] Number room() const { return floor_ - next_; }
  // Only while there is room.
  [[nodiscard]] Number take() { return next_++; }
  [[nodiscard]] Number next() const { return next_; }
  [[nodiscard]] Number floor() const { return floor_; }

  // `floor` is stored: numbers below it may be given out.
  void raise(Number floor) { floor_ = std::max(floor_, floor); }
  // Numbers below `floor` were used by somebody after all.
  void skip_to(Number floor) {
    next_ = std::max(next_, floor);
    floor_ = std::max(floor_, next_);
  }

 private:
  Number next_;
  Number floor_;
};

}  // namespace millrace::control

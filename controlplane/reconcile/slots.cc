// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/slots.h"

namespace millrace::control {

std::optional<std::uint32_t> SlotAllocator::take() {
  if (!gaps_.empty()) {
    const std::uint32_t slot = *gaps_.begin();
    gaps_.erase(gaps_.begin());
    return slot;
  }
  if (high_ == slots_max_) return std::nullopt;
  return high_++;
}

bool SlotAllocator::take(std::uint32_t slot) {
  if (slot >= slots_max_) return false;
  if (slot < high_) return gaps_.erase(slot) == 1;
  for (; high_ < slot; ++high_) gaps_.insert(high_);
  ++high_;
  return true;
}

void SlotAllocator::release(std::uint32_t slot) {
  gaps_.insert(slot);
  while (high_ > 0 && gaps_.erase(high_ - 1) == 1) --high_;
}

}  // namespace millrace::control

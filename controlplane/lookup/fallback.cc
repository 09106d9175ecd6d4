// SPDX-License-Identifier: Apache-2.0
//
// The slots without an owner are kept in a list, and each round looks once for all of them. What is
// left goes into the next round. There is no branch that depends on an owner, because the CPU could
// not foresee it.
#include "controlplane/lookup/fallback.h"

#include <cassert>
#include <cstddef>
#include <memory>
#include <numeric>

namespace millrace::control {
namespace {

// Slots whose owner in the base is out, in `room`, which has one for each slot of the base.
std::span<std::uint32_t> slots_of_those_out(std::span<const std::uint16_t> base,
                                            const std::uint8_t* is_in, std::uint32_t* room) {
  std::uint32_t* end = room;
  for (std::size_t slot = 0; slot < base.size(); ++slot) {
    *end = static_cast<std::uint32_t>(slot);
    end += is_in[base[slot]] ^ 1u;
  }
  return {room, end};
}

// Gives `slots` owners. Returns those that found nobody, at the front of the same memory.
std::span<std::uint32_t> look_again(std::span<const std::uint16_t> base, const std::uint8_t* is_in,
                                    std::uint64_t seed, std::span<std::uint32_t> slots,
                                    std::uint16_t* owners) {
  const auto slot_count = static_cast<std::uint32_t>(base.size());
  for (std::uint32_t look = 0; look < kLooksMax && !slots.empty(); ++look) {
    std::uint32_t* end = slots.data();
    for (const std::uint32_t slot : slots) {
      const std::uint16_t owner = base[fallback_slot(seed, slot, look, slot_count)];
      owners[slot] = owner;
      *end = slot;
      end += is_in[owner] ^ 1u;
    }
    slots = {slots.data(), end};
  }
  return slots;
}

std::vector<std::uint16_t> table_of_the_living(std::span<const MaglevTarget> targets,
                                               std::span<const std::uint8_t> is_in,
                                               std::uint64_t seed, std::size_t slot_count) {
  std::vector<MaglevTarget> living(targets.begin(), targets.end());
  for (std::size_t i = 0; i < living.size(); ++i) living[i].weight *= is_in[i];
  return maglev_table(living, seed, static_cast<std::uint32_t>(slot_count));
}

}  // namespace

std::vector<std::uint16_t> fallback_table(std::span<const std::uint16_t> base,
                                          std::span<const MaglevTarget> targets,
                                          std::span<const std::uint8_t> is_in, std::uint64_t seed) {
  assert(!base.empty() && is_in.size() == targets.size());
  std::vector<std::uint16_t> owners(base.begin(), base.end());
  if (base.front() == kMaglevNoTarget) return owners;  // nobody has a weight
  const auto room = std::make_unique_for_overwrite<std::uint32_t[]>(base.size());
  std::span<std::uint32_t> slots = slots_of_those_out(base, is_in.data(), room.get());
  const std::size_t living_slots = base.size() - slots.size();
  // The only one that is left gets all slots either way, and its table costs nothing.
  const bool has_several = std::accumulate(is_in.begin(), is_in.end(), 0u) > 1;
  if (has_several && living_slots * kLivingShareMin >= base.size()) {
    slots = look_again(base, is_in.data(), seed, slots, owners.data());
  }
  if (slots.empty()) return owners;
  const std::vector<std::uint16_t> living = table_of_the_living(targets, is_in, seed, base.size());
  for (const std::uint32_t slot : slots) owners[slot] = living[slot];
  return owners;
}

}  // namespace millrace::control

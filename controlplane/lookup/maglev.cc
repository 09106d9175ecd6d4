// SPDX-License-Identifier: Apache-2.0
//
// In the paper every target in its turn walks along its permutation to the first slot that nobody
// has. With ten targets that is seven looks for each filled slot, and the CPU cannot predict the
// end of a walk. So looking and taking are two steps here. A target looks at a run of slots at
// once, without a branch, and notes those that are free. On its turn it takes the first noted slot
// that is still free. When few slots are left, each target looks at these alone, in its own order,
// instead of at all the taken slots between them.
#include "controlplane/lookup/maglev.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>

#include "dataplane/core/checksum64.h"

namespace millrace::control {
namespace {

// How many slots a target looks at once: so many that, while it uses up its notes, the others take
// one in sixteen of the slots that were free. With fewer, looking costs more than it saves. With
// more, too many of the notes are out of date.
constexpr std::uint32_t kLooksPerTable = 16;
constexpr std::uint32_t kLooksMin = 16;
// Below this, finding what is left costs more than passing over what is taken.
constexpr std::uint32_t kLeftMin = 64;

// x mod slot_count by multiplication, for x < 2^44 and a count below 2^20.
class Modulus {
 public:
  explicit Modulus(std::uint32_t slot_count)
      : slot_count_(slot_count), reciprocal_(~std::uint64_t{0} / slot_count + 1) {}

  // Exact: the reciprocal is too large by less than 1 / 2^64, so that the product is by less than
  // 2^44 / 2^64, and a quotient's fraction lies at least 1 / 2^20 below the next whole number.
  [[nodiscard]] std::uint32_t of(std::uint64_t x) const {
    __extension__ using Wide = unsigned __int128;
    const auto quotient = static_cast<std::uint64_t>(Wide{reciprocal_} * x >> 64);
    return static_cast<std::uint32_t>(x - quotient * slot_count_);
  }
  [[nodiscard]] std::uint32_t product(std::uint32_t a, std::uint32_t b) const {
    return of(std::uint64_t{a} * b);
  }
  // `a`, not 0, by Fermat's theorem: the count is prime.
  [[nodiscard]] std::uint32_t inverse(std::uint32_t a) const {
    std::uint32_t result = 1;
    for (std::uint32_t left = slot_count_ - 2; left != 0; left /= 2) {
      if (left % 2 != 0) result = product(result, a);
      a = product(a, a);
    }
    return result;
  }
  // a and b are below the count. If their sum is below it, too, the difference wraps around and is
  // the larger.
  [[nodiscard]] std::uint32_t sum(std::uint32_t a, std::uint32_t b) const {
    return std::min(a + b, a + b - slot_count_);
  }

 private:
  std::uint32_t slot_count_;
  std::uint64_t reciprocal_;
};

// One target's permutation of the slots: offset, offset + skip, offset + 2 skip, ... modulo a
// prime, which visits every slot once (section 3.4 of the paper).
struct Turn {
  std::uint16_t target;  // index into the caller's span
  std::uint32_t weight;
  std::uint32_t credit;
  std::uint32_t next;  // slot to look at next
  std::uint32_t skip;  // 1 to slot_count - 1
  // Free slots: those before `next` in the permutation that were free when looked at. From `note`
  // on they were not tried yet.
  std::uint32_t* notes = nullptr;
  const std::uint32_t* note = nullptr;
  const std::uint32_t* notes_end = nullptr;
};

std::uint64_t hash_identity(std::uint64_t identity, std::uint64_t seed) {
  return core::checksum64(std::as_bytes(std::span{&identity, 1}), seed);
}

std::vector<Turn> turns_in_identity_order(std::span<const MaglevTarget> targets, std::uint64_t seed,
                                          std::uint32_t slot_count) {
  std::vector<Turn> turns;
  for (std::size_t index = 0; index < targets.size(); ++index) {
    if (targets[index].weight == 0) continue;
    const std::uint64_t offset = hash_identity(targets[index].identity, seed);
    const std::uint64_t skip = hash_identity(targets[index].identity, ~seed);
    turns.push_back({.target = static_cast<std::uint16_t>(index),
                     .weight = targets[index].weight,
                     .credit = 0,
                     .next = static_cast<std::uint32_t>(offset % slot_count),
                     .skip = static_cast<std::uint32_t>(skip % (slot_count - 1) + 1)});
  }
  std::ranges::sort(turns, [&](const Turn& a, const Turn& b) {
    return targets[a.target].identity < targets[b.target].identity;
  });
  return turns;
}

template <typename Use>
void for_each_bit(std::span<const std::uint64_t> words, Use use) {
  for (std::uint32_t word = 0; word < words.size(); ++word) {
    for (std::uint64_t bits = words[word]; bits != 0; bits &= bits - 1) {
      use(word * 64 + static_cast<std::uint32_t>(std::countr_zero(bits)));
    }
  }
}

// A table while it is filled.
class Filling {
 public:
  Filling(std::vector<Turn> turns, std::uint32_t slot_count);

  [[nodiscard]] std::vector<std::uint16_t> run();

 private:
  void take_turns(std::uint32_t left_after);
  [[nodiscard]] std::uint32_t first_free(Turn& turn, const std::uint64_t* free) const;
  // These two are not inlined, because take_turns() would run out of registers.
  [[gnu::noinline]] void look_ahead(Turn& turn) const;
  [[gnu::noinline]] void note_what_is_left();

  std::vector<Turn> turns_;
  std::size_t turn_index_ = 0;  // whose turn it is
  std::uint32_t slot_count_;
  std::uint32_t left_;  // slots without an owner
  Modulus modulus_;
  std::uint32_t looks_;  // of a target at once: a multiple of four, and its room for notes
  std::vector<std::uint16_t> owners_;
  // Which slots have no owner, one bit each. 65537 bits fit the first-level cache, 65537 owners
  // would not.
  std::vector<std::uint64_t> free_;
  std::vector<std::uint32_t> notes_;
};

Filling::Filling(std::vector<Turn> turns, std::uint32_t slot_count)
    : turns_(std::move(turns)),
      slot_count_(slot_count),
      left_(slot_count),
      modulus_(slot_count),
      owners_(slot_count, kMaglevNoTarget),
      free_(slot_count / 64 + 1, ~std::uint64_t{0}) {
  free_.back() = (std::uint64_t{1} << slot_count % 64) - 1;
  const auto turn_count = static_cast<std::uint32_t>(turns_.size());
  looks_ = std::max(slot_count / (kLooksPerTable * turn_count) / 4 * 4, kLooksMin);
  notes_.resize(std::size_t{turn_count} * looks_);
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    turns_[i].notes = notes_.data() + i * looks_;
    turns_[i].note = turns_[i].notes_end = turns_[i].notes;
  }
}

std::vector<std::uint16_t> Filling::run() {
  if (looks_ >= kLeftMin) {
    take_turns(looks_);
    note_what_is_left();
  }
  take_turns(0);
  return std::move(owners_);
}

void Filling::take_turns(std::uint32_t left_after) {
  const std::uint32_t weight_max = std::ranges::max(turns_, {}, &Turn::weight).weight;
  // Locals, because a store into one of the arrays could change a member, as far as the compiler
  // knows.
  std::uint64_t* const free = free_.data();
  std::uint16_t* const owners = owners_.data();
  Turn* const end = turns_.data() + turns_.size();
  Turn* turn = turns_.data() + turn_index_;
  // This loop ends: in every round the heaviest target takes a turn, and a turn fills one slot.
  for (std::uint32_t left = left_; left > left_after;) {
    turn->credit += turn->weight;
    if (turn->credit >= weight_max) {
      turn->credit -= weight_max;
      const std::uint32_t slot = first_free(*turn, free);
      free[slot / 64] ^= std::uint64_t{1} << slot % 64;
      owners[slot] = turn->target;
      --left;
    }
    if (++turn == end) turn = turns_.data();
  }
  left_ = left_after;
  turn_index_ = static_cast<std::size_t>(turn - turns_.data());
}

// Looks at the next slots of the target's permutation. Slots that are not in its notes were taken
// when it passed them, and still are.
std::uint32_t Filling::first_free(Turn& turn, const std::uint64_t* free) const {
  const std::uint32_t* note = turn.note;
  for (;;) {
    while (note == turn.notes_end) {
      look_ahead(turn);
      note = turn.notes;
    }
    const std::uint32_t slot = *note++;
    if ((free[slot / 64] >> slot % 64 & 1) == 0) continue;
    turn.note = note;
    return slot;
  }
}

void Filling::look_ahead(Turn& turn) const {
  const std::uint64_t* const free = free_.data();
  const Modulus modulus = modulus_;  // as above
  const std::uint32_t looks = looks_;
  // Four walks at once, since a step waits for the one before.
  const std::uint32_t two = modulus.sum(turn.skip, turn.skip);
  const std::uint32_t four = modulus.sum(two, two);
  const std::uint32_t second = modulus.sum(turn.next, turn.skip);
  std::uint32_t slots[4] = {turn.next, second, modulus.sum(turn.next, two),
                            modulus.sum(second, two)};
  std::uint32_t* end = turn.notes;
  for (std::uint32_t look = 0; look < looks; look += 4) {
    for (std::uint32_t& slot : slots) {
      *end = slot;
      end += free[slot / 64] >> slot % 64 & 1;
      slot = modulus.sum(slot, four);
    }
  }
  turn.note = turn.notes;
  turn.notes_end = end;
  turn.next = slots[0];
}

// The rank of a slot in a permutation that starts at `first` is (slot - first) / skip modulo the
// count: ranks are sorted as bits, and turned into slots again.
void Filling::note_what_is_left() {
  std::vector<std::uint32_t> left;
  for_each_bit(free_, [&](std::uint32_t slot) { left.push_back(slot); });
  std::vector<std::uint64_t> ranks(free_.size());  // set: the slot of this rank is left
  for (Turn& turn : turns_) {
    // Nothing before this one is free: here the order begins that comes round to it again.
    const std::uint32_t first = turn.note == turn.notes_end ? turn.next : *turn.note;
    const std::uint32_t inverse = modulus_.inverse(turn.skip);
    std::ranges::fill(ranks, 0);
    for (const std::uint32_t slot : left) {
      const std::uint32_t rank = modulus_.product(modulus_.sum(slot, slot_count_ - first), inverse);
      ranks[rank / 64] |= std::uint64_t{1} << rank % 64;
    }
    std::uint32_t* end = turn.notes;
    for_each_bit(ranks, [&](std::uint32_t rank) {
      *end++ = modulus_.sum(modulus_.product(rank, turn.skip), first);
    });
    turn.note = turn.notes;
    turn.notes_end = end;
  }
}

}  // namespace

std::vector<std::uint16_t> maglev_table(std::span<const MaglevTarget> targets, std::uint64_t seed,
                                        std::uint32_t slot_count) {
  assert(targets.size() < kMaglevNoTarget);
  std::vector<Turn> turns = turns_in_identity_order(targets, seed, slot_count);
  if (turns.size() < 2) {
    const std::uint16_t owner = turns.empty() ? kMaglevNoTarget : turns.front().target;
    return std::vector<std::uint16_t>(slot_count, owner);
  }
  return Filling(std::move(turns), slot_count).run();
}

std::uint64_t maglev_digest(std::span<const MaglevTarget> targets,
                            std::span<const std::uint16_t> owners) {
  return core::checksum64_of(owners.size(), [&](std::size_t slot) {
    const std::uint16_t owner = owners[slot];
    return owner == kMaglevNoTarget ? 0 : targets[owner].identity;
  });
}

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Maps of files that somebody may cut short (`> /run/millrace/stats`). Touching what is gone is a
// SIGBUS, which ends the process; for a map that is guarded such a page becomes zeroes of the
// process's own instead. Cold: the handler runs once for each page that is gone.
//
// For what is only counted or shown, and made again as soon as the cut is noticed. Not for an
// engine's view of the config: what was checked is used unchecked, and packets would go by zeroes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace millrace::os {

// One of these per map. Registered until it goes out of scope; moves, does not copy.
class CutGuard {
 public:
  CutGuard() = default;
  // `bytes`: a whole map. Without effect when more than 16 maps are guarded already.
  explicit CutGuard(std::span<const std::byte> bytes);
  CutGuard(CutGuard&& other) noexcept : slot_(other.slot_) { other.slot_ = kNone; }
  CutGuard& operator=(CutGuard&& other) noexcept;
  CutGuard(const CutGuard&) = delete;
  CutGuard& operator=(const CutGuard&) = delete;
  ~CutGuard();

  // True when some page of the map has become zeroes of our own: what is stored there reaches
  // nobody. Until reset(), for a map that was made anew at the same address.
  [[nodiscard]] bool was_cut() const;
  void reset() const;

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  std::size_t slot_ = kNone;
};

}  // namespace millrace::os

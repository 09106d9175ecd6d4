// SPDX-License-Identifier: Apache-2.0
//
// Values that profiles have besides those of the control plane's reader. Cold. Each read either
// gives a value that keeps the stated range, or adds an error that says what is allowed.
#pragma once

#include <cstdint>
#include <optional>

#include "bench/pktgen/profile.h"
#include "controlplane/yaml/reader.h"

namespace millrace::pktgen {

[[nodiscard]] std::optional<double> read_decimal(const control::Cursor& at, double min, double max,
                                                 control::ErrorList& errors);

// "02:00:00:00:00:01"
[[nodiscard]] std::optional<Mac> read_mac(const control::Cursor& at, control::ErrorList& errors);

// "64" or "64-1518", both ends within `allowed`.
struct Span {
  std::uint32_t first;
  std::uint32_t last;
};
[[nodiscard]] std::optional<Span> read_span(const control::Cursor& at, Span allowed,
                                            control::ErrorList& errors);

// "10.0.0.0/8" or "2001:db8::/112", at most 2^24 addresses. The network's own address and, as IPv4
// has one, the broadcast address are left out where more than two remain.
struct AddressRange {
  mr_addr first{};
  std::uint32_t count = 1;
};
[[nodiscard]] std::optional<AddressRange> read_prefix(const control::Cursor& at,
                                                      control::ErrorList& errors);

// As parse_rate() of profile_load.h.
[[nodiscard]] std::optional<Rate> read_rate(const control::Cursor& at, control::ErrorList& errors);

}  // namespace millrace::pktgen

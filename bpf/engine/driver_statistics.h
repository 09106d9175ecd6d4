// SPDX-License-Identifier: Apache-2.0
//
// What a NIC's driver counts for itself (ethtool --statistics). XDP's sends are in none of the
// counters that every interface has: a frame that the driver does not take, because its ring is
// full or a veth's other end has no program, is freed there and the program never hears of it.
// Cold.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::xdp {

struct DriverStatistic {
  std::string name;
  std::uint64_t count = 0;
};

// Nothing when the driver has none, or the interface is gone.
[[nodiscard]] std::vector<DriverStatistic> driver_statistics(const std::string& interface);
// "veth"; "" when the interface is gone.
[[nodiscard]] std::string driver_of(const std::string& interface);

// Frames that XDP gave the driver to send and that it threw away. Drivers name that each in its own
// way; those that count by queue and in sum (mlx5) are read by their sums.
[[nodiscard]] std::uint64_t lost_sends(const std::vector<DriverStatistic>& statistics);

}  // namespace millrace::xdp

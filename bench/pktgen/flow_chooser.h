// SPDX-License-Identifier: Apache-2.0
//
// Which flow the next packet belongs to. choose() is HOT: no division, no logarithm.
//
//   sequential  0, 1, ..., n - 1, 0, ...   every flow equally often, caches at their worst
//   random      uniform                    equally often on average
//   zipf        flow f with weight 1 / (f + 1)^exponent: few elephants, many mice
//
// Zipf draws a bucket of flows first (alias method: one comparison; Walker 1977) and then a flow
// within it, evenly. Buckets are LogBuckets of 64 parts: the first 64 flows have one each and are
// exact; further on a flow's chance is off by at most exponent / 128.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bench/pktgen/random.h"

namespace millrace::pktgen {

enum class FlowOrder : std::uint8_t { sequential, random, zipf };

struct FlowChoice {
  std::uint32_t count = 1;  // 1 to 2^32 - 1
  FlowOrder order = FlowOrder::sequential;
  double zipf_exponent = 1.0;  // 0 (uniform) to 4
};

class FlowChooser {
 public:
  FlowChooser(const FlowChoice& choice, std::uint64_t seed);

  // Fills `flows` with numbers below `choice.count`.
  void choose(std::span<std::uint32_t> flows) noexcept;

 private:
  struct Cell {
    std::uint32_t threshold;  // chance, of 2^32, that the cell's own bucket is meant
    std::uint32_t other;      // the bucket that is meant otherwise
    std::uint32_t first_flow;
    std::uint32_t width;
  };

  void build_cells(double exponent);

  FlowOrder order_;
  std::uint32_t count_;
  std::uint32_t next_ = 0;
  Random random_;
  std::vector<Cell> cells_;  // at most 64 * 27
};

}  // namespace millrace::pktgen

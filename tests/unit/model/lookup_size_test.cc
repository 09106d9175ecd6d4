// SPDX-License-Identifier: Apache-2.0
#include "controlplane/model/lookup_size.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

Weights weights_of(std::uint32_t light, std::uint32_t heavy_count) {
  Weights weights;
  weights.add(light);
  for (std::uint32_t i = 0; i < heavy_count; ++i) weights.add(999);
  return weights;
}

TEST(LookupSize, is_the_configured_one_where_every_target_has_its_slots) {
  for (const std::uint32_t size : kLookupSizes) {
    EXPECT_EQ(lookup_size(size, weights_of(100, 10)), size);
    EXPECT_EQ(lookup_size(size, {}), size) << "nobody has a weight";
  }
}

TEST(LookupSize, grows_until_the_lightest_target_has_four_slots) {
  EXPECT_EQ(lookup_size(4093, weights_of(1, 1)), 4093u);
  EXPECT_EQ(lookup_size(4093, weights_of(1, 2)), 16381u);
  EXPECT_EQ(lookup_size(4093, weights_of(1, 16)), 65537u);
  EXPECT_EQ(lookup_size(65537, weights_of(1, 66)), 655373u);
  EXPECT_TRUE(suffices(MR_LOOKUP_SLOTS_MAX, weights_of(1, 164)));
  EXPECT_FALSE(suffices(MR_LOOKUP_SLOTS_MAX, weights_of(1, 165)));
}

TEST(LookupSize, targets_without_weight_do_not_count) {
  Weights weights = weights_of(1, 2);
  weights.add(0);
  EXPECT_EQ(weights.lightest, 1u);
  EXPECT_EQ(weights.sum, 1999u);
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Numbers with units, and aligned columns.
#include "controlplane/cli/table.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

TEST(UnitsTest, counts_keep_three_digits_above_ten_thousand) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(9999), "9999");
  EXPECT_EQ(count_text(10'000), "10.0 k");
  EXPECT_EQ(count_text(99'960), "100 k");
  EXPECT_EQ(count_text(999'600), "1.00 M");
  EXPECT_EQ(count_text(1'234'567), "1.23 M");
  EXPECT_EQ(count_text(1.8446744e19), "18.4 E");
}

TEST(UnitsTest, bytes_and_rates_carry_their_unit) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1500), "1.50 kB");
  EXPECT_EQ(bit_rate_text(125'000'000), "1.00 Gb/s");
  EXPECT_EQ(bit_rate_text(100), "800 b/s");
}

TEST(UnitsTest, times_read_naturally) {
  EXPECT_EQ(duration_text(0), "0 s");
  EXPECT_EQ(duration_text(185), "3 min 5 s");
  EXPECT_EQ(duration_text(7800), "2 h 10 min");
  EXPECT_EQ(duration_text(86400 * 5 + 3 * 3600), "5 d 3 h");
  EXPECT_EQ(milliseconds_text(850), "850 ms");
  EXPECT_EQ(milliseconds_text(65'000), "1 min 5 s");
  EXPECT_EQ(nanoseconds_text(850), "850 ns");
  EXPECT_EQ(nanoseconds_text(12'340), "12.3 us");
  EXPECT_EQ(nanoseconds_text(4'560'000), "4.56 ms");
  EXPECT_EQ(time_text(0), "1970-01-01 00:00:00 UTC");
  EXPECT_EQ(share_text(1.0 / 3), "33.3 %");
}

TEST(TableTest, columns_are_aligned_and_lines_end_without_space) {
  Table table({{"NAME"}, {"COUNT", Table::Align::right}, {"NOTE"}});
  table.add({"a", "1", ""});
  table.add({"longer", "12345", "x"});
  table.add({"é", "2", "y"});
  EXPECT_EQ(table.text(),
            "NAME    COUNT  NOTE\n"
            "a           1\n"
            "longer  12345  x\n"
            "é           2  y\n");
}

}  // namespace
}  // namespace millrace::control

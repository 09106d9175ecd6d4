// SPDX-License-Identifier: Apache-2.0
//
// Numbers and tables for people. Cold. The one place that decides how things look in a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millrace::control {

// "7", "9999", "12.3 k", "4.56 M"
[[nodiscard]] std::string count_text(double count);
// "512 B", "1.50 kB", "12.3 GB"; powers of 1000, as in network speeds
[[nodiscard]] std::string bytes_text(double bytes);
// "850 b/s", "1.25 Gb/s"
[[nodiscard]] std::string bit_rate_text(double bytes_per_second);
// "45 s", "3 min 5 s", "2 h 10 min", "5 d 3 h"
[[nodiscard]] std::string duration_text(std::uint64_t seconds);
// "850 ms", then as duration_text()
[[nodiscard]] std::string milliseconds_text(std::uint64_t ms);
// "850 ns", "12.3 us", "4.56 ms"
[[nodiscard]] std::string nanoseconds_text(double ns);
// "33.3 %"
[[nodiscard]] std::string share_text(double share);
// "2026-01-31 12:00:00 UTC"
[[nodiscard]] std::string time_text(std::uint64_t unix_seconds);

// Columns as wide as their widest cell, two spaces between, no space at line ends.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

namespace millrace::control {
namespace {

// Three significant digits and a prefix of the power of 1000.
std::string scaled(double value, double plain_below, const char* unit) {
  constexpr std::array kPrefixes = {"", "k", "M", "G", "T", "P", "E"};
  std::array<char, 32> text{};
  if (value < plain_below) {
    std::snprintf(text.data(), text.size(), "%.0f%s%s", value, *unit == '\0' ? "" : " ", unit);
    return text.data();
  }
  std::size_t power = 0;
  while (value >= 999.5 && power + 1 < kPrefixes.size()) {
    value /= 1000;
    ++power;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s%s", decimals, value, kPrefixes[power], unit);
  return text.data();
}

std::size_t width_of(const std::string& text) {
  // Characters, not bytes: continuation bytes of UTF-8 take no room.
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string count_text(double count) { return scaled(count, 10'000, ""); }
std::string bytes_text(double bytes) { return scaled(bytes, 1000, "B"); }
std::string bit_rate_text(double bytes_per_second) {
  return scaled(bytes_per_second * 8, 1000, "b/s");
}

std::string duration_text(std::uint64_t seconds) {
  const auto two = [](std::uint64_t big, const char* big_unit, std::uint64_t small,
                      const char* small_unit) {
    return std::to_string(big) + big_unit + " " + std::to_string(small) + small_unit;
  };
  if (seconds < 60) return std::to_string(seconds) + " s";
  if (seconds < 3600) return two(seconds / 60, " min", seconds % 60, " s");
  if (seconds < 86400) return two(seconds / 3600, " h", seconds / 60 % 60, " min");
  return two(seconds / 86400, " d", seconds / 3600 % 24, " h");
}

std::string milliseconds_text(std::uint64_t ms) {
  return ms < 10'000 ? std::to_string(ms) + " ms" : duration_text(ms / 1000);
}

std::string nanoseconds_text(double ns) {
  if (ns < 1000) return scaled(ns, 1000, "ns");
  std::array<char, 32> text{};
  const bool is_small = ns < 1e6;
  const double value = is_small ? ns / 1e3 : ns / 1e6;
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, is_small ? "us" : "ms");
  return text.data();
}

std::string share_text(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", share * 100);
  return text.data();
}

std::string time_text(std::uint64_t unix_seconds) {
  const auto seconds = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  std::array<char, 40> text{};
  if (gmtime_r(&seconds, &parts) == nullptr) return "?";
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) widths.push_back(width_of(column.title));
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  const auto put_line = [&](auto cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string gap(widths[i] - width_of(cell), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == Align::right ? gap + cell : cell + gap;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  put_line([&](std::size_t i) -> const std::string& { return columns_[i].title; });
  for (const auto& row : rows_)
    put_line([&](std::size_t i) -> const std::string& { return row[i]; });
  return out;
}

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/model/wording.h"

#include <algorithm>
#include <utility>

namespace millrace::control {
namespace {

constexpr std::size_t kShownBytesMax = 100;
// Of 16,384 target groups the first will do to see what names look like.
constexpr std::size_t kListedNamesMax = 20;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Levenshtein distance without regard to case; both words are short.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string printable(std::string_view text) {
  std::string_view shown = text.substr(0, kShownBytesMax);
  while (shown.size() < text.size() && !shown.empty() && (text[shown.size()] & 0xc0) == 0x80) {
    shown.remove_suffix(1);
  }
  std::string result;
  for (const char c : shown) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return shown.size() < text.size() ? result + "..." : result;
}

std::string quote(std::string_view text) { return "\"" + printable(text) + "\""; }

std::string did_you_mean(std::string_view word, const std::vector<std::string_view>& candidates) {
  // Cut, because the distance costs the product of the lengths and the word may be megabytes.
  const std::string_view cut = word.substr(0, 64);
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, cut.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    // "deregistration_delay" is far from, but surely means, "deregistration_delay.timeout_seconds".
    const bool is_start = cut.size() >= 4 && candidate.substr(0, cut.size()) == cut;
    const std::size_t distance = is_start ? 0 : edit_distance(cut, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : " (did you mean `" + std::string(best) + "`?)";
}

std::string join(const std::vector<std::string_view>& words) {
  std::string joined;
  for (const std::string_view word : words) {
    if (!joined.empty()) joined += ", ";
    joined += word;
  }
  return joined;
}

std::string some_of(const std::vector<std::string_view>& names) {
  if (names.empty()) return "none";
  const std::size_t shown = std::min(names.size(), kListedNamesMax);
  const std::size_t left = names.size() - shown;
  return join({names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown)}) +
         (left == 0 ? "" : " and " + std::to_string(left) + " more");
}

std::string known_names(std::string_view word, const std::vector<std::string_view>& known) {
  return did_you_mean(word, known) + "; there " + (known.size() == 1 ? "is: " : "are: ") +
         some_of(known);
}

}  // namespace millrace::control

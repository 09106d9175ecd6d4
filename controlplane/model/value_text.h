// SPDX-License-Identifier: Apache-2.0
//
// Numbers and words as a config file or the API writes them, read strictly. Cold and pure.
//
// An error begins with the text in quotes and says what is allowed, so that it can follow the place
// where the text stands.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/wording.h"
#include "dataplane/core/result.h"

namespace millrace::control {

[[nodiscard]] constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// [min, max]; `unit` is for messages: "" or "seconds".
struct Range {
  std::uint32_t min;
  std::uint32_t max;
  std::string_view unit = "";
};
[[nodiscard]] std::string range_text(Range range);  // "0-3600 seconds"

// A whole decimal number in `range`: digits alone.
[[nodiscard]] Result<std::uint32_t> parse_number(std::string_view text, Range range);

// One word of a fixed set. A word with `refusal` is understood but not accepted, with that reason.
template <typename T>
struct Word {
  std::string_view text;
  T value;
  std::string_view refusal = {};
};

inline constexpr Word<bool> kTrueFalse[] = {{"true", true}, {"false", false}};

template <typename T>
[[nodiscard]] std::vector<std::string_view> accepted_words(std::span<const Word<T>> words) {
  std::vector<std::string_view> accepted;
  for (const Word<T>& word : words) {
    if (word.refusal.empty()) accepted.push_back(word.text);
  }
  return accepted;
}

template <typename T>
[[nodiscard]] Result<T> parse_word(std::string_view text, std::span<const Word<T>> words) {
  for (const Word<T>& word : words) {
    if (word.text != text) continue;
    if (word.refusal.empty()) return word.value;
    return Error{quote(text) + ": " + std::string(word.refusal)};
  }
  const std::vector<std::string_view> accepted = accepted_words(words);
  return Error{quote(text) + " is not one of: " + join(accepted) + did_you_mean(text, accepted)};
}

}  // namespace millrace::control

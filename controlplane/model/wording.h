// SPDX-License-Identifier: Apache-2.0
//
// How messages name what somebody wrote, and what else there is. Cold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace::control {

// `text` fit for a message: bounded, without control characters, and not cut inside a character.
[[nodiscard]] std::string printable(std::string_view text);
// The same in quotes.
[[nodiscard]] std::string quote(std::string_view text);

// " (did you mean `X`?)" when some candidate is close to `word`, else "".
[[nodiscard]] std::string did_you_mean(std::string_view word,
                                       const std::vector<std::string_view>& candidates);
[[nodiscard]] std::string join(const std::vector<std::string_view>& words);
// What to say behind a name that is none of `known`: the one that is close to it, and those that
// there are, of many the first. " (did you mean `web-4`?); there are: web-4, web-6".
[[nodiscard]] std::string known_names(std::string_view word,
                                      const std::vector<std::string_view>& known);
// "A, B and 7 more", "none": for a message that must not drown in names.
[[nodiscard]] std::string some_of(const std::vector<std::string_view>& names);

}  // namespace millrace::control

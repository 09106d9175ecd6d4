// SPDX-License-Identifier: Apache-2.0
//
// Reads typed values out of a YAML tree and collects everything that is wrong with them. Cold.
//
// A Cursor is a value together with its key path; every read either gives a value that keeps the
// stated range, or adds an error that says what is allowed and gives nothing. Nothing stops at the
// first error: the operator sees them all at once.
// Before: yaml_tree.h. After: load.cc.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/config/load.h"
#include "controlplane/config/yaml_tree.h"
#include "controlplane/model/model.h"

namespace millrace::control {

struct Cursor {
  YamlNodePtr node;
  std::string path;  // "load_balancers[0].listeners[1].port"; empty at the root
};

// At most kErrorsMax errors, the first found, in the order of the file; then one counts the rest.
class ErrorList {
 public:
  static constexpr std::size_t kErrorsMax = 100;

  explicit ErrorList(std::string file) : file_(std::move(file)) {}

  void add(const Cursor& at, std::string reason) {
    add(at.node->place, at.path, std::move(reason));
  }
  void add(const YamlPlace& place, const std::string& path, std::string reason);
  [[nodiscard]] bool empty() const { return errors_.empty(); }
  [[nodiscard]] std::vector<ConfigError> take();

 private:
  struct Placed {
    YamlPlace place;
    ConfigError error;
  };

  std::string file_;
  std::vector<Placed> errors_;
  std::size_t left_out_ = 0;
};

// A map of which all keys are known. Merge keys (<<) are followed; the map's own keys win.
class MapReader {
 public:
  // Reports: not a map, a key twice, keys outside `allowed` (with the closest allowed one).
  MapReader(const Cursor& at, std::vector<std::string_view> allowed, ErrorList& errors);

  [[nodiscard]] std::optional<Cursor> find(std::string_view key) const;
  // Like find(), but a missing key is an error, which `what` explains.
  [[nodiscard]] std::optional<Cursor> require(std::string_view key, std::string_view what) const;
  [[nodiscard]] const Cursor& at() const { return at_; }

 private:
  void add_entries(const YamlNode& map, std::set<const YamlNode*>& merging);
  void add_entry(const YamlEntry& entry);
  void add_merge(const YamlEntry& entry, std::set<const YamlNode*>& merging);

  Cursor at_;
  std::vector<std::string_view> allowed_;
  ErrorList& errors_;
  std::vector<Cursor> found_;  // the path ends in the key
};

// One word of a fixed set. A word with `refusal` is understood but not accepted, with that reason.
template <typename T>
struct Word {
  std::string_view text;
  T value;
  std::string_view refusal = {};
};

[[nodiscard]] std::optional<std::vector<Cursor>> read_list(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<std::string> read_text(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<bool> read_bool(const Cursor& at, ErrorList& errors);

// A whole decimal number in [min, max]; `unit` is for the message: "" or "seconds".
struct Range {
  std::uint32_t min;
  std::uint32_t max;
  std::string_view unit = "";
};
[[nodiscard]] std::optional<std::uint32_t> read_number(const Cursor& at, Range range,
                                                       ErrorList& errors);
[[nodiscard]] std::optional<std::uint16_t> read_port(const Cursor& at, ErrorList& errors);

// Exactly `digits` hexadecimal digits (at most 32), most significant first, as two 64-bit halves.
struct Hex128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
};
[[nodiscard]] std::optional<Hex128> read_hex(const Cursor& at, std::size_t digits,
                                             ErrorList& errors);

// Of names that users give.
inline constexpr std::size_t kNameLengthMax = 32;

// 1-`length_max` letters, digits and single hyphens, no hyphen at either end.
[[nodiscard]] std::optional<std::string> read_name(const Cursor& at, std::size_t length_max,
                                                   ErrorList& errors);

// An address that one machine on a network can have: no loopback, multicast, broadcast, link-local
// or unspecified address.
[[nodiscard]] std::optional<IpAddress> read_address(const Cursor& at, ErrorList& errors);

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
// `text` in quotes, cut when long: for messages.
[[nodiscard]] std::string quote(std::string_view text);

template <typename T>
[[nodiscard]] std::optional<T> read_word(const Cursor& at, std::initializer_list<Word<T>> words,
                                         ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  std::vector<std::string_view> allowed;
  for (const auto& word : words) {
    if (word.text == *text && word.refusal.empty()) return word.value;
    if (word.text == *text) {
      errors.add(at, quote(*text) + ": " + std::string(word.refusal));
      return std::nullopt;
    }
    if (word.refusal.empty()) allowed.push_back(word.text);
  }
  errors.add(at, quote(*text) + " is not one of: " + join(allowed) + did_you_mean(*text, allowed));
  return std::nullopt;
}

}  // namespace millrace::control

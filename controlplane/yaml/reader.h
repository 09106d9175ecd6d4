// SPDX-License-Identifier: Apache-2.0
//
// Reads typed values out of a YAML tree and collects everything that is wrong with them. Cold.
//
// A Cursor is a value together with its key path; every read either gives a value that keeps the
// stated range, or adds an error that says what is allowed and gives nothing. Nothing stops at the
// first error: the operator sees them all at once.
// Before: yaml_tree.h. After: config/load.cc.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/model.h"
#include "controlplane/model/value_text.h"
#include "controlplane/model/wording.h"
#include "controlplane/yaml/text_file.h"
#include "controlplane/yaml/yaml_tree.h"

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
  struct Found {
    std::string_view key;  // one of allowed_
    Cursor at;
  };
  void add_entries(const YamlNode& map, std::set<const YamlNode*>& merging);
  void add_entry(const YamlEntry& entry);
  void add_merge(const YamlEntry& entry, std::set<const YamlNode*>& merging);

  Cursor at_;
  std::vector<std::string_view> allowed_;
  ErrorList& errors_;
  std::vector<Found> found_;
};

[[nodiscard]] std::optional<std::vector<Cursor>> read_list(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<std::string> read_text(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<bool> read_bool(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<std::uint32_t> read_number(const Cursor& at, Range range,
                                                       ErrorList& errors);
[[nodiscard]] std::optional<std::uint16_t> read_port(const Cursor& at, ErrorList& errors);
// Likewise, or the word "any": 0.
[[nodiscard]] std::optional<std::uint16_t> read_port_or_any(const Cursor& at, ErrorList& errors);
// 80, 1000-2000 or any.
[[nodiscard]] std::optional<PortRange> read_ports(const Cursor& at, ErrorList& errors);

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

// Likewise, or all addresses of a network: 203.0.113.0/28, 256 at most. None if it is wrong.
[[nodiscard]] std::vector<IpAddress> read_addresses(const Cursor& at, ErrorList& errors);

// An address, or a network of such addresses: 172.16.0.0/16, with up to 24 bits for IPv4 and 64 for
// IPv6 that differ.
[[nodiscard]] std::optional<EncapSource> read_encap_source(const Cursor& at, ErrorList& errors);

// What was parsed of the text at `at`, or its error there.
template <typename T>
[[nodiscard]] std::optional<T> parsed(const Cursor& at, const Result<T>& value, ErrorList& errors) {
  if (value) return *value;
  errors.add(at, value.error().message);
  return std::nullopt;
}

template <typename T>
[[nodiscard]] std::optional<T> read_word(const Cursor& at, std::initializer_list<Word<T>> words,
                                         ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  return parsed(at, parse_word<T>(*text, {words.begin(), words.size()}), errors);
}

}  // namespace millrace::control

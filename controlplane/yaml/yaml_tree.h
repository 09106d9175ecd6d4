// SPDX-License-Identifier: Apache-2.0
//
// A YAML document as a plain tree in which every value knows its line and column. Cold.
//
// The only place that knows yaml-cpp: it wraps the parser's events, not its Node, because Node
// keeps one of two equal keys without a word. Bounded in size, depth and alias expansion, so that a
// hostile file costs memory and time in proportion to its size. Exceptions of the library end here.
// Next on the way: reader.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace millrace::control {

inline constexpr std::size_t kYamlBytesMax = std::size_t{16} << 20;
// The vocabulary needs 5 levels; what nests deeper is a mistake or an attack on the stack.
inline constexpr std::size_t kYamlDepthMax = 64;
// Values after aliases are followed. A full config (131072 targets with all keys) has 1.2 million.
inline constexpr std::size_t kYamlNodesMax = 8'000'000;

struct YamlPlace {
  std::uint32_t line = 1;    // from 1
  std::uint32_t column = 1;  // from 1, in bytes
};

struct YamlNode;
using YamlNodePtr = std::shared_ptr<const YamlNode>;

struct YamlEntry {
  YamlNodePtr key;
  YamlNodePtr value;
};

struct YamlNode {
  enum class Kind : std::uint8_t { null, scalar, list, map };

  Kind kind = Kind::null;
  bool quoted = false;  // a scalar in quotes: never a merge key
  YamlPlace place;
  std::size_t node_count = 1;      // this and everything below, aliases followed
  std::string scalar;              // Kind::scalar
  std::vector<YamlNodePtr> items;  // Kind::list
  std::vector<YamlEntry> entries;  // Kind::map, in the order of the file, equal keys included
};

struct YamlProblem {
  YamlPlace place;
  std::string reason;
};

// Parses exactly one document. Returns its root (Kind::null for an empty file) or the first
// problem.
[[nodiscard]] std::variant<YamlNodePtr, YamlProblem> parse_yaml(std::string_view text);

}  // namespace millrace::control

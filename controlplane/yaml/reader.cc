// SPDX-License-Identifier: Apache-2.0
//
// Maps, lists and scalars of the config file. Cold.
#include "controlplane/yaml/reader.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace millrace::control {
namespace {

// More allowed keys than these are not listed beside a suggestion: the suggestion would drown.
constexpr std::size_t kListedKeysMax = 8;

const char* kind_text(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::scalar:
      return "a single value";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a map of keys and values";
  }
  return "";
}

std::string child_path(const std::string& parent, const std::string& key) {
  return parent.empty() ? printable(key) : parent + "." + printable(key);
}

bool is_merge_key(const YamlNode& key) {
  return key.kind == YamlNode::Kind::scalar && !key.quoted && key.scalar == "<<";
}

bool is_alphanumeric(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Why no machine can be reached at `address` over a network; "" when one can.
const char* unusable_reason(const IpAddress& address) {
  const std::uint8_t* bytes = address.addr.bytes;
  if (address.is_v4()) {
    const std::uint8_t* v4 = bytes + 12;
    if (v4[0] == 0) return "is in 0.0.0.0/8, which no machine has";
    if (v4[0] == 127) return "is a loopback address";
    if (v4[0] == 169 && v4[1] == 254) return "is a link-local address";
    if (v4[0] >= 224 && v4[0] < 240) return "is a multicast address";
    if (v4[0] >= 240) return "is in 240.0.0.0/4, which is reserved or broadcast";
    return "";
  }
  const bool prefix_is_zero = std::all_of(bytes, bytes + 15, [](std::uint8_t b) { return b == 0; });
  if (prefix_is_zero && bytes[15] == 0) return "is the unspecified address";
  if (prefix_is_zero && bytes[15] == 1) return "is the loopback address";
  if (bytes[0] == 0xff) return "is a multicast address";
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return "is a link-local address";
  return "";
}

}  // namespace

void ErrorList::add(const YamlPlace& place, const std::string& path, std::string reason) {
  if (errors_.size() >= kErrorsMax) {
    ++left_out_;
    return;
  }
  std::string where = file_ + ":" + std::to_string(place.line) + ":" + std::to_string(place.column);
  if (!path.empty()) where += ": " + path;
  errors_.push_back({place, {std::move(where), std::move(reason)}});
}

std::vector<ConfigError> ErrorList::take() {
  std::stable_sort(errors_.begin(), errors_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.place.line, a.place.column) < std::tie(b.place.line, b.place.column);
  });
  std::vector<ConfigError> taken;
  for (Placed& placed : errors_) taken.push_back(std::move(placed.error));
  if (left_out_ > 0) {
    taken.push_back({file_, std::to_string(left_out_) + " more errors are not shown"});
  }
  return taken;
}

MapReader::MapReader(const Cursor& at, std::vector<std::string_view> allowed, ErrorList& errors)
    : at_(at), allowed_(std::move(allowed)), errors_(errors) {
  if (at_.node->kind != YamlNode::Kind::map) {
    errors_.add(at_, std::string("is ") + kind_text(*at_.node) +
                         "; must be a map with the keys: " + join(allowed_));
    return;
  }
  std::set<const YamlNode*> merging;
  add_entries(*at_.node, merging);
}

void MapReader::add_entries(const YamlNode& map, std::set<const YamlNode*>& merging) {
  std::map<std::string_view, std::uint32_t> seen;  // key -> line
  for (const YamlEntry& entry : map.entries) {
    if (entry.key->kind != YamlNode::Kind::scalar) {
      errors_.add(
          entry.key->place, at_.path,
          std::string("a key is ") + kind_text(*entry.key) + "; must be one of: " + join(allowed_));
    } else if (is_merge_key(*entry.key)) {
      continue;
    } else if (const auto [first, is_new] = seen.emplace(entry.key->scalar, entry.key->place.line);
               !is_new) {
      errors_.add(entry.key->place, child_path(at_.path, entry.key->scalar),
                  "this key stands in the same map already, in line " +
                      std::to_string(first->second) + "; keep one");
    } else {
      add_entry(entry);
    }
  }
  // Merges come last, so that the map's own keys win wherever the merge key stands.
  for (const YamlEntry& entry : map.entries) {
    if (is_merge_key(*entry.key)) add_merge(entry, merging);
  }
}

void MapReader::add_entry(const YamlEntry& entry) {
  const std::string& key = entry.key->scalar;
  const auto allowed = std::ranges::find(allowed_, key);
  if (allowed == allowed_.end()) {
    std::string reason = "unknown key" + did_you_mean(key, allowed_);
    const bool list_is_short = allowed_.size() <= kListedKeysMax;
    if (list_is_short || reason == "unknown key") reason += "; allowed: " + join(allowed_);
    errors_.add(entry.key->place, child_path(at_.path, key), std::move(reason));
    return;
  }
  const bool is_known = std::ranges::find(found_, *allowed, &Found::key) != found_.end();
  if (!is_known) found_.push_back({*allowed, {entry.value, child_path(at_.path, key)}});
}

void MapReader::add_merge(const YamlEntry& entry, std::set<const YamlNode*>& merging) {
  const YamlNode& value = *entry.value;
  const auto merge_one = [&](const YamlNode& map) {
    // Nested merge keys are followed once each: a chain cannot be longer than the maps it names.
    if (merging.insert(&map).second) add_entries(map, merging);
  };
  if (value.kind == YamlNode::Kind::map) return merge_one(value);
  const bool is_list_of_maps =
      value.kind == YamlNode::Kind::list &&
      std::all_of(value.items.begin(), value.items.end(),
                  [](const auto& item) { return item->kind == YamlNode::Kind::map; });
  if (!is_list_of_maps) {
    errors_.add(entry.key->place, child_path(at_.path, "<<"),
                "a merge key takes the alias of a map, or a list of them");
    return;
  }
  for (const YamlNodePtr& item : value.items) merge_one(*item);
}

std::optional<Cursor> MapReader::find(std::string_view key) const {
  const auto found = std::ranges::find(found_, key, &Found::key);
  if (found == found_.end()) return std::nullopt;
  return found->at;
}

std::optional<Cursor> MapReader::require(std::string_view key, std::string_view what) const {
  auto found = find(key);
  if (!found && at_.node->kind == YamlNode::Kind::map) {
    errors_.add(at_, "the key `" + std::string(key) + "` is missing: " + std::string(what));
  }
  return found;
}

std::optional<std::vector<Cursor>> read_list(const Cursor& at, ErrorList& errors) {
  if (at.node->kind != YamlNode::Kind::list) {
    errors.add(at,
               std::string("is ") + kind_text(*at.node) + "; must be a list (may be empty: [])");
    return std::nullopt;
  }
  std::vector<Cursor> items;
  items.reserve(at.node->items.size());
  for (std::size_t i = 0; i < at.node->items.size(); ++i) {
    items.push_back({at.node->items[i], at.path + "[" + std::to_string(i) + "]"});
  }
  return items;
}

std::optional<std::string> read_text(const Cursor& at, ErrorList& errors) {
  if (at.node->kind == YamlNode::Kind::scalar) return at.node->scalar;
  errors.add(at, std::string("is ") + kind_text(*at.node) + "; must be a single value");
  return std::nullopt;
}

std::optional<bool> read_bool(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  return parsed(at, parse_word<bool>(*text, kTrueFalse), errors);
}

std::optional<std::uint32_t> read_number(const Cursor& at, Range range, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  return parsed(at, parse_number(*text, range), errors);
}

std::optional<std::uint16_t> read_port(const Cursor& at, ErrorList& errors) {
  const auto value = read_number(at, {.min = 1, .max = 65535}, errors);
  if (!value) return std::nullopt;
  return static_cast<std::uint16_t>(*value);
}

std::optional<std::uint16_t> read_port_or_any(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  if (*text == kAnyPort) return std::uint16_t{0};
  const Result<std::uint32_t> port = parse_number(*text, {.min = 1, .max = 65535});
  if (port) return static_cast<std::uint16_t>(*port);
  errors.add(at, quote(*text) + " must be a port (1-65535), or the word any");
  return std::nullopt;
}

std::optional<PortRange> read_ports(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  if (*text == kAnyPort) return PortRange::any();
  const std::size_t dash = text->find('-');
  constexpr Range kPorts = {.min = 1, .max = 65535};
  const Result<std::uint32_t> first = parse_number(text->substr(0, dash), kPorts);
  const Result<std::uint32_t> last =
      dash == std::string::npos ? first : parse_number(text->substr(dash + 1), kPorts);
  if (!first || !last || *first > *last) {
    errors.add(at, quote(*text) +
                       " must be a port (1-65535), a range of ports (1000-2000), or the word any");
    return std::nullopt;
  }
  return PortRange{.first = static_cast<std::uint16_t>(*first),
                   .last = static_cast<std::uint16_t>(*last)};
}

std::optional<Hex128> read_hex(const Cursor& at, std::size_t digits, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  Hex128 value;
  const auto parse = [](std::string_view part, std::uint64_t& into) {
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), into, 16);
    return parsed.ec == std::errc{} && parsed.ptr == part.data() + part.size();
  };
  if (text->size() == digits) {
    const std::size_t high_digits = digits > 16 ? digits - 16 : 0;
    const std::string_view whole = *text;
    const bool high_ok = high_digits == 0 || parse(whole.substr(0, high_digits), value.high);
    if (high_ok && parse(whole.substr(high_digits), value.low)) return value;
  }
  errors.add(at, quote(*text) + " must be exactly " + std::to_string(digits) +
                     " hexadecimal digits (put them in quotes)");
  return std::nullopt;
}

std::optional<std::string> read_name(const Cursor& at, std::size_t length_max, ErrorList& errors) {
  auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  const bool chars_ok = std::all_of(text->begin(), text->end(),
                                    [](char c) { return is_alphanumeric(c) || c == '-'; });
  const bool hyphens_ok = !text->empty() && text->front() != '-' && text->back() != '-' &&
                          text->find("--") == std::string::npos;
  if (chars_ok && hyphens_ok && text->size() <= length_max) return text;
  errors.add(at, quote(*text) + " must be 1-" + std::to_string(length_max) +
                     " letters, digits and single hyphens, not starting or ending with a hyphen");
  return std::nullopt;
}

std::optional<IpAddress> read_address(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  const auto address = IpAddress::parse(*text);
  if (!address) {
    errors.add(at, quote(*text) +
                       " must be one IPv4 or IPv6 address, such as 203.0.113.10 or "
                       "2001:db8::10, without port or prefix length");
    return std::nullopt;
  }
  const std::string unusable = unusable_reason(*address);
  if (unusable.empty()) return address;
  errors.add(at, quote(*text) + " " + unusable + "; must be a unicast address");
  return std::nullopt;
}

namespace {

// Prefix lengths that a network may have.
struct PrefixLengths {
  int min;
  int max;
};

std::optional<EncapSource> read_network(const Cursor& at, const std::string& text, PrefixLengths v4,
                                        PrefixLengths v6, const std::string& example,
                                        ErrorList& errors) {
  const auto network = EncapSource::parse(text);
  const auto refuse = [&](const std::string& reason) {
    errors.add(at, quote(text) + " " + reason);
    return std::nullopt;
  };
  if (!network) return refuse("must be an address or a network, such as " + example);
  const bool is_v4 = network->address.is_v4();
  const auto [length_min, length_max] = is_v4 ? v4 : v6;
  if (network->prefix_length < length_min || network->prefix_length > length_max) {
    return refuse("must have a prefix length of " + std::to_string(length_min) + "-" +
                  std::to_string(length_max));
  }
  const std::string unusable = unusable_reason(network->address);
  if (!unusable.empty()) return refuse(unusable + "; must be a unicast network");
  const std::uint8_t* bytes = network->address.addr.bytes;
  for (int bit = network->prefix_length + (is_v4 ? 96 : 0); bit < 128; ++bit) {
    if ((bytes[bit / 8] & (0x80 >> (bit % 8))) != 0) {
      return refuse("must be a network's first address, with 0 in the bits behind its prefix");
    }
  }
  return network;
}

}  // namespace

std::optional<EncapSource> read_encap_source(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return std::nullopt;
  if (text->find('/') != std::string::npos) {
    return read_network(at, *text, {8, 31}, {64, 127}, "192.0.2.1 or 172.16.0.0/16", errors);
  }
  const auto address = read_address(at, errors);
  if (!address) return std::nullopt;
  return EncapSource::parse(address->to_string());
}

std::vector<IpAddress> read_addresses(const Cursor& at, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return {};
  if (text->find('/') == std::string::npos) {
    const auto address = read_address(at, errors);
    return address ? std::vector<IpAddress>{*address} : std::vector<IpAddress>{};
  }
  // At most 256: the last byte counts them.
  const auto network =
      read_network(at, *text, {24, 32}, {120, 128}, "203.0.113.10 or 203.0.113.0/28", errors);
  if (!network) return {};
  const int free_bits = (network->address.is_v4() ? 32 : 128) - network->prefix_length;
  std::vector<IpAddress> addresses(std::size_t{1} << free_bits, network->address);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    std::uint8_t& last = addresses[i].addr.bytes[sizeof(mr_addr) - 1];
    last = static_cast<std::uint8_t>(last + i);
  }
  return addresses;
}

}  // namespace millrace::control

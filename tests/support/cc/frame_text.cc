// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/frame_text.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <functional>
#include <optional>
#include <span>

namespace millrace::test {
namespace {

// One layer of a frame: its keyword, what stands on both sides of '>', and its fields.
struct Layer {
  std::string kind;
  std::string from;
  std::string to;
  std::map<std::string, std::string> fields;
};

// Addresses of the IP header around a transport segment, for its pseudo-header.
struct IpAround {
  Bytes source;
  Bytes destination;
};

void put8(Bytes& out, std::uint64_t value) { out.push_back(static_cast<std::uint8_t>(value)); }
void put16(Bytes& out, std::uint64_t value) {
  put8(out, value >> 8);
  put8(out, value);
}
void put32(Bytes& out, std::uint64_t value) {
  put16(out, value >> 16);
  put16(out, value);
}
void put(Bytes& out, const Bytes& bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }
void set16(Bytes& out, std::size_t at, std::uint64_t value) {
  out[at] = static_cast<std::uint8_t>(value >> 8);
  out[at + 1] = static_cast<std::uint8_t>(value);
}

// RFC 1071 as one would write it on paper: big-endian words, one carry at a time.
std::uint16_t plain_checksum(const Bytes& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const std::uint32_t high = bytes[i];
    const std::uint32_t low = i + 1 < bytes.size() ? bytes[i + 1] : 0;
    sum += high << 8 | low;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<std::uint16_t>(0xffff - sum);
}

std::uint16_t plain_transport_checksum(const IpAround& ip, std::uint8_t protocol,
                                       const Bytes& segment) {
  Bytes covered;
  put(covered, ip.source);
  put(covered, ip.destination);
  put32(covered, segment.size());
  put32(covered, protocol);
  put(covered, segment);
  return plain_checksum(covered);
}

// Reads the fields of layers and remembers the first thing that it could not read.
class FrameBuilder {
 public:
  FrameBuilder(std::vector<Layer> layers, const FrameNames& names)
      : layers_(std::move(layers)), names_(names) {}

  Result<Bytes> build() {
    Bytes frame = layer_bytes(0, std::nullopt);
    if (!error_.empty()) return Error{error_};
    for (const Layer& layer : layers_) {
      if (!layer.fields.empty()) {
        return Error{"unknown field of " + layer.kind + ": " + layer.fields.begin()->first};
      }
    }
    return frame;
  }

 private:
  template <typename T>
  T taken(const Result<T>& result) {
    if (!result) {
      if (error_.empty()) error_ = result.error().message;
      return T{};
    }
    return *result;
  }

  // Takes the field out of the layer, so that what nobody took is unknown.
  std::optional<std::string> take(Layer& layer, const std::string& name) {
    const auto found = layer.fields.find(name);
    if (found == layer.fields.end()) return std::nullopt;
    std::string value = found->second;
    layer.fields.erase(found);
    return value;
  }
  std::uint64_t number(Layer& layer, const std::string& name, std::uint64_t otherwise) {
    const auto text = take(layer, name);
    return text ? taken(number_of(*text)) : otherwise;
  }
  Bytes hex(Layer& layer, const std::string& name) {
    const auto text = take(layer, name);
    return text ? taken(hex_of(*text)) : Bytes{};
  }
  Bytes mac(const std::string& text) { return taken(mac_of(text, names_)); }
  Bytes addr(const std::string& text, bool is_v4) {
    const mr_addr found = taken(named_addr_of(text, names_));
    return {found.bytes + (is_v4 ? 12 : 0), found.bytes + 16};
  }

  std::uint8_t protocol_of(std::size_t index) const {
    static const std::map<std::string, std::uint8_t> kProtocols = {
        {"tcp", 6},       {"udp", 17},     {"icmp", 1},       {"icmp6", 58},
        {"ip", 4},        {"ip6", 41},     {"hop_by_hop", 0}, {"routing", 43},
        {"fragment", 44}, {"options", 60}, {"none", 59}};
    if (index >= layers_.size()) return 59;
    const auto found = kProtocols.find(layers_[index].kind);
    return found == kProtocols.end() ? std::uint8_t{59} : found->second;
  }

  // The bytes of the layer and of everything behind it.
  Bytes layer_bytes(std::size_t index, const std::optional<IpAround>& ip) {
    if (index >= layers_.size()) return {};
    Layer& layer = layers_[index];
    const std::string& kind = layer.kind;
    if (kind == "eth") return ethernet(layer, index);
    if (kind == "arp") return arp(layer);
    if (kind == "ip") return ipv4(layer, index);
    if (kind == "ip6") return ipv6(layer, index);
    if (kind == "hop_by_hop" || kind == "routing" || kind == "options") {
      return extension(layer, index, ip);
    }
    if (kind == "fragment") return fragment(layer, index, ip);
    if (kind == "tcp") return tcp(layer, layer_bytes(index + 1, ip), ip);
    if (kind == "udp") return udp(layer, layer_bytes(index + 1, ip), ip);
    if (kind == "icmp") return icmp(layer, quoted(layer, layer_bytes(index + 1, ip)));
    if (kind == "icmp6") return icmp6(layer, quoted(layer, layer_bytes(index + 1, ip)), ip);
    Bytes bytes = payload(layer);
    put(bytes, layer_bytes(index + 1, ip));
    return bytes;
  }

  Bytes payload(const Layer& layer) {
    if (layer.kind.starts_with('"')) {
      return {layer.kind.begin() + 1, layer.kind.end() - 1};
    }
    if (layer.kind == "hex") return taken(hex_of(layer.from));
    if (layer.kind == "zeros") return Bytes(taken(number_of(layer.from)));
    // Behind the length that the IP header states; not zero, so that a leak would show.
    if (layer.kind == "pad") return Bytes(taken(number_of(layer.from)), 0xee);
    if (error_.empty()) error_ = "unknown layer: " + layer.kind;
    return {};
  }

  // Bytes of `pad` layers do not count for IP's lengths.
  std::size_t pad_bytes() {
    std::size_t bytes = 0;
    for (const Layer& layer : layers_) {
      if (layer.kind == "pad") bytes += taken(number_of(layer.from));
    }
    return bytes;
  }

  Bytes ethernet(Layer& layer, std::size_t index) {
    static const std::map<std::string, std::uint64_t> kTypes = {
        {"ip", 0x0800}, {"arp", 0x0806}, {"ip6", 0x86dd}};
    Bytes out = mac(layer.to);
    put(out, mac(layer.from));
    if (const auto vlan = take(layer, "vlan")) {
      put16(out, 0x8100);
      put16(out, taken(number_of(*vlan)));
    }
    const std::string next = index + 1 < layers_.size() ? layers_[index + 1].kind : "";
    const auto type = kTypes.find(next);
    put16(out, number(layer, "type", type == kTypes.end() ? 0x88b5 : type->second));
    const std::uint64_t cut = number(layer, "cut", 0);
    put(out, layer_bytes(index + 1, std::nullopt));
    if (cut != 0) out.resize(std::min<std::size_t>(out.size(), cut));
    return out;
  }

  // arp request|reply with fields: sender MAC, sender IP, target MAC, target IP.
  Bytes arp(Layer& layer) {
    Bytes out;
    put16(out, number(layer, "hardware", 1));
    put16(out, 0x0800);
    put8(out, 6);
    put8(out, 4);
    put16(out, layer.from == "request" ? 1 : 2);
    put(out, mac(take(layer, "sender_mac").value_or("")));
    put(out, addr(take(layer, "sender").value_or(""), true));
    put(out, mac(take(layer, "target_mac").value_or("00:00:00:00:00:00")));
    put(out, addr(take(layer, "target").value_or(""), true));
    if (layer.from != "request" && layer.from != "reply") error_ = "arp: request or reply";
    put(out, layer_bytes(static_cast<std::size_t>(&layer - layers_.data()) + 1, std::nullopt));
    return out;
  }

  Bytes ipv4(Layer& layer, std::size_t index) {
    const IpAround around{addr(layer.from, true), addr(layer.to, true)};
    const Bytes inner = layer_bytes(index + 1, around);
    const Bytes options = hex(layer, "options");
    const std::size_t header_bytes = 20 + options.size();
    Bytes out;
    put8(out, number(layer, "version", 4) << 4 | number(layer, "ihl", header_bytes / 4));
    put8(out, number(layer, "tos", 0));
    put16(out, number(layer, "length", header_bytes + inner.size() - pad_bytes()));
    put16(out, number(layer, "id", 0));
    put16(out, number(layer, "fragment", 0x4000));  // flags and offset; default: don't fragment
    put8(out, number(layer, "ttl", 64));
    put8(out, number(layer, "protocol", protocol_of(index + 1)));
    put16(out, 0);
    put(out, around.source);
    put(out, around.destination);
    put(out, options);
    set16(out, 10, number(layer, "checksum", spoiled(layer, plain_checksum(out))));
    put(out, inner);
    return out;
  }

  Bytes ipv6(Layer& layer, std::size_t index) {
    const IpAround around{addr(layer.from, false), addr(layer.to, false)};
    const Bytes inner = layer_bytes(index + 1, around);
    Bytes out;
    put32(out, number(layer, "version", 6) << 28 | number(layer, "class", 0) << 20 |
                   number(layer, "label", 0));
    put16(out, number(layer, "length", inner.size() - pad_bytes()));
    put8(out, number(layer, "next", protocol_of(index + 1)));
    put8(out, number(layer, "hops", 64));
    put(out, around.source);
    put(out, around.destination);
    put(out, inner);
    return out;
  }

  // hop_by_hop, routing, options: next header, length, then `data` (6 bytes and 8 per length unit).
  Bytes extension(Layer& layer, std::size_t index, const std::optional<IpAround>& ip) {
    Bytes data = hex(layer, "data");
    if (data.empty()) data = {1, 4, 0, 0, 0, 0};  // one PadN option
    Bytes out;
    put8(out, number(layer, "next", protocol_of(index + 1)));
    put8(out, number(layer, "length", (data.size() + 2) / 8 - 1));
    put(out, data);
    put(out, layer_bytes(index + 1, ip));
    return out;
  }

  Bytes fragment(Layer& layer, std::size_t index, const std::optional<IpAround>& ip) {
    Bytes out;
    put8(out, number(layer, "next", protocol_of(index + 1)));
    put8(out, 0);
    put16(out, number(layer, "offset", 0) << 3 | number(layer, "more", 0));
    put32(out, number(layer, "id", 1));
    put(out, layer_bytes(index + 1, ip));
    return out;
  }

  Bytes tcp(Layer& layer, const Bytes& inner, const std::optional<IpAround>& ip) {
    static constexpr std::string_view kFlags = "FSRPAUEC";
    std::uint64_t flags = 0;
    for (const char flag : take(layer, "flags").value_or("A")) {
      const std::size_t bit = kFlags.find(flag);
      if (bit != std::string_view::npos) flags |= std::uint64_t{1} << bit;
      if (bit == std::string_view::npos && flag != '-') error_ = "tcp flags: FSRPAUEC, - for none";
    }
    const Bytes options = hex(layer, "options");
    Bytes out;
    put16(out, taken(number_of(layer.from)));
    put16(out, taken(number_of(layer.to)));
    put32(out, number(layer, "seq", 0));
    put32(out, number(layer, "ack", 0));
    put8(out, number(layer, "offset", (20 + options.size()) / 4) << 4);
    put8(out, flags);
    put16(out, number(layer, "window", 65535));
    put16(out, 0);
    put16(out, number(layer, "urgent", 0));
    put(out, options);
    put(out, inner);
    return with_checksum(layer, out, 16, 6, ip);
  }

  Bytes udp(Layer& layer, const Bytes& inner, const std::optional<IpAround>& ip) {
    Bytes out;
    put16(out, taken(number_of(layer.from)));
    put16(out, taken(number_of(layer.to)));
    put16(out, number(layer, "length", 8 + inner.size() - pad_bytes()));
    put16(out, 0);
    put(out, inner);
    return with_checksum(layer, out, 6, 17, ip);
  }

  // The first `cut` bytes of what follows, as errors quote the packet that they are about.
  Bytes quoted(Layer& layer, Bytes inner) {
    inner.resize(std::min<std::size_t>(inner.size(), number(layer, "cut", inner.size())));
    return inner;
  }

  // The second word of an ICMP header.
  void put_icmp_rest(Bytes& out, Layer& layer) {
    if (const auto mtu = take(layer, "mtu")) return put32(out, taken(number_of(*mtu)));
    put16(out, number(layer, "id", 0));
    put16(out, number(layer, "seq", 0));
  }

  Bytes icmp(Layer& layer, const Bytes& inner) {
    Bytes out;
    put8(out, number(layer, "type", 8));
    put8(out, number(layer, "code", 0));
    put16(out, 0);
    put_icmp_rest(out, layer);
    put(out, inner);
    Bytes covered(out.begin(), out.end() - static_cast<std::ptrdiff_t>(pad_bytes()));
    set16(out, 2, number(layer, "checksum", spoiled(layer, plain_checksum(covered))));
    return out;
  }

  // With a target: a neighbour solicitation or advertisement and its link-layer address option.
  Bytes icmp6(Layer& layer, const Bytes& inner, const std::optional<IpAround>& ip) {
    Bytes out;
    put8(out, number(layer, "type", 128));
    put8(out, number(layer, "code", 0));
    put16(out, 0);
    if (const auto target = take(layer, "target")) {
      put32(out, number(layer, "flags", 0));
      put(out, addr(*target, false));
    } else {
      put_icmp_rest(out, layer);
    }
    for (const auto& [name, type] : {std::pair{"source_mac", 1}, {"target_mac", 2}}) {
      if (const auto text = take(layer, name)) {
        put8(out, static_cast<std::uint64_t>(type));
        put8(out, 1);
        put(out, mac(*text));
      }
    }
    put(out, inner);
    return with_checksum(layer, out, 2, 58, ip);
  }

  // A right checksum made wrong by an error that every right rewrite must preserve.
  std::uint64_t spoiled(Layer& layer, std::uint64_t checksum) {
    const std::uint64_t sum = checksum + number(layer, "checksum_error", 0);
    return sum > 0xffff ? sum - 0xffff : sum;
  }

  Bytes with_checksum(Layer& layer, Bytes out, std::size_t at, std::uint8_t protocol,
                      const std::optional<IpAround>& ip) {
    const Bytes covered(out.begin(), out.end() - static_cast<std::ptrdiff_t>(pad_bytes()));
    std::uint64_t checksum =
        ip ? plain_transport_checksum(*ip, protocol, covered) : std::uint16_t{0};
    if (protocol == 17 && checksum == 0) checksum = 0xffff;
    set16(out, at, number(layer, "checksum", spoiled(layer, checksum)));
    return out;
  }

  std::vector<Layer> layers_;
  const FrameNames& names_;
  std::string error_;
};

// keyword [from [> to]] {field value}
Result<Layer> layer_of(const std::vector<std::string>& words) {
  Layer layer;
  if (words.empty()) return Error{"an empty layer: // or / at the end"};
  layer.kind = words[0];
  std::size_t at = 1;
  if (words.size() > 3 && words[2] == ">") {
    layer.from = words[1];
    layer.to = words[3];
    at = 4;
  } else if (words.size() % 2 == 0) {
    layer.from = words[1];
    at = 2;
  }
  for (; at + 1 < words.size(); at += 2) layer.fields[words[at]] = words[at + 1];
  if (at != words.size()) return Error{layer.kind + ": " + words[at] + " has no value"};
  return layer;
}

std::string row_of(const Bytes& bytes, std::size_t start, const Bytes& other) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string row;
  for (std::size_t i = start; i < std::min(start + 16, bytes.size()); ++i) {
    const bool differs = i >= other.size() || other[i] != bytes[i];
    row += differs ? '*' : ' ';
    row += kDigits[bytes[i] >> 4];
    row += kDigits[bytes[i] & 15];
  }
  return row;
}

}  // namespace

std::vector<std::string> words_of_line(std::string_view line) {
  std::vector<std::string> words;
  std::size_t at = 0;
  while (at < line.size()) {
    if (line[at] == ' ') {
      ++at;
      continue;
    }
    const bool is_quoted = line[at] == '"';
    std::size_t end = is_quoted ? line.find('"', at + 1) : line.find(' ', at);
    end = end == std::string_view::npos ? line.size() : end + (is_quoted ? 1 : 0);
    words.emplace_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

Result<std::uint64_t> number_of(const std::string& text) {
  const bool is_hex = text.starts_with("0x");
  const char* begin = text.data() + (is_hex ? 2 : 0);
  const char* end = text.data() + text.size();
  std::uint64_t value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value, is_hex ? 16 : 10);
  if (error != std::errc{} || stop != end) return Error{"no number: '" + text + "'"};
  return value;
}

Result<Bytes> hex_of(const std::string& text) {
  if (text.size() % 2 != 0) return Error{"odd number of hex digits: " + text};
  Bytes bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const auto byte = number_of("0x" + text.substr(i, 2));
    if (!byte) return byte.error();
    bytes.push_back(static_cast<std::uint8_t>(*byte));
  }
  return bytes;
}

Result<Bytes> mac_of(const std::string& text, const FrameNames& names) {
  const auto named = names.macs.find(text);
  if (named != names.macs.end()) return named->second;
  std::string digits = text;
  std::erase(digits, ':');
  auto bytes = hex_of(digits);
  if (!bytes || bytes->size() != 6) return Error{"no MAC address or name of one: '" + text + "'"};
  return bytes;
}

Result<mr_addr> named_addr_of(const std::string& text, const FrameNames& names) {
  const auto named = names.addrs.find(text);
  if (named != names.addrs.end()) return named->second;
  mr_addr addr{};
  if (inet_pton(AF_INET6, text.c_str(), addr.bytes) == 1) return addr;
  addr = {};
  addr.bytes[10] = 0xff;
  addr.bytes[11] = 0xff;
  if (inet_pton(AF_INET, text.c_str(), addr.bytes + 12) == 1) return addr;
  return Error{"no IP address or name of one: '" + text + "'"};
}

Result<Bytes> frame_of(const std::string& text, const FrameNames& names) {
  std::vector<Layer> layers;
  std::vector<std::string> words;
  for (const std::string& word : words_of_line(text + " /")) {
    if (word != "/") {
      words.push_back(word);
      continue;
    }
    auto layer = layer_of(words);
    if (!layer) return layer.error();
    layers.push_back(*layer);
    words.clear();
  }
  return FrameBuilder(std::move(layers), names).build();
}

std::string difference_of(const Bytes& expected, const Bytes& actual) {
  std::string text = "expected " + std::to_string(expected.size()) + " bytes, got " +
                     std::to_string(actual.size()) + "; * marks what differs\n";
  for (std::size_t i = 0; i < std::max(expected.size(), actual.size()); i += 16) {
    const std::string offset = std::to_string(i);
    text += offset + std::string(5 - offset.size(), ' ') + "expected" + row_of(expected, i, actual);
    text += "\n     actual  " + row_of(actual, i, expected) + "\n";
  }
  return text;
}

}  // namespace millrace::test

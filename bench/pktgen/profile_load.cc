// SPDX-License-Identifier: Apache-2.0
//
// Reads with the control plane's reader, so that messages look the same and every wrong key has its
// place.
#include "bench/pktgen/profile_load.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "bench/pktgen/packet_template.h"
#include "bench/pktgen/profile_connections.h"
#include "bench/pktgen/profile_scalars.h"
#include "controlplane/yaml/reader.h"
#include "controlplane/yaml/yaml_tree.h"
#include "dataplane/core/wire.h"
#include "dataplane/dpdk/mbuf_pool.h"

namespace millrace::pktgen {
namespace {

using control::Cursor;
using control::ErrorList;
using control::MapReader;

constexpr std::uint32_t kFcsBytes = 4;
constexpr std::uint32_t kFlowsMax = 100'000'000;

// ---- parts of a stream

void read_tcp_flags(const Cursor& at, Headers& headers, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return;
  constexpr std::string_view kLetters = "FSRPAU";  // bit 0 up
  headers.tcp_flags = 0;
  for (const char letter : *text) {
    const std::size_t bit = kLetters.find(letter);
    if (bit == std::string_view::npos) {
      errors.add(at, control::quote(*text) + " is not made of the letters F S R P A U");
      return;
    }
    headers.tcp_flags |= static_cast<std::uint8_t>(1u << bit);
  }
}

// Sizes are said with FCS, as RFC 2544 does, and kept without.
void add_size(std::uint32_t with_fcs, std::vector<std::uint16_t>& sizes) {
  sizes.push_back(static_cast<std::uint16_t>(with_fcs - kFcsBytes));
}

void read_sizes(const Cursor& at, Stream& stream, ErrorList& errors) {
  stream.sizes.clear();
  const auto text = at.node->scalar;
  if (text == "imix") {
    // Simple IMIX: 7 : 4 : 1.
    for (int i = 0; i < 7; ++i) add_size(64, stream.sizes);
    for (int i = 0; i < 4; ++i) add_size(594, stream.sizes);
    add_size(1518, stream.sizes);
    return;
  }
  const auto span = read_span(at, {64, dpdk::kFrameBytesUsual}, errors);
  if (!span) return;
  for (std::uint32_t size = span->first; size <= span->last; ++size) add_size(size, stream.sizes);
}

void read_flows(const Cursor& at, Stream& stream, ErrorList& errors) {
  const MapReader map(at, {"count", "order", "zipf_exponent"}, errors);
  if (const auto count = map.find("count")) {
    stream.flows.count =
        control::read_number(*count, {.min = 1, .max = kFlowsMax}, errors).value_or(1);
  }
  if (const auto order = map.find("order")) {
    stream.flows.order = control::read_word<FlowOrder>(*order,
                                                       {{"sequential", FlowOrder::sequential},
                                                        {"random", FlowOrder::random},
                                                        {"zipf", FlowOrder::zipf}},
                                                       errors)
                             .value_or(FlowOrder::sequential);
  }
  const auto exponent = map.find("zipf_exponent");
  if (!exponent) return;
  stream.flows.zipf_exponent = read_decimal(*exponent, 0, 4, errors).value_or(1);
  if (stream.flows.order != FlowOrder::zipf) errors.add(*exponent, "is for `order: zipf` only");
}

void read_addresses(const MapReader& map, Stream& stream, ErrorList& errors) {
  Headers& headers = stream.headers;
  if (const auto mac = map.find("source_mac")) {
    headers.source_mac = read_mac(*mac, errors).value_or(Mac{});
  }
  if (const auto mac = map.find("destination_mac")) {
    headers.destination_mac = read_mac(*mac, errors).value_or(Mac{});
  }
  if (const auto vlan = map.find("vlan")) {
    headers.vlan = static_cast<std::uint16_t>(
        control::read_number(*vlan, {.min = 1, .max = 4094}, errors).value_or(1));
  }
  if (const auto clients = map.find("clients")) {
    const AddressRange range = read_prefix(*clients, errors).value_or(AddressRange{});
    headers.clients.first = range.first;
    headers.clients.address_count = range.count;
    stream.rewrites_clients = true;
  }
  if (const auto ports = map.find("client_ports")) {
    const Span span = read_span(*ports, {0, 65535}, errors).value_or(Span{1024, 65535});
    headers.clients.port_first = static_cast<std::uint16_t>(span.first);
    headers.clients.port_count = span.last - span.first + 1;
  }
  if (const auto destination = map.find("destination")) {
    if (const auto addr = control::read_address(*destination, errors)) {
      headers.destination = addr->addr;
      stream.rewrites_destination = true;
    }
  }
  if (const auto port = map.find("port")) {
    headers.destination_port = control::read_port(*port, errors).value_or(0);
  }
}

void read_protocol(const MapReader& map, Stream& stream, ErrorList& errors) {
  Headers& headers = stream.headers;
  if (const auto protocol = map.find("protocol")) {
    headers.protocol =
        control::read_word<Protocol>(
            *protocol, {{"UDP", Protocol::udp}, {"TCP", Protocol::tcp}, {"ICMP", Protocol::icmp}},
            errors)
            .value_or(Protocol::udp);
  }
  headers.tcp_flags = MR_TCP_ACK;
  const auto flags = map.find("flags");
  if (!flags) return;
  read_tcp_flags(*flags, headers, errors);
  if (headers.protocol != Protocol::tcp) errors.add(*flags, "is for `protocol: TCP` only");
}

// What only the whole stream can tell.
void check_headers(const Cursor& at, const Stream& stream, ErrorList& errors) {
  const Clients& clients = stream.headers.clients;
  if (core::is_v4(clients.first) != core::is_v4(stream.headers.destination)) {
    return errors.add(at, "clients and destination must be of one address family");
  }
  const std::uint64_t possible = std::uint64_t{clients.address_count} * clients.port_count;
  if (stream.flows.count > possible) {
    errors.add(at, std::to_string(stream.flows.count) + " flows, but clients and client_ports " +
                       "make only " + std::to_string(possible));
  }
  const PacketTemplate built(stream.headers, stream.is_measured);
  if (stream.is_measured && !built.has_payload()) {
    errors.add(at, "TCP segments with S, F or R carry no payload: write `measure: false`");
  }
  const std::uint32_t smallest = built.frame_bytes_min() + kFcsBytes;
  for (const std::uint16_t size : stream.sizes) {
    if (size + kFcsBytes >= smallest) continue;
    errors.add(at, "size " + std::to_string(size + kFcsBytes) + " is too small: headers and mark " +
                       "take " + std::to_string(smallest) +
                       (stream.is_measured ? " (`measure: false` leaves the mark out)" : ""));
    return;
  }
}

Stream read_stream(const Cursor& at, ErrorList& errors) {
  Stream stream;
  stream.headers.destination_mac = {2, 0, 0, 0, 0, 1};
  stream.headers.source_mac = {2, 0, 0, 0, 0, 2};
  add_size(64, stream.sizes);
  const MapReader map(
      at,
      {"name", "kind", "protocol", "flags", "source_mac", "destination_mac", "vlan", "clients",
       "client_ports", "destination", "port", "size", "flows", "rate", "measure", "capture"},
      errors);
  if (const auto name = map.require("name", "what the stream is called")) {
    stream.name = control::read_name(*name, 32, errors).value_or("");
  }
  if (const auto kind = map.find("kind")) {
    stream.source = control::read_word<Source>(*kind,
                                               {{"packets", Source::headers},
                                                {"malformed", Source::malformed},
                                                {"replay", Source::replay}},
                                               errors)
                        .value_or(Source::headers);
  }
  read_protocol(map, stream, errors);
  read_addresses(map, stream, errors);
  if (const auto size = map.find("size")) read_sizes(*size, stream, errors);
  if (const auto flows = map.find("flows")) read_flows(*flows, stream, errors);
  if (const auto rate = map.require("rate", "like 1mpps, 10gbit or max")) {
    stream.rate = read_rate(*rate, errors).value_or(Rate{});
  }
  stream.is_measured = stream.source == Source::headers;
  if (const auto measure = map.find("measure")) {
    stream.is_measured = control::read_bool(*measure, errors).value_or(true);
    if (stream.is_measured && stream.source != Source::headers) {
      errors.add(*measure, "is for `kind: packets` only");
    }
  }
  if (stream.source == Source::replay) {
    if (const auto path = map.require("capture", "the path of a pcap file")) {
      stream.capture = control::read_text(*path, errors).value_or("");
    }
  } else if (!stream.rewrites_destination || !stream.rewrites_clients) {
    errors.add(at, "needs `clients` (a prefix) and `destination` (an address)");
  } else if (stream.source == Source::headers && errors.empty()) {
    check_headers(at, stream, errors);
  }
  return stream;
}

}  // namespace

Result<Rate> parse_rate(const std::string& text) {
  if (text == "max") return Rate{};
  struct Unit {
    std::string_view name;
    Rate::Unit unit;
    double factor;
  };
  constexpr Unit kUnits[] = {{"pps", Rate::Unit::packets, 1},    {"kpps", Rate::Unit::packets, 1e3},
                             {"mpps", Rate::Unit::packets, 1e6}, {"cps", Rate::Unit::packets, 1},
                             {"kcps", Rate::Unit::packets, 1e3}, {"mcps", Rate::Unit::packets, 1e6},
                             {"bit", Rate::Unit::bits, 1},       {"kbit", Rate::Unit::bits, 1e3},
                             {"mbit", Rate::Unit::bits, 1e6},    {"gbit", Rate::Unit::bits, 1e9}};
  double number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const std::string_view suffix(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  for (const Unit& unit : kUnits) {
    const double per_second = number * unit.factor;
    if (parsed.ec == std::errc{} && suffix == unit.name && per_second >= 1 && per_second <= 1e12) {
      return Rate{.unit = unit.unit, .per_second = per_second};
    }
  }
  return Error{control::quote(text) +
               " is not a rate: max, or a number with pps, kpps, mpps, bit, kbit, mbit or gbit (of "
               "connections: cps, kcps, mcps)"};
}

ProfileResult load_profile(std::string_view yaml_text, const std::string& name) {
  ErrorList errors(name);
  const auto parsed = control::parse_yaml(yaml_text);
  if (const auto* problem = std::get_if<control::YamlProblem>(&parsed)) {
    errors.add(problem->place, "", problem->reason);
    return errors.take();
  }
  Profile profile;
  profile.name = std::filesystem::path(name).stem();
  const Cursor root{std::get<control::YamlNodePtr>(parsed), ""};
  const MapReader map(root, {"seed", "seconds", "verify_checksums", "streams", "connections"},
                      errors);
  if (const auto seed = map.find("seed")) {
    profile.seed = control::read_number(*seed, {.min = 0, .max = 0xffffffffu}, errors).value_or(0);
  }
  if (const auto seconds = map.find("seconds")) {
    profile.seconds = read_decimal(*seconds, 0.001, 864000, errors).value_or(1);
  }
  if (const auto verify = map.find("verify_checksums")) {
    profile.verifies_checksums = control::read_bool(*verify, errors).value_or(true);
  }
  if (const auto connections = map.find("connections")) {
    profile.connections = read_connections(*connections, errors);
  }
  const auto list =
      profile.connections ? map.find("streams") : map.require("streams", "a list of what to send");
  if (list) {
    const auto items = control::read_list(*list, errors).value_or(std::vector<Cursor>{});
    if (items.empty() || items.size() > kStreamsMax) {
      errors.add(*list, "must name 1 to " + std::to_string(kStreamsMax) + " streams");
    }
    for (const Cursor& at : items) profile.streams.push_back(read_stream(at, errors));
  }
  if (!errors.empty()) return errors.take();
  return profile;
}

ProfileResult load_profile_file(const std::string& path) {
  auto read = control::read_given_file(path);
  if (auto* error = std::get_if<control::ConfigError>(&read)) {
    return std::vector<control::ConfigError>{std::move(*error)};
  }
  const std::string name = path == "-" ? "standard input" : path;
  ProfileResult result = load_profile(std::get<std::string>(read), name);
  if (auto* profile = std::get_if<Profile>(&result)) {
    for (Stream& stream : profile->streams) {
      if (stream.capture.empty()) continue;
      stream.capture = std::filesystem::path(path).parent_path() / stream.capture;
    }
  }
  return result;
}

}  // namespace millrace::pktgen

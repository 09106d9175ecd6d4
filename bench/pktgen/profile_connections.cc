// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/profile_connections.h"

#include <algorithm>

#include "bench/pktgen/profile_scalars.h"
#include "bench/pktgen/segment_writer.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

using control::Cursor;
using control::ErrorList;
using control::MapReader;

constexpr std::uint32_t kConnectionsMax = 16'000'000;  // 128 bytes each, both sides together
constexpr std::uint32_t kFlowsDefault = 100'000;
constexpr std::uint32_t kMessageBytesMax = 1u << 30;
constexpr std::uint32_t kTargetsMax = 65536;

void read_macs(const MapReader& map, Mac& own, Mac& gateway, ErrorList& errors) {
  if (const auto mac = map.find("mac")) own = read_mac(*mac, errors).value_or(own);
  if (const auto mac = map.find("gateway_mac")) gateway = read_mac(*mac, errors).value_or(gateway);
}

void read_targets(const Cursor& at, Connections& connections, ErrorList& errors) {
  const MapReader map(
      at, {"addresses", "port", "health_port", "forwarding", "gue_port", "mac", "gateway_mac"},
      errors);
  connections.target_port = connections.destination_port;
  if (const auto addresses = map.require("addresses", "a prefix, as 10.0.1.0/24")) {
    const AddressRange range = read_prefix(*addresses, errors).value_or(AddressRange{});
    connections.first_target = range.first;
    connections.target_count = range.count;
    if (range.count > kTargetsMax) errors.add(*addresses, "has more than 65536 addresses");
  }
  const auto read_port_into = [&](const char* key, std::uint16_t& into) {
    if (const auto port = map.find(key)) into = control::read_port(*port, errors).value_or(0);
  };
  read_port_into("port", connections.target_port);
  read_port_into("health_port", connections.health_port);
  read_port_into("gue_port", connections.gue_port);
  if (const auto forwarding = map.find("forwarding")) {
    connections.forwarding = control::read_word<Forwarding>(*forwarding,
                                                            {{"nat", Forwarding::nat},
                                                             {"dsr", Forwarding::dsr},
                                                             {"ipip", Forwarding::ipip},
                                                             {"gue", Forwarding::gue}},
                                                            errors)
                                 .value_or(Forwarding::nat);
    const bool keeps_port = connections.forwarding != Forwarding::nat;
    if (keeps_port && connections.target_port != connections.destination_port) {
      errors.add(*forwarding, "leaves ports as they are: targets have the port of the VIP");
    }
  }
  read_macs(map, connections.target_mac, connections.target_gateway_mac, errors);
}

void read_clients(const MapReader& map, Connections& connections, ErrorList& errors) {
  if (const auto clients = map.require("clients", "a prefix, as 198.18.0.0/16")) {
    const AddressRange range = read_prefix(*clients, errors).value_or(AddressRange{});
    connections.clients.first = range.first;
    connections.clients.address_count = range.count;
  }
  if (const auto ports = map.find("client_ports")) {
    const Span span = read_span(*ports, {1, 65535}, errors).value_or(Span{1024, 65535});
    connections.clients.port_first = static_cast<std::uint16_t>(span.first);
    connections.clients.port_count = span.last - span.first + 1;
  }
  const std::uint64_t possible =
      std::uint64_t{connections.clients.address_count} * connections.clients.port_count;
  connections.flow_count =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(possible, kFlowsDefault));
  if (const auto flows = map.find("flows")) {
    connections.flow_count =
        control::read_number(*flows, {.min = 1, .max = kConnectionsMax}, errors).value_or(1);
    if (connections.flow_count > possible) {
      errors.add(*flows, "clients and client_ports make only " + std::to_string(possible));
    }
  }
}

// 8 bytes say whose they are.
void read_messages(const MapReader& map, Connections& connections, ErrorList& errors) {
  const auto read_into = [&](const char* key, control::Range range, std::uint32_t& into) {
    if (const auto at = map.find(key)) {
      into = control::read_number(*at, range, errors).value_or(into);
    }
  };
  const bool is_tcp = connections.protocol == Protocol::tcp;
  const SegmentWriter writer(
      {.protocol = connections.protocol, .is_v4 = core::is_v4(connections.destination)});
  const control::Range bytes{.min = kStampBytes,
                             .max = is_tcp ? kMessageBytesMax : writer.payload_bytes_max(),
                             .unit = "bytes"};
  read_into("request_bytes", bytes, connections.request_bytes);
  read_into("response_bytes", bytes, connections.response_bytes);
  read_into("requests", {.min = 1, .max = 1'000'000'000}, connections.request_count);
  read_into("think_ms", {.min = 0, .max = 3'600'000, .unit = "ms"}, connections.think_ms);
}

}  // namespace

Connections read_connections(const Cursor& at, ErrorList& errors) {
  Connections connections;
  connections.client_mac = {2, 0, 0, 0, 0, 2};
  connections.client_gateway_mac = {2, 0, 0, 0, 0, 1};
  connections.target_mac = {2, 0, 0, 0, 0, 3};
  connections.target_gateway_mac = {2, 0, 0, 0, 0, 1};
  const MapReader map(
      at,
      {"protocol", "clients", "client_ports", "flows", "destination", "port", "rate",
       "request_bytes", "response_bytes", "requests", "think_ms", "mac", "gateway_mac", "targets"},
      errors);
  if (const auto protocol = map.find("protocol")) {
    connections.protocol = control::read_word<Protocol>(
                               *protocol, {{"TCP", Protocol::tcp}, {"UDP", Protocol::udp}}, errors)
                               .value_or(Protocol::tcp);
  }
  read_clients(map, connections, errors);
  if (const auto destination = map.require("destination", "the VIP, or a target")) {
    const auto addr = control::read_address(*destination, errors);
    if (addr) connections.destination = addr->addr;
  }
  if (const auto port = map.find("port")) {
    connections.destination_port = control::read_port(*port, errors).value_or(0);
  }
  if (const auto rate = map.require("rate", "connections a second, like 300kcps; or max")) {
    connections.rate = read_rate(*rate, errors).value_or(Rate{});
    if (connections.rate.unit == Rate::Unit::bits) {
      errors.add(*rate, "is connections a second: write it with cps, kcps or mcps, or max");
    }
  }
  read_messages(map, connections, errors);
  read_macs(map, connections.client_mac, connections.client_gateway_mac, errors);
  if (const auto targets = map.find("targets")) read_targets(*targets, connections, errors);
  const bool is_v4 = core::is_v4(connections.destination);
  const bool has_targets = connections.target_count > 0;
  if (errors.empty() && (core::is_v4(connections.clients.first) != is_v4 ||
                         (has_targets && core::is_v4(connections.first_target) != is_v4))) {
    errors.add(at, "clients, destination and targets must be of one address family");
  }
  return connections;
}

}  // namespace millrace::pktgen

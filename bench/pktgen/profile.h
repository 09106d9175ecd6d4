// SPDX-License-Identifier: Apache-2.0
//
// What a run is to do, as values: a list of streams and how long. Cold. Read from YAML by
// profile_load.h, carried out by generator.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/pktgen/flow_chooser.h"
#include "bench/pktgen/rate_clock.h"
#include "dataplane/contract/flow_abi.h"

namespace millrace::pktgen {

using Mac = std::array<std::uint8_t, 6>;

enum class Protocol : std::uint8_t { udp, tcp, icmp };

// The sources of a stream's packets. Flow f has address number f / port_count and port number
// f % port_count, so that there are address_count * port_count flows to choose from.
struct Clients {
  mr_addr first{};  // the others follow it, counted in the last 32 bits
  std::uint32_t address_count = 1;
  std::uint16_t port_first = 1024;
  std::uint32_t port_count = 64512;
};

// Everything that is the same in all packets of a stream.
struct Headers {
  Mac source_mac{};
  Mac destination_mac{};
  std::uint16_t vlan = 0;  // 0: untagged
  Protocol protocol = Protocol::udp;
  std::uint8_t tcp_flags = 0;
  std::uint8_t ttl = 64;
  Clients clients;
  mr_addr destination{};
  std::uint16_t destination_port = 0;  // not used by icmp
};

// What the packets of a stream are made from.
enum class Source : std::uint8_t {
  headers,    // built from Headers, one flow after another
  malformed,  // the set of malformed.h, addressed as Headers say
  replay,     // frames of a capture
};

struct Stream {
  std::string name;
  Source source = Source::headers;
  Headers headers;
  bool is_measured = true;           // carries a mark; Source::headers only
  std::vector<std::uint16_t> sizes;  // frames without FCS; one is drawn for each packet
  FlowChoice flows;
  Rate rate;
  // Source::replay: the capture, and what of it is rewritten (Headers' MACs always are).
  std::string capture;
  bool rewrites_destination = false;
  bool rewrites_clients = false;
};

// A mark names its stream in 8 bits, and a run looks at each stream in every turn.
inline constexpr std::size_t kStreamsMax = 16;

// How the balancer brings packets to emulated targets, and so how they answer: by the balancer
// (nat) or as the VIP, directly.
enum class Forwarding : std::uint8_t {
  nat,
  dsr,  // addressed to the target's MAC
  ipip,
  gue,
};

// TCP connections or UDP exchanges, opened at a fixed rate by clients, answered by targets.
struct Connections {
  Protocol protocol = Protocol::tcp;  // tcp or udp
  Clients clients;
  std::uint32_t flow_count = 0;  // pairs of client address and port, used in turn
  mr_addr destination{};         // the VIP; or a target, to go without a balancer
  std::uint16_t destination_port = 80;
  Mac client_mac{};
  Mac client_gateway_mac{};  // where clients send to
  Rate rate;                 // connections per second, or unlimited
  std::uint32_t request_bytes = 100;
  std::uint32_t response_bytes = 100;
  std::uint32_t request_count = 1;  // per connection
  std::uint32_t think_ms = 0;       // between a response and the next request
  // Targets to emulate; without any, others must answer.
  mr_addr first_target{};
  std::uint32_t target_count = 0;
  std::uint16_t target_port = 0;
  std::uint16_t health_port = 0;  // TCP probes to it are answered; 0: none
  Forwarding forwarding = Forwarding::nat;
  std::uint16_t gue_port = 6080;
  Mac target_mac{};  // of all targets; unless nat, of the first, and the others' follow it
  Mac target_gateway_mac{};
};

struct Profile {
  std::string name;
  std::uint64_t seed = 1;
  double seconds = 10;
  bool verifies_checksums = true;  // of what comes back
  std::vector<Stream> streams;
  std::optional<Connections> connections;
};

}  // namespace millrace::pktgen

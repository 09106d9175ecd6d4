// SPDX-License-Identifier: Apache-2.0
//
// The configuration as values, in the words of the ELBv2 API (STYLE.md, "Words"). Cold.
//
// config/ builds a Config from YAML and guarantees every range and reference stated here;
// reconcile/ turns it, with health and next hops, into what is published. Nothing in here does I/O.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/contract/stats_abi.h"
#include "dataplane/rules/forwarding_rule.h"

namespace millrace::control {

// What a config says of a listener or target that has no port in particular.
inline constexpr const char* kAnyPort = "any";

// An IPv4 or IPv6 address; IPv4 is held v4-mapped, as everywhere in Millrace (flow_abi.h).
struct IpAddress {
  mr_addr addr{};

  [[nodiscard]] bool is_v4() const;
  [[nodiscard]] std::string to_string() const;  // "10.0.0.1", "2001:db8::1"
  // nullopt unless `text` is exactly one address (no port, no prefix length, no zone, no brackets).
  // A v4-mapped IPv6 address is none: IPv4 is written as IPv4.
  static std::optional<IpAddress> parse(const std::string& text);

  friend bool operator==(const IpAddress& a, const IpAddress& b);
  friend std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b);
};

// "10.0.0.1:80", "[2001:db8::1]:80"; with port 0 the address alone.
[[nodiscard]] std::string endpoint_text(const IpAddress& address, std::uint16_t port);

// Ports of a listener: one, several that follow each other, or any.
struct PortRange {
  std::uint16_t first = 0;  // of any: 0
  std::uint16_t last = 0;

  [[nodiscard]] static PortRange one(std::uint16_t port) { return {.first = port, .last = port}; }
  [[nodiscard]] static PortRange any() { return {.first = 0, .last = 0xffff}; }
  [[nodiscard]] bool is_one() const { return first == last; }
  [[nodiscard]] bool is_any() const { return *this == any(); }
  [[nodiscard]] bool overlaps(const PortRange& other) const {
    return first <= other.last && other.first <= last;
  }
  [[nodiscard]] std::string to_string() const;  // "80", "1000-2000", "any"

  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// What encapsulated packets come from: an address, or a network of which each flow has an address.
struct EncapSource {
  IpAddress address;  // of a network: its first
  std::uint8_t prefix_length = 0;

  [[nodiscard]] bool is_network() const;
  [[nodiscard]] bool contains(const IpAddress& other) const;
  [[nodiscard]] std::string to_string() const;  // "192.0.2.1", "172.16.0.0/16"
  [[nodiscard]] mr_encap_source published() const;
  // nullopt unless `text` is what to_string() gives. What it says may make no sense.
  static std::optional<EncapSource> parse(const std::string& text);
  static EncapSource of(const mr_encap_source& published);

  friend bool operator==(const EncapSource&, const EncapSource&) = default;
};

// `tcp_udp` is the config's word for both. A listener of both is published as two (protocols_of()),
// a target of both as one.
enum class Protocol : std::uint8_t {
  tcp = MR_PROTOCOL_TCP,
  udp = MR_PROTOCOL_UDP,
  tcp_udp = MR_PROTOCOL_TCP_UDP,
};
enum class Forwarding : std::uint8_t {
  nat = MR_FORWARDING_NAT,
  dsr = MR_FORWARDING_DSR,
  ipip = MR_FORWARDING_IPIP,
  gue = MR_FORWARDING_GUE,
};
// Whether a VIP answers echo requests (ping).
enum class Echo : std::uint8_t {
  always,
  healthy,  // while a listener of the VIP has a healthy target that gets new flows
  never,
};
// What becomes of a packet to a VIP's port that has no listener.
enum class NoListener : std::uint8_t {
  drop,
  reject,  // its sender is told, as by a host without that port
  kernel,  // it is the kernel's
};
enum class EngineKind : std::uint8_t { dpdk = MR_ENGINE_DPDK, xdp = MR_ENGINE_XDP };
enum class HealthCheckProtocol : std::uint8_t { tcp, http };

[[nodiscard]] const char* to_string(Protocol protocol);             // "TCP", "UDP", "TCP_UDP"
[[nodiscard]] const char* to_string(Forwarding forwarding);         // "nat", "dsr", ...
[[nodiscard]] const char* to_string(Echo echo);                     // "always", "healthy", ...
[[nodiscard]] const char* to_string(NoListener no_listener);        // "drop", "reject", "kernel"
[[nodiscard]] const char* to_string(EngineKind kind);               // "dpdk", "xdp"
[[nodiscard]] const char* to_string(HealthCheckProtocol protocol);  // "TCP", "HTTP"

// The protocols that packets have: one, or TCP and then UDP.
[[nodiscard]] std::span<const Protocol> protocols_of(Protocol protocol);
[[nodiscard]] bool has_protocol(Protocol protocol, Protocol tcp_or_udp);
[[nodiscard]] bool have_common_protocol(Protocol a, Protocol b);

// The rules of rules/forwarding_rule.h, asked about a group.
// The target holds the VIP and gets the packet as the client sent it: its port is the listener's.
[[nodiscard]] constexpr bool keeps_port(Forwarding forwarding) {
  return !mr_translates(static_cast<std::uint32_t>(forwarding));
}
[[nodiscard]] constexpr bool sees_replies(Forwarding forwarding) {
  return mr_sees_replies(static_cast<std::uint32_t>(forwarding));
}
[[nodiscard]] constexpr bool encapsulates(Forwarding forwarding) {
  return mr_encapsulates(static_cast<std::uint32_t>(forwarding));
}

// The port that gue targets listen on (IANA: gue, draft-ietf-intarea-gue-09 section 8.1).
inline constexpr std::uint16_t kGuePortDefault = 6080;

// Ranges of attributes, and what they apply to, are in the rows of attribute_tables.h; the defaults
// are here.
struct Listener {
  Protocol protocol = Protocol::tcp;
  PortRange ports;  // one wins over several, and these over any
  // Names of TargetGroups that have the protocol, or both if the listener has, by the family of the
  // VIP that a packet came to: `default_target_group` of the file, or `default_target_groups:
  // {ipv4: ..., ipv6: ...}` when the load balancer has VIPs of both. Empty exactly when the load
  // balancer has no VIP of that family.
  std::string default_target_group_v4;
  std::string default_target_group_v6;
  std::uint32_t tcp_idle_timeout_seconds = 350;

  [[nodiscard]] const std::string& target_group_for(const IpAddress& vip) const {
    return vip.is_v4() ? default_target_group_v4 : default_target_group_v6;
  }
  friend bool operator==(const Listener&, const Listener&) = default;
};

struct LoadBalancer {
  std::string name;
  std::vector<IpAddress> addresses;  // static VIPs, at least one, unique over the whole config
  // Unique by (protocol, first port), where tcp_udp is both. Ranges of ports do not overlap.
  std::vector<Listener> listeners;
  Echo echo = Echo::always;  // of each VIP
  NoListener no_listener = NoListener::drop;

  friend bool operator==(const LoadBalancer&, const LoadBalancer&) = default;
};

// NLB's timeouts (deploy/nlb.md, "Health checks"). A shorter interval shortens them.
[[nodiscard]] constexpr std::uint32_t default_timeout_ms(HealthCheckProtocol protocol) {
  return protocol == HealthCheckProtocol::http ? 6000 : 10000;
}

// Names, defaults and ranges are NLB's (deploy/nlb.md, "Health checks").
struct HealthCheck {
  HealthCheckProtocol protocol = HealthCheckProtocol::tcp;
  std::optional<std::uint16_t> port;  // nullopt: traffic-port
  std::string path = "/";             // HTTP only
  // HTTP only, the Host header: "name", "name:port", "[address]:port". Empty: this node's address
  // and the listener's port, as in NLB.
  std::string host{};
  // In seconds in the file, or in milliseconds for those who want a dead target found sooner than
  // NLB can. Always timeout <= interval.
  std::uint32_t interval_ms = 30000;
  std::uint32_t timeout_ms = default_timeout_ms(HealthCheckProtocol::tcp);
  std::uint32_t healthy_threshold = 5;
  std::uint32_t unhealthy_threshold = 2;
  // Inclusive ranges of HTTP status codes. Not a braced list: g++ 12 warns of its backing array.
  std::vector<std::pair<std::uint16_t, std::uint16_t>> matcher{std::size_t{1}, {200, 399}};

  friend bool operator==(const HealthCheck&, const HealthCheck&) = default;
};

// A target's place in its group; what the operator calls it and what stable ids are given for.
struct TargetKey {
  std::string group;
  IpAddress address;
  std::uint16_t port = 0;  // 0: any

  friend bool operator==(const TargetKey&, const TargetKey&) = default;
  friend std::strong_ordering operator<=>(const TargetKey&, const TargetKey&) = default;
  [[nodiscard]] std::string to_string() const;  // "web-80/10.0.1.11:8080", "dns/[2001:db8::5]:53"
};

struct Target {
  IpAddress address;           // `id` in the file
  std::uint16_t port = 0;      // the group's port unless overridden; 0: any
  std::uint32_t weight = 100;  // 0-999; 0: no new flows
  std::string zone;            // may be empty

  friend bool operator==(const Target&, const Target&) = default;
};

// As large as the MTU of the way to a target allows.
constexpr std::uint16_t kMssClampAuto = 0xffff;

struct TargetGroup {
  std::string name;  // 1-32 alphanumeric or hyphen, unique
  Protocol protocol = Protocol::tcp;
  std::uint16_t port = 0;  // 0: any, its targets get the port that the client asked for
  Forwarding forwarding = Forwarding::nat;
  std::uint16_t gue_port = kGuePortDefault;
  std::uint32_t deregistration_delay_seconds = 300;
  std::uint32_t previous_target_seconds = 30;  // not where the node sees replies
  // Only where the node sees replies: they may pass another node than the requests.
  bool asymmetric_returns = false;
  std::uint16_t mss_clamp = 0;  // bytes; 0: off; kMssClampAuto. Only nat, not UDP
  // For UDP and TCP_UDP the defaults are the opposite: default_target_group().
  bool deregistration_connection_termination = false;
  bool unhealthy_connection_termination = true;  // not for UDP
  std::uint32_t lookup_slots = MR_LOOKUP_SLOTS_DEFAULT;
  HealthCheck health_check;
  std::vector<Target> targets;  // one address family per group; unique (address, port)

  friend bool operator==(const TargetGroup&, const TargetGroup&) = default;
};

// A group of that protocol without a name, a port and targets. Its attributes have NLB's defaults
// (deploy/nlb.md, "Ends of flows").
[[nodiscard]] TargetGroup default_target_group(Protocol protocol);

struct Node {
  std::string name = "millrace";
  std::string zone;
  std::uint64_t selection_key[2] = {0, 0};  // hex in the file; equal on all nodes of a cluster
  std::uint64_t lookup_seed = 0;            // likewise
  EngineKind engine = EngineKind::dpdk;     // which of the engines is to run
  // `encap_source` of the file; nullopt: what the kernel would send from.
  std::optional<EncapSource> encap_source_v4;
  std::optional<EncapSource> encap_source_v6;

  friend bool operator==(const Node&, const Node&) = default;
};

struct Config {
  Node node;
  std::vector<LoadBalancer> load_balancers;
  std::vector<TargetGroup> target_groups;

  friend bool operator==(const Config&, const Config&) = default;
};

// States and reasons as NLB names them (deploy/nlb.md, "Health checks").
enum class TargetState : std::uint8_t { initial, healthy, unhealthy, unused, draining };
[[nodiscard]] const char* to_string(TargetState state);

enum class HealthReason : std::uint8_t {
  none,
  registration_in_progress,    // Elb.RegistrationInProgress
  initial_health_checking,     // Elb.InitialHealthChecking
  response_code_mismatch,      // Target.ResponseCodeMismatch
  timeout,                     // Target.Timeout
  failed_health_checks,        // Target.FailedHealthChecks
  not_registered,              // Target.NotRegistered
  not_in_use,                  // Target.NotInUse: no listener uses the group
  deregistration_in_progress,  // Target.DeregistrationInProgress
};
[[nodiscard]] const char* to_string(HealthReason reason);  // "Target.Timeout", "" for none

}  // namespace millrace::control

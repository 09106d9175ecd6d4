// SPDX-License-Identifier: Apache-2.0
//
// Words for the values of the configuration, and addresses as text. Cold.
#include "controlplane/model/model.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <span>

namespace millrace::control {
namespace {

constexpr std::uint8_t kV4MappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Bits of the address' last four bytes that may differ between flows, as a number.
std::uint32_t spread_bits(const EncapSource& source) {
  const int bits = (source.address.is_v4() ? 32 : 128) - source.prefix_length;
  return bits >= 32 ? 0xffffffffu : (1u << bits) - 1;
}

}  // namespace

bool IpAddress::is_v4() const {
  return std::memcmp(addr.bytes, kV4MappedPrefix, sizeof(kV4MappedPrefix)) == 0;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  const bool v4 = is_v4();
  const void* bytes = v4 ? addr.bytes + sizeof(kV4MappedPrefix) : addr.bytes;
  // Cannot fail: the family is known and the buffer holds the longest text.
  (void)inet_ntop(v4 ? AF_INET : AF_INET6, bytes, text, sizeof(text));
  return text;
}

std::optional<IpAddress> IpAddress::parse(const std::string& text) {
  // inet_pton stops at a NUL, so that "10.0.0.1\0x" would pass.
  if (text.find('\0') != std::string::npos) return std::nullopt;
  IpAddress address;
  std::memcpy(address.addr.bytes, kV4MappedPrefix, sizeof(kV4MappedPrefix));
  if (inet_pton(AF_INET, text.c_str(), address.addr.bytes + sizeof(kV4MappedPrefix)) == 1) {
    return address;
  }
  if (inet_pton(AF_INET6, text.c_str(), address.addr.bytes) != 1) return std::nullopt;
  if (address.is_v4()) return std::nullopt;
  return address;
}

bool EncapSource::is_network() const { return spread_bits(*this) != 0; }

bool EncapSource::contains(const IpAddress& other) const {
  IpAddress first = other;
  const std::uint32_t bits = spread_bits(*this);
  for (std::size_t i = 0; i < sizeof(bits); ++i) {
    first.addr.bytes[15 - i] &= static_cast<std::uint8_t>(~(bits >> (8 * i)));
  }
  return first == address;
}

std::string EncapSource::to_string() const {
  return address.to_string() + (is_network() ? "/" + std::to_string(prefix_length) : "");
}

mr_encap_source EncapSource::published() const {
  return {.addr = address.addr, .spread_be = htonl(spread_bits(*this)), .reserved = 0};
}

std::optional<EncapSource> EncapSource::parse(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const std::uint8_t all = address->is_v4() ? 32 : 128;
  if (slash == std::string::npos) return EncapSource{.address = *address, .prefix_length = all};
  const char* end = text.data() + text.size();
  std::uint8_t length = 0;
  const auto [read_to, failure] = std::from_chars(text.data() + slash + 1, end, length);
  if (failure != std::errc{} || read_to != end || length > all) return std::nullopt;
  return EncapSource{.address = *address, .prefix_length = length};
}

EncapSource EncapSource::of(const mr_encap_source& published) {
  const IpAddress address{published.addr};
  const int fixed = (address.is_v4() ? 32 : 128) - std::popcount(published.spread_be);
  return {.address = address, .prefix_length = static_cast<std::uint8_t>(fixed)};
}

std::string endpoint_text(const IpAddress& address, std::uint16_t port) {
  const std::string text = address.to_string();
  if (port == 0) return text;
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

std::string PortRange::to_string() const {
  if (is_any()) return kAnyPort;
  const std::string text = std::to_string(first);
  return is_one() ? text : text + "-" + std::to_string(last);
}

bool operator==(const IpAddress& a, const IpAddress& b) {
  return std::memcmp(a.addr.bytes, b.addr.bytes, sizeof(a.addr.bytes)) == 0;
}

std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b) {
  return std::memcmp(a.addr.bytes, b.addr.bytes, sizeof(a.addr.bytes)) <=> 0;
}

std::string TargetKey::to_string() const { return group + "/" + endpoint_text(address, port); }

TargetGroup default_target_group(Protocol protocol) {
  TargetGroup group;
  group.protocol = protocol;
  group.deregistration_connection_termination = protocol != Protocol::tcp;
  group.unhealthy_connection_termination = protocol == Protocol::tcp;
  return group;
}

std::span<const Protocol> protocols_of(Protocol protocol) {
  static constexpr Protocol kBoth[] = {Protocol::tcp, Protocol::udp};
  const std::span<const Protocol> both(kBoth);
  if (protocol == Protocol::tcp_udp) return both;
  return protocol == Protocol::tcp ? both.first(1) : both.last(1);
}

bool has_protocol(Protocol protocol, Protocol tcp_or_udp) {
  return protocol == tcp_or_udp || protocol == Protocol::tcp_udp;
}

bool have_common_protocol(Protocol a, Protocol b) {
  return has_protocol(a, b) || has_protocol(b, a);
}

const char* to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp:
      return "TCP";
    case Protocol::udp:
      return "UDP";
    case Protocol::tcp_udp:
      return "TCP_UDP";
  }
  std::abort();
}

const char* to_string(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::nat:
      return "nat";
    case Forwarding::dsr:
      return "dsr";
    case Forwarding::ipip:
      return "ipip";
    case Forwarding::gue:
      return "gue";
  }
  std::abort();
}

const char* to_string(Echo echo) {
  switch (echo) {
    case Echo::always:
      return "always";
    case Echo::healthy:
      return "healthy";
    case Echo::never:
      return "never";
  }
  std::abort();
}

const char* to_string(NoListener no_listener) {
  switch (no_listener) {
    case NoListener::drop:
      return "drop";
    case NoListener::reject:
      return "reject";
    case NoListener::kernel:
      return "kernel";
  }
  std::abort();
}

const char* to_string(EngineKind kind) {
  switch (kind) {
    case EngineKind::dpdk:
      return "dpdk";
    case EngineKind::xdp:
      return "xdp";
  }
  std::abort();
}

const char* to_string(HealthCheckProtocol protocol) {
  switch (protocol) {
    case HealthCheckProtocol::tcp:
      return "TCP";
    case HealthCheckProtocol::http:
      return "HTTP";
  }
  std::abort();
}

const char* to_string(TargetState state) {
  switch (state) {
    case TargetState::initial:
      return "initial";
    case TargetState::healthy:
      return "healthy";
    case TargetState::unhealthy:
      return "unhealthy";
    case TargetState::unused:
      return "unused";
    case TargetState::draining:
      return "draining";
  }
  std::abort();
}

const char* to_string(HealthReason reason) {
  switch (reason) {
    case HealthReason::none:
      return "";
    case HealthReason::registration_in_progress:
      return "Elb.RegistrationInProgress";
    case HealthReason::initial_health_checking:
      return "Elb.InitialHealthChecking";
    case HealthReason::response_code_mismatch:
      return "Target.ResponseCodeMismatch";
    case HealthReason::timeout:
      return "Target.Timeout";
    case HealthReason::failed_health_checks:
      return "Target.FailedHealthChecks";
    case HealthReason::not_registered:
      return "Target.NotRegistered";
    case HealthReason::not_in_use:
      return "Target.NotInUse";
    case HealthReason::deregistration_in_progress:
      return "Target.DeregistrationInProgress";
  }
  std::abort();
}

}  // namespace millrace::control

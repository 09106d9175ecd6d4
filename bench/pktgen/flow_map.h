// SPDX-License-Identifier: Apache-2.0
//
// Flow numbers to client addresses and ports, and back. HOT.
#pragma once

#include <cstdint>

#include "bench/pktgen/profile.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

// n / d for a d that is fixed at run time, as a multiplication (Lemire, Kaser, Kurz, "Faster
// remainder by direct computation", 2019); exact for every 32-bit n and d.
class Divider {
 public:
  explicit Divider(std::uint32_t divisor) noexcept
      : divisor_(divisor), reciprocal_(~std::uint64_t{0} / divisor + 1) {}

  [[nodiscard]] std::uint32_t quotient(std::uint32_t dividend) const noexcept {
    __extension__ using Wide = unsigned __int128;
    if (divisor_ == 1) return dividend;  // its reciprocal does not fit
    return static_cast<std::uint32_t>(Wide{reciprocal_} * dividend >> 64);
  }
  [[nodiscard]] std::uint32_t divisor() const noexcept { return divisor_; }

 private:
  std::uint32_t divisor_;
  std::uint64_t reciprocal_;
};

// One end of a flow.
struct Endpoint {
  core::AddrWords addr{};
  std::uint16_t port_be = 0;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

class FlowMap {
 public:
  static constexpr std::uint32_t kNoFlow = 0xffffffffu;

  // Flows 0 to `flow_count` - 1 of `clients`, which has that many.
  FlowMap(const Clients& clients, std::uint32_t flow_count) noexcept
      : ports_(clients.port_count),
        first_(core::words_of(clients.first)),
        first_host_(core::from_be32(static_cast<std::uint32_t>(first_.high >> 32))),
        port_first_(clients.port_first),
        flow_count_(flow_count) {}

  [[nodiscard]] Endpoint endpoint_of(std::uint32_t flow) const noexcept {
    const std::uint32_t number = ports_.quotient(flow);
    const std::uint64_t host_be = core::to_be32(first_host_ + number);
    const std::uint32_t port = port_first_ + (flow - number * ports_.divisor());
    return {.addr = {first_.low, (first_.high & 0xffffffffu) | host_be << 32},
            .port_be = core::to_be16(static_cast<std::uint16_t>(port))};
  }

  // kNoFlow for an address or port that is none of the clients'.
  [[nodiscard]] std::uint32_t flow_of(const Endpoint& endpoint) const noexcept {
    const auto high = static_cast<std::uint32_t>(endpoint.addr.high);
    const auto host_be = static_cast<std::uint32_t>(endpoint.addr.high >> 32);
    const std::uint32_t port = core::from_be16(endpoint.port_be) - std::uint32_t{port_first_};
    if (endpoint.addr.low != first_.low || high != static_cast<std::uint32_t>(first_.high) ||
        port >= ports_.divisor()) {
      return kNoFlow;
    }
    const std::uint32_t number = core::from_be32(host_be) - first_host_;
    const std::uint64_t flow = std::uint64_t{number} * ports_.divisor() + port;
    return flow < flow_count_ ? static_cast<std::uint32_t>(flow) : kNoFlow;
  }

  [[nodiscard]] std::uint32_t flow_count() const noexcept { return flow_count_; }

 private:
  Divider ports_;
  core::AddrWords first_;
  std::uint32_t first_host_;  // last 32 bits of the first address, host order
  std::uint16_t port_first_;
  std::uint32_t flow_count_;
};

}  // namespace millrace::pktgen

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/glance_check.h"

#include "dataplane/core/glance.h"

namespace millrace::test {

std::string glance_objection(std::vector<std::uint8_t>& frame) {
  using namespace core;
  if (frame.size() < kGlanceBytes) return {};
  const Packet packet{.data = frame.data(),
                      .length = static_cast<std::uint32_t>(frame.size()),
                      .headroom = 0,
                      .nic = 0,
                      .reserved = 0};
  Parsed seen{};
  Parsed known{};
  const std::uint32_t state = glance(packet, seen);
  parse(packet, known);
  constexpr std::uint32_t kTracked = MR_TCP_SYN | MR_TCP_FIN | MR_TCP_RST;
  const bool is_tcp = known.protocol == MR_PROTOCOL_TCP;
  if (state == MR_FLOW_FREE) {
    // Left to parse() on purpose: a prefix of 64 zeros, and IPv6 datagrams shorter than TCP.
    const bool is_left = !known.is_v4 && (known.source.low == 0 || known.destination.low == 0 ||
                                          frame.size() < MR_ETH_BYTES + 60);
    return known.shape == Shape::transport && !is_left ? "a good packet is not accepted" : "";
  }
  if (known.shape == Shape::suspicious && known.reason == MR_DROP_MARTIAN) {
    return is_martian(seen) ? "" : "a martian is not one at second sight";
  }
  if (known.shape != Shape::transport) return "a packet is accepted that is none";
  if (is_martian(seen)) return "a client is taken for a martian";
  const bool is_plain = (known.tcp_flags & kTracked) == 0;
  const std::uint32_t right = is_plain ? std::uint32_t{is_tcp ? MR_FLOW_ESTABLISHED : MR_FLOW_UDP}
                                       : std::uint32_t{MR_FLOW_STATE_COUNT};
  if (state != right) return "the state is another";
  const bool agrees = seen.source == known.source && seen.destination == known.destination &&
                      seen.source_port_protocol == known.source_port_protocol &&
                      seen.destination_port_protocol == known.destination_port_protocol &&
                      seen.ip_bytes == known.ip_bytes && seen.shape == known.shape &&
                      seen.protocol == known.protocol && seen.tcp_flags == known.tcp_flags &&
                      seen.is_v4 == known.is_v4;
  return agrees ? "" : "a field differs";
}

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/steering.h"

#include "dataplane/core/glance.h"
#include "dataplane/core/parse.h"

namespace millrace::core {

std::uint32_t owner_of(const Packet& packet, const ConfigView& config,
                       std::uint32_t worker_count) noexcept {
  Parsed parsed;
  if (packet.length < kGlanceBytes || glance(packet, parsed) == MR_FLOW_FREE) [[unlikely]] {
    parse(packet, parsed);
    if (parsed.shape != Shape::transport) return 0;
  }
  if (config.image == nullptr) return 0;
  const bool to_vip = find_entry(config.listener_table, parsed.destination, 0, 0) != nullptr;
  const AddrWords& client = to_vip ? parsed.source : parsed.destination;
  const std::uint16_t port_be = to_vip ? parsed.source_port_be() : parsed.destination_port_be();
  std::uint64_t hash =
      mr_table_hash_words(client.low, client.high, std::uint64_t{port_be} << 8 | parsed.protocol);
  // A client opens its connections from neighbouring ports, and one product makes a slow walk of
  // those: 64 in a row would all have one owner. Another round after a fold scatters them.
  hash = ((hash ^ (hash >> 15)) * 0x2c1b3c6du) & 0xffffffffu;
  hash ^= hash >> 12;
  return static_cast<std::uint32_t>(hash * worker_count >> 32);
}

}  // namespace millrace::core

// SPDX-License-Identifier: Apache-2.0
//
// What a forwarder has from the start, and a new config. Cold.
#include <algorithm>
#include <cstddef>

#include "dataplane/core/forwarder.h"

namespace millrace::core {

Forwarder::Forwarder(const Options& options) noexcept
    : flows_(options.flow_table),
      nic_count_(static_cast<std::uint32_t>(
          std::min<std::size_t>(options.nic_macs.size(), MR_NIC_COUNT_MAX))),
      counters_(options.counters),
      inserts_{.per_ms = options.flow_inserts_per_ms, .left = options.flow_inserts_per_ms},
      resets_{.per_ms = options.replies_per_ms, .left = options.replies_per_ms},
      echoes_(resets_),
      too_bigs_(resets_),
      expiries_(resets_),
      errors_(resets_),
      refusals_(resets_),
      foreign_{.per_ms = options.foreign_per_ms, .left = options.foreign_per_ms},
      unconfirmed_(std::max(flows_.capacity(), 1u)),
      own_(options.ownership) {
  for (std::uint32_t nic = 0; nic < nic_count_; ++nic) set_nic_mac(nic, options.nic_macs[nic]);
}

void Forwarder::set_nic_mac(std::uint32_t nic, const MacAddr& mac) noexcept {
  const std::uint8_t* bytes = mac.bytes.data();
  nic_macs_[nic] = mac;
  nic_mac_words_[nic] = load<std::uint32_t>(bytes) | std::uint64_t{load<std::uint16_t>(bytes + 4)}
                                                         << 32;
}

void Forwarder::adopt(const ConfigView& view) noexcept {
  config_ = view;
  listener_hint_ = {};
  const auto one = [](const mr_encap_source& source) {
    return source.spread_be == 0 ? source.addr : mr_addr{};
  };
  encap_source_v4_ = view.image == nullptr ? mr_addr{} : one(view.image->encap_source_v4);
  encap_source_v6_ = view.image == nullptr ? mr_addr{} : one(view.image->encap_source_v6);
  count(MR_COUNTER_CONFIG_ADOPTED);
}

}  // namespace millrace::core

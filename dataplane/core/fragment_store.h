// SPDX-License-Identifier: Apache-2.0
//
// The ports of UDP datagrams whose fragments are under way. Warm.
//
// Only a first fragment shows ports. It is entered here; the later fragments of its datagram take
// them from here. The store never grows: a bucket that is full gives up its oldest datagram. So a
// flood of first fragments can lose fragments of others, and nothing else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/core/wire.h"
#include "dataplane/rules/fragment_rule.h"

namespace millrace::core {

// What fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5), beside
// the protocol, which is always UDP here.
struct DatagramKey {
  AddrWords source;
  AddrWords destination;
  std::uint32_t id;
  friend bool operator==(const DatagramKey&, const DatagramKey&) = default;
};

class FragmentStore {
 public:
  // Datagrams. Fragments follow each other within a millisecond or so, for which this is enough at
  // any rate that a worker handles. 208 KiB.
  static constexpr std::uint32_t kCapacity = 4096;
  static constexpr std::uint32_t kWays = 4;

  // Enters a datagram, or the newer one with its number. `hash` is that of the key, with a secret.
  // `ports`: as they lie in the UDP header.
  void add(std::uint64_t hash, const DatagramKey& key, std::uint32_t ports,
           std::uint32_t tick) noexcept {
    Bucket& bucket = buckets_[index_of(hash)];
    Entry* chosen = bucket.data();
    for (Entry& entry : bucket) {
      if (entry.is_used && entry.key == key) {
        chosen = &entry;
        break;
      }
      if (age_of(entry, tick) > age_of(*chosen, tick)) chosen = &entry;
    }
    *chosen = {.key = key, .ports = ports, .tick = tick, .is_used = true};
  }

  // The ports of a datagram whose first fragment came less than MR_FRAGMENT_TICKS ago.
  [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t hash, const DatagramKey& key,
                                                  std::uint32_t tick) const noexcept {
    for (const Entry& entry : buckets_[index_of(hash)]) {
      if (entry.is_used && entry.key == key && tick - entry.tick < MR_FRAGMENT_TICKS) {
        return entry.ports;
      }
    }
    return std::nullopt;
  }

 private:
  struct Entry {
    DatagramKey key;
    std::uint32_t ports;
    std::uint32_t tick;  // of the first fragment
    bool is_used;
  };
  using Bucket = std::array<Entry, kWays>;

  [[nodiscard]] static std::size_t index_of(std::uint64_t hash) noexcept {
    return hash % (kCapacity / kWays);
  }
  // A free entry is older than any other.
  [[nodiscard]] static std::uint64_t age_of(const Entry& entry, std::uint32_t tick) noexcept {
    return entry.is_used ? std::uint64_t{tick - entry.tick} : ~std::uint64_t{0};
  }

  std::vector<Bucket> buckets_ = std::vector<Bucket>(kCapacity / kWays);
};

}  // namespace millrace::core

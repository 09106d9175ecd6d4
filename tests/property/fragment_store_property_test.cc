// SPDX-License-Identifier: Apache-2.0
//
// The store of datagrams under way, held against a plain model: a list for each bucket, oldest
// first.
#include "dataplane/core/fragment_store.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

namespace millrace::core {
namespace {

struct Known {
  DatagramKey key;
  std::uint32_t ports;
  std::uint32_t tick;
};

class Model {
 public:
  void add(std::uint64_t bucket, const DatagramKey& key, std::uint32_t ports, std::uint32_t tick) {
    std::vector<Known>& known = buckets_[bucket];
    std::erase_if(known, [&](const Known& other) { return other.key == key; });
    if (known.size() == FragmentStore::kWays) known.erase(known.begin());
    known.push_back({.key = key, .ports = ports, .tick = tick});
  }
  std::optional<std::uint32_t> find(std::uint64_t bucket, const DatagramKey& key,
                                    std::uint32_t tick) {
    for (const Known& known : buckets_[bucket]) {
      const bool is_fresh = tick - known.tick < MR_FRAGMENT_TICKS;
      if (known.key == key && is_fresh) return known.ports;
    }
    return std::nullopt;
  }

 private:
  std::map<std::uint64_t, std::vector<Known>> buckets_;
};

// Few of each, so that they meet, and neighbours that differ in one field only.
DatagramKey arbitrary_key() {
  const auto word = [] { return *rc::gen::inRange<std::uint64_t>(0, 2); };
  return {.source = {.low = word(), .high = word()},
          .destination = {.low = word(), .high = word()},
          .id = *rc::gen::inRange<std::uint32_t>(0, 3)};
}

RC_GTEST_PROP(fragment_store, keeps_the_newest_datagrams_of_each_bucket_for_a_time, ()) {
  FragmentStore store;
  Model model;
  // Also over the end of what a tick can count.
  auto tick = *rc::gen::element<std::uint32_t>(0, 1, 0xffffffff, 0xffffffff - MR_FRAGMENT_TICKS);
  for (int steps = *rc::gen::inRange(1, 200); steps > 0; --steps) {
    const std::uint64_t bucket = *rc::gen::inRange<std::uint64_t>(0, 2);
    // Only the bucket counts of a hash.
    const std::uint64_t turns = *rc::gen::inRange<std::uint64_t>(0, 4);
    const std::uint64_t hash = bucket + turns * (FragmentStore::kCapacity / FragmentStore::kWays);
    const DatagramKey key = arbitrary_key();
    tick +=
        *rc::gen::element<std::uint32_t>(1, 1, 1, 1, 50, MR_FRAGMENT_TICKS - 1, MR_FRAGMENT_TICKS);
    if (*rc::gen::arbitrary<bool>()) {
      const auto ports = *rc::gen::arbitrary<std::uint32_t>();
      store.add(hash, key, ports, tick);
      model.add(bucket, key, ports, tick);
    }
    RC_ASSERT(store.find(hash, key, tick) == model.find(bucket, key, tick));
  }
}

}  // namespace
}  // namespace millrace::core

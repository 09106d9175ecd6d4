// SPDX-License-Identifier: Apache-2.0
//
// Flows with plain structure spread over the slots of a lookup table like random ones, whatever the
// key, and everything that names a flow counts.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/wire.h"

namespace millrace::core {
namespace {

constexpr std::uint32_t kFlowsSpread = 50'000;
constexpr std::uint32_t kLookupSlots = 4093;

mr_flow_tuple tuple_of(const mr_addr& client, std::uint32_t client_port) {
  return {.client_addr = client,
          .vip_addr = v4_mapped(to_be32(0xcb00710a)),
          .client_port_be = to_be16(static_cast<std::uint16_t>(client_port)),
          .vip_port_be = to_be16(443),
          .protocol = MR_PROTOCOL_TCP,
          .reserved = {}};
}

mr_flow_tuple v4_flow(std::uint32_t client, std::uint32_t client_port) {
  return tuple_of(v4_mapped(to_be32(client)), client_port);
}

// `prefix` are the last bytes of the client's /64, `host` those of its interface.
mr_flow_tuple v6_flow(std::uint32_t prefix, std::uint32_t host) {
  mr_addr client{};
  client.bytes[0] = 0x20;
  client.bytes[1] = 0x01;
  store(client.bytes + 4, to_be32(prefix));
  store(client.bytes + 12, to_be32(host));
  return tuple_of(client, 40'000);
}

struct Population {
  std::string name;
  std::function<mr_flow_tuple(std::uint32_t)> make;
};

const std::vector<Population>& populations() {
  static const std::vector<Population> all = {
      {"ports of one client", [](auto i) { return v4_flow(0xc6336407, i + 1024); }},
      {"neighbours", [](auto i) { return v4_flow(0x0a000000 + i, 40'000); }},
      {"networks", [](auto i) { return v4_flow(i << 8, 40'000); }},
      {"even ports of neighbours",
       [](auto i) { return v4_flow(0x0a000000 + i / 64, 32'768 + 2 * (i % 64)); }},
      {"sum of address and port", [](auto i) { return v4_flow(i, 60'000 - i); }},
      {"IPv6 networks", [](auto i) { return v6_flow(i, 1); }},
      {"IPv6 hosts", [](auto i) { return v6_flow(0, i); }},
      {"IPv6 networks and hosts", [](auto i) { return v6_flow(i, i); }},
  };
  return all;
}

// How far the numbers of flows per slot are from those of random flows, in standard deviations of
// the chi-square statistic.
double unevenness(const mr_selection_key& key, const Population& population) {
  std::vector<std::uint32_t> counts(kLookupSlots);
  for (std::uint32_t i = 0; i < kFlowsSpread; ++i) {
    const mr_flow_tuple flow = population.make(i);
    ++counts[mr_slot_of_hash(mr_selection_hash(&key, &flow), kLookupSlots)];
  }
  const double expected = double{kFlowsSpread} / kLookupSlots;
  double sum = 0;
  for (const std::uint32_t count : counts) {
    sum += (count - expected) * (count - expected) / expected;
  }
  return (sum - kLookupSlots) / std::sqrt(2.0 * kLookupSlots);
}

void expect_even(const mr_selection_key& key) {
  // Of 2,100 pairs of a key and a population none was above 3.3.
  for (const Population& population : populations())
    EXPECT_LT(unevenness(key, population), 6) << population.name;
}

TEST(selection_hash, flows_are_spread_evenly_without_a_key) { expect_even({0, 0}); }

RC_GTEST_PROP(selection_hash, flows_are_spread_evenly_with_any_key,
              (std::uint64_t k0, std::uint64_t k1)) {
  for (const Population& population : populations()) {
    RC_LOG() << population.name << "\n";
    RC_ASSERT(unevenness({k0, k1}, population) < 6);
  }
}

RC_GTEST_PROP(selection_hash, every_bit_of_a_flow_counts, (std::uint64_t seed)) {
  std::mt19937_64 random(seed);
  const mr_selection_key key{random(), random()};
  mr_flow_tuple flow{};
  std::uint8_t bytes[sizeof(flow)];
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  std::memcpy(&flow, bytes, sizeof(flow));
  const std::uint64_t hash = mr_selection_hash(&key, &flow);
  for (std::size_t bit = 0; bit < 8 * offsetof(mr_flow_tuple, reserved); ++bit) {
    mr_flow_tuple other = flow;
    auto* changed = reinterpret_cast<std::uint8_t*>(&other) + bit / 8;
    *changed = static_cast<std::uint8_t>(*changed ^ 1u << bit % 8);
    RC_LOG() << "bit " << bit << "\n";
    RC_ASSERT(((mr_selection_hash(&key, &other) ^ hash) >> 32) != 0);
  }
}

// Nodes of other versions, and those with the other engine, choose alike. Whoever changes this
// changes the target of every flow that a node takes over from another.
TEST(selection_hash, known_flows_have_known_hashes) {
  const mr_selection_key key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  const mr_flow_tuple v4 = v4_flow(0xc6336407, 40'000);
  const mr_flow_tuple v6 = v6_flow(0xdb800000, 7);
  EXPECT_EQ(mr_selection_hash(&key, &v4) >> 32, 80663928u);
  EXPECT_EQ(mr_selection_hash(&key, &v6) >> 32, 4250893974u);
}

}  // namespace
}  // namespace millrace::core

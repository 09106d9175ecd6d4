// SPDX-License-Identifier: Apache-2.0
//
// Which of several workers handles a packet: what each flow's owner gets, what stays where it came,
// and how evenly owners are shared out.
#include "dataplane/core/steering.h"

#include <algorithm>

#include "dataplane/core/checksum.h"
#include "tests/unit/core/family.h"

namespace millrace::test {
namespace {

using core::VerdictKind;

class Steering : public ForwarderTest {
 protected:
  static constexpr std::uint32_t kWorkers = 3;

  [[nodiscard]] std::uint32_t owner_of_client(std::uint16_t port) const {
    return core::owner_of(core::ClientKey::of(core::words_of(addr_of(client_addr())),
                                              core::to_be16(port), traffic().protocol),
                          kWorkers);
  }
  // The packet reaches every worker but `owner`, which all hand it to `owner` as it came.
  void expect_handed_to(std::uint32_t owner, const std::vector<std::uint8_t>& frame) {
    const mr_worker_stats before = node.worker();
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      if (worker == owner) continue;
      const Outcome outcome = node.send_to({worker, kWorkers}, frame);
      EXPECT_EQ(outcome.kind, VerdictKind::hand_over);
      EXPECT_EQ(outcome.owner, owner);
      EXPECT_EQ(outcome.frame, frame);
    }
    EXPECT_TRUE(std::ranges::equal(before.counters, node.worker().counters));
    EXPECT_TRUE(std::ranges::equal(before.drops, node.worker().drops));
  }
  // Whoever receives it drops it.
  void expect_dropped_anywhere(const std::vector<std::uint8_t>& frame, mr_drop_reason reason) {
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      const Outcome outcome = node.send_to({worker, kWorkers}, frame);
      EXPECT_EQ(outcome.kind, VerdictKind::drop);
      EXPECT_EQ(outcome.reason, reason);
    }
    EXPECT_EQ(node.dropped(reason), kWorkers);
  }
  [[nodiscard]] std::vector<std::uint8_t> fragment_to_vip() const {
    std::vector<std::uint8_t> frame = make_frame(to_vip(40000));
    if (traffic().is_v6) {
      frame[MR_ETH_BYTES + MR_IPV6_NEXT_HEADER] = MR_PROTOCOL_FRAGMENT;
      return frame;
    }
    std::uint8_t* ip = frame.data() + MR_ETH_BYTES;
    ip[MR_IPV4_FRAGMENT] = 0x20;  // more fragments, where "don't fragment" was
    const auto checksum = core::load<std::uint16_t>(ip + MR_IPV4_CHECKSUM);
    core::store(ip + MR_IPV4_CHECKSUM,
                mr_updated_checksum(
                    checksum, mr_checksum_delta(core::to_be16(0x4000), core::to_be16(0x2000))));
    return frame;
  }
};
INSTANTIATE_TEST_SUITE_P(All, Steering, testing::ValuesIn(kAllTraffic), name_of);

TEST_P(Steering, both_directions_of_a_flow_have_one_owner_and_reach_it_untouched) {
  balance(2);
  std::vector<std::uint32_t> flows(kWorkers);
  for (std::uint16_t port = 40000; port < 40030; ++port) {
    const std::uint32_t owner = owner_of_client(port);
    ++flows[owner];
    expect_handed_to(owner, make_frame(to_vip(port, kSyn)));
    const Outcome there = node.send_to({owner, kWorkers}, make_frame(to_vip(port, kSyn)));
    const std::vector<std::uint8_t> answer =
        make_frame(from_target(target_of(there), port, kSynAck));
    expect_handed_to(owner, answer);
    EXPECT_EQ(node.send_to({owner, kWorkers}, answer).kind, VerdictKind::forward);
  }
  EXPECT_EQ(node.counter(MR_COUNTER_FLOW_INSERTED), 30u);
  EXPECT_EQ(node.counter(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  EXPECT_GT(*std::ranges::min_element(flows), 0u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(Steering, what_was_handed_over_stays_whatever_the_config_says_of_its_owner) {
  balance(1);
  std::uint16_t port = 40000;
  while (owner_of_client(port) != 1) ++port;
  const std::vector<std::uint8_t> request = make_frame(to_vip(port, kSyn));
  EXPECT_EQ(node.send_to({0, kWorkers}, request).owner, 1u);
  // This worker has no listener yet, or no more: by its config another one would own the packet.
  Node other;
  other.publish();
  EXPECT_EQ(other.send_to(core::kOwnsAll, request).kind, VerdictKind::punt);
  EXPECT_EQ(node.send_to(core::kOwnsAll, request).kind, VerdictKind::forward);
}

TEST_P(Steering, what_is_for_no_listener_of_a_vip_stays_where_it_came) {
  balance(1);
  FrameSpec spec = to_vip(40000, kSyn);
  spec.destination_port = 81;
  expect_dropped_anywhere(make_frame(spec), MR_DROP_NO_LISTENER);
}

TEST_P(Steering, malformed_packets_are_dropped_where_they_came) {
  balance(1);
  std::vector<std::uint8_t> frame = make_frame(to_vip(40000));
  frame.resize(MR_ETH_BYTES + 12);
  expect_dropped_anywhere(frame, MR_DROP_BAD_IP_HEADER);
}

TEST_P(Steering, frames_for_another_node_are_dropped_where_they_came) {
  balance(1);
  std::vector<std::uint8_t> frame = make_frame(to_vip(40000));
  frame[5] = 0x77;
  expect_dropped_anywhere(frame, MR_DROP_OTHER_MAC);
}

// What an ICMP error about `quoted`, a frame that the node sent, looks like on its way back.
std::vector<std::uint8_t> error_about(const std::vector<std::uint8_t>& quoted) {
  const bool is_v6 = quoted[MR_ETH_TYPE] == 0x86;
  const std::uint32_t ip_bytes = is_v6 ? MR_IPV6_BYTES : MR_IPV4_BYTES;
  std::vector<std::uint8_t> frame = quoted;
  std::copy_n(quoted.begin() + MR_ETH_SOURCE, 6, frame.begin() + MR_ETH_DESTINATION);
  frame.insert(frame.begin() + MR_ETH_BYTES, ip_bytes + MR_ICMP_BYTES, 0);
  std::uint8_t* ip = frame.data() + MR_ETH_BYTES;
  const std::uint8_t* inner = ip + ip_bytes + MR_ICMP_BYTES;
  const auto length = static_cast<std::uint16_t>(frame.size() - MR_ETH_BYTES);
  std::copy_n(inner, ip_bytes, ip);
  if (is_v6) {
    core::store(ip + MR_IPV6_PAYLOAD_LENGTH,
                core::to_be16(static_cast<std::uint16_t>(length - MR_IPV6_BYTES)));
    ip[MR_IPV6_NEXT_HEADER] = MR_PROTOCOL_ICMPV6;
    std::copy_n(inner + MR_IPV6_SOURCE, 16, ip + MR_IPV6_DESTINATION);
    core::store(ip + MR_IPV6_SOURCE, core::words_of(addr_of("2001:db8:f::1")).low);
    ip[ip_bytes] = MR_ICMPV6_PACKET_TOO_BIG;
    return frame;
  }
  core::store(ip + MR_IPV4_TOTAL_LENGTH, core::to_be16(length));
  ip[MR_IPV4_PROTOCOL] = MR_PROTOCOL_ICMP;
  std::copy_n(inner + MR_IPV4_SOURCE, 4, ip + MR_IPV4_DESTINATION);
  core::store(ip + MR_IPV4_SOURCE, core::v4_of(addr_of("192.0.2.254")));
  core::store(ip + MR_IPV4_CHECKSUM, std::uint16_t{0});
  core::store(ip + MR_IPV4_CHECKSUM,
              static_cast<std::uint16_t>(~mr_fold(core::sum_bytes({ip, MR_IPV4_BYTES}))));
  ip[ip_bytes] = MR_ICMPV4_UNREACHABLE;
  return frame;
}

TEST_P(Steering, fault_16_errors_reach_the_owner_of_the_flow_that_they_are_about) {
  balance(1);
  for (std::uint16_t port = 40000; port < 40030; ++port) {
    const std::uint32_t owner = owner_of_client(port);
    const Outcome there = node.send_to({owner, kWorkers}, make_frame(to_vip(port, kSyn)));
    const Outcome back =
        node.send_to({owner, kWorkers}, make_frame(from_target(target_of(there), port, kSynAck)));
    for (const std::vector<std::uint8_t>& quoted : {there.frame, back.frame}) {
      const std::vector<std::uint8_t> error = error_about(quoted);
      expect_handed_to(owner, error);
      EXPECT_EQ(node.send_to({owner, kWorkers}, error).kind, VerdictKind::forward);
    }
  }
  EXPECT_EQ(node.counter(MR_COUNTER_ERRORS_PASSED), 60u);
  EXPECT_EQ(node.counter(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(Steering, fragments_of_tcp_for_a_vip_are_dropped_where_they_came) {
  if (!is_tcp()) return;
  balance(1);
  expect_dropped_anywhere(fragment_to_vip(), MR_DROP_FRAGMENT);
}

TEST_P(Steering, fragments_of_tcp_that_pass_the_node_are_worker_0s) {
  if (!is_tcp()) return;
  node.publish();  // no VIP
  expect_handed_to(0, fragment_to_vip());
  EXPECT_EQ(node.send_to({0, kWorkers}, fragment_to_vip()).kind, VerdictKind::punt);
}

// A worker that stands still must not keep the node from hearing the answers to its probes.
TEST_P(Steering, fault_38_what_is_for_the_node_itself_is_punted_where_it_came) {
  node.builder.add_local_addr(addr_of(vip()));
  node.publish();
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
    EXPECT_EQ(node.send_to({worker, kWorkers}, make_frame(to_vip(40000))).kind, VerdictKind::punt);
    EXPECT_EQ(node.send_to({worker, kWorkers}, fragment_to_vip()).kind, VerdictKind::punt);
  }
}

TEST_P(Steering, what_is_for_the_node_itself_is_its_own_address_owners) {
  balance(1);
  FrameSpec spec = to_vip(40000);
  spec.destination = traffic().is_v6 ? "2001:db8:9::1" : "192.0.2.1";
  spec.destination_port = 179;
  const std::uint32_t owner =
      core::owner_of(core::ClientKey::of(core::words_of(addr_of(spec.destination)),
                                         core::to_be16(179), traffic().protocol),
                     kWorkers);
  expect_handed_to(owner, make_frame(spec));
  EXPECT_EQ(node.send_to({owner, kWorkers}, make_frame(spec)).kind, VerdictKind::punt);
}

// Clients take neighbouring ports for connections that they open together, and neighbouring clients
// the same port. Each worker gets at least half of its share and at most double.
TEST(OwnerOf, neighbours_are_shared_out) {
  constexpr std::uint32_t kRun = 16;  // neighbours for each worker
  const auto expect_even = [](const char* what, std::uint32_t worker_count, auto&& key_of) {
    std::vector<std::uint32_t> keys(worker_count);
    for (std::uint32_t i = 0; i < kRun * worker_count; ++i) {
      ++keys[core::owner_of(key_of(i), worker_count)];
    }
    EXPECT_GE(*std::ranges::min_element(keys), kRun / 2) << what << ", " << worker_count;
    EXPECT_LE(*std::ranges::max_element(keys), kRun * 2) << what << ", " << worker_count;
  };
  const auto client = [](core::AddrWords addr, std::uint32_t port) {
    return core::ClientKey::of(addr, core::to_be16(static_cast<std::uint16_t>(port)),
                               MR_PROTOCOL_TCP);
  };
  const auto v4 = [](std::uint32_t addr) { return core::v4_words(core::to_be32(addr)); };
  const auto v6 = [](std::uint32_t subnet, std::uint32_t host) {
    mr_addr addr = addr_of("2001:db8::");
    addr.bytes[6] = static_cast<std::uint8_t>(subnet >> 8);
    addr.bytes[7] = static_cast<std::uint8_t>(subnet);
    core::store(addr.bytes + 12, core::to_be32(host));
    return core::words_of(addr);
  };
  for (std::uint32_t n = 2; n <= 16; ++n) {
    for (std::uint32_t base = 0; base < 200; ++base) {
      const std::uint32_t addr = 0xc6336400u + base;
      expect_even("ports", n, [&](auto i) { return client(v4(addr), 32768 + i); });
      expect_even("even ports", n, [&](auto i) { return client(v4(addr), 32768 + 2 * i); });
      expect_even("addresses", n, [&](auto i) { return client(v4(addr + i), 40000 + base); });
      expect_even("both", n, [&](auto i) { return client(v4(addr + i), 40000 + i); });
      expect_even("hosts", n, [&](auto i) { return client(v6(base, i), 40000); });
      expect_even("subnets", n, [&](auto i) { return client(v6(i, base), 40000); });
      expect_even("hosts of subnets", n, [&](auto i) { return client(v6(i, i), 40000); });
    }
  }
}

TEST(OwnerOf, most_workers_are_told_apart) {
  std::vector<std::uint32_t> clients(MR_WORKER_COUNT_MAX);
  for (std::uint32_t port = 0; port < 0x10000; ++port) {
    const auto key =
        core::ClientKey::of(core::v4_words(1), static_cast<std::uint16_t>(port), MR_PROTOCOL_UDP);
    const std::uint32_t owner = core::owner_of(key, MR_WORKER_COUNT_MAX);
    ASSERT_LT(owner, MR_WORKER_COUNT_MAX);
    EXPECT_EQ(core::Verdict::hand_over(owner).owner(), owner);
    ++clients[owner];
  }
  const std::uint32_t share = 0x10000 / MR_WORKER_COUNT_MAX;
  EXPECT_GE(*std::ranges::min_element(clients), share * 9 / 10);
  EXPECT_LE(*std::ranges::max_element(clients), share * 11 / 10);
}

}  // namespace
}  // namespace millrace::test

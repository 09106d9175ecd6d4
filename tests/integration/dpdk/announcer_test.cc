// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/announcer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/dpdk/workers.h"

namespace millrace::test {
namespace {

using core::kAnnounceIntervalNs;
using core::kAnnounceRounds;
using worker::Announcer;

// RFC 5227: a request in which sender and target address are the VIP.
const char* const kVip4Announced =
    "eth node > ff:ff:ff:ff:ff:ff / arp request sender_mac node "
    "sender 203.0.113.10 target 203.0.113.10";

bool is_arp(const Bytes& bytes) { return bytes[12] == 0x08 && bytes[13] == 0x06; }
bool is_ipv6(const Bytes& bytes) { return bytes[12] == 0x86 && bytes[13] == 0xdd; }

TEST(Announcer, new_vips_are_announced_three_times_a_second_apart) {
  const Image image = balancer_image(1);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announcer.adopt(image.view(), kStartNs);
  std::uint64_t now_ns = kStartNs;
  for (std::uint32_t round = 0; round < kAnnounceRounds; ++round) {
    announcer.run(now_ns);
    announcer.run(now_ns + kAnnounceIntervalNs - 1);  // too early for the next
    workers.turn();
    const std::vector<Bytes> sent = workers.sent();
    ASSERT_EQ(sent.size(), 2u);
    EXPECT_EQ(std::count_if(sent.begin(), sent.end(), is_arp), 1);
    EXPECT_EQ(std::count_if(sent.begin(), sent.end(), is_ipv6), 1);
    now_ns += kAnnounceIntervalNs;
  }
  announcer.run(now_ns + 10 * kAnnounceIntervalNs);
  workers.turn();
  EXPECT_TRUE(workers.sent().empty());
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_ANNOUNCED], 2u * kAnnounceRounds);
}

TEST(Announcer, ipv4_vip_is_announced_by_gratuitous_arp) {
  const Image image = balancer_image(1);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announcer.adopt(image.view(), kStartNs);
  announcer.run(kStartNs);
  workers.turn();
  Bytes expected = frame(kVip4Announced);
  for (Bytes& sent : workers.sent()) {
    if (!is_arp(sent)) continue;
    const std::size_t bytes = std::min(sent.size(), expected.size());
    sent.resize(bytes);
    expected.resize(bytes);
    EXPECT_EQ(sent, expected) << difference_of(expected, sent);
  }
}

// All rounds of the VIPs of a config, which nobody looks at.
void announce_all(Announcer& announcer, Workers& workers, const Image& image) {
  announcer.adopt(image.view(), kStartNs);
  for (std::uint32_t round = 0; round < kAnnounceRounds; ++round) {
    announcer.run(kStartNs + round * kAnnounceIntervalNs);
  }
  workers.turn();
  (void)workers.sent();
}

TEST(Announcer, all_vips_are_announced_in_a_vlan_that_is_new) {
  const Image first = balancer_image(1);
  const Image second = vlan_image(2, 10);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announce_all(announcer, workers, first);
  announcer.adopt(second.view(), kStartNs + 10 * kAnnounceIntervalNs);
  announcer.run(kStartNs + 10 * kAnnounceIntervalNs);
  workers.turn();
  std::uint32_t tagged = 0;
  for (Bytes& sent : workers.sent()) {
    if (sent[12] != 0x81) continue;
    ++tagged;
    EXPECT_EQ(sent[15], 10);
    sent.erase(sent.begin() + 12, sent.begin() + 16);
    if (!is_arp(sent)) continue;
    Bytes expected = frame(kVip4Announced);
    sent.resize(std::min(sent.size(), expected.size()));
    expected.resize(sent.size());
    EXPECT_EQ(sent, expected) << difference_of(expected, sent);
  }
  EXPECT_EQ(tagged, 2u);
}

TEST(Announcer, vip_that_stays_is_not_announced_again) {
  const Image first = balancer_image(1);
  const Image second = balancer_image(2);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announce_all(announcer, workers, first);
  announcer.adopt(second.view(), kStartNs + 10 * kAnnounceIntervalNs);
  announcer.run(kStartNs + 20 * kAnnounceIntervalNs);
  workers.turn();
  EXPECT_TRUE(workers.sent().empty());
}

TEST(Announcer, fault_71_all_vips_are_announced_anew_with_a_changed_mac_address) {
  constexpr core::MacAddr kChanged{{2, 0, 0, 0, 0, 0x51}};
  const Image image = balancer_image(1);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announcer.adopt(image.view(), kStartNs);
  announcer.run(kStartNs);
  workers.turn();
  (void)workers.sent();
  announcer.set_mac(0, kChanged);
  announcer.repeat(kStartNs + 1);
  for (std::uint32_t round = 0; round < kAnnounceRounds; ++round) {
    announcer.run(kStartNs + 1 + round * kAnnounceIntervalNs);
    workers.turn();
    const std::vector<Bytes> sent = workers.sent();
    ASSERT_EQ(sent.size(), 2u);
    for (const Bytes& bytes : sent) {
      EXPECT_TRUE(std::equal(kChanged.bytes.begin(), kChanged.bytes.end(), bytes.begin() + 6));
    }
  }
  announcer.run(kStartNs + 10 * kAnnounceIntervalNs);
  workers.turn();
  EXPECT_TRUE(workers.sent().empty());
}

TEST(Announcer, vip_that_goes_is_not_announced_any_more_and_is_new_when_it_comes_back) {
  const Image with = balancer_image(1);
  ImageBuilder empty;
  const Image without = empty.build(2);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announcer.adopt(with.view(), kStartNs);
  announcer.adopt(without.view(), kStartNs + 1);
  announcer.run(kStartNs + 2);
  workers.turn();
  EXPECT_TRUE(workers.sent().empty());
  announcer.adopt(with.view(), kStartNs + 3);
  announcer.run(kStartNs + 3);
  workers.turn();
  EXPECT_EQ(workers.sent().size(), 2u);
}

TEST(Announcer, full_ring_only_delays) {
  ImageBuilder builder;
  const std::uint32_t group = builder.add_group({});
  constexpr std::uint32_t kVips = 1500;  // more than the ring holds
  for (std::uint32_t i = 0; i < kVips; ++i) {
    builder.add_listener({.vip_addr = addr_of("203.0." + std::to_string(i / 250) + "." +
                                              std::to_string(i % 250 + 1)),
                          .port = 80,
                          .group_slot = group});
  }
  const Image image = builder.build(1);
  Workers workers({});
  Announcer announcer({kNicMac}, workers.pool(), workers.announcements());
  announcer.adopt(image.view(), kStartNs);
  std::set<Bytes> announced;
  for (std::uint32_t i = 0; i < 200; ++i) {
    announcer.run(kStartNs);
    workers.turn();
    for (Bytes& bytes : workers.sent()) announced.insert(std::move(bytes));
  }
  EXPECT_EQ(announced.size(), kVips);
}

}  // namespace
}  // namespace millrace::test

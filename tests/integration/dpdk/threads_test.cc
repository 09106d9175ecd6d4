// SPDX-License-Identifier: Apache-2.0
//
// Two workers on their own lcores, at full speed, sharing one rx queue, one tx queue and the
// handover rings: what a single-threaded test cannot show.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <thread>

#include "dataplane/core/wire.h"
#include "tests/integration/dpdk/workers.h"

namespace millrace::test {
namespace {

constexpr std::uint32_t kClientsAtOnce = 500;
constexpr std::uint32_t kRounds = 100;

TEST(Threads, nothing_is_lost_doubled_or_sent_to_two_targets) {
  const Image image = balancer_image(1);
  Workers workers({.worker_count = 2, .queue_count = 1});
  workers.publish(image);
  std::atomic<bool> stop{false};
  std::function<void()> work[2];
  for (std::uint32_t i = 0; i < 2; ++i) {
    work[i] = [&workers, &stop, i] { workers.worker(i).run(stop); };
    const Status launched = eal().launch(i, work[i]);
    ASSERT_TRUE(launched) << launched.error().message;
  }
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClientsAtOnce; ++client) requests.push_back(syn(client));

  // client address and port -> target address -> packets
  std::map<Bytes, std::map<Bytes, std::uint32_t>> targets_of_client;
  std::uint64_t received = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (std::uint32_t round = 0; round < kRounds; ++round) {
    workers.receive(0, requests);
    while (received < std::uint64_t{round + 1} * kClientsAtOnce) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << received << " in round " << round;
      for (const Bytes& sent : workers.sent()) {
        const std::uint8_t* ip = sent.data() + MR_ETH_BYTES;
        Bytes client(ip + MR_IPV4_SOURCE, ip + MR_IPV4_SOURCE + 4);
        client.insert(client.end(), ip + MR_IPV4_BYTES, ip + MR_IPV4_BYTES + 2);
        const Bytes target(ip + MR_IPV4_DESTINATION, ip + MR_IPV4_DESTINATION + 4);
        ++targets_of_client[client][target];
        ++received;
      }
      std::this_thread::yield();
    }
  }
  stop.store(true);
  eal().wait_for_workers();

  EXPECT_EQ(targets_of_client.size(), kClientsAtOnce);
  for (const auto& [client, targets] : targets_of_client) {
    ASSERT_EQ(targets.size(), 1u);
    EXPECT_EQ(targets.begin()->second, kRounds);
  }
  EXPECT_EQ(workers.sum_of(MR_COUNTER_FORWARDED_PACKETS), std::uint64_t{kClientsAtOnce} * kRounds);
  EXPECT_GT(workers.stats(1).counters[MR_COUNTER_FORWARDED_PACKETS], 0u);
  workers.expect_balance();
}

}  // namespace
}  // namespace millrace::test

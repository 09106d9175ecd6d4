// SPDX-License-Identifier: Apache-2.0
//
// What a whole worker costs on one of DPDK's software devices: receive, balance, send.
//
//   worker_bench DRIVER FAMILY KIND FLOWS ARM SECONDS    prints: packets cycles cycles_per_packet
//     DRIVER   null  frames are allocated at rx and freed at tx
//              ring  256 frames go round
//     FAMILY   ipv4 | ipv6
//     KIND     hit | miss
//     ARM      pass     the same worker passes the same packets untouched
//              balance  the worker balances them
//
// Net cost is the difference of the arms (bench/worker_loop.h).
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "bench/fatal.h"
#include "bench/worker_loop.h"
#include "dataplane/dpdk/eal.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kMbufs = 4095;

struct Options {
  std::string driver;
  bool is_v4 = true;
  bool is_miss = false;
  std::uint32_t flows = 1;
  bool balances = false;
  double seconds = 1;
};

Options parse(int argc, char** argv) {
  if (argc != 7)
    fail("usage: worker_bench null|ring ipv4|ipv6 hit|miss FLOWS pass|balance SECONDS");
  return {.driver = argv[1],
          .is_v4 = std::strcmp(argv[2], "ipv4") == 0,
          .is_miss = std::strcmp(argv[3], "miss") == 0,
          .flows = static_cast<std::uint32_t>(std::strtoul(argv[4], nullptr, 10)),
          .balances = std::strcmp(argv[5], "balance") == 0,
          .seconds = std::strtod(argv[6], nullptr)};
}

// The loop with a table of flows, which misses want empty again and again.
class Measured {
 public:
  Measured(const Options& options, dpdk::Nic& nic)
      : options_(options), nic_(nic), order_(options.flows) {
    forget_flows();
    if (!options.is_miss) balancer_->open_flows();
  }

  // Cycles that `bursts` bursts took; `packets` grows by what they carried.
  std::uint64_t run(std::uint32_t bursts, std::uint64_t& packets) {
    const std::uint64_t start = __rdtsc();
    for (std::uint32_t burst = 0; burst < bursts; ++burst) {
      packets += loop_->turn([this] { return order_.next(); });
    }
    return __rdtsc() - start;
  }

  // Not part of any measurement.
  void forget_flows() {
    const FlowShape shape = shape_of(options_.is_v4, MR_PROTOCOL_TCP, MR_TCP_ACK);
    loop_.reset();
    balancer_.reset();
    balancer_ = std::make_unique<Balancer>(options_.flows, shape, MR_FORWARDING_NAT);
    loop_.emplace(WorkerLoop::Options{.balances = options_.balances}, *balancer_, nic_);
    order_ = FlowOrder(options_.flows);
  }
  [[nodiscard]] const Balancer& balancer() const { return *balancer_; }

 private:
  Options options_;
  dpdk::Nic& nic_;
  std::unique_ptr<Balancer> balancer_;
  std::optional<WorkerLoop> loop_;
  FlowOrder order_;
};

void measure(const Options& options) {
  [[maybe_unused]] const dpdk::Eal eal =
      take(dpdk::Eal::init({.main_cpu = 0,
                            .worker_cpus = {},
                            .use_pci = false,
                            .memory_bytes = dpdk::MbufPool::bytes_for(kMbufs),
                            .extra = {}}));
  const dpdk::MbufPool pool = take(dpdk::MbufPool::create("bench", kMbufs));
  const std::string device = options.driver == "null" ? "net_null0,size=64" : "net_ring0";
  const auto nic = take(
      dpdk::Nic::open({.device = device, .index = 0, .queue_count = 1, .worker_count = 1}, pool));
  Measured loop(options, *nic);
  if (options.driver == "ring") fill_ring(*nic, pool, loop.balancer().writer().length());

  // Time is looked at once per 1024 bursts; a measurement of misses ends with the table's room.
  const std::uint32_t step =
      options.is_miss ? std::min(1024u, options.flows / core::kBurstMax) : 1024;
  const std::uint32_t steps_per_table = options.flows / core::kBurstMax / std::max(step, 1u);
  if (step == 0) fail("a miss run needs at least 32 flows");
  std::uint64_t warm_packets = 0;
  if (!options.is_miss) (void)loop.run(step, warm_packets);

  std::uint64_t packets = 0;
  std::uint64_t cycles = 0;
  timespec began{};
  timespec now{};
  (void)clock_gettime(CLOCK_MONOTONIC, &began);
  for (std::uint32_t done = 0;; ++done) {
    if (options.is_miss && done != 0 && done % steps_per_table == 0) loop.forget_flows();
    cycles += loop.run(step, packets);
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const double elapsed = static_cast<double>(now.tv_sec - began.tv_sec) +
                           static_cast<double>(now.tv_nsec - began.tv_nsec) / 1e9;
    if (elapsed >= options.seconds) break;
  }
  if (options.balances) {
    const std::uint64_t hits = loop.balancer().counter(MR_COUNTER_FLOW_HITS);
    const std::uint64_t misses = packets + warm_packets - hits;
    // Of ten million flows a handful finds both buckets full (core/flow_table.h), and a short run
    // may meet them more than once in a hundred thousand packets.
    constexpr std::uint64_t kMissesMin = 32;
    if (!options.is_miss && misses > std::max(packets / 100'000, kMissesMin)) {
      fail(std::to_string(misses) + " of " + std::to_string(packets) + " packets missed");
    }
  }
  std::printf("%llu %llu %.2f\n", static_cast<unsigned long long>(packets),
              static_cast<unsigned long long>(cycles),
              static_cast<double>(cycles) / static_cast<double>(packets));
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) { millrace::bench::measure(millrace::bench::parse(argc, argv)); }

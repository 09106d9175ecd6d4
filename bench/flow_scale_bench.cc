// SPDX-License-Identifier: Apache-2.0
//
// A flow table of a hundred million flows: what it takes, whether all of them find a place, what a
// packet costs among them, and what the sweep does to forwarding.
//
//   flow_scale_bench FLOWS CAPACITY SECONDS    prints one line of JSON
//
// Three arms of one run, on one worker's flow table:
//   frames  headers of a random flow are written into 32 frames, and no more
//   still   they are balanced as well
//   sweep   and every 32 us the worker does its housekeeping (worker/housekeeping.h): sweep,
//           counters, config
//
// Net cost per packet is the difference to the first. Memory: huge pages as far as there are free
// ones; CAPACITY 105000000 needs 4237 of 2 MiB (`bench/run --full` reserves them for the while).
#include <time.h>
#include <x86intrin.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/balancer.h"
#include "bench/fatal.h"
#include "dataplane/os/clock.h"
#include "dataplane/worker/config_exchange.h"
#include "dataplane/worker/housekeeping.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kBurstsPerStep = 1024;

struct Options {
  std::uint32_t flows = 0;
  std::uint32_t capacity = 0;
  double seconds = 1;
};

Options parse(int argc, char** argv) {
  if (argc != 4) fail("usage: flow_scale_bench FLOWS CAPACITY SECONDS");
  const Options options{.flows = static_cast<std::uint32_t>(std::strtoul(argv[1], nullptr, 10)),
                        .capacity = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10)),
                        .seconds = std::strtod(argv[3], nullptr)};
  if (options.flows == 0 || options.flows > options.capacity) fail("FLOWS: 1 to CAPACITY");
  return options;
}

struct Arm {
  std::uint64_t packets = 0;
  std::uint64_t cycles = 0;
  std::uint64_t house_cycles = 0;
  [[nodiscard]] double cycles_per_packet() const {
    return static_cast<double>(cycles) / static_cast<double>(packets);
  }
};

class Node {
 public:
  explicit Node(const Options& options)
      : options_(options),
        balancer_(options.flows, shape_of(true, MR_PROTOCOL_TCP, MR_TCP_ACK), MR_FORWARDING_NAT,
                  options.capacity),
        configs_(1),
        housekeeping_({.worker = 0,
                       .forwarder = &balancer_.forwarder(),
                       .configs = &configs_,
                       .local_traffic = nullptr,
                       .counters = &balancer_.worker_stats(),
                       .published = &published_}),
        frames_(core::kBurstMax * Balancer::kFrameRoom),
        order_(options.flows) {
    configs_.publish({.view = balancer_.config(), .segment = nullptr});
  }

  // Nanoseconds per flow. Afterwards packets of refused ones try again and are counted again.
  double open_flows() {
    const std::uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    balancer_.open_flows();
    return static_cast<double>(clock_ns(CLOCK_MONOTONIC) - began_ns) / options_.flows;
  }

  template <typename Step>
  Arm measure(Step step) {
    Arm arm;
    const std::uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    const auto limit_ns = static_cast<std::uint64_t>(options_.seconds * 1e9);
    while (clock_ns(CLOCK_MONOTONIC) - began_ns < limit_ns) {
      const std::uint64_t start = __rdtsc();
      // Like a worker, all arms look at the clock with every burst.
      for (std::uint32_t i = 0; i < kBurstsPerStep; ++i)
        step(arm, clock_ns(CLOCK_MONOTONIC) - began_ns);
      arm.cycles += __rdtsc() - start;
      arm.packets += std::uint64_t{kBurstsPerStep} * core::kBurstMax;
    }
    return arm;
  }
  Arm frames() {
    return measure([this](Arm&, std::uint64_t) { write(); });
  }
  Arm still() {
    return measure([this](Arm&, std::uint64_t) {
      write();
      balancer_.process(burst_);
    });
  }
  // The sweep's clock runs from the packets' fixed moment on, so that flows get no older than the
  // run is long: all of them stay.
  Arm sweep() {
    return measure([this](Arm& arm, std::uint64_t elapsed_ns) {
      write();
      balancer_.process(burst_);
      if (!housekeeping_.is_due(kNowNs + elapsed_ns)) return;
      const std::uint64_t start = __rdtsc();
      (void)housekeeping_.run(kNowNs + elapsed_ns);
      arm.house_cycles += __rdtsc() - start;
    });
  }

  [[nodiscard]] const Balancer& balancer() const { return balancer_; }

 private:
  void write() {
    for (std::uint32_t i = 0; i < core::kBurstMax; ++i) {
      std::uint8_t* frame = frames_.data() + i * Balancer::kFrameRoom + Balancer::kFrameHeadroom;
      balancer_.writer().write(frame, order_.next());
      burst_.packets[i] = balancer_.packet_at(frame);
    }
    burst_.count = core::kBurstMax;
  }

  Options options_;
  Balancer balancer_;
  worker::ConfigExchange configs_;
  mr_worker_stats published_{};
  worker::Housekeeping housekeeping_;
  std::vector<std::uint8_t> frames_;
  core::Burst burst_;
  FlowOrder order_;
};

void run(const Options& options) {
  Node node(options);
  const double open_ns = node.open_flows();
  const Balancer& balancer = node.balancer();
  const std::uint64_t refused = balancer.counter(MR_COUNTER_INSERT_REFUSED);
  if (balancer.counter(MR_COUNTER_FLOW_INSERTED) + refused != options.flows) {
    fail("not every flow was opened");
  }
  const Arm frames = node.frames();
  const Arm still = node.still();
  const Arm sweep = node.sweep();
  if (balancer.counter(MR_COUNTER_FLOW_REMOVED) != 0) fail("a flow went away");
  const double net = still.cycles_per_packet() - frames.cycles_per_packet();
  const double net_sweep = sweep.cycles_per_packet() - frames.cycles_per_packet();
  std::printf(
      "{\"memory\": \"%s\", \"bytes\": %llu, \"open_ns\": %.1f, \"refused_share\": %.3g, "
      "\"net\": %.2f, \"net_sweep\": %.2f, \"house_share\": %.4f}\n",
      balancer.memory_kind(), static_cast<unsigned long long>(balancer.memory_bytes()), open_ns,
      static_cast<double>(refused) / options.flows, net, net_sweep,
      static_cast<double>(sweep.house_cycles) / static_cast<double>(sweep.cycles));
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) { millrace::bench::run(millrace::bench::parse(argc, argv)); }

// SPDX-License-Identifier: Apache-2.0
//
// What a second worker on a second CPU adds.
//
//   workers_bench ARM FLOWS SECONDS CPUS    prints: packets_per_second usual_cycles_per_packet
//     ARM   one    the only worker of its engine: it looks for no owner
//           alone  one of two workers; the other does nothing
//           two    two workers, each receives the packets of its own flows
//           null   as one, on a device that makes packets
//           half   two workers on such devices, each receives half of the other's: every second
//                  packet is handed over
//     CPUS  of the workers, as in 1,0; the first is that of a single one
//
// The flows are the same in all arms, TCP over IPv4 to one listener. A worker has a device, a flow
// table and a list of its flows in random order. Cycles are those of one worker per packet, in the
// median quarter of a millisecond of each: with two workers no CPU is left for anything else, and
// whatever runs there for a while is in packets per second.
//
// Ring devices deliver what was sent into them. Where packets change hands, one worker would end up
// with all frames and the other with none to receive: hence the devices that make and free them.
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/fatal.h"
#include "bench/worker_loop.h"
#include "dataplane/core/steering.h"
#include "dataplane/dpdk/eal.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kMbufs = 4095;
constexpr std::uint32_t kOwners = 2;
constexpr std::uint32_t kSliceTurns = 256;  // 8192 packets, about a quarter of a millisecond
constexpr std::size_t kSlicesMax = 1u << 20;

struct Options {
  std::string arm;
  std::uint32_t flows = 0;
  double seconds = 1;
  std::vector<std::uint32_t> cpus;

  [[nodiscard]] std::uint32_t worker_count() const { return arm == "two" || arm == "half" ? 2 : 1; }
  [[nodiscard]] bool is_only_worker() const { return arm == "one" || arm == "null"; }
  [[nodiscard]] bool makes_packets() const { return arm == "null" || arm == "half"; }
};

Options parse(int argc, char** argv) {
  if (argc != 5) fail("usage: workers_bench one|alone|two|null|half FLOWS SECONDS CPU,CPU");
  Options options{.arm = argv[1],
                  .flows = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10)),
                  .seconds = std::strtod(argv[3], nullptr),
                  .cpus = {}};
  char* at = argv[4];
  while (*at != 0) {
    options.cpus.push_back(static_cast<std::uint32_t>(std::strtoul(at, &at, 10)));
    at += *at == ',' ? 1 : 0;
  }
  if (options.cpus.size() < options.worker_count()) fail("CPUS: too few");
  return options;
}

using FlowList = std::vector<std::uint32_t>;

// By owner when there are two workers; each in random order, so that caches gain nothing from it.
std::vector<FlowList> flows_by_owner(const Options& options) {
  const FlowShape shape = shape_of(true, MR_PROTOCOL_TCP, MR_TCP_ACK);
  const FrameWriter writer(shape);
  std::vector<FlowList> lists(kOwners);
  std::vector<std::uint8_t> frame(Balancer::kFrameRoom);
  for (std::uint32_t flow = 0; flow < options.flows; ++flow) {
    writer.write(frame.data(), flow);
    core::Parsed parsed{};
    core::parse(
        {.data = frame.data(), .length = writer.length(), .headroom = 0, .nic = 0, .reserved = 0},
        parsed);
    const core::ClientKey client{parsed.source, parsed.source_port_protocol};
    lists[core::owner_of(client, kOwners)].push_back(flow);
  }
  if (options.is_only_worker()) {
    lists[0].insert(lists[0].end(), lists[1].begin(), lists[1].end());
    lists.resize(1);
  }
  std::mt19937 random(1);
  for (FlowList& list : lists) std::ranges::shuffle(list, random);
  return lists;
}

// Goes round a list.
class Round {
 public:
  explicit Round(const FlowList& list) : list_(list) {}
  [[nodiscard]] std::uint32_t next() {
    const std::uint32_t flow = list_[at_];
    at_ = at_ + 1 < list_.size() ? at_ + 1 : 0;
    return flow;
  }

 private:
  const FlowList& list_;
  std::size_t at_ = 0;
};

struct Rate {
  double packets_per_second = 0;
  double usual_cycles_per_packet = 0;
};

class MeasuredWorker {
 public:
  MeasuredWorker(std::uint32_t index, const std::vector<FlowList>& lists, dpdk::Nic& nic,
                 worker::HandoverRings* rings)
      : balancer_(static_cast<std::uint32_t>(lists[index].size()),
                  shape_of(true, MR_PROTOCOL_TCP, MR_TCP_ACK), MR_FORWARDING_NAT),
        own_(lists[index]),
        others_(lists[lists.size() - 1 - index]),
        flow_count_(lists[index].size()) {
    if (rings != nullptr) handover_.emplace(*rings, index, balancer_.worker_stats());
    WorkerLoop::Options options;
    if (handover_) {
      options.ownership = {.worker = index, .worker_count = kOwners};
      options.handover = &*handover_;
    }
    loop_.emplace(options, balancer_, nic);
  }

  // On the worker's own thread: opens its flows, waits for `go`, measures until `stop`.
  void run(bool gets_others, std::atomic<std::uint32_t>& ready, const std::atomic<bool>& go,
           const std::atomic<bool>& stop) {
    for (std::size_t opened = 0; opened < flow_count_;) {
      opened += loop_->turn([this] { return own_.next(); });
    }
    ready.fetch_add(1);
    while (!go.load(std::memory_order_relaxed)) {
    }
    timespec began{};
    timespec ended{};
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    const std::uint64_t before = forwarded();
    if (gets_others) {
      bool is_others = false;
      receive(stop, [&] {
        is_others = !is_others;
        return is_others ? others_.next() : own_.next();
      });
    } else {
      receive(stop, [this] { return own_.next(); });
    }
    const std::uint64_t packets = forwarded() - before;
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    const double seconds = static_cast<double>(ended.tv_sec - began.tv_sec) +
                           static_cast<double>(ended.tv_nsec - began.tv_nsec) / 1e9;
    const auto middle = slices_.begin() + static_cast<std::ptrdiff_t>(slices_.size() / 2);
    std::ranges::nth_element(slices_, middle);
    rate_ = {.packets_per_second = static_cast<double>(packets) / seconds,
             .usual_cycles_per_packet = *middle};
  }
  [[nodiscard]] const Rate& rate() const { return rate_; }

  // Every packet found its flow, and as many were handed over as should have been.
  void check(bool gets_others) const {
    const auto count = [this](mr_counter counter) { return balancer_.counter(counter); };
    if (count(MR_COUNTER_FLOW_INSERTED) != flow_count_) fail("a worker has others' flows");
    const std::uint64_t out = count(MR_COUNTER_HANDOVER_OUT);
    if ((out != 0) != gets_others) fail("packets were handed over that should not have been");
  }

 private:
  [[nodiscard]] std::uint64_t forwarded() const {
    return balancer_.counter(MR_COUNTER_FORWARDED_PACKETS);
  }

  // At least one slice.
  template <typename NextFlow>
  void receive(const std::atomic<bool>& stop, NextFlow next_flow) {
    slices_.reserve(kSlicesMax);
    do {
      const std::uint64_t start = __rdtsc();
      const std::uint64_t before = forwarded();
      for (std::uint32_t turn = 0; turn < kSliceTurns; ++turn) (void)loop_->turn(next_flow);
      const auto cycles = static_cast<double>(__rdtsc() - start);
      const std::uint64_t packets = forwarded() - before;
      if (packets != 0 && slices_.size() < kSlicesMax) {
        slices_.push_back(cycles / static_cast<double>(packets));
      }
    } while (!stop.load(std::memory_order_relaxed) || slices_.empty());
  }

  Balancer balancer_;
  std::optional<worker::Handover> handover_;
  std::optional<WorkerLoop> loop_;
  Round own_;
  Round others_;
  std::size_t flow_count_;
  std::vector<double> slices_;  // cycles per packet
  Rate rate_;
};

void measure(const Options& options) {
  const std::uint32_t count = options.worker_count();
  std::vector<std::uint32_t> cpus(options.cpus.begin(), options.cpus.begin() + count);
  dpdk::Eal eal = take(dpdk::Eal::init({.main_cpu = options.cpus.back(),
                                        .worker_cpus = cpus,
                                        .use_pci = false,
                                        .memory_bytes = dpdk::MbufPool::bytes_for(kMbufs),
                                        .extra = {}}));
  const dpdk::MbufPool pool = take(dpdk::MbufPool::create("bench", kMbufs));
  std::optional<worker::HandoverRings> rings;
  if (!options.is_only_worker()) rings.emplace(take(worker::HandoverRings::create(kOwners)));
  const std::vector<FlowList> lists = flows_by_owner(options);
  std::vector<std::unique_ptr<dpdk::Nic>> nics;
  std::vector<std::unique_ptr<MeasuredWorker>> workers;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    nics.push_back(take(dpdk::Nic::open(
        {.device = options.makes_packets() ? "net_null" + number + ",size=64" : "net_ring" + number,
         .index = 0,
         .queue_count = 1,
         .worker_count = 1},
        pool)));
    if (!options.makes_packets()) fill_ring(*nics.back(), pool, 60);
    workers.push_back(
        std::make_unique<MeasuredWorker>(i, lists, *nics.back(), rings ? &*rings : nullptr));
  }
  const bool gets_others = options.arm == "half";
  std::atomic<std::uint32_t> ready{0};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  std::vector<std::function<void()>> work;
  work.reserve(workers.size());
  for (const auto& worker : workers) {
    work.emplace_back(
        [&, measured = worker.get()] { measured->run(gets_others, ready, go, stop); });
  }
  const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
  for (std::uint32_t i = 0; i < count; ++i) {
    if (Status launched = eal.launch(i, work[i]); !launched) fail(launched.error().message);
  }
  while (ready.load() != count) (void)::nanosleep(&pause, nullptr);
  go.store(true);
  const auto whole = static_cast<time_t>(options.seconds);
  const timespec length{
      .tv_sec = whole,
      .tv_nsec = static_cast<long>((options.seconds - static_cast<double>(whole)) * 1e9)};
  (void)::nanosleep(&length, nullptr);
  stop.store(true);
  eal.wait_for_workers();
  Rate sum;
  for (const auto& worker : workers) {
    worker->check(gets_others);
    sum.packets_per_second += worker->rate().packets_per_second;
    sum.usual_cycles_per_packet += worker->rate().usual_cycles_per_packet / count;
  }
  std::printf("%.0f %.2f\n", sum.packets_per_second, sum.usual_cycles_per_packet);
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) { millrace::bench::measure(millrace::bench::parse(argc, argv)); }

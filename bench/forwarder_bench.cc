// SPDX-License-Identifier: Apache-2.0
//
// What the packet path costs: net TSC cycles per packet of Forwarder::process_burst().
//
// Both arms write the headers of the next flow (in pseudo-random order) into 32 frames; the second
// then balances them. The difference is the balancer's own cost, without any driver:
//   frames/...      the arm without balancing
//   forward/...     hit: every flow is known
//   miss/...        every packet opens a flow, which is then forgotten again outside the clock
// Read the column `net_cycles` of bench/run, which subtracts the two arms of the same run.
#include <benchmark/benchmark.h>
#include <x86intrin.h>

#include <memory>
#include <vector>

#include "bench/memory.h"
#include "bench/traffic.h"
#include "dataplane/core/forwarder.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kFrameRoom = 256;
constexpr std::uint32_t kTargets = 100;
constexpr std::uint64_t kNowNs = std::uint64_t{1000} << 30;

// A balancer with one listener, 100 targets and room for `flows`, and a burst to feed it with.
class Bench {
 public:
  Bench(std::uint32_t flows, const FlowShape& shape, std::uint8_t forwarding)
      : flow_count_(flows),
        memory_(core::FlowTable::bytes_for(capacity_for(flows))),
        table_(core::FlowTable::format(
            memory_.span(), {.capacity = capacity_for(flows),
                             .worker_index = 0,
                             .worker_count = 1,
                             .secret = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0,
                                        0x082efa98ec4e6c89},
                             .created_ns = 1,
                             .creator_pid = 1})),
        writer_(shape),
        image_(make_image(shape, forwarding)),
        frames_(core::kBurstMax * kFrameRoom) {
    listener_stats_.resize(16);
    target_stats_.resize(256);
    forwarder_ = std::make_unique<core::Forwarder>(core::Forwarder::Options{
        .flow_table = &table_,
        .nic_macs = macs_,
        .counters = {.worker = &worker_stats_,
                     .listeners = listener_stats_,
                     .targets = target_stats_},
        .flow_inserts_per_ms = 0xffffffffu,
    });
    forwarder_->adopt(image_.view());
  }

  void fill(std::uint32_t flow_first, std::uint32_t flow_end) {
    for (std::uint32_t flow = flow_first; flow < flow_end; flow += core::kBurstMax) {
      for (std::uint32_t i = 0; i < core::kBurstMax; ++i)
        place(i, std::min(flow + i, flow_end - 1));
      burst_.count = core::kBurstMax;
      forwarder_->process_burst(burst_, kNowNs);
    }
  }

  void write_frames(FlowOrder& order) {
    for (std::uint32_t i = 0; i < core::kBurstMax; ++i) place(i, order.next());
    burst_.count = core::kBurstMax;
  }
  void process() { forwarder_->process_burst(burst_, kNowNs); }
  [[nodiscard]] core::Burst& burst() { return burst_; }
  [[nodiscard]] const mr_worker_stats& stats() const { return worker_stats_; }
  [[nodiscard]] std::uint32_t flow_count() const { return flow_count_; }
  [[nodiscard]] const char* memory_kind() const { return memory_.kind(); }

 private:
  // Half again as many records as flows: a table at 2/3, as one that is well used.
  static std::uint32_t capacity_for(std::uint32_t flows) {
    return std::max(flows + flows / 2, 4096u);
  }

  static test::Image make_image(const FlowShape& shape, std::uint8_t forwarding) {
    test::ImageBuilder builder;
    const std::uint32_t group =
        builder.add_group({.forwarding = forwarding, .table_slots = MR_LOOKUP_SLOTS_DEFAULT});
    const bool is_v4 = core::is_v4(shape.vip);
    for (std::uint32_t i = 0; i < kTargets; ++i) {
      const std::string addr = (is_v4 ? "10.1.0." : "2001:db8:1::") + std::to_string(i + 1);
      builder.add_target({.group_slot = group,
                          .addr = test::addr_of(addr),
                          .port = 8080,
                          .protocol = shape.protocol});
    }
    builder.add_listener({.vip_addr = shape.vip,
                          .port = shape.port,
                          .protocol = shape.protocol,
                          .group_slot = group});
    return builder.build(1);
  }

  void place(std::uint32_t i, std::uint32_t flow) {
    std::uint8_t* frame = frames_.data() + std::size_t{i} * kFrameRoom;
    writer_.write(frame, flow);
    burst_.packets[i] = {
        .data = frame, .length = writer_.length(), .headroom = 0, .nic = 0, .reserved = 0};
  }

  std::uint32_t flow_count_;
  HugeMemory memory_;
  core::FlowTable table_;
  FrameWriter writer_;
  test::Image image_;
  std::vector<std::uint8_t> frames_;
  std::array<core::MacAddr, 1> macs_{core::MacAddr{{2, 0, 0, 0, 0, 0}}};
  mr_worker_stats worker_stats_{};
  std::vector<mr_listener_stats> listener_stats_;
  std::vector<mr_target_stats> target_stats_;
  std::unique_ptr<core::Forwarder> forwarder_;
  core::Burst burst_;
};

FlowShape shape_of(bool is_v4, std::uint8_t protocol, std::uint8_t tcp_flags) {
  return {.vip = test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10"),
          .port = 80,
          .protocol = protocol,
          .tcp_flags = tcp_flags};
}

void report(benchmark::State& state, std::uint64_t cycles, const Bench& bench) {
  const double packets = static_cast<double>(state.iterations()) * core::kBurstMax;
  state.counters["cycles_per_packet"] = static_cast<double>(cycles) / packets;
  state.SetItemsProcessed(state.iterations() * core::kBurstMax);
  state.SetLabel(bench.memory_kind());
}

void frames(benchmark::State& state, bool is_v4) {
  Bench bench(static_cast<std::uint32_t>(state.range(0)),
              shape_of(is_v4, MR_PROTOCOL_TCP, core::tcp::kAck), MR_FORWARDING_NAT);
  FlowOrder order(bench.flow_count());
  const std::uint64_t start = __rdtsc();
  for (auto _ : state) {
    bench.write_frames(order);
    benchmark::ClobberMemory();
  }
  report(state, __rdtsc() - start, bench);
}

void forward(benchmark::State& state, bool is_v4, std::uint8_t protocol, std::uint8_t forwarding) {
  Bench bench(static_cast<std::uint32_t>(state.range(0)),
              shape_of(is_v4, protocol, core::tcp::kAck), forwarding);
  bench.fill(0, bench.flow_count());
  FlowOrder order(bench.flow_count());
  const std::uint64_t hits_before = bench.stats().counters[MR_COUNTER_FLOW_HITS];
  const std::uint64_t start = __rdtsc();
  for (auto _ : state) {
    bench.write_frames(order);
    bench.process();
    benchmark::ClobberMemory();
  }
  report(state, __rdtsc() - start, bench);
  const std::uint64_t hits = bench.stats().counters[MR_COUNTER_FLOW_HITS] - hits_before;
  if (hits != static_cast<std::uint64_t>(state.iterations()) * core::kBurstMax) {
    state.SkipWithError("not every packet hit its flow");
  }
}

void miss(benchmark::State& state, bool is_v4) {
  const auto flows = static_cast<std::uint32_t>(state.range(0));
  auto bench = std::make_unique<Bench>(flows, shape_of(is_v4, MR_PROTOCOL_TCP, core::tcp::kSyn),
                                       MR_FORWARDING_NAT);
  FlowOrder order(flows);
  std::uint32_t left = flows;
  std::uint64_t cycles = 0;
  for (auto _ : state) {
    if (left < core::kBurstMax) {
      state.PauseTiming();
      bench.reset();
      bench = std::make_unique<Bench>(flows, shape_of(is_v4, MR_PROTOCOL_TCP, core::tcp::kSyn),
                                      MR_FORWARDING_NAT);
      order = FlowOrder(flows);
      left = flows;
      state.ResumeTiming();
    }
    const std::uint64_t start = __rdtsc();
    bench->write_frames(order);
    bench->process();
    benchmark::ClobberMemory();
    cycles += __rdtsc() - start;
    left -= core::kBurstMax;
  }
  report(state, cycles, *bench);
}

constexpr std::int64_t kFlowCounts[] = {1, 1'000, 100'000, 1'000'000, 10'000'000};

void register_all() {
  const auto add = [](const std::string& name, auto function,
                      std::span<const std::int64_t> counts) {
    auto* bench = benchmark::RegisterBenchmark(name.c_str(), function);
    for (const std::int64_t count : counts) bench->Arg(count);
  };
  const std::span all = kFlowCounts;
  add(
      "frames/ipv4", [](auto& s) { frames(s, true); }, all);
  add(
      "frames/ipv6", [](auto& s) { frames(s, false); }, all);
  add(
      "forward/ipv4/tcp/nat", [](auto& s) { forward(s, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT); },
      all);
  add(
      "forward/ipv6/tcp/nat",
      [](auto& s) { forward(s, false, MR_PROTOCOL_TCP, MR_FORWARDING_NAT); }, all);
  add(
      "forward/ipv4/udp/nat", [](auto& s) { forward(s, true, MR_PROTOCOL_UDP, MR_FORWARDING_NAT); },
      all);
  add(
      "forward/ipv4/tcp/dsr", [](auto& s) { forward(s, true, MR_PROTOCOL_TCP, MR_FORWARDING_DSR); },
      all);
  add(
      "miss/ipv4/tcp/nat", [](auto& s) { miss(s, true); }, all.subspan(2, 2));
  add(
      "miss/ipv6/tcp/nat", [](auto& s) { miss(s, false); }, all.subspan(2, 2));
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) {
  millrace::bench::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

// SPDX-License-Identifier: Apache-2.0
//
// What the packet path itself costs, without a driver: TSC cycles per packet of process_burst().
//
// Both arms write the headers of the next flow (in pseudo-random order) into 32 frames; the second
// then balances them. Net is the difference of two arms of the same run:
//   frames/...     the arm without balancing
//   forward/...    hit: every flow is known
//   miss/...       every packet opens a flow
// bench/run puts this beside the whole worker (worker_bench) and dpdk-testpmd.
#include <benchmark/benchmark.h>
#include <x86intrin.h>

#include <memory>
#include <vector>

#include "bench/balancer.h"

namespace millrace::bench {
namespace {

class Frames {
 public:
  explicit Frames(const FrameWriter& writer)
      : writer_(writer), memory_(core::kBurstMax * Balancer::kFrameRoom) {}

  void write(const Balancer& balancer, FlowOrder& order) {
    for (std::uint32_t i = 0; i < core::kBurstMax; ++i) {
      std::uint8_t* frame = memory_.data() + i * Balancer::kFrameRoom + Balancer::kFrameHeadroom;
      writer_.write(frame, order.next());
      burst_.packets[i] = balancer.packet_at(frame);
    }
    burst_.count = core::kBurstMax;
  }
  [[nodiscard]] core::Burst& burst() { return burst_; }

 private:
  const FrameWriter& writer_;
  std::vector<std::uint8_t> memory_;
  core::Burst burst_;
};

void report(benchmark::State& state, std::uint64_t cycles, const char* memory_kind) {
  const double packets = static_cast<double>(state.iterations()) * core::kBurstMax;
  state.counters["cycles_per_packet"] = static_cast<double>(cycles) / packets;
  state.SetLabel(memory_kind);
}

void frames(benchmark::State& state, bool is_v4) {
  Balancer balancer(static_cast<std::uint32_t>(state.range(0)),
                    shape_of(is_v4, MR_PROTOCOL_TCP, MR_TCP_ACK), MR_FORWARDING_NAT);
  Frames frames(balancer.writer());
  FlowOrder order(balancer.flow_count());
  const std::uint64_t start = __rdtsc();
  for (auto _ : state) {
    frames.write(balancer, order);
    benchmark::ClobberMemory();
  }
  report(state, __rdtsc() - start, balancer.memory_kind());
}

void forward(benchmark::State& state, bool is_v4, std::uint8_t protocol, std::uint8_t forwarding,
             std::uint32_t listeners = 1) {
  FlowShape shape = shape_of(is_v4, protocol, MR_TCP_ACK);
  shape.listeners = listeners;
  Balancer balancer(static_cast<std::uint32_t>(state.range(0)), shape, forwarding);
  balancer.open_flows();
  Frames frames(balancer.writer());
  FlowOrder order(balancer.flow_count());
  const std::uint64_t hits_before = balancer.counter(MR_COUNTER_FLOW_HITS);
  const std::uint64_t start = __rdtsc();
  for (auto _ : state) {
    frames.write(balancer, order);
    balancer.process(frames.burst());
    benchmark::ClobberMemory();
  }
  report(state, __rdtsc() - start, balancer.memory_kind());
  const std::uint64_t hits = balancer.counter(MR_COUNTER_FLOW_HITS) - hits_before;
  const auto packets = static_cast<std::uint64_t>(state.iterations()) * core::kBurstMax;
  // Of ten million flows a handful finds both buckets full (core/flow_table.h).
  if (packets - hits > packets / 100'000) {
    state.SkipWithError("not every packet hit its flow");
  }
}

void miss(benchmark::State& state, bool is_v4) {
  const auto flows = static_cast<std::uint32_t>(state.range(0));
  const FlowShape shape = shape_of(is_v4, MR_PROTOCOL_TCP, MR_TCP_ACK);
  auto balancer = std::make_unique<Balancer>(flows, shape, MR_FORWARDING_NAT);
  FlowOrder order(flows);
  std::uint32_t left = flows;
  std::uint64_t cycles = 0;
  for (auto _ : state) {
    if (left < core::kBurstMax) {
      state.PauseTiming();
      balancer.reset();
      balancer = std::make_unique<Balancer>(flows, shape, MR_FORWARDING_NAT);
      order = FlowOrder(flows);
      left = flows;
      state.ResumeTiming();
    }
    Frames frames(balancer->writer());
    const std::uint64_t start = __rdtsc();
    frames.write(*balancer, order);
    balancer->process(frames.burst());
    benchmark::ClobberMemory();
    cycles += __rdtsc() - start;
    left -= core::kBurstMax;
  }
  report(state, cycles, balancer->memory_kind());
}

constexpr std::int64_t kFlowCounts[] = {1, 1'000, 100'000, 1'000'000, 10'000'000};

void register_all() {
  const auto add = [](const char* name, auto function, std::span<const std::int64_t> counts) {
    auto* bench = benchmark::RegisterBenchmark(name, function);
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
      "forward/ipv4/tcp/nat/2-listeners",
      [](auto& s) { forward(s, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, 2); }, all);
  add(
      "forward/ipv4/tcp/nat/1024-listeners",
      [](auto& s) { forward(s, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, 1024); }, all);
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
      "forward/ipv4/tcp/ipip",
      [](auto& s) { forward(s, true, MR_PROTOCOL_TCP, MR_FORWARDING_IPIP); }, all);
  add(
      "forward/ipv6/tcp/gue",
      [](auto& s) { forward(s, false, MR_PROTOCOL_TCP, MR_FORWARDING_GUE); }, all);
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

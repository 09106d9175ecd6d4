// SPDX-License-Identifier: Apache-2.0
//
// What the XDP engine's program costs per packet: nanoseconds, net of the wrapper that makes the
// packets, and how many instructions it executes.
//
//   xdp_bench [RUNS] [PACKETS] [CASE]     one JSON line per case whose name has CASE in it
//
// Each figure is the least of RUNS (11) runs of PACKETS (1 M) packets: what others on the machine
// add is never negative. The arm that only drops takes turns with the other.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// The skeleton names the structs of both without declaring them.
#include "bench/xdp/xdp_bench_abi.h"
#include "dataplane/contract/xdp_abi.h"
// clang-format off
#include <xdp_bench.skel.h>
// clang-format on

#include "bench/traffic.h"
#include "tests/support/bpf/xdp_program.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kTargets = 100;
constexpr std::uint32_t kRecords = 1u << 21;
constexpr std::uint32_t kLoopback = 1;
constexpr std::size_t kFrameRoom = 256;

struct Case {
  const char* name;
  std::uint8_t forwarding;
  bool is_v4;
  std::uint8_t protocol;
  std::uint32_t flows;
  bool is_new;  // every packet opens a flow
};

class Bench {
 public:
  Bench()
      : program_({.object = object(),
                  .flow_count = kRecords,
                  .config_lines = 1u << 14,
                  .slot_count = 1024,
                  .is_under_test = false}),
        bench_(program_.globals<mr_xdp_bench>(".data.bench")) {}

  void set_up(const Case& chosen) {
    program_.reset();
    program_.maps().control->ns_per_jiffy = 4'000'000;  // roughly will do: nothing is to expire
    program_.maps().control->flow_inserts_per_ms = 0xffffffffu;
    const std::uint8_t mac[6] = {2, 0, 0, 0, 0, 0};
    program_.set_nic(0, mac, kLoopback);
    test::ImageBuilder builder;
    const std::string vip = chosen.is_v4 ? "203.0.113.10" : "2001:db8:113::10";
    const auto group = builder.add_group(
        {.forwarding = chosen.forwarding, .table_slots = MR_LOOKUP_SLOTS_DEFAULT});
    for (std::uint32_t i = 0; i < kTargets; ++i) {
      const std::string addr =
          (chosen.is_v4 ? "172.31.1." : "2001:db8:1::") + std::to_string(i + 1);
      static_cast<void>(builder.add_target({.group_slot = group,
                                            .addr = test::addr_of(addr),
                                            .port = 8080,
                                            .protocol = chosen.protocol}));
    }
    static_cast<void>(builder.add_listener({.vip_addr = test::addr_of(vip),
                                            .port = 80,
                                            .protocol = chosen.protocol,
                                            .group_slot = group}));
    builder.set_encap_source(test::addr_of(chosen.is_v4 ? "192.0.2.1" : "2001:db8:2::1"));
    image_ = builder.build(1);
    program_.adopt(image_.view());
    describe_frame(chosen, vip);
    if (!chosen.is_new) fill(chosen.flows);
  }

  // Nanoseconds per packet, balanced and only dropped.
  double balance(std::uint32_t packets) { return run("xdp_bench_balance", packets); }
  double drop(std::uint32_t packets) { return run("xdp_bench_drop", packets); }

  void forget_flows() {
    std::ranges::fill(std::as_writable_bytes(program_.maps().flows), std::byte{0});
  }
  [[nodiscard]] std::uint64_t forwarded() const { return bench_->forwarded; }
  [[nodiscard]] std::uint64_t counter(mr_counter counter) const {
    std::uint64_t sum = 0;
    for (const mr_xdp_cpu& cpu : program_.maps().cpus) sum += cpu.stats.counters[counter];
    return sum;
  }

 private:
  double run(const char* program, std::uint32_t packets) {
    return program_.run(program, frame_, packets, false).duration_ns;
  }

  static std::span<const std::byte> object() {
    std::size_t bytes = 0;
    const void* elf = xdp_bench__elf_bytes(&bytes);
    return {static_cast<const std::byte*>(elf), bytes};
  }

  void describe_frame(const Case& chosen, const std::string& vip) {
    const FrameWriter writer(
        {.vip = test::addr_of(vip),
         .port = 80,
         .protocol = chosen.protocol,
         .tcp_flags = static_cast<std::uint8_t>(chosen.is_new ? MR_TCP_SYN : MR_TCP_ACK)});
    frame_.assign(kFrameRoom, 0);  // what the writer copies
    writer.write(frame_.data(), 0);
    frame_.resize(std::max<std::size_t>(writer.length(), sizeof(bench_->headers)));
    // Without padding, which encapsulation would cut off: the rest is payload.
    const auto ip_bytes = static_cast<std::uint16_t>(frame_.size() - MR_ETH_BYTES);
    std::uint8_t* header = frame_.data() + MR_ETH_BYTES;
    const std::uint32_t header_bytes = chosen.is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
    const auto l4_bytes = static_cast<std::uint16_t>(ip_bytes - header_bytes);
    core::store(header + (chosen.is_v4 ? MR_IPV4_TOTAL_LENGTH : MR_IPV6_PAYLOAD_LENGTH),
                core::to_be16(chosen.is_v4 ? ip_bytes : l4_bytes));
    if (chosen.protocol == MR_PROTOCOL_UDP) {
      core::store(header + header_bytes + MR_UDP_LENGTH, core::to_be16(l4_bytes));
    }
    std::memcpy(bench_->headers, frame_.data(), sizeof(bench_->headers));
    bench_->frame_bytes = static_cast<std::uint32_t>(frame_.size());
    bench_->flow_mask = chosen.is_new ? 0xffffffffu : chosen.flows - 1;
    bench_->is_sequential = 0;
    bench_->sequence = 0;
    bench_->is_v4 = chosen.is_v4;
    bench_->client_be = core::to_be32(0x0a000000);
    std::uint8_t ip[MR_IPV4_BYTES];
    std::memcpy(ip, frame_.data() + MR_ETH_BYTES, sizeof(ip));
    std::memset(ip + MR_IPV4_CHECKSUM, 0, 2);
    std::memset(ip + MR_IPV4_SOURCE, 0, 4);
    bench_->ip_sum = mr_fold(core::sum_bytes(ip));
    bench_->forwarded = 0;
  }

  void fill(std::uint32_t flows) {
    bench_->is_sequential = 1;
    static_cast<void>(balance(flows));
    bench_->is_sequential = 0;
    bench_->sequence = 0;
  }

  test::XdpProgram program_;
  mr_xdp_bench* bench_;
  test::Image image_;
  std::vector<std::uint8_t> frame_;
};

struct Figure {
  double least = 1e9;
  std::vector<double> all;
  void add(double value) {
    least = std::min(least, value);
    all.push_back(value);
  }
  [[nodiscard]] double median() {
    std::ranges::sort(all);
    return all[all.size() / 2];
  }
};

void measure(Bench& bench, const Case& chosen, std::uint32_t runs, std::uint32_t packets) {
  bench.set_up(chosen);
  const std::uint64_t before = bench.forwarded();
  Figure whole;
  Figure wrapper;
  for (std::uint32_t i = 0; i < runs; ++i) {
    if (chosen.is_new) bench.forget_flows();
    whole.add(bench.balance(packets));
    wrapper.add(bench.drop(packets));
  }
  const std::uint64_t forwarded = bench.forwarded() - before;
  if (forwarded != std::uint64_t{runs} * packets) {
    std::fprintf(stderr, "%s: only %lu of %lu packets were forwarded\n", chosen.name, forwarded,
                 std::uint64_t{runs} * packets);
    std::exit(1);
  }
  std::string net_runs;  // before the medians sort them
  for (std::uint32_t i = 0; i < runs; ++i) {
    net_runs += (i == 0 ? "" : ", ") + std::to_string(whole.all[i] - wrapper.all[i]);
  }
  std::printf(
      "{\"case\": \"%s\", \"flows\": %u, \"net_runs_ns\": [%s], "
      "\"net_ns\": %.0f, \"net_median_ns\": %.0f, "
      "\"wrapper_ns\": %.0f, \"hits\": %lu, \"inserted\": %lu, \"untracked\": %lu}\n",
      chosen.name, chosen.flows, net_runs.c_str(), whole.least - wrapper.least,
      whole.median() - wrapper.median(), wrapper.least, bench.counter(MR_COUNTER_FLOW_HITS),
      bench.counter(MR_COUNTER_FLOW_INSERTED), bench.counter(MR_COUNTER_UNTRACKED_PACKETS));
  std::fflush(stdout);
}

constexpr std::uint8_t kTcp = MR_PROTOCOL_TCP;
constexpr std::uint8_t kUdp = MR_PROTOCOL_UDP;
constexpr std::uint32_t k64 = 1u << 16;
constexpr std::uint32_t kMillion = 1u << 20;
constexpr Case kCases[] = {
    {"ipip tcp4 hit", MR_FORWARDING_IPIP, true, kTcp, 1, false},
    {"ipip tcp4 hit", MR_FORWARDING_IPIP, true, kTcp, k64, false},
    {"ipip tcp4 hit", MR_FORWARDING_IPIP, true, kTcp, kMillion, false},
    {"ipip udp4 hit", MR_FORWARDING_IPIP, true, kUdp, 1, false},
    {"ipip udp4 hit", MR_FORWARDING_IPIP, true, kUdp, kMillion, false},
    {"ipip tcp6 hit", MR_FORWARDING_IPIP, false, kTcp, 1, false},
    {"ipip tcp6 hit", MR_FORWARDING_IPIP, false, kTcp, kMillion, false},
    {"ipip tcp4 new", MR_FORWARDING_IPIP, true, kTcp, kMillion, true},
    {"gue tcp4 hit", MR_FORWARDING_GUE, true, kTcp, 1, false},
    {"nat tcp4 hit", MR_FORWARDING_NAT, true, kTcp, 1, false},
    {"nat tcp4 hit", MR_FORWARDING_NAT, true, kTcp, k64, false},
    {"nat tcp4 hit", MR_FORWARDING_NAT, true, kTcp, kMillion, false},
    {"nat tcp6 hit", MR_FORWARDING_NAT, false, kTcp, 1, false},
    {"nat tcp6 hit", MR_FORWARDING_NAT, false, kTcp, kMillion, false},
    {"nat tcp4 new", MR_FORWARDING_NAT, true, kTcp, kMillion, true},
    {"dsr tcp4 hit", MR_FORWARDING_DSR, true, kTcp, 1, false},
};

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) {
  using namespace millrace::bench;
  const auto runs = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 11);
  const auto packets = static_cast<std::uint32_t>(argc > 2 ? std::atoi(argv[2]) : 1'000'000);
  if (runs == 0 || packets == 0) {
    std::fprintf(stderr, "usage: xdp_bench [RUNS] [PACKETS] [CASE]\n");
    return 2;
  }
  const std::string_view wanted = argc > 3 ? argv[3] : "";
  Bench bench;
  for (const Case& chosen : kCases) {
    if (std::string_view(chosen.name).find(wanted) == std::string_view::npos) continue;
    measure(bench, chosen, runs, packets);
  }
  return 0;
}

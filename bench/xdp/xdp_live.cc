// SPDX-License-Identifier: Apache-2.0
//
// What a packet costs on its whole way through the kernel with an XDP program on it: live frames
// are sent into one end of a veth, the program at the other end (native mode) has them, and what it
// sends is dropped where it came from. One CPU does all of it. Nanoseconds per packet.
//
//   xdp_live [RUNS] [PACKETS]     one JSON line per case; 5 runs of 1 M, all cases taking turns
//
// Three cases do as good as nothing: drop, swap MAC addresses and send back, the same behind a
// fixed outer header. What ours exceed these by is the balancer. Needs root; the veth is in a
// network namespace that ends with the program.

#include <net/if.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

// The skeleton names the structs of both without declaring them.
#include "bench/xdp/xdp_bench_abi.h"
#include "dataplane/contract/xdp_abi.h"
// clang-format off
#include <xdp_live.skel.h>
// clang-format on

#include "bench/traffic.h"
#include "tests/support/bpf/xdp_program.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kTargets = 100;
constexpr std::uint32_t kRecords = 1u << 18;
constexpr std::uint32_t k64 = 1u << 16;
// Of frames per turn of the sender: what a nic's driver hands over at once.
constexpr std::uint32_t kBurst = 64;
constexpr char kVip[] = "203.0.113.10";

struct Case {
  const char* name;
  const char* program;  // at the far end
  std::uint8_t forwarding;
  std::uint32_t flows;
};

constexpr Case kCases[] = {
    {"drop", "live_drop", MR_FORWARDING_NAT, 1},
    {"mac swap", "live_swap", MR_FORWARDING_NAT, 1},
    {"fixed outer header", "live_encapsulate", MR_FORWARDING_NAT, 1},
    {"nat tcp4 hit", "nlb_xdp", MR_FORWARDING_NAT, 1},
    {"nat tcp4 hit", "nlb_xdp", MR_FORWARDING_NAT, k64},
    {"dsr tcp4 hit", "nlb_xdp", MR_FORWARDING_DSR, 1},
    {"dsr tcp4 hit", "nlb_xdp", MR_FORWARDING_DSR, k64},
    {"ipip tcp4 hit", "nlb_xdp", MR_FORWARDING_IPIP, 1},
    {"ipip tcp4 hit", "nlb_xdp", MR_FORWARDING_IPIP, k64},
};

[[noreturn]] void fail(const std::string& what) {
  const std::string why = std::generic_category().message(errno);
  std::fprintf(stderr, "xdp_live: %s: %s\n", what.c_str(), why.c_str());
  std::exit(1);
}

void run(const std::string& command) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread
  if (std::system(command.c_str()) != 0) fail(command);
}

// Two ends of a veth in a namespace of this process alone.
struct Veth {
  Veth() {
    if (::unshare(CLONE_NEWNET) != 0) fail("a network namespace (it needs root)");
    run("ip link add near numrxqueues 1 numtxqueues 1 type veth "
        "peer name far numrxqueues 1 numtxqueues 1");
    // Without IPv6 addresses the kernel sends nothing of its own.
    for (const char* end : {"near", "far"}) {
      run(std::string("ip link set ") + end + " addrgenmode none up");
    }
    near = ::if_nametoindex("near");
    far = ::if_nametoindex("far");
  }
  std::uint32_t near = 0;
  std::uint32_t far = 0;
};

class LiveBench {
 public:
  LiveBench()
      : program_({.object = object(),
                  .flow_count = kRecords,
                  .config_lines = 1u << 14,
                  .slot_count = 1024,
                  .is_under_test = false}),
        bench_(program_.globals<mr_xdp_bench>(".data.bench")),
        live_(program_.globals<mr_xdp_live>(".data.live")) {
    live_->out_ifindex = veth_.near;
    program_.attach("live_drop", veth_.near);
  }

  // Nanoseconds per packet of a run.
  double measure(const Case& chosen, std::uint32_t packets) {
    set_up(chosen);
    program_.attach(chosen.program, veth_.far);
    bench_->is_sequential = 1;  // opens the flows
    (void)program_.run_live("live_send", frame_, std::max(chosen.flows, kBurst), kBurst);
    bench_->is_sequential = 0;
    const std::uint64_t before = live_->arrived;
    const double packet_ns = program_.run_live("live_send", frame_, packets, kBurst);
    const std::uint64_t arrived = live_->arrived - before;
    // Where another program has the CPU at the wrong moment, a ring may overflow.
    if (arrived < packets - packets / 100) {
      std::fprintf(stderr, "xdp_live: %s: %lu of %u packets arrived\n", chosen.name, arrived,
                   packets);
      std::exit(1);
    }
    return packet_ns;
  }

  [[nodiscard]] std::uint64_t flow_hits() const {
    std::uint64_t sum = 0;
    for (const mr_xdp_cpu& cpu : program_.maps().cpus) {
      sum += cpu.stats.counters[MR_COUNTER_FLOW_HITS];
    }
    return sum;
  }

 private:
  static std::span<const std::byte> object() {
    std::size_t bytes = 0;
    const void* elf = xdp_live__elf_bytes(&bytes);
    return {static_cast<const std::byte*>(elf), bytes};
  }

  void set_up(const Case& chosen) {
    program_.reset();
    program_.maps().control->ns_per_jiffy = 4'000'000;  // roughly will do: nothing is to expire
    program_.maps().control->flow_inserts_per_ms = 0xffffffffu;
    const std::uint8_t mac[6] = {2, 0, 0, 0, 0, 0};
    program_.set_nic(0, mac, veth_.far);
    test::ImageBuilder builder;
    const auto group = builder.add_group(
        {.forwarding = chosen.forwarding, .table_slots = MR_LOOKUP_SLOTS_DEFAULT});
    for (std::uint32_t i = 0; i < kTargets; ++i) {
      const std::string addr = "172.31.1." + std::to_string(i + 1);
      static_cast<void>(
          builder.add_target({.group_slot = group, .addr = test::addr_of(addr), .port = 8080}));
    }
    static_cast<void>(
        builder.add_listener({.vip_addr = test::addr_of(kVip), .port = 80, .group_slot = group}));
    builder.set_encap_source(test::addr_of("192.0.2.1"));
    image_ = builder.build(1);
    program_.adopt(image_.view());
    describe_frame(chosen.flows);
  }

  void describe_frame(std::uint32_t flows) {
    const FrameWriter writer({.vip = test::addr_of(kVip), .port = 80});
    frame_.assign(256, 0);  // what the writer copies
    writer.write(frame_.data(), 0);
    frame_.resize(sizeof(bench_->headers));
    // Without padding, which encapsulation would cut off: the rest is payload.
    std::uint8_t* ip = frame_.data() + MR_ETH_BYTES;
    core::store(ip + MR_IPV4_TOTAL_LENGTH,
                core::to_be16(static_cast<std::uint16_t>(frame_.size() - MR_ETH_BYTES)));
    std::memcpy(bench_->headers, frame_.data(), sizeof(bench_->headers));
    std::memset(ip + MR_IPV4_CHECKSUM, 0, 2);
    std::memset(ip + MR_IPV4_SOURCE, 0, 4);
    bench_->ip_sum = mr_fold(core::sum_bytes({ip, MR_IPV4_BYTES}));
    bench_->client_be = core::to_be32(0x0a000000);
    bench_->frame_bytes = static_cast<std::uint32_t>(frame_.size());
    bench_->flow_mask = flows - 1;
    bench_->sequence = 0;
    bench_->is_v4 = 1;
  }

  Veth veth_;
  test::XdpProgram program_;
  mr_xdp_bench* bench_;
  mr_xdp_live* live_;
  test::Image image_;
  std::vector<std::uint8_t> frame_;
};

void print(const Case& chosen, std::vector<double> runs) {
  std::string all;
  for (const double run_ns : runs) all += (all.empty() ? "" : ", ") + std::to_string(run_ns);
  std::ranges::sort(runs);
  std::printf(
      "{\"case\": \"%s\", \"flows\": %u, \"runs_ns\": [%s], \"median_ns\": %.0f, "
      "\"least_ns\": %.0f, \"most_ns\": %.0f}\n",
      chosen.name, chosen.flows, all.c_str(), runs[runs.size() / 2], runs.front(), runs.back());
}

void measure_all(std::uint32_t runs, std::uint32_t packets) {
  LiveBench bench;
  std::vector<std::vector<double>> figures(std::size(kCases));
  for (std::uint32_t turn = 0; turn < runs; ++turn) {
    for (std::size_t i = 0; i < std::size(kCases); ++i) {
      figures[i].push_back(bench.measure(kCases[i], packets));
      const bool is_ours = std::strcmp(kCases[i].program, "nlb_xdp") == 0;
      if (is_ours && bench.flow_hits() < packets) {
        std::fprintf(stderr, "xdp_live: %s: only %lu packets of known flows\n", kCases[i].name,
                     bench.flow_hits());
        std::exit(1);
      }
    }
  }
  for (std::size_t i = 0; i < std::size(kCases); ++i) print(kCases[i], figures[i]);
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) {
  const auto runs = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 5);
  const auto packets = static_cast<std::uint32_t>(argc > 2 ? std::atoi(argv[2]) : 1'000'000);
  if (runs == 0 || packets == 0) {
    std::fprintf(stderr, "usage: xdp_live [RUNS] [PACKETS]\n");
    return 2;
  }
  millrace::bench::measure_all(runs, packets);
  return 0;
}

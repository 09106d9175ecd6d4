// SPDX-License-Identifier: Apache-2.0
//
// What a packet costs the XDP engine's program, without a clock: BPF instructions executed and
// helpers called, counted by interpreting it (tests/support/bpf/bpf_interpreter.h); and how large
// it is. One JSON line per case. Cold; needs CAP_BPF, since the kernel's verifier has its say.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/trace_case.h"
#include "tests/support/bpf/nlb_xdp_object.h"
#include "tests/support/bpf/xdp_program.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kPackets = 2000;
constexpr std::uint32_t kRecords = 1u << 12;  // of which a fourth or half gets used
constexpr std::uint32_t kLoopback = 1;        // an interface that every namespace has
constexpr char kProgram[] = "nlb_xdp";

struct Counts {
  std::uint64_t instructions = 0;
  std::uint64_t helper_calls = 0;
};

class Trace {
 public:
  Trace(test::XdpProgram& program, const TraceCase& chosen)
      : program_(program),
        interpreter_(program.interpreter(kProgram)),
        chosen_(chosen),
        writer_(chosen.shape()),
        flows_(chosen.way == Way::opening ? kPackets : kKnownFlows),
        order_(flows_),
        image_(make_image(chosen.shape(), chosen.forwarding)) {
    program_.reset();
    program_.set_nic(0, kNodeMac, kLoopback);
    program_.maps().control->ns_per_jiffy = 4'000'000;  // roughly will do: nothing is to expire
    program_.maps().control->flow_inserts_per_ms = 0xffffffffu;
    program_.adopt(image_.view());
    if (chosen.way == Way::opening) return;
    for (std::uint32_t i = 0; i < flows_; ++i) static_cast<void>(forward(request(i)));
    // An answer, and what the client says to that: both take longer than what follows.
    for (std::uint32_t i = 0; chosen.forwarding == MR_FORWARDING_NAT && i < flows_; ++i) {
      static_cast<void>(forward(reply(i)));
      static_cast<void>(forward(request(i)));
    }
  }

  Counts run() {
    Counts sum;
    for (std::uint32_t i = 0; i < kPackets; ++i) {
      const std::uint32_t flow = order_.next();
      auto frame = chosen_.way == Way::reply ? reply(flow) : request(flow);
      if (chosen_.way == Way::cut) cut_datagram(frame.data());
      const mr_counter kind =
          chosen_.way == Way::opening ? MR_COUNTER_FLOW_INSERTED : MR_COUNTER_FLOW_HITS;
      const std::uint64_t before = counter(kind);
      const test::BpfInterpreter::Run run = forward(frame);
      if (counter(kind) != before + 1) fail("was not of this kind");
      sum.instructions += run.instructions;
      sum.helper_calls += run.helper_calls;
    }
    return sum;
  }

 private:
  std::vector<std::uint8_t> request(std::uint32_t flow) const {
    std::vector<std::uint8_t> frame(Balancer::kFrameRoom);
    writer_.write(frame.data(), flow);
    std::memcpy(frame.data(), kNodeMac, sizeof(kNodeMac));
    frame.resize(writer_.length());
    return frame;
  }

  std::vector<std::uint8_t> reply(std::uint32_t flow) {
    std::vector<std::uint8_t> frame = forward(request(flow)).frame;
    std::memcpy(frame.data(), kNodeMac, sizeof(kNodeMac));
    turn_round(frame.data(), chosen_.is_v4);
    return frame;
  }

  test::BpfInterpreter::Run forward(const std::vector<std::uint8_t>& frame) {
    const std::uint64_t before = counter(MR_COUNTER_FORWARDED_PACKETS);
    test::BpfInterpreter::Run run = interpreter_.run(frame, kLoopback);
    if (counter(MR_COUNTER_FORWARDED_PACKETS) != before + 1) fail("was not forwarded");
    return run;
  }

  // The interpreter is CPU 0.
  std::uint64_t counter(mr_counter counter) const {
    return program_.maps().cpus[0].stats.counters[counter];
  }

  [[noreturn]] void fail(const char* what) const {
    std::fprintf(stderr, "xdp_trace: %s: a packet %s\n", chosen_.name.data(), what);
    std::exit(1);
  }

  test::XdpProgram& program_;
  test::BpfInterpreter interpreter_;
  const TraceCase& chosen_;
  FrameWriter writer_;
  std::uint32_t flows_;
  FlowOrder order_;
  test::Image image_;
};

void print_all() {
  test::XdpProgram program({.object = test::nlb_xdp_object(),
                            .flow_count = kRecords,
                            .config_lines = 1u << 19,
                            .slot_count = 1024,
                            .is_under_test = false});
  for (const TraceCase& chosen : kTraceCases) {
    const Counts sum = Trace(program, chosen).run();
    std::printf("{\"case\": \"%s\", \"instructions\": %.1f, \"helpers\": %.2f}\n",
                chosen.name.data(), static_cast<double>(sum.instructions) / kPackets,
                static_cast<double>(sum.helper_calls) / kPackets);
  }
  const test::XdpProgram::Size size = program.size(kProgram);
  std::printf("{\"case\": \"the program\", \"loaded\": %u, \"verified\": %u}\n",
              size.loaded_instructions, size.verified_instructions);
}

}  // namespace
}  // namespace millrace::bench

int main() { millrace::bench::print_all(); }

// SPDX-License-Identifier: Apache-2.0
//
// The same packets in the same order each time, for counting the instructions of process_burst():
// fixed flows, one time for all packets, nothing that depends on a clock or on an address. Cold but
// for measured_burst(), which bench/instructions tells callgrind to count and nothing else.
//
//   forwarder_trace CASE PACKETS   runs a case; ends with 1 unless every packet was of its kind
//   forwarder_trace --cases        names them, one to a line
//   forwarder_trace --compiler     which made it

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "bench/balancer.h"
#include "bench/trace_case.h"

// With a name that callgrind finds, and never part of its caller.
extern "C" [[gnu::noinline]] void measured_burst(millrace::bench::Balancer& balancer,
                                                 millrace::core::Burst& burst) {
  balancer.process(burst);
}
extern "C" [[gnu::noinline]] void measured_burst_shared(
    millrace::bench::Balancer& balancer, millrace::core::Burst& burst,
    const millrace::core::Ownership& ownership) {
  balancer.process(burst, ownership);
}

namespace millrace::bench {
namespace {

// What the worker is.
enum class Role : std::uint8_t {
  alone,     // it looks for no owner
  owner,     // one of several, of all flows
  stranger,  // one of several, of no flow: it hands everything over
};

struct CoreCase {
  TraceCase what;
  Role role = Role::alone;
};

constexpr CoreCase kSharedCases[] = {
    {{"nat tcp4 hit, shared", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT}, Role::owner},
    {{"nat tcp6 hit, shared", Way::hit, false, MR_PROTOCOL_TCP, MR_FORWARDING_NAT}, Role::owner},
    {{"nat tcp4 reply, shared", Way::reply, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT}, Role::owner},
    {{"tcp4 request given away", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
     Role::stranger},
    {{"tcp4 reply given away", Way::reply, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
     Role::stranger},
};

std::vector<CoreCase> all_cases() {
  std::vector<CoreCase> cases;
  for (const TraceCase& what : kTraceCases) cases.push_back({.what = what});
  cases.insert(cases.end(), std::begin(kSharedCases), std::end(kSharedCases));
  return cases;
}

class Trace {
 public:
  Trace(const CoreCase& chosen, std::uint32_t packets)
      : role_(chosen.role),
        chosen_(chosen.what),
        flows_(chosen_.way == Way::opening ? packets : kKnownFlows),
        balancer_(flows_, chosen_.shape(), chosen_.forwarding),
        order_(flows_),
        memory_(core::kBurstMax * Balancer::kFrameRoom) {
    if (chosen_.way == Way::opening) return;
    balancer_.open_flows();
    if (chosen_.forwarding == MR_FORWARDING_NAT) confirm_flows();
  }

  // False when a packet was not what the case is about.
  bool run(std::uint32_t packets) {
    for (std::uint32_t done = 0; done < packets; done += core::kBurstMax) {
      write_burst();
      const std::uint64_t before = balancer_.counter(counter_of_kind());
      process_measured();
      const std::uint64_t counted = balancer_.counter(counter_of_kind()) - before;
      const bool is_stranger = role_ == Role::stranger;
      if (counted != (is_stranger ? 0 : core::kBurstMax)) return false;
      const auto wanted = is_stranger ? core::VerdictKind::hand_over : core::VerdictKind::forward;
      for (const core::Verdict& verdict : burst_.verdicts) {
        if (verdict.kind() != wanted) return false;
      }
    }
    return true;
  }

 private:
  mr_counter counter_of_kind() const {
    return chosen_.way == Way::opening ? MR_COUNTER_FLOW_INSERTED : MR_COUNTER_FLOW_HITS;
  }

  // With one worker, the first owns every flow; then the second, that is not there, owns none.
  void process_measured() {
    if (role_ == Role::alone) return measured_burst(balancer_, burst_);
    const std::uint32_t worker = role_ == Role::owner ? 0 : 1;
    measured_burst_shared(balancer_, burst_, {.worker = worker, .worker_count = 1});
  }

  // An answer, and what the client says to that: both take longer than what follows. Flows come in
  // any order, so that it takes a few rounds until each has had both.
  void confirm_flows() {
    constexpr std::uint32_t kRounds = 8;
    for (std::uint32_t i = 0; i < kRounds * flows_; i += core::kBurstMax) {
      write_requests();
      balancer_.process(burst_);
      turn_burst_round();
      balancer_.process(burst_);
      write_requests();
      balancer_.process(burst_);
    }
  }

  void write_burst() {
    write_requests();
    for (std::uint32_t i = 0; chosen_.way == Way::cut && i < core::kBurstMax; ++i) {
      cut_datagram(frame(i));
    }
    if (chosen_.way != Way::reply) return;
    balancer_.process(burst_);
    turn_burst_round();
  }

  void write_requests() {
    burst_.count = core::kBurstMax;
    for (std::uint32_t i = 0; i < core::kBurstMax; ++i) {
      balancer_.writer().write(frame(i), order_.next());
      burst_.packets[i] = balancer_.packet_at(frame(i));
    }
  }

  void turn_burst_round() {
    for (std::uint32_t i = 0; i < core::kBurstMax; ++i) {
      std::memcpy(frame(i), kNodeMac, sizeof(kNodeMac));
      turn_round(frame(i), chosen_.is_v4);
    }
  }

  std::uint8_t* frame(std::uint32_t index) {
    return memory_.data() + index * Balancer::kFrameRoom + Balancer::kFrameHeadroom;
  }

  Role role_;
  TraceCase chosen_;
  std::uint32_t flows_;
  Balancer balancer_;
  FlowOrder order_;
  std::vector<std::uint8_t> memory_;
  core::Burst burst_{};
};

int run_case(std::string_view name, std::uint32_t packets) {
  for (const CoreCase& chosen : all_cases()) {
    if (chosen.what.name != name) continue;
    if (Trace(chosen, packets).run(packets)) return 0;
    std::fprintf(stderr, "forwarder_trace: %s: a packet was not of this kind\n",
                 chosen.what.name.data());
    return 1;
  }
  std::fprintf(stderr, "forwarder_trace: no case '%s', see --cases\n", name.data());
  return 2;
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) {
  using namespace millrace::bench;
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "--cases") {
    for (const CoreCase& chosen : all_cases()) std::puts(chosen.what.name.data());
    return 0;
  }
  if (first == "--compiler") {
    std::puts(__VERSION__);  // gcc says its number alone, clang its name as well
    return 0;
  }
  const long packets = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 0;
  if (packets <= 0 || packets > 1'000'000 || packets % millrace::core::kBurstMax != 0) {
    std::fprintf(stderr,
                 "usage: forwarder_trace CASE PACKETS | --cases | --compiler\n"
                 "PACKETS is a multiple of %u, at most a million\n",
                 millrace::core::kBurstMax);
    return 2;
  }
  return run_case(first, static_cast<std::uint32_t>(packets));
}

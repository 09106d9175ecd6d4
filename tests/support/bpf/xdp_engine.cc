// SPDX-License-Identifier: Apache-2.0
//
// The XDP program as an Engine of golden packets, with the daemon's own sweep. Time and nic come
// from the test (`is_under_test`). Cold.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "bpf/engine/sweep.h"
#include "dataplane/core/wire.h"
#include "tests/support/bpf/nlb_xdp_object.h"
#include "tests/support/bpf/xdp_program.h"
#include "tests/support/bpf/xdp_way.h"
#include "tests/support/cc/engine_under_test.h"

namespace millrace::test {
namespace {

constexpr std::uint32_t kLoopback = 1;  // an interface that every namespace has

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::abort();
}

// Counters are the CPU's: the verdict of a packet is read from one.
void pin_to_one_cpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  if (::sched_setaffinity(0, sizeof(cpus), &cpus) != 0) fail("sched_setaffinity");
}

// Loaded once for all cases: the verifier takes half a second.
XdpProgram& program() {
  static XdpProgram loaded({.object = nlb_xdp_object()});
  return loaded;
}

class XdpEngine final : public Engine {
 public:
  explicit XdpEngine(const MacTable& nic_macs) : maps_(program().maps()) {
    pin_to_one_cpu();
    program().reset();
    for (std::uint32_t nic = 0; nic < nic_macs.size(); ++nic) {
      program().set_nic(nic, nic_macs[nic], kLoopback);
    }
    sweep_.emplace(maps_, nullptr);
  }

  // The kernel runs no program without an Ethernet header to look at.
  std::size_t frame_bytes_min() const override { return ETH_HLEN; }

  void adopt(const Image& image) override {
    program().adopt(image.view());
    view_ = image.view();
  }

  std::vector<Outcome> run(const std::vector<Frame>& frames, std::uint64_t now_ns) override {
    std::vector<Outcome> outcomes;
    outcomes.reserve(frames.size());
    for (const Frame& frame : frames) outcomes.push_back(run_one(frame, now_ns));
    return outcomes;
  }

  void sweep(std::uint64_t now_ns) override {
    // A flow that ended is given up in the round after.
    for (int round = 0; round < 2; ++round) sweep_->run_round(*view_, now_ns);
    has_swept_ = true;
  }

  void restart() override {
    // The program and its maps stay; a new daemon sweeps them and counts from 0.
    sweep_.emplace(maps_, nullptr);
    has_swept_ = false;
    for (mr_xdp_cpu& cpu : maps_.cpus) cpu.stats = {};
  }

  EngineCounters counters() const override {
    EngineCounters out;
    for (const mr_xdp_cpu& cpu : maps_.cpus) {
      for (std::size_t i = 0; i < out.counters.size(); ++i) {
        out.counters[i] += cpu.stats.counters[i];
      }
      for (std::size_t i = 0; i < out.drops.size(); ++i) out.drops[i] += cpu.stats.drops[i];
    }
    out.counters[MR_COUNTER_FLOW_REMOVED] += sweep_->removed();
    out.counters[MR_COUNTER_FLOW_EXPIRED] += sweep_->expired();
    out.counters[MR_COUNTER_FLOW_GIVEN_UP] += sweep_->given_up();
    return out;
  }

  // Gauges are the sweep's, which counts them anew each round: those of before the last packet are
  // not wrong yet.
  bool gauges_agree() const override {
    if (!has_swept_) return true;
    std::uint64_t active = 0;
    std::vector<std::uint64_t> by_target(sweep_->target_flows().size());
    for (const mr_flow_record& record : maps_.flows) {
      const bool is_flow = record.state != MR_FLOW_FREE && record.state < MR_FLOW_STATE_COUNT;
      if (!is_flow || record.state == MR_FLOW_EXPIRED || record.state == MR_FLOW_CLOSED) continue;
      ++active;
      ++by_target.at(record.target_slot);
    }
    return active == sweep_->active_flows() && by_target == sweep_->target_flows();
  }

  FlowSight flow_of(const mr_addr& client, std::uint16_t client_port,
                    std::uint8_t protocol) const override {
    for (const mr_flow_record& record : maps_.flows) {
      if (record.state == MR_FLOW_FREE || record.state >= MR_FLOW_STATE_COUNT) continue;
      if (std::memcmp(&record.client_addr, &client, sizeof(client)) == 0 &&
          record.client_port_be == core::to_be16(client_port) && record.protocol == protocol) {
        return {.state = record.state, .target_slot = record.target_slot};
      }
    }
    return {};
  }

 private:
  Outcome run_one(const Frame& frame, std::uint64_t now_ns) {
    has_swept_ = false;
    maps_.control->test_now_ns = now_ns;
    maps_.control->test_nic = frame.nic;
    const mr_xdp_cpu& cpu = maps_.cpus[0];
    const std::uint64_t replied = cpu.stats.counters[MR_COUNTER_REPLIED_PACKETS];
    XdpProgram::Run run = run_one_packet(program(), frame.bytes);
    Outcome outcome{.kind = core::VerdictKind::drop,
                    .nic = cpu.test_nic,
                    .reason = cpu.test_reason,
                    .bytes = std::move(run.frame)};
    if (run.verdict == XDP_PASS) outcome.kind = core::VerdictKind::punt;
    if (run.verdict == XDP_TX || run.verdict == XDP_REDIRECT) {
      const bool is_reply = cpu.stats.counters[MR_COUNTER_REPLIED_PACKETS] != replied;
      outcome.kind = is_reply ? core::VerdictKind::reply : core::VerdictKind::forward;
    }
    return outcome;
  }

  xdp::Maps maps_;
  std::optional<core::ConfigView> view_;
  std::optional<xdp::Sweep> sweep_;
  bool has_swept_ = false;  // since the last packet
};

}  // namespace

std::unique_ptr<Engine> make_engine_under_test(const MacTable& nic_macs) {
  return std::make_unique<XdpEngine>(nic_macs);
}

const char* reason_to_skip(const std::string& case_name) {
  if (!case_name.ends_with("runt_frame_is_dropped")) return nullptr;
  return "the kernel runs no XDP program on a frame without an Ethernet header";
}

}  // namespace millrace::test

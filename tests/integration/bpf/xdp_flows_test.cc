// SPDX-License-Identifier: Apache-2.0
//
// The XDP program's flow table in this kernel: two CPUs that handle packets of one flow at the same
// moment, ports that come again and again, floods. Time comes from the test.
//
// The kernel takes milliseconds to begin and to end a BPF_PROG_TEST_RUN, and microseconds for the
// program, so that two of them hardly meet. So two threads interpret the program on the kernel's
// maps, which takes ten times as long as the program; and some rounds run in the kernel, too.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bpf/engine/sweep.h"
#include "dataplane/core/nanoseconds.h"
#include "dataplane/core/wire.h"
#include "tests/support/bpf/nlb_xdp_object.h"
#include "tests/support/bpf/xdp_program.h"
#include "tests/support/cc/frame_text.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {
namespace {

constexpr std::uint32_t kFlows = 1u << 14;
constexpr std::uint32_t kLoopback = 1;  // an interface that every namespace has
constexpr int kRounds = 1000;
constexpr int kKernelRounds = 100;
constexpr std::uint64_t kBudgetNs = 2'000'000;  // then a CPU may insert flows anew
const std::string kClient = "198.51.100.7";
const std::string kVip = "203.0.113.10";
const std::string kSecondVip = "203.0.113.20";
const std::string kOldTarget = "10.0.1.11";
const std::string kNewTarget = "10.0.1.12";

XdpProgram& program() {
  static XdpProgram loaded({.object = nlb_xdp_object(), .flow_count = kFlows});
  return loaded;
}

void pin_to(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(cpus), &cpus), 0);
}

Bytes frame(const std::string& text) {
  const Result<Bytes> bytes = frame_of(text, {});
  EXPECT_TRUE(bytes.has_value()) << text << ": " << bytes.error().message;
  return *bytes;
}

const std::string kLinks = "eth 02:00:00:00:00:fe > 02:00:00:00:00:01 / ";

Bytes tcp_to_vip(int port, const std::string& flags) {
  return frame(kLinks + "ip " + kClient + " > " + kVip + " / tcp " + std::to_string(port) +
               " > 80 flags " + flags);
}
Bytes tcp_from(const std::string& target, int port, const std::string& flags) {
  return frame(kLinks + "ip " + target + " > " + kClient + " / tcp 8080 > " + std::to_string(port) +
               " flags " + flags);
}

class XdpFlows : public ::testing::Test {
 protected:
  // A group for TCP whose first target is draining, so that new flows go to the second; one for
  // UDP.
  XdpFlows() {
    const std::uint32_t web = builder_.add_group({});
    builder_.add_target(
        {.group_slot = web, .addr = addr_of(kOldTarget), .port = 8080, .gets_new_flows = false});
    builder_.add_target({.group_slot = web, .addr = addr_of(kNewTarget), .port = 8080});
    builder_.add_listener({.vip_addr = addr_of(kVip), .port = 80, .group_slot = web});
    const std::uint32_t dns = builder_.add_group({});
    builder_.add_target({.group_slot = dns,
                         .addr = addr_of(kNewTarget),
                         .port = 5353,
                         .protocol = MR_PROTOCOL_UDP});
    for (const std::string& vip : {kVip, kSecondVip}) {
      builder_.add_listener(
          {.vip_addr = addr_of(vip), .port = 53, .protocol = MR_PROTOCOL_UDP, .group_slot = dns});
    }
    image_.emplace(builder_.build(1));
    program().reset();
    constexpr std::array<std::uint8_t, 6> kMac = {2, 0, 0, 0, 0, 1};
    program().set_nic(0, kMac, kLoopback);
    program().adopt(image_->view());
    sweep_.emplace(program().maps(), nullptr);
    pass_ns(0);
  }

  [[nodiscard]] static xdp::Maps maps() { return program().maps(); }
  void pass_ns(std::uint64_t ns) {
    now_ns_ += ns;
    maps().control->test_now_ns = now_ns_;
  }
  // The packet's destination address, or that it was not forwarded.
  std::string destination_of(const Bytes& packet) {
    const BpfInterpreter::Run run = here_.run(packet, kLoopback);
    if (run.verdict != XDP_TX && run.verdict != XDP_REDIRECT)
      return "verdict " + std::to_string(run.verdict);
    const std::uint8_t* addr = run.frame.data() + 30;
    std::string text;
    for (int i = 0; i < 4; ++i) text += (i == 0 ? "" : ".") + std::to_string(addr[i]);
    return text;
  }
  [[nodiscard]] static std::uint64_t count(mr_counter counter) {
    std::uint64_t sum = 0;
    for (const mr_xdp_cpu& cpu : maps().cpus) sum += cpu.stats.counters[counter];
    return sum;
  }
  [[nodiscard]] static std::vector<mr_flow_record*> records_of(int port) {
    std::vector<mr_flow_record*> found;
    for (mr_flow_record& record : maps().flows) {
      const bool is_flow = record.state != MR_FLOW_FREE && record.state < MR_FLOW_STATE_COUNT;
      if (is_flow && record.client_port_be == core::to_be16(static_cast<std::uint16_t>(port))) {
        found.push_back(&record);
      }
    }
    return found;
  }
  // A connection of `port` to the old target that both sides have closed.
  mr_flow_record& put_closed(int port) {
    mr_flow_record flow{};
    flow.client_addr = addr_of(kClient);
    flow.client_port_be = core::to_be16(static_cast<std::uint16_t>(port));
    flow.protocol = MR_PROTOCOL_TCP;
    flow.vip_port_be = image_->view().listeners[0].asked_port_be;
    flow.listener_id = image_->view().listeners[0].id;
    flow.target_id = image_->view().targets[0].id;
    flow.last_seen_tick = static_cast<std::uint32_t>(now_ns_ >> MR_TICK_SHIFT);
    flow.flags = MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET | MR_FLOW_REPLY_SEEN;
    flow.state = MR_FLOW_CLOSED;
    const core::AddrWords addr = core::words_of(flow.client_addr);
    const std::uint32_t key = flow.client_port_be | std::uint32_t{flow.protocol} << 16;
    const std::uint32_t index = mr_xdp_flow_hash(maps().control, addr.low, addr.high, key);
    mr_flow_record& record = maps().flows[index & maps().control->flow_mask];
    record = flow;
    return record;
  }

  // Runs two frames on two CPUs at once, as near to each other as threads can be brought.
  class Twice {
   public:
    enum class Way { interpreted, kernel };
    explicit Twice(Way way = Way::interpreted)
        : way_(way), programs_{make_program(0), make_program(1)}, other_([this] { run_other(); }) {
      pin_to(0);
    }
    ~Twice() {
      turn_.store(-1);
      other_.join();
    }
    Twice(const Twice&) = delete;
    Twice& operator=(const Twice&) = delete;
    // `delay`: so many turns of a short loop are between their starts, the first one's earlier.
    void run(const Bytes& here, const Bytes& there, int delay = 0) {
      there_ = &there;
      is_done_.store(false);
      is_ready_.store(false);
      turn_.fetch_add(1);
      while (!is_ready_.load()) std::this_thread::yield();
      is_started_.store(true);
      run_on(0, here, delay);
      while (!is_done_.load()) std::this_thread::yield();
    }

   private:
    static BpfInterpreter make_program(std::uint32_t cpu) {
      BpfInterpreter interpreter = program().interpreter("nlb_xdp");
      interpreter.set_cpu(cpu);
      return interpreter;
    }
    void run_on(std::size_t cpu, const Bytes& packet, int delay) {
      for (int turn = 0; turn < delay; ++turn) (void)turn_.load();
      if (way_ == Way::kernel) {
        (void)program().run("nlb_xdp", packet, 1, false);
      } else {
        (void)programs_[cpu].run(packet, kLoopback);
      }
    }
    void run_other() {
      pin_to(1);
      for (int seen = 0;;) {
        const int turn = turn_.load();
        if (turn == -1) return;
        if (turn == seen) {
          std::this_thread::yield();
          continue;
        }
        seen = turn;
        is_started_.store(false);
        is_ready_.store(true);
        while (!is_started_.load()) {
        }
        run_on(1, *there_, 0);
        is_done_.store(true);
      }
    }
    Way way_;
    std::array<BpfInterpreter, 2> programs_;
    std::atomic<int> turn_{0};
    std::atomic<bool> is_ready_{false};
    std::atomic<bool> is_started_{false};
    std::atomic<bool> is_done_{false};
    const Bytes* there_ = nullptr;
    std::thread other_;
  };

  BpfInterpreter here_ = program().interpreter("nlb_xdp");
  ImageBuilder builder_;
  std::optional<Image> image_;
  std::optional<xdp::Sweep> sweep_;
  std::uint64_t now_ns_ = 1000 * kSecondNs;
};

// What must hold after a SYN of `port` met the end of its old connection.
void expect_one_new_flow(const std::vector<mr_flow_record*>& records, std::uint32_t new_target_id,
                         int round) {
  ASSERT_EQ(records.size(), 1u) << "round " << round;
  EXPECT_EQ(records[0]->target_id, new_target_id) << "round " << round;
  EXPECT_EQ(records[0]->state, MR_FLOW_SYN) << "round " << round;
  EXPECT_EQ(records[0]->flags & (MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET | MR_FLOW_RST_TARGET), 0)
      << "round " << round;
}

TEST_F(XdpFlows, fault_90_doubled_syn_beside_its_ports_old_connection_is_one_flow_to_one_target) {
  Twice both;
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    const int port = 1024 + round % 512;
    pass_ns(kBudgetNs);
    put_closed(port);
    const Bytes syn = tcp_to_vip(port, "S");
    both.run(syn, syn, round % 200);
    expect_one_new_flow(records_of(port), image_->view().targets[1].id, round);
    EXPECT_EQ(destination_of(tcp_to_vip(port, "A")), kNewTarget) << "round " << round;
    for (mr_flow_record* record : records_of(port)) *record = mr_flow_record{};
  }
}

TEST_F(XdpFlows, fault_90_doubled_syn_of_a_new_port_is_one_flow) {
  Twice both;
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    const int port = 1024 + round % 512;
    pass_ns(kBudgetNs);
    const Bytes syn = tcp_to_vip(port, "S");
    both.run(syn, syn, round % 200);
    expect_one_new_flow(records_of(port), image_->view().targets[1].id, round);
    for (mr_flow_record* record : records_of(port)) *record = mr_flow_record{};
  }
  EXPECT_EQ(count(MR_COUNTER_FLOW_INSERTED), static_cast<std::uint64_t>(kRounds));
}

TEST_F(XdpFlows, fault_90_doubled_syn_in_the_kernel_is_one_flow_to_one_target) {
  Twice both(Twice::Way::kernel);
  for (int round = 0; round < kKernelRounds && !HasFatalFailure(); ++round) {
    const int port = 1024 + round;
    put_closed(port);
    const Bytes syn = tcp_to_vip(port, "S");
    both.run(syn, syn);
    expect_one_new_flow(records_of(port), image_->view().targets[1].id, round);
  }
}

TEST_F(XdpFlows, fault_90_late_packets_of_the_old_connection_do_not_end_the_new_one) {
  Twice both;
  const std::vector<std::string> late = {"FA", "R", "A"};
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    const int port = 1024 + round % 512;
    pass_ns(kBudgetNs);
    put_closed(port);
    both.run(tcp_to_vip(port, "S"),
             tcp_from(kOldTarget, port, late[static_cast<std::size_t>(round) % late.size()]),
             round % 200);
    const auto records = records_of(port);
    ASSERT_EQ(records.size(), 1u) << "round " << round;
    // A RST that came first keeps the old connection for a while: then the SYN goes to its target.
    const bool was_reset = (records[0]->flags & MR_FLOW_RST_TARGET) != 0;
    if (was_reset) {
      EXPECT_EQ(records[0]->target_id, image_->view().targets[0].id) << "round " << round;
    } else {
      expect_one_new_flow(records, image_->view().targets[1].id, round);
    }
    *records[0] = mr_flow_record{};
  }
}

TEST_F(XdpFlows, fault_90_fins_of_both_sides_at_once_close_the_flow) {
  Twice both;
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    const int port = 1024 + round % 512;
    pass_ns(kBudgetNs);
    mr_flow_record& flow = put_closed(port);
    flow.flags = MR_FLOW_REPLY_SEEN | MR_FLOW_CONFIRMED;
    flow.state = MR_FLOW_ESTABLISHED;
    both.run(tcp_to_vip(port, "FA"), tcp_from(kOldTarget, port, "FA"));
    EXPECT_EQ(flow.state, MR_FLOW_CLOSED) << "round " << round;
    EXPECT_EQ(flow.flags & (MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET),
              MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET)
        << "round " << round;
    flow = mr_flow_record{};
  }
}

// A resolver that asks all its servers at once, from one port.
TEST_F(XdpFlows, fault_90_flows_of_one_port_through_two_listeners_know_of_each_other) {
  Twice both;
  int tracked = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string port = std::to_string(1024 + round % 512);
    const auto ask = [&](const std::string& vip) {
      return frame(kLinks + "ip " + kClient + " > " + vip + " / udp " + port + " > 53");
    };
    pass_ns(kBudgetNs);
    both.run(ask(kVip), ask(kSecondVip), round % 200);
    const auto records = records_of(std::stoi(port));
    // A thread that was held up while it filled its record leaves the other's without one.
    tracked += records.size() == 2;
    for (mr_flow_record* record : records) {
      EXPECT_TRUE(records.size() == 1 || (record->flags & MR_FLOW_SHARED) != 0) << round;
      *record = mr_flow_record{};
    }
  }
  EXPECT_GT(tracked, kRounds / 2);
}

// A busy client takes its ports again as soon as they are closed: no sweep comes between.
TEST_F(XdpFlows, ports_that_come_again_between_sweeps_need_no_further_records) {
  pin_to(0);
  constexpr int kPorts = 40;
  constexpr int kTimes = 60;
  for (int time = 0; time < kTimes; ++time) {
    for (int port = 2000; port < 2000 + kPorts; ++port) {
      ASSERT_EQ(destination_of(tcp_to_vip(port, "S")), kNewTarget);
      ASSERT_EQ(destination_of(tcp_from(kNewTarget, port, "SA")), kClient);
      ASSERT_EQ(destination_of(tcp_to_vip(port, "A")), kNewTarget);
      ASSERT_EQ(destination_of(tcp_to_vip(port, "FA")), kNewTarget);
      ASSERT_EQ(destination_of(tcp_from(kNewTarget, port, "FA")), kClient);
      pass_ns(10'000);
    }
  }
  EXPECT_EQ(count(MR_COUNTER_INSERT_REFUSED), 0u);
  EXPECT_EQ(count(MR_COUNTER_FLOW_INSERTED), std::uint64_t{kPorts} * kTimes);
  const auto used = std::ranges::count_if(
      maps().flows, [](const mr_flow_record& record) { return record.state != MR_FLOW_FREE; });
  EXPECT_EQ(used, kPorts);
}

// As 50,000 questions a second at a table of a million, scaled by the size of this one.
TEST_F(XdpFlows, flood_of_dns_clients_loses_no_answer) {
  pin_to(0);
  constexpr std::uint64_t kQuestions = 60 * 781;
  constexpr std::uint64_t kStepNs = kSecondNs / 781;
  std::uint64_t lost = 0;
  std::vector<Bytes> answers;
  for (std::uint64_t question = 0; question < kQuestions; ++question) {
    const std::string host = "198.18." + std::to_string(question / 60'000 + 1) + ".9";
    const std::string port = std::to_string(2000 + question % 60'000);
    lost += destination_of(frame(kLinks + "ip " + host + " > " + kVip + " / udp " + port +
                                 " > 53 / \"question\"")) != kNewTarget;
    // An answer takes a few steps.
    answers.push_back(frame(kLinks + "ip " + kNewTarget + " > " + host + " / udp 5353 > " + port +
                            " / \"answer\""));
    if (question >= 8) {
      lost += here_.run(answers[question - 8], kLoopback).verdict != XDP_TX;
      answers[question - 8] = {};
    }
    pass_ns(kStepNs);
    if (question % 8 == 0) sweep_->run(image_->view(), now_ns_);
    // The sweep takes its time from its own clock: a whole round a second here.
    if (question % 781 == 0) sweep_->run_round(image_->view(), now_ns_);
  }
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(count(MR_COUNTER_INSERT_REFUSED), 0u);
  EXPECT_GT(count(MR_COUNTER_FLOW_GIVEN_UP) + sweep_->given_up(), 0u) << "no flood";
}

// New flows of a flood make way; what an answer was answered on stays.
TEST_F(XdpFlows, confirmed_connections_outlive_a_flood_of_syns) {
  pin_to(0);
  for (int port = 2000; port < 2100; ++port) {
    ASSERT_EQ(destination_of(tcp_to_vip(port, "S")), kNewTarget);
    ASSERT_EQ(destination_of(tcp_from(kNewTarget, port, "SA")), kClient);
    ASSERT_EQ(destination_of(tcp_to_vip(port, "A")), kNewTarget);
  }
  for (std::uint32_t syn = 0; syn < 4 * kFlows; ++syn) {
    (void)here_.run(frame(kLinks + "ip 198.18.0.9 > " + kVip + " / tcp " +
                          std::to_string(1024 + syn % 60'000) + " > 80 flags S"),
                    kLoopback);
    if (syn % 60'000 == 0) pass_ns(11 * kSecondNs);  // from a second round on they are repeated
    pass_ns(100'000);
    if (syn % 10'000 == 0) sweep_->run_round(image_->view(), now_ns_);
  }
  for (int port = 2000; port < 2100; ++port) {
    const auto records = records_of(port);
    ASSERT_TRUE(std::ranges::any_of(records, [](const mr_flow_record* record) {
      return record->state == MR_FLOW_ESTABLISHED;
    })) << port;
  }
}

}  // namespace
}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// How long a packet stays in a worker: from the ring it comes in by to the ring it leaves by.
//
//   latency_bench ARM FLOWS RATE SECONDS SENDER_CPU WORKER_CPU    prints one line of JSON
//     ARM   balance  the real worker (worker/poll_loop.h) with its housekeeping, spinning
//           pass     a loop that passes the same packets between the same rings
//     RATE  packets per second; 0: as many as come back, which is the maximum of both together
//
// One thread sends and receives: open loop, each packet stamped with the time when it was due, so
// that a sender that is late can't hide a delay. What the worker adds is the difference of the
// arms.
//
// A virtual machine stops for milliseconds now and then, and then every packet of a millisecond is
// late: a percentile over all packets is the host's, not the worker's. So there are two of each:
// over all packets, and the median over slices of a millisecond, with the share of slices that were
// disturbed, that is of a p99 over ten times the median slice's. Where the arms are disturbed
// alike, the slices' figures are what the worker does.
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/balancer.h"
#include "bench/fatal.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/shm/atomic.h"
#include "dataplane/worker/poll_loop.h"

namespace millrace::bench {
namespace {

constexpr std::uint32_t kMbufs = 4095;
constexpr std::uint32_t kInFlightMax = 512;  // half of what a ring device holds
constexpr std::uint32_t kSamplesMax = 1u << 24;
constexpr double kSliceSeconds = 1e-3;
constexpr std::size_t kSliceSamplesMin = 1000;  // fewer have no p99.9
constexpr double kDisturbed = 10;               // times the median slice's p99
// The sequence and acknowledgement numbers of TCP, which no worker looks at.
constexpr std::uint32_t kStampOffset = MR_ETH_BYTES + MR_IPV4_BYTES + 4;

struct Options {
  bool balances = false;
  std::uint32_t flows = 1;
  double rate = 0;
  double seconds = 1;
  std::uint32_t sender_cpu = 0;
  std::uint32_t worker_cpu = 1;
};

Options parse(int argc, char** argv) {
  if (argc != 7) fail("usage: latency_bench pass|balance FLOWS RATE SECONDS SENDER_CPU WORKER_CPU");
  const auto number = [&](int i) {
    return static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10));
  };
  return {.balances = std::string(argv[1]) == "balance",
          .flows = number(2),
          .rate = std::strtod(argv[3], nullptr),
          .seconds = std::strtod(argv[4], nullptr),
          .sender_cpu = number(5),
          .worker_cpu = number(6)};
}

double now_s() {
  timespec now{};
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double measured_ticks_per_second() {
  const double began = now_s();
  const std::uint64_t start = __rdtsc();
  while (now_s() - began < 0.1) {
  }
  const std::uint64_t ticks = __rdtsc() - start;
  return static_cast<double>(ticks) / (now_s() - began);
}

// The pass arm: what a worker does without balancing.
void pass_until(const std::atomic<bool>& stop, dpdk::Nic& in, dpdk::Nic& out) {
  mr_worker_stats stats{};
  worker::Dispatch dispatch({.tx_queues = {&out.tx_queue(0)}, .twins = {nullptr}}, stats, nullptr);
  dpdk::MbufBurst burst;
  std::uint64_t bytes = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    burst.view.count = in.rx_queues()[0].receive(burst.mbufs);
    if (burst.view.count == 0) continue;
    (void)dpdk::view_mbufs(burst, bytes);
    for (std::uint32_t i = 0; i < burst.view.count; ++i) {
      burst.view.verdicts[i] = core::Verdict::forward(0);
    }
    dispatch.act(burst);
  }
}

// The value that `share` of `values`, of which there are some, do not exceed.
template <typename Values>
double percentile(const Values& values, double share) {
  std::vector<typename Values::value_type> sorted(values.begin(), values.end());
  const auto at =
      sorted.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(sorted.size() - 1));
  std::ranges::nth_element(sorted, at);
  return static_cast<double>(*at);
}

// Sends into one ring and takes back from the other.
class Sender {
 public:
  Sender(const Options& options, const FrameWriter& writer, dpdk::Nic& in, dpdk::Nic& out,
         const dpdk::MbufPool& pool)
      : writer_(writer),
        in_(in),
        out_(out),
        order_(options.flows),
        ticks_per_second_(measured_ticks_per_second()) {
    const std::vector<std::uint8_t> frame(writer.length());
    for (std::uint32_t i = 0; i < kInFlightMax; ++i) {
      at_hand_.push_back(pool.take(0, frame));
      if (at_hand_.back() == nullptr) fail("no mbufs");
    }
    samples_.reserve(kSamplesMax);
  }

  // `rate` 0: whatever is at hand. Returns packets received per second.
  double run(double rate, double seconds, bool keeps_samples) {
    const std::uint64_t start = __rdtsc();
    const auto length = static_cast<std::uint64_t>(seconds * ticks_per_second_);
    const double ticks_per_packet = rate > 0 ? ticks_per_second_ / rate : 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    samples_.clear();
    slices_.clear();
    slice_ends_ = start;
    for (std::uint64_t now = start; now - start < length; now = __rdtsc()) {
      const auto due =
          rate > 0 ? static_cast<std::uint64_t>(static_cast<double>(now - start) / ticks_per_packet)
                   : sent + core::kBurstMax;
      sent += send(start, sent, due, ticks_per_packet);
      received += receive(keeps_samples);
    }
    const double elapsed = static_cast<double>(__rdtsc() - start) / ticks_per_second_;
    const double patience_ends = now_s() + 5;
    while (lost() != 0 && now_s() < patience_ends) (void)receive(false);
    return static_cast<double>(received) / elapsed;
  }

  // Of all packets, the delay that `share` of them had at most.
  [[nodiscard]] double sample_ns(double share) const {
    if (samples_.empty()) fail("no packet came back");
    return percentile(samples_, share) * 1e9 / ticks_per_second_;
  }
  // The same of each slice that is full enough, in order of time.
  [[nodiscard]] std::vector<double> slices_ns(double share) const {
    std::vector<double> found;
    for (std::size_t i = 1; i < slices_.size(); ++i) {
      const auto slice = std::span(samples_).subspan(slices_[i - 1], slices_[i] - slices_[i - 1]);
      if (slice.size() < kSliceSamplesMin) continue;
      found.push_back(percentile(slice, share) * 1e9 / ticks_per_second_);
    }
    if (found.empty()) fail("no slice has packets enough");
    return found;
  }
  [[nodiscard]] std::size_t lost() const { return kInFlightMax - at_hand_.size(); }

 private:
  std::uint32_t send(std::uint64_t start, std::uint64_t sent, std::uint64_t due,
                     double ticks_per_packet) {
    const auto count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({due - sent, core::kBurstMax, at_hand_.size()}));
    if (count == 0) return 0;
    std::copy(at_hand_.end() - count, at_hand_.end(), burst_.mbufs.begin());
    burst_.view.count = count;
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(burst_, bytes);
    for (std::uint32_t i = 0; i < count; ++i) {
      std::uint8_t* frame = burst_.view.packets[i].data;
      writer_.write(frame, order_.next());
      const double due_at = static_cast<double>(sent + i + 1) * ticks_per_packet;
      core::store(frame + kStampOffset, start + static_cast<std::uint64_t>(due_at));
    }
    const std::uint32_t taken = in_.tx_queue(0).send(std::span(burst_.mbufs).first(count));
    // What did not fit (it always does: fewer are at hand) stays at the end, to be sent again.
    std::copy(burst_.mbufs.begin() + taken, burst_.mbufs.begin() + count, at_hand_.end() - count);
    at_hand_.resize(at_hand_.size() - taken);
    return taken;
  }

  std::uint32_t receive(bool keeps_samples) {
    burst_.view.count = out_.rx_queues()[0].receive(burst_.mbufs);
    if (burst_.view.count == 0) return 0;
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(burst_, bytes);
    const std::uint64_t now = __rdtsc();
    if (now >= slice_ends_) {
      slices_.push_back(samples_.size());
      slice_ends_ = now + static_cast<std::uint64_t>(kSliceSeconds * ticks_per_second_);
    }
    for (std::uint32_t i = 0; i < burst_.view.count; ++i) {
      const auto due = core::load<std::uint64_t>(burst_.view.packets[i].data + kStampOffset);
      if (keeps_samples && samples_.size() < kSamplesMax) {
        samples_.push_back(static_cast<std::uint32_t>(now - due));
      }
      at_hand_.push_back(burst_.mbufs[i]);
    }
    return burst_.view.count;
  }

  const FrameWriter& writer_;
  dpdk::Nic& in_;
  dpdk::Nic& out_;
  FlowOrder order_;
  double ticks_per_second_;
  std::vector<dpdk::Mbuf*> at_hand_;
  std::vector<std::uint32_t> samples_;  // ticks, in order of arrival
  std::vector<std::size_t> slices_;     // where in samples_ each slice begins
  std::uint64_t slice_ends_ = 0;
  dpdk::MbufBurst burst_;
};

// Everything that a worker wants beside its nics.
struct WorkerParts {
  explicit WorkerParts(std::uint32_t flows)
      : writer(shape_of(true, MR_PROTOCOL_TCP, MR_TCP_ACK)),
        image(make_image(shape_of(true, MR_PROTOCOL_TCP, MR_TCP_ACK), MR_FORWARDING_NAT)),
        memory(core::FlowTable::bytes_for(Balancer::capacity_for(flows))),
        configs(1) {
    configs.publish({.view = image.view(), .segment = nullptr});
  }
  [[nodiscard]] worker::WorkerOptions options(std::uint32_t flows, dpdk::Nic& in, dpdk::Nic& out) {
    return {.index = 0,
            .rx_queues = {in.rx_queues()[0]},
            .exits = {.tx_queues = {&out.tx_queue(0)}, .twins = {nullptr}},
            .flow_table = core::FlowTable::format(
                memory.span(), {.capacity = Balancer::capacity_for(flows),
                                .worker_index = 0,
                                .worker_count = 1,
                                .secret = {0x243f6a8885a308d3, 0x13198a2e03707344,
                                           0xa4093822299f31d0, 0x082efa98ec4e6c89},
                                .created_ns = 1,
                                .creator_pid = 1}),
            .nic_macs = {core::MacAddr{{2, 0, 0, 0, 0, 0}}},
            .configs = &configs,
            .published = &published,
            .listener_stats = listener_stats,
            .target_stats = target_stats,
            .spins = true};
  }

  FrameWriter writer;
  test::Image image;
  HugeMemory memory;
  worker::ConfigExchange configs;
  mr_worker_stats published{};
  std::vector<mr_listener_stats> listener_stats{16};
  std::vector<mr_target_stats> target_stats{256};
};

void print(const Sender& sender, double rate) {
  const auto median_slice = [&](double share) { return percentile(sender.slices_ns(share), 0.5); };
  const std::vector<double> p99s = sender.slices_ns(0.99);
  const double usual = median_slice(0.99);
  const auto disturbed =
      std::ranges::count_if(p99s, [&](double p99) { return p99 > kDisturbed * usual; });
  std::printf(
      "{\"pps\": %.0f, \"p50_ns\": %.0f, \"p99_ns\": %.0f, \"p999_ns\": %.0f, \"max_ns\": %.0f, "
      "\"slice_p50_ns\": %.0f, \"slice_p99_ns\": %.0f, \"slice_p999_ns\": %.0f, "
      "\"slices\": %zu, \"disturbed_percent\": %.2f}\n",
      rate, sender.sample_ns(0.5), sender.sample_ns(0.99), sender.sample_ns(0.999),
      sender.sample_ns(1), median_slice(0.5), usual, median_slice(0.999), p99s.size(),
      100 * static_cast<double>(disturbed) / static_cast<double>(p99s.size()));
}

void measure(const Options& options) {
  dpdk::Eal eal = take(dpdk::Eal::init({.main_cpu = options.sender_cpu,
                                        .worker_cpus = {options.worker_cpu},
                                        .use_pci = false,
                                        .memory_bytes = dpdk::MbufPool::bytes_for(kMbufs),
                                        .extra = {}}));
  const dpdk::MbufPool pool = take(dpdk::MbufPool::create("bench", kMbufs));
  const auto open = [&](const char* device) {
    return take(
        dpdk::Nic::open({.device = device, .index = 0, .queue_count = 1, .worker_count = 1}, pool));
  };
  const auto in = open("net_ring0");
  const auto out = open("net_ring1");
  WorkerParts parts(options.flows);
  worker::Worker worker(parts.options(options.flows, *in, *out));
  Sender sender(options, parts.writer, *in, *out, pool);
  std::atomic<bool> stop{false};
  std::function<void()> work = [&] {
    options.balances ? worker.run(stop) : pass_until(stop, *in, *out);
  };
  if (Status launched = eal.launch(0, work); !launched) fail(launched.error().message);
  // Until all flows are open: 2000 per millisecond may be.
  const auto opened = [&] {
    return shm::load_relaxed(parts.published.counters[MR_COUNTER_FLOW_INSERTED]);
  };
  // One in a million may find both its buckets full (core/flow_table.h).
  const std::uint32_t opened_min = options.flows - options.flows / 100'000;
  for (int i = 0; i < 100 && (i < 2 || (options.balances && opened() < opened_min)); ++i) {
    (void)sender.run(0, 0.1, false);
  }
  if (options.balances && opened() < opened_min) {
    fail(std::to_string(opened()) + " of " + std::to_string(options.flows) + " flows were opened");
  }
  const double rate = sender.run(options.rate, options.seconds, true);
  stop.store(true);
  eal.wait_for_workers();
  if (sender.lost() != 0) fail(std::to_string(sender.lost()) + " packets did not come back");
  if (options.rate == 0) {
    std::printf("{\"pps\": %.0f}\n", rate);
    return;
  }
  print(sender, rate);
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) { millrace::bench::measure(millrace::bench::parse(argc, argv)); }

// SPDX-License-Identifier: Apache-2.0
//
// How long a decision takes until every worker obeys it, and how many decisions a second go
// through.
//
//   publish_bench ENGINE GROUPS TARGETS FLIPS SECONDS [RATE [SLOTS]]    one line of JSON
//     ENGINE   path of millrace-dataplane, started on a null device with one worker
//     TARGETS  in all, shared out over GROUPS; every group has a listener and a lookup table of
//              SLOTS (65537)
//     FLIPS    changes of health made one by one, each waited for
//     SECONDS  how long changes then come at RATE (1000) a second, whether or not they keep up
//
// The engine is the real program. It forwards nothing here and needs no huge pages. The control
// plane is the real reconciler, store and publisher on one thread with the timers of
// controlplane/daemon; probes and the kernel's routes are not part of it: health is told to the
// reconciler as the checker would, next hops come from a map. A change is in force when the
// engine's workers have acknowledged the first generation that says of its target what was told
// last.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/fatal.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/store/state_store.h"
#include "dataplane/os/clock.h"
#include "dataplane/shm/stats_reader.h"
#include "tests/support/cc/fake_node.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::bench {
namespace {

using namespace millrace::control;
namespace asio = boost::asio;

// As in controlplane/daemon/control_plane.cc.
constexpr std::chrono::milliseconds kTick{100};
constexpr double kPatienceMs = 60'000;
constexpr double kStartMs = 5'500;

double now_ms() { return static_cast<double>(clock_ns(CLOCK_MONOTONIC)) / 1e6; }

struct Options {
  std::string engine;
  std::uint32_t groups = 0;
  std::uint32_t targets = 0;
  std::uint32_t flips = 0;
  double seconds = 0;
  double rate = 1000;
  std::uint32_t slots = MR_LOOKUP_SLOTS_DEFAULT;
};

Options parse(int argc, char** argv) {
  if (argc < 6) fail("usage: publish_bench ENGINE GROUPS TARGETS FLIPS SECONDS [RATE [SLOTS]]");
  const auto number = [&](int i) {
    return static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10));
  };
  return {.engine = argv[1],
          .groups = number(2),
          .targets = number(3),
          .flips = number(4),
          .seconds = std::strtod(argv[5], nullptr),
          .rate = argc > 6 ? std::strtod(argv[6], nullptr) : 1000,
          .slots = argc > 7 ? number(7) : MR_LOOKUP_SLOTS_DEFAULT};
}

// millrace-dataplane on a device that delivers nothing; ended with this object.
class EngineProcess {
 public:
  EngineProcess(const std::string& program, const std::string& directory) {
    pid_ = ::fork();
    if (pid_ < 0) fail("cannot fork");
    if (pid_ > 0) return;
    (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);  // fail() runs no destructor
    const std::string flows = directory + "/flows";
    ::execl(program.c_str(), program.c_str(), "--nic", "net_null0,no-rx=1", "--runtime-dir",
            directory.c_str(), "--flow-dir", flows.c_str(), "--flows", "4096", "--log-level",
            "error", "--eal=--no-huge", "--eal=-m", "--eal=256", nullptr);
    std::perror(program.c_str());
    std::_Exit(127);
  }
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;
  ~EngineProcess() {
    (void)::kill(pid_, SIGTERM);
    (void)::waitpid(pid_, nullptr, 0);  // ours, and not waited for before
  }

  [[nodiscard]] bool is_alive() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }

 private:
  pid_t pid_ = -1;
};

IpAddress address_of(std::uint32_t high_byte, std::uint32_t number) {
  const std::string text = std::to_string(high_byte) + "." + std::to_string(number >> 16 & 255) +
                           "." + std::to_string(number >> 8 & 255) + "." +
                           std::to_string(number & 255);
  return *IpAddress::parse(text);
}

Config config_of(const Options& options) {
  Config config;
  config.node.name = "bench";
  for (std::uint32_t i = 0; i < options.groups; ++i) {
    const std::string name = "group-" + std::to_string(i);
    Listener listener;
    listener.ports = PortRange::one(80);
    listener.default_target_group_v4 = name;
    config.load_balancers.push_back(
        {.name = "lb-" + std::to_string(i), .addresses = {address_of(100, i)}, .listeners = {}});
    config.load_balancers.back().listeners.push_back(std::move(listener));
    config.target_groups.emplace_back();
    config.target_groups.back().name = name;
    config.target_groups.back().port = 8080;
    config.target_groups.back().lookup_slots = options.slots;
  }
  for (std::uint32_t i = 0; i < options.targets; ++i) {
    config.target_groups[i % options.groups].targets.push_back(
        {.address = address_of(10, i), .port = 8080, .weight = 100, .zone = {}});
  }
  return config;
}

// The control plane of this process; see the head of the file.
class ControlPlane final : private test::FakeNode {
 public:
  ControlPlane(const Options& options, const std::string& runtime_dir, const std::string& state_dir)
      : options_(options) {
    for (std::uint32_t i = 0; i < options.targets; ++i) {
      next_hops[address_of(10, i)] = {.mac = {2, 0, 0, 0, 0, 1},
                                      .resolved = true,
                                      .mtu = 1500,
                                      .source = std::nullopt,
                                      .text = "10.0.0.1 at 02:00:00:00:00:01"};
      keys_.push_back({.group = "group-" + std::to_string(i % options.groups),
                       .address = address_of(10, i),
                       .port = 8080});
    }
    reconciler_ = take(Reconciler::open(
        {.runtime_dir = runtime_dir, .version = "bench", .start_ns = clock_ns(CLOCK_BOOTTIME)},
        std::make_unique<StateStore>(take(StateStore::open(state_dir + "/state.db"))),
        {.clock = *this, .host = *this, .health = *this, .routes = *this, .source = source_}));
    tick();
  }

  void apply(const Config& config) { (void)take(reconciler_->apply(config, source_.name())); }
  void set_health(std::uint32_t target, bool is_healthy) {
    TargetHealth health{.state = is_healthy ? TargetState::healthy : TargetState::unhealthy,
                        .reason = is_healthy ? HealthReason::none : HealthReason::timeout,
                        .description = is_healthy ? "" : "Request timed out"};
    reconciler_->on_health(keys_[target], health);
  }
  void poll() {
    io_.poll();
    io_.restart();
  }
  // How often all that was told before has been carried out.
  [[nodiscard]] std::uint64_t settled() const { return settled_; }
  // CPU time of the reconciler, without this program's own loop.
  [[nodiscard]] double busy_ms() const { return static_cast<double>(busy_ns_) / 1e6; }
  [[nodiscard]] std::uint64_t generation() const { return reconciler_->published().generation; }
  [[nodiscard]] core::ConfigView published() const { return reconciler_->published(); }
  [[nodiscard]] std::string problem() const {
    const std::vector<Alarm> alarms = reconciler_->snapshot().alarms;
    return alarms.empty() ? "" : alarms.front().text;
  }

 private:
  [[nodiscard]] Moment now() const override {
    return {clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME)};
  }
  void log(LogLevel /*level*/, const std::string& /*line*/) override {}
  void wake(Haste haste) override {
    const std::uint64_t woken_ns = clock_ns(CLOCK_MONOTONIC);
    gather_timer_.expires_after(
        std::chrono::nanoseconds(settle_due_ns(haste, woken_ns, settled_ns_) - woken_ns));
    gather_timer_.async_wait([this](const auto& error) {
      if (error) return;
      const std::uint64_t began_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
      reconciler_->settle();
      busy_ns_ += clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns;
      settled_ns_ = clock_ns(CLOCK_MONOTONIC);
      ++settled_;
    });
  }
  void tick() {
    const std::uint64_t began_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    reconciler_->tick();
    busy_ns_ += clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns;
    ++settled_;
    tick_timer_.expires_after(kTick);
    tick_timer_.async_wait([this](const auto& error) {
      if (!error) tick();
    });
  }

  Options options_;
  asio::io_context io_;
  asio::steady_timer tick_timer_{io_};
  asio::steady_timer gather_timer_{io_};
  std::vector<TargetKey> keys_;
  test::SilentSource source_;
  std::uint64_t settled_ = 0;
  std::uint64_t settled_ns_ = 0;
  std::uint64_t busy_ns_ = 0;
  std::unique_ptr<Reconciler> reconciler_;
};

class Measurement {
 public:
  explicit Measurement(const Options& options)
      : options_(options),
        engine_(options.engine, directory_.path()),
        stats_(join_stats()),
        control_(options, directory_.path(), state_directory_.path()),
        is_healthy_(options.targets, true) {}

  void run() {
    keep_table_memory();
    const double began = now_ms();
    control_.apply(config_of(options_));
    await_generation();
    apply_ms_ = now_ms() - began;
    for (std::uint32_t target = 0; target < options_.targets; ++target) {
      control_.set_health(target, true);
    }
    const std::uint64_t before = control_.generation();
    while (control_.generation() == before) control_.poll();
    await_generation();
    find_slots();
    outlast_start(began);
    const double idle_ms = control_.busy_ms();
    for (std::uint32_t flip = 0; flip < options_.flips; ++flip) flip_one();
    flip_cpu_ms_ = (control_.busy_ms() - idle_ms) / std::max(options_.flips, 1u);
    if (options_.seconds > 0) sustain();
    check_state();
    print();
  }

 private:
  shm::StatsReader join_stats() {
    const std::string path = directory_.file("stats");
    for (const double began = now_ms(); now_ms() - began < kPatienceMs; ::usleep(1000)) {
      if (!engine_.is_alive()) fail("the engine did not start");
      Result<shm::StatsReader> joined = shm::StatsReader::join(path);
      if (joined) return std::move(*joined);
    }
    fail("the engine made no counters");
  }
  // Until every worker obeys what is published now.
  void await_generation() {
    for (const double began = now_ms(); stats_.acknowledged_by_all() < control_.generation();) {
      if (now_ms() - began > kPatienceMs) {
        fail("not in force: " + stats_.engine().refused_reason + control_.problem());
      }
      control_.poll();
      ::usleep(20);
    }
  }
  // A pseudo-random order that visits many groups, the same in every run.
  std::uint32_t next_target() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>((state_ >> 33) % options_.targets);
  }
  void flip(std::uint32_t target) {
    is_healthy_[target] = !is_healthy_[target];
    control_.set_health(target, is_healthy_[target]);
  }

  void flip_one() {
    const std::uint64_t before = control_.generation();
    const double began = now_ms();
    flip(next_target());
    while (control_.generation() == before) {
      if (now_ms() - began > kPatienceMs) fail("not published: " + control_.problem());
      control_.poll();
    }
    const double published = now_ms();
    await_generation();
    flip_ms_.push_back(now_ms() - began);
    publish_ms_.push_back(published - began);
  }

  // Open loop: the changes that are due are made whether or not earlier ones are in force.
  void sustain() {
    std::uint64_t settled = control_.settled();
    const std::uint64_t first_generation = control_.generation();
    const double began = now_ms();
    const double idle_ms = control_.busy_ms();
    for (;;) {
      const double elapsed_ms = now_ms() - began;
      const bool is_over = elapsed_ms >= options_.seconds * 1000;
      const auto due =
          static_cast<std::uint64_t>(std::min(elapsed_ms / 1000, options_.seconds) * options_.rate);
      for (; changes_ < due; ++changes_) {
        const std::uint32_t target = next_target();
        // From when it was due: a control plane that is late can't hide it.
        pending_.push_back(
            {.made_ms = began + static_cast<double>(changes_ + 1) * 1000 / options_.rate,
             .target = target,
             .generation = 0});
        flip(target);
      }
      control_.poll();
      if (control_.settled() != settled) {
        settled = control_.settled();
        note_published();
      }
      note_obeyed();
      if (is_over && pending_.empty()) break;
      if (elapsed_ms > options_.seconds * 1000 + kPatienceMs) fail("changes do not get through");
      ::usleep(20);
    }
    images_ = control_.generation() - first_generation;
    core_share_ = (control_.busy_ms() - idle_ms) / (now_ms() - began);
  }

  void note_published() {
    const core::ConfigView view = control_.published();
    for (Pending& change : pending_) {
      if (change.generation != 0) continue;
      const bool is_healthy = (view.targets[slots_[change.target]].flags & MR_TARGET_HEALTHY) != 0;
      if (is_healthy == is_healthy_[change.target]) change.generation = view.generation;
    }
  }

  void note_obeyed() {
    const std::uint64_t obeyed = stats_.acknowledged_by_all();
    std::erase_if(pending_, [&](const Pending& change) {
      const bool is_obeyed = change.generation != 0 && change.generation <= obeyed;
      if (is_obeyed) sustained_ms_.push_back(now_ms() - change.made_ms);
      return is_obeyed;
    });
  }

  // Five seconds after its start a control plane works out everything once more, because next hops
  // of the image before are no longer taken for the kernel's: not what is measured here.
  void outlast_start(double began) {
    while (now_ms() - began < kStartMs) {
      control_.poll();
      ::usleep(1000);
    }
    await_generation();
  }

  // Where the image has each target; as long as the config stays, that does not change.
  void find_slots() {
    std::map<IpAddress, std::uint32_t> slots;
    const core::ConfigView view = control_.published();
    for (std::uint32_t slot = 0; slot < view.targets.size(); ++slot) {
      if (view.targets[slot].id != 0) slots[{view.targets[slot].addr}] = slot;
    }
    for (std::uint32_t target = 0; target < options_.targets; ++target) {
      const auto found = slots.find(address_of(10, target));
      if (found == slots.end()) fail("a target is missing: " + std::to_string(target));
      slots_.push_back(found->second);
    }
  }

  // Every target is as it was told last, in the image that the workers acknowledged.
  void check_state() {
    if (stats_.engine().refused_generation != 0) fail(stats_.engine().refused_reason);
    const core::ConfigView view = control_.published();
    if (stats_.acknowledged_by_all() != view.generation) fail("an older image is in force");
    for (std::uint32_t target = 0; target < options_.targets; ++target) {
      const mr_target& published = view.targets[slots_[target]];
      const bool is_healthy = (published.flags & MR_TARGET_HEALTHY) != 0;
      if (IpAddress{published.addr} != address_of(10, target) ||
          is_healthy != is_healthy_[target]) {
        fail("a change was lost: target " + std::to_string(target));
      }
    }
  }

  static double at_share(std::vector<double> values, double share) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
  }
  void print() const {
    std::printf(
        "{\"apply_ms\": %.1f, \"flip_ms\": %.3f, \"flip_p99_ms\": %.3f, \"flip_max_ms\": %.3f, "
        "\"publish_ms\": %.3f, \"flip_cpu_ms\": %.3f, \"changes\": %llu, \"images\": %llu, "
        "\"core_share\": %.3f, \"sustained_ms\": %.3f, \"sustained_p99_ms\": %.3f, "
        "\"sustained_max_ms\": %.3f}\n",
        apply_ms_, at_share(flip_ms_, 0.5), at_share(flip_ms_, 0.99), at_share(flip_ms_, 1),
        at_share(publish_ms_, 0.5), flip_cpu_ms_, static_cast<unsigned long long>(changes_),
        static_cast<unsigned long long>(images_), core_share_, at_share(sustained_ms_, 0.5),
        at_share(sustained_ms_, 0.99), at_share(sustained_ms_, 1));
  }

  struct Pending {
    double made_ms;
    std::uint32_t target;
    std::uint64_t generation;  // that says so; 0: none yet
  };

  Options options_;
  // As /run and /var/lib are: a segment that a disk's file system writes back costs other faults.
  test::TempDir directory_{"/dev/shm"};
  test::TempDir state_directory_;
  EngineProcess engine_;
  shm::StatsReader stats_;
  ControlPlane control_;
  std::vector<bool> is_healthy_;      // as told last
  std::vector<std::uint32_t> slots_;  // in the image; both by target
  std::vector<Pending> pending_;
  std::uint64_t state_ = 1;
  double apply_ms_ = 0;
  std::vector<double> flip_ms_;
  std::vector<double> publish_ms_;
  std::vector<double> sustained_ms_;
  std::uint64_t changes_ = 0;
  std::uint64_t images_ = 0;
  double flip_cpu_ms_ = 0;  // the control plane's, for each
  double core_share_ = 0;   // of one CPU, while changes come
};

}  // namespace
}  // namespace millrace::bench

// NOLINTNEXTLINE(bugprone-exception-escape): a benchmark may end by what it throws
int main(int argc, char** argv) {
  millrace::bench::Measurement(millrace::bench::parse(argc, argv)).run();
}

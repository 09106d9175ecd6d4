// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/checker.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <map>
#include <span>
#include <utility>

#include "controlplane/health/prober.h"
#include "dataplane/core/checksum64.h"

namespace millrace::control {
namespace {

constexpr std::size_t kProbesMax = 1024;

// The other half of the descriptors is for everything else that the process opens.
std::size_t probes_max_of_process() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;  // cannot fail for a valid resource
  return std::clamp<std::size_t>(limit.rlim_cur / 2, 1, kProbesMax);
}

// A number that belongs to the target alone and is the same in every run.
std::uint64_t phase_of(const TargetKey& key) {
  const std::string text = key.to_string();
  return core::checksum64(std::as_bytes(std::span(text)));
}

bool is_same_probing(const HealthTarget& a, const HealthTarget& b) {
  return a.check == b.check && a.listener_port == b.listener_port;
}

}  // namespace

class HealthChecker::Impl {
 public:
  Impl(boost::asio::io_context& io, OnChange on_change)
      : io_(io), on_change_(std::move(on_change)), probes_max_(probes_max_of_process()) {}

  void set_targets(std::vector<HealthTarget> targets);
  void set_hold(HealthHold hold);
  [[nodiscard]] std::optional<TargetHealth> find(const TargetKey& key) const;
  [[nodiscard]] std::string problem() const;
  [[nodiscard]] std::size_t probes_max() const { return probes_max_; }

 private:
  struct Entry : std::enable_shared_from_this<Entry> {
    Entry(boost::asio::io_context& io, HealthTarget wanted)
        : target(std::move(wanted)), phase(phase_of(target.key)), timer(io) {}

    HealthTarget target;
    std::uint64_t phase;
    HealthState state;
    boost::asio::steady_timer timer;  // to the next probe
    std::unique_ptr<Probe> probe;     // under way
    ProbeTime started;                // of `probe`
    std::string hold;                 // why a failure of `probe` would be no evidence
    bool is_waiting = false;          // due, in waiting_
    std::string local_fault;          // why the last probe said nothing
  };

  void add(HealthTarget target);
  void update(Entry& entry, HealthTarget target);
  void stop(Entry& entry);
  void schedule(Entry& entry, ProbeTime when);
  void on_due(Entry& entry);
  void start(Entry& entry);
  void start_waiting();
  [[nodiscard]] bool holds(const TargetKey& key) const {
    return !hold_.reason.empty() && (hold_.targets.empty() || hold_.targets.contains(key));
  }
  void on_outcome(Entry& entry, ProbeOutcome outcome);

  boost::asio::io_context& io_;
  OnChange on_change_;
  std::size_t probes_max_;
  std::size_t probes_open_ = 0;
  HealthHold hold_;
  std::map<TargetKey, std::shared_ptr<Entry>> entries_;
  std::deque<Entry*> waiting_;  // due, in order, for want of a free probe
};

void HealthChecker::Impl::set_targets(std::vector<HealthTarget> targets) {
  std::map<TargetKey, std::shared_ptr<Entry>> gone = std::exchange(entries_, {});
  for (HealthTarget& target : targets) {
    auto known = gone.extract(target.key);
    if (known.empty()) {
      add(std::move(target));
      continue;
    }
    Entry& entry = *known.mapped();
    entries_.insert(std::move(known));
    if (!is_same_probing(entry.target, target)) update(entry, std::move(target));
  }
  for (auto& [key, entry] : gone) stop(*entry);
  gone.clear();
  start_waiting();
}

void HealthChecker::Impl::add(HealthTarget target) {
  auto entry = std::make_shared<Entry>(io_, std::move(target));
  if (entry->target.restored) entry->state = HealthState(*entry->target.restored);
  Entry& added = *entry;
  const bool is_unique = entries_.emplace(added.target.key, std::move(entry)).second;
  if (!is_unique) return;
  const std::chrono::milliseconds interval(added.target.check.interval_ms);
  schedule(added, first_probe_time(std::chrono::steady_clock::now(), interval, added.phase));
}

void HealthChecker::Impl::update(Entry& entry, HealthTarget target) {
  stop(entry);
  entry.target = std::move(target);
  entry.state.forget_runs();
  const std::chrono::milliseconds interval(entry.target.check.interval_ms);
  schedule(entry, first_probe_time(std::chrono::steady_clock::now(), interval, entry.phase));
}

void HealthChecker::Impl::stop(Entry& entry) {
  if (entry.probe) {
    entry.probe.reset();
    --probes_open_;
  }
  if (entry.is_waiting) std::erase(waiting_, &entry);
  entry.is_waiting = false;
  entry.local_fault.clear();
  entry.timer.cancel();
}

void HealthChecker::Impl::schedule(Entry& entry, ProbeTime when) {
  entry.timer.expires_at(when);
  // A handler that was already on its way when the timer was cancelled gets no error: by then its
  // entry is gone, or has a later expiry.
  entry.timer.async_wait([this, held = entry.weak_from_this(), when](const auto& error) {
    const std::shared_ptr<Entry> found = held.lock();
    if (!error && found && found->timer.expiry() == when) on_due(*found);
  });
}

void HealthChecker::Impl::on_due(Entry& entry) {
  if (probes_open_ < probes_max_) return start(entry);
  entry.is_waiting = true;
  waiting_.push_back(&entry);
}

void HealthChecker::Impl::start(Entry& entry) {
  const TargetKey& key = entry.target.key;
  const std::uint16_t port = entry.target.check.port.value_or(key.port);
  ++probes_open_;
  entry.started = std::chrono::steady_clock::now();
  entry.hold = holds(key) ? hold_.reason : "";
  const std::uint16_t listener_port = entry.target.listener_port;
  entry.probe =
      start_probe(io_,
                  {.address = key.address,
                   .port = port,
                   .host_port = listener_port == 0 ? port : listener_port,
                   .check = entry.target.check},
                  // The entry outlives its probe: stop() destroys that first.
                  [this, &entry](const ProbeOutcome& outcome) { on_outcome(entry, outcome); });
}

void HealthChecker::Impl::start_waiting() {
  while (!waiting_.empty() && probes_open_ < probes_max_) {
    Entry& next = *waiting_.front();
    waiting_.pop_front();
    next.is_waiting = false;
    start(next);
  }
}

void HealthChecker::Impl::on_outcome(Entry& entry, ProbeOutcome outcome) {
  entry.probe.reset();
  --probes_open_;
  if (!entry.hold.empty() && outcome.verdict != ProbeVerdict::passed) {
    outcome = {.verdict = ProbeVerdict::local_fault, .detail = entry.hold};
  }
  entry.local_fault = outcome.verdict == ProbeVerdict::local_fault ? outcome.detail : "";
  const std::chrono::milliseconds interval(entry.target.check.interval_ms);
  schedule(entry,
           next_probe_time(entry.started, std::chrono::steady_clock::now(), interval, entry.phase));
  const bool is_changed = entry.state.observe(outcome, entry.target.check);
  start_waiting();
  if (!is_changed) return;
  // Copies, and nothing after it: the callback may set other targets.
  const TargetKey key = entry.target.key;
  const TargetHealth health = entry.state.health();
  on_change_(key, health);
}

void HealthChecker::Impl::set_hold(HealthHold hold) {
  hold_ = std::move(hold);
  if (hold_.reason.empty()) return;
  for (auto& [key, entry] : entries_) {
    if (!holds(key)) continue;
    entry->hold = hold_.reason;
    if (hold_.forgets_failures) entry->state.forget_failures();
  }
}

std::optional<TargetHealth> HealthChecker::Impl::find(const TargetKey& key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  return found->second->state.health();
}

std::string HealthChecker::Impl::problem() const {
  std::size_t count = 0;
  const std::string* cause = nullptr;
  for (const auto& [key, entry] : entries_) {
    if (entry->local_fault.empty()) continue;
    ++count;
    if (cause == nullptr) cause = &entry->local_fault;
  }
  if (cause == nullptr) return "";
  return std::to_string(count) + " of " + std::to_string(entries_.size()) +
         " targets not probed: " + *cause;
}

HealthChecker::HealthChecker(boost::asio::io_context& io, OnChange on_change)
    : impl_(std::make_unique<Impl>(io, std::move(on_change))) {}
HealthChecker::~HealthChecker() = default;

void HealthChecker::set_targets(std::vector<HealthTarget> targets) {
  impl_->set_targets(std::move(targets));
}
void HealthChecker::set_hold(HealthHold hold) { impl_->set_hold(std::move(hold)); }
std::optional<TargetHealth> HealthChecker::find(const TargetKey& key) const {
  return impl_->find(key);
}
std::string HealthChecker::problem() const { return impl_->problem(); }
std::size_t HealthChecker::probes_max() const { return impl_->probes_max(); }

}  // namespace millrace::control

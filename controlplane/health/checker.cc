// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/checker.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <span>
#include <utility>

#include "controlplane/health/probe_lateness.h"
#include "controlplane/health/probe_queue.h"
#include "controlplane/health/prober.h"
#include "dataplane/core/checksum64.h"

namespace millrace::control {
namespace {

// An open probe costs a descriptor and some 6 KB. With fewer places than targets that do not answer
// those are probed late.
constexpr std::size_t kProbesMax = 8192;

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
      : io_(io), on_change_(std::move(on_change)), queue_(probes_max_of_process()) {}

  void set_targets(std::vector<HealthTarget> targets);
  void set_hold(HealthHold hold);
  [[nodiscard]] std::optional<TargetHealth> find(const TargetKey& key) const;
  [[nodiscard]] std::string problem() const;
  [[nodiscard]] bool is_held() const;
  [[nodiscard]] std::string lateness_problem() const;
  [[nodiscard]] std::chrono::nanoseconds lateness() const;
  [[nodiscard]] std::size_t probes_max() const { return queue_.places_max(); }

 private:
  struct Entry : std::enable_shared_from_this<Entry> {
    Entry(boost::asio::io_context& io, HealthTarget wanted)
        : target(std::move(wanted)), phase(phase_of(target.key)), timer(io) {}

    HealthTarget target;
    std::uint64_t phase;
    HealthState state;
    boost::asio::steady_timer timer;       // to the next probe
    ProbeTime due;                         // of the next probe, or of `probe`
    std::optional<ProbeTime> waits_since;  // for a place, with the next probe
    std::unique_ptr<Probe> probe;          // under way
    std::uint64_t probe_id = 0;            // of `probe`
    ProbeTime started;                     // likewise
    std::chrono::nanoseconds late{};       // how much later than due the last probe started
    ProbeKind kind = ProbeKind::answering;
    std::string hold;            // why a failure of `probe` would be no evidence
    std::string local_fault;     // why the last probe said nothing
    bool is_held_fault = false;  // because of a hold
  };

  void add(HealthTarget target);
  void update(Entry& entry, HealthTarget target);
  void stop(Entry& entry);
  void schedule(Entry& entry, ProbeTime when);
  void start_waiting();
  void start(Entry& entry);
  void make_room();
  [[nodiscard]] bool holds(const TargetKey& key) const {
    return !hold_.reason.empty() && (hold_.targets.empty() || hold_.targets.contains(key));
  }
  void on_outcome(Entry& entry, ProbeOutcome outcome);
  [[nodiscard]] static LateCause cause_of_lateness(const Entry& entry, ProbeTime now);
  [[nodiscard]] std::chrono::nanoseconds lateness_of(const Entry& entry, ProbeTime now) const;

  boost::asio::io_context& io_;
  OnChange on_change_;
  HealthHold hold_;
  std::map<TargetKey, std::shared_ptr<Entry>> entries_;
  ProbeQueue<Entry*> queue_;
  ProbeLateness lateness_;
  // Probes that have their verdict and whose connection closes, by probe_id: the oldest first.
  std::map<std::uint64_t, std::unique_ptr<Probe>> closing_;
  std::uint64_t last_probe_id_ = 0;
};

void HealthChecker::Impl::set_targets(std::vector<HealthTarget> targets) {
  std::map<TargetKey, std::shared_ptr<Entry>> gone = std::exchange(entries_, {});
  for (HealthTarget& target : targets) {
    const auto same = gone.find(target.key);
    if (same == gone.end() || same->second->target.id != target.id) {
      add(std::move(target));
      continue;
    }
    auto known = gone.extract(same);
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
  if (entry->target.restored) {
    const bool was_silent = entry->target.restored->reason == HealthReason::timeout;
    entry->kind = was_silent ? ProbeKind::silent : ProbeKind::answering;
    entry->state = HealthState(*entry->target.restored);
  }
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
  entry.kind = ProbeKind::answering;  // elsewhere it may
  const std::chrono::milliseconds interval(entry.target.check.interval_ms);
  schedule(entry, first_probe_time(std::chrono::steady_clock::now(), interval, entry.phase));
}

void HealthChecker::Impl::stop(Entry& entry) {
  if (entry.probe) {
    entry.probe.reset();
    queue_.release(entry.kind);
  }
  queue_.remove(&entry);
  entry.waits_since.reset();
  entry.local_fault.clear();
  entry.late = {};
  entry.timer.cancel();
}

void HealthChecker::Impl::schedule(Entry& entry, ProbeTime when) {
  entry.due = when;
  entry.timer.expires_at(when);
  // A handler that was already on its way when the timer was cancelled gets no error: by then its
  // entry is gone, or has a later expiry.
  entry.timer.async_wait([this, held = entry.weak_from_this(), when](const auto& error) {
    const std::shared_ptr<Entry> found = held.lock();
    if (error || !found || found->timer.expiry() != when) return;
    found->waits_since = std::chrono::steady_clock::now();
    queue_.push(found.get(), found->kind);
    start_waiting();
  });
}

void HealthChecker::Impl::start_waiting() {
  while (const std::optional<Entry*> next = queue_.pop()) start(**next);
}

void HealthChecker::Impl::start(Entry& entry) {
  make_room();
  const TargetKey& key = entry.target.key;
  const std::uint16_t port = entry.target.check.port.value_or(key.port);
  entry.started = std::chrono::steady_clock::now();
  const LateCause cause = cause_of_lateness(entry, entry.started);
  entry.waits_since.reset();
  if (lateness_.note_start(entry.due, entry.started, cause)) {
    for (auto& [other_key, other] : entries_) other->late = {};  // which is over
  }
  entry.late = entry.started - entry.due;
  entry.hold = holds(key) ? hold_.reason : "";
  const std::uint16_t listener_port = entry.target.listener_port;
  const std::uint64_t id = ++last_probe_id_;
  entry.probe_id = id;
  entry.probe = start_probe(
      io_,
      {.address = key.address,
       .port = port,
       .host_port = listener_port == 0 ? port : listener_port,
       .check = entry.target.check},
      // The entry outlives its probe's verdict: stop() destroys the probe first.
      {.on_outcome = [this, &entry](const ProbeOutcome& outcome) { on_outcome(entry, outcome); },
       .on_closed = [this, id] { closing_.erase(id); }});
}

// Connections that close politely are the first to give way.
void HealthChecker::Impl::make_room() {
  while (!closing_.empty() && queue_.open_count() + closing_.size() > queue_.places_max()) {
    closing_.erase(closing_.begin());
  }
}

void HealthChecker::Impl::on_outcome(Entry& entry, ProbeOutcome outcome) {
  closing_.emplace(entry.probe_id, std::move(entry.probe));
  queue_.release(entry.kind);
  entry.kind =
      outcome.verdict == ProbeVerdict::timed_out ? ProbeKind::silent : ProbeKind::answering;
  const bool is_held = !entry.hold.empty() && outcome.verdict != ProbeVerdict::passed;
  if (is_held) {
    outcome = {.verdict = ProbeVerdict::local_fault, .detail = entry.hold};
  }
  entry.local_fault = outcome.verdict == ProbeVerdict::local_fault ? outcome.detail : "";
  entry.is_held_fault = is_held;
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
  const bool is_news = !hold_.reason.empty() || !hold.reason.empty();  // it comes with every tick
  hold_ = std::move(hold);
  if (!is_news) return;
  for (auto& [key, entry] : entries_) {
    if (entry->is_held_fault && !holds(key)) entry->local_fault.clear();  // no longer why
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
  const Entry* first = nullptr;
  for (const auto& [key, entry] : entries_) {
    if (entry->local_fault.empty()) continue;
    ++count;
    if (first == nullptr) first = entry.get();
  }
  if (first == nullptr) return "";
  return std::to_string(count) + " of " + std::to_string(entries_.size()) +
         " targets not probed: " + first->local_fault + " (" + first->target.key.to_string() +
         " for one)";
}

std::string HealthChecker::Impl::lateness_problem() const {
  const ProbeTime now = std::chrono::steady_clock::now();
  ProbeLateness lateness = lateness_;
  std::size_t count = 0;
  const Entry* worst = nullptr;
  for (const auto& [key, entry] : entries_) {
    if (lateness_of(*entry, now) <= ProbeLateness::kMax) continue;
    if (!entry->probe) lateness.note_late(entry->due, now, cause_of_lateness(*entry, now));
    ++count;
    if (worst == nullptr || lateness_of(*entry, now) > lateness_of(*worst, now)) {
      worst = entry.get();
    }
  }
  if (worst == nullptr || !lateness.lasts()) return "";
  const std::string cause =
      lateness.cause() == LateCause::cpu
          ? "the control plane does not get its CPU in time"
          : std::to_string(queue_.open_count()) +
                " probes are under way, and this process may have " +
                std::to_string(queue_.places_max()) +
                " at once, of which targets that do not answer get three quarters: raise its limit "
                "of open files (LimitNOFILE), or take dead targets out of the config";
  const auto late_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(lateness_of(*worst, now)).count();
  return std::to_string(count) + " of " + std::to_string(entries_.size()) +
         " targets are probed late, " + worst->target.key.to_string() + " by " +
         std::to_string(late_ms) + " ms: " + cause;
}

// Of a probe that is to start: what it has waited for longer.
LateCause HealthChecker::Impl::cause_of_lateness(const Entry& entry, ProbeTime now) {
  if (!entry.waits_since) return LateCause::cpu;
  const auto for_turn = *entry.waits_since - entry.due;
  return now - *entry.waits_since > for_turn ? LateCause::places : LateCause::cpu;
}

std::chrono::nanoseconds HealthChecker::Impl::lateness_of(const Entry& entry, ProbeTime now) const {
  const std::chrono::nanoseconds before = lateness_.is_on(now) ? entry.late : entry.late.zero();
  if (entry.probe) return before;
  return std::max<std::chrono::nanoseconds>(before, now - entry.due);
}

std::chrono::nanoseconds HealthChecker::Impl::lateness() const {
  const ProbeTime now = std::chrono::steady_clock::now();
  std::chrono::nanoseconds worst{};
  for (const auto& [key, entry] : entries_) worst = std::max(worst, lateness_of(*entry, now));
  return worst;
}

bool HealthChecker::Impl::is_held() const {
  return std::ranges::all_of(entries_, [](const auto& known) {
    return known.second->local_fault.empty() || known.second->is_held_fault;
  });
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
bool HealthChecker::is_held() const { return impl_->is_held(); }
std::string HealthChecker::lateness_problem() const { return impl_->lateness_problem(); }
std::chrono::nanoseconds HealthChecker::lateness() const { return impl_->lateness(); }
std::size_t HealthChecker::probes_max() const { return impl_->probes_max(); }

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/exporter.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <optional>
#include <utility>

#include "controlplane/telemetry/metrics.h"

namespace millrace::control {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// Two scrapes at a time: two Prometheus servers watching one node is the usual pair.
constexpr std::size_t kServerThreads = 2;

std::uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  (void)clock_gettime(clock, &now);  // cannot fail for the two clocks that are read here
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Hands snapshots from the io_context's thread to the server's threads.
class SnapshotDesk : public std::enable_shared_from_this<SnapshotDesk> {
 public:
  struct Answer {
    std::shared_ptr<const Snapshot> snapshot;  // null when there never was one
    SteadyTime taken;
  };

  SnapshotDesk(boost::asio::io_context& io, std::function<Snapshot()> take_snapshot)
      : io_(io), take_snapshot_(std::move(take_snapshot)) {}

  // On a server thread: a new snapshot, or the last one when that takes too long.
  [[nodiscard]] Answer ask() {
    std::unique_lock lock(mutex_);
    if (is_closed_) return answer_;
    const std::uint64_t ticket = ++asked_;
    boost::asio::post(io_, [weak = weak_from_this(), ticket] {
      if (const auto self = weak.lock()) self->answer(ticket);
    });
    (void)changed_.wait_for(lock, Exporter::kSnapshotWait,
                            [&] { return answered_ >= ticket || is_closed_; });
    return answer_;
  }

  // On the io_context's thread, or when it does not run: nobody waits any more.
  void close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    changed_.notify_all();
  }

 private:
  // Answers every question asked so far.
  void answer(std::uint64_t ticket) {
    std::uint64_t newest = 0;
    {
      const std::lock_guard lock(mutex_);
      if (is_closed_ || answered_ >= ticket) return;
      newest = asked_;
    }
    auto snapshot = std::make_shared<const Snapshot>(take_snapshot_());
    const std::lock_guard lock(mutex_);
    answered_ = newest;
    answer_ = {.snapshot = std::move(snapshot), .taken = std::chrono::steady_clock::now()};
    changed_.notify_all();
  }

  boost::asio::io_context& io_;
  std::function<Snapshot()> take_snapshot_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t asked_ = 0;
  std::uint64_t answered_ = 0;
  Answer answer_;
  bool is_closed_ = false;
};

class Collector final : public prometheus::Collectable {
 public:
  explicit Collector(std::shared_ptr<SnapshotDesk> desk) : desk_(std::move(desk)) {}

  [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override {
    const SnapshotDesk::Answer answer = desk_->ask();
    if (!answer.snapshot) return {};
    const std::chrono::duration<double> age = std::chrono::steady_clock::now() - answer.taken;
    return collect_metrics(*answer.snapshot, {.boot_realtime_ns = boot_realtime_ns_,
                                              .snapshot_age_seconds = age.count()});
  }

 private:
  std::shared_ptr<SnapshotDesk> desk_;
  std::uint64_t boot_realtime_ns_ = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME);
};

// "10.0.0.1:9465" or "[::1]:9465". The server would take more (lists, ports with TLS), and a bare
// port as "all interfaces", which nobody should get by accident.
bool is_address_and_port(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  const std::string port = text.substr(colon + 1);
  const bool is_number = !port.empty() && port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoul(port) > 65535) return false;
  std::string host = text.substr(0, colon);
  const bool is_bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (is_bracketed) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  return address && address->is_v4() != is_bracketed;
}

}  // namespace

struct Exporter::Impl {
  std::shared_ptr<SnapshotDesk> desk;
  std::shared_ptr<Collector> collector;
  std::unique_ptr<prometheus::Exposer> exposer;
};

Result<std::unique_ptr<Exporter>> Exporter::listen(const std::string& address,
                                                   boost::asio::io_context& io,
                                                   std::function<Snapshot()> take_snapshot) {
  if (!is_address_and_port(address)) {
    return Error{"cannot serve metrics on '" + address +
                 "': not ADDRESS:PORT, as 127.0.0.1:9465 or [::1]:9465"};
  }
  auto impl = std::make_unique<Impl>();
  impl->desk = std::make_shared<SnapshotDesk>(io, std::move(take_snapshot));
  impl->collector = std::make_shared<Collector>(impl->desk);
  try {
    impl->exposer = std::make_unique<prometheus::Exposer>(address, kServerThreads);
  } catch (const std::exception&) {
    // The library's own text names neither address nor cause.
    return Error{"cannot serve metrics on " + address +
                 ": the address is not of this machine, the port is in use or needs privilege"};
  }
  impl->exposer->RegisterCollectable(impl->collector);
  return std::unique_ptr<Exporter>(new Exporter(std::move(impl)));
}

Exporter::Exporter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Exporter::~Exporter() {
  impl_->desk->close();  // first, so that the server's threads end at once
}

int Exporter::port() const { return impl_->exposer->GetListeningPorts().at(0); }

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/generator.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "bench/pktgen/frame_pool.h"

namespace millrace::pktgen {
namespace {

// For bursts and caches, and for each nic: AF_XDP takes 2048 to fill its queue and holds as many.
constexpr std::uint32_t kRxMbufs = 4095;
constexpr std::uint32_t kRxMbufsPerNic = 4096;
// Between two looks at whether the run is over; far less than a millisecond.
constexpr std::uint32_t kTurnsPerLook = 64;
constexpr std::uint64_t kReportNs = 1'000'000'000;
constexpr double kStartFilePauseSeconds = 0.01;
// Copper needs up to three seconds to agree on a speed.
constexpr std::uint64_t kLinkWaitNs = 10'000'000'000;
constexpr timespec kLinkPause{.tv_sec = 0, .tv_nsec = 10'000'000};

std::uint32_t rx_mbufs(const GeneratorOptions& options) {
  return kRxMbufs + kRxMbufsPerNic * static_cast<std::uint32_t>(options.devices.size());
}

// The value of an argument of a virtual device; empty if it has none.
std::string argument_of(const std::string& device, const std::string& key) {
  const std::size_t found = device.find("," + key + "=");
  if (found == std::string::npos) return "";
  const std::size_t first = found + key.size() + 2;
  return device.substr(first, device.find(',', first) - first);
}

bool is_virtio_user(const std::string& device) { return device.rfind("net_virtio_user", 0) == 0; }

// DPDK's virtio-user waits for its other end with a lock of the EAL's held that vhost takes too.
Status check_vhost_user(const std::vector<std::string>& devices) {
  for (const std::string& device : devices) {
    if (!is_virtio_user(device)) continue;
    const std::string path = argument_of(device, "path");
    for (const std::string& other : devices) {
      if (other.rfind("net_vhost", 0) != 0 || argument_of(other, "iface") != path) continue;
      return Error{"nic " + device + ": both ends of " + path +
                   " in one process would wait for each other for ever; give one to another "
                   "process"};
    }
  }
  return ok();
}

std::uint64_t ns_of(double seconds) { return static_cast<std::uint64_t>(seconds * 1e9); }

}  // namespace

std::uint64_t memory_bytes_for(const GeneratorOptions& options) {
  const std::uint64_t connections =
      options.profile.connections ? dpdk::MbufPool::bytes_for(ConnectionLoad::kMbufs) : 0;
  return dpdk::MbufPool::bytes_for(rx_mbufs(options)) + connections +
         options.profile.streams.size() * dpdk::MbufPool::bytes_for(Sender::kMbufs);
}

std::vector<std::string> eal_arguments_for(const GeneratorOptions& options) {
  // vhost-user passes at most eight files of memory on, and each huge page would be one.
  if (std::ranges::any_of(options.devices, is_virtio_user)) return {"--single-file-segments"};
  return {};
}

Result<std::unique_ptr<Generator>> Generator::make(const GeneratorOptions& options) {
  if (Status good = check_vhost_user(options.devices); !good) return good.error();
  auto pool = dpdk::MbufPool::create("rx", rx_mbufs(options));
  if (!pool) return pool.error();
  std::unique_ptr<Generator> generator(new Generator(options, std::move(pool).value()));
  if (Status opened = generator->open(); !opened) return opened.error();
  return generator;
}

Status Generator::open() {
  for (const std::string& device : options_.devices) {
    auto nic = dpdk::Nic::open({.device = device,
                                .index = static_cast<std::uint8_t>(nics_.size()),
                                .queue_count = 1,
                                .worker_count = 1},
                               rx_pool_);
    if (!nic) return nic.error();
    nics_.push_back(std::move(nic).value());
  }
  if (Status opened = open_senders(); !opened) return opened;
  if (options_.profile.connections) {
    if (Status opened = open_connections(); !opened) return opened;
  }
  return wait_for_links();
}

Status Generator::wait_for_links() {
  const std::uint64_t end_ns = clock_.now_ns() + kLinkWaitNs;
  for (const auto& nic : nics_) {
    while (!nic->link_is_up()) {
      if (clock_.now_ns() >= end_ns) {
        return Error{"nic " + nic->name() + ": has no link; is there anybody at its other end?"};
      }
      (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &kLinkPause,
                              nullptr);  // a signal may cut it short
    }
  }
  return ok();
}

Status Generator::open_senders() {
  stream_pools_.reserve(options_.profile.streams.size());  // senders refer to them
  for (const Stream& stream : options_.profile.streams) {
    const auto index = static_cast<std::uint8_t>(senders_.size());
    auto source = StreamSource::make(stream, {.index = index, .seed = options_.profile.seed});
    if (!source) return source.error();
    auto pool = make_zero_pool("tx" + std::to_string(index), Sender::kMbufs);
    if (!pool) return pool.error();
    stream_pools_.push_back(std::move(pool).value());
    senders_.push_back(std::make_unique<Sender>(std::move(source).value(),
                                                nics_.front()->tx_queue(0), stream_pools_.back()));
  }
  return ok();
}

Status Generator::open_connections() {
  auto pool = make_zero_pool("connections", ConnectionLoad::kMbufs);
  if (!pool) return pool.error();
  connection_pool_.emplace(std::move(pool).value());
  connections_ = std::make_unique<ConnectionLoad>(
      *options_.profile.connections,
      ConnectionLoad::Ways{.pool = *connection_pool_,
                           .clients = nics_.front()->tx_queue(0),
                           .targets = nics_.back()->tx_queue(0),
                           .are_alone = options_.profile.streams.empty()});
  return ok();
}

void Generator::run(const std::function<bool()>& should_stop, const std::function<void()>& report) {
  warm_up(should_stop);
  start_ns_ = clock_.now_ns();
  turn_ns_ = start_ns_;
  for (const auto& sender : senders_) sender->start(start_ns_);
  if (connections_) connections_->start(start_ns_);
  const std::uint64_t end_ns = start_ns_ + ns_of(options_.profile.seconds);
  std::uint64_t report_ns = start_ns_ + kReportNs;
  for (bool is_sending = true; is_sending;) {
    for (std::uint32_t i = 0; i < kTurnsPerLook; ++i) turn(true);
    const std::uint64_t now_ns = clock_.now_ns();
    sending_ns_ = now_ns - start_ns_;
    is_sending = now_ns < end_ns && !should_stop();
    if (now_ns >= report_ns) {
      report();
      report_ns += kReportNs;
    }
  }
  // Connections say themselves when nothing is on its way any more.
  listen(options_.drain_seconds, [&] {
    const bool has_live = !connections_ || connections_->clients().live() > 0;
    return should_stop() || (senders_.empty() && !has_live);
  });
  turn(false);  // the last acknowledgements
}

void Generator::warm_up(const std::function<bool()>& should_stop) noexcept {
  listen(options_.warm_up_seconds, should_stop);
  if (options_.start_file.empty()) return;
  while (::access(options_.start_file.c_str(), F_OK) != 0 && !should_stop()) {
    listen(kStartFilePauseSeconds, should_stop);
  }
}

void Generator::listen(double seconds, const std::function<bool()>& is_over) noexcept {
  const std::uint64_t end_ns = clock_.now_ns() + ns_of(seconds);
  while (clock_.now_ns() < end_ns && !is_over()) turn(false);
}

void Generator::turn(bool is_sending) noexcept {
  // A full burst means that more is waiting. New connections would only lengthen the queue until
  // packets are lost in it: those that are open come first, and the schedule shows what was left
  // out.
  bool is_behind = false;
  bool has_received = false;
  for (const auto& nic : nics_) {
    const std::uint32_t count = receive(*nic);
    is_behind |= count == core::kBurstMax;
    has_received |= count > 0;
  }
  const std::uint64_t now_ns = clock_.now_ns();
  if (is_sending) account(now_ns, has_received);
  work_ = {};
  if (connections_) connections_->turn(now_ns, is_sending && !is_behind, work_);
  if (!is_sending) return;
  for (const auto& sender : senders_) sender->send_due(now_ns, work_);
}

// From the last turn's sending to this one's: what the time went to.
void Generator::account(std::uint64_t now_ns, bool has_received) noexcept {
  const std::uint64_t spent_ns = now_ns - turn_ns_;
  turn_ns_ = now_ns;
  if (work_.is_blocked) {
    blocked_ns_ += spent_ns;
  } else if (work_.has_sent || has_received) {
    busy_ns_ += spent_ns;
  }
}

std::uint32_t Generator::receive(dpdk::Nic& nic) noexcept {
  const std::uint32_t count = nic.rx_queues()[0].receive(burst_.mbufs);
  if (count == 0) return 0;
  burst_.view.count = count;
  std::uint64_t bytes = 0;
  (void)dpdk::view_mbufs(burst_, bytes);  // what is too long for a mark is nobody's
  const std::uint64_t now_ns = clock_.now_ns();
  if (connections_) receive_connections(nic, now_ns);
  receiver_.receive(burst_.view, now_ns);
  dpdk::free_mbufs({burst_.mbufs.data(), burst_.view.count});
  return count;
}

// Takes the connections' packets out of the burst, and questions for their link addresses.
void Generator::receive_connections(dpdk::Nic& nic, std::uint64_t now_ns) noexcept {
  std::array<dpdk::Mbuf*, core::kBurstMax> taken;
  std::uint32_t taken_count = 0;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < burst_.view.count; ++i) {
    dpdk::Mbuf* mbuf = burst_.mbufs[i];
    core::Packet& packet = burst_.view.packets[i];
    if (connections_->receive(packet, now_ns)) {
      taken[taken_count++] = mbuf;
    } else if (connections_->answer(packet)) {
      dpdk::take_view(mbuf, packet);
      if (nic.tx_queue(0).send({&mbuf, 1}) == 0) dpdk::free_mbufs({&mbuf, 1});  // asked again
    } else {
      burst_.mbufs[kept] = mbuf;
      burst_.view.packets[kept++] = packet;
    }
  }
  burst_.view.count = kept;
  // Before new ones are taken: from the pool's cache, which has these at hand.
  dpdk::free_mbufs({taken.data(), taken_count});
  connections_->flush(work_);
}

}  // namespace millrace::pktgen

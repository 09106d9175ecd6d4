// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/next_hops.h"

#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "controlplane/net/neighbour_asker.h"
#include "controlplane/net/netlink.h"
#include "controlplane/net/next_hop_table.h"

namespace millrace::control {
namespace {

// Changes of routes come in bursts (a routing daemon's update is thousands); all watched addresses
// are looked up again once per burst, at most this often.
constexpr std::chrono::milliseconds kRouteRefreshInterval{100};

// How often neighbours that need it are asked for. The kernel takes 3 s from question to FAILED.
constexpr std::chrono::milliseconds kAskInterval{1000};

// Addresses that no route names but a default one (or halves of it): reserved ones of RFC 1112
// section 4 and RFC 6890, and the returned 6bone range (RFC 3701) and an unallocated one. The first
// whose route is unicast speaks for the family. Asking honours rules and metrics; dumping does not.
constexpr std::array<const char*, 2> kAnywhereV4 = {"240.0.0.1", "192.0.0.1"};
constexpr std::array<const char*, 2> kAnywhereV6 = {"3ffe::1", "2d00::1"};

}  // namespace

class NextHops::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, OnChange on_change, NetlinkMonitor monitor,
       NetlinkQueries queries)
      : on_change_(std::move(on_change)),
        monitor_(std::move(monitor)),
        queries_(std::move(queries)),
        readable_(io, monitor_.fd()),
        refresh_timer_(io),
        ask_timer_(io) {}
  // The monitor closes its own descriptor.
  ~Impl() { (void)readable_.release(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] Status start();
  void set_twins(std::set<std::uint32_t> link_indices);
  void watch(std::vector<IpAddress> addresses);
  [[nodiscard]] std::optional<NextHopInfo> find(const IpAddress& address) const;

  // What is answered at the moment; compared as a whole to notice changes.
  struct Answers {
    std::map<IpAddress, NextHopInfo> next_hops;
    std::optional<NextHopInfo> default_v4;
    std::optional<NextHopInfo> default_v6;
    std::vector<IpAddress> local_addresses;
    std::vector<OwnAddress> own_addresses;
    std::vector<LocalMac> local_macs;
    std::vector<VlanLink> vlans;

    friend bool operator==(const Answers&, const Answers&) = default;
  };
  [[nodiscard]] const Answers& answers() const { return answers_; }
  [[nodiscard]] const std::string& problem() const {
    return problem_.empty() ? link_problem_ : problem_;
  }
  [[nodiscard]] LinkState link_state(std::uint32_t link_index);
  [[nodiscard]] const NextHopTable& table() const { return table_; }

 private:
  void wait_for_events();
  void read_events();
  [[nodiscard]] Status resync();
  void note_failure(const Error& error);
  void refresh_routes_soon(Reasked reasked);
  void refresh_routes(Reasked reasked);
  void look_up(const IpAddress& destination);
  [[nodiscard]] std::optional<IpAddress> look_up_default(const std::optional<IpAddress>& previous,
                                                         std::span<const char* const> anywhere);
  void wait_to_ask();
  void ask_neighbours();
  void tell();
  [[nodiscard]] Answers current_answers() const;

  OnChange on_change_;
  NetlinkMonitor monitor_;
  NetlinkQueries queries_;
  NeighbourAsker asker_;
  NextHopTable table_;
  std::set<IpAddress> watched_;
  std::optional<IpAddress> default_v4_;  // the destination that speaks for the default route
  std::optional<IpAddress> default_v6_;
  Answers answers_;
  std::string problem_;       // what has failed and is tried again; "" when nothing is
  std::string link_problem_;  // of the last question about a link
  boost::asio::posix::stream_descriptor readable_;
  boost::asio::steady_timer refresh_timer_;
  boost::asio::steady_timer ask_timer_;
  Reasked refresh_due_ = Reasked::none;
};

Status NextHops::Impl::start() {
  Status synced = resync();
  if (!synced) return synced;
  answers_ = current_answers();
  wait_for_events();
  wait_to_ask();
  return ok();
}

void NextHops::Impl::wait_for_events() {
  // Weak, here and below: a handler that is already on its way when this object goes must not run.
  readable_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [weak = weak_from_this()](const auto& error) {
                         const auto self = weak.lock();
                         if (!error && self) self->read_events();
                       });
}

void NextHops::Impl::read_events() {
  const auto now = std::chrono::steady_clock::now();
  Reasked reasked = Reasked::none;
  const auto drained = monitor_.drain(
      [&](const NetlinkEvent& event) { reasked = std::max(reasked, table_.apply(event, now)); });
  if (!drained) {
    note_failure(drained.error());
  } else if (*drained == NetlinkMonitor::Drained::overrun) {
    (void)resync();  // it has been noted
  } else {
    refresh_routes_soon(reasked);
  }
  ask_neighbours();
  wait_for_events();
  tell();
}

Status NextHops::Impl::resync() {
  problem_.clear();
  table_.begin_resync();
  const auto now = std::chrono::steady_clock::now();
  Status dumped = queries_.dump([&](const NetlinkEvent& event) { (void)table_.apply(event, now); });
  if (!dumped) note_failure(dumped.error());
  refresh_routes(Reasked::all);
  return dumped;
}

// No later event tells what was lost by it.
void NextHops::Impl::note_failure(const Error& error) { problem_ = error.message; }

void NextHops::Impl::refresh_routes_soon(Reasked reasked) {
  const Reasked due = std::exchange(refresh_due_, std::max(refresh_due_, reasked));
  if (due != Reasked::none || reasked == Reasked::none) return;
  refresh_timer_.expires_after(kRouteRefreshInterval);
  refresh_timer_.async_wait([weak = weak_from_this()](const auto& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    self->refresh_routes(std::exchange(self->refresh_due_, Reasked::none));
    self->ask_neighbours();
    self->tell();
  });
}

void NextHops::Impl::refresh_routes(Reasked reasked) {
  for (const IpAddress& address : watched_) {
    if (reasked == Reasked::all || table_.is_behind_gateway(address)) look_up(address);
  }
  default_v4_ = look_up_default(default_v4_, kAnywhereV4);
  default_v6_ = look_up_default(default_v6_, kAnywhereV6);
}

void NextHops::Impl::look_up(const IpAddress& destination) {
  auto answer = queries_.route_to(destination);
  if (answer) {
    table_.set_route(destination, *answer);
  } else {
    note_failure(answer.error());  // the last answer stays until then
  }
}

std::optional<IpAddress> NextHops::Impl::look_up_default(const std::optional<IpAddress>& previous,
                                                         std::span<const char* const> anywhere) {
  if (previous) table_.forget(*previous);
  for (const char* text : anywhere) {
    const IpAddress destination = *IpAddress::parse(text);
    const auto answer = queries_.route_to(destination);
    if (!answer) note_failure(answer.error());
    if (!answer || answer->error != 0) continue;
    // Without a gateway every client would have to be on the link: not a next hop.
    if (answer->type != RTN_UNICAST || !answer->gateway) continue;
    table_.set_route(destination, *answer);
    return destination;
  }
  return std::nullopt;
}

void NextHops::Impl::set_twins(std::set<std::uint32_t> link_indices) {
  table_.set_twins(std::move(link_indices));
  ask_neighbours();
  answers_ = current_answers();
}

void NextHops::Impl::watch(std::vector<IpAddress> addresses) {
  std::set<IpAddress> wanted(addresses.begin(), addresses.end());
  std::swap(watched_, wanted);
  for (const IpAddress& address : wanted) {
    if (!watched_.contains(address)) table_.forget(address);
  }
  for (const IpAddress& address : watched_) {
    if (!wanted.contains(address)) look_up(address);
  }
  ask_neighbours();
  answers_ = current_answers();
}

std::optional<NextHopInfo> NextHops::Impl::find(const IpAddress& address) const {
  const auto found = answers_.next_hops.find(address);
  if (found == answers_.next_hops.end()) return std::nullopt;
  return found->second;
}

LinkState NextHops::Impl::link_state(std::uint32_t link_index) {
  const auto state = queries_.link_state(link_index);
  link_problem_ = state ? "" : state.error().message;
  return state ? *state : LinkState{};
}

void NextHops::Impl::wait_to_ask() {
  ask_timer_.expires_after(kAskInterval);
  ask_timer_.async_wait([weak = weak_from_this()](const auto& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    if (!self->problem_.empty()) {
      (void)self->resync();  // it has been noted
      self->tell();
    }
    self->ask_neighbours();
    self->wait_to_ask();
  });
}

// Not between a change and the question for other ways: IPv6 holds a gateway that failed for good
// again while it is asked.
void NextHops::Impl::ask_neighbours() {
  if (refresh_due_ != Reasked::none) return;  // asks when it has been done
  asker_.ask(table_.neighbours_to_ask(), std::chrono::steady_clock::now());
}

void NextHops::Impl::tell() {
  Answers current = current_answers();
  if (current == answers_) return;
  answers_ = std::move(current);
  on_change_();
}

NextHops::Impl::Answers NextHops::Impl::current_answers() const {
  const auto usable = [this](const std::optional<IpAddress>& destination) {
    std::optional<NextHopInfo> info;
    if (destination) info = table_.next_hop(*destination);
    if (info && !info->resolved) info.reset();
    return info;
  };
  Answers answers{.next_hops = {},
                  .default_v4 = usable(default_v4_),
                  .default_v6 = usable(default_v6_),
                  .local_addresses = table_.local_addresses(),
                  .own_addresses = table_.own_addresses(),
                  .local_macs = table_.local_macs(),
                  .vlans = table_.vlans()};
  for (const IpAddress& address : watched_) {
    answers.next_hops.emplace(address, table_.next_hop(address));
  }
  return answers;
}

NextHops::NextHops(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
NextHops::~NextHops() = default;

Result<std::unique_ptr<NextHops>> NextHops::open(boost::asio::io_context& io, OnChange on_change) {
  // The monitor first: what changes during the first dump is then read as an event after it.
  auto monitor = NetlinkMonitor::open();
  if (!monitor) return monitor.error();
  auto queries = NetlinkQueries::open();
  if (!queries) return queries.error();
  auto impl =
      std::make_shared<Impl>(io, std::move(on_change), std::move(*monitor), std::move(*queries));
  const Status started = impl->start();
  if (!started) return started.error();
  return std::unique_ptr<NextHops>(new NextHops(std::move(impl)));
}

void NextHops::set_twins(std::set<std::uint32_t> link_indices) {
  impl_->set_twins(std::move(link_indices));
}
void NextHops::watch(std::vector<IpAddress> addresses) { impl_->watch(std::move(addresses)); }
std::optional<NextHopInfo> NextHops::find(const IpAddress& address) const {
  return impl_->find(address);
}
std::optional<NextHopInfo> NextHops::default_next_hop(AddressFamily family) const {
  const Impl::Answers& answers = impl_->answers();
  return family == AddressFamily::ipv4 ? answers.default_v4 : answers.default_v6;
}
std::vector<IpAddress> NextHops::local_addresses() const {
  return impl_->answers().local_addresses;
}
std::vector<OwnAddress> NextHops::own_addresses() const { return impl_->answers().own_addresses; }
std::vector<LocalMac> NextHops::local_macs() const { return impl_->answers().local_macs; }
std::string NextHops::interface_of(const IpAddress& address) const {
  return impl_->table().interface_of(address);
}
std::vector<VlanLink> NextHops::vlans() const { return impl_->answers().vlans; }
LinkState NextHops::link_state(std::uint32_t link_index) { return impl_->link_state(link_index); }
std::string NextHops::problem() const { return impl_->problem(); }

}  // namespace millrace::control

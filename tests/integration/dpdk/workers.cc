// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dpdk/workers.h"

#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dataplane/core/wire.h"
#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::test {

namespace {

constexpr std::uint32_t kRxRingSize = 4096;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::abort();
}

// As a card's queues: one thread at a time on either side.
rte_ring* make_ring(std::uint32_t size) {
  rte_ring* ring = ::rte_ring_create(unique_name("test_ring").c_str(), size, SOCKET_ID_ANY,
                                     RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (ring == nullptr) give_up("cannot make a ring");
  return ring;
}

void swap_bytes(std::uint8_t* a, std::uint8_t* b, std::size_t bytes) {
  std::swap_ranges(a, a + bytes, b);
}

}  // namespace

Bytes frame(const std::string& text) {
  static const FrameNames names{.macs = {{"client", {2, 0, 0, 0, 0, 1}},
                                         {"node", {2, 0, 0, 0, 0, 0x10}},
                                         {"target", {2, 0, 0, 0, 1, 1}}},
                                .addrs = {}};
  Result<Bytes> made = frame_of(text, names);
  if (!made) give_up(text + ": " + made.error().message);
  return *made;
}

Bytes syn(std::uint32_t client) {
  return frame("eth client > node / ip 198.51.100." + std::to_string(client % 250 + 1) +
               " > 203.0.113.10 / tcp " + std::to_string(20000 + client / 250) + " > 80 flags S");
}

Bytes answer_to(const Bytes& request, std::uint8_t tcp_flags) {
  Bytes answer = request;
  std::uint8_t* at = answer.data();
  swap_bytes(at + MR_ETH_DESTINATION, at + MR_ETH_SOURCE, 6);
  std::uint8_t* ip = at + MR_ETH_BYTES;
  const bool is_v4 = ip[0] >> 4 == 4;
  if (is_v4) {
    swap_bytes(ip + MR_IPV4_SOURCE, ip + MR_IPV4_DESTINATION, 4);
  } else {
    swap_bytes(ip + MR_IPV6_SOURCE, ip + MR_IPV6_DESTINATION, 16);
  }
  const std::uint8_t protocol = ip[is_v4 ? MR_IPV4_PROTOCOL : MR_IPV6_NEXT_HEADER];
  std::uint8_t* l4 = ip + (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  swap_bytes(l4, l4 + 2, 2);
  if (protocol == MR_PROTOCOL_TCP) l4[MR_TCP_FLAGS] = tcp_flags;
  return answer;
}

namespace {

ImageBuilder balancer(mr_forwarding forwarding) {
  ImageBuilder builder;
  for (const char* source : {"10.0.1.1", "fd00::1"}) builder.set_encap_source(addr_of(source));
  struct Service {
    const char* vip;
    const char* targets[2];
    std::uint16_t port;  // 0: any, and the target gets the one that was asked
    std::uint8_t protocol;
  };
  const Service services[] = {
      {"203.0.113.10", {"10.0.1.11", "10.0.1.12"}, 80, MR_PROTOCOL_TCP},
      {"203.0.113.10", {"10.0.1.11", "10.0.1.12"}, 53, MR_PROTOCOL_UDP},
      {"2001:db8:113::10", {"fd00::11", "fd00::12"}, 80, MR_PROTOCOL_TCP},
      {"2001:db8:113::10", {"fd00::11", "fd00::12"}, 53, MR_PROTOCOL_UDP},
      {"203.0.113.10", {"10.0.1.31", "10.0.1.32"}, 0, MR_PROTOCOL_TCP},
  };
  for (const Service& service : services) {
    const std::uint32_t group =
        builder.add_group({.forwarding = static_cast<std::uint8_t>(forwarding)});
    for (const char* target : service.targets) {
      builder.add_target({.group_slot = group,
                          .addr = addr_of(target),
                          .port = service.port == 0 ? std::uint16_t{0} : std::uint16_t{8080},
                          .protocol = service.protocol});
    }
    builder.add_listener(
        {.vip_addr = addr_of(service.vip),
         .port = service.port,
         .protocol = service.protocol,
         .group_slot = group,
         .last_port = service.port == 0 ? std::uint16_t{0xffff} : std::uint16_t{0}});
  }
  return builder;
}

}  // namespace

Image balancer_image(std::uint64_t generation, mr_forwarding forwarding) {
  return balancer(forwarding).build(generation);
}

Image vlan_image(std::uint64_t generation, std::uint16_t id) {
  ImageBuilder builder = balancer(MR_FORWARDING_NAT);
  mr_vlan vlan{};
  std::ranges::copy(kNicMac.bytes, vlan.mac);
  vlan.flags = MR_VLAN_PRESENT;
  vlan.tag = core::to_be32(MR_ETH_TYPE_VLAN << 16 | id);
  builder.add_vlan(vlan);
  return builder.build(generation);
}

void Workers::Free::operator()(std::byte* memory) const { std::free(memory); }

Workers::Workers(const WorkersOptions& options)
    : options_(options),
      pool_(make_pool()),
      configs_(options.worker_count),
      published_(options.worker_count),
      listener_stats_(options.worker_count, std::vector<mr_listener_stats>(16)),
      target_stats_(options.worker_count, std::vector<mr_target_stats>(16)) {
  make_nic();
  if (options.worker_count > 1) {
    Result<worker::HandoverRings> rings = worker::HandoverRings::create(options.worker_count);
    if (!rings) give_up(rings.error().message);
    handover_rings_ = std::make_unique<worker::HandoverRings>(std::move(*rings));
  }
  Result<dpdk::MbufRing> announcements = dpdk::MbufRing::create(unique_name("announcements"), 1024);
  if (!announcements) give_up(announcements.error().message);
  announcements_ = std::make_unique<dpdk::MbufRing>(std::move(*announcements));
  for (std::uint32_t index = 0; index < options.worker_count; ++index) make_worker(index);
}

// Everything that a test received must be back in the pool once the rings are empty.
Workers::~Workers() {
  workers_.clear();
  handover_rings_.reset();
  announcements_.reset();
  nic_.reset();
  std::vector<rte_ring*> rings = rx_rings_;
  rings.insert(rings.end(), tx_rings_.begin(), tx_rings_.end());
  for (rte_ring* ring : rings) {
    void* mbuf = nullptr;
    while (::rte_ring_dequeue(ring, &mbuf) == 0) ::rte_pktmbuf_free(static_cast<rte_mbuf*>(mbuf));
    ::rte_ring_free(ring);
  }
  EXPECT_EQ(pool_.available(), kPoolMbufs) << "mbufs leaked";
}

void Workers::make_nic() {
  for (std::uint32_t queue = 0; queue < options_.queue_count; ++queue) {
    rx_rings_.push_back(make_ring(kRxRingSize));
    tx_rings_.push_back(make_ring(options_.tx_ring_size));
  }
  const std::string name = unique_name("test");
  if (::rte_eth_from_rings(name.c_str(), rx_rings_.data(), options_.queue_count, tx_rings_.data(),
                           options_.queue_count, 0) < 0) {
    give_up("cannot make a ring device");
  }
  Result<std::unique_ptr<dpdk::Nic>> nic = dpdk::Nic::open({.device = "net_ring_" + name,
                                                            .index = 0,
                                                            .queue_count = options_.queue_count,
                                                            .worker_count = options_.worker_count},
                                                           pool_);
  if (!nic) give_up(nic.error().message);
  nic_ = std::move(*nic);
}

void Workers::make_worker(std::uint32_t index) {
  const std::uint64_t bytes =
      (core::FlowTable::bytes_for(options_.flow_capacity) + 4095) / 4096 * 4096;
  table_memory_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)));
  std::byte* memory = table_memory_.back().get();
  std::memset(memory, 0, bytes);
  const core::FlowTable table =
      core::FlowTable::format({memory, bytes}, {.capacity = options_.flow_capacity,
                                                .worker_index = index,
                                                .worker_count = options_.worker_count,
                                                .secret = {1, 2, 3, 4 + index},
                                                .created_ns = 1,
                                                .creator_pid = 1});
  worker::WorkerOptions options{
      .index = index,
      .rx_queues = {},
      .exits = {.tx_queues = {&nic_->tx_queue(index)}, .twins = {nullptr}},
      .flow_table = table,
      .nic_macs = {kNicMac},
      .configs = &configs_,
      .handover_rings = handover_rings_.get(),
      .announcements = index == 0 ? announcements_.get() : nullptr,
      .pool = &pool_,
      .published = &published_[index],
      .listener_stats = listener_stats_[index],
      .target_stats = target_stats_[index]};
  const std::span<const dpdk::RxQueue> queues = nic_->rx_queues();
  for (std::size_t queue = index; queue < queues.size(); queue += options_.worker_count) {
    options.rx_queues.push_back(queues[queue]);
  }
  workers_.push_back(std::make_unique<worker::Worker>(options));
}

void Workers::publish(const Image& image) {
  shm::CheckedConfig config;
  config.view = image.view();
  configs_.publish(std::move(config));
  for (const auto& worker : workers_) (void)worker->keep_house(kStartNs);
}

void Workers::receive(std::uint32_t queue, const std::vector<Bytes>& frames) {
  for (const Bytes& bytes : frames) {
    rte_mbuf* mbuf = pool_.take(0, bytes);
    if (mbuf == nullptr || ::rte_ring_enqueue(rx_rings_[queue], mbuf) != 0) {
      give_up("no room for another frame");
    }
  }
}

void Workers::turn(std::uint64_t now_ns) {
  std::uint32_t handled = 1;
  while (handled > 0) {
    handled = 0;
    for (const auto& worker : workers_) handled += worker->turn(now_ns);
  }
  for (const auto& worker : workers_) (void)worker->keep_house(now_ns);
}

std::vector<Bytes> Workers::sent() {
  std::vector<Bytes> frames;
  for (rte_ring* ring : tx_rings_) {
    void* entry = nullptr;
    while (::rte_ring_dequeue(ring, &entry) == 0) {
      auto* mbuf = static_cast<rte_mbuf*>(entry);
      const std::uint8_t* data = rte_pktmbuf_mtod(mbuf, const std::uint8_t*);
      frames.emplace_back(data, data + mbuf->pkt_len);
      ::rte_pktmbuf_free(mbuf);
    }
  }
  return frames;
}

std::uint64_t Workers::sum_of(mr_counter counter) const {
  std::uint64_t sum = 0;
  for (const mr_worker_stats& stats : published_) sum += stats.counters[counter];
  return sum;
}

std::uint64_t Workers::sum_of(mr_drop_reason reason) const {
  std::uint64_t sum = 0;
  for (const mr_worker_stats& stats : published_) sum += stats.drops[reason];
  return sum;
}

void Workers::expect_balance() const {
  for (std::uint32_t index = 0; index < options_.worker_count; ++index) {
    const mr_worker_stats& stats = published_[index];
    std::uint64_t drops = 0;
    for (const std::uint64_t count : stats.drops) drops += count;
    EXPECT_EQ(stats.counters[MR_COUNTER_RX_PACKETS] + stats.counters[MR_COUNTER_HANDOVER_IN],
              stats.counters[MR_COUNTER_FORWARDED_PACKETS] +
                  stats.counters[MR_COUNTER_REPLIED_PACKETS] +
                  stats.counters[MR_COUNTER_PUNTED_PACKETS] +
                  stats.counters[MR_COUNTER_HANDOVER_OUT] + drops)
        << "worker " << index;
  }
  EXPECT_EQ(sum_of(MR_COUNTER_TWIN_RX_PACKETS),
            sum_of(MR_COUNTER_TWIN_FORWARDED) + sum_of(MR_COUNTER_TWIN_DROPPED));
}

}  // namespace millrace::test

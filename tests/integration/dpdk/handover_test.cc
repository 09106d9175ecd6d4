// SPDX-License-Identifier: Apache-2.0
//
// Several workers, fewer or other queues: every packet is handled by the worker that owns its flow,
// in both directions, and none is lost or counted twice.
#include "dataplane/worker/handover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "dataplane/core/steering.h"
#include "tests/integration/dpdk/workers.h"

namespace millrace::test {
namespace {

constexpr std::uint32_t kClients = 400;

struct Arrangement {
  std::uint32_t workers;
  std::uint32_t queues;
};

std::string name_of(const testing::TestParamInfo<Arrangement>& info) {
  return std::to_string(info.param.workers) + "_workers_on_" + std::to_string(info.param.queues) +
         "_queues";
}

class Handover : public testing::TestWithParam<Arrangement> {
 protected:
  Handover()
      : image_(balancer_image(1)),
        workers_({.worker_count = GetParam().workers, .queue_count = GetParam().queues}) {
    workers_.publish(image_);
  }

  // As a nic without any idea of flows: queues in turn.
  void receive_spread(const std::vector<Bytes>& frames) {
    std::vector<std::vector<Bytes>> by_queue(GetParam().queues);
    for (std::size_t i = 0; i < frames.size(); ++i) {
      by_queue[i % by_queue.size()].push_back(frames[i]);
    }
    for (std::uint32_t queue = 0; queue < by_queue.size(); ++queue) {
      workers_.receive(queue, by_queue[queue]);
    }
  }

  std::vector<std::uint64_t> flows_by_worker() {
    std::vector<std::uint64_t> flows;
    for (std::uint32_t i = 0; i < GetParam().workers; ++i) {
      flows.push_back(workers_.flow_count(i));
    }
    return flows;
  }

  Image image_;
  Workers workers_;
};

TEST_P(Handover, request_and_reply_of_a_flow_meet_in_one_flow_table) {
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClients; ++client) requests.push_back(syn(client));
  receive_spread(requests);
  workers_.turn();
  const std::vector<Bytes> forwarded = workers_.sent();
  ASSERT_EQ(forwarded.size(), kClients);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_INSERTED), kClients);
  const std::vector<std::uint64_t> flows = flows_by_worker();

  std::vector<Bytes> answers;
  answers.reserve(forwarded.size());
  for (const Bytes& request : forwarded) {
    answers.push_back(answer_to(request, MR_TCP_SYN | MR_TCP_ACK));
  }
  receive_spread(answers);
  workers_.turn();
  EXPECT_EQ(workers_.sent().size(), kClients);

  // Had a reply reached another worker it would have found no flow and gone untracked.
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FORWARDED_PACKETS), 2u * kClients);
  EXPECT_EQ(flows_by_worker(), flows);
  workers_.expect_balance();
}

TEST_P(Handover, encapsulated_packets_leave_whole_from_whoever_owns_their_flow) {
  const Image image = balancer_image(2, MR_FORWARDING_IPIP);
  workers_.publish(image);
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClients; ++client) requests.push_back(syn(client));
  receive_spread(requests);
  workers_.turn();
  std::vector<Bytes> inner;
  for (const Bytes& packet : workers_.sent()) {
    constexpr std::size_t kOuter = MR_ETH_BYTES + MR_IPV4_BYTES;
    ASSERT_GT(packet.size(), kOuter);
    EXPECT_EQ(packet[MR_ETH_BYTES + MR_IPV4_PROTOCOL], MR_PROTOCOL_IPV4_IN_IP);
    inner.emplace_back(packet.begin() + kOuter, packet.end());
  }
  for (Bytes& request : requests) {
    request.erase(request.begin(), request.begin() + MR_ETH_BYTES);
  }
  std::ranges::sort(requests);
  std::ranges::sort(inner);
  EXPECT_EQ(inner, requests);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FORWARDED_BYTES),
            kClients * (requests[0].size() + MR_ETH_BYTES + MR_IPV4_BYTES));
  workers_.expect_balance();
}

// With a tag of priority 7.
Bytes tagged(Bytes packet, std::uint8_t vlan) {
  const std::array<std::uint8_t, 4> tag = {0x81, 0x00, 0xe0, vlan};
  packet.insert(packet.begin() + MR_ETH_TYPE, tag.begin(), tag.end());
  return packet;
}

// A SYN of each client.
std::vector<Bytes> tagged_requests(std::uint8_t vlan) {
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClients; ++client) {
    requests.push_back(tagged(syn(client), vlan));
  }
  return requests;
}

TEST_P(Handover, fault_71_priority_tag_is_gone_whoever_owns_the_flow) {
  receive_spread(tagged_requests(0));
  workers_.turn();
  const std::vector<Bytes> forwarded = workers_.sent();
  ASSERT_EQ(forwarded.size(), kClients);
  for (const Bytes& packet : forwarded) {
    EXPECT_EQ(packet.size(), syn(0).size());
    EXPECT_EQ(packet[MR_ETH_TYPE], 0x08);
  }
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_INSERTED), kClients);
  workers_.expect_balance();
}

TEST_P(Handover, packets_of_a_vlan_are_answered_in_it_whoever_owns_their_flow) {
  const Image image = vlan_image(2, 10);
  workers_.publish(image);
  receive_spread(tagged_requests(10));
  workers_.turn();
  const std::vector<Bytes> forwarded = workers_.sent();
  ASSERT_EQ(forwarded.size(), kClients);
  std::vector<Bytes> answers;
  for (const Bytes& packet : forwarded) {
    EXPECT_EQ(packet[MR_ETH_TYPE], 0x08);
    answers.push_back(answer_to(packet, MR_TCP_SYN | MR_TCP_ACK));
  }
  receive_spread(answers);
  workers_.turn();
  const std::vector<Bytes> answered = workers_.sent();
  ASSERT_EQ(answered.size(), kClients);
  for (const Bytes& packet : answered) {
    EXPECT_EQ(packet[MR_ETH_TYPE], 0x81);
    EXPECT_EQ(packet[MR_ETH_TYPE + 3], 10) << "with no priority";
    EXPECT_EQ(packet[MR_ETH_TYPE + 2], 0);
  }
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_INSERTED), kClients);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  workers_.expect_balance();
}

// Of the listener to any port, each client to a port of its own.
TEST_P(Handover, packets_of_a_vlan_find_the_flows_of_the_ports_that_they_ask_for) {
  const Image image = vlan_image(2, 10);
  workers_.publish(image);
  std::vector<Bytes> requests;
  for (std::uint32_t i = 0; i < kClients; ++i) {
    const std::string client = std::to_string(i % 250 + 1);
    const std::string port = std::to_string(1000 + i);
    requests.push_back(tagged(frame("eth client > node / ip 198.51.100." + client +
                                    " > 203.0.113.10 / tcp 20000 > " + port),
                              10));
  }
  for (std::uint32_t time = 0; time < 2; ++time) {
    receive_spread(requests);
    workers_.turn();
    EXPECT_EQ(workers_.sent().size(), kClients);
    std::ranges::reverse(requests);
  }
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_INSERTED), kClients);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_HITS), kClients);
}

TEST_P(Handover, flows_are_shared_out_evenly) {
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClients; ++client) requests.push_back(syn(client));
  receive_spread(requests);
  workers_.turn();
  const double share = static_cast<double>(kClients) / GetParam().workers;
  for (const std::uint64_t flows : flows_by_worker()) {
    EXPECT_GT(static_cast<double>(flows), share * 0.6);
    EXPECT_LT(static_cast<double>(flows), share * 1.4);
  }
}

// Clients take neighbouring ports for connections that they open together.
TEST_P(Handover, neighbouring_ports_of_one_client_are_shared_out) {
  constexpr std::uint32_t kPorts = 64;
  std::vector<Bytes> requests;
  for (std::uint32_t i = 0; i < kPorts; ++i) {
    requests.push_back(frame("eth client > node / ip 198.51.100.1 > 203.0.113.10 / tcp " +
                             std::to_string(40000 + i) + " > 80 flags S"));
  }
  receive_spread(requests);
  workers_.turn();
  for (const std::uint64_t flows : flows_by_worker()) {
    EXPECT_GE(flows, kPorts / GetParam().workers / 3);
  }
}

TEST_P(Handover, what_is_handed_out_comes_in) {
  std::vector<Bytes> requests;
  for (std::uint32_t client = 0; client < kClients; ++client) requests.push_back(syn(client));
  receive_spread(requests);
  workers_.turn();
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_RX_PACKETS), kClients);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_HANDOVER_OUT), workers_.sum_of(MR_COUNTER_HANDOVER_IN));
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_HANDOVER_OUT) > 0, GetParam().workers > 1);
}

// Frames of datagrams in three fragments, with the number of the datagram as `client`.
struct Datagram {
  std::string head;   // Ethernet
  std::string ends;   // source > destination
  std::string ports;  // source > destination
  bool is_v4;
  std::uint32_t id;
};

std::vector<Bytes> fragments_of(const Datagram& datagram) {
  const std::string id = std::to_string(datagram.id);
  const std::string udp = " / udp " + datagram.ports + " length 3000 / zeros 1360";
  if (datagram.is_v4) {
    const std::string ip = datagram.head + " / ip " + datagram.ends + " id " + id;
    return {frame(ip + " fragment 0x2000" + udp),
            frame(ip + " fragment 0x20ab protocol 17 / zeros 1368"),
            frame(ip + " fragment 0x0156 protocol 17 / zeros 256")};
  }
  const std::string ip = datagram.head + " / ip6 " + datagram.ends + " / fragment id " + id;
  return {frame(ip + " more 1" + udp), frame(ip + " more 1 offset 171 next 17 / zeros 1368"),
          frame(ip + " offset 342 next 17 / zeros 256")};
}

Datagram request_of(std::uint32_t client) {
  const bool is_v4 = client % 2 == 0;
  const std::string number = std::to_string(client / 2 + 1);
  const std::string ends = is_v4 ? "198.51.100." + number + " > 203.0.113.10"
                                 : "2001:db8:c::" + number + " > 2001:db8:113::10";
  return {.head = "eth client > node",
          .ends = ends,
          .ports = std::to_string(20000 + client) + " > 53",
          .is_v4 = is_v4,
          .id = client * 7};
}

// Source or destination in an IP packet.
std::string addr_in(const Bytes& packet, bool is_source) {
  const bool is_v4 = packet[MR_ETH_TYPE] == 0x08;
  const std::uint32_t at = is_v4 ? (is_source ? MR_IPV4_SOURCE : MR_IPV4_DESTINATION)
                                 : (is_source ? MR_IPV6_SOURCE : MR_IPV6_DESTINATION);
  const auto from = packet.begin() + MR_ETH_BYTES + at;
  return {from, from + (is_v4 ? 4 : 16)};
}

// A nic hashes fragments by their addresses. So the workers that know the ports, and those that own
// the flows, are others than those that receive.
TEST_P(Handover, fault_13_fragments_meet_at_the_owner_of_their_flow) {
  constexpr std::uint32_t kDatagrams = 200;
  std::vector<std::vector<Bytes>> by_queue(GetParam().queues);
  for (std::uint32_t client = 0; client < kDatagrams; ++client) {
    for (const Bytes& fragment : fragments_of(request_of(client))) {
      by_queue[client % by_queue.size()].push_back(fragment);
    }
  }
  for (std::uint32_t queue = 0; queue < by_queue.size(); ++queue) {
    workers_.receive(queue, by_queue[queue]);
  }
  workers_.turn();
  std::map<std::string, std::string> targets;  // of clients
  std::map<std::string, std::uint32_t> counts;
  for (const Bytes& packet : workers_.sent()) {
    const std::string client = addr_in(packet, true);
    const std::string target = addr_in(packet, false);
    EXPECT_EQ(targets.try_emplace(client, target).first->second, target);
    ++counts[client];
  }
  EXPECT_EQ(targets.size(), kDatagrams);
  for (const auto& [client, count] : counts) EXPECT_EQ(count, 3u);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FRAGMENTS_FORWARDED), 3u * kDatagrams);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_INSERTED), kDatagrams);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_FLOW_HITS), 2u * kDatagrams);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  workers_.expect_balance();

  // And back.
  for (std::uint32_t client = 0; client < kDatagrams; ++client) {
    const Datagram request = request_of(client);
    const std::string client_addr = request.ends.substr(0, request.ends.find(' '));
    const mr_addr addr = addr_of(client_addr.c_str());
    const std::string key(reinterpret_cast<const char*>(addr.bytes) + (request.is_v4 ? 12 : 0),
                          request.is_v4 ? 4 : 16);
    const auto last = static_cast<unsigned char>(targets[key].back());
    const std::string target =
        request.is_v4 ? "10.0.1." + std::to_string(last) : (last == 0x11 ? "fd00::11" : "fd00::12");
    const std::vector<Bytes> answer =
        fragments_of({.head = "eth target > node",
                      .ends = target + " > " + client_addr,
                      .ports = "8080 > " + std::to_string(20000 + client),
                      .is_v4 = request.is_v4,
                      .id = client});
    workers_.receive(client * 5 % GetParam().queues, answer);
  }
  workers_.turn();
  std::uint32_t count = 0;
  for (const Bytes& packet : workers_.sent()) {
    const std::string source = addr_in(packet, true);
    const mr_addr vip = addr_of(source.size() == 4 ? "203.0.113.10" : "2001:db8:113::10");
    const std::string wanted(std::end(vip.bytes) - static_cast<std::ptrdiff_t>(source.size()),
                             std::end(vip.bytes));
    EXPECT_EQ(source, wanted);
    ++count;
  }
  EXPECT_EQ(count, 3 * kDatagrams);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  workers_.expect_balance();
}

TEST_P(Handover, what_belongs_to_no_flow_stays_where_it_came) {
  receive_spread({frame("eth client > ff:ff:ff:ff:ff:ff / arp request sender_mac client "
                        "sender 198.51.100.1 target 203.0.113.10"),
                  frame("eth client > ff:ff:ff:ff:ff:ff / arp request sender_mac client "
                        "sender 198.51.100.2 target 203.0.113.10")});
  workers_.turn();
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_REPLIED_PACKETS), 2u);
  EXPECT_EQ(workers_.sum_of(MR_COUNTER_HANDOVER_OUT), 0u);
  EXPECT_EQ(workers_.sent().size(), 2u);
  workers_.expect_balance();
}

INSTANTIATE_TEST_SUITE_P(Arrangements, Handover,
                         testing::Values(Arrangement{1, 1}, Arrangement{2, 1}, Arrangement{2, 2},
                                         Arrangement{4, 2}, Arrangement{3, 3}),
                         name_of);

core::ClientKey key_at(const std::uint8_t* addr, const std::uint8_t* port) {
  return core::ClientKey::of(core::v4_words_at(addr), core::load<std::uint16_t>(port),
                             MR_PROTOCOL_TCP);
}

// The first packet of a flow that `owner`, one of two workers, owns.
Bytes syn_of(std::uint32_t owner) {
  for (std::uint32_t client = 0;; ++client) {
    Bytes request = syn(client);
    const std::uint8_t* ip = request.data() + MR_ETH_BYTES;
    const core::ClientKey key = key_at(ip + MR_IPV4_SOURCE, ip + MR_IPV4_BYTES);
    if (core::owner_of(key, 2) == owner) return request;
  }
}

TEST(HandoverLimits, full_ring_drops_and_counts) {
  const Image image = balancer_image(1);
  Workers workers({.worker_count = 2, .queue_count = 1});
  workers.publish(image);
  // More frames of worker 1 than its ring holds, while it does not turn.
  const Bytes request = syn_of(1);
  constexpr std::uint32_t kSent = worker::kHandoverRingSize + 100;
  workers.receive(0, std::vector<Bytes>(kSent, request));
  while (workers.worker(0).turn(kStartNs) > 0) {
  }
  EXPECT_EQ(workers.worker(0).counters().counters[MR_COUNTER_HANDOVER_OUT],
            worker::kHandoverRingSize - 1);
  EXPECT_EQ(workers.worker(0).counters().drops[MR_DROP_HANDOVER_FULL], 101u);
  workers.turn();
  EXPECT_EQ(workers.sent().size(), worker::kHandoverRingSize - 1);
  workers.expect_balance();
}

// A worker that has adopted a config without the VIP takes a request for a reply to the VIP's
// address, whose owner may be the worker that gave it the packet.
TEST(HandoverLimits, packets_do_not_go_to_and_fro_while_workers_disagree) {
  const Image image = balancer_image(1);
  Workers workers({.worker_count = 2, .queue_count = 2});
  workers.publish(image);
  const Bytes any = syn(0);
  const std::uint8_t* ip = any.data() + MR_ETH_BYTES;
  const core::ClientKey vip = key_at(ip + MR_IPV4_DESTINATION, ip + MR_IPV4_BYTES + 2);
  const std::uint32_t giver = core::owner_of(vip, 2);
  const std::uint32_t taker = 1 - giver;

  ImageBuilder builder;
  const Image without_vip = builder.build(2);
  shm::CheckedConfig config;
  config.view = without_vip.view();
  workers.configs().publish(std::move(config));
  (void)workers.worker(taker).keep_house(kStartNs);
  ASSERT_NE(workers.stats(0).acknowledged_generation, workers.stats(1).acknowledged_generation);

  workers.receive(giver, {syn_of(taker)});
  EXPECT_EQ(workers.worker(giver).turn(kStartNs), 1u);
  EXPECT_EQ(workers.worker(taker).turn(kStartNs), 1u);
  EXPECT_EQ(workers.worker(giver).turn(kStartNs), 0u);
  workers.turn();
  EXPECT_EQ(workers.stats(giver).counters[MR_COUNTER_HANDOVER_OUT], 1u);
  EXPECT_EQ(workers.stats(taker).counters[MR_COUNTER_HANDOVER_OUT], 0u);
  EXPECT_EQ(workers.stats(taker).drops[MR_DROP_PUNT_FULL], 1u) << "punted, but there is no twin";
  workers.expect_balance();
}

}  // namespace
}  // namespace millrace::test

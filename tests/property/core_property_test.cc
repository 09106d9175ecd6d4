// SPDX-License-Identifier: Apache-2.0
//
// Laws of the packet path's parts, each held against a plain model. RC_PARAMS="seed=N" repeats a
// run; a failure prints the seed and the smallest counter-example.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "dataplane/core/checksum.h"
#include "dataplane/core/checksum64.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/rewrite.h"
#include "tests/support/cc/glance_check.h"
#include "tests/unit/core/frame.h"

namespace millrace::core {
namespace {

// ---- checksum

RC_GTEST_PROP(checksum, folding_keeps_the_remainder, (std::uint64_t sum)) {
  const std::uint64_t remainder = sum % 0xffff;
  RC_ASSERT(mr_fold(sum) == (remainder == 0 && sum != 0 ? 0xffff : remainder));
}

RC_GTEST_PROP(checksum, update_equals_computing_again, (std::vector<std::uint16_t> words)) {
  RC_PRE(words.size() >= 2);
  const auto sum = [&] { return std::accumulate(words.begin(), words.end(), std::uint64_t{0}); };
  const auto checksum = static_cast<std::uint16_t>(~mr_fold(sum()));
  const auto at = *rc::gen::inRange<std::size_t>(0, words.size());
  const std::uint16_t old_word = words[at];
  words[at] = *rc::gen::arbitrary<std::uint16_t>();
  const std::uint16_t delta = mr_checksum_delta(old_word, words[at]);
  // A sum over a packet is never 0 (every packet has a nonzero word), so 0xffff and 0 can't be
  // confused.
  RC_PRE(sum() != 0 && sum() - words[at] + old_word != 0);
  RC_ASSERT(mr_updated_checksum(checksum, delta) == static_cast<std::uint16_t>(~mr_fold(sum())));
}

RC_GTEST_PROP(checksum, translation_there_and_back_restores_it, (std::uint16_t checksum)) {
  mr_listener listener{};
  mr_target target{};
  for (auto& byte : listener.vip_addr.bytes) byte = *rc::gen::arbitrary<std::uint8_t>();
  for (auto& byte : target.addr.bytes) byte = *rc::gen::arbitrary<std::uint8_t>();
  listener.port_be = *rc::gen::arbitrary<std::uint16_t>();
  target.port_be = *rc::gen::arbitrary<std::uint16_t>();
  const mr_nat_deltas deltas = nat_deltas(listener, listener.port_be, target);
  const std::uint16_t there = mr_updated_checksum(checksum, deltas.l4);
  const std::uint16_t back = mr_updated_checksum(there, mr_negated_delta(deltas.l4));
  // One's complement has two zeros; both mean the same sum.
  RC_ASSERT(back == checksum || (back % 0xffff == 0 && checksum % 0xffff == 0));
}

// ---- parsing

RC_GTEST_PROP(glance, accepts_what_parse_finds_whole_and_nothing_else, (bool is_v4, bool is_tcp)) {
  std::vector<std::uint8_t> frame = test::make_frame(
      {.source = is_v4 ? "192.0.2.100" : "2001:db8:64::1",
       .destination = is_v4 ? "203.0.113.10" : "2001:db8:113::10",
       .protocol = static_cast<std::uint8_t>(is_tcp ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP),
       .tcp_flags = *rc::gen::element<std::uint8_t>(0x10, 0x18, 0x02, 0x11, 0x04),
       .payload = std::string(*rc::gen::inRange<std::size_t>(0, 40), 'x')});
  RC_ASSERT(test::glance_objection(frame) == "");
  const auto changes = *rc::gen::inRange(0, 4);
  for (int i = 0; i < changes; ++i) {
    frame[*rc::gen::inRange<std::size_t>(12, frame.size())] = *rc::gen::arbitrary<std::uint8_t>();
  }
  if (*rc::gen::arbitrary<bool>()) {  // else hardly an IPv4 header would pass
    store(frame.data() + 24, std::uint16_t{0});
    store(frame.data() + 24,
          static_cast<std::uint16_t>(~mr_fold(sum_bytes({frame.data() + 14, 20}))));
  }
  frame.resize(*rc::gen::inRange<std::size_t>(14, frame.size() + 8));
  RC_ASSERT(test::glance_objection(frame) == "");
}

// ---- encapsulation

struct Segment {
  std::vector<std::uint8_t> frame;  // with headroom
  Parsed parsed{};
};

constexpr std::uint32_t kHeadroom = 64;

std::vector<std::uint8_t> arbitrary_bytes(std::size_t count) {
  return *rc::gen::container<std::vector<std::uint8_t>>(count, rc::gen::arbitrary<std::uint8_t>());
}

// An IP packet of random bytes that has the lengths and checksums right.
Segment arbitrary_segment(bool is_v4, const std::vector<std::uint8_t>& payload) {
  const bool is_tcp = *rc::gen::arbitrary<bool>();
  const std::uint32_t ip_header = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  const std::uint32_t l4_header = is_tcp ? MR_TCP_BYTES : MR_UDP_BYTES;
  const auto l4_bytes = static_cast<std::uint16_t>(l4_header + payload.size());
  Segment out;
  out.frame.resize(kHeadroom + MR_ETH_BYTES);
  for (const auto& part : {arbitrary_bytes(ip_header + l4_header), payload}) {
    out.frame.insert(out.frame.end(), part.begin(), part.end());
  }
  std::uint8_t* ip = out.frame.data() + kHeadroom + MR_ETH_BYTES;
  std::uint8_t* l4 = ip + ip_header;
  out.parsed.is_v4 = is_v4;
  out.parsed.protocol = is_tcp ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP;
  out.parsed.ip_bytes = ip_header + l4_bytes;
  out.parsed.source = is_v4 ? v4_words_at(ip + MR_IPV4_SOURCE) : words_at(ip + MR_IPV6_SOURCE);
  out.parsed.source_port_protocol = load<std::uint16_t>(l4);
  if (is_v4) {
    ip[0] = MR_IPV4_NO_OPTIONS;
    store(ip + MR_IPV4_TOTAL_LENGTH, to_be16(static_cast<std::uint16_t>(out.parsed.ip_bytes)));
    ip[MR_IPV4_PROTOCOL] = out.parsed.protocol;
    store(ip + MR_IPV4_CHECKSUM, std::uint16_t{0});
    store(ip + MR_IPV4_CHECKSUM, static_cast<std::uint16_t>(~mr_fold(sum_bytes({ip, 20}))));
  } else {
    ip[0] = static_cast<std::uint8_t>(0x60 | (ip[0] & 0x0f));
    store(ip + MR_IPV6_PAYLOAD_LENGTH, to_be16(l4_bytes));
    ip[MR_IPV6_NEXT_HEADER] = out.parsed.protocol;
  }
  if (!is_tcp) store(l4 + MR_UDP_LENGTH, to_be16(l4_bytes));
  std::uint8_t* checksum = l4 + (is_tcp ? MR_TCP_CHECKSUM : MR_UDP_CHECKSUM);
  store(checksum, std::uint16_t{0});
  const std::size_t addr_bytes = is_v4 ? 4 : 16;
  const std::uint16_t right =
      transport_checksum({ip + (is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE), addr_bytes},
                         {ip + (is_v4 ? MR_IPV4_DESTINATION : MR_IPV6_DESTINATION), addr_bytes},
                         out.parsed.protocol, {l4, std::size_t{l4_bytes}});
  store(checksum, right == 0 && !is_tcp ? std::uint16_t{0xffff} : right);
  return out;
}

template <typename Outer, mr_forwarding kForwarding>
Packet encapsulated(Segment& segment) {
  mr_target target{};
  mr_addr source{};
  for (auto& byte : target.addr.bytes) byte = *rc::gen::arbitrary<std::uint8_t>();
  for (auto& byte : source.bytes) byte = *rc::gen::arbitrary<std::uint8_t>();
  target.forwarding = kForwarding;
  target.encap_port_be = *rc::gen::arbitrary<std::uint16_t>();
  Packet packet{.data = segment.frame.data() + kHeadroom,
                .length = static_cast<std::uint32_t>(segment.frame.size() - kHeadroom),
                .headroom = kHeadroom,
                .nic = 0,
                .reserved = 0};
  if (segment.parsed.is_v4) {
    encapsulate<Ipv4Frame, Outer, kForwarding>(packet, segment.parsed, target, source);
  } else {
    encapsulate<Ipv6Frame, Outer, kForwarding>(packet, segment.parsed, target, source);
  }
  return packet;
}

template <mr_forwarding kForwarding>
Packet encapsulated(Segment& segment, bool outer_is_v4) {
  return outer_is_v4 ? encapsulated<Ipv4Frame, kForwarding>(segment)
                     : encapsulated<Ipv6Frame, kForwarding>(segment);
}

RC_GTEST_PROP(encapsulation, outer_udp_checksum_is_that_of_all_it_covers,
              (const std::vector<std::uint8_t>& payload)) {
  Segment segment = arbitrary_segment(*rc::gen::arbitrary<bool>(), payload);
  const Packet packet = encapsulated<MR_FORWARDING_GUE>(segment, false);
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  std::uint8_t* udp = ip + MR_IPV6_BYTES;
  const std::uint16_t written = load<std::uint16_t>(udp + MR_UDP_CHECKSUM);
  const std::size_t udp_bytes = packet.length - MR_ETH_BYTES - MR_IPV6_BYTES;
  RC_ASSERT(from_be16(load<std::uint16_t>(udp + MR_UDP_LENGTH)) == udp_bytes);
  store(udp + MR_UDP_CHECKSUM, std::uint16_t{0});
  const std::uint16_t computed = transport_checksum(
      {ip + MR_IPV6_SOURCE, 16}, {ip + MR_IPV6_DESTINATION, 16}, MR_PROTOCOL_UDP, {udp, udp_bytes});
  RC_ASSERT(written == (computed == 0 ? 0xffff : computed));
}

RC_GTEST_PROP(encapsulation, inner_packet_is_untouched_and_outer_header_sums_up,
              (const std::vector<std::uint8_t>& payload)) {
  const bool outer_is_v4 = *rc::gen::arbitrary<bool>();
  const auto forwarding = *rc::gen::element<std::uint8_t>(MR_FORWARDING_IPIP, MR_FORWARDING_GUE);
  Segment segment = arbitrary_segment(*rc::gen::arbitrary<bool>(), payload);
  const std::vector<std::uint8_t> before(segment.frame.begin() + kHeadroom + MR_ETH_BYTES,
                                         segment.frame.end());
  const Packet packet = forwarding == MR_FORWARDING_IPIP
                            ? encapsulated<MR_FORWARDING_IPIP>(segment, outer_is_v4)
                            : encapsulated<MR_FORWARDING_GUE>(segment, outer_is_v4);
  const std::uint32_t overhead = mr_outer_bytes(forwarding, outer_is_v4);
  RC_ASSERT(packet.length == MR_ETH_BYTES + overhead + before.size());
  RC_ASSERT(packet.headroom == kHeadroom - overhead);
  RC_ASSERT(std::equal(before.begin(), before.end(), packet.data + MR_ETH_BYTES + overhead));
  if (outer_is_v4) RC_ASSERT(ipv4_checksum_holds(packet.data + MR_ETH_BYTES));
}

// ---- flow table

struct alignas(64) Line {
  std::byte bytes[64];
};

RC_GTEST_PROP(flow_table, holds_exactly_what_a_map_holds, ()) {
  // The small one gets full. In the large one no bucket does, whatever the order of insertion.
  const bool is_large = *rc::gen::arbitrary<bool>();
  const std::uint32_t capacity = is_large ? 1024 : 64;
  std::vector<Line> memory(FlowTable::bytes_for(capacity) / sizeof(Line) + 1);
  const std::span<std::byte> bytes{memory.front().bytes, memory.size() * sizeof(Line)};
  FlowTable::Layout layout{.capacity = capacity,
                           .worker_index = 0,
                           .worker_count = 1,
                           .secret = {},
                           .created_ns = 0,
                           .creator_pid = 0};
  std::mt19937_64 random(*rc::gen::arbitrary<std::uint64_t>());  // small words scatter nothing
  for (auto& word : layout.secret) word = random();
  FlowTable table = FlowTable::format(bytes, layout);
  std::map<std::uint32_t, std::uint32_t> model;  // client -> record

  const auto key_of = [](std::uint32_t client) {
    return ClientKey::of(words_of(v4_mapped(client / 4)),
                         static_cast<std::uint16_t>(client % 4 + 1), MR_PROTOCOL_TCP);
  };
  const auto find = [&](std::uint32_t client) {
    const std::uint64_t hash = table.hash(key_of(client));
    return table.find(hash, key_of(client), [](const mr_flow_record&) { return true; });
  };
  const auto steps = *rc::gen::container<std::vector<std::uint32_t>>(
      300, rc::gen::inRange<std::uint32_t>(0, 3 * 96));
  for (const std::uint32_t step : steps) {
    const std::uint32_t client = step % 96;
    const auto known = model.find(client);
    RC_ASSERT(find(client) == (known == model.end() ? MR_RECORD_NONE : known->second));
    if (known == model.end() && step < 2 * 96) {
      const std::uint32_t index =
          table.insert(table.hash(key_of(client)), key_of(client), MR_FLOW_ESTABLISHED);
      if (index == MR_RECORD_NONE) {  // a full table or bucket pair may refuse
        RC_ASSERT(!is_large);
        continue;
      }
      RC_ASSERT(index < capacity);
      table.record(index).listener_id = 1;
      table.record(index).target_id = 1;
      model[client] = index;
    } else if (known != model.end() && step >= 2 * 96) {
      table.remove(table.record(known->second));
      model.erase(known);
    }
    RC_ASSERT(table.used() == model.size());
    RC_ASSERT(table.inconsistency() == nullptr);
  }
  const Result<FlowTable> attached = FlowTable::attach(bytes, layout);
  RC_ASSERT(attached.has_value());
  RC_ASSERT(attached->used() <= model.size());
  RC_ASSERT(attached->inconsistency() == nullptr);
  if (is_large) RC_ASSERT(attached->used() == model.size());
  for (const auto& [client, record] : model) {
    const std::uint32_t found = attached->find(attached->hash(key_of(client)), key_of(client),
                                               [](const mr_flow_record&) { return true; });
    RC_ASSERT(found == record || (found == MR_RECORD_NONE && !is_large));
  }
}

}  // namespace
}  // namespace millrace::core

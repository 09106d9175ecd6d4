// SPDX-License-Identifier: Apache-2.0
//
// Arbitrary frames, in bursts of any size, with time passing and housekeeping in between, through
// the packet path with a config and flows. What must hold for every frame:
//   one verdict, counted once; nothing read or written beyond the frame (sanitizers);
//   a punted frame is untouched; what is sent has right checksums if what came had them;
//   the same outcome whether a frame is alone in its burst or not, and in the other engine.
//
// Input: steps of [u8 what][u8 n][u16 bytes][frame ...]; see step().
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "dataplane/core/encapsulate.h"
#include "dataplane/core/packet.h"
#include "dataplane/rules/forwarding_rule.h"
#include "tests/fuzz/input.h"
#include "tests/support/cc/core_engine.h"
#include "tests/support/cc/engine_under_test.h"
#include "tests/support/cc/frame_check.h"
#include "tests/support/cc/glance_check.h"
#include "tests/support/cc/golden_case.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::fuzz {
namespace {

using Checksum = test::FrameFacts::Checksum;
using core::VerdictKind;

constexpr std::uint64_t kStartNs = 1'000'000'000'000;
constexpr std::size_t kFrameBytesMax = 2048;
const test::MacTable kNicMacs = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};

// What the first target of each group, or its listener, may have come to.
enum class State : std::uint8_t { steady, draining, unhealthy, unresolved, replaced, gone, closed };
constexpr std::uint8_t kStateCount = 7;
constexpr std::array<std::uint8_t, 4> kForwardings = {MR_FORWARDING_NAT, MR_FORWARDING_DSR,
                                                      MR_FORWARDING_IPIP, MR_FORWARDING_GUE};
constexpr std::uint32_t kGroupCount = 4 * kForwardings.size();
constexpr std::uint16_t kMtu = 1000;  // frames of both sides of it are in the corpus

void add_group(test::ImageBuilder& builder, bool is_v6, std::uint8_t protocol,
               std::uint8_t forwarding) {
  const bool is_tcp = protocol == MR_PROTOCOL_TCP;
  const std::uint32_t group = builder.add_group({.forwarding = forwarding});
  // Inside another packet the second target's may be of the other family.
  const bool is_second_v6 = is_v6 != mr_encapsulates(forwarding);
  for (const char* addr :
       {is_v6 ? "2001:db8:1::11" : "10.0.1.11", is_second_v6 ? "2001:db8:1::12" : "10.0.1.12"}) {
    const auto port = static_cast<std::uint16_t>(is_tcp ? 8080 : 5353);
    static_cast<void>(builder.add_target({.group_slot = group,
                                          .addr = test::addr_of(addr),
                                          .port = port,
                                          .protocol = protocol,
                                          .mtu = kMtu}));
  }
  for (const char* vip :
       {is_v6 ? "2001:db8::10" : "203.0.113.10", is_v6 ? "2001:db8::20" : "203.0.113.20"}) {
    static_cast<void>(builder.add_listener(
        {.vip_addr = test::addr_of(vip),
         .port = static_cast<std::uint16_t>((is_tcp ? 80 : 53) + forwarding - MR_FORWARDING_NAT),
         .protocol = protocol,
         .group_slot = group}));
  }
}

void change(test::ImageBuilder& builder, std::uint32_t group, State state) {
  const std::uint32_t slot = 2 * group;
  test::TargetSpec& target = builder.target(slot);
  target.gets_new_flows = state != State::draining && state != State::unhealthy;
  if (state == State::draining) target.flags |= MR_TARGET_DRAINING;
  if (state == State::unhealthy) target.flags = MR_TARGET_RESETS_FLOWS;
  if (state == State::unresolved) target.next_hop.flags = 0;
  if (state == State::replaced) builder.replace_target(slot, target);
  if (state == State::gone) builder.free_target(slot);
  if (state == State::closed) builder.free_listener(2 * group);
}

// The addresses and ports of tests/packets/common.config, so that its packets are good seeds.
test::Image build_image(State state, const test::Image* previous) {
  test::ImageBuilder builder;
  for (const bool is_v6 : {false, true}) {
    for (const std::uint8_t protocol : {MR_PROTOCOL_TCP, MR_PROTOCOL_UDP}) {
      for (const std::uint8_t forwarding : kForwardings) {
        add_group(builder, is_v6, protocol, forwarding);
      }
    }
  }
  for (std::uint32_t group = 0; group < kGroupCount; ++group) change(builder, group, state);
  builder.set_default_next_hops(test::next_hop_of("02:00:00:00:00:fe"),
                                test::next_hop_of("02:00:00:00:00:fe", 1));
  builder.add_local_addr(test::addr_of("10.0.1.1"));
  builder.set_encap_source(test::addr_of("10.0.1.1"));
  builder.set_encap_source(test::addr_of("2001:db8:1::1"));
  return builder.build(static_cast<std::uint64_t>(state) + 1, previous);
}

const test::Image& image_of(State state) {
  static const std::vector<test::Image> images = [] {
    std::vector<test::Image> built;
    built.reserve(kStateCount);
    for (std::uint8_t i = 0; i < kStateCount; ++i) {
      built.push_back(build_image(static_cast<State>(i), i == 0 ? nullptr : &built[0]));
    }
    return built;
  }();
  return images[static_cast<std::size_t>(state)];
}

// Bytes that were put in front of the packet; 0 when it was not encapsulated.
std::size_t overhead_of(const test::Frame& in, const test::FrameFacts& before,
                        const test::Outcome& out, const test::FrameFacts& after) {
  for (const std::uint8_t forwarding : {MR_FORWARDING_IPIP, MR_FORWARDING_GUE}) {
    const std::size_t overhead = mr_outer_bytes(forwarding, after.ether_type == 0x0800);
    const auto inner = in.bytes.begin() + MR_ETH_BYTES;
    if (out.bytes.size() == MR_ETH_BYTES + overhead + before.ip_bytes &&
        std::equal(inner, inner + static_cast<std::ptrdiff_t>(before.ip_bytes),
                   out.bytes.end() - static_cast<std::ptrdiff_t>(before.ip_bytes))) {
      return overhead;
    }
  }
  return 0;
}

// A datagram shorter than the packet around it: the outer checksum does not look behind it.
bool has_surplus(const test::Frame& in, const test::FrameFacts& before) {
  const std::size_t at = before.l4_offset + MR_UDP_LENGTH;
  return before.protocol == MR_PROTOCOL_UDP &&
         before.l4_offset + (std::size_t{in.bytes[at]} << 8 | in.bytes[at + 1]) !=
             MR_ETH_BYTES + before.ip_bytes;
}

void check_encapsulated(const test::Frame& in, const test::FrameFacts& before,
                        const test::FrameFacts& after, std::size_t overhead) {
  require(after.is_ip && after.ip_bytes == before.ip_bytes + overhead && after.hops == 64,
          "the outer header is a new one around the packet");
  require(after.ip_bytes <= kMtu, "what is sent fits the MTU");
  if (before.is_fragment || before.l4_checksum == Checksum::none) {
    require(after.l4_checksum != Checksum::wrong, "an outer checksum that is summed is right");
    return;
  }
  if (after.l4_checksum != Checksum::none && !has_surplus(in, before)) {
    require(after.l4_checksum == before.l4_checksum, "the outer checksum is right if the inner is");
  }
}

// Of the addresses and the UDP header: what a first fragment adds to the datagram's checksum.
std::uint32_t checked_sum(const test::Bytes& bytes, const test::FrameFacts& facts) {
  const bool is_v4 = facts.ether_type == 0x0800;
  std::uint32_t sum = 0;
  const auto add = [&](std::size_t from, std::size_t count) {
    for (std::size_t at = from; at < from + count; at += 2) {
      sum += std::uint32_t{bytes[at]} << 8 | bytes[at + 1];
    }
  };
  add(is_v4 ? 26 : 22, is_v4 ? 8 : 32);
  add(facts.l4_offset, MR_UDP_BYTES);
  return sum % 0xffff;
}

// A fragment on its way, not encapsulated.
void check_fragment(const test::Frame& in, const test::FrameFacts& before, const test::Outcome& out,
                    const test::FrameFacts& after) {
  const auto is_same_from = [&](std::size_t from) {
    const auto at = static_cast<std::ptrdiff_t>(from);
    return std::equal(in.bytes.begin() + at, in.bytes.end(), out.bytes.begin() + at,
                      out.bytes.end());
  };
  require(after.ip_bytes == before.ip_bytes && after.is_fragment, "a fragment stays one");
  if (is_same_from(12)) return;  // dsr
  require(after.hops + 1 == before.hops && after.hops > 0, "one hop less");
  const std::size_t fragment_header = before.ether_type == 0x0800 ? 18 : 54;
  require(std::equal(in.bytes.begin() + static_cast<std::ptrdiff_t>(fragment_header),
                     in.bytes.begin() + static_cast<std::ptrdiff_t>(fragment_header) + 4,
                     out.bytes.begin() + static_cast<std::ptrdiff_t>(fragment_header)),
          "a fragment keeps its place in its datagram");
  require(is_same_from(before.l4_offset + (before.is_first ? MR_UDP_BYTES : 0)),
          "forwarding leaves the payload");
  if (!before.is_first) return;
  const std::uint8_t* checksum = in.bytes.data() + before.l4_offset + MR_UDP_CHECKSUM;
  const bool has_checksum = (checksum[0] | checksum[1]) != 0;
  require(!has_checksum || checked_sum(in.bytes, before) == checked_sum(out.bytes, after),
          "the datagram's checksum stays as right or wrong as it was");
}

// A late segment that became the RST of the other side, in whatever its way of forwarding puts
// around it. Checks it if it is one.
bool check_own_reset(const test::Frame& in, const test::FrameFacts& before,
                     const test::Outcome& out) {
  if (!before.is_ip || before.protocol != MR_PROTOCOL_TCP) return false;
  const std::size_t packet_bytes = before.l4_offset - MR_ETH_BYTES + MR_TCP_BYTES;
  if (out.bytes.size() < MR_ETH_BYTES + packet_bytes) return false;
  test::Bytes inner(in.bytes.begin(), in.bytes.begin() + MR_ETH_BYTES);
  inner.insert(inner.end(), out.bytes.end() - static_cast<std::ptrdiff_t>(packet_bytes),
               out.bytes.end());
  const std::uint8_t* tcp = inner.data() + before.l4_offset;
  const bool was_reset = (in.bytes[before.l4_offset + MR_TCP_FLAGS] & MR_TCP_RST) != 0;
  if (was_reset || tcp[MR_TCP_FLAGS] != MR_TCP_RST) return false;
  const test::FrameFacts facts = test::facts_of(inner);
  require(facts.is_ip && facts.ip_bytes == packet_bytes && facts.ip_checksum != Checksum::wrong,
          "a RST in the place of a late segment is a whole packet");
  require(facts.l4_checksum == Checksum::right, "and its checksum is right");
  return true;
}

void check_sent(const test::Frame& in, const test::Outcome& out) {
  const test::FrameFacts before = test::facts_of(in.bytes);
  const test::FrameFacts after = test::facts_of(out.bytes);
  require(out.nic < kNicMacs.size(), "sent on a nic that exists");
  require(std::equal(out.bytes.begin() + 6, out.bytes.begin() + 12, kNicMacs[out.nic].begin()),
          "a frame carries the address of the nic that sends it");
  require(after.ip_checksum != Checksum::wrong, "a right IPv4 header checksum leaves");
  if (out.kind == VerdictKind::forward && check_own_reset(in, before, out)) return;
  const std::size_t overhead =
      before.is_ip || before.is_fragment ? overhead_of(in, before, out, after) : 0;
  if (out.kind == VerdictKind::forward && overhead != 0) {
    return check_encapsulated(in, before, after, overhead);
  }
  require(after.ether_type == before.ether_type, "the ethertype stays");
  require(out.bytes.size() <= in.bytes.size(), "a frame that is not encapsulated does not grow");
  if (before.l4_checksum == Checksum::right) {
    require(after.l4_checksum == Checksum::right, "a right transport checksum stays right");
  }
  if (out.kind == VerdictKind::reply) return;
  if (before.is_fragment) return check_fragment(in, before, out, after);
  require(before.is_ip && after.is_ip, "only whole IP packets are forwarded");
  require(out.bytes.size() == in.bytes.size() && after.ip_bytes == before.ip_bytes,
          "forwarding keeps the length");
  require(after.protocol == before.protocol, "forwarding keeps the protocol");
  require(after.l4_checksum == before.l4_checksum, "a wrong transport checksum is not repaired");
  const bool is_hop = after.hops + 1 == before.hops && after.hops > 0;
  const bool is_dsr = after.hops == before.hops &&
                      std::equal(in.bytes.begin() + 12, in.bytes.end(), out.bytes.begin() + 12);
  require(is_hop || is_dsr, "one hop less, or nothing changed behind the link header");
  // The payload of an ICMP error is a quoted packet, which is translated too.
  if (before.protocol == MR_PROTOCOL_ICMP || before.protocol == MR_PROTOCOL_ICMPV6) return;
  // The payload behind the largest header that may change.
  const std::size_t payload = before.l4_offset + (before.protocol == 6 ? 20 : 8);
  require(std::equal(in.bytes.begin() + static_cast<std::ptrdiff_t>(payload), in.bytes.end(),
                     out.bytes.begin() + static_cast<std::ptrdiff_t>(payload)),
          "forwarding leaves the payload");
}

// Core, which gets bursts, and a twin that gets the same frames one by one: another core, or the
// XDP engine (the target `engines`).
class Session {
 public:
  Session()
      : engine_(test::make_core_engine(kNicMacs)), twin_(test::make_engine_under_test(kNicMacs)) {
    adopt(image_of(State::steady));
  }

  void step(Input& input) {
    const std::uint8_t what = input.u8();
    const std::uint8_t n = input.u8();
    switch (what % 8) {
      case 0:  // time passes, up to about six minutes
        flush();
        now_ns_ += (std::uint64_t{n} + 1) * 1'500'000'000;
        break;
      case 1:
        flush();
        engine_->sweep(now_ns_);
        twin_->sweep(now_ns_);
        break;
      case 2:
        flush();
        adopt(image_of(static_cast<State>(n % kStateCount)));
        break;
      case 3:
        flush();
        engine_->restart();
        twin_->restart();
        break;
      default:
        add_frame(what, n, input);
    }
  }

  void finish() {
    flush();
    require(engine_->gauges_agree() && twin_->gauges_agree(), "gauges say what the table holds");
  }

 private:
  void adopt(const test::Image& image) {
    engine_->adopt(image);
    twin_->adopt(image);
  }

  // Bit 7 of `what`: put the right IPv4 checksum in, which mutation would not find.
  void add_frame(std::uint8_t what, std::uint8_t n, Input& input) {
    const auto bytes = input.bytes(std::min<std::size_t>(input.u16(), kFrameBytesMax));
    test::Frame frame{{bytes.begin(), bytes.end()}, static_cast<std::uint8_t>(n & 1)};
    if (frame.bytes.empty()) return;
    if ((what & 0x80) != 0) mend_ip_checksum(frame.bytes);
    require(test::glance_objection(frame.bytes).empty(), "a glance sees what parsing finds");
    burst_.push_back(std::move(frame));
    if (burst_.size() == core::kBurstMax || (n & 2) != 0) flush();
  }

  static void mend_ip_checksum(test::Bytes& bytes) {
    if (bytes.size() < 34 || bytes[12] != 8 || bytes[13] != 0) return;
    bytes[24] = 0;
    bytes[25] = 0;
    std::uint32_t sum = 0;
    for (std::size_t i = 14; i < 34; i += 2) sum += std::uint32_t{bytes[i]} << 8 | bytes[i + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    bytes[24] = static_cast<std::uint8_t>(~sum >> 8);
    bytes[25] = static_cast<std::uint8_t>(~sum);
  }

  void flush() {
    if (burst_.empty()) return;
    const test::EngineCounters before = engine_->counters();
    const auto outcomes = engine_->run(burst_, now_ns_);
    check_counters(before, engine_->counters(), outcomes);
    for (std::size_t i = 0; i < burst_.size(); ++i) {
      const test::Outcome& out = outcomes[i];
      if (burst_[i].bytes.size() < twin_->frame_bytes_min()) continue;
      const auto alone = twin_->run({burst_[i]}, now_ns_);
      require(alone[0].kind == out.kind && alone[0].reason == out.reason &&
                  alone[0].nic == out.nic && alone[0].bytes == out.bytes,
              "a frame's fate does not depend on its burst");
      if (out.kind == VerdictKind::punt) {
        require(out.bytes == burst_[i].bytes && out.nic == burst_[i].nic, "a punt is untouched");
      } else if (out.kind != VerdictKind::drop) {
        check_sent(burst_[i], out);
      }
    }
    burst_.clear();
  }

  static void check_counters(const test::EngineCounters& before, const test::EngineCounters& after,
                             const std::vector<test::Outcome>& outcomes) {
    std::array<std::uint64_t, MR_DROP_REASON_COUNT> drops = before.drops;
    std::array<std::uint64_t, 3> sent = {before.counters[MR_COUNTER_FORWARDED_PACKETS],
                                         before.counters[MR_COUNTER_REPLIED_PACKETS],
                                         before.counters[MR_COUNTER_PUNTED_PACKETS]};
    for (const test::Outcome& out : outcomes) {
      require(out.kind <= VerdictKind::drop, "the verdict is one of four");
      if (out.kind == VerdictKind::drop) {
        require(out.reason != 0 && out.reason < MR_DROP_REASON_COUNT, "a drop has a reason");
        ++drops[out.reason];
      } else {
        ++sent[static_cast<std::size_t>(out.kind)];
      }
    }
    require(drops == after.drops, "each drop is counted once, by its reason");
    require(sent[0] == after.counters[MR_COUNTER_FORWARDED_PACKETS] &&
                sent[1] == after.counters[MR_COUNTER_REPLIED_PACKETS] &&
                sent[2] == after.counters[MR_COUNTER_PUNTED_PACKETS],
            "each other verdict is counted once");
  }

  std::unique_ptr<test::Engine> engine_;
  std::unique_ptr<test::Engine> twin_;
  std::vector<test::Frame> burst_;
  std::uint64_t now_ns_ = kStartNs;
};

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  millrace::fuzz::Input input(data, size);
  millrace::fuzz::Session session;
  while (!input.is_empty()) session.step(input);
  session.finish();
  return 0;
}

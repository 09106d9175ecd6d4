// SPDX-License-Identifier: Apache-2.0
//
// ICMP errors about packets of flows: "too big", "unreachable", "time exceeded". Warm.
//
// An error about a reply goes to the flow's target, and one about a request to its client. That is
// the way of a packet that answers the quoted one. Where this node translates, the two ends know
// the flow by different addresses, so the quoted packet is translated back (RFC 5508 section 4). An
// error changes neither the state of a flow nor the time of its last packet. It may be forged, and
// its receiver checks it (RFC 5927).
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/quote.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/known_rule.h"

namespace millrace::core {

// What a packet would look like that answers the packet that an ICMP error quotes. The quoted
// packet must be of a flow: one that left with a VIP's address, or one to a target's service port.
// Nothing for any other packet.
std::optional<Parsed> Forwarder::answer_of_error(const Packet& packet,
                                                 const Parsed& parsed) noexcept {
  const bool is_multicast = (packet.data[0] & 1) != 0;
  if (is_multicast || !is_icmp_error(packet, parsed)) return std::nullopt;
  const std::optional<Parsed> answer = answer_to_quoted(packet, parsed);
  // The error must go to whoever sent the quoted packet.
  if (!answer || answer->destination != parsed.destination) return std::nullopt;
  if (has_listener(*answer)) return answer;
  if (is_vip(answer->destination) || is_local(answer->destination)) return std::nullopt;
  return is_service(answer->source, answer->source_port_be(), answer->protocol) ? answer
                                                                                : std::nullopt;
}

Verdict Forwarder::pass_error(Packet& packet, const Parsed& parsed, const Parsed& answer) noexcept {
  Work work;
  work.parsed = answer;
  work.listener = find_listener(answer);
  const ClientKey client = work.listener != nullptr ? source_key(answer) : destination_key(answer);
  work.hash = flows_.hash(client);
  if (work.listener == nullptr) {
    if (parsed.source == AddrWords{0, 0}) return drop(MR_DROP_MARTIAN);
    return pass_error_to_client(packet, work);
  }
  if (is_no_client(parsed)) return drop(MR_DROP_MARTIAN);
  const std::uint32_t index = find_to_listener(work);
  if (index != MR_RECORD_NONE && target_of(flows_.record(index)) != nullptr) {
    return pass_error_to_target(packet, answer, flows_.record(index).target_slot);
  }
  // The flow may be another node's, or have found no room. The lookup table decides.
  if (is_no_client(answer)) return drop(MR_DROP_MARTIAN);
  if (!errors_.take()) return drop(MR_DROP_RATE_LIMITED);
  const std::uint32_t target_slot =
      target_by_table(client, *work.listener, work.listener->port_be, mr_error_is_orphan(tick_));
  if (target_slot == MR_TABLE_EMPTY) return drop(MR_DROP_NO_TARGET);
  const mr_target& target = config_.targets[target_slot];
  if (mr_refuses_own_client(target.forwarding) && words_of(target.addr) == answer.source) {
    return drop(MR_DROP_MARTIAN);
  }
  return pass_error_to_target(packet, answer, target_slot);
}

Verdict Forwarder::pass_error_to_target(Packet& packet, const Parsed& answer,
                                        std::uint32_t target_slot) noexcept {
  const mr_target& target = config_.targets[target_slot];
  if ((target.next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0) {
    if (mac_on(target.next_hop.nic) == nullptr) return drop(MR_DROP_NO_NIC);
    const bool encapsulates = mr_encapsulates(target.forwarding);
    const std::uint32_t outer_bytes =
        encapsulates ? mr_outer_bytes(target.forwarding, target.variant == MR_VARIANT_OUTER_V4) : 0;
    // Nobody is told of an ICMP error (RFC 1122 section 3.2.2).
    if (answer.ip_bytes > mr_inner_mtu(target.mtu, outer_bytes)) return drop(MR_DROP_TOO_BIG);
    if (mr_translates(target.forwarding)) {
      return send_error(
          packet, answer, true, load<std::uint64_t>(target.next_hop.mac),
          {.addr = target.addr,
           .port_be = mr_target_port_be_of(target.port_be, answer.destination_port_be())});
    }
    count(MR_COUNTER_ERRORS_PASSED);
  }
  mr_flow_record passing{};
  passing.target_slot = target_slot;
  Parsed whole = answer;  // with the ports of the flow, whose way it goes
  whole.protocol = answer.is_v4 ? MR_PROTOCOL_ICMP : MR_PROTOCOL_ICMPV6;
  return send_to_target(packet, whole, passing, target);
}

// The error is about a request that this node translated.
Verdict Forwarder::pass_error_to_client(Packet& packet, const Work& work) noexcept {
  const Parsed& answer = work.parsed;
  const std::uint32_t index = find_from_target(work);
  const mr_listener* listener =
      index == MR_RECORD_NONE ? nullptr : listener_of(flows_.record(index));
  std::uint16_t last_hop = 0;
  std::uint16_t vip_port_be = 0;
  if (listener != nullptr) {
    last_hop = flows_.record(index).last_hop;
    vip_port_be = mr_vip_port_be_of(flows_.record(index).vip_port_be, listener->port_be);
  } else {
    const Flowless flowless = judge_flowless(answer, work.hash);
    // The kernel would send it to the client with the target's own address in it.
    if (flowless.what == MR_FLOWLESS_PUNT) return drop(MR_DROP_ICMP);
    if (flowless.what == MR_FLOWLESS_DROP) return drop(MR_DROP_NO_FLOW);
    listener = flowless.listener;
    vip_port_be = flowless.vip_port_be;
  }
  const std::uint64_t hop = client_hop(last_hop, answer.is_v4);
  if (hop == kNoHop) return drop(MR_DROP_NEXT_HOP_UNRESOLVED);
  if (!has_exit(hop)) return drop(MR_DROP_NO_NIC);
  return send_error(packet, answer, false, hop,
                    {.addr = listener->vip_addr, .port_be = vip_port_be});
}

// `hop`: a next hop as loaded that has_exit().
Verdict Forwarder::send_error(Packet& packet, const Parsed& answer, bool is_to_target,
                              std::uint64_t hop, const RenamedEnd& end) noexcept {
  return answer.is_v4 ? send_error<Ipv4Frame>(packet, answer, is_to_target, hop, end)
                      : send_error<Ipv6Frame>(packet, answer, is_to_target, hop, end);
}

template <typename Frame>
Verdict Forwarder::send_error(Packet& packet, const Parsed& answer, bool is_to_target,
                              std::uint64_t hop, const RenamedEnd& end) noexcept {
  if (packet.data[Frame::kHops] < 2) return drop(MR_DROP_TTL_EXPIRED);
  translate_error<Frame>(packet, answer, is_to_target, end);
  count(MR_COUNTER_ERRORS_PASSED);
  return forward_to(packet, hop, Frame::kType);
}

}  // namespace millrace::core

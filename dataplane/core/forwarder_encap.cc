// SPDX-License-Identifier: Apache-2.0
//
// The last step towards targets of ipip and gue groups. HOT.
#include "dataplane/core/answer.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/rewrite.h"

namespace millrace::core {

// `target` has a resolved next hop on a nic of ours.
template <typename Frame>
Verdict Forwarder::encapsulate_to_target(Packet& packet, const Parsed& parsed,
                                         const mr_target& target) noexcept {
  const mr_image& image = *config_.image;
  const mr_addr& source = Frame::kIsV4 ? image.encap_source_v4 : image.encap_source_v6;
  if (words_of(source) == AddrWords{0, 0}) [[unlikely]]
    return drop(MR_DROP_NO_ENCAP_SOURCE);
  const std::uint32_t overhead = encapsulation_bytes(target.forwarding, Frame::kIsV4);
  // Without a known limit, that of the length fields.
  const std::uint32_t mtu = target.mtu != 0 ? target.mtu : 0xffffu;
  if (parsed.ip_bytes + overhead > mtu) [[unlikely]]
    return answer_too_big(packet, parsed, mtu > overhead ? mtu - overhead : 0);
  if (packet.headroom < overhead) [[unlikely]]
    return drop(MR_DROP_TOO_BIG);
  encapsulate<Frame>(packet, parsed, target, source);
  const auto hop = load<std::uint64_t>(target.next_hop.mac);
  const std::uint32_t nic = hop >> 48 & 0xff;
  write_link_header(packet.data, hop, nic_mac_words_[nic], Frame::kType);
  return forward(packet, nic);
}

template Verdict Forwarder::encapsulate_to_target<Ipv4Frame>(Packet&, const Parsed&,
                                                             const mr_target&) noexcept;
template Verdict Forwarder::encapsulate_to_target<Ipv6Frame>(Packet&, const Parsed&,
                                                             const mr_target&) noexcept;

// `mtu` is what the way to the target leaves for the client's packet. The client is told whether or
// not it allowed fragments (IPv4's DF): this node cannot make any, and a packet that vanishes in
// silence is worse than a message that its sender may ignore.
Verdict Forwarder::answer_too_big(Packet& packet, const Parsed& parsed,
                                  std::uint32_t mtu) noexcept {
  if (packet.nic >= nic_count_) return drop(MR_DROP_NO_NIC);
  if (packet.headroom < too_big_headroom(parsed)) return drop(MR_DROP_TOO_BIG);
  if (!replies_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_too_big(packet, parsed, nic_macs_[packet.nic], mtu);
  count(MR_COUNTER_TOO_BIG_SENT);
  return reply(packet);
}

}  // namespace millrace::core

// SPDX-License-Identifier: Apache-2.0
//
// The link header: whose frame it is, and in which VLAN. Warm: what glance() accepts on an untagged
// nic does not come here.
//
// A packet of a VLAN that the config knows loses its tag, and `packet.nic` names the VLAN instead
// of the nic. So everything behind it decides as on a nic of its own. What leaves in a VLAN gets a
// tag as the last thing.
#include <algorithm>
#include <bit>
#include <cstring>

#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/glance.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/vlan_tag.h"

namespace millrace::core {
namespace {

// The destination in the IP header of a frame, whether or not that header is valid; :: if there is
// none.
AddrWords ip_destination(const Packet& packet) {
  const auto type = load<std::uint16_t>(packet.data + MR_ETH_TYPE);
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  const std::uint32_t bytes = packet.length - MR_ETH_BYTES;
  if (type == be(EtherType::ipv4) && bytes >= MR_IPV4_BYTES) {
    return v4_words_at(ip + MR_IPV4_DESTINATION);
  }
  if (type == be(EtherType::ipv6) && bytes >= MR_IPV6_BYTES)
    return words_at(ip + MR_IPV6_DESTINATION);
  return {0, 0};
}

bool is_tagged(const Packet& packet) {
  return packet.length >= MR_ETH_BYTES + MR_VLAN_BYTES &&
         load<std::uint16_t>(packet.data + MR_ETH_TYPE) == be(EtherType::vlan);
}

// What a tag may stand before: a second tag, and what is neither IP nor ARP, is the kernel's.
bool is_taken(std::uint16_t type) {
  return type == be(EtherType::ipv4) || type == be(EtherType::ipv6) || type == be(EtherType::arp);
}

}  // namespace

// Whether a packet that glance() did not accept is to be balanced nevertheless.
bool Forwarder::examine(Packet& packet, Parsed& parsed, const Ownership& ownership) noexcept {
  if (is_tagged(packet) && take_off_tag(packet)) [[unlikely]]
    return examine_in_vlan(packet, parsed, ownership);
  if (packet.length >= MR_ETH_BYTES && !is_ours(packet) && !is_local_mac(packet)) [[unlikely]]
    return leave_other_macs(packet, parsed);
  parse(packet, parsed);
  if (parsed.shape == Shape::fragment) return resolve_fragment(packet, parsed, ownership);
  return parsed.shape == Shape::transport;
}

// Likewise for a packet of a VLAN, at which nobody has glanced yet.
bool Forwarder::examine_in_vlan(Packet& packet, Parsed& parsed,
                                const Ownership& ownership) noexcept {
  if (!is_for_vlan(packet)) return leave_other_macs(packet, parsed);
  if (packet.length < kGlanceBytes || glance(packet, parsed) == MR_FLOW_FREE) {
    parse(packet, parsed);
    if (parsed.shape == Shape::fragment) return resolve_fragment(packet, parsed, ownership);
    if (parsed.shape != Shape::transport) return false;
  }
  return is_own_of_vlan(parsed, ownership);
}

// Nothing for a MAC address that is not the node's is balanced: says so, with false.
bool Forwarder::leave_other_macs(const Packet& packet, Parsed& parsed) noexcept {
  const bool is_multicast = (packet.data[0] & 1) != 0;
  if (!is_multicast) {
    parsed.shape = Shape::foreign;
    parsed.destination = ip_destination(packet);
    return false;
  }
  parse(packet, parsed);
  // RFC 1812 section 5.3.4: never forward these.
  if (parsed.shape == Shape::transport || parsed.shape == Shape::fragment) {
    detail::refuse(parsed, Shape::suspicious, MR_DROP_OTHER_MAC);
  }
  return false;
}

// False for a packet of another worker's flow. That worker is to get it as it came, with its tag,
// and handler_of_other() sees to that.
bool Forwarder::is_own_of_vlan(Parsed& parsed, const Ownership& ownership) noexcept {
  if (ownership.worker_count == 1) return true;
  Work work;
  work.parsed = parsed;
  work.listener = find_listener(parsed);
  const ClientKey key = work.listener != nullptr ? source_key(parsed) : destination_key(parsed);
  const std::uint32_t handler = handler_of(work, key, ownership);
  if (handler == ownership.worker) return true;
  parsed.shape = Shape::handed;
  parsed.owner = static_cast<std::uint8_t>(handler);
  return false;
}

// Takes off a tag that names no VLAN but a priority (IEEE 802.1Q, VID 0), since the packet belongs
// to the untagged interface, and one of a VLAN that the config knows. Frames with other tags are
// the kernel's. True for one of a VLAN.
bool Forwarder::take_off_tag(Packet& packet) const noexcept {
  const std::uint8_t* tag = packet.data + MR_ETH_TYPE;
  if (!is_taken(load<std::uint16_t>(tag + MR_VLAN_BYTES))) return false;
  const std::uint32_t id = from_be16(load<std::uint16_t>(tag + MR_VLAN_CONTROL)) & MR_VLAN_ID_MASK;
  if (id == 0) {
    take_off(packet);
    return false;
  }
  const std::uint32_t place = packet.nic * MR_VLAN_ID_COUNT + id;
  if (packet.nic >= nic_count_ || place >= config_.vlan_slots.size()) return false;
  const std::uint32_t index = MR_NIC_COUNT_MAX + config_.vlan_slots[place];
  if (vlan_at(index) == nullptr) return false;
  take_off(packet);
  packet.nic = static_cast<std::uint8_t>(index);
  return true;
}

// Undoes take_off_tag() of a packet of a VLAN.
void Forwarder::give_back_tag(Packet& packet) const noexcept {
  packet.nic = config_.vlans[packet.nic - MR_NIC_COUNT_MAX].nic;
  give_back(packet);
}

bool Forwarder::is_for_vlan(const Packet& packet) const noexcept {
  const mr_vlan& vlan = config_.vlans[packet.nic - MR_NIC_COUNT_MAX];
  return std::memcmp(packet.data + MR_ETH_DESTINATION, vlan.mac, sizeof(vlan.mac)) == 0 ||
         is_local_mac(packet);
}

// Searches a short list, and only for frames that are not for the nic's own address.
bool Forwarder::is_local_mac(const Packet& packet) const noexcept {
  const std::uint64_t wanted =
      load<std::uint64_t>(packet.data) << 16 >> 16 | std::uint64_t{packet.nic} << 48;
  return std::ranges::any_of(config_.local_macs, [&](const mr_local_mac& own) {
    return std::bit_cast<std::uint64_t>(own) << 8 >> 8 == wanted;
  });
}

const mr_vlan* Forwarder::vlan_at(std::uint32_t nic) const noexcept {
  const std::uint32_t slot = nic - MR_NIC_COUNT_MAX;
  if (slot >= config_.vlans.size()) return nullptr;
  const mr_vlan& vlan = config_.vlans[slot];
  const bool is_usable = (vlan.flags & MR_VLAN_PRESENT) != 0 && vlan.nic < nic_count_;
  return is_usable ? &vlan : nullptr;
}

const std::uint8_t* Forwarder::mac_on(std::uint32_t nic) const noexcept {
  if (nic < nic_count_) return nic_macs_[nic].bytes.data();
  const mr_vlan* vlan = vlan_at(nic);
  return vlan == nullptr ? nullptr : vlan->mac;
}

const mr_nic_addrs* Forwarder::addrs_on(std::uint32_t nic) const noexcept {
  if (nic < nic_count_) return &config_.image->nic_addrs[nic];
  const mr_vlan* vlan = vlan_at(nic);
  return vlan == nullptr ? nullptr : &vlan->addrs;
}

Verdict Forwarder::forward_to(Packet& packet, std::uint64_t hop, EtherType type) noexcept {
  const std::uint32_t nic = hop >> 48 & 0xff;
  const mr_vlan* vlan = nic < nic_count_ ? nullptr : vlan_at(nic);
  const std::uint32_t exit = vlan == nullptr ? nic : vlan->nic;
  write_link_header(packet.data, hop, nic_mac_words_[exit], type);
  const Verdict verdict = forward(packet, exit);
  return vlan == nullptr ? verdict : tag_if_forwarded(packet, verdict, *vlan);
}

// Of a packet that was ready to leave untagged, and has been counted if it was forwarded.
Verdict Forwarder::tag_if_forwarded(Packet& packet, Verdict verdict, const mr_vlan& vlan) noexcept {
  if (verdict.kind() != VerdictKind::forward) return verdict;
  if (packet.headroom < MR_VLAN_BYTES) {
    burst_counts_.forwarded -= std::uint64_t{1} << kForwardedShift | packet.length;
    return drop(MR_DROP_TOO_BIG);
  }
  std::memcpy(packet.data + MR_ETH_SOURCE, vlan.mac, sizeof(vlan.mac));
  put_on(packet, vlan.tag);
  burst_counts_.forwarded += MR_VLAN_BYTES;
  return verdict;
}

// An answer is no longer than the tagged packet that it answers, or answer_with_error() made room.
Verdict Forwarder::reply_in_vlan(Packet& packet) noexcept {
  const mr_vlan& vlan = config_.vlans[packet.nic - MR_NIC_COUNT_MAX];
  put_on(packet, vlan.tag);
  return Verdict::reply(vlan.nic);
}

}  // namespace millrace::core

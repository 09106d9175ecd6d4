// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Where the fields of Ethernet, VLAN, ARP, IP, TCP, UDP and ICMP headers are, in bytes from the
// header's start, and what their values say. Sizes are of headers without options.
#ifndef MILLRACE_RULES_HEADER_RULE_H_
#define MILLRACE_RULES_HEADER_RULE_H_

#include "dataplane/contract/flow_abi.h"
#include "dataplane/rules/rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define MR_ETH_BYTES 14u
#define MR_ETH_DESTINATION 0u
#define MR_ETH_SOURCE 6u
#define MR_ETH_TYPE 12u
#define MR_ETH_TYPE_IPV4 0x0800u
#define MR_ETH_TYPE_ARP 0x0806u
#define MR_ETH_TYPE_VLAN 0x8100u
#define MR_ETH_TYPE_IPV6 0x86ddu

// IEEE 802.1Q: behind the MAC addresses, before the type.
#define MR_VLAN_BYTES 4u
#define MR_VLAN_CONTROL 2u  // from the tag's start
#define MR_VLAN_ID_MASK 0x0fffu

// RFC 826, of Ethernet and IPv4.
#define MR_ARP_BYTES 28u
#define MR_ARP_SENDER_MAC 8u
#define MR_ARP_SENDER_IP 14u
#define MR_ARP_TARGET_MAC 18u
#define MR_ARP_TARGET_IP 24u
// The eight bytes before the sender: hardware and protocol type, their lengths, operation.
#define MR_ARP_REQUEST 0x0001080006040001ULL
#define MR_ARP_REPLY 0x0001080006040002ULL

// RFC 791.
#define MR_IPV4_BYTES 20u
#define MR_IPV4_TOS 1u
#define MR_IPV4_TOTAL_LENGTH 2u
#define MR_IPV4_ID 4u
#define MR_IPV4_FRAGMENT 6u
#define MR_IPV4_TTL 8u
#define MR_IPV4_PROTOCOL 9u
#define MR_IPV4_CHECKSUM 10u
#define MR_IPV4_SOURCE 12u
#define MR_IPV4_DESTINATION 16u
#define MR_IPV4_NO_OPTIONS 0x45u         // version 4, five words
#define MR_IPV4_DONT_FRAGMENT 0x4000u    // of the fragment word, in host order
#define MR_IPV4_MORE_FRAGMENTS 0x2000u   // likewise
#define MR_IPV4_FRAGMENT_MASK 0x3fffu    // more fragments, and the offset
#define MR_IPV4_FRAGMENT_OFFSET 0x1fffu  // in 8 bytes

// RFC 8200.
#define MR_IPV6_BYTES 40u
#define MR_IPV6_PAYLOAD_LENGTH 4u
#define MR_IPV6_NEXT_HEADER 6u
#define MR_IPV6_HOP_LIMIT 7u
#define MR_IPV6_SOURCE 8u
#define MR_IPV6_DESTINATION 24u
#define MR_IPV6_VERSION 0x60000000u  // the first word without class and label
#define MR_IPV6_MTU_MIN 1280u        // section 5
#define MR_IPV6_FRAGMENT_BYTES 8u    // section 4.5: next header, reserved, offset, id
#define MR_IPV6_FRAGMENT_WORD 2u
#define MR_IPV6_FRAGMENT_ID 4u
#define MR_IPV6_FRAGMENT_OFFSET 0xfff8u
#define MR_IPV6_MORE_FRAGMENTS 1u

// Source and destination port lie alike in TCP and UDP.
#define MR_L4_SOURCE_PORT 0u
#define MR_L4_DESTINATION_PORT 2u
#define MR_L4_PORTS_BYTES 4u

// RFC 9293.
#define MR_TCP_BYTES 20u
#define MR_TCP_SEQUENCE 4u
#define MR_TCP_ACKNOWLEDGEMENT 8u
#define MR_TCP_DATA_OFFSET 12u  // in words, in the upper half of the byte
#define MR_TCP_FLAGS 13u
#define MR_TCP_WINDOW 14u
#define MR_TCP_CHECKSUM 16u
#define MR_TCP_FIN 0x01u
#define MR_TCP_SYN 0x02u
#define MR_TCP_RST 0x04u
#define MR_TCP_ACK 0x10u
#define MR_TCP_FLAGS_MASK 0x3fu  // without ECN's two
// The flags that open, close or reset a connection.
#define MR_TCP_TRACKED (MR_TCP_SYN | MR_TCP_FIN | MR_TCP_RST)

// RFC 768.
#define MR_UDP_BYTES 8u
#define MR_UDP_LENGTH 4u
#define MR_UDP_CHECKSUM 6u

// RFC 792 and RFC 4443: both versions have the same header.
#define MR_ICMP_BYTES 8u
#define MR_ICMP_CHECKSUM 2u
#define MR_ICMP_REST 4u  // of the header; the MTU of "too big", in IPv4 behind 16 unused bits
#define MR_ICMPV4_ECHO_REPLY 0u
#define MR_ICMPV4_UNREACHABLE 3u
#define MR_ICMPV4_PORT_UNREACHABLE 3u      // code of "unreachable"
#define MR_ICMPV4_FRAGMENTATION_NEEDED 4u  // likewise
#define MR_ICMPV4_ECHO_REQUEST 8u
#define MR_ICMPV4_TIME_EXCEEDED 11u
#define MR_ICMPV4_PARAMETER_PROBLEM 12u
#define MR_ICMPV6_UNREACHABLE 1u
#define MR_ICMPV6_PORT_UNREACHABLE 4u  // code of "unreachable"
#define MR_ICMPV6_PACKET_TOO_BIG 2u
#define MR_ICMPV6_TIME_EXCEEDED 3u
#define MR_ICMPV6_PARAMETER_PROBLEM 4u
#define MR_ICMPV6_ECHO_REQUEST 128u
#define MR_ICMPV6_ECHO_REPLY 129u
#define MR_ICMPV6_NEIGHBOUR_SOLICITATION 135u
#define MR_ICMPV6_NEIGHBOUR_ADVERTISEMENT 136u
// RFC 4861 sections 4.3 and 4.4, without options.
#define MR_NEIGHBOUR_BYTES 24u
#define MR_NEIGHBOUR_TARGET 8u
#define MR_NEIGHBOUR_HOPS 255u  // section 7.1.1: from this link only
#define MR_NEIGHBOUR_SOLICITED 0x40u
#define MR_NEIGHBOUR_OVERRIDE 0x20u
#define MR_LINK_ADDRESS_OPTION 2u  // section 4.6.1: target's; one unit
#define MR_LINK_ADDRESS_OPTION_BYTES 8u
#define MR_ADVERTISEMENT_BYTES (MR_NEIGHBOUR_BYTES + MR_LINK_ADDRESS_OPTION_BYTES)

// The hop count of the node's own packets.
#define MR_OWN_HOPS 64u
// What errors of the node's own quote behind the IP header at most; 8 are required (RFC 792).
#define MR_QUOTED_L4_BYTES 64u

// TCP and UDP are in the contract (enum mr_protocol).
#define MR_PROTOCOL_HOP_BY_HOP 0u
#define MR_PROTOCOL_ICMP 1u
#define MR_PROTOCOL_IPV4_IN_IP 4u
#define MR_PROTOCOL_IPV6_IN_IP 41u
#define MR_PROTOCOL_ROUTING 43u
#define MR_PROTOCOL_FRAGMENT 44u
#define MR_PROTOCOL_ESP 50u
#define MR_PROTOCOL_AUTHENTICATION 51u
#define MR_PROTOCOL_ICMPV6 58u
#define MR_PROTOCOL_NO_NEXT 59u
#define MR_PROTOCOL_DESTINATION_OPTIONS 60u

MR_RULE bool mr_is_transport(uint32_t protocol) {
  return protocol == MR_PROTOCOL_TCP || protocol == MR_PROTOCOL_UDP;
}

// Bytes of a TCP header, by its byte at MR_TCP_DATA_OFFSET.
MR_RULE uint32_t mr_tcp_header_bytes(uint32_t data_offset_byte) {
  return (data_offset_byte >> 4) * 4u;
}

// Whether a header or datagram of that many bytes fits the length that IP states for the transport.
MR_RULE bool mr_fits_l4(uint32_t bytes, uint32_t bytes_min, uint32_t l4_bytes) {
  return bytes >= bytes_min && bytes <= l4_bytes;
}

// Whether a combination of TCP flags can occur in good faith: no SYN with FIN or RST, and nothing
// but SYN or RST without ACK (fault 9: null, xmas, lone FIN). A bit for each combination of FIN SYN
// RST PSH ACK URG, one shift instead of three branches.
MR_RULE bool mr_are_sane_tcp_flags(uint32_t flags) {
  return (0x3737343437373434ULL >> (flags & MR_TCP_FLAGS_MASK) & 1) != 0;
}

// A SYN that is no answer. Its sender begins a connection.
MR_RULE bool mr_is_lone_syn(uint32_t tcp_flags) {
  return (tcp_flags & (MR_TCP_SYN | MR_TCP_ACK)) == MR_TCP_SYN;
}

// Sequence numbers that a segment takes: its data, and one each for SYN and FIN.
MR_RULE uint32_t mr_occupied_numbers(uint32_t payload_bytes, uint32_t tcp_flags) {
  return payload_bytes + ((tcp_flags & MR_TCP_SYN) != 0) + ((tcp_flags & MR_TCP_FIN) != 0);
}

// Why an IPv4 packet with another protocol than TCP, UDP and whole ICMP is not balanced.
MR_RULE enum mr_drop_reason mr_reason_of_protocol(uint32_t protocol) {
  return protocol == MR_PROTOCOL_ICMP ? MR_DROP_BAD_L4 : MR_DROP_UNSUPPORTED_PROTOCOL;
}

// Likewise for IPv6's next header. Extension headers: RFC 8200 section 4.1.
MR_RULE enum mr_drop_reason mr_reason_of_next_header(uint32_t next_header) {
  switch (next_header) {
    case MR_PROTOCOL_FRAGMENT:
      return MR_DROP_FRAGMENT;
    case MR_PROTOCOL_HOP_BY_HOP:
    case MR_PROTOCOL_ROUTING:
    case MR_PROTOCOL_ESP:
    case MR_PROTOCOL_AUTHENTICATION:
    case MR_PROTOCOL_NO_NEXT:
    case MR_PROTOCOL_DESTINATION_OPTIONS:
      return MR_DROP_IPV6_EXTENSION;
    case MR_PROTOCOL_ICMPV6:
      return MR_DROP_BAD_L4;  // cut short
    default:
      return MR_DROP_UNSUPPORTED_PROTOCOL;
  }
}

// An ICMP message that quotes a packet.
MR_RULE bool mr_is_icmp_error(bool is_v4, uint32_t type) {
  if (!is_v4) return type >= MR_ICMPV6_UNREACHABLE && type <= MR_ICMPV6_PARAMETER_PROBLEM;
  return type == MR_ICMPV4_UNREACHABLE || type == MR_ICMPV4_TIME_EXCEEDED ||
         type == MR_ICMPV4_PARAMETER_PROBLEM;
}

MR_RULE bool mr_is_echo_request(bool is_v4, uint32_t type, uint32_t code) {
  return type == (is_v4 ? MR_ICMPV4_ECHO_REQUEST : MR_ICMPV6_ECHO_REQUEST) && code == 0;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_HEADER_RULE_H_

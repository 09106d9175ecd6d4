// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Flows as every part of Millrace sees them: the 5-tuple, the keyed selection hash that picks a
// lookup-table slot, the 64-byte flow record, and the reasons for which a packet is dropped.
//
// C subset: compiles as C11, C++20 and BPF. Both engines and the control plane include this file,
// so that they agree on which target a flow gets. Changing a layout here bumps MR_ABI_VERSION
// (shm_abi.h) and the golden layout in tests/abi.
#ifndef MILLRACE_CONTRACT_FLOW_ABI_H_
#define MILLRACE_CONTRACT_FLOW_ABI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MR_ABI_ASSERT(claim, why) static_assert(claim, why)
// C casts are the only ones that all three languages have.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#else
#define MR_ABI_ASSERT(claim, why) _Static_assert(claim, why)
#endif

// IPv4 addresses are carried as v4-mapped IPv6 addresses (::ffff:a.b.c.d, RFC 4291
// section 2.5.5.2), so that one key, one record and one table serve both families. A v4-mapped
// source in a real IPv6 packet is dropped as a martian, so the two never meet.
struct mr_addr {
  uint8_t bytes[16];
};

enum mr_protocol {
  MR_PROTOCOL_TCP = 6,
  MR_PROTOCOL_UDP = 17,
};

// What identifies a flow on the wire, client side. Network byte order where named _be.
struct mr_flow_tuple {
  struct mr_addr client_addr;
  struct mr_addr vip_addr;
  uint16_t client_port_be;
  uint16_t vip_port_be;
  uint8_t protocol;
  uint8_t reserved[3];
};
MR_ABI_ASSERT(sizeof(struct mr_flow_tuple) == 40, "selection hash reads five 8-byte words");

// Key of the selection hash: one per cluster, from the config, so that all nodes agree.
struct mr_selection_key {
  uint64_t k0;
  uint64_t k1;
};

// A step of the selection hash. For a given `word` no two values of `hash` give the same, and vice
// versa, if `factor` is odd.
static inline uint64_t mr_absorb(uint64_t hash, uint64_t word, uint64_t factor) {
  hash = (hash ^ word) * factor;
  return hash ^ hash >> 32;
}

// The selection hash of a flow: its top 32 bits are well mixed, those below less. Only computed for
// flows without a record. Four multiplications, because a flood of new flows pays for them and BPF
// has no vector instructions. Words are read in host order: nodes of one cluster are little-endian,
// which join checks (shm_abi.h).
//
// The key keeps strangers from computing which flows go to one target. It is no secret from whoever
// sees which target answers: for him each flow that he tries tells its own slot with any hash, and
// with this one enough of them tell the key, too. What he gains is to load one target instead of
// all. Flow tables have secrets of their own.
static inline uint64_t mr_selection_hash(const struct mr_selection_key* key,
                                         const struct mr_flow_tuple* tuple) {
  uint64_t words[5];
  uint64_t hash;
  __builtin_memcpy(words, tuple, sizeof(words));
  hash = mr_absorb(key->k0, words[0], 0x9e3779b97f4a7c15ULL);
  hash = mr_absorb(hash, words[1], 0xd6e8feb86659fd93ULL);
  // VIPs whose words fold to one share their slots, which does no harm. The last bytes of a VIP,
  // which tell those of one cluster apart, come to lie beside the ports.
  hash = mr_absorb(hash, words[2] ^ (words[3] << 40 | words[3] >> 24) ^ words[4],
                   (key->k1 ^ 0xc2b2ae3d27d4eb4fULL) | 1);
  return hash * 0xff51afd7ed558ccdULL;
}

// Maps a selection hash to a lookup-table slot in [0, slot_count) without a division
// (Lemire, "Fast random integer generation in an interval", 2019).
static inline uint32_t mr_slot_of_hash(uint64_t selection_hash, uint32_t slot_count) {
  return (uint32_t)(((selection_hash >> 32) * slot_count) >> 32);
}

// State of a flow; decides its idle timeout (mr_listener.timeout_ticks). 0 marks a free record.
enum mr_flow_state {
  MR_FLOW_FREE = 0,
  MR_FLOW_SYN = 1,          // TCP: SYN from the client, nothing back yet (or nothing visible: dsr)
  MR_FLOW_ESTABLISHED = 2,  // TCP: data may pass both ways
  MR_FLOW_CLOSING = 3,      // TCP: FIN seen from one side
  MR_FLOW_CLOSED = 4,       // TCP: FIN seen from both sides, or RST seen
  MR_FLOW_UDP = 5,          // the client has spoken again after an answer, or no answer passes here
  MR_FLOW_EXPIRED = 6,  // TCP: idle for too long; kept for a while so that late packets get a RST
  MR_FLOW_UDP_NEW = 7,  // UDP: a question, and perhaps its answer
  MR_FLOW_STATE_COUNT = 8,
};
// Entry of mr_listener.timeout_ticks for flows that are CLOSED by a RST, which may be forged.
#define MR_FLOW_TIMEOUT_RESET 0

// Flags of a flow record.
enum mr_flow_flag {
  MR_FLOW_FIN_CLIENT = 1 << 0,
  MR_FLOW_FIN_TARGET = 1 << 1,
  MR_FLOW_REPLY_SEEN = 1 << 2,   // a packet came back from the target
  MR_FLOW_ORPHAN_PREV = 1 << 3,  // sent to `prev` on trust; a first RST moves it to `cur`
  MR_FLOW_RST_CLIENT = 1 << 4,
  MR_FLOW_RST_TARGET = 1 << 5,
  // What a full table may give up: flows with neither of these first, then plausible ones.
  MR_FLOW_CONFIRMED = 1 << 6,  // an answer was answered: never given up
  MR_FLOW_PLAUSIBLE = 1 << 7,  // the client spoke in three rounds of the sweep
  MR_FLOW_SPOKE_ONCE = 1 << 8,
  MR_FLOW_SPOKE_TWICE = 1 << 9,
  MR_FLOW_SHARED = 1 << 10,  // the client has another flow to the same target, address and port
  MR_FLOW_ASKED = 1 << 11,   // of such flows, the one that the client used last
  MR_FLOW_TOLD_CLIENT = 1 << 12,  // EXPIRED: the client has been sent a RST
  MR_FLOW_TOLD_TARGET = 1 << 13,  // likewise the target
  MR_FLOW_SYN_AGAIN = 1 << 14,    // the client sent a SYN on a flow that was past its opening
  MR_FLOW_NO_PORT = 1 << 15,  // the target has no port of its own: what seems to be its reply is
                              // looked at closely, since 0 is a port that packets may have
};

// One flow, one cache line, IPv4 or IPv6. Lives in the worker's flow table; the worker writes, the
// control plane maps it read-only to show flows and treats every field as possibly torn.
// The table hashes on the client's address, port and protocol only, which are visible in both
// directions: the same record serves client -> target and target -> client.
struct mr_flow_record {
  struct mr_addr client_addr;
  uint16_t client_port_be;
  uint8_t protocol;
  uint8_t state;           // enum mr_flow_state; written last on insert, first on removal
  uint32_t target_slot;    // below 2^24: the XDP engine relies on a byte that is 0
  uint16_t listener_slot;  // this and the next two are read as one word: mr_listener.slot
  uint16_t vip_port_be;    // the port that the client asked for
  uint32_t listener_id;    // while FREE: index of the next free record
  uint32_t target_id;
  uint32_t last_seen_tick;     // MR_TICK_NS units, wraps
  uint64_t bytes;              // L3 bytes in both directions since the last sweep folded them
  uint32_t packets;            // likewise
  uint16_t ip_checksum_delta;  // one's-complement sum to add to the IPv4 header checksum
  uint16_t l4_checksum_delta;  // likewise for TCP/UDP; client -> target, the reply subtracts
  uint16_t last_hop;           // index into the worker's last-hop table
  uint16_t flags;              // enum mr_flow_flag
  uint32_t target_ack_be;      // TCP: what the target acknowledged last; 0: nothing was seen
};
MR_ABI_ASSERT(sizeof(struct mr_flow_record) == 64, "a flow costs exactly one cache line");
MR_ABI_ASSERT(offsetof(struct mr_flow_record, listener_slot) == 24, "an aligned word");
MR_ABI_ASSERT(offsetof(struct mr_flow_record, last_seen_tick) == 36, "layout has no holes");
MR_ABI_ASSERT(offsetof(struct mr_flow_record, bytes) == 40, "layout has no holes");

// Coarse time of flow records: 2^20 ns, about 1.05 ms; a u32 of it wraps after 52 days, far beyond
// the longest idle timeout (6000 s), so that unsigned differences are exact.
#define MR_TICK_SHIFT 20
#define MR_TICK_NS (1u << MR_TICK_SHIFT)

// Why a packet was dropped. Append only: the numbers are part of the ABI. Names for people and
// metrics are in core/drop_reason.cc, which asserts that it has one for each.
enum mr_drop_reason {
  MR_DROP_NONE = 0,
  MR_DROP_MALFORMED_L2 = 1,     // runt frame or Ethernet header cut short
  MR_DROP_BAD_IP_HEADER = 2,    // version, header length or total length impossible
  MR_DROP_BAD_IP_CHECKSUM = 3,  // IPv4 header checksum wrong
  MR_DROP_IP_OPTIONS = 4,       // IPv4 source route, or options to a VIP
  MR_DROP_IPV6_EXTENSION = 5,   // extension header chain to a VIP that the engine does not walk
  MR_DROP_FRAGMENT = 6,         // to a VIP or of a target towards a client: of another protocol
                                // than UDP, unfit, or before the first one (rules/fragment_rule.h)
  MR_DROP_BAD_L4 = 7,           // TCP or UDP header cut short or impossible
  MR_DROP_BAD_TCP_FLAGS = 8,    // null, SYN+FIN, SYN+RST and the like
  MR_DROP_MARTIAN = 9,          // source that can be no client: reserved, a VIP, the node itself
  MR_DROP_TTL_EXPIRED = 10,  // would be forwarded with TTL or hop limit 0, and nobody can be told:
                             // no address of the node's own there, or an ICMP error
                             // (MR_COUNTER_TIME_EXCEEDED_SENT counts those whose sender was)
  MR_DROP_UNSUPPORTED_PROTOCOL = 11,  // neither TCP, UDP nor echo, to a VIP
  MR_DROP_NO_LISTENER = 12,           // VIP, but no listener on that protocol and port, and its
                                      // sender was not told (MR_COUNTER_REFUSALS_SENT)
  MR_DROP_NO_TARGET = 13,             // the target group has no target at all
  MR_DROP_NEXT_HOP_UNRESOLVED = 14,   // the kernel knows no MAC address for the target's next hop
  MR_DROP_UNWANTED_RST =
      15,  // RST of `prev` swallowed as its flow moved to `cur`; RST without flow
  MR_DROP_RATE_LIMITED = 16,   // reply of our own (RST, echo) over its budget
  MR_DROP_TX_FULL = 17,        // nic tx queue full
  MR_DROP_PUNT_FULL = 18,      // kernel twin's queue full
  MR_DROP_HANDOVER_FULL = 19,  // ring to the owning worker full
  MR_DROP_NO_NIC = 20,         // next hop on an interface that this engine does not run
  MR_DROP_ICMP = 21,           // ICMP other than echo, to a VIP; error about a packet to a target
  MR_DROP_MULTI_SEGMENT = 22,  // frame in more pieces than the engine linearises
  MR_DROP_OTHER_MAC =
      23,  // to another MAC address (flooded by a switch), or to a VIP by link-layer multicast
  MR_DROP_TOO_BIG = 24,  // larger than the MTU towards the target, and nobody can be told: no room,
                         // or an ICMP error (MR_COUNTER_TOO_BIG_SENT counts those answered)
  MR_DROP_NO_ENCAP_SOURCE =
      25,                // the node has no address of the target's family to encapsulate from
  MR_DROP_NO_FLOW = 26,  // reply of a flow without room; several listeners lead to its target
  MR_DROP_NO_ECHO = 27,  // echo request to a VIP that answers none, or none now
  MR_DROP_REASON_COUNT = 28,
};

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_CONTRACT_FLOW_ABI_H_

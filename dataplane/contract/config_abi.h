// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The config segment: what the control plane publishes and engines obey. C subset.
//
//   mr_config_header            fixed place, offset 0
//     generation  --release-->  names the newest image
//     roots[generation % MR_ROOT_COUNT].image_offset
//   mr_image                    immutable once published; all offsets are from the segment's start
//     -> listener_table[]       open addressing, (VIP, port, protocol) -> listener slot, VIPs, and
//                               (VIP, protocol) -> part of port_ranges[]
//     -> port_ranges[]          ports of listeners that have more than one
//     -> listeners[]            by listener slot
//     -> groups[]               by group slot -> members[] (target slots), lookup table (slots)
//     -> targets[]              by target slot
//     -> reverse_table[]        open addressing, (target address, port, protocol) -> target slot
//     -> local_addrs[]          the node's own addresses: replies to them are the kernel's
//     -> local_macs[]           the node's own MAC addresses beside those of its nics
//     -> vlans[]                the VLAN interfaces on nics, by what is a nic's index elsewhere
//     -> vlan_slots[]           by nic and VLAN number, the slot in vlans[]
//
// Blocks that did not change are shared with earlier images (same offset, same digest). The memory
// of generation g is reused only when every worker of every engine acknowledged a newer one
// (stats_abi.h), so that whatever an engine has adopted stays readable.
#ifndef MILLRACE_CONTRACT_CONFIG_ABI_H_
#define MILLRACE_CONTRACT_CONFIG_ABI_H_

#include "dataplane/contract/shm_abi.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define MR_IMAGE_MAGIC 0x4547414d4952524dULL  // "MRRIMAGE"
#define MR_ROOT_COUNT 16

// Ceilings that an engine checks before it believes a count. Memory follows the counts in use.
#define MR_LISTENER_SLOTS_MAX 65536u  // a flow names a slot in 16 bits
#define MR_GROUP_SLOTS_MAX 16384u
#define MR_TARGET_SLOTS_MAX 131072u
#define MR_GROUP_MEMBERS_MAX 16384u
#define MR_LOOKUP_SLOTS_MAX 655373u
#define MR_LOOKUP_SLOTS_DEFAULT 65537u
#define MR_LOCAL_ADDRS_MAX 256u
#define MR_LOCAL_MACS_MAX 64u
#define MR_NIC_COUNT_MAX 8u
#define MR_PORT_RANGES_MAX 131072u
#define MR_PORT_RANGES_OF_VIP_MAX 64u  // of one VIP and protocol
#define MR_VLAN_COUNT_MAX 240u

// A nic's index names a nic below MR_NIC_COUNT_MAX. From there on it names a VLAN of a nic: the
// entry `index - MR_NIC_COUNT_MAX` of the image's vlans[].
#define MR_NIC_INDEX_MAX (MR_NIC_COUNT_MAX + MR_VLAN_COUNT_MAX - 1)

struct mr_root {
  uint64_t generation;
  uint64_t image_offset;
};

// The control plane is the only writer of the whole segment.
struct mr_config_header {
  struct mr_segment_header segment;
  // Store with release after the image and its root are complete; engines load with acquire.
  uint64_t generation;
  // CLOCK_MONOTONIC of the control plane's last sign of life; engines only report its age.
  uint64_t heartbeat_ns;
  // Every id below it may have been used in some image of this segment. For a control plane that
  // has lost its store or found an older one; nothing to engines.
  uint32_t id_floor;
  uint32_t reserved0[11];
  struct mr_root roots[MR_ROOT_COUNT];
  uint8_t reserved1[64];
};
MR_ABI_ASSERT(sizeof(struct mr_config_header) == 512, "header plus one line plus roots");

enum mr_forwarding {
  MR_FORWARDING_NAT = 1,   // destination translated, client address kept, replies through the node
  MR_FORWARDING_DSR = 2,   // next-hop MAC rewritten, target holds the VIP, replies go direct
  MR_FORWARDING_IPIP = 3,  // whole packet inside IPv4 or IPv6 to the target (RFC 2003, RFC 2473),
                           // target holds the VIP, replies go direct
  MR_FORWARDING_GUE = 4,   // likewise with UDP between (draft-ietf-intarea-gue-09, variant 1: the
                           // inner IP header follows the UDP header)
};

enum mr_next_hop_flag {
  MR_NEXT_HOP_RESOLVED = 1 << 0,
};

// Where frames for an address leave: engine nic and MAC address of the neighbour.
struct mr_next_hop {
  uint8_t mac[6];
  uint8_t nic;    // index of the engine's nic table (stats_abi.h), or of a VLAN (above)
  uint8_t flags;  // enum mr_next_hop_flag
};
MR_ABI_ASSERT(sizeof(struct mr_next_hop) == 8, "fits in the target's line");

// Read with mr_target.forwarding as one word.
enum mr_variant {
  MR_VARIANT_NONE = 0,      // nat to a port of the target's own; dsr
  MR_VARIANT_ANY_PORT = 1,  // nat: only the address is translated
  MR_VARIANT_OUTER_V4 = 4,  // ipip and gue: the outer header is IPv4, as the target's address
  MR_VARIANT_OUTER_V6 = 6,
};

enum mr_target_flag {
  MR_TARGET_KEEPS_FLOWS = 1 << 0,   // packets of known flows go on
  MR_TARGET_RESETS_FLOWS = 1 << 1,  // known TCP flows are answered with RST and forgotten
  MR_TARGET_HEALTHY = 1 << 2,       // for counting flows routed by fail-open
  MR_TARGET_DRAINING = 1 << 3,      // gets no new connection, not even by a known flow's SYN
  MR_TARGET_ASYMMETRIC = 1 << 4,    // replies of flows that another node knows may pass this one
  MR_TARGET_KEEPS_TCP = 1 << 5,     // without KEEPS_FLOWS: those of TCP go on all the same
};

// mr_target.protocol of a target of both protocols. No packet has it: IANA has reserved it.
#define MR_PROTOCOL_TCP_UDP 255u

// mr_target.mtu when no limit is known: IP packets are no longer.
#define MR_MTU_NO_LIMIT 0xffffu

// One target of one group, one cache line: all that rewriting a packet needs.
struct mr_target {
  struct mr_addr addr;
  uint32_t id;  // never reused by another target; 0 marks an empty slot
  uint32_t group_slot;
  struct mr_next_hop next_hop;
  uint16_t port_be;        // 0: the packet keeps the port that the client asked for
  uint8_t protocol;        // enum mr_protocol, or MR_PROTOCOL_TCP_UDP
  uint8_t flags;           // enum mr_target_flag
  uint8_t forwarding;      // enum mr_forwarding: of its group, here to save that line per packet
  uint8_t variant;         // enum mr_variant: what else decides how packets are rewritten
  uint16_t mtu;            // of the way to the target, in bytes of L3, or MR_MTU_NO_LIMIT
  uint64_t identity;       // what the lookup table is computed from: equal on every node
  uint16_t encap_port_be;  // gue: destination port of the outer UDP header
  uint16_t mss_max;        // nat: the largest MSS of a SYN, either way; 0: any
  uint8_t reserved1[12];
};
MR_ABI_ASSERT(sizeof(struct mr_target) == 64, "one line per target on the hit path");

#define MR_MEMBER_NONE 0xffffu

// Indexes of the group's members. `prev` is MR_MEMBER_NONE unless the slot changed within the
// deregistration delay; the control plane clears it when the window ends.
struct mr_lookup_slot {
  uint16_t cur;
  uint16_t prev;
};
MR_ABI_ASSERT(sizeof(struct mr_lookup_slot) == 4, "16 slots to a cache line");

enum mr_group_flag {
  MR_GROUP_FAIL_OPEN = 1 << 0,  // no target is healthy: the table holds all registered ones
};

struct mr_target_group {
  uint32_t id;  // never reused; 0 marks an empty slot
  uint32_t member_count;
  uint64_t members_offset;  // uint32_t target_slot[member_count]
  uint64_t table_offset;    // struct mr_lookup_slot[table_slots]; 0 when the group has no target
  uint32_t table_slots;     // prime
  uint8_t forwarding;       // enum mr_forwarding
  uint8_t flags;            // enum mr_group_flag
  uint8_t reserved0[2];
  uint64_t table_digest;    // over the identities that `cur` names, slot by slot
  uint64_t table_checksum;  // core/checksum64.h: over the bytes of the table as published
  uint64_t identity;        // of name and protocol, for a control plane that has lost its store
  uint8_t reserved1[8];
};
MR_ABI_ASSERT(sizeof(struct mr_target_group) == 64, "one line");

// One (VIP, protocol, port or range of ports). A listener of the config with two addresses is two
// of these. An engine makes a copy of one with several ports for a packet: `asked_port_be` and
// `port_be` of the copy are the port that the packet asks for, as if it were the only one.
struct mr_listener {
  struct mr_addr vip_addr;
  // What a flow's record says of its listener, in the same order. Both are compared as one word.
  uint16_t slot;
  uint16_t asked_port_be;  // mr_asked_port_be_of(): the only port; 0 if there are several
  uint32_t id;             // never reused; 0 marks an empty slot
  uint16_t group_slot;
  uint16_t last_port_be;  // as port_be, if there is one port only
  uint16_t port_be;       // the first, 0 of a listener to any port
  uint8_t protocol;       // enum mr_protocol
  uint8_t flags;
  // Idle timeouts in ticks (MR_TICK_NS), by enum mr_flow_state; EXPIRED says how long an expired
  // flow is remembered, entry 0 is MR_FLOW_TIMEOUT_RESET.
  uint32_t timeout_ticks[8];
};
MR_ABI_ASSERT(sizeof(struct mr_listener) == 64, "one line per listener on the hit path");
MR_ABI_ASSERT(offsetof(struct mr_listener, id) == offsetof(struct mr_listener, slot) + 4 &&
                  offsetof(struct mr_flow_record, listener_id) ==
                      offsetof(struct mr_flow_record, listener_slot) + 4,
              "a listener is the same word in a flow and by itself");

// Ports of a listener that has several. Those of one VIP and protocol lie one behind the other, do
// not overlap and are in order. A listener to any port has those that no other range has, so it may
// have several of these. Host byte order. Exact ports are not left out: they are looked up first.
struct mr_port_range {
  uint16_t first;
  uint16_t last;
  uint32_t listener_slot;
};
MR_ABI_ASSERT(sizeof(struct mr_port_range) == 8, "eight to a line");

// What a VIP's load balancer says of packets that are for no listener. Without a flag echo requests
// are answered, and packets to a port without a listener are dropped.
enum mr_vip_flag {
  MR_VIP_NO_ECHO = 1 << 0,  // echo requests are dropped
  MR_VIP_REJECTS = 1 << 1,  // a port without a listener: the sender is told
  MR_VIP_PUNTS = 1 << 2,    // likewise: the kernel's; never with MR_VIP_REJECTS
};
#define MR_VIP_FLAGS_MASK 7u

// Protocol of the entry, with port 0, that says which port_ranges[] a VIP has for TCP or UDP. No
// packet is looked up by it, as engines look up TCP and UDP only.
#define MR_PROTOCOL_RANGES 0x80u  // | MR_PROTOCOL_TCP or MR_PROTOCOL_UDP

// One entry serves both a listener and, with port 0 and protocol 0, the VIP itself.
// Empty: slot == MR_TABLE_EMPTY. Probing: linear from mr_table_hash() & mask, at most half full.
struct mr_table_entry {
  struct mr_addr addr;
  uint16_t port_be;
  uint8_t protocol;
  uint8_t reserved;
  uint16_t first_port_be;  // reverse table, of a target that takes any port: it answers from the
  uint16_t last_port_be;   // ports of listeners; these are the lowest and the highest of them
  uint32_t slot;  // listener slot; for a VIP entry: enum mr_vip_flag; for ranges: index of the
                  // first; in the reverse table: target slot
  uint32_t next;  // for ranges: how many. Reverse table: listener slot that replies without a flow
                  // are translated to, MR_TABLE_EMPTY when it is ambiguous
};
MR_ABI_ASSERT(sizeof(struct mr_table_entry) == 32, "two to a cache line");

#define MR_TABLE_EMPTY 0xffffffffu
// Longest run of occupied entries that a publisher may produce and a reader will follow.
#define MR_TABLE_PROBE_MAX 64u

// Hash of listener and reverse tables. Their contents are the operator's, not an attacker's, so it
// needs no key; it is a multiply-mix because addresses of one deployment differ in few bits.
static inline uint32_t mr_table_hash_words(uint64_t addr_low, uint64_t addr_high,
                                           uint64_t port_protocol) {
  uint64_t h = addr_low * 0x9e3779b97f4a7c15ULL;
  h ^= addr_high + port_protocol;
  // The last bytes of an address are the top bits of its word, and a product carries only upwards:
  // without this fold, neighbouring addresses would differ in the top 16 bits of the result alone.
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93ULL;
  return (uint32_t)(h >> 32);
}

static inline uint32_t mr_table_hash(const struct mr_addr* addr, uint16_t port_be,
                                     uint8_t protocol) {
  uint64_t words[2];
  __builtin_memcpy(words, addr, sizeof(words));
  return mr_table_hash_words(words[0], words[1], ((uint64_t)port_be << 8) | protocol);
}

// A MAC address that the node has on a nic beside the nic's own: of its twin, of a macvlan on it
// (VRRP). Frames for it are handled like those for the nic's own; what is sent has the nic's own.
struct mr_local_mac {
  uint8_t mac[6];
  uint8_t nic;  // as in mr_next_hop
  uint8_t reserved;
};
MR_ABI_ASSERT(sizeof(struct mr_local_mac) == 8, "compared as one word");

// The node's own address on a nic, by family; :: where it has none. What a router tells of itself
// is from there.
struct mr_nic_addrs {
  struct mr_addr v4;
  struct mr_addr v6;
};
MR_ABI_ASSERT(sizeof(struct mr_nic_addrs) == 32, "two to a line");

enum mr_vlan_flag {
  MR_VLAN_PRESENT = 1 << 0,  // the interface is there; without it nothing enters or leaves by it
};

// A VLAN interface of the kernel's on a nic or on its twin (IEEE 802.1Q). A slot stays the VLAN's
// when its interface goes, because flows name it by their last hop.
struct mr_vlan {
  uint8_t mac[6];       // of the interface: what is sent has it, and frames for it are the node's
  uint8_t nic;          // index of the engine's nic table: the nic that it is on
  uint8_t flags;        // enum mr_vlan_flag
  uint32_t tag;         // as it lies in a frame: 0x8100, then the VLAN's number with priority 0
  uint32_t link_index;  // of the interface, by the kernel's numbers
  struct mr_nic_addrs addrs;
  uint8_t reserved[16];
};
MR_ABI_ASSERT(sizeof(struct mr_vlan) == 64, "one line, so that a program reads it in one piece");

// vlan_slots[nic * MR_VLAN_ID_COUNT + number of the VLAN]. Rows end with the last nic that has one.
#define MR_VLAN_ID_COUNT 4096u
#define MR_VLAN_NONE 0xffu

// Where encapsulated packets come from, by family. If it is a network, each flow has an address of
// it: the bits of `spread_be` are those of a number of the flow (mr_flow_entropy()).
struct mr_encap_source {
  struct mr_addr addr;  // ::, when the node has none of that family
  uint32_t spread_be;  // bits of the last four bytes that are 0 in `addr`; 0: all flows have `addr`
  uint32_t reserved;
};
MR_ABI_ASSERT(sizeof(struct mr_encap_source) == 24, "no holes");

struct mr_image {
  uint64_t magic;
  uint64_t generation;
  uint64_t listener_table_offset;  // struct mr_table_entry[listener_table_mask + 1]
  uint64_t listeners_offset;       // struct mr_listener[listener_slots]
  uint64_t groups_offset;          // struct mr_target_group[group_slots]
  uint64_t targets_offset;         // struct mr_target[target_slots]
  uint64_t reverse_table_offset;   // struct mr_table_entry[reverse_table_mask + 1]
  uint64_t local_addrs_offset;     // struct mr_addr[local_addr_count]
  uint64_t local_macs_offset;      // struct mr_local_mac[local_mac_count]
  uint64_t port_ranges_offset;     // struct mr_port_range[port_range_count]
  uint64_t vlans_offset;           // struct mr_vlan[vlan_count]
  uint64_t vlan_slots_offset;      // uint8_t[vlan_slot_count]
  uint32_t listener_table_mask;    // a power of two less one
  uint32_t listener_slots;
  uint32_t group_slots;
  uint32_t target_slots;
  uint32_t reverse_table_mask;  // a power of two less one
  uint32_t local_addr_count;
  uint32_t local_mac_count;
  uint32_t port_range_count;
  uint32_t any_port_targets;  // nat targets of any port; 0: the reverse table has no port 0
  uint32_t vlan_count;
  uint32_t vlan_slot_count;
  uint32_t reserved;
  struct mr_next_hop default_next_hop_v4;  // for replies whose client's last hop is not known
  struct mr_next_hop default_next_hop_v6;
  struct mr_selection_key selection_key;
  uint64_t checksum;  // core/checksum64.h: over this struct with checksum = 0, then every array
                      // but members and lookup tables (those carry their own)
  struct mr_encap_source encap_source_v4;
  struct mr_encap_source encap_source_v6;
  struct mr_nic_addrs nic_addrs[MR_NIC_COUNT_MAX];
};
MR_ABI_ASSERT(sizeof(struct mr_image) == 488, "image root has no holes");

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_CONTRACT_CONFIG_ABI_H_

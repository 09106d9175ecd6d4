// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What the XDP program (bpf/nlb_xdp.bpf.c) and its daemon (bpf/engine) share: values of BPF maps,
// all of them memory-mapped by the daemon. C subset.
//
//   config_lines  array of mr_config_line: the blocks of the image in force (config_abi.h), where
//                 the daemon had room for them; offsets in groups are from base_line of the root
//   control       one mr_xdp_control: two roots and which of them is in force, nics, clock, secrets
//   flows         array of mr_flow_record: open addressing, see below
//   last_hops     array of mr_xdp_last_hop: neighbours that clients' packets came from
//   no_room       array of words of 64 bits: clients whose flows found no room, see below
//   cpus          array of mr_xdp_cpu, by CPU id: counters
//   listener_stats, target_stats   arrays of mr_listener_stats and mr_target_stats:
//                 [CPU * slots + slot], and one more row (CPU == cpu_count) that the daemon writes
//   tx_nics       device map, by nic index
//
// One packet reads `control.active` once and uses that root to its end: it sees the config before
// or after a change, never a mix. The daemon writes a root, or lines that an older one names, only
// after every program that may use them has ended (membarrier(2) waits for them).
#ifndef MILLRACE_CONTRACT_XDP_ABI_H_
#define MILLRACE_CONTRACT_XDP_ABI_H_

#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/contract/stats_abi.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define MR_CONFIG_LINE_BYTES 64u

struct mr_config_line {
  uint64_t words[8];
};
MR_ABI_ASSERT(sizeof(struct mr_config_line) == MR_CONFIG_LINE_BYTES, "a line of the segment");

// mr_image as the program wants it: line numbers in place of offsets. Written by the daemon while
// it is not in force. generation 0: no config yet, everything is the kernel's.
struct mr_xdp_root {
  uint64_t generation;
  uint32_t listener_table_line;
  uint32_t listener_table_mask;
  uint32_t listeners_line;
  uint32_t listener_slots;
  uint32_t groups_line;
  uint32_t group_slots;
  uint32_t targets_line;
  uint32_t target_slots;
  uint32_t reverse_table_line;
  uint32_t reverse_table_mask;
  uint32_t local_addrs_line;
  uint32_t local_addr_count;
  uint32_t local_macs_line;
  uint32_t local_mac_count;
  uint32_t port_ranges_line;
  uint32_t port_range_count;
  uint32_t vlans_line;
  uint32_t vlan_count;
  uint32_t vlan_slots_line;
  uint32_t vlan_slot_count;
  struct mr_next_hop default_next_hop_v4;
  struct mr_next_hop default_next_hop_v6;
  struct mr_selection_key selection_key;
  struct mr_encap_source encap_source_v4;
  struct mr_encap_source encap_source_v6;
  struct mr_nic_addrs nic_addrs[MR_NIC_COUNT_MAX];
  // What offsets inside the segment (of groups' members and lookup tables) are relative to.
  uint32_t base_line;
  uint32_t any_port_targets;
  uint8_t reserved[8];
};
MR_ABI_ASSERT(sizeof(struct mr_xdp_root) == 440, "no holes");

struct mr_xdp_nic {
  uint32_t ifindex;  // 0: not in use
  uint8_t mac[6];
  uint8_t reserved[6];
};
MR_ABI_ASSERT(sizeof(struct mr_xdp_nic) == 16, "four to a line");

// Interfaces of bonds that are nics, as frames of a bond come in by its members.
#define MR_NIC_MEMBERS_MAX 16u

struct mr_xdp_control {
  // The daemon writes; programs read. Flipped with a plain store once the other root is complete.
  uint32_t active;
  uint32_t nic_count;
  // CLOCK_MONOTONIC in ns = jiffies64 * ns_per_jiffy + clock_offset_ns: jiffies cost a packet 0.3
  // ns, ktime_get_ns 36 (measured on a 2.4 GHz Zen 3, mitigations on).
  uint64_t ns_per_jiffy;
  int64_t clock_offset_ns;
  uint32_t flow_mask;       // records of `flows` less one; a power of two less one
  uint32_t listener_slots;  // of listener_stats, per CPU
  uint32_t target_slots;    // of target_stats, per CPU
  uint32_t cpu_count;
  uint32_t flow_inserts_per_ms;  // per CPU; over it a flow is forwarded untracked
  uint32_t replies_per_ms;  // per CPU; each: RST, echo, "too big", "time exceeded", flowless errors
  // Of the flow hash: random per table. Six words for the addition in NH, one odd multiplier.
  uint32_t flow_secret[6];
  uint64_t flow_multiplier;
  // For tests, which can set neither the clock nor the nic of a packet (rodata `is_under_test`).
  uint64_t test_now_ns;
  uint32_t test_nic;
  uint32_t no_room_newer;  // which half of no_room is written: 0 or 1
  // In the kernel's stack a frame may be several that the kernel has merged, or a sender on the
  // same machine has not cut: its length says nothing of a way's MTU.
  uint32_t has_merged_frames;
  uint32_t reserved0;
  struct mr_xdp_nic nics[MR_NIC_COUNT_MAX];
  // ifindex + (index of the nic << 32), written and read whole; the first 0 ends them.
  uint64_t members[MR_NIC_MEMBERS_MAX];
  struct mr_xdp_root roots[2];
};

// The flow table. A client's half of the 5-tuple hashes to a first record; a flow sits in the first
// free one from there on, at most MR_XDP_PROBE_MAX further. A probe ends at a FREE record. Programs
// claim records by compare-and-swap of the word that holds port, protocol and state: FREE ones,
// REUSABLE ones, what is left of a flow of the same client to the same listener, and where all that
// is in reach is taken, flows that may be given up. Other CPUs may have looked such a record up
// before: whoever reads several of its fields looks at the word again. A record that the sweep
// gives up becomes REUSABLE, so that probes go on behind it, and FREE again when nothing can lie
// behind.
#define MR_XDP_PROBE_MAX 32u
// Flows that no target has confirmed go no further than this: a flood of them leaves room.
#define MR_XDP_PROBE_UNCONFIRMED_MAX 16u

// First record of a client: NH (Black et al., "UMAC", 1999) with a random key over its address,
// port and protocol (port_be | protocol << 16): collisions can't be built without the key, and
// 32-bit multiplications are what BPF has. Then one more multiplication, so that all bits reach the
// low ones.
static inline uint32_t mr_xdp_flow_hash(const struct mr_xdp_control* control, uint64_t addr_low,
                                        uint64_t addr_high, uint32_t port_protocol) {
  const uint32_t* secret = control->flow_secret;
  uint64_t h = (uint64_t)((uint32_t)addr_low + secret[0]) *
               (uint32_t)((uint32_t)(addr_low >> 32) + secret[1]);
  h += (uint64_t)((uint32_t)addr_high + secret[2]) *
       (uint32_t)((uint32_t)(addr_high >> 32) + secret[3]);
  h += (uint64_t)(port_protocol + secret[4]) * secret[5];
  h ^= h >> 32;
  h *= control->flow_multiplier;
  return (uint32_t)(h >> 32);
}

// States of records in `flows` beyond enum mr_flow_state.
enum mr_xdp_flow_state {
  MR_XDP_FLOW_GONE = 13,      // forgotten: no flow; its counts wait to be folded
  MR_XDP_FLOW_BUSY = 14,      // claimed, being filled; not a flow yet
  MR_XDP_FLOW_REUSABLE = 15,  // given up; the client part is that of the flow before
};

// mac in the low 48 bits as loaded from a frame, nic index above, bit 56 set when in use: one word,
// so that programs claim an empty one by compare-and-swap. Entry 0 stays empty ("not known"). The
// sweep gives back what no flow needs: first without the bit, so that nobody learns it any more.
struct mr_xdp_last_hop {
  uint64_t word;
  uint32_t learned_tick;  // roughly when a flow was last given it: the sweep may not know that yet
  uint32_t reserved;
};
MR_ABI_ASSERT(sizeof(struct mr_xdp_last_hop) == 16, "four to a line");

// Clients that may have a flow which the flow table does not know, because it was refused or given
// up for want of room: one bit per flow hash, in two halves, of which one is written and both are
// read. The daemon turns to the other half, emptied, every few minutes.
#define MR_XDP_NO_ROOM_BITS (1u << 20)
#define MR_XDP_NO_ROOM_WORDS (MR_XDP_NO_ROOM_BITS / 64)

// Where the neighbour with this word is looked for, by probe; 0 is skipped.
#define MR_XDP_LAST_HOP_PROBE_MAX 16u
static inline uint32_t mr_xdp_last_hop_index(uint64_t word, uint32_t probe) {
  const uint64_t first = (word * 0x9e3779b97f4a7c15ULL) >> 40;
  return (uint32_t)(first + probe) % MR_LAST_HOP_COUNT;
}

// One CPU's own. mr_worker_stats first, so that the daemon copies it as it is.
struct mr_xdp_cpu {
  struct mr_worker_stats stats;
  uint32_t budget_tick;  // the millisecond that the budgets below are for
  uint32_t inserts_left;
  uint32_t resets_left;
  uint32_t echoes_left;
  uint32_t too_bigs_left;
  uint32_t expiries_left;
  uint32_t errors_left;
  uint32_t refusals_left;
  // For tests: what became of the last packet (rodata `is_under_test`).
  uint8_t test_nic;
  uint8_t test_reason;
  uint8_t reserved0[2];
  // The program's own, of a packet that came in a VLAN: its tag as it came, the VLAN's MAC address,
  // and the nic.
  uint32_t vlan_tag;
  uint8_t vlan_mac[6];
  uint8_t vlan_nic;
  uint8_t reserved[17];
  // The program's own, of the packet under way.
  uint64_t scratch[16];
};
MR_ABI_ASSERT(sizeof(struct mr_xdp_cpu) == 768, "two-line units, so CPUs never share one");

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_CONTRACT_XDP_ABI_H_

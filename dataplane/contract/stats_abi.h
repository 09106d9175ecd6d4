// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The stats segment: what an engine says of itself. C subset.
//
// The engine writes, the control plane maps it read-only. Every counter has one writer, grows only,
// and is stored relaxed; a reader takes differences. A restarted engine makes a new segment (new
// engine_start_ns) and counts from 0.
//
//   mr_stats_header
//   per worker, at workers_offset + i * worker_stride_bytes:
//     mr_worker_stats
//     mr_listener_stats[listener_slots]   by listener slot, at listener_stats_offset
//     mr_target_stats[target_slots]       by target slot, at target_stats_offset
//
// The sum that every test checks, per worker:
//   rx_packets + handover_in = forwarded + replied + punted + handover_out + sum of drops
// and for what the kernel sends: twin_rx = twin_forwarded + twin_dropped.
#ifndef MILLRACE_CONTRACT_STATS_ABI_H_
#define MILLRACE_CONTRACT_STATS_ABI_H_

#include "dataplane/contract/config_abi.h"

#define MR_WORKER_COUNT_MAX 128u
#define MR_NAME_BYTES 16  // IFNAMSIZ

enum mr_engine_kind {
  MR_ENGINE_DPDK = 1,
  MR_ENGINE_XDP = 2,
};

enum mr_counter {
  MR_COUNTER_RX_PACKETS = 0,         // read from nics by this worker
  MR_COUNTER_RX_BYTES = 1,           // L2 bytes
  MR_COUNTER_FORWARDED_PACKETS = 2,  // sent towards a target or a client
  MR_COUNTER_FORWARDED_BYTES = 3,    // L2 bytes
  MR_COUNTER_REPLIED_PACKETS = 4,    // ARP, neighbour advertisement, echo, RST that answered one
  MR_COUNTER_PUNTED_PACKETS = 5,     // handed to the kernel twin
  MR_COUNTER_HANDOVER_IN = 6,        // received from other workers
  MR_COUNTER_HANDOVER_OUT = 7,       // given to the worker that owns the flow
  MR_COUNTER_TWIN_RX_PACKETS = 8,    // read from the kernel twin
  MR_COUNTER_TWIN_FORWARDED = 9,     // of those, sent on the nic
  MR_COUNTER_TWIN_DROPPED = 10,
  MR_COUNTER_ANNOUNCED = 11,  // gratuitous ARP and unsolicited NA sent
  MR_COUNTER_FLOW_HITS = 12,  // packets that found their flow
  MR_COUNTER_FLOW_INSERTED = 13,
  MR_COUNTER_FLOW_REMOVED = 14,
  MR_COUNTER_FLOW_EXPIRED = 15,        // by idle timeout: not those that ended by FIN or RST
  MR_COUNTER_UNTRACKED_PACKETS = 16,   // forwarded by lookup table alone
  MR_COUNTER_INSERT_REFUSED = 17,      // nothing to give up in a full table, or over the budget
  MR_COUNTER_ORPHANS_TO_PREV = 18,     // first packets without an entry that went to `prev`
  MR_COUNTER_ORPHANS_MOVED = 19,       // of those, moved to `cur` by a RST
  MR_COUNTER_RST_SENT = 20,            // TCP_ELB_Reset_Count
  MR_COUNTER_CONFIG_ADOPTED = 21,      // generations adopted
  MR_COUNTER_CONFIG_REFUSED = 22,      // images that failed their checks
  MR_COUNTER_POLLS = 23,               // turns of the poll loop
  MR_COUNTER_POLLS_EMPTY = 24,         // of those, without a packet
  MR_COUNTER_BUSY_NS = 25,             // time spent in turns that had packets
  MR_COUNTER_STALLS = 26,              // turns longer than 1 ms
  MR_COUNTER_TOO_BIG_SENT = 27,        // ICMP "fragmentation needed" and ICMPv6 "packet too big"
  MR_COUNTER_FLOW_GIVEN_UP = 28,       // by a full table, among the removed
  MR_COUNTER_ERRORS_PASSED = 29,       // ICMP errors sent on to the target or client of a flow
  MR_COUNTER_TIME_EXCEEDED_SENT = 30,  // ICMP and ICMPv6 "time exceeded"
  MR_COUNTER_REFUSALS_SENT = 31,  // RST and ICMP "port unreachable" of ports without a listener
  MR_COUNTER_FRAGMENTS_FORWARDED = 32,  // of UDP, among the forwarded
  MR_COUNTER_COUNT = 33,
};

// One line of the worker's own, then its counters. The worker is the only writer.
struct mr_worker_stats {
  uint64_t heartbeat_ns;             // CLOCK_MONOTONIC, every housekeeping
  uint64_t acknowledged_generation;  // store release: nothing older is read any more
  uint64_t flows_active;             // gauge: records in use, without EXPIRED
  uint64_t flows_capacity;
  uint64_t turn_ns_max;  // longest turn of the poll loop since start
  uint32_t cpu;
  uint32_t reserved0;
  uint64_t reserved1[2];
  uint64_t counters[MR_COUNTER_COUNT];
  uint64_t drops[MR_DROP_REASON_COUNT];
  uint64_t reserved2[3];
};
MR_ABI_ASSERT(sizeof(struct mr_worker_stats) == 576, "whole lines, so workers never share one");

// Counters of one listener slot on one worker; NLB's per load balancer metrics are sums of these.
struct mr_listener_stats {
  uint64_t new_flows;
  uint64_t packets;         // both directions
  uint64_t bytes;           // both directions, L3
  uint64_t rejected_flows;  // no target
  uint64_t unhealthy_routing_flows;
  uint64_t client_resets;
  uint64_t target_resets;
  uint64_t balancer_resets;
};
MR_ABI_ASSERT(sizeof(struct mr_listener_stats) == 64, "one line");

struct mr_target_stats {
  uint64_t new_flows;
  uint64_t active_flows;  // gauge; a slot is not given to another target before it is 0 everywhere
  uint64_t packets;
  uint64_t bytes;
  uint64_t target_resets;
  uint64_t unresolved_packets;  // dropped for want of a next hop
  uint64_t reserved[2];
};
MR_ABI_ASSERT(sizeof(struct mr_target_stats) == 64, "one line");

// A nic that the engine drives. `twin` is the kernel interface that carries everything that is not
// a VIP's: the control plane resolves next hops on it.
struct mr_nic {
  char name[MR_NAME_BYTES];
  char twin[MR_NAME_BYTES];
  uint8_t mac[6];
  uint8_t link_up;
  uint8_t unserved_queues;  // rx queues that the nic spreads over and nobody reads; at most 255
  // What the nic dropped before the engine saw it, since the engine started.
  uint64_t rx_missed;     // no free descriptor: the engine was too slow
  uint64_t rx_errors;     // bad or too long frames
  uint64_t rx_no_buffer;  // no packet buffer
  // And what it was given to send and threw away: such packets are counted as forwarded or replied.
  uint64_t tx_dropped;
  uint32_t twin_index;    // the kernel's number of `twin`, whatever its name becomes; 0: no twin
  uint8_t lacks_program;  // somebody took its XDP program off: the engine gets no frame by it
  uint8_t idle_members;   // of a bond: how many carry nothing, nor could in place of another
  uint8_t reserved[50];
};
MR_ABI_ASSERT(sizeof(struct mr_nic) == 128, "two lines");

struct mr_stats_header {
  struct mr_segment_header segment;
  uint32_t engine_kind;  // enum mr_engine_kind
  uint32_t engine_pid;
  uint64_t engine_start_ns;  // CLOCK_BOOTTIME
  uint32_t worker_count;
  uint32_t nic_count;
  uint32_t listener_slots;
  uint32_t target_slots;
  uint64_t workers_offset;
  uint64_t worker_stride_bytes;
  uint64_t listener_stats_offset;  // from the start of the worker's part
  uint64_t target_stats_offset;    // likewise
  // Main thread of the engine: generation whose image it refused last, and why (core's check code).
  uint64_t refused_generation;
  char refused_reason[120];
  char flow_table_dir[120];     // worker i's flow table is the file flows.<i> in there
  uint64_t heartbeat_ns;        // CLOCK_MONOTONIC of the main thread
  uint64_t adopted_generation;  // newest image that the main thread checked and gave to the workers
  uint8_t reserved[48];
  struct mr_nic nics[MR_NIC_COUNT_MAX];
};

#endif  // MILLRACE_CONTRACT_STATS_ABI_H_

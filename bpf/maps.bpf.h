// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The maps that program and daemon share (dataplane/contract/xdp_abi.h says what is in them), and
// how the program reaches into them and counts.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/contract/xdp_abi.h"

#define INLINE static __always_inline
// For paths that few packets take. A call costs them 8 ns; inlined copies would cost all packets
// room in the cache.
#define OUT_OF_LINE static __attribute__((noinline))
// Likewise, and the verifier looks at the function once instead of on every way that leads there.
// For loops. Such a function takes and returns numbers (and the context) only.
#define VERIFIED_ONCE __attribute__((noinline))

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

// The daemon sets the sizes that depend on the host and its options before it loads the program.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct mr_config_line);
} config_lines SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct mr_flow_record);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, MR_LAST_HOP_COUNT);
  __type(key, uint32_t);
  __type(value, struct mr_xdp_last_hop);
} last_hops SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2 * MR_XDP_NO_ROOM_WORDS);
  __type(key, uint32_t);
  __type(value, uint64_t);
} no_room SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct mr_xdp_cpu);
} cpus SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct mr_listener_stats);
} listener_stats SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct mr_target_stats);
} target_stats SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, MR_NIC_COUNT_MAX);
  __type(key, uint32_t);
  __type(value, uint32_t);
} tx_nics SEC(".maps");

struct mr_xdp_control control SEC(".data.control");

// True only under tests, which set clock and nic themselves and want to see the verdict. It is
// read-only data, whose value is known when the program is loaded. So the kernel leaves out what
// depends on it.
const volatile uint8_t is_under_test = 0;

INLINE uint8_t* packet_start(const struct xdp_md* ctx) { return (uint8_t*)(long)ctx->data; }
INLINE const uint8_t* packet_end(const struct xdp_md* ctx) {
  return (const uint8_t*)(long)ctx->data_end;
}

// Reads a value that others may change, at this place and once.
INLINE uint16_t read16(const void* at) { return *(const volatile uint16_t*)at; }
INLINE uint32_t read32(const void* at) { return *(const volatile uint32_t*)at; }
INLINE uint64_t read64(const void* at) { return *(const volatile uint64_t*)at; }

// A 0 whose value the verifier does not know. The verifier follows both ways of a comparison. But
// where it knows how the comparison ends, it keeps apart what it knows of each way. So a loop that
// looks for the greatest of some constants has a way for each order of them. With this 0 added they
// are not constants.
INLINE uint32_t unknown_zero(void) {
  return *(volatile uint32_t*)&control.flow_mask ^ *(volatile uint32_t*)&control.flow_mask;
}

INLINE const void* line_at(uint32_t line) { return bpf_map_lookup_elem(&config_lines, &line); }

INLINE void count(struct mr_xdp_cpu* cpu, enum mr_counter counter) {
  cpu->stats.counters[counter] += 1;
}

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The file that holds one worker's flow table, so that flows outlive the process. C subset.
//
//   mr_flow_table_header
//   mr_last_hop[MR_LAST_HOP_COUNT]      neighbours that clients' packets came from
//   mr_flow_bucket[bucket_count]        index: 8 tags and 8 record numbers per line
//   mr_flow_record[capacity]            the flows (flow_abi.h)
//
// One worker writes. The control plane reads it to show flows. A new process trusts only the
// records (each checked) and rebuilds the buckets from them, or enters them into tables of its own.
//
// The tables of all workers are a set. Whoever makes a new one gives it a generation above that of
// every table it found, so that a table of an older one is known to be out of date
// (shm/flow_set.h).
#ifndef MILLRACE_CONTRACT_FLOW_TABLE_ABI_H_
#define MILLRACE_CONTRACT_FLOW_TABLE_ABI_H_

#include "dataplane/contract/shm_abi.h"

// Index 0 means "not known": replies take the default next hop of the config.
#define MR_LAST_HOP_COUNT 16384u
#define MR_BUCKET_WAYS 8u
#define MR_FLOW_CAPACITY_MAX (1u << 28)
#define MR_RECORD_NONE 0xffffffffu

struct mr_last_hop {
  uint8_t mac[6];
  uint8_t nic;
  uint8_t in_use;
};
MR_ABI_ASSERT(sizeof(struct mr_last_hop) == 8, "eight to a cache line");

// tags[i] == 0: way i is empty. A flow sits in its first bucket unless that was full when it came;
// `overflowed` counts the flows of this bucket that had to go to their second one, so that a lookup
// reads a second line only where there can be something to find.
struct mr_flow_bucket {
  uint16_t tags[MR_BUCKET_WAYS];
  uint32_t records[MR_BUCKET_WAYS];
  uint32_t overflowed;
  uint32_t reserved[3];
};
MR_ABI_ASSERT(sizeof(struct mr_flow_bucket) == 64, "one line per lookup");

struct mr_flow_table_header {
  struct mr_segment_header segment;
  uint32_t capacity;      // records
  uint32_t bucket_count;  // a power of two
  uint64_t last_hops_offset;
  uint64_t buckets_offset;
  uint64_t records_offset;
  uint64_t secret[4];  // of the flow hash: random per table, never leaves the node
  uint32_t worker_index;
  uint32_t worker_count;  // tables of the set: flows are shared out by this number
  uint32_t record_high;   // records [record_high, capacity) were never used
  uint32_t reserved0;
  uint64_t set_generation;  // the same in all tables of a set, from 1
  uint32_t reserved[10];
};
MR_ABI_ASSERT(sizeof(struct mr_flow_table_header) == 256, "four lines");

#endif  // MILLRACE_CONTRACT_FLOW_TABLE_ABI_H_

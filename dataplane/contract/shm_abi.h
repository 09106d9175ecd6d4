// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What every shared segment of Millrace starts with. C subset.
//
// A reader joins by checking, in this order: magic, abi_version, kind, total_bytes against the size
// of the file, and every entry of struct_bytes. It refuses a mismatch with a message that names
// both values. Only then does it look at anything behind the header.
#ifndef MILLRACE_CONTRACT_SHM_ABI_H_
#define MILLRACE_CONTRACT_SHM_ABI_H_

#include "dataplane/contract/flow_abi.h"

// Bumped on any change of layout or meaning of anything under contract/.
#define MR_ABI_VERSION 9u

// "MILLRACE" read as a little-endian word; a big-endian peer sees another number and refuses.
#define MR_SEGMENT_MAGIC 0x454341524c4c494dULL

#define MR_CACHE_LINE_BYTES 64u
// Lines of different writers are kept two apart: the adjacent-line prefetcher pulls pairs.
#define MR_WRITER_SEPARATION_BYTES 128u

enum mr_segment_kind {
  MR_SEGMENT_CONFIG = 1,      // control plane writes, engines map read-only
  MR_SEGMENT_STATS = 2,       // engine writes, control plane maps read-only
  MR_SEGMENT_FLOW_TABLE = 3,  // one worker writes, control plane maps read-only
};

#define MR_SEGMENT_STRUCT_SIZES 8

// Written once by the creator, magic last (release), before anybody may join.
struct mr_segment_header {
  uint64_t magic;
  uint32_t abi_version;
  uint32_t kind;         // enum mr_segment_kind
  uint64_t total_bytes;  // of the whole file
  uint64_t created_ns;   // CLOCK_BOOTTIME
  uint32_t creator_pid;
  uint32_t reserved0;
  uint32_t struct_bytes[MR_SEGMENT_STRUCT_SIZES];  // sizes of the kind's structs, 0 beyond the last
  uint8_t reserved[56];
};
MR_ABI_ASSERT(sizeof(struct mr_segment_header) == 128, "two lines, before any changing field");

#endif  // MILLRACE_CONTRACT_SHM_ABI_H_

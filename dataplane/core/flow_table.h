// SPDX-License-Identifier: Apache-2.0
//
// One worker's flows. HOT: a lookup touches one bucket line and one record line.
//
//   hash(client address, port, protocol) -> bucket line: [tag x 8][record number x 8][overflowed]
//                                            tag match  -> record line (64 bytes, IPv4 or IPv6)
//
// Both directions of a flow show the client's address and port, so one entry serves both. A flow
// sits in its first bucket. If the 8 ways of that bucket are taken, the flow goes to its second
// bucket, and the first remembers that. There is a bucket for every 4 records, so the table is at
// most half full. About 1 flow in 100 overflows. An insertion may fail, and the flow is then
// forwarded untracked. That happens to no flow while half of the records are free, and to one flow
// in 4,000 until the last record is used.
//
// The hash is a multiply-mix with a 256-bit random secret. CRC and Toeplitz are linear, so their
// collisions can be built without knowing a key.
//
// Only this class writes the memory, so what it has checked or built stays true. The memory is a
// file that outlives the process (flow_table_abi.h). attach() trusts the records it can believe,
// drops the rest, and rebuilds everything else.
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/contract/config_abi.h"
#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/core/last_hops.h"
#include "dataplane/core/mix.h"
#include "dataplane/core/result.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// The client's half of a flow: what the table hashes.
struct ClientKey {
  AddrWords addr;
  std::uint32_t port_protocol;  // port_be | protocol << 16: the bytes of the record in one word

  [[nodiscard]] static ClientKey of(const AddrWords& addr, std::uint16_t port_be,
                                    std::uint8_t protocol) noexcept {
    return {{addr.low, addr.high}, port_be | std::uint32_t{protocol} << 16};
  }
  [[nodiscard]] static ClientKey of(const mr_flow_record& record) noexcept {
    return of(words_of(record.client_addr), record.client_port_be, record.protocol);
  }
};

class FlowTable {
 public:
  struct Layout {
    std::uint32_t capacity;  // flows; 1 to MR_FLOW_CAPACITY_MAX
    std::uint32_t worker_index;
    std::uint32_t worker_count;
    std::uint64_t secret[4];   // random
    std::uint64_t created_ns;  // CLOCK_BOOTTIME, for the segment header
    std::uint32_t creator_pid;
    std::uint64_t set_generation = 0;
  };

  // What an earlier process left, of whatever capacity and number of workers.
  struct Left {
    std::uint32_t capacity = 0;
    std::uint32_t worker_index = 0;
    std::uint32_t worker_count = 0;
    std::uint64_t set_generation = 0;
    std::span<const mr_flow_record> records;  // those that were used at some time
    std::span<const mr_last_hop> last_hops;   // all
  };

  // A table of no flows and no memory, to be assigned to.
  [[nodiscard]] static FlowTable none() noexcept { return {}; }

  // Bytes of memory that a table of `capacity` flows needs: about 80 per flow.
  [[nodiscard]] static std::uint64_t bytes_for(std::uint32_t capacity) noexcept;

  // Makes an empty table in `memory`, which is at least bytes_for() long, zeroed, 64-byte aligned,
  // and outlives the table.
  [[nodiscard]] static FlowTable format(std::span<std::byte> memory, const Layout& layout) noexcept;

  // Looks at the table in `memory` without writing to it. Errors name what is wrong with its
  // header; each record is to be asked for with is_believable(), each last hop likewise.
  [[nodiscard]] static Result<Left> read(std::span<const std::byte> memory);
  [[nodiscard]] static bool is_believable(const mr_flow_record& record) noexcept;

  // Takes over the table that an earlier process left in `memory`. The table keeps its own secret
  // and set generation; those of `layout` are not used. Errors name what does not fit; the caller
  // then formats anew. Walks all used records once: about 50 ns each.
  [[nodiscard]] static Result<FlowTable> attach(std::span<std::byte> memory, const Layout& layout);

  // The port is in both factors of the second product, and spread over one of them. With the port
  // in the other factor alone, the ports of one client would be an arithmetic progression. For one
  // client in a thousand they would fall into so few buckets that one flow in twelve finds no room.
  [[nodiscard]] std::uint64_t hash(const ClientKey& key) const noexcept {
    constexpr std::uint64_t kSpread = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
    const std::uint64_t first = mix(key.addr.low ^ secret_[0], key.addr.high ^ secret_[1]);
    return mix(first ^ secret_[2] ^ key.port_protocol * kSpread, key.port_protocol ^ secret_[3]);
  }

  void prefetch_bucket(std::uint64_t hash) const noexcept {
    __builtin_prefetch(&buckets_[first_bucket(hash)]);
  }

  // The first record of the first bucket whose tag matches; null when there is none. Nearly always
  // it is the record of the flow, if there is one. The packet path prefetches it, and tries it
  // before find().
  [[nodiscard]] mr_flow_record* first_candidate(std::uint64_t hash) const noexcept {
    const mr_flow_bucket& bucket = buckets_[first_bucket(hash)];
    const std::uint32_t ways = matching_ways(bucket, tag_of(hash));
    if (ways != 0) [[likely]]
      return &records_[bucket.records[way_of(ways)]];
    return nullptr;
  }

  // Whether flows that belong into the first bucket of `hash` had to go to their second ones.
  [[nodiscard]] bool has_overflowed(std::uint64_t hash) const noexcept {
    return buckets_[first_bucket(hash)].overflowed != 0;
  }

  // False when the client of `hash` has no flow at all.
  [[nodiscard]] bool may_have_flow(std::uint64_t hash) const noexcept {
    const mr_flow_bucket& first = buckets_[first_bucket(hash)];
    return matching_ways(first, tag_of(hash)) != 0 || first.overflowed != 0;
  }

  // Stands for a missing record: it is of no client. Nobody writes it.
  [[nodiscard]] static mr_flow_record* no_flow() noexcept { return &no_flow_; }

  // The record of the flow for which `is_match(record)` holds among those of the client `key`, or
  // MR_RECORD_NONE. Reads at most two buckets and the records whose tags match.
  template <typename IsMatch>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, const ClientKey& key,
                                   IsMatch is_match) const noexcept {
    const mr_flow_bucket& first = buckets_[first_bucket(hash)];
    const std::uint32_t found = find_in(first, hash, key, is_match);
    if (found != MR_RECORD_NONE || first.overflowed == 0) return found;
    return find_in(buckets_[second_bucket(hash)], hash, key, is_match);
  }

  // A record for which `is_match(record)` holds in either bucket of `hash`, whoever its client is;
  // null when there is none. For an insertion that failed: it reads up to 16 records.
  template <typename IsMatch>
  [[nodiscard]] mr_flow_record* find_in_the_way(std::uint64_t hash, IsMatch is_match) noexcept {
    for (const std::uint32_t bucket : {first_bucket(hash), second_bucket(hash)}) {
      for (std::uint32_t way = 0; way < MR_BUCKET_WAYS; ++way) {
        mr_flow_record& record = records_[buckets_[bucket].records[way]];
        if (buckets_[bucket].tags[way] != 0 && is_match(record)) return &record;
      }
    }
    return nullptr;
  }

  // Bytes 16 to 19 of a record: port_be, protocol and state, in the order of ClientKey's word.
  [[nodiscard]] static std::uint32_t head_of(const mr_flow_record& record) noexcept {
    return load<std::uint32_t>(reinterpret_cast<const std::uint8_t*>(&record.client_port_be));
  }
  [[nodiscard]] static std::uint32_t head_of(std::uint32_t port_protocol,
                                             std::uint32_t state) noexcept {
    return port_protocol | state << 24;
  }

  // True when `record` is a flow of the client at `addr` and has this `head`.
  [[nodiscard]] static bool is_of_client(const mr_flow_record& record, const AddrWords& addr,
                                         std::uint32_t head) noexcept {
    return ((load<std::uint64_t>(record.client_addr.bytes) ^ addr.low) |
            (load<std::uint64_t>(record.client_addr.bytes + 8) ^ addr.high) |
            (head_of(record) ^ head)) == 0;
  }

  // True when `record` is a flow of the client `key`.
  [[nodiscard]] static bool is_of_client(const mr_flow_record& record,
                                         const ClientKey& key) noexcept {
    return record.state != MR_FLOW_FREE &&
           is_of_client(record, key.addr, head_of(key.port_protocol, record.state));
  }

  // Enters a flow of the client `key` and returns its record with client, protocol and `state` set
  // and all else zero, or MR_RECORD_NONE when both buckets or the table are full.
  [[nodiscard]] std::uint32_t insert(std::uint64_t hash, const ClientKey& key,
                                     std::uint32_t state) noexcept;

  // Enters a copy of a believable record of another table, whose client's packets came from `hop`.
  // False when there is no room: nothing is given up for it.
  [[nodiscard]] bool insert_copy(const mr_flow_record& flow, const mr_last_hop& hop) noexcept;

  // Forgets a flow; `record` is one of this table.
  void remove(mr_flow_record& record) noexcept;

  [[nodiscard]] mr_flow_record& record(std::uint32_t index) noexcept { return records_[index]; }
  [[nodiscard]] const mr_flow_record& record(std::uint32_t index) const noexcept {
    return records_[index];
  }
  // Prefetches into the second-level cache only. A burst asks for 32 lines at once. The first level
  // has fewer miss buffers than that, and drops requests. At a million flows this halves the cost
  // of a packet (bench/attempts.md); at a thousand it costs 3 cycles.
  static void prefetch_record(const mr_flow_record& record) noexcept {
    __builtin_prefetch(&record, 0, 2);
  }

  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint32_t used() const noexcept { return used_; }
  // Records at and beyond this were never used; the sweep stops here.
  [[nodiscard]] std::uint32_t record_high() const noexcept { return header_->record_high; }

  // What is wrong with the table's books, nullptr when nothing is. Walks over everything: for
  // tests, and where kChecksInvariants.
  [[nodiscard]] const char* inconsistency() const noexcept;

  // The record of this table at `record`.
  [[nodiscard]] std::uint32_t index_of(const mr_flow_record& record) const noexcept {
    return static_cast<std::uint32_t>(&record - records_);
  }

  // The neighbours that its flows' clients send by.
  [[nodiscard]] LastHops& last_hops() noexcept { return last_hops_; }
  [[nodiscard]] const LastHops& last_hops() const noexcept { return last_hops_; }

 private:
  FlowTable() = default;

  [[nodiscard]] static std::uint16_t tag_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint16_t>(hash >> 48 | 1);  // 0 marks an empty way
  }
  [[nodiscard]] std::uint32_t first_bucket(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(hash) & bucket_mask_;
  }
  [[nodiscard]] std::uint32_t second_bucket(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(hash >> 22) & bucket_mask_;
  }

  // Bits 2 i and 2 i + 1 are set when way i holds `tag`. SSE2: every x86-64 has it.
  [[nodiscard]] static std::uint32_t matching_ways(const mr_flow_bucket& bucket,
                                                   std::uint16_t tag) noexcept {
    const auto tags = _mm_load_si128(reinterpret_cast<const __m128i*>(bucket.tags));
    const auto wanted = _mm_set1_epi16(static_cast<std::int16_t>(tag));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi16(tags, wanted)));
  }
  // The lowest of `ways`, which is not 0.
  [[nodiscard]] static std::uint32_t way_of(std::uint32_t ways) noexcept {
    return static_cast<std::uint32_t>(__builtin_ctz(ways)) / 2;
  }

  template <typename IsMatch>
  [[nodiscard]] std::uint32_t find_in(const mr_flow_bucket& bucket, std::uint64_t hash,
                                      const ClientKey& key, IsMatch is_match) const noexcept {
    std::uint32_t ways = matching_ways(bucket, tag_of(hash));
    for (; ways != 0; ways &= ways - 1, ways &= ways - 1) {  // two bits each
      const std::uint32_t index = bucket.records[way_of(ways)];
      const mr_flow_record& record = records_[index];
      if (is_of_client(record, key) && is_match(record)) return index;
    }
    return MR_RECORD_NONE;
  }

  void bind(std::span<std::byte> memory) noexcept;
  [[nodiscard]] bool is_entered_once(std::uint32_t index) const noexcept;
  [[nodiscard]] bool enter(std::uint64_t hash, std::uint32_t index) noexcept;
  [[nodiscard]] bool enter_bucket(mr_flow_bucket& bucket, std::uint16_t tag,
                                  std::uint32_t index) noexcept;
  [[nodiscard]] bool leave_bucket(mr_flow_bucket& bucket, std::uint16_t tag,
                                  std::uint32_t index) noexcept;
  void rebuild() noexcept;

  inline static mr_flow_record no_flow_{};

  mr_flow_bucket* buckets_ = nullptr;
  mr_flow_record* records_ = nullptr;
  std::uint32_t bucket_mask_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint64_t secret_[4] = {};
  std::uint32_t free_head_ = MR_RECORD_NONE;
  std::uint32_t used_ = 0;
  LastHops last_hops_;
  mr_flow_table_header* header_ = nullptr;
};

}  // namespace millrace::core

// SPDX-License-Identifier: Apache-2.0
//
// The copy of the flows outside the kernel: DIRECTORY/flows.0, in the format of the DPDK engine's
// flow tables (flow_table_abi.h). Cold.
//
// `millrace flows` reads it, a DPDK engine takes it over, and an XDP engine that finds no maps of
// an earlier one starts with it. Record i of the copy is record i of the map; the buckets stay
// empty, because whoever takes a table over builds them anew. It lags by up to a round of the
// sweep.
#pragma once

#include <cstdint>
#include <span>

#include "bpf/engine/maps.h"
#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/result.h"
#include "dataplane/shm/flow_set.h"

namespace millrace::xdp {

class FlowCopy {
 public:
  // An empty copy for `capacity` records, as a new set in `set`, which must outlive it. It is found
  // by others after set.commit().
  [[nodiscard]] static Result<FlowCopy> create(shm::FlowSet& set, std::uint32_t capacity);
  // For flows that are in pinned maps, whatever becomes of their copy: where an earlier daemon left
  // one of this size, it is used as it is, and takes no room beside it. Otherwise as create().
  [[nodiscard]] static Result<FlowCopy> reuse(shm::FlowSet& set, std::uint32_t capacity);

  // Makes the copy of record `index` say what `record` says. Only flows are copied: for a record in
  void set(std::uint32_t index, mr_flow_record& record);
  // Likewise the neighbour that a record names: it may be another one than a round ago.
  void set_last_hop(std::uint32_t index, const mr_xdp_last_hop& hop);
  void set_last_hops(std::span<mr_xdp_last_hop> last_hops);
  void set_all(std::span<mr_flow_record> flows, std::span<mr_xdp_last_hop> last_hops);

 private:
  explicit FlowCopy(std::span<std::byte> table);

  std::span<mr_flow_record> records_;
  mr_last_hop* last_hops_ = nullptr;
};

// Enters flows that were left (by any engine and any number of workers) into maps that no program
// uses yet. Closed and expired ones come last, in what room there is.
struct Import {
  std::uint64_t flows = 0;
  std::uint64_t refused = 0;  // no free record within reach; without closed and expired ones
};
[[nodiscard]] Import import_tables(std::span<const core::FlowTable::Left> left, const Maps& into);

// Likewise from the maps of an earlier daemon that this one does not go on with.
[[nodiscard]] Import import_flows(std::span<mr_flow_record> records,
                                  std::span<const mr_xdp_last_hop> last_hops, const Maps& into);

}  // namespace millrace::xdp

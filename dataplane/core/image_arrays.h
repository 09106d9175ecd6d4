// SPDX-License-Identifier: Apache-2.0
//
// The arrays of an image, described once, in the order of mr_image and of its checksum: who checks,
// sums, writes, mirrors or takes over an image walks them. A new array is a row here. Cold.
#pragma once

#include <cstdint>
#include <span>
#include <tuple>

#include "dataplane/contract/config_abi.h"
#include "dataplane/contract/xdp_abi.h"
#include "dataplane/core/config_view.h"

namespace millrace::core {

template <typename T>
struct ImageArray {
  using Element = T;

  std::span<const T> ConfigView::*view;
  std::uint64_t mr_image::*offset;
  std::uint32_t mr_image::*size;  // of elements; of an open-addressed table, one less
  bool is_table;                  // as many entries as a power of two
  std::uint32_t size_max;         // of elements; 0: as many as the segment holds
  const char* size_name;
  // Where the XDP engine's copy has it, as a line and a size likewise.
  std::uint32_t mr_xdp_root::*root_line;
  std::uint32_t mr_xdp_root::*root_size;

  [[nodiscard]] std::uint64_t count_in(const mr_image& image) const {
    return std::uint64_t{image.*size} + (is_table ? 1 : 0);
  }
  [[nodiscard]] std::uint64_t bytes_in(const mr_xdp_root& root) const {
    return (std::uint64_t{root.*root_size} + (is_table ? 1 : 0)) * sizeof(T);
  }
  void set(mr_image& image, std::uint64_t at, std::size_t count) const {
    image.*offset = at;
    image.*size = static_cast<std::uint32_t>(count) - (is_table ? 1 : 0);
  }
};

inline constexpr std::tuple kImageArrays = {
    ImageArray<mr_table_entry>{.view = &ConfigView::listener_table,
                               .offset = &mr_image::listener_table_offset,
                               .size = &mr_image::listener_table_mask,
                               .is_table = true,
                               .size_max = 0,
                               .size_name = "listener_table_mask",
                               .root_line = &mr_xdp_root::listener_table_line,
                               .root_size = &mr_xdp_root::listener_table_mask},
    ImageArray<mr_listener>{.view = &ConfigView::listeners,
                            .offset = &mr_image::listeners_offset,
                            .size = &mr_image::listener_slots,
                            .is_table = false,
                            .size_max = MR_LISTENER_SLOTS_MAX,
                            .size_name = "listener_slots",
                            .root_line = &mr_xdp_root::listeners_line,
                            .root_size = &mr_xdp_root::listener_slots},
    ImageArray<mr_target_group>{.view = &ConfigView::groups,
                                .offset = &mr_image::groups_offset,
                                .size = &mr_image::group_slots,
                                .is_table = false,
                                .size_max = MR_GROUP_SLOTS_MAX,
                                .size_name = "group_slots",
                                .root_line = &mr_xdp_root::groups_line,
                                .root_size = &mr_xdp_root::group_slots},
    ImageArray<mr_target>{.view = &ConfigView::targets,
                          .offset = &mr_image::targets_offset,
                          .size = &mr_image::target_slots,
                          .is_table = false,
                          .size_max = MR_TARGET_SLOTS_MAX,
                          .size_name = "target_slots",
                          .root_line = &mr_xdp_root::targets_line,
                          .root_size = &mr_xdp_root::target_slots},
    ImageArray<mr_table_entry>{.view = &ConfigView::reverse_table,
                               .offset = &mr_image::reverse_table_offset,
                               .size = &mr_image::reverse_table_mask,
                               .is_table = true,
                               .size_max = 0,
                               .size_name = "reverse_table_mask",
                               .root_line = &mr_xdp_root::reverse_table_line,
                               .root_size = &mr_xdp_root::reverse_table_mask},
    ImageArray<mr_addr>{.view = &ConfigView::local_addrs,
                        .offset = &mr_image::local_addrs_offset,
                        .size = &mr_image::local_addr_count,
                        .is_table = false,
                        .size_max = MR_LOCAL_ADDRS_MAX,
                        .size_name = "local_addr_count",
                        .root_line = &mr_xdp_root::local_addrs_line,
                        .root_size = &mr_xdp_root::local_addr_count},
    ImageArray<mr_local_mac>{.view = &ConfigView::local_macs,
                             .offset = &mr_image::local_macs_offset,
                             .size = &mr_image::local_mac_count,
                             .is_table = false,
                             .size_max = MR_LOCAL_MACS_MAX,
                             .size_name = "local_mac_count",
                             .root_line = &mr_xdp_root::local_macs_line,
                             .root_size = &mr_xdp_root::local_mac_count},
    ImageArray<mr_port_range>{.view = &ConfigView::port_ranges,
                              .offset = &mr_image::port_ranges_offset,
                              .size = &mr_image::port_range_count,
                              .is_table = false,
                              .size_max = MR_PORT_RANGES_MAX,
                              .size_name = "port_range_count",
                              .root_line = &mr_xdp_root::port_ranges_line,
                              .root_size = &mr_xdp_root::port_range_count},
    ImageArray<mr_vlan>{.view = &ConfigView::vlans,
                        .offset = &mr_image::vlans_offset,
                        .size = &mr_image::vlan_count,
                        .is_table = false,
                        .size_max = MR_VLAN_COUNT_MAX,
                        .size_name = "vlan_count",
                        .root_line = &mr_xdp_root::vlans_line,
                        .root_size = &mr_xdp_root::vlan_count},
    ImageArray<std::uint8_t>{.view = &ConfigView::vlan_slots,
                             .offset = &mr_image::vlan_slots_offset,
                             .size = &mr_image::vlan_slot_count,
                             .is_table = false,
                             .size_max = MR_NIC_COUNT_MAX * MR_VLAN_ID_COUNT,
                             .size_name = "vlan_slot_count",
                             .root_line = &mr_xdp_root::vlan_slots_line,
                             .root_size = &mr_xdp_root::vlan_slot_count}};

// Calls `visit` with each row until it returns false. True when all returned true.
template <typename Visit>
bool for_each_array(Visit&& visit) {
  return std::apply([&](const auto&... rows) { return (visit(rows) && ...); }, kImageArrays);
}

}  // namespace millrace::core

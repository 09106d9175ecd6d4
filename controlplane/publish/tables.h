// SPDX-License-Identifier: Apache-2.0
//
// The tables by which an image is searched, built from its arrays. Cold and pure.
//
// At most half full and no run longer than MR_TABLE_PROBE_MAX: a table that comes out worse is
// built again at twice the size.
#pragma once

#include <cstdint>
#include <vector>

#include "controlplane/publish/image_contents.h"

namespace millrace::control {

// What finds a packet's listener.
struct ListenerTables {
  // (VIP, port, protocol) -> listener slot, one entry per VIP (`vips`, and those of listeners), and
  // one for each protocol of which it has listeners with several ports.
  std::vector<mr_table_entry> table;
  // The ports of these.
  std::vector<mr_port_range> ranges;
};
[[nodiscard]] ListenerTables listener_tables(const std::vector<mr_listener>& listeners,
                                             const std::vector<VipContents>& vips);

// (target address, port, protocol) -> target slot, for targets whose replies pass the node; one of
// both protocols has two entries. `next` is the listener of the target's address family and of that
// protocol that forwards to its group, when there is exactly one, no listener of another group
// leads to that address and port, and the target's port tells which port of the listener was asked.
[[nodiscard]] std::vector<mr_table_entry> reverse_table(const ImageContents& contents);

// Both tables of one image after another. They are built again only when something changed that
// they are made from. Next hops are not, and health only where a VIP's answer to echo requests
// depends on it.
class TableMaker {
 public:
  void update(const ImageContents& contents);

  // Another one after each update() that built a table.
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] const ListenerTables& listeners() const { return listener_tables_; }
  [[nodiscard]] const std::vector<mr_table_entry>& reverse() const { return reverse_table_; }

 private:
  // Of a target, what the reverse table holds.
  struct Origin {
    mr_addr addr;
    std::uint32_t group_slot;
    std::uint16_t port_be;
    std::uint8_t protocol;
    std::uint8_t is_in_table;

    [[nodiscard]] static Origin of(const mr_target& target, const ImageContents& contents);
  };
  static_assert(sizeof(Origin) == 24, "compared as bytes: no holes");

  [[nodiscard]] bool has_same_origins(const ImageContents& contents) const;

  std::uint64_t version_ = 0;  // 0: none built yet
  std::vector<VipContents> vips_;
  std::vector<mr_listener> listeners_;
  std::vector<Origin> origins_;  // by target slot
  ListenerTables listener_tables_;
  std::vector<mr_table_entry> reverse_table_;
};

}  // namespace millrace::control

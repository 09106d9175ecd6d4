// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "dataplane/core/config_view.h"
#include "dataplane/core/wire.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::control {
namespace {

using test::addr_of;

constexpr std::uint32_t kRefusing = MR_VIP_NO_ECHO | MR_VIP_REJECTS;
constexpr std::uint32_t kPunting = MR_VIP_PUNTS;

mr_listener listener(const char* vip, std::uint16_t port_be, std::uint32_t id,
                     std::uint32_t group_slot = 0, std::uint8_t protocol = MR_PROTOCOL_TCP) {
  mr_listener out{};
  out.vip_addr = addr_of(vip);
  out.last_port_be = port_be;
  out.port_be = port_be;
  out.id = id;
  out.group_slot = static_cast<std::uint16_t>(group_slot);
  out.protocol = protocol;
  return out;
}

mr_target target(const char* addr, std::uint16_t port_be, std::uint32_t id,
                 std::uint32_t group_slot = 0) {
  mr_target out{};
  out.addr = addr_of(addr);
  out.port_be = port_be;
  out.id = id;
  out.group_slot = group_slot;
  out.protocol = MR_PROTOCOL_TCP;
  return out;
}

const mr_table_entry* find(const std::vector<mr_table_entry>& table, const char* addr,
                           std::uint16_t port_be, std::uint8_t protocol) {
  return core::find_entry(table, core::words_of(addr_of(addr)), port_be, protocol);
}

std::size_t used(const std::vector<mr_table_entry>& table) {
  return static_cast<std::size_t>(std::ranges::count_if(
      table, [](const mr_table_entry& entry) { return entry.slot != MR_TABLE_EMPTY; }));
}

TEST(ListenerTable, has_every_listener_and_every_vip_once) {
  const auto table = listener_tables({listener("203.0.113.10", 80, 1),
                                      {},
                                      listener("203.0.113.10", 80, 2, 0, MR_PROTOCOL_UDP),
                                      listener("2001:db8::10", 80, 3)},
                                     {})
                         .table;
  EXPECT_EQ(find(table, "203.0.113.10", 80, MR_PROTOCOL_TCP)->slot, 0u);
  EXPECT_EQ(find(table, "203.0.113.10", 80, MR_PROTOCOL_UDP)->slot, 2u);
  EXPECT_EQ(find(table, "2001:db8::10", 80, MR_PROTOCOL_TCP)->slot, 3u);
  EXPECT_EQ(find(table, "203.0.113.10", 0, 0)->slot, 0u);
  EXPECT_NE(find(table, "2001:db8::10", 0, 0), nullptr);
  EXPECT_EQ(find(table, "203.0.113.10", 81, MR_PROTOCOL_TCP), nullptr);
  EXPECT_EQ(used(table), 5u);
}

TEST(ListenerTable, vip_has_its_flags_with_and_without_a_listener) {
  const auto table =
      listener_tables({listener("203.0.113.10", 80, 1)},
                      {{.addr = addr_of("203.0.113.10"), .flags = MR_VIP_NO_ECHO | MR_VIP_REJECTS},
                       {.addr = addr_of("203.0.113.11"), .flags = MR_VIP_PUNTS}})
          .table;
  EXPECT_EQ(find(table, "203.0.113.10", 0, 0)->slot, kRefusing);
  EXPECT_EQ(find(table, "203.0.113.11", 0, 0)->slot, kPunting);
  EXPECT_EQ(find(table, "203.0.113.10", 80, MR_PROTOCOL_TCP)->slot, 0u);
  EXPECT_EQ(used(table), 3u);
}

TEST(ListenerTable, empty_one_can_be_probed) {
  const auto table = listener_tables({}, {}).table;
  EXPECT_TRUE(std::has_single_bit(table.size()));
  EXPECT_EQ(find(table, "203.0.113.10", 80, MR_PROTOCOL_TCP), nullptr);
}

mr_listener ranged(const char* vip, std::uint16_t first, std::uint16_t last, std::uint32_t id) {
  mr_listener out = listener(vip, core::to_be16(first), id);
  out.last_port_be = core::to_be16(last);
  return out;
}

// Slot of the listener that a port leads to; MR_TABLE_EMPTY if none does.
std::uint32_t slot_by_range(const ListenerTables& tables, const char* vip, std::uint16_t port) {
  const mr_table_entry* entry = find(tables.table, vip, 0, mr_ranges_of(MR_PROTOCOL_TCP));
  if (entry == nullptr) return MR_TABLE_EMPTY;
  for (std::uint32_t i = entry->slot; i < entry->slot + entry->next; ++i) {
    const mr_port_range& range = tables.ranges[i];
    if (range.first <= port && port <= range.last) return range.listener_slot;
  }
  return MR_TABLE_EMPTY;
}

TEST(ListenerTable, ranges_of_a_vip_are_in_order_and_any_has_what_they_leave) {
  const auto tables = listener_tables(
      {ranged("203.0.113.10", 2000, 3000, 1), ranged("203.0.113.10", 0, 65535, 2),
       ranged("203.0.113.10", 1, 10, 3), listener("203.0.113.10", core::to_be16(2500), 4),
       ranged("203.0.113.11", 65000, 65535, 5)},
      {});
  const auto first = find(tables.table, "203.0.113.10", 0, mr_ranges_of(MR_PROTOCOL_TCP));
  ASSERT_NE(first, nullptr);
  ASSERT_EQ(first->next, 4u);
  for (std::uint32_t i = 1; i < 4; ++i) {
    EXPECT_EQ(tables.ranges[first->slot + i].first, tables.ranges[first->slot + i - 1].last + 1);
  }
  const std::pair<std::uint16_t, std::uint32_t> expected[] = {
      {1, 2}, {10, 2}, {11, 1}, {1999, 1}, {2000, 0}, {3000, 0}, {3001, 1}, {65535, 1}};
  for (const auto& [port, slot] : expected) {
    EXPECT_EQ(slot_by_range(tables, "203.0.113.10", port), slot) << port;
  }
  EXPECT_EQ(slot_by_range(tables, "203.0.113.11", 64999), MR_TABLE_EMPTY);
  EXPECT_EQ(slot_by_range(tables, "203.0.113.11", 65535), 4u);
  EXPECT_EQ(find(tables.table, "203.0.113.10", core::to_be16(2500), MR_PROTOCOL_TCP)->slot, 3u);
  EXPECT_EQ(find(tables.table, "203.0.113.10", 0, MR_PROTOCOL_TCP), nullptr)
      << "no packet's port 0";
}

TEST(ListenerTable, ten_thousand_vips_stay_within_the_probe_bound) {
  std::vector<mr_listener> listeners;
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    mr_listener one = listener("10.0.0.0", core::to_be16(80), i + 1);
    one.vip_addr.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    one.vip_addr.bytes[15] = static_cast<std::uint8_t>(i);
    listeners.push_back(one);
  }
  const auto table = listener_tables(listeners, {}).table;
  EXPECT_TRUE(std::has_single_bit(table.size()));
  EXPECT_LE(2 * used(table), table.size());
  EXPECT_LE(table.size(), 8 * used(table)) << "neighbouring addresses must not collide";
  for (std::uint32_t i = 0; i < listeners.size(); ++i) {
    const auto* entry = core::find_entry(table, core::words_of(listeners[i].vip_addr),
                                         core::to_be16(80), MR_PROTOCOL_TCP);
    ASSERT_NE(entry, nullptr) << i;
    ASSERT_EQ(entry->slot, i);
  }
}

ImageContents one_group(std::vector<mr_listener> listeners, std::vector<mr_target> targets) {
  ImageContents contents;
  contents.listeners = std::move(listeners);
  contents.targets = std::move(targets);
  contents.groups.resize(2);
  contents.groups[0].id = 1;
  contents.groups[1].id = 2;
  return contents;
}

TEST(ReverseTable, names_the_only_listener_of_the_group) {
  const auto table = reverse_table(
      one_group({{}, listener("203.0.113.10", 80, 1)}, {target("10.0.1.11", 8080, 1)}));
  const auto* entry = find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->slot, 0u);
  EXPECT_EQ(entry->next, 1u);
}

TEST(ReverseTable, two_listeners_of_one_family_are_ambiguous) {
  const auto table =
      reverse_table(one_group({listener("203.0.113.10", 80, 1), listener("203.0.113.11", 80, 2)},
                              {target("10.0.1.11", 8080, 1)}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY);
}

TEST(ReverseTable, listener_of_the_other_family_does_not_count) {
  const auto table =
      reverse_table(one_group({listener("203.0.113.10", 80, 1), listener("2001:db8::10", 80, 2)},
                              {target("10.0.1.11", 8080, 1)}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, 0u);
}

TEST(ReverseTable, target_of_both_protocols_has_an_entry_and_a_listener_for_each) {
  mr_target both = target("10.0.1.11", 8080, 1);
  both.protocol = MR_PROTOCOL_TCP_UDP;
  auto table = reverse_table(one_group(
      {listener("203.0.113.10", 80, 1), listener("203.0.113.10", 80, 2, 0, MR_PROTOCOL_UDP)},
      {both}));
  EXPECT_EQ(used(table), 2u);
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, 0u);
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_UDP)->next, 1u);
  table = reverse_table(
      one_group({listener("203.0.113.10", 80, 1), listener("203.0.113.11", 80, 2)}, {both}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY) << "two";
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_UDP)->next, MR_TABLE_EMPTY) << "none";
}

TEST(ReverseTable, groups_of_different_protocols_with_one_target_know_their_listeners) {
  mr_target of_udp = target("10.0.1.11", 8080, 2, 1);
  of_udp.protocol = MR_PROTOCOL_UDP;
  const auto table = reverse_table(one_group(
      {listener("203.0.113.10", 80, 1, 0), listener("203.0.113.10", 80, 2, 1, MR_PROTOCOL_UDP)},
      {target("10.0.1.11", 8080, 1, 0), of_udp}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->slot, 0u);
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, 0u);
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_UDP)->slot, 1u);
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_UDP)->next, 1u);
}

TEST(ReverseTable, target_of_two_groups_is_ambiguous) {
  const auto table = reverse_table(
      one_group({listener("203.0.113.10", 80, 1, 0), listener("203.0.113.11", 80, 2, 1)},
                {target("10.0.1.11", 8080, 1, 0), target("10.0.1.11", 8080, 2, 1)}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY);
  EXPECT_EQ(used(table), 1u);
}

TEST(ReverseTable, unused_group_has_no_listener_to_reply_from) {
  const auto table = reverse_table(one_group({}, {target("10.0.1.11", 8080, 1)}));
  EXPECT_EQ(find(table, "10.0.1.11", 8080, MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY);
}

// Replies without a flow: the target's port is the VIP's, or else nobody knows which was asked.
TEST(ReverseTable, target_of_any_port_answers_from_those_of_its_listeners) {
  const ImageContents any = one_group(
      {ranged("203.0.113.10", 1000, 2000, 1), listener("203.0.113.11", core::to_be16(3000), 2)},
      {target("10.0.1.11", 0, 1)});
  const auto table = reverse_table(any);
  const auto* entry = find(table, "10.0.1.11", 0, MR_PROTOCOL_TCP);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->next, MR_TABLE_EMPTY);
  EXPECT_FALSE(mr_answers_from(entry, core::to_be16(999)));
  EXPECT_TRUE(mr_answers_from(entry, core::to_be16(1000)));
  EXPECT_TRUE(mr_answers_from(entry, core::to_be16(3000)));
  EXPECT_FALSE(mr_answers_from(entry, core::to_be16(3001)));
  const auto one =
      reverse_table(one_group({ranged("203.0.113.10", 1000, 2000, 1)},
                              {target("10.0.1.11", 0, 1), target("10.0.1.12", 80, 2)}));
  EXPECT_EQ(find(one, "10.0.1.11", 0, MR_PROTOCOL_TCP)->next, 0u);
  EXPECT_EQ(find(one, "10.0.1.12", 80, MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY);
}

// One group has the machine, the other its services at some ports.
TEST(ReverseTable, service_of_a_machine_that_takes_any_port_is_ambiguous) {
  const std::vector<mr_target> targets = {target("10.0.1.11", 0, 1),
                                          target("10.0.1.11", core::to_be16(1500), 2, 1),
                                          target("10.0.1.11", core::to_be16(2500), 3, 1)};
  const mr_listener machine = ranged("203.0.113.10", 1000, 2000, 1);
  auto table = reverse_table(
      one_group({machine, listener("203.0.113.11", core::to_be16(80), 2, 1)}, targets));
  EXPECT_EQ(find(table, "10.0.1.11", 0, MR_PROTOCOL_TCP)->next, 0u);
  EXPECT_EQ(find(table, "10.0.1.11", core::to_be16(1500), MR_PROTOCOL_TCP)->next, MR_TABLE_EMPTY);
  EXPECT_EQ(find(table, "10.0.1.11", core::to_be16(2500), MR_PROTOCOL_TCP)->next, 1u);
  // The machine is never asked for that port: a port by itself wins.
  table = reverse_table(
      one_group({machine, listener("203.0.113.10", core::to_be16(1500), 2, 1)}, targets));
  EXPECT_EQ(find(table, "10.0.1.11", core::to_be16(1500), MR_PROTOCOL_TCP)->next, 1u);
}

TEST(ReverseTable, dsr_targets_and_empty_slots_are_left_out) {
  ImageContents contents =
      one_group({listener("203.0.113.10", 80, 1)}, {target("10.0.1.11", 0, 1), mr_target{}});
  contents.groups[0].forwarding = MR_FORWARDING_DSR;
  EXPECT_EQ(used(reverse_table(contents)), 0u);
}

TEST(TableMaker, makes_the_same_tables_as_the_functions_whatever_came_before) {
  const mr_listener web = listener("203.0.113.10", 80, 1);
  const mr_target one = target("10.0.1.11", 8080, 1);
  const mr_target two = target("10.0.1.12", 8080, 2);
  mr_target resolved = two;
  resolved.next_hop.flags = MR_NEXT_HOP_RESOLVED;
  ImageContents dsr = one_group({web}, {one, two});
  dsr.groups[0].forwarding = MR_FORWARDING_DSR;
  ImageContents silent = dsr;
  silent.vips = {{.addr = addr_of("203.0.113.10"), .flags = MR_VIP_NO_ECHO}};
  TableMaker maker;
  for (const ImageContents& contents :
       {one_group({}, {}), one_group({web}, {one}), one_group({web}, {one, two}),
        one_group({web}, {one, resolved}), one_group({web}, {mr_target{}, two}), dsr, silent, dsr,
        one_group({web, listener("203.0.113.11", 80, 2)}, {one, two})}) {
    maker.update(contents);
    const auto bytes = [](const auto& array) {
      return std::string(reinterpret_cast<const char*>(array.data()),
                         array.size() * sizeof(array[0]));
    };
    const ListenerTables listeners = listener_tables(contents.listeners, contents.vips);
    EXPECT_EQ(bytes(maker.listeners().table), bytes(listeners.table));
    EXPECT_EQ(bytes(maker.listeners().ranges), bytes(listeners.ranges));
    EXPECT_EQ(bytes(maker.reverse()), bytes(reverse_table(contents)));
  }
}

TEST(TableMaker, health_and_next_hops_build_nothing_anew) {
  ImageContents contents =
      one_group({listener("203.0.113.10", 80, 1)}, {target("10.0.1.11", 8080, 1)});
  TableMaker maker;
  maker.update(contents);
  const mr_table_entry* reverse = maker.reverse().data();
  contents.targets[0].flags = MR_TARGET_RESETS_FLOWS;
  contents.targets[0].next_hop.mac[0] = 2;
  maker.update(contents);
  EXPECT_EQ(maker.reverse().data(), reverse);
  const std::uint64_t version = maker.version();
  contents.vips = {{.addr = addr_of("203.0.113.10"), .flags = MR_VIP_NO_ECHO}};
  maker.update(contents);
  EXPECT_NE(maker.version(), version) << "the listener table has the VIP's flags";
  EXPECT_EQ(maker.reverse().data(), reverse);
}

}  // namespace
}  // namespace millrace::control

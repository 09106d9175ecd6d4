// SPDX-License-Identifier: Apache-2.0
//
// The config as the program finds it: through the root in force, in lines that nobody overwrites.
#include "bpf/engine/config_mirror.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

using xdp::ConfigMirror;

class Mirror : public ::testing::Test {
 protected:
  [[nodiscard]] ConfigMirror open() {
    Result<ConfigMirror> mirror = ConfigMirror::open(maps_.maps());
    EXPECT_TRUE(mirror.has_value());
    return std::move(*mirror);
  }

  // What programs read of the config in force, from the root on.
  template <typename T>
  [[nodiscard]] const T* at_line(std::uint32_t line) {
    return reinterpret_cast<const T*>(&maps_.maps().config_lines[line]);
  }
  template <typename T>
  [[nodiscard]] const T* at_offset(std::uint64_t offset) {
    const std::uint64_t base = std::uint64_t{maps_.root().base_line} * MR_CONFIG_LINE_BYTES;
    const auto* start = reinterpret_cast<const std::byte*>(maps_.maps().config_lines.data());
    return reinterpret_cast<const T*>(start + base + offset);
  }
  template <typename T>
  static void expect_same(const T* found, std::span<const T> wanted) {
    EXPECT_EQ(std::memcmp(found, wanted.data(), wanted.size_bytes()), 0);
  }

  void expect_in_force(const core::ConfigView& view) {
    const mr_xdp_root root = maps_.root();
    ASSERT_EQ(root.generation, view.generation);
    ASSERT_EQ(root.listener_slots, view.listeners.size());
    ASSERT_EQ(root.target_slots, view.targets.size());
    EXPECT_EQ(root.listener_table_mask + 1, view.listener_table.size());
    EXPECT_EQ(root.reverse_table_mask + 1, view.reverse_table.size());
    expect_same(at_line<mr_listener>(root.listeners_line), view.listeners);
    expect_same(at_line<mr_target>(root.targets_line), view.targets);
    expect_same(at_line<mr_table_entry>(root.listener_table_line), view.listener_table);
    expect_same(at_line<mr_table_entry>(root.reverse_table_line), view.reverse_table);
    expect_same(at_line<mr_addr>(root.local_addrs_line), view.local_addrs);
    expect_same(at_line<mr_local_mac>(root.local_macs_line), view.local_macs);
    EXPECT_EQ(root.local_mac_count, view.local_macs.size());
    const auto* groups = at_line<mr_target_group>(root.groups_line);
    for (std::size_t slot = 0; slot < view.groups.size(); ++slot) {
      EXPECT_EQ(groups[slot].id, view.groups[slot].id);
      if (groups[slot].id == 0) continue;
      expect_same(at_offset<std::uint32_t>(groups[slot].members_offset),
                  view.members(view.groups[slot]));
      expect_same(at_offset<mr_lookup_slot>(groups[slot].table_offset),
                  view.lookup_table(view.groups[slot]));
    }
  }

  [[nodiscard]] std::uint64_t table_offset(std::uint32_t group) {
    return at_line<mr_target_group>(maps_.root().groups_line)[group].table_offset;
  }

  EngineMaps maps_;
  Config config_;
};

TEST_F(Mirror, adopted_config_is_whole_and_in_force) {
  config_.builder.add_local_addr(addr_of("192.0.2.1"));
  config_.builder.add_local_mac({.mac = {2, 0, 0, 0, 0, 9}, .nic = 0, .reserved = 0});
  const Image image = config_.builder.build(7);
  ConfigMirror mirror = open();
  EXPECT_EQ(mirror.generation(), 0u);
  ASSERT_TRUE(mirror.adopt(image.view()));
  EXPECT_EQ(mirror.generation(), 7u);
  expect_in_force(image.view());
}

TEST_F(Mirror, config_that_was_in_force_stays_whole_while_the_next_is_written) {
  const Image first = config_.builder.build(1);
  config_.builder.target(1).weight = 300;
  const Image second = config_.builder.build(2, &first);
  ConfigMirror mirror = open();
  ASSERT_TRUE(mirror.adopt(first.view()));
  ASSERT_TRUE(mirror.adopt(second.view()));
  expect_in_force(second.view());
  // A program that began with the first root reads on from it.
  maps_.control().active ^= 1;
  expect_in_force(first.view());
}

TEST_F(Mirror, unchanged_tables_are_shared_and_changed_ones_are_not) {
  const Image first = config_.builder.build(1);
  config_.builder.target(1).weight = 300;
  const Image second = config_.builder.build(2);
  ConfigMirror mirror = open();
  ASSERT_TRUE(mirror.adopt(first.view()));
  const std::uint64_t changes = table_offset(0);
  const std::uint64_t stays = table_offset(1);
  ASSERT_TRUE(mirror.adopt(second.view()));
  EXPECT_NE(table_offset(0), changes);
  EXPECT_EQ(table_offset(1), stays);
}

TEST_F(Mirror, restarted_daemon_overwrites_nothing_of_what_is_in_force) {
  const Image first = config_.builder.build(1);
  {
    ConfigMirror mirror = open();
    ASSERT_TRUE(mirror.adopt(first.view()));
  }
  // Another segment, whose offsets mean nothing here.
  config_.builder.replace_target(2, {.group_slot = 0, .addr = addr_of("10.0.1.99"), .port = 8080});
  const Image other = config_.builder.build(1000);
  ConfigMirror mirror = open();
  EXPECT_EQ(mirror.generation(), 1u);
  const std::uint64_t stays = table_offset(1);
  ASSERT_TRUE(mirror.adopt(other.view()));
  expect_in_force(other.view());
  EXPECT_EQ(table_offset(1), stays) << "a table that the earlier daemon copied is used again";
  maps_.control().active ^= 1;
  expect_in_force(first.view());
}

TEST_F(Mirror, damaged_root_is_no_start) {
  const Image image = config_.builder.build(1);
  {
    ConfigMirror mirror = open();
    ASSERT_TRUE(mirror.adopt(image.view()));
  }
  maps_.control().roots[maps_.control().active].targets_line = 0xffffffff;
  EXPECT_FALSE(ConfigMirror::open(maps_.maps()).has_value());
}

TEST_F(Mirror, many_generations_leave_nothing_behind) {
  ConfigMirror mirror = open();
  for (std::uint64_t generation = 1; generation < 100; ++generation) {
    config_.builder.target(0).weight = static_cast<std::uint32_t>(1 + generation % 7 * 100);
    const Image image = config_.builder.build(generation);
    ASSERT_TRUE(mirror.adopt(image.view())) << generation;
    expect_in_force(image.view());
  }
}

TEST_F(Mirror, blocks_of_one_checksum_are_shared_only_if_their_bytes_are_the_same) {
  const Image first = config_.builder.build(1);
  config_.builder.target(1).weight = 300;
  Image second = config_.builder.build(2);
  // What a checksum of 64 bits may do: another table, the same number.
  const core::ConfigView view = second.view();
  const auto* groups = reinterpret_cast<const std::byte*>(view.groups.data());
  auto& group = reinterpret_cast<mr_target_group&>(
      second.segment()[static_cast<std::size_t>(groups - second.segment().data())]);
  ASSERT_NE(group.table_checksum, first.view().groups[0].table_checksum);
  group.table_checksum = first.view().groups[0].table_checksum;
  ConfigMirror mirror = open();
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(mirror.adopt(first.view())) << round;
    expect_in_force(first.view());
    ASSERT_TRUE(mirror.adopt(view)) << round;
    expect_in_force(view);
  }
  ConfigMirror next = open();  // finds them as they are
  ASSERT_TRUE(next.adopt(first.view()));
  expect_in_force(first.view());
}

// Of the calling thread, for good: membarrier(2) fails as it does with nohz_full=.
void forbid_waiting() {
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL), 0);
  sock_filter filter[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_membarrier},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EINVAL},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program{.len = static_cast<unsigned short>(std::size(filter)), .filter = filter};
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0UL, 0UL), 0);
}

TEST_F(Mirror, programs_that_cannot_be_waited_for_keep_their_lines_and_nothing_is_lost) {
  std::vector<Image> images;
  for (std::uint64_t generation = 1; generation <= 30; ++generation) {
    config_.builder.target(0).weight = static_cast<std::uint32_t>(100 + generation);
    images.push_back(config_.builder.build(generation));
  }
  ConfigMirror mirror = open();
  ASSERT_TRUE(mirror.adopt(images[0].view()));
  std::thread([&] {
    forbid_waiting();
    EXPECT_TRUE(mirror.adopt(images[1].view())) << "it is in force, whoever still reads the other";
    expect_in_force(images[1].view());
    for (int attempt = 0; attempt < 3; ++attempt) {
      EXPECT_FALSE(mirror.adopt(images[2].view())) << "what is read would be overwritten";
      EXPECT_EQ(mirror.missing_bytes(), 0u);
    }
    expect_in_force(images[1].view());
    maps_.control().active ^= 1;
    expect_in_force(images[0].view());
    maps_.control().active ^= 1;
  }).join();
  for (std::size_t i = 2; i < images.size(); ++i) {
    ASSERT_TRUE(mirror.adopt(images[i].view())) << "lines were lost after " << i;
    expect_in_force(images[i].view());
  }
}

TEST(MirrorWithoutRoom, says_what_is_missing_and_keeps_what_is_in_force) {
  EngineMaps maps(MapsOptions{.config_lines = 160});
  Config config;
  const Image image = config.builder.build(1);
  Result<ConfigMirror> mirror = ConfigMirror::open(maps.maps());
  ASSERT_TRUE(mirror.has_value());
  ASSERT_TRUE(mirror->adopt(image.view()));
  config.builder.group(0).table_slots = 4093;
  const Image large = config.builder.build(2);
  const Status refused = mirror->adopt(large.view());
  ASSERT_FALSE(refused);
  EXPECT_GE(mirror->missing_bytes(), 4093 * sizeof(mr_lookup_slot));
  EXPECT_EQ(mirror->generation(), 1u);
  config.builder.group(0).table_slots = 251;
  config.builder.target(4).weight = 7;
  const Image fits = config.builder.build(3);
  EXPECT_TRUE(mirror->adopt(fits.view()));
  EXPECT_EQ(mirror->missing_bytes(), 0u);
  EXPECT_EQ(mirror->generation(), 3u);
}

TEST(MirrorWithoutRoom, has_room_with_what_was_missing_besides) {
  EngineMaps maps(MapsOptions{.config_lines = 160});
  Config config;
  const Image image = config.builder.build(1);
  Result<ConfigMirror> mirror = ConfigMirror::open(maps.maps());
  ASSERT_TRUE(mirror.has_value());
  ASSERT_TRUE(mirror->adopt(image.view()));
  config.builder.group(0).table_slots = 4093;
  config.builder.group(1).table_slots = 65537;
  const Image large = config.builder.build(2);
  ASSERT_FALSE(mirror->adopt(large.view()));
  std::vector<mr_config_line> lines(160 + mirror->missing_bytes() / MR_CONFIG_LINE_BYTES);
  std::ranges::copy(maps.maps().config_lines, lines.begin());
  xdp::Maps grown = maps.maps();
  grown.config_lines = lines;
  Result<ConfigMirror> next = ConfigMirror::open(grown);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->generation(), 1u);
  EXPECT_TRUE(next->adopt(large.view()));
}

}  // namespace
}  // namespace millrace::test

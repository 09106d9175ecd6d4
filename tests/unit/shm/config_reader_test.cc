// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"
#include "tests/unit/shm/segment_files.h"

namespace millrace::shm {
namespace {

using Kind = ConfigEvent::Kind;
using ::testing::HasSubstr;

// Puts a segment in place the way a publisher does: a new file, renamed over the old one.
void replace_config(const std::string& path, std::uint64_t generation) {
  test::Image image = test::small_image(generation);
  test::write_file(path + ".tmp", test::config_segment_bytes(image));
  ASSERT_EQ(::rename((path + ".tmp").c_str(), path.c_str()), 0);
}

// Follows every index of a view, as workers would; a sanitizer build sees a wild read.
std::uint64_t walk(const core::ConfigView& view) {
  std::uint64_t sum = 0;
  for (const mr_table_entry& entry : view.listener_table) {
    if (entry.slot == MR_TABLE_EMPTY || entry.protocol == 0) continue;
    const mr_listener& listener = view.listeners[entry.slot];
    if (listener.id == 0) continue;
    const mr_target_group& group = view.groups[listener.group_slot];
    if (group.table_offset == 0) continue;
    for (const mr_lookup_slot& slot : view.lookup_table(group)) {
      sum += view.targets[view.members(group)[slot.cur]].id;
      if (slot.prev != MR_MEMBER_NONE) sum += view.targets[view.members(group)[slot.prev]].id;
    }
  }
  return sum;
}

TEST(ConfigReader, waits_for_the_segment_to_appear) {
  const test::TempDir dir;
  ConfigReader reader(dir.file("config"));
  EXPECT_EQ(reader.poll().kind, Kind::none);

  replace_config(dir.file("config"), 1);

  const ConfigEvent event = reader.poll();
  ASSERT_EQ(event.kind, Kind::adopted) << event.reason;
  EXPECT_EQ(event.generation, 1u);
  EXPECT_EQ(event.config.view.listeners.size(), 3u);
  EXPECT_EQ(reader.poll().kind, Kind::none);
}

TEST(ConfigReader, segment_without_a_generation_is_no_event) {
  const test::TempDir dir;
  Result<Segment> segment = Segment::create(dir.file("config"), kConfigSpec, 4096, 4096);
  ASSERT_TRUE(segment && segment->publish());
  ConfigReader reader(dir.file("config"));
  EXPECT_EQ(reader.poll().kind, Kind::none);
  EXPECT_EQ(reader.control_plane_heartbeat_ns(), 0u);
}

TEST(ConfigReader, joins_the_successor_and_keeps_what_it_handed_out) {
  const test::TempDir dir;
  replace_config(dir.file("config"), 5);
  ConfigReader reader(dir.file("config"));
  const ConfigEvent first = reader.poll();
  ASSERT_EQ(first.kind, Kind::adopted);
  const std::uint64_t before = walk(first.config.view);

  replace_config(dir.file("config"), 6);
  const ConfigEvent second = reader.poll();

  ASSERT_EQ(second.kind, Kind::adopted);
  EXPECT_EQ(second.generation, 6u);
  EXPECT_EQ(walk(first.config.view), before);
}

TEST(ConfigReader, bad_successor_is_reported_once_and_what_runs_stays) {
  const test::TempDir dir;
  replace_config(dir.file("config"), 5);
  ConfigReader reader(dir.file("config"));
  const ConfigEvent good = reader.poll();
  ASSERT_EQ(good.kind, Kind::adopted);

  test::write_file(dir.file("bad"), std::vector<std::byte>(4096));
  ASSERT_EQ(::rename(dir.file("bad").c_str(), dir.file("config").c_str()), 0);

  const ConfigEvent bad = reader.poll();
  ASSERT_EQ(bad.kind, Kind::refused);
  EXPECT_EQ(bad.generation, 0u);
  EXPECT_THAT(bad.reason, HasSubstr("magic"));
  EXPECT_EQ(reader.poll().kind, Kind::none);
  EXPECT_GT(walk(good.config.view), 0u);

  replace_config(dir.file("config"), 6);
  EXPECT_EQ(reader.poll().kind, Kind::adopted);
}

// Members of its group may put any file into the runtime directory, and change it when it has been
// checked.
TEST(ConfigReader, config_that_others_may_write_is_refused) {
  if (!test::is_root()) GTEST_SKIP() << "gives a file to another user, which only root may";
  const test::TempDir dir;
  const std::string path = dir.file("config");
  const auto poll_new = [&](ConfigReader& reader, uid_t owner, mode_t mode) {
    replace_config(path, 5);
    EXPECT_EQ(::chown(path.c_str(), owner, test::kServiceGroup), 0);
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return reader.poll();
  };
  ConfigReader reader(path, test::kServiceUser);
  ASSERT_EQ(poll_new(reader, test::kServiceUser, 0640).kind, Kind::adopted);
  for (const auto& [owner, mode] : {std::pair{test::kServiceUser + 1, 0640u},
                                    std::pair{test::kServiceUser, 0660u}, std::pair{0u, 0646u}}) {
    const ConfigEvent refused = poll_new(reader, owner, mode);
    ASSERT_EQ(refused.kind, Kind::refused);
    EXPECT_THAT(refused.reason, HasSubstr("others than root"));
    EXPECT_THAT(refused.reason, HasSubstr("--control-user"));
    EXPECT_EQ(poll_new(reader, 0, 0640).kind, Kind::adopted) << "root's";
  }
  ConfigReader without(path);
  EXPECT_EQ(poll_new(without, test::kServiceUser, 0640).kind, Kind::refused);

  ASSERT_EQ(::rename(path.c_str(), dir.file("elsewhere").c_str()), 0);
  ASSERT_EQ(::symlink(dir.file("elsewhere").c_str(), path.c_str()), 0);
  EXPECT_THAT(ConfigReader(path).poll().reason, HasSubstr("it is a symbolic link"));
}

TEST(ConfigReader, bad_image_is_refused_with_its_generation_and_reason) {
  const test::TempDir dir;
  test::Image image = test::small_image(9);
  std::vector<std::byte> bytes = test::config_segment_bytes(image);
  auto& header = *reinterpret_cast<mr_config_header*>(bytes.data());
  auto& root = *reinterpret_cast<mr_image*>(bytes.data() + header.roots[9].image_offset);
  root.target_slots += 1;
  test::write_file(dir.file("config"), bytes);
  ConfigReader reader(dir.file("config"));

  const ConfigEvent event = reader.poll();

  ASSERT_EQ(event.kind, Kind::refused);
  EXPECT_EQ(event.generation, 9u);
  EXPECT_THAT(event.reason, HasSubstr("image 9"));
  EXPECT_EQ(reader.poll().kind, Kind::none);
}

TEST(ConfigReader, truncation_in_use_is_refused_without_a_crash) {
  const test::TempDir dir;
  replace_config(dir.file("config"), 3);
  ConfigReader reader(dir.file("config"));
  ASSERT_EQ(reader.poll().kind, Kind::adopted);
  {
    Result<Segment> writer = Segment::join(dir.file("config"), kConfigSpec, os::Access::read_write);
    ASSERT_TRUE(writer);
    writer->header<mr_config_header>()->generation = 4;
  }
  ASSERT_EQ(::truncate(dir.file("config").c_str(), 4096), 0);
  EXPECT_EQ(reader.poll().kind, Kind::refused);
  EXPECT_EQ(reader.poll().kind, Kind::refused);  // the file as a new reader sees it: wrong size
  EXPECT_EQ(reader.poll().kind, Kind::none);
}

TEST(ConfigReader, fault_36_bit_flips_never_lead_to_a_wild_read) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* given = std::getenv("MILLRACE_TEST_SEED");
  const unsigned seed =
      given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 20240117u;
  std::printf("seed %u (MILLRACE_TEST_SEED)\n", seed);
  std::mt19937 random(seed);
  const test::TempDir dir;
  const std::string path = dir.file("config");
  test::Image image = test::small_image(1);
  const std::vector<std::byte> good = test::config_segment_bytes(image);

  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::vector<std::byte> bytes = good;
    const unsigned flips = 1 + random() % 4;
    // Half of the rounds hit the header and the image, where offsets and counts are.
    const std::size_t reach = round % 2 == 0 ? bytes.size() : sizeof(mr_config_header);
    for (unsigned i = 0; i < flips; ++i) {
      bytes[random() % reach] ^= std::byte{1} << static_cast<int>(random() % 8);
    }
    test::write_file(path, bytes);
    ConfigReader reader(path);
    const ConfigEvent event = reader.poll();
    if (event.kind == Kind::adopted) (void)walk(event.config.view);
    if (event.kind == Kind::refused) ++refused;
  }
  EXPECT_GT(refused, 500);
}

TEST(ConfigReader, fault_36_any_flip_within_the_image_is_refused) {
  const test::TempDir dir;
  test::Image image = test::small_image(1);
  const std::vector<std::byte> good = test::config_segment_bytes(image);
  const auto& header = *reinterpret_cast<const mr_config_header*>(good.data());
  const std::size_t start = header.roots[1].image_offset;
  for (std::size_t at = start; at < start + sizeof(mr_image); ++at) {
    std::vector<std::byte> bytes = good;
    bytes[at] ^= std::byte{0x10};
    test::write_file(dir.file("config"), bytes);
    ConfigReader reader(dir.file("config"));
    EXPECT_EQ(reader.poll().kind, Kind::refused) << "byte " << at - start;
  }
}

}  // namespace
}  // namespace millrace::shm

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/segment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "dataplane/contract/stats_abi.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/shm/segment_files.h"

namespace millrace::shm {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kBytes = 8192;

std::string make_config(const test::TempDir& dir) {
  std::string path = dir.file("config");
  Result<Segment> segment = Segment::create(path, kConfigSpec, kBytes, kBytes);
  EXPECT_TRUE(segment && segment->publish());
  return path;
}

TEST(Segment, what_one_writes_the_other_reads) {
  const test::TempDir dir;
  const std::string path = dir.file("config");
  Result<Segment> writer = Segment::create(path, kConfigSpec, kBytes, kBytes);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->publish());
  Result<Segment> reader = Segment::join(path, kConfigSpec, os::Access::read_only);
  ASSERT_TRUE(reader) << reader.error().message;

  writer->header<mr_config_header>()->heartbeat_ns = 77;

  EXPECT_EQ(reader->header<mr_config_header>()->heartbeat_ns, 77u);
  EXPECT_EQ(reader->bytes().size(), kBytes);
  EXPECT_EQ(reader->header<mr_segment_header>()->creator_pid,
            static_cast<std::uint32_t>(::getpid()));
}

// To wait for the other end of a pipe would hang whoever joins.
TEST(Segment, named_pipe_in_its_place_is_refused_without_waiting) {
  const test::TempDir dir;
  ASSERT_EQ(::mkfifo(dir.file("config").c_str(), 0600), 0);
  EXPECT_FALSE(Segment::join(dir.file("config"), kConfigSpec, os::Access::read_only));
}

TEST(Segment, is_not_visible_before_it_is_published) {
  const test::TempDir dir;
  Result<Segment> writer = Segment::create(dir.file("config"), kConfigSpec, kBytes, kBytes);
  ASSERT_TRUE(writer);

  Result<Segment> reader = Segment::join(dir.file("config"), kConfigSpec, os::Access::read_only);

  ASSERT_FALSE(reader);
  EXPECT_THAT(reader.error().message, HasSubstr("No such file"));
}

TEST(Segment, reader_notices_its_replacement_and_its_removal) {
  const test::TempDir dir;
  const std::string path = make_config(dir);
  Result<Segment> reader = Segment::join(path, kConfigSpec, os::Access::read_only);
  ASSERT_TRUE(reader);
  EXPECT_FALSE(reader->is_replaced());

  (void)make_config(dir);
  EXPECT_TRUE(reader->is_replaced());

  Result<Segment> second = Segment::join(path, kConfigSpec, os::Access::read_only);
  ASSERT_TRUE(second);
  EXPECT_FALSE(second->is_replaced());
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_TRUE(second->is_replaced());
}

TEST(Segment, leftover_of_a_creator_that_died_is_no_obstacle) {
  const test::TempDir dir;
  { (void)Segment::create(dir.file("config"), kConfigSpec, kBytes, kBytes); }
  (void)make_config(dir);
  EXPECT_TRUE(Segment::join(dir.file("config"), kConfigSpec, os::Access::read_only));
}

TEST(Segment, running_reader_notices_truncation) {
  const test::TempDir dir;
  const std::string path = make_config(dir);
  Result<Segment> reader = Segment::join(path, kConfigSpec, os::Access::read_only);
  ASSERT_TRUE(reader);
  EXPECT_FALSE(reader->is_truncated());

  ASSERT_EQ(::truncate(path.c_str(), kBytes / 2), 0);

  EXPECT_TRUE(reader->is_truncated());
}

// One wrong field each; the message names what was found and what was wanted.
struct Damage {
  const char* name;
  std::function<void(mr_segment_header&)> apply;
  std::vector<const char*> words;
};

class SegmentDamage : public ::testing::TestWithParam<Damage> {};

TEST_P(SegmentDamage, fault_36_37_is_refused_with_both_values) {
  const test::TempDir dir;
  const std::string path = make_config(dir);
  std::vector<std::byte> bytes = test::read_file(path);
  GetParam().apply(*reinterpret_cast<mr_segment_header*>(bytes.data()));
  test::write_file(path, bytes);

  Result<Segment> reader = Segment::join(path, kConfigSpec, os::Access::read_only);

  ASSERT_FALSE(reader);
  EXPECT_THAT(reader.error().message, HasSubstr(path));
  for (const char* word : GetParam().words) {
    EXPECT_THAT(reader.error().message, HasSubstr(word));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Fields, SegmentDamage,
    ::testing::Values(
        Damage{"zero_magic", [](auto& h) { h.magic = 0; }, {"magic", "0x0000000000000000"}},
        Damage{"swapped_magic",
               [](auto& h) { h.magic = __builtin_bswap64(MR_SEGMENT_MAGIC); },
               {"magic", "byte order"}},
        Damage{"newer_abi",
               [](auto& h) { h.abi_version = MR_ABI_VERSION + 1; },
               {"ABI version", "same release"}},
        Damage{"older_abi", [](auto& h) { h.abi_version = 0; }, {"ABI version is 0"}},
        Damage{
            "other_kind", [](auto& h) { h.kind = MR_SEGMENT_STATS; }, {"kind is 2 but must be 1"}},
        Damage{"smaller_total", [](auto& h) { h.total_bytes = 4096; }, {"4096", "8192"}},
        Damage{"larger_total", [](auto& h) { h.total_bytes = 1ull << 60; }, {"8192"}},
        Damage{"other_struct",
               [](auto& h) { h.struct_bytes[4] = 128; },
               {"struct_bytes[4] is 128 but must be 64"}},
        Damage{"surplus_struct", [](auto& h) { h.struct_bytes[7] = 99; }, {"struct_bytes[7]"}}),
    [](const auto& damage) { return damage.param.name; });

TEST(Segment, fault_36_truncation_at_any_length_is_refused) {
  const test::TempDir dir;
  const std::string path = make_config(dir);
  const std::vector<std::byte> bytes = test::read_file(path);
  for (std::size_t length :
       {0ul, 1ul, 7ul, 8ul, 12ul, 16ul, 127ul, 128ul, 129ul, 511ul, 512ul, 4096ul, 8191ul}) {
    test::write_file(path, std::span(bytes).first(length));
    EXPECT_FALSE(Segment::join(path, kConfigSpec, os::Access::read_only)) << length;
  }
  test::write_file(path, bytes);
  EXPECT_TRUE(Segment::join(path, kConfigSpec, os::Access::read_only));
}

TEST(Segment, fault_36_zeroed_file_is_refused) {
  const test::TempDir dir;
  const std::string path = dir.file("config");
  test::write_file(path, std::vector<std::byte>(kBytes));
  EXPECT_FALSE(Segment::join(path, kConfigSpec, os::Access::read_only));
}

TEST(Segment, directory_or_device_is_refused_and_does_not_hang) {
  const test::TempDir dir;
  EXPECT_FALSE(Segment::join(dir.path(), kConfigSpec, os::Access::read_only));
  EXPECT_FALSE(Segment::join("/dev/zero", kConfigSpec, os::Access::read_only));
}

}  // namespace
}  // namespace millrace::shm

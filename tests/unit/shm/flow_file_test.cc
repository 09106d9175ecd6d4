// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/flow_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/cc/temp_dir.h"

namespace millrace::shm {
namespace {

using ::testing::HasSubstr;

TEST(FlowFile, new_file_is_zero_and_rounded_up_to_pages) {
  const test::TempDir dir;
  Result<FlowFile> flows = FlowFile::create(dir.file("flows.3"), 10000);
  ASSERT_TRUE(flows) << flows.error().message;
  EXPECT_FALSE(flows->has_huge_pages());
  EXPECT_EQ(flows->bytes().size(), 12288u);
  EXPECT_EQ(flows->path(), dir.file("flows.3"));
  EXPECT_TRUE(std::ranges::all_of(flows->bytes(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(FlowFile, contents_outlive_the_process) {
  const test::TempDir dir;
  {
    Result<FlowFile> flows = FlowFile::create(dir.file("flows.0"), 4096);
    ASSERT_TRUE(flows);
    flows->bytes()[4095] = std::byte{42};
  }
  Result<FlowFile> again = FlowFile::open(dir.file("flows.0"), os::Access::read_write);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes()[4095], std::byte{42});
}

TEST(FlowFile, new_file_takes_the_place_of_an_old_one_in_one_step) {
  const test::TempDir dir;
  Result<FlowFile> old = FlowFile::create(dir.file("flows.0"), 4096);
  ASSERT_TRUE(old);
  old->bytes()[0] = std::byte{42};
  Result<FlowFile> beside = FlowFile::create(dir.file("flows.0.new"), 8192);
  ASSERT_TRUE(beside);
  EXPECT_FALSE(old->is_replaced());
  ASSERT_TRUE(beside->rename_to(dir.file("flows.0")));
  EXPECT_TRUE(old->is_replaced());
  EXPECT_FALSE(beside->is_replaced());
  EXPECT_EQ(old->bytes()[0], std::byte{42}) << "for whoever has it open";
}

TEST(FlowFile, control_plane_reads_what_the_engine_writes) {
  const test::TempDir dir;
  const std::string path = dir.file("flows.0");
  EXPECT_FALSE(FlowFile::open(path, os::Access::read_only));
  Result<FlowFile> engine = FlowFile::create(path, 4096);
  ASSERT_TRUE(engine);
  Result<FlowFile> reader = FlowFile::open(path, os::Access::read_only);
  ASSERT_TRUE(reader) << reader.error().message;
  engine->bytes()[5] = std::byte{1};
  EXPECT_EQ(reader->bytes()[5], std::byte{1});
  EXPECT_FALSE(reader->is_replaced());
}

TEST(FlowFile, fault_91_file_for_which_there_is_no_room_leaves_nothing) {
  const test::TempDir dir;
  constexpr std::uint64_t bytes = std::uint64_t{1} << 50;  // refused at once by any file system
  Result<FlowFile> flows = FlowFile::create(dir.file("flows.0"), bytes);
  ASSERT_FALSE(flows);
  EXPECT_THAT(flows.error().message, HasSubstr(dir.file("flows.0")));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  const Status room = check_room(dir.path(), 2, bytes, 0);
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().message, HasSubstr("MiB are needed"));
  EXPECT_TRUE(check_room(dir.path(), 1, bytes, bytes));
}

std::uint64_t free_huge_pages() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  std::uint64_t pages = 0;
  while (meminfo >> word) {
    if (word == "HugePages_Free:") meminfo >> pages;
  }
  return pages;
}

// Runs where hugetlbfs is mounted and has a free page, as on every machine that runs an engine.
class HugeFlowFile : public ::testing::Test {
 protected:
  void SetUp() override {
    struct statfs info {};
    if (::statfs("/dev/hugepages", &info) != 0 || info.f_type != HUGETLBFS_MAGIC ||
        free_huge_pages() == 0) {
      GTEST_SKIP() << "no free huge page at /dev/hugepages";
    }
    page_bytes_ = static_cast<std::uint64_t>(info.f_bsize);
  }
  std::uint64_t page_bytes_ = 0;
};

TEST_F(HugeFlowFile, takes_whole_huge_pages_and_keeps_them) {
  const test::TempDir dir("/dev/hugepages");
  {
    Result<FlowFile> flows = FlowFile::create(dir.file("flows.0.new"), 100);
    ASSERT_TRUE(flows) << flows.error().message;
    EXPECT_TRUE(flows->has_huge_pages());
    EXPECT_EQ(flows->bytes().size(), page_bytes_);
    flows->bytes()[99] = std::byte{7};
    ASSERT_TRUE(flows->rename_to(dir.file("flows.0")));
  }
  Result<FlowFile> again = FlowFile::open(dir.file("flows.0"), os::Access::read_write);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes()[99], std::byte{7});
}

TEST_F(HugeFlowFile, fault_30_too_few_pages_is_an_error_that_says_how_many_are_needed) {
  const test::TempDir dir("/dev/hugepages");
  const std::uint64_t pages = free_huge_pages() + 100'000;
  Result<FlowFile> flows = FlowFile::create(dir.file("flows.0"), pages * page_bytes_);
  ASSERT_FALSE(flows);
  EXPECT_THAT(flows.error().message, HasSubstr(std::to_string(pages) + " free huge pages"));
  EXPECT_THAT(flows.error().message, HasSubstr("nr_hugepages"));
  const Status room = check_room(dir.path(), 2, pages * page_bytes_, 0);
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().message, HasSubstr(std::to_string(2 * pages) + " free huge pages"));
}

}  // namespace
}  // namespace millrace::shm

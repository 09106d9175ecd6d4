// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "dataplane/shm/config_reader.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/publish/numbered_contents.h"

namespace millrace::control {
namespace {

using test::number_of;
using test::numbered_contents;
using ::testing::HasSubstr;
using Kind = shm::ConfigEvent::Kind;

class PublisherTest : public ::testing::Test {
 protected:
  std::unique_ptr<Publisher> open(std::uint64_t bytes = 1 << 20, std::uint64_t floor = 0) {
    Result<std::unique_ptr<Publisher>> opened =
        Publisher::open({.path = path_, .segment_bytes = bytes, .generation_floor = floor});
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  std::uint32_t adopted_number(shm::ConfigReader& reader) {
    const shm::ConfigEvent event = reader.poll();
    EXPECT_EQ(event.kind, Kind::adopted) << event.reason;
    return event.kind == Kind::adopted ? number_of(event.config.view).value_or(0) : 0;
  }

  test::TempDir dir_;
  std::string path_ = dir_.file("config");
};

TEST_F(PublisherTest, engine_reads_what_was_published) {
  const auto publisher = open();
  shm::ConfigReader reader(path_);
  EXPECT_EQ(reader.poll().kind, Kind::none);

  Result<std::uint64_t> generation = publisher->publish(numbered_contents(5));

  ASSERT_TRUE(generation) << generation.error().message;
  EXPECT_EQ(*generation, 1u);
  EXPECT_EQ(adopted_number(reader), 5u);
  publisher->beat(99);
  EXPECT_EQ(reader.control_plane_heartbeat_ns(), 99u);
}

TEST_F(PublisherTest, empty_contents_are_an_image_too) {
  const auto publisher = open();
  ASSERT_TRUE(publisher->publish({}));
  shm::ConfigReader reader(path_);
  EXPECT_EQ(reader.poll().kind, Kind::adopted);
}

TEST_F(PublisherTest, unchanged_blocks_are_shared) {
  const auto publisher = open();
  ImageContents contents = numbered_contents(1);
  contents.groups[0].table = test::table_of(0, MR_LOOKUP_SLOTS_DEFAULT);
  ASSERT_TRUE(publisher->publish(contents));
  const std::uint64_t used = publisher->arena_used_bytes();
  const core::ConfigView before = publisher->published();

  contents.targets[1].flags = MR_TARGET_HEALTHY;
  ASSERT_TRUE(publisher->publish(contents));

  const core::ConfigView& after = publisher->published();
  EXPECT_EQ(after.groups[0].table_offset, before.groups[0].table_offset);
  EXPECT_EQ(after.image->listeners_offset, before.image->listeners_offset);
  EXPECT_NE(after.image->targets_offset, before.image->targets_offset);
  EXPECT_LT(publisher->arena_used_bytes() - used, 1024u);
}

TEST_F(PublisherTest, equal_table_from_another_computation_is_shared_as_well) {
  const auto publisher = open();
  ImageContents contents = numbered_contents(1);
  ASSERT_TRUE(publisher->publish(contents));
  const std::uint64_t offset = publisher->published().groups[0].table_offset;
  contents.groups[0].table = test::table_of(1);
  ASSERT_TRUE(publisher->publish(contents));
  EXPECT_EQ(publisher->published().groups[0].table_offset, offset);
}

TEST_F(PublisherTest, memory_is_reused_only_after_acknowledgement) {
  const auto publisher = open(64 << 10);
  shm::ConfigReader reader(path_);
  ASSERT_TRUE(publisher->publish(numbered_contents(0)));
  const core::ConfigView first = publisher->published();
  // A worker that goes on reading generation 1: the segment fills up, its image stays whole.
  std::uint32_t number = 1;
  Result<std::uint64_t> published = publisher->publish(numbered_contents(number));
  while (published) {
    publisher->reclaim(1);
    ASSERT_EQ(number_of(first), 0u);
    ASSERT_LT(number, 1000u);
    published = publisher->publish(numbered_contents(++number));
  }
  EXPECT_THAT(published.error().message, HasSubstr("no room"));
  EXPECT_THAT(published.error().message, HasSubstr("acknowledged"));
  EXPECT_EQ(number_of(first), 0u);
  EXPECT_EQ(adopted_number(reader), number - 1) << "the refused one left no trace";

  const std::uint64_t generation = publisher->generation();
  publisher->reclaim(generation);
  published = publisher->publish(numbered_contents(number));
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(*published, generation + 1) << "a refused publish uses no number up";
  EXPECT_EQ(adopted_number(reader), number);
}

TEST_F(PublisherTest, thousands_of_generations_need_no_more_memory_than_a_few) {
  const auto publisher = open(64 << 10);
  std::uint64_t used_max = 0;
  for (std::uint32_t number = 1; number <= 3000; ++number) {
    ASSERT_TRUE(publisher->publish(numbered_contents(number)));
    publisher->reclaim(publisher->generation());
    used_max = std::max(used_max, publisher->arena_used_bytes());
  }
  EXPECT_LT(used_max, 16u << 10);
}

TEST_F(PublisherTest, restarted_publisher_goes_on_and_shares_what_is_unchanged) {
  std::uint64_t table_offset = 0;
  {
    const auto first = open();
    ASSERT_TRUE(first->publish(numbered_contents(3)));
    ASSERT_TRUE(first->publish(numbered_contents(4)));
    table_offset = first->published().groups[0].table_offset;
  }
  const auto second = open();
  EXPECT_EQ(second->rejoin_error(), "");
  EXPECT_EQ(second->generation(), 2u);
  EXPECT_EQ(number_of(second->published()), 4u);
  second->reclaim(2);

  ASSERT_TRUE(second->publish(numbered_contents(6)));

  EXPECT_EQ(second->generation(), 3u);
  EXPECT_EQ(second->published().groups[0].table_offset, table_offset);
}

TEST_F(PublisherTest, restarted_publisher_touches_nothing_before_it_is_acknowledged) {
  {
    const auto first = open(64 << 10);
    ASSERT_TRUE(first->publish(numbered_contents(3)));
    ASSERT_TRUE(first->publish(numbered_contents(4)));
  }
  const auto second = open();
  second->reclaim(1);  // some worker may still read generation 1, whose blocks are not known here
  Result<std::uint64_t> early = second->publish(numbered_contents(5));
  ASSERT_FALSE(early);
  EXPECT_THAT(early.error().message, HasSubstr("acknowledged generation 2"));
  second->reclaim(2);
  EXPECT_TRUE(second->publish(numbered_contents(5)));
}

TEST_F(PublisherTest, damaged_segment_is_replaced_and_generations_go_on_after_the_floor) {
  {
    const auto first = open();
    ASSERT_TRUE(first->publish(numbered_contents(3)));
    Result<shm::Segment> raw = shm::Segment::join(path_, shm::kConfigSpec, os::Access::read_write);
    ASSERT_TRUE(raw);
    raw->bytes()[first->published().image->targets_offset] ^= std::byte{1};
  }
  shm::ConfigReader reader(path_);
  EXPECT_EQ(reader.poll().kind, Kind::refused);

  const auto second = open(1 << 20, 1000);

  EXPECT_THAT(second->rejoin_error(), HasSubstr("checksum"));
  ASSERT_TRUE(second->publish(numbered_contents(4)));
  EXPECT_EQ(second->generation(), 1001u);
  EXPECT_EQ(adopted_number(reader), 4u);
}

TEST_F(PublisherTest, segment_with_two_arrays_inside_of_another_is_replaced) {
  {
    const auto first = open();
    ASSERT_TRUE(first->publish(numbered_contents(3)));
    Result<shm::Segment> raw = shm::Segment::join(path_, shm::kConfigSpec, os::Access::read_write);
    ASSERT_TRUE(raw);
    const auto at =
        reinterpret_cast<const std::byte*>(first->published().image) - first->published().segment;
    auto& image = *reinterpret_cast<mr_image*>(raw->bytes().data() + at);
    image.local_addrs_offset = image.local_macs_offset =
        static_cast<std::uint64_t>(at) + MR_CACHE_LINE_BYTES;
    core::ConfigView view = first->published();
    view.image = &image;
    image.checksum = core::image_checksum(view);
  }
  const auto second = open();
  EXPECT_THAT(second->rejoin_error(), HasSubstr("overlap"));
  EXPECT_TRUE(second->publish(numbered_contents(4)));
}

TEST_F(PublisherTest, loss_of_the_file_is_noticed) {
  const auto publisher = open();
  EXPECT_FALSE(publisher->is_lost());
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  EXPECT_TRUE(publisher->is_lost());
}

TEST_F(PublisherTest, what_was_prepared_shows_to_nobody_until_it_is_committed) {
  const auto publisher = open();
  ASSERT_TRUE(publisher->publish(numbered_contents(1)));
  const std::uint64_t used = publisher->arena_used_bytes();
  shm::ConfigReader reader(path_);
  EXPECT_EQ(adopted_number(reader), 1u);

  ASSERT_TRUE(publisher->prepare(numbered_contents(2)));
  EXPECT_EQ(reader.poll().kind, Kind::none);
  publisher->abandon();
  EXPECT_EQ(publisher->arena_used_bytes(), used);
  EXPECT_EQ(reader.poll().kind, Kind::none);

  ASSERT_TRUE(publisher->prepare(numbered_contents(3)));
  ASSERT_TRUE(publisher->prepare(numbered_contents(4))) << "in place of the one before";
  ASSERT_EQ(*publisher->commit(), 2u);
  EXPECT_EQ(adopted_number(reader), 4u);
}

// Contents with `count` groups, each with a table of its own of about 1 KiB.
ImageContents many_groups(std::uint32_t number, std::uint32_t count) {
  ImageContents contents = numbered_contents(number);
  for (std::uint32_t i = 1; i < count; ++i) {
    GroupContents group = contents.groups[0];
    group.id = 1000 + i;
    auto table = std::make_shared<LookupTable>(*test::table_of(0));
    table->slots[i % table->slots.size()].cur = 1;
    table->slots[(i / table->slots.size() + number) % table->slots.size()].prev = 0;
    table->checksum = core::checksum64(std::as_bytes(std::span(table->slots)));
    group.table = std::move(table);
    contents.groups.push_back(std::move(group));
  }
  return contents;
}

TEST_F(PublisherTest, config_that_needs_more_room_gets_a_larger_segment) {
  const auto publisher = open(64 << 10);
  ASSERT_TRUE(publisher->publish(numbered_contents(1)));
  shm::ConfigReader reader(path_);
  EXPECT_EQ(reader.poll().kind, Kind::adopted);

  // No worker has left the first image, and none will before the test ends.
  for (std::uint32_t number = 2; number < 4; ++number) {
    const Result<std::uint64_t> published = publisher->publish(many_groups(number, 200));
    ASSERT_TRUE(published) << published.error().message;
    EXPECT_EQ(*published, number) << "generations go on";
    const shm::ConfigEvent event = reader.poll();
    ASSERT_EQ(event.kind, Kind::adopted) << event.reason;
    EXPECT_EQ(event.config.view.groups.size(), 200u);
  }
  EXPECT_GE(publisher->arena_bytes(), 3 * (200u << 10));
  EXPECT_FALSE(publisher->is_lost());
  publisher->beat(7);
  EXPECT_EQ(reader.control_plane_heartbeat_ns(), 7u) << "it is the larger one that engines read";
}

TEST_F(PublisherTest, room_that_nobody_tells_of_is_not_waited_for) {
  const auto publisher = open(64 << 10);
  shm::ConfigReader reader(path_);
  ASSERT_TRUE(publisher->publish(numbered_contents(0)));
  const shm::ConfigEvent first = reader.poll();
  ASSERT_EQ(first.kind, Kind::adopted) << first.reason;
  const std::uint64_t arena_bytes = publisher->arena_bytes();
  for (std::uint32_t number = 1; number < 3000; ++number) {
    publisher->reclaim(std::nullopt);  // an engine runs, and cannot be seen
    const Result<std::uint64_t> published = publisher->publish(numbered_contents(number));
    ASSERT_TRUE(published) << published.error().message;
  }
  EXPECT_EQ(number_of(first.config.view), 0u) << "what an engine may be reading stays whole";
  EXPECT_EQ(publisher->arena_bytes(), arena_bytes) << "it is as large as before";
  EXPECT_EQ(adopted_number(reader), 2999u);
  publisher->reclaim(publisher->generation());  // it can be seen again
  EXPECT_LT(publisher->arena_used_bytes(), arena_bytes / 4);
}

TEST_F(PublisherTest, every_group_may_change_at_once) {
  const auto publisher = open(64 << 10);
  for (std::uint32_t number = 1; number < 20; ++number) {
    const Result<std::uint64_t> published = publisher->publish(many_groups(number, 200));
    ASSERT_TRUE(published) << published.error().message;
    publisher->reclaim(publisher->generation());
  }
}

TEST_F(PublisherTest, larger_segment_that_is_not_wanted_leaves_nothing_behind) {
  const auto publisher = open(64 << 10);
  ASSERT_TRUE(publisher->publish(numbered_contents(1)));
  ASSERT_TRUE(publisher->prepare(many_groups(2, 200)));
  EXPECT_EQ(::access((path_ + ".new").c_str(), F_OK), 0);
  publisher->abandon();
  EXPECT_NE(::access((path_ + ".new").c_str(), F_OK), 0);

  ASSERT_TRUE(publisher->publish(numbered_contents(5)));
  shm::ConfigReader reader(path_);
  EXPECT_EQ(adopted_number(reader), 5u);

  ASSERT_TRUE(publisher->prepare(many_groups(2, 200)));  // and killed here
  EXPECT_EQ(open()->generation(), 2u);
  EXPECT_NE(::access((path_ + ".new").c_str(), F_OK), 0);
}

TEST_F(PublisherTest, image_that_an_engine_would_refuse_is_not_published) {
  const auto publisher = open();
  ASSERT_TRUE(publisher->publish(numbered_contents(1)));
  ImageContents bad = numbered_contents(2);
  bad.groups[0].members = {0, 7};
  Result<std::uint64_t> published = publisher->publish(bad);
  ASSERT_FALSE(published);
  EXPECT_THAT(published.error().message, HasSubstr("refused to publish"));
  shm::ConfigReader reader(path_);
  EXPECT_EQ(adopted_number(reader), 1u);
  EXPECT_TRUE(publisher->publish(numbered_contents(2)));
}

// Each has two entries in the table of replies, and a power of two may double the table.
TEST_F(PublisherTest, room_for_targets_of_both_protocols_is_foreseen) {
  ImageContents contents = numbered_contents(1);
  contents.targets.resize(1025, contents.targets[0]);
  for (std::uint32_t slot = 0; slot < contents.targets.size(); ++slot) {
    contents.targets[slot].addr.bytes[14] = static_cast<std::uint8_t>(slot >> 8);
    contents.targets[slot].addr.bytes[15] = static_cast<std::uint8_t>(slot);
    contents.targets[slot].protocol = MR_PROTOCOL_TCP_UDP;
  }
  const auto publisher = open(16 << 20);
  const Result<std::uint64_t> published = publisher->publish(contents);
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_LE(publisher->arena_used_bytes(), ImageWriter::bytes_of_image(contents));
}

}  // namespace
}  // namespace millrace::control

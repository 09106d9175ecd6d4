// SPDX-License-Identifier: Apache-2.0
//
// Laws of a segment's books, against random histories of contents, acknowledgements, restarts and a
// segment that is sometimes too small.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "controlplane/publish/image_writer.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/publish/numbered_contents.h"

namespace millrace::control {
namespace {

constexpr std::uint32_t kTargets = 4;

// Up to four groups with few different members and tables, so that much is shared, given up and
// found again.
ImageContents random_contents(const std::vector<std::shared_ptr<const LookupTable>>& tables) {
  ImageContents contents = test::numbered_contents(*rc::gen::inRange(0u, 3u));
  contents.groups.resize(*rc::gen::inRange<std::size_t>(1, 5));
  contents.targets.resize(kTargets, contents.targets[0]);
  for (mr_target& target : contents.targets) target.flags = *rc::gen::inRange<std::uint8_t>(0, 4);
  for (std::uint32_t slot = 0; slot < contents.groups.size(); ++slot) {
    GroupContents& group = contents.groups[slot];
    // The one that the listener and all targets belong to stays.
    group.id = slot == 0 ? 1 : *rc::gen::inRange(0u, 2u) * (slot + 1);
    group.members.resize(*rc::gen::inRange<std::size_t>(2, kTargets));
    for (std::uint32_t& member : group.members) member = *rc::gen::inRange(0u, kTargets);
    // The very same table, an equal one, or none.
    const auto kind = *rc::gen::inRange<std::size_t>(0, tables.size() + 2);
    group.table = kind < tables.size()    ? tables[kind]
                  : kind == tables.size() ? test::table_of(*rc::gen::inRange<std::uint16_t>(0, 2))
                                          : nullptr;
  }
  return contents;
}

std::unique_ptr<ImageWriter> create(const std::string& path, std::uint64_t bytes) {
  auto created = ImageWriter::create({.path = path, .segment_bytes = bytes, .step_hook = {}});
  RC_ASSERT(static_cast<bool>(created));
  return std::move(*created);
}

bool publish(ImageWriter& writer, const ImageContents& contents) {
  if (!writer.prepare(contents)) return false;
  RC_ASSERT(static_cast<bool>(writer.commit()));
  return true;
}

// Every image that a worker may still read passes every check of an engine that knows none.
void check_readable_images(const ImageWriter& writer, std::uint64_t oldest_read) {
  const std::uint64_t newest = writer.generation();
  const std::uint64_t oldest_root = newest >= MR_ROOT_COUNT ? newest - MR_ROOT_COUNT + 1 : 1;
  for (std::uint64_t i = std::max({oldest_read, oldest_root, std::uint64_t{1}}); i <= newest; ++i) {
    const auto view = core::check_image(writer.segment_bytes(), i, nullptr);
    RC_ASSERT((view ? "" : view.error().message) == "");
  }
}

TEST(ImageWriterLaw, what_may_be_read_stays_whole_and_nothing_else_is_kept) {
  const bool holds = rc::check("what_may_be_read_stays_whole_and_nothing_else_is_kept", [] {
    const test::TempDir directory;
    const std::string path = directory.file("config");
    const auto bytes = *rc::gen::element<std::uint64_t>(12 << 10, 64 << 10, 1 << 20);
    const std::vector tables{test::table_of(0), test::table_of(1), test::table_of(0, 127)};
    auto writer = create(path, bytes);
    std::uint64_t oldest_read = 0;
    ImageContents published;
    for (const auto step : *rc::gen::arbitrary<std::vector<std::uint8_t>>()) {
      if (step % 16 == 0) {
        writer = nullptr;
        auto joined = ImageWriter::join({.path = path, .segment_bytes = bytes, .step_hook = {}});
        RC_ASSERT(static_cast<bool>(joined));
        writer = std::move(*joined);
      } else if (step % 4 == 0) {
        oldest_read += step % (writer->generation() - oldest_read + 1);
        writer->reclaim(oldest_read);
      } else {
        ImageContents contents = random_contents(tables);
        if (publish(*writer, contents)) published = std::move(contents);
      }
      check_readable_images(*writer, oldest_read);
    }
    if (writer->generation() == 0) return;
    writer->reclaim(writer->generation());
    check_readable_images(*writer, writer->generation());
    const auto fresh = create(directory.file("fresh"), 1 << 20);
    RC_ASSERT(publish(*fresh, published));
    RC_ASSERT(writer->arena_used_bytes() <= fresh->arena_used_bytes());
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace millrace::control

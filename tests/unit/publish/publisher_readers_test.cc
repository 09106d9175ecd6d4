// SPDX-License-Identifier: Apache-2.0
//
// The publish protocol with readers at work: meant for the TSan build, where every access that the
// protocol does not order is a report. Readers use the publisher's own map, because TSan does not
// see that two maps are the same memory.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "controlplane/publish/publisher.h"
#include "dataplane/shm/atomic.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/publish/numbered_contents.h"

namespace millrace::control {
namespace {

constexpr int kReaders = 3;
constexpr std::uint32_t kGenerations = 400;

struct Acknowledgement {
  alignas(MR_WRITER_SEPARATION_BYTES) std::uint64_t generation = 0;
};

TEST(PublisherReaders, no_reader_ever_sees_a_torn_image) {
  const test::TempDir dir;
  // Small, so that memory is reused all the time.
  Result<std::unique_ptr<Publisher>> opened =
      Publisher::open({.path = dir.file("config"), .segment_bytes = 48 << 10});
  ASSERT_TRUE(opened);
  Publisher& publisher = **opened;
  std::array<Acknowledgement, kReaders> acknowledged;
  std::atomic<bool> is_over = false;
  std::atomic<int> torn = 0;
  std::atomic<int> adopted = 0;

  auto read = [&](Acknowledgement& mine) {
    const std::span<const std::byte> segment = publisher.segment_bytes();
    const auto& header = *reinterpret_cast<const mr_config_header*>(segment.data());
    core::ConfigView view;
    while (!is_over.load(std::memory_order_acquire)) {
      const std::uint64_t generation = shm::load_acquire(header.generation);
      if (generation != view.generation) {
        Result<core::ConfigView> checked =
            core::check_image(segment, generation, view.image == nullptr ? nullptr : &view);
        if (!checked) ++torn;
        if (!checked) break;
        view = *checked;
        ++adopted;
        shm::store_release(mine.generation, generation);
      }
      if (view.image != nullptr && !test::number_of(view)) ++torn;
    }
  };
  std::vector<std::thread> readers;
  readers.reserve(acknowledged.size());
  for (Acknowledgement& mine : acknowledged) readers.emplace_back(read, std::ref(mine));

  auto slowest = [&] {
    std::uint64_t lowest = ~0ull;
    for (const Acknowledgement& one : acknowledged) {
      lowest = std::min(lowest, shm::load_acquire(one.generation));
    }
    return lowest;
  };
  for (std::uint32_t number = 1; number <= kGenerations && torn == 0;) {
    publisher.reclaim(slowest());
    // Half the roots ahead at most: a reader between generation and root must find its root.
    if (publisher.generation() >= slowest() + MR_ROOT_COUNT / 2 ||
        !publisher.publish(test::numbered_contents(number))) {
      std::this_thread::yield();
      continue;
    }
    ++number;
  }
  while (torn == 0 && slowest() < publisher.generation()) std::this_thread::yield();
  is_over.store(true, std::memory_order_release);
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(torn, 0);
  EXPECT_EQ(publisher.generation(), kGenerations);
  EXPECT_GE(adopted, static_cast<int>(kGenerations / MR_ROOT_COUNT));
}

}  // namespace
}  // namespace millrace::control

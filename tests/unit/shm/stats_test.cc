// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "dataplane/os/process_lock.h"
#include "dataplane/shm/atomic.h"
#include "dataplane/shm/renewal.h"
#include "dataplane/shm/stats_reader.h"
#include "dataplane/shm/stats_writer.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/shm/segment_files.h"

namespace millrace::shm {
namespace {

using ::testing::HasSubstr;

StatsOptions two_workers() {
  mr_nic nic{};
  std::strcpy(nic.name, "lb0");
  std::strcpy(nic.twin, "mr0");
  nic.twin_index = 7;
  nic.link_up = 1;
  return {.engine_kind = MR_ENGINE_DPDK,
          .engine_start_ns = 123,
          .worker_count = 2,
          .listener_slots = 8,
          .target_slots = 16,
          .nics = {nic},
          .flow_table_dir = "/dev/hugepages/millrace"};
}

Result<StatsWriter> published(const std::string& path) {
  Result<StatsWriter> writer = StatsWriter::create(path, two_workers());
  if (!writer) return writer.error();
  if (Status done = writer->publish(); !done) return done.error();
  return writer;
}

TEST(Stats, layout_keeps_writers_apart_and_everything_inside) {
  for (std::uint32_t workers : {1u, 2u, MR_WORKER_COUNT_MAX}) {
    for (std::uint32_t slots : {1u, 3u, 1024u}) {
      const StatsLayout layout = stats_layout(workers, slots, slots * 2);
      EXPECT_GE(layout.workers_offset, sizeof(mr_stats_header));
      EXPECT_EQ(layout.workers_offset % MR_WRITER_SEPARATION_BYTES, 0u);
      EXPECT_EQ(layout.worker_stride_bytes % MR_WRITER_SEPARATION_BYTES, 0u);
      EXPECT_GE(layout.target_stats_offset,
                layout.listener_stats_offset + slots * sizeof(mr_listener_stats));
      EXPECT_GE(layout.worker_stride_bytes,
                layout.target_stats_offset + 2 * sizeof(mr_target_stats) * slots);
      EXPECT_EQ(layout.total_bytes, layout.workers_offset + workers * layout.worker_stride_bytes);
    }
  }
}

TEST(Stats, reader_sees_what_engine_and_workers_say) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  ASSERT_TRUE(writer) << writer.error().message;
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(reader) << reader.error().message;

  writer->set_heartbeat(55);
  writer->set_adopted(7);
  writer->set_refused(8, "image 8: checksum " + std::string(200, 'x'));
  writer->set_link(0, false);
  writer->set_program(0, false);
  EXPECT_TRUE(writer->set_unserved_queues(0, 3));
  writer->set_idle_members(0, 1);
  EXPECT_FALSE(writer->set_unserved_queues(0, 3)) << "as before";
  mr_nic counted{};
  counted.rx_missed = 11;
  counted.rx_errors = 12;
  counted.rx_no_buffer = 13;
  counted.tx_dropped = 14;
  writer->set_drops(0, counted);

  const EngineInfo engine = reader->engine();
  EXPECT_EQ(engine.engine_pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(engine.engine_start_ns, 123u);
  EXPECT_EQ(engine.heartbeat_ns, 55u);
  EXPECT_EQ(engine.adopted_generation, 7u);
  EXPECT_EQ(engine.refused_generation, 8u);
  EXPECT_EQ(engine.refused_reason.size(), sizeof(mr_stats_header::refused_reason) - 1);
  EXPECT_THAT(engine.refused_reason, HasSubstr("image 8: checksum x"));
  EXPECT_EQ(engine.flow_table_dir, "/dev/hugepages/millrace");
  ASSERT_EQ(engine.nics.size(), 1u);
  EXPECT_STREQ(engine.nics[0].name, "lb0");
  EXPECT_STREQ(engine.nics[0].twin, "mr0");
  EXPECT_EQ(engine.nics[0].twin_index, 7u);
  EXPECT_EQ(engine.nics[0].link_up, 0);
  EXPECT_EQ(engine.nics[0].unserved_queues, 3);
  EXPECT_EQ(engine.nics[0].idle_members, 1);
  EXPECT_EQ(engine.nics[0].lacks_program, 1);
  EXPECT_EQ(engine.nics[0].rx_missed, 11u);
  EXPECT_EQ(engine.nics[0].rx_errors, 12u);
  EXPECT_EQ(engine.nics[0].rx_no_buffer, 13u);
  EXPECT_EQ(engine.nics[0].tx_dropped, 14u);
}

TEST(Stats, slots_are_summed_over_workers) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(writer && reader);

  add_relaxed(writer->targets(0)[3].active_flows, 5);
  add_relaxed(writer->targets(1)[3].active_flows, 6);
  add_relaxed(writer->listeners(0)[7].new_flows, 1);
  add_relaxed(writer->listeners(1)[7].balancer_resets, 2);
  add_relaxed(writer->worker(1).counters[MR_COUNTER_RX_PACKETS], 9);

  EXPECT_EQ(reader->target(3)->active_flows, 11u);
  EXPECT_EQ(reader->target(2)->active_flows, 0u);
  EXPECT_EQ(reader->listener(7)->new_flows, 1u);
  EXPECT_EQ(reader->listener(7)->balancer_resets, 2u);
  EXPECT_EQ(reader->worker(1).counters[MR_COUNTER_RX_PACKETS], 9u);
  EXPECT_FALSE(reader->target(16).has_value());
  EXPECT_FALSE(reader->listener(8).has_value());
}

TEST(Stats, acknowledged_by_all_is_the_slowest_worker) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(writer && reader);
  store_release(writer->worker(0).acknowledged_generation, 9);
  EXPECT_EQ(reader->acknowledged_by_all(), 0u);
  store_release(writer->worker(1).acknowledged_generation, 4);
  EXPECT_EQ(reader->acknowledged_by_all(), 4u);
}

TEST(Stats, restarted_engine_makes_the_old_reader_stale) {
  const test::TempDir dir;
  Result<StatsWriter> first = published(dir.file("stats"));
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(first && reader);
  EXPECT_FALSE(reader->is_stale());
  ASSERT_TRUE(published(dir.file("stats")));
  EXPECT_TRUE(reader->is_stale());
}

TEST(Stats, fault_91_start_that_fails_leaves_what_the_engine_before_said) {
  const test::TempDir dir;
  ASSERT_TRUE(published(dir.file("stats")));
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(reader);
  { ASSERT_TRUE(StatsWriter::create(dir.file("stats"), two_workers())); }
  EXPECT_FALSE(reader->is_stale());
  EXPECT_TRUE(StatsReader::join(dir.file("stats")));
}

TEST(Stats, one_writer_and_one_reader_agree_on_whole_numbers) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(writer && reader);
  constexpr std::uint64_t kStep = 0x1'0000'0001;  // a torn read shows as unequal halves
  constexpr int kRounds = 20000;
  std::thread counting([&] {
    for (int i = 0; i < kRounds; ++i) {
      add_relaxed(writer->worker(0).counters[MR_COUNTER_RX_PACKETS], kStep);
    }
    writer->set_refused(3, "done");
  });
  std::uint64_t last = 0;
  while (last < kStep * kRounds) {
    const std::uint64_t now = reader->worker(0).counters[MR_COUNTER_RX_PACKETS];
    ASSERT_EQ(now >> 32, now & 0xffffffffu);
    ASSERT_GE(now, last);
    (void)reader->engine();
    last = now;
  }
  counting.join();
}

TEST(Stats, impossible_options_are_refused) {
  const test::TempDir dir;
  StatsOptions options = two_workers();
  options.worker_count = MR_WORKER_COUNT_MAX + 1;
  EXPECT_FALSE(StatsWriter::create(dir.file("stats"), options));
  options = two_workers();
  options.flow_table_dir = std::string(120, 'd');
  EXPECT_FALSE(StatsWriter::create(dir.file("stats"), options));
  options = two_workers();
  options.nics.resize(MR_NIC_COUNT_MAX + 1);
  EXPECT_FALSE(StatsWriter::create(dir.file("stats"), options));
}

TEST(Stats, fault_36_damaged_headers_never_lead_to_a_wild_read) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* given = std::getenv("MILLRACE_TEST_SEED");
  const unsigned seed =
      given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 4711u;
  std::printf("seed %u (MILLRACE_TEST_SEED)\n", seed);
  std::mt19937 random(seed);
  const test::TempDir dir;
  const std::string path = dir.file("stats");
  { ASSERT_TRUE(published(path)); }
  const std::vector<std::byte> good = test::read_file(path);
  constexpr std::size_t kLayoutStart = sizeof(mr_segment_header);
  int joined = 0;
  for (int round = 0; round < 1000; ++round) {
    std::vector<std::byte> bytes = good;
    for (unsigned i = 0; i <= random() % 3; ++i) {
      bytes[kLayoutStart + random() % 64] = static_cast<std::byte>(random());
    }
    test::write_file(path, bytes);
    Result<StatsReader> reader = StatsReader::join(path);
    if (!reader) continue;
    ++joined;
    (void)reader->engine();
    (void)reader->acknowledged_by_all();
    for (std::uint32_t worker = 0; worker < reader->worker_count(); ++worker) {
      (void)reader->worker(worker);
    }
    if (reader->listener_slots() > 0) (void)reader->listener(reader->listener_slots() - 1);
    if (reader->target_slots() > 0) (void)reader->target(reader->target_slots() - 1);
  }
  EXPECT_GT(joined, 0);
}

TEST(Stats, fault_36_truncated_or_zeroed_segment_is_refused) {
  const test::TempDir dir;
  const std::string path = dir.file("stats");
  { ASSERT_TRUE(published(path)); }
  const std::vector<std::byte> good = test::read_file(path);
  for (std::size_t length : {0ul, 127ul, 128ul, 200ul, sizeof(mr_stats_header) - 1,
                             sizeof(mr_stats_header), good.size() - 1}) {
    test::write_file(path, std::span(good).first(length));
    EXPECT_FALSE(StatsReader::join(path)) << length;
  }
  test::write_file(path, std::vector<std::byte>(good.size()));
  EXPECT_FALSE(StatsReader::join(path));
}

TEST(Stats, fault_92_removed_segment_is_made_again_with_all_that_it_says) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  ASSERT_TRUE(writer);
  mr_worker_stats& worker = writer->worker(1);
  store_relaxed(worker.counters[MR_COUNTER_RX_PACKETS], 41);
  writer->set_refused(8, "image 8: checksum");
  Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(reader);
  ASSERT_EQ(::unlink(dir.file("stats").c_str()), 0);
  EXPECT_TRUE(writer->is_lost());

  ASSERT_TRUE(writer->renew());

  EXPECT_FALSE(writer->is_lost());
  EXPECT_TRUE(reader->is_stale());
  add_relaxed(worker.counters[MR_COUNTER_RX_PACKETS], 1);  // where the worker has always counted
  reader = StatsReader::join(dir.file("stats"));
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(reader->worker(1).counters[MR_COUNTER_RX_PACKETS], 42u);
  EXPECT_EQ(reader->engine().refused_reason, "image 8: checksum");
  EXPECT_EQ(reader->engine().engine_start_ns, 123u);
}

void cut(const std::string& path, std::uint64_t bytes) {
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(bytes)), 0);
}

TEST(Stats, fault_36_segment_that_is_cut_short_in_use_reads_as_zeroes_and_is_stale) {
  const test::TempDir dir;
  const std::string path = dir.file("stats");
  const Result<StatsWriter> writer = published(path);
  ASSERT_TRUE(writer);
  const Result<StatsReader> reader = StatsReader::join(path);
  ASSERT_TRUE(reader);
  const auto bytes = std::filesystem::file_size(path);
  cut(path, 0);
  EXPECT_TRUE(reader->is_stale());
  EXPECT_EQ(reader->engine().engine_start_ns, 0u);
  EXPECT_EQ(reader->acknowledged_by_all(), 0u);
  EXPECT_EQ(reader->target(3)->packets, 0u);
  cut(path, bytes);
  EXPECT_TRUE(reader->is_stale()) << "as long as before, and empty";
}

TEST(Stats, fault_36_empty_segment_of_the_same_length_is_stale) {
  const test::TempDir dir;
  const std::string path = dir.file("stats");
  const Result<StatsWriter> writer = published(path);
  ASSERT_TRUE(writer);
  const Result<StatsReader> reader = StatsReader::join(path);
  ASSERT_TRUE(reader);
  const auto bytes = std::filesystem::file_size(path);
  cut(path, 0);
  cut(path, bytes);
  EXPECT_TRUE(reader->is_stale() && writer->is_lost());
}

TEST(Stats, fault_36_engine_goes_on_and_makes_a_cut_segment_again) {
  const test::TempDir dir;
  const std::string path = dir.file("stats");
  Result<StatsWriter> writer = published(path);
  ASSERT_TRUE(writer);
  mr_worker_stats& worker = writer->worker(1);
  worker.cpu = 7;
  store_relaxed(worker.acknowledged_generation, 5);
  writer->set_adopted(5);
  for (const std::uint64_t bytes : {0u, 4096u, 100u}) {
    writer->keep();
    cut(path, bytes);
    ASSERT_TRUE(writer->is_lost());
    writer->keep();  // must not take zeroes for what was said
    store_relaxed(worker.counters[MR_COUNTER_RX_PACKETS], 42 + bytes);
    writer->set_heartbeat(99 + bytes);
    ASSERT_TRUE(writer->renew());
    EXPECT_FALSE(writer->is_lost());
    const Result<StatsReader> reader = StatsReader::join(path);
    ASSERT_TRUE(reader) << reader.error().message;
    const EngineInfo engine = reader->engine();
    EXPECT_EQ(engine.engine_start_ns, 123u);
    EXPECT_EQ(engine.flow_table_dir, "/dev/hugepages/millrace");
    EXPECT_STREQ(engine.nics.at(0).twin, "mr0");
    EXPECT_EQ(engine.adopted_generation, 5u);
    EXPECT_GE(engine.heartbeat_ns, 99u);
    EXPECT_EQ(reader->worker(1).cpu, 7u);
    EXPECT_GE(reader->worker(1).counters[MR_COUNTER_RX_PACKETS], 42u);
    EXPECT_EQ(reader->acknowledged_generation(1), 5u);
  }
}

TEST(Stats, fault_92_counters_of_a_busy_worker_never_go_back_when_the_segment_is_made_again) {
  const test::TempDir dir;
  Result<StatsWriter> writer = published(dir.file("stats"));
  ASSERT_TRUE(writer);
  std::uint64_t& counter = writer->worker(0).counters[MR_COUNTER_RX_PACKETS];
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load(std::memory_order_relaxed)) add_relaxed(counter, 1);
  });
  std::uint64_t seen = 0;
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(::unlink(dir.file("stats").c_str()), 0);
    seen = std::max(seen, load_relaxed(counter));
    ASSERT_TRUE(writer->renew());
    Result<StatsReader> reader = StatsReader::join(dir.file("stats"));
    ASSERT_TRUE(reader);
    EXPECT_GE(reader->worker(0).counters[MR_COUNTER_RX_PACKETS], seen);
  }
  stop = true;
  busy.join();
}

TEST(Renewal, fault_92_emptied_runtime_directory_is_filled_again) {
  const test::TempDir parent;
  const std::string dir = parent.file("run");
  std::filesystem::create_directory(dir);
  Result<os::ProcessLock> lock = os::ProcessLock::acquire(dir + "/lock");
  Result<StatsWriter> writer = published(dir + "/stats");
  ASSERT_TRUE(lock);
  ASSERT_TRUE(writer);
  const Result<bool> untouched = renew_lost(dir, *lock, *writer);
  ASSERT_TRUE(untouched);
  EXPECT_FALSE(*untouched);
  std::filesystem::remove_all(dir);
  const Result<bool> made = renew_lost(dir, *lock, *writer);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(*made);
  EXPECT_TRUE(os::ProcessLock::is_held(dir + "/lock"));
  EXPECT_TRUE(StatsReader::join(dir + "/stats"));
}

TEST(Renewal, fault_92_engine_that_took_the_place_of_this_one_keeps_its_segment) {
  const test::TempDir dir;
  Result<os::ProcessLock> lock = os::ProcessLock::acquire(dir.file("lock"));
  Result<StatsWriter> writer = published(dir.file("stats"));
  ASSERT_TRUE(lock);
  ASSERT_TRUE(writer);
  ASSERT_EQ(::unlink(dir.file("lock").c_str()), 0);
  Result<os::ProcessLock> other_lock = os::ProcessLock::acquire(dir.file("lock"));
  Result<StatsWriter> other = published(dir.file("stats"));
  ASSERT_TRUE(other_lock);
  ASSERT_TRUE(other);
  EXPECT_FALSE(renew_lost(dir.path(), *lock, *writer));
  EXPECT_FALSE(other->is_lost());
}

}  // namespace
}  // namespace millrace::shm

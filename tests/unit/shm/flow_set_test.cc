// SPDX-License-Identifier: Apache-2.0
//
// What one engine leaves and another takes over: any number of workers after any other, nothing
// stale, and nothing lost by a start that fails (faults 88 and 91).
#include "dataplane/shm/flow_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>

#include "dataplane/core/steering.h"
#include "tests/support/cc/image_builder.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/shm/step_killer.h"

namespace millrace::shm {
namespace {

namespace fs = std::filesystem;
using core::ClientKey;
using core::FlowTable;
using ::testing::HasSubstr;
using Shape = FlowSet::Shape;

// IPv4 and IPv6, TCP and UDP by turns.
ClientKey key_of(std::uint32_t i) {
  mr_addr addr = core::v4_mapped(0x0a000000u + i);
  if ((i & 1) != 0) addr.bytes[0] = 0x20;
  const std::uint8_t protocol = (i & 2) == 0 ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP;
  return ClientKey::of(core::words_of(addr), static_cast<std::uint16_t>(i + 1), protocol);
}

mr_flow_state state_of(std::uint32_t i) { return (i & 2) == 0 ? MR_FLOW_ESTABLISHED : MR_FLOW_UDP; }

std::array<std::uint8_t, 8> mac_of(std::uint32_t i) {
  return {2, 0, 0, 0, 0, static_cast<std::uint8_t>(i % 7), 0, 0};
}

std::uint32_t find(const FlowTable& table, std::uint32_t i) {
  return table.find(table.hash(key_of(i)), key_of(i), [](const mr_flow_record&) { return true; });
}

class FlowSetTest : public ::testing::Test {
 protected:
  [[nodiscard]] FlowSet open() {
    Result<FlowSet> set = FlowSet::open(directory_, spare_.path());
    EXPECT_TRUE(set) << set.error().message;
    return std::move(*set);
  }

  // An engine that takes over what is there and adds the flows [first, last).
  FlowSet::TakenOver run_engine(const Shape& shape, std::uint32_t first, std::uint32_t last) {
    FlowSet set = open();
    Result<FlowSet::TakenOver> taken = set.take_over(shape);
    EXPECT_TRUE(taken) << taken.error().message;
    if (!taken) return {};
    for (std::uint32_t i = first; i < last; ++i) add(*taken, i, state_of(i));
    EXPECT_TRUE(set.commit());
    return std::move(*taken);
  }

  static void add(FlowSet::TakenOver& engine, std::uint32_t i, mr_flow_state state) {
    const auto workers = static_cast<std::uint32_t>(engine.tables.size());
    FlowTable& table = engine.tables[core::owner_of(key_of(i), workers)];
    const std::uint32_t index = table.insert(table.hash(key_of(i)), key_of(i), state);
    ASSERT_NE(index, MR_RECORD_NONE) << i;
    mr_flow_record& record = table.record(index);
    record.listener_id = 1;
    record.target_id = i + 1;
    record.packets = 3;
    record.last_hop = table.last_hops().learn(mac_of(i).data(), 1);
  }

  // How many of the flows [first, last) a next engine of this shape would find, each with its
  // target and its last hop, on the worker that its packets come to. Changes nothing.
  std::uint32_t found(const Shape& shape, std::uint32_t first, std::uint32_t last) {
    FlowSet set = open();
    Result<FlowSet::TakenOver> taken = set.take_over(shape);
    EXPECT_TRUE(taken) << taken.error().message;
    std::uint32_t count = 0;
    for (std::uint32_t i = first; taken && i < last; ++i) {
      const FlowTable& table = taken->tables[core::owner_of(key_of(i), shape.worker_count)];
      const std::uint32_t index = find(table, i);
      if (index == MR_RECORD_NONE) continue;
      const mr_flow_record& record = table.record(index);
      const mr_last_hop& hop = table.last_hops().at(record.last_hop);
      EXPECT_EQ(record.target_id, i + 1);
      EXPECT_EQ(record.packets, 3u) << "not counted yet";
      EXPECT_EQ(std::memcmp(hop.mac, mac_of(i).data(), sizeof(hop.mac)), 0);
      EXPECT_EQ(hop.nic, 1);
      ++count;
    }
    return count;
  }

  std::map<std::string, os::FileIdentity> files() const {
    std::map<std::string, os::FileIdentity> found;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      found[entry.path().filename()] = os::identity_of(entry.path().string());
    }
    return found;
  }

  test::TempDir parent_;
  test::TempDir spare_;
  std::string directory_ = parent_.file("flows");
};

TEST_F(FlowSetTest, fault_88_any_number_of_workers_takes_over_what_any_other_left) {
  for (std::uint32_t from = 1; from <= 4; ++from) {
    for (std::uint32_t to = 1; to <= 4; ++to) {
      fs::remove_all(directory_);
      run_engine({.worker_count = from, .capacity = 1000}, 0, 400);
      const Shape shape{.worker_count = to, .capacity = 1000};
      EXPECT_EQ(found(shape, 0, 400), 400u) << from << " -> " << to;
      EXPECT_EQ(run_engine(shape, 400, 401).flows, 400u);
      EXPECT_EQ(files().size(), to);
    }
  }
}

TEST_F(FlowSetTest, fault_92_set_is_made_again_whether_its_files_or_the_directory_were_removed) {
  const Shape shape{.worker_count = 1, .capacity = 100};
  FlowSet set = open();
  ASSERT_TRUE(set.make(shape));
  ASSERT_TRUE(set.commit());
  for (const std::string& removed : {directory_ + "/flows.0", directory_}) {
    fs::remove_all(removed);
    ASSERT_TRUE(set.files().front().is_replaced());
    Result<FlowSet> again = set.open_again();
    ASSERT_TRUE(again) << removed << ": " << again.error().message;
    ASSERT_TRUE(again->make(shape));
    ASSERT_TRUE(again->commit());
    set = std::move(*again);
    EXPECT_FALSE(set.files().front().is_replaced());
    EXPECT_FALSE(FlowSet::open(directory_, spare_.path())) << "still this one's";
  }
}

TEST_F(FlowSetTest, fault_88_workers_change_and_change_back_and_nothing_ended_returns) {
  const Shape two{.worker_count = 2, .capacity = 1000};
  const Shape one{.worker_count = 1, .capacity = 1000};
  run_engine(two, 0, 200);
  {
    FlowSet set = open();
    Result<FlowSet::TakenOver> taken = set.take_over(one);
    ASSERT_TRUE(taken);
    for (std::uint32_t i = 0; i < 100; ++i) {
      taken->tables[0].remove(taken->tables[0].record(find(taken->tables[0], i)));
    }
    ASSERT_TRUE(set.commit());
  }
  EXPECT_EQ(found(two, 0, 100), 0u);
  EXPECT_EQ(found(two, 100, 200), 100u);
}

TEST_F(FlowSetTest, fault_88_table_of_an_older_set_is_not_believed_whatever_its_name) {
  const Shape two{.worker_count = 2, .capacity = 1000};
  run_engine(two, 0, 200);
  const std::string kept = parent_.file("kept");
  fs::copy_file(directory_ + "/flows.1", kept);
  run_engine({.worker_count = 1, .capacity = 1000}, 200, 200);
  // Where somebody, or a removal that failed, leaves it beside the newer table.
  for (const char* name : {"/flows.1", "/flows.1.new", "/flows.0.new"}) {
    fs::copy_file(kept, directory_ + name);
    FlowSet set = open();
    ASSERT_EQ(set.left().size(), 1u) << name;
    EXPECT_EQ(set.left()[0].worker_count, 1u);
    fs::remove(directory_ + name);
  }
  // And what replaces it is newer than that one, too.
  fs::copy_file(kept, directory_ + "/flows.1");
  EXPECT_EQ(run_engine(two, 200, 200).flows, 200u);
  EXPECT_EQ(found(two, 0, 200), 200u);
}

TEST_F(FlowSetTest, tables_of_the_same_number_and_size_are_used_in_place) {
  const Shape shape{.worker_count = 2, .capacity = 1000};
  run_engine(shape, 0, 100);
  const auto before = files();
  EXPECT_EQ(run_engine(shape, 100, 200).flows, 100u);
  EXPECT_EQ(files(), before);
  EXPECT_EQ(found(shape, 0, 200), 200u);
}

TEST_F(FlowSetTest, flows_move_to_tables_of_another_size) {
  run_engine({.worker_count = 2, .capacity = 400}, 0, 400);
  EXPECT_EQ(found({.worker_count = 2, .capacity = 5000}, 0, 400), 400u);
  EXPECT_EQ(found({.worker_count = 3, .capacity = 300}, 0, 400), 400u);
}

TEST_F(FlowSetTest, what_is_over_gives_way_to_what_lives_where_there_is_no_room_for_all) {
  {
    FlowSet set = open();
    Result<FlowSet::TakenOver> taken = set.take_over({.worker_count = 1, .capacity = 1000});
    ASSERT_TRUE(taken);
    for (std::uint32_t i = 0; i < 400; i += 4) add(*taken, i, MR_FLOW_CLOSED);
    for (std::uint32_t i = 400; i < 800; i += 4) add(*taken, i, MR_FLOW_EXPIRED);
    for (std::uint32_t i = 800; i < 900; ++i) add(*taken, i, state_of(i));
    ASSERT_TRUE(set.commit());
  }
  // The table's secret is random, and a nearly full one has no room for one flow in thousands: this
  // one has room for all that live, by far, and not for all.
  const Shape small{.worker_count = 1, .capacity = 256};
  EXPECT_EQ(found(small, 800, 900), 100u);
  FlowSet set = open();
  Result<FlowSet::TakenOver> taken = set.take_over({.worker_count = 1, .capacity = 64});
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->flows + taken->refused, 100u) << "those that are over are not missed";
  EXPECT_LE(taken->flows, 64u);
  EXPECT_GE(taken->flows, 60u);
}

TEST_F(FlowSetTest, confirmed_flows_are_the_last_to_find_no_room) {
  {
    FlowSet set = open();
    Result<FlowSet::TakenOver> taken = set.take_over({.worker_count = 1, .capacity = 1000});
    ASSERT_TRUE(taken);
    for (std::uint32_t i = 0; i < 200; ++i) add(*taken, i, state_of(i));
    for (std::uint32_t i = 170; i < 200; ++i) {
      taken->tables[0].record(find(taken->tables[0], i)).flags = MR_FLOW_CONFIRMED;
    }
    ASSERT_TRUE(set.commit());
  }
  EXPECT_EQ(found({.worker_count = 1, .capacity = 40}, 170, 200), 30u);
}

TEST_F(FlowSetTest, fault_36_damaged_table_is_named_and_the_others_are_taken_over) {
  const Shape shape{.worker_count = 3, .capacity = 1000};
  run_engine(shape, 0, 300);
  {
    std::fstream file(directory_ + "/flows.1", std::ios::in | std::ios::out | std::ios::binary);
    file.write("damage!!", 8);
  }
  fs::remove(directory_ + "/flows.2");
  {
    FlowSet set = open();
    ASSERT_EQ(set.problems().size(), 2u);
    EXPECT_THAT(set.problems()[0], HasSubstr("flows.1: flow table: magic is"));
    EXPECT_THAT(set.problems()[1], HasSubstr("flows.2: is missing"));
  }
  std::uint32_t of_first = 0;
  for (std::uint32_t i = 0; i < 300; ++i) of_first += core::owner_of(key_of(i), 3) == 0 ? 1 : 0;
  EXPECT_GT(of_first, 0u);
  EXPECT_EQ(found(shape, 0, 300), of_first);
  run_engine(shape, 300, 301);
  EXPECT_EQ(files().size(), 3u);
  EXPECT_TRUE(open().problems().empty());
}

TEST_F(FlowSetTest, fault_36_table_under_another_workers_name_is_left_out) {
  run_engine({.worker_count = 2, .capacity = 1000}, 0, 100);
  fs::remove(directory_ + "/flows.1");
  fs::copy_file(directory_ + "/flows.0", directory_ + "/flows.1");
  const FlowSet set = open();
  EXPECT_EQ(set.left().size(), 1u);
  ASSERT_EQ(set.problems().size(), 1u);
  EXPECT_THAT(set.problems()[0], HasSubstr("flows.1: holds the table of worker 0"));
}

TEST_F(FlowSetTest, fault_30_second_engine_is_refused_with_the_pid_of_the_first) {
  const FlowSet first = open();
  const Result<FlowSet> second = FlowSet::open(directory_, spare_.path());
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message,
              HasSubstr(directory_ + ": in use by process " + std::to_string(::getpid())));
  EXPECT_THAT(second.error().message, HasSubstr("--flow-dir"));
}

TEST_F(FlowSetTest, fault_30_directory_that_cannot_be_made_is_named) {
  const Result<FlowSet> set = FlowSet::open("/proc/nothing/flows", spare_.path());
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().message, HasSubstr("/proc/nothing/flows"));
}

TEST_F(FlowSetTest, fault_91_start_that_does_not_come_to_its_end_leaves_the_files_as_they_were) {
  run_engine({.worker_count = 2, .capacity = 1000}, 0, 200);
  const auto before = files();
  EXPECT_EQ(found({.worker_count = 1, .capacity = 1000}, 0, 200), 200u);
  EXPECT_EQ(found({.worker_count = 2, .capacity = 2000}, 0, 200), 200u);
  EXPECT_EQ(found({.worker_count = 2, .capacity = 1000}, 0, 200), 200u);
  EXPECT_EQ(files(), before);
}

struct Change {
  Shape from;
  Shape to;
};

class FlowSetStart : public FlowSetTest, public ::testing::WithParamInterface<Change> {
 protected:
  // As an engine does it, with no word about what fails.
  void start() {
    Result<FlowSet> set = FlowSet::open(directory_, spare_.path());
    if (!set) return;
    if (Result<FlowSet::TakenOver> taken = set->take_over(GetParam().to)) (void)set->commit();
  }

  // With trouble at every step, one after the other, all flows are there for the next start.
  void expect_flows_to_survive(test::Trouble trouble, const std::function<void()>& start_anew) {
    if (!test::kCanMakeTrouble) GTEST_SKIP() << "not under ThreadSanitizer";
    int step = 0;
    do {
      ++step;
      start_anew();
      run_engine(GetParam().from, 0, 100);
      is_reached_ = test::run_with_trouble([this] { start(); }, trouble, step);
      ASSERT_EQ(found(GetParam().to, 0, 100), 100u) << "step " << step;
      ASSERT_EQ(found(GetParam().from, 0, 100), 100u) << "step " << step;
    } while (is_reached_);
    EXPECT_GT(step, 10) << "there was trouble at none";
  }

  bool is_reached_ = false;
};

TEST_P(FlowSetStart, fault_91_killed_at_any_step_it_leaves_all_flows) {
  expect_flows_to_survive(test::Trouble::kill, [this] { fs::remove_all(directory_); });
}

TEST_P(FlowSetStart, fault_91_failing_at_any_step_it_leaves_all_flows) {
  expect_flows_to_survive(test::Trouble::fail, [this] { fs::remove_all(directory_); });
}

INSTANTIATE_TEST_SUITE_P(changes, FlowSetStart,
                         ::testing::Values(Change{.from = {2, 200}, .to = {1, 200}},
                                           Change{.from = {2, 200}, .to = {2, 200}}));

// A flow directory that has room for one set, not for two: as huge pages are.
class TightFlowSet : public FlowSetStart {
 protected:
  void SetUp() override {
    // Mounts are seen by nobody else, and are gone with the process.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "mounting needs CAP_SYS_ADMIN";
    }
    fs::create_directory(directory_);
    mount_anew();
  }
  void TearDown() override { (void)::umount2(directory_.c_str(), MNT_DETACH); }
  static std::uint64_t bytes_of(const Shape& shape) {
    return shape.worker_count * FlowTable::bytes_for(shape.capacity);
  }
  void mount_anew() {
    (void)::umount2(directory_.c_str(), MNT_DETACH);
    const std::uint64_t bytes = std::max(bytes_of(GetParam().from), bytes_of(GetParam().to));
    const std::string options = "size=" + std::to_string(bytes + (64u << 10));
    ASSERT_EQ(::mount("flows", directory_.c_str(), "tmpfs", 0, options.c_str()), 0);
    for (const auto& entry : fs::directory_iterator(spare_.path())) fs::remove(entry.path());
  }
};

TEST_P(TightFlowSet, flows_are_kept_elsewhere_while_old_and_new_do_not_fit_together) {
  run_engine(GetParam().from, 0, 100);
  ASSERT_FALSE(check_room(directory_, GetParam().to.worker_count,
                          FlowTable::bytes_for(GetParam().to.capacity), 0));
  EXPECT_EQ(run_engine(GetParam().to, 100, 101).flows, 100u);
  EXPECT_TRUE(fs::is_empty(spare_.path())) << "and only so long";
  EXPECT_EQ(found(GetParam().to, 0, 101), 101u);
}

TEST_P(TightFlowSet, fault_91_set_for_which_there_is_no_room_at_all_changes_nothing) {
  run_engine(GetParam().from, 0, 100);
  const auto before = files();
  {
    FlowSet set = open();
    const Result<FlowSet::TakenOver> taken = set.take_over({.worker_count = 4, .capacity = 10'000});
    ASSERT_FALSE(taken);
    EXPECT_THAT(taken.error().message, HasSubstr("hold the last engine's flows"));
  }
  EXPECT_EQ(files(), before);
  EXPECT_TRUE(fs::is_empty(spare_.path()));
  EXPECT_EQ(found(GetParam().from, 0, 100), 100u);
}

TEST_P(TightFlowSet, fault_91_without_a_place_for_the_flows_meanwhile_nothing_changes) {
  run_engine(GetParam().from, 0, 100);
  const auto before = files();
  {
    Result<FlowSet> set = FlowSet::open(directory_, "/proc/nothing");
    ASSERT_TRUE(set);
    const Result<FlowSet::TakenOver> taken = set->take_over(GetParam().to);
    ASSERT_FALSE(taken);
    EXPECT_THAT(taken.error().message, HasSubstr("none to keep its flows meanwhile"));
  }
  EXPECT_EQ(files(), before);
  EXPECT_EQ(found(GetParam().from, 0, 100), 100u);
}

TEST_P(TightFlowSet, fault_91_killed_at_any_step_it_leaves_all_flows) {
  expect_flows_to_survive(test::Trouble::kill, [this] { mount_anew(); });
}

TEST_P(TightFlowSet, fault_91_failing_at_any_step_it_leaves_all_flows) {
  expect_flows_to_survive(test::Trouble::fail, [this] { mount_anew(); });
}

INSTANTIATE_TEST_SUITE_P(changes, TightFlowSet,
                         ::testing::Values(Change{.from = {3, 500}, .to = {1, 1500}}));

}  // namespace
}  // namespace millrace::shm

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store/state_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/support/cc/address.h"
#include "tests/support/cc/random_settings.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"

namespace millrace::control {
namespace {

using test::ip;

using ::testing::HasSubstr;

StoredState rich_state() {
  StoredState state;
  state.id_floor = 1007;
  state.generation_floor = 1ull << 40;
  state.config.text = "node: {name: lb-1}\n# ünïcode and 'quotes'\n";
  state.config.source = "/etc/millrace/millrace.yaml";
  state.config.applied_ns = 1'700'000'000'000'000'000;
  state.config.is_from_file = false;
  state.config.file_text = std::string("# no config: \xff\0\n", 16);
  state.listeners = {
      {.vip = ip("203.0.113.10"), .protocol = Protocol::tcp, .port = 80, .slot = 0, .id = 1},
      {.vip = ip("203.0.113.10"), .protocol = Protocol::udp, .port = 80, .slot = 1, .id = 2},
      {.vip = ip("2001:db8::10"), .protocol = Protocol::tcp, .port = 80, .slot = 4, .id = 3}};
  StoredGroup group;
  group.slot = 2;
  group.id = 4;
  group.listener_port = 443;
  TargetGroup& settings = group.settings;
  settings.name = "web-80";
  settings.protocol = Protocol::udp;
  settings.port = 8080;
  settings.forwarding = Forwarding::gue;
  settings.gue_port = 6099;
  settings.deregistration_delay_seconds = 3600;
  settings.deregistration_connection_termination = true;
  settings.unhealthy_connection_termination = true;
  settings.lookup_slots = MR_LOOKUP_SLOTS_MAX;
  settings.health_check.protocol = HealthCheckProtocol::http;
  settings.health_check.port = 9000;
  settings.health_check.path = "/health?deep='yes'";
  settings.health_check.interval_ms = 100;
  settings.health_check.timeout_ms = 50;
  settings.health_check.healthy_threshold = 3;
  settings.health_check.unhealthy_threshold = 10;
  settings.health_check.matcher = {{200, 299}, {418, 418}};
  settings.health_check.host = "www.example.org:8080";
  state.groups = {group};
  StoredTarget target;
  target.key = {.group = "web-80", .address = ip("fd00::11"), .port = 8080};
  target.slot = 9;
  target.id = 0xffffffff;
  target.weight = 999;
  target.zone = "b";
  target.is_configured = false;
  target.is_operator_drained = true;
  target.registration = Registration::draining;
  target.drain_deadline_ns = 1'800'000'000'000'000'000;
  target.health_state = TargetState::unhealthy;
  target.health_reason = HealthReason::response_code_mismatch;
  target.health_description = "Health checks failed with these codes: [503]";
  state.targets = {target};
  return state;
}

class StateStoreTest : public ::testing::Test {
 protected:
  StateStore open() {
    Result<StateStore> store = StateStore::open(path_);
    EXPECT_TRUE(store) << store.error().message;
    return std::move(*store);
  }
  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string read() {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void run_sql(const std::string& sql) {
    Result<Database> database = Database::open(path_);
    ASSERT_TRUE(database);
    const Status done = database->run(sql);
    ASSERT_TRUE(done) << done.error().message;
  }
  // Statements of a file beside this one.
  void run_file(const std::string& name) {
    std::ifstream file(MILLRACE_STORE_TESTS "/" + name);
    ASSERT_TRUE(file) << name;
    const std::string sql{std::istreambuf_iterator<char>(file), {}};
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    ASSERT_EQ(sqlite3_close(database), SQLITE_OK);
  }

  test::TempDir dir_;
  std::string path_ = dir_.file("state.db");
};

TEST_F(StateStoreTest, new_store_is_empty) { EXPECT_EQ(open().state(), StoredState{}); }

TEST_F(StateStoreTest, everything_comes_back) {
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
  }
  EXPECT_EQ(open().state(), rich_state());
}

TEST_F(StateStoreTest, rows_are_added_changed_and_removed) {
  StoredState state = rich_state();
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(state));
    state.listeners.erase(state.listeners.begin());
    state.targets[0].health_state = TargetState::healthy;
    StoredTarget second = state.targets[0];
    second.key.port = 8081;
    second.slot = 10;
    state.targets.push_back(second);
    ASSERT_TRUE(store.save(state));
  }
  EXPECT_EQ(open().state(), state);
}

TEST_F(StateStoreTest, targets_saved_by_themselves_leave_all_else) {
  StoredState state = rich_state();
  state.targets.push_back(state.targets[0]);
  state.targets[1].key.address = ip("fd00::12");
  state.targets[1].slot = 10;
  StoredTarget changed = state.targets[1];
  changed.health_description = "as of now";
  StoredTarget unknown = state.targets[0];
  unknown.key.port = 1;
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(state));
    ASSERT_TRUE(store.save_targets(std::vector{changed, unknown}));
    state.targets[1] = changed;
    EXPECT_EQ(store.state(), state);
  }
  EXPECT_EQ(open().state(), state);
}

TEST_F(StateStoreTest, slot_may_go_from_one_target_to_another_in_one_save) {
  StateStore store = open();
  StoredState state = rich_state();
  ASSERT_TRUE(store.save(state));
  state.targets[0].key.port = 1;
  ASSERT_TRUE(store.save(state));
  EXPECT_EQ(open().state(), state);
}

TEST_F(StateStoreTest, kill_loses_nothing_that_was_saved) {
  const pid_t child = ::fork();
  if (child == 0) {
    Result<StateStore> store = StateStore::open(path_);
    if (!store || !store->save(rich_state())) ::_exit(1);
    (void)::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(open().state(), rich_state());
}

TEST_F(StateStoreTest, file_that_is_no_database_is_refused_with_advice) {
  write(std::string(8192, 'x'));
  Result<StateStore> store = StateStore::open(path_);
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr(path_));
  EXPECT_THAT(store.error().message, HasSubstr("move it away"));
}

TEST_F(StateStoreTest, fault_36_damage_anywhere_is_refused_or_harmless) {
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
  }
  run_sql("PRAGMA wal_checkpoint(TRUNCATE)");
  const std::string good = read();
  ASSERT_GT(good.size(), 8192u);
  int refused = 0;
  for (std::size_t at = 0; at < good.size(); at += 37) {
    std::string bad = good;
    bad[at] = static_cast<char>(~bad[at]);
    write(bad);
    Result<StateStore> store = StateStore::open(path_);
    if (!store) {
      ++refused;
      EXPECT_THAT(store.error().message, HasSubstr(path_));
    }
    (void)::unlink((path_ + "-wal").c_str());
    (void)::unlink((path_ + "-shm").c_str());
  }
  EXPECT_GT(refused, 5);
  for (std::size_t length : {100ul, 4096ul, 5000ul, good.size() - 4096}) {
    write(good.substr(0, length));
    EXPECT_FALSE(StateStore::open(path_)) << length;
  }
}

TEST_F(StateStoreTest, impossible_row_is_named) {
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
  }
  for (const char* sql :
       {"UPDATE targets SET slot = 4000000", "UPDATE targets SET slot = 9, registration = 7",
        "UPDATE targets SET registration = 0, address = 'nowhere'"}) {
    run_sql(sql);
    Result<StateStore> store = StateStore::open(path_);
    ASSERT_FALSE(store) << sql;
    EXPECT_THAT(store.error().message, HasSubstr("is impossible"));
  }
}

TEST_F(StateStoreTest, impossible_setting_is_named) {
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
  }
  const auto error_of = [&](const std::string& value) {
    run_sql("UPDATE target_groups SET settings = " + value);
    const Result<StateStore> store = StateStore::open(path_);
    return store ? "" : store.error().message;
  };
  const auto with = [](const std::string& path, const std::string& value) {
    return "json_set('{}', '$." + path + "', json('{" + value + "}'))";
  };
  EXPECT_THAT(error_of(with("health_check", R"("matcher": "200-70000")")),
              HasSubstr("table target_groups: web-80: matcher: \"200-70000\" must be HTTP"));
  EXPECT_THAT(error_of(with("health_check", R"("matcher": "")")), HasSubstr("matcher: \"\" must"));
  EXPECT_THAT(error_of(with("health_check", R"("port": 80)")), HasSubstr("port is no text"));
  EXPECT_THAT(error_of(with("attributes", R"("millrace.gue.port": "0")")),
              HasSubstr("millrace.gue.port: \"0\" must be a whole number, 1-65535"));
  EXPECT_THAT(error_of("''"), HasSubstr("web-80: the settings are no JSON object"));
  EXPECT_THAT(error_of("'[]'"), HasSubstr("web-80: the settings are no JSON object"));
  EXPECT_EQ(error_of("'{}'"), "");
}

TEST_F(StateStoreTest, attribute_of_a_newer_release_is_passed_over) {
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
  }
  run_sql("UPDATE target_groups SET settings = json_set(settings, '$.attributes.newer', 'x')");
  EXPECT_EQ(open().state(), rich_state());
}

TEST_F(StateStoreTest, random_settings_come_back) {
  EXPECT_TRUE(rc::check("load(save(state)) == state", [this] {
    StoredState state = rich_state();
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp, Protocol::tcp_udp}) {
      StoredGroup group{.settings = test::random_settings(protocol), .slot = 0, .id = 1};
      group.slot = static_cast<std::uint32_t>(10 + state.groups.size());
      group.settings.name = "random-" + std::to_string(state.groups.size());
      group.settings.port = 80;
      state.groups.insert(std::prev(state.groups.end()), group);
    }
    RC_ASSERT(open().save(state).has_value());
    RC_ASSERT(open().state() == state);
  }));
}

TEST_F(StateStoreTest, slot_used_twice_is_refused) {
  StoredState state = rich_state();
  state.listeners[1].slot = 0;
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(state));
  }
  Result<StateStore> store = StateStore::open(path_);
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("slot 0 is used twice"));
}

// tests/unit/store/schema_*.sql: what releases of those schema versions wrote.
TEST_F(StateStoreTest, file_of_schema_1_is_brought_up_to_date) {
  run_file("schema_1.sql");
  StoredState state = rich_state();
  state.groups[0].settings.gue_port = kGuePortDefault;  // which version 1 knew nothing of
  state.groups[0].settings.health_check = {};
  state.groups[0].listener_port = 0;
  state.config.is_from_file = true;
  state.config.file_text.clear();
  {
    StateStore store = open();
    EXPECT_EQ(store.state(), state);
    state.groups[0].settings.gue_port = 6099;
    ASSERT_TRUE(store.save(state));
  }
  EXPECT_EQ(open().state(), state);
}

TEST_F(StateStoreTest, file_of_schema_5_keeps_all_that_it_holds) {
  run_file("schema_5.sql");
  StoredState state = rich_state();
  state.config.file_text = "# no config\n";
  StoredGroup plain{.settings = default_target_group(Protocol::tcp), .slot = 5, .id = 6};
  plain.settings.name = "plain";
  plain.settings.port = 25;
  state.groups.insert(state.groups.begin(), plain);
  {
    StateStore store = open();
    EXPECT_EQ(store.state(), state);
    state.groups[0].settings.previous_target_seconds = 7;
    ASSERT_TRUE(store.save(state));
  }
  EXPECT_EQ(open().state(), state);
}

TEST_F(StateStoreTest, impossible_row_of_schema_5_is_refused) {
  run_file("schema_5.sql");
  run_sql("UPDATE target_groups SET forwarding = 9");
  const Result<StateStore> store = StateStore::open(path_);
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("web-80: millrace.forwarding is no text"));
}

TEST_F(StateStoreTest, file_text_of_an_older_version_says_that_the_config_was_applied_past_it) {
  for (const bool is_from_file : {false, true}) {
    (void)::unlink(path_.c_str());
    run_file("schema_5.sql");
    run_sql("DELETE FROM settings WHERE name = 'config_is_from_file'");
    if (is_from_file) run_sql("DELETE FROM settings WHERE name = 'config_file_text'");
    run_sql("PRAGMA user_version = 4");
    EXPECT_EQ(open().state().config.is_from_file, is_from_file);
  }
}

TEST_F(StateStoreTest, newer_schema_is_refused_and_left_alone) {
  { (void)open(); }
  run_sql("PRAGMA user_version = 99");
  Result<StateStore> store = StateStore::open(path_);
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("newer"));
}

TEST_F(StateStoreTest, missing_directory_is_named) {
  Result<StateStore> store = StateStore::open("/nonexistent/state.db");
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("/nonexistent/state.db"));
}

class SharedStateStore : public StateStoreTest {
 protected:
  void SetUp() override {
    if (!test::is_root()) GTEST_SKIP() << "gives files to other users, which only root may";
    ASSERT_EQ(::chown(dir_.path().c_str(), test::kServiceUser, test::kServiceGroup), 0);
    ASSERT_EQ(::chmod(dir_.path().c_str(), 0750), 0);
  }
  [[nodiscard]] static struct stat information_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info;
  }
};

TEST_F(SharedStateStore, user_of_the_directory_goes_on_with_what_root_left) {
  const mode_t before = ::umask(077);
  {
    StateStore store = open();
    ASSERT_TRUE(store.save(rich_state()));
    for (const char* end : {"", "-wal", "-shm"}) {
      const struct stat info = information_of(path_ + end);
      EXPECT_EQ(info.st_uid, 0u) << end;
      EXPECT_EQ(info.st_gid, test::kServiceGroup) << end;
      EXPECT_EQ(info.st_mode & 07777, 0660u) << end;
    }
  }
  (void)::umask(before);
  const test::AsServiceUser service;
  StateStore store = open();
  EXPECT_EQ(store.state(), rich_state());
  EXPECT_TRUE(store.save({}));
}

TEST_F(SharedStateStore, own_file_is_not_to_be_written_to_by_the_group) {
  const test::AsServiceUser service;
  ASSERT_TRUE(open().save(rich_state()));
  EXPECT_EQ(information_of(path_).st_mode & 07777, 0640u);
}

TEST_F(SharedStateStore, link_is_followed_only_if_it_is_roots) {
  const test::TempDir other;
  ASSERT_EQ(::symlink(other.file("state.db").c_str(), path_.c_str()), 0);
  ASSERT_EQ(::lchown(path_.c_str(), 65534, test::kServiceGroup), 0);
  const Result<StateStore> refused = StateStore::open(path_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(path_ + ": it is a symbolic link of user 65534"));
  EXPECT_TRUE(std::filesystem::is_empty(other.path()));
  ASSERT_EQ(::lchown(path_.c_str(), 0, 0), 0);
  ASSERT_TRUE(open().save(rich_state()));
  EXPECT_TRUE(std::filesystem::exists(other.file("state.db")));
}

TEST_F(StateStoreTest, fault_40_full_disk_is_an_error_and_the_next_save_makes_up_for_it) {
  StateStore store = open();
  ASSERT_TRUE(store.save({}));
  // A file size limit answers writes as a full disk does.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit tiny { .rlim_cur = 100 << 10, .rlim_max = before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tiny), 0);
  StoredState large = rich_state();
  large.config.text.assign(1 << 20, 'y');
  const Status failed = store.save(large);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  (void)::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("cannot write " + path_));
  EXPECT_EQ(store.state(), StoredState{});

  ASSERT_TRUE(store.save(large));
  EXPECT_EQ(open().state(), large);
}

}  // namespace
}  // namespace millrace::control

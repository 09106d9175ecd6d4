// SPDX-License-Identifier: Apache-2.0
//
// What a run by hand as root leaves behind, and who can use it afterwards.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "dataplane/os/file.h"
#include "dataplane/os/process_lock.h"
#include "dataplane/shm/flow_set.h"
#include "dataplane/shm/segment.h"
#include "dataplane/shm/stats_reader.h"
#include "dataplane/shm/stats_writer.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"

namespace millrace::shm {
namespace {

using test::AsServiceUser;
using test::kServiceGroup;
using test::kServiceUser;
using ::testing::HasSubstr;

struct Owner {
  uid_t user = 0;
  gid_t group = 0;
  friend bool operator==(const Owner&, const Owner&) = default;
};
constexpr Owner kRoot;
constexpr Owner kRootsForService = {0, kServiceGroup};
constexpr Owner kService = {kServiceUser, kServiceGroup};
constexpr Owner kMember = {65534, kServiceGroup};  // of the service's group, and no friend

Owner owner_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return {info.st_uid, info.st_gid};
}

unsigned mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

class SharedFile : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::is_root()) GTEST_SKIP() << "gives files to other users, which only root may";
    ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
    umask_before_ = ::umask(077);
  }
  void TearDown() override { (void)::umask(umask_before_); }

  // As a service has it: /run/millrace is of root and the group, /var/lib/millrace of the user.
  [[nodiscard]] std::string make_directory(const char* name, Owner owner, unsigned mode) const {
    const std::string path = dir_.file(name);
    EXPECT_EQ(::mkdir(path.c_str(), 0700), 0);
    EXPECT_EQ(::chown(path.c_str(), owner.user, owner.group), 0);
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  [[nodiscard]] static bool is_made(const std::string& path, unsigned mode = 0640) {
    return static_cast<bool>(os::File::open_shared(path, O_RDWR | O_CREAT, mode));
  }

  const test::TempDir dir_;
  mode_t umask_before_ = 0;
};

TEST_F(SharedFile, belongs_to_the_group_of_its_directory) {
  for (const Owner& owner : {kService, kRootsForService}) {
    const std::string directory = make_directory(owner == kService ? "state" : "run", owner, 0770);
    ASSERT_TRUE(is_made(directory + "/a"));
    EXPECT_EQ(owner_of(directory + "/a"), kRootsForService) << "its owner could write to it";
    EXPECT_EQ(mode_of(directory + "/a"), 0640u) << "whatever the umask of root's shell is";
    ASSERT_TRUE(is_made(directory + "/b", 0660));
    EXPECT_EQ(mode_of(directory + "/b"), 0660u);
  }
}

TEST_F(SharedFile, file_of_an_earlier_run_is_taken_over) {
  const std::string state = make_directory("state", kService, 0750);
  ASSERT_TRUE(os::File::open(state + "/a", O_RDWR | O_CREAT));
  ASSERT_EQ(owner_of(state + "/a"), kRoot);
  ASSERT_TRUE(is_made(state + "/a"));
  EXPECT_EQ(owner_of(state + "/a"), kRootsForService);
}

TEST_F(SharedFile, file_of_another_user_is_not_given_away) {
  const std::string runtime = make_directory("runtime", kRootsForService, 0770);
  ASSERT_TRUE(os::File::open(runtime + "/a", O_RDWR | O_CREAT));
  ASSERT_EQ(::chown((runtime + "/a").c_str(), kServiceUser, 0), 0);
  (void)is_made(runtime + "/a");
  EXPECT_EQ(owner_of(runtime + "/a"), (Owner{kServiceUser, 0}));
}

TEST_F(SharedFile, directory_of_root_or_of_everybody_says_nothing_about_owners) {
  const std::string own = make_directory("own", kRoot, 0755);
  ASSERT_TRUE(is_made(own + "/a"));
  EXPECT_EQ(owner_of(own + "/a"), kRoot);
  EXPECT_EQ(mode_of(own + "/a"), 0600u) << "nobody to share it with";
  for (const unsigned mode : {0777u, 01777u}) {
    const std::string open = make_directory(mode == 0777u ? "open" : "sticky", kService, mode);
    ASSERT_TRUE(is_made(open + "/a"));
    EXPECT_EQ(owner_of(open + "/a"), kRoot) << std::oct << mode;
  }
}

// Who may write to the directory could otherwise have root give away, or write to, any file.
TEST_F(SharedFile, links_are_neither_followed_nor_given_away) {
  const std::string state = make_directory("state", kService, 0770);
  const std::string secret = dir_.file("secret");
  ASSERT_TRUE(os::File::open(secret, O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(::symlink(secret.c_str(), (state + "/symbolic").c_str()), 0);
  ASSERT_EQ(::link(secret.c_str(), (state + "/hard").c_str()), 0);

  const Result<os::File> followed = os::File::open_shared(state + "/symbolic", O_RDWR | O_CREAT);
  ASSERT_FALSE(followed);
  EXPECT_THAT(followed.error().message, HasSubstr("state/symbolic: it is a symbolic link"));
  (void)is_made(state + "/hard");
  EXPECT_EQ(owner_of(secret), kRoot);
  EXPECT_EQ(mode_of(secret), 0600u);
  EXPECT_EQ(owner_of(state + "/symbolic"), kRoot);
}

TEST_F(SharedFile, directory_by_a_link_is_entered_only_if_the_link_is_roots) {
  const std::string runtime = make_directory("runtime", kRootsForService, 0770);
  const std::string secret = make_directory("secret", kRoot, 0750);
  const std::string link = runtime + "/link";
  ASSERT_EQ(::symlink("../secret", link.c_str()), 0);
  EXPECT_TRUE(is_made(link + "/a"));
  EXPECT_TRUE(os::lock_directory(link));
  EXPECT_EQ(os::is_link(link).value(), true);
  EXPECT_EQ(os::is_link(runtime).value(), false);
  EXPECT_EQ(os::is_link(runtime + "/nothing").value(), false);

  ASSERT_EQ(::lchown(link.c_str(), kMember.user, kMember.group), 0);
  EXPECT_FALSE(is_made(link + "/b"));
  EXPECT_FALSE(std::filesystem::exists(secret + "/b"));
  for (const std::string& path : {link, link + "/", link + "/."}) {
    const Result<os::File> locked = os::lock_directory(path);
    ASSERT_FALSE(locked) << path;
    EXPECT_THAT(locked.error().message, HasSubstr(link + ": it is a symbolic link of user 65534"));
  }
  EXPECT_FALSE(os::is_link(link));
}

TEST_F(SharedFile, flow_directory_is_no_link) {
  const std::string runtime = make_directory("runtime", kRootsForService, 02770);
  const std::string secret = make_directory("secret", kRoot, 0750);
  const std::string flows = runtime + "/flows";
  ASSERT_EQ(::symlink(secret.c_str(), flows.c_str()), 0);
  for (const Owner& owner : {kMember, kRoot}) {
    ASSERT_EQ(::lchown(flows.c_str(), owner.user, owner.group), 0);
    for (const std::string& path : {flows, flows + "/"}) {
      const Result<FlowSet> set = FlowSet::open(path, runtime);
      ASSERT_FALSE(set) << path;
      EXPECT_THAT(set.error().message, HasSubstr(flows + ": it is a symbolic link"));
    }
  }
  EXPECT_EQ(owner_of(secret), kRoot);
  EXPECT_TRUE(std::filesystem::is_empty(secret));
}

TEST_F(SharedFile, flow_directory_of_another_user_is_refused) {
  const std::string runtime = make_directory("runtime", kRootsForService, 02770);
  const std::string flows = runtime + "/flows";
  (void)make_directory("runtime/flows", kMember, 0770);
  const Result<FlowSet> set = FlowSet::open(flows, runtime);
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().message, HasSubstr(flows + ": belongs to user 65534"));
  EXPECT_TRUE(std::filesystem::is_empty(flows));
  ASSERT_EQ(::chown(runtime.c_str(), kMember.user, kMember.group), 0);
  EXPECT_TRUE(FlowSet::open(flows, runtime)) << "the runtime directory is this user's as well";
}

TEST_F(SharedFile, flow_directory_that_is_swapped_for_a_link_meanwhile_is_not_followed) {
  const std::string runtime = make_directory("runtime", kRootsForService, 02770);
  const std::string secret = make_directory("secret", kRoot, 0750);
  const std::string flows = runtime + "/flows";
  Result<FlowSet> set = FlowSet::open(flows, runtime);
  ASSERT_TRUE(set) << set.error().message;
  std::filesystem::rename(flows, runtime + "/old");
  ASSERT_EQ(::symlink(secret.c_str(), flows.c_str()), 0);
  ASSERT_EQ(::lchown(flows.c_str(), kMember.user, kMember.group), 0);
  EXPECT_FALSE(set->make({.worker_count = 1, .capacity = 64}));
  EXPECT_TRUE(std::filesystem::is_empty(secret));
}

TEST_F(SharedFile, flow_table_that_others_may_write_to_is_not_taken_over) {
  const std::string runtime = make_directory("runtime", kRootsForService, 02770);
  const std::string table = runtime + "/flows/flows.0";
  const FlowSet::Shape shape{.worker_count = 1, .capacity = 64};
  {
    Result<FlowSet> set = FlowSet::open(runtime + "/flows", runtime);
    ASSERT_TRUE(set && set->make(shape) && set->commit());
  }
  EXPECT_EQ(owner_of(table), kRootsForService);
  EXPECT_EQ(mode_of(table), 0640u);
  for (const bool is_owner : {true, false}) {
    ASSERT_EQ(::chown(table.c_str(), is_owner ? kMember.user : 0, kServiceGroup), 0);
    ASSERT_EQ(::chmod(table.c_str(), is_owner ? 0640 : 0660), 0);
    EXPECT_FALSE(FlowFile::open(table, os::Access::read_write));
    Result<FlowSet> set = FlowSet::open(runtime + "/flows", runtime);
    ASSERT_TRUE(set) << set.error().message;
    EXPECT_TRUE(set->left().empty());
    ASSERT_FALSE(set->problems().empty());
    EXPECT_THAT(set->problems()[0], HasSubstr(table + ": others than root"));
    ASSERT_TRUE(set->take_over(shape) && set->commit());
    EXPECT_EQ(owner_of(table), kRootsForService);
    EXPECT_EQ(mode_of(table), 0640u);
  }
}

// `detach` writes to the directory that it names.
TEST_F(SharedFile, stats_are_trusted_only_if_nobody_else_can_have_written_them) {
  const std::string runtime = make_directory("runtime", kRootsForService, 02770);
  const std::string path = runtime + "/stats";
  StatsOptions options;
  options.engine_kind = MR_ENGINE_XDP;
  options.flow_table_dir = "/etc";
  Result<StatsWriter> writer = StatsWriter::create(path, options);
  ASSERT_TRUE(writer && writer->publish());
  const auto is_trusted = [&path] {
    return static_cast<bool>(StatsReader::join(path).value().check_trust());
  };
  EXPECT_TRUE(is_trusted());
  ASSERT_EQ(::chmod(path.c_str(), 0660), 0);
  EXPECT_FALSE(is_trusted());
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  ASSERT_EQ(::chown(path.c_str(), kMember.user, kMember.group), 0);
  EXPECT_FALSE(is_trusted());
}

TEST_F(SharedFile, service_goes_on_with_what_root_left_in_the_runtime_directory) {
  const std::string runtime = make_directory("runtime", {0, kServiceGroup}, 0770);
  {
    ASSERT_TRUE(os::ProcessLock::acquire(runtime + "/controlplane.lock"));
    Result<Segment> stats = Segment::create(runtime + "/stats", kStatsSpec, 4096, 4096);
    ASSERT_TRUE(stats) << stats.error().message;
    ASSERT_TRUE(stats->publish());
    for (const std::string& directory : {dir_.file("pages"), runtime + "/flows"}) {
      Result<FlowSet> flows = FlowSet::open(directory, runtime);
      ASSERT_TRUE(flows) << flows.error().message;
      ASSERT_TRUE(flows->make({.worker_count = 1, .capacity = 64}));
      ASSERT_TRUE(flows->commit());
    }
  }
  const AsServiceUser service;
  const Result<os::ProcessLock> lock = os::ProcessLock::acquire(runtime + "/controlplane.lock");
  EXPECT_TRUE(lock) << lock.error().message;
  EXPECT_TRUE(os::File::open(runtime + "/stats", O_RDONLY));
  EXPECT_FALSE(os::File::open(runtime + "/stats", O_RDWR)) << "only to be read";
  for (const std::string& directory : {dir_.file("pages"), runtime + "/flows"}) {
    const Result<os::File> flows = os::File::open(directory + "/flows.0", O_RDONLY);
    EXPECT_TRUE(flows) << flows.error().message;
    EXPECT_FALSE(os::File::open(directory + "/flows.0", O_RDWR)) << "an engine's memory";
  }
}

TEST_F(SharedFile, flow_directory_that_was_there_stays_as_the_operator_made_it) {
  const std::string runtime = make_directory("runtime", kRootsForService, 0770);
  const std::string hidden = make_directory("hidden", kRoot, 0750);
  ASSERT_TRUE(FlowSet::open(hidden, runtime));
  EXPECT_EQ(owner_of(hidden), kRoot);
  ASSERT_TRUE(FlowSet::open(dir_.file("made"), runtime));
  EXPECT_EQ(owner_of(dir_.file("made")), kRootsForService);
  EXPECT_EQ(mode_of(dir_.file("made")), 0750u);
}

TEST_F(SharedFile, what_may_not_be_read_is_hidden_and_not_absent) {
  const std::string own = make_directory("own", kRoot, 0700);
  ASSERT_TRUE(is_made(own + "/a"));
  ASSERT_TRUE(os::File::open(dir_.file("b"), O_RDWR | O_CREAT, 0600));
  EXPECT_FALSE(os::is_hidden(own + "/a"));
  const AsServiceUser service;
  EXPECT_TRUE(os::is_hidden(own + "/a"));
  EXPECT_TRUE(os::is_hidden(dir_.file("b")));
  EXPECT_FALSE(os::is_hidden(dir_.file("c"))) << "is not there";
}

}  // namespace
}  // namespace millrace::shm

// SPDX-License-Identifier: Apache-2.0
//
// What a run by hand as root leaves behind, and who can use it afterwards.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "dataplane/shm/file.h"
#include "dataplane/shm/flow_set.h"
#include "dataplane/shm/process_lock.h"
#include "dataplane/shm/segment.h"
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
constexpr Owner kService = {kServiceUser, kServiceGroup};

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
    return static_cast<bool>(File::open_shared(path, O_RDWR | O_CREAT, mode));
  }

  const test::TempDir dir_;
  mode_t umask_before_ = 0;
};

TEST_F(SharedFile, belongs_to_the_owner_and_group_of_its_directory) {
  const std::string state = make_directory("state", kService, 0750);
  ASSERT_TRUE(is_made(state + "/a"));
  EXPECT_EQ(owner_of(state + "/a"), kService);
  EXPECT_EQ(mode_of(state + "/a"), 0640u) << "whatever the umask of root's shell is";

  const std::string runtime = make_directory("runtime", {0, kServiceGroup}, 0770);
  ASSERT_TRUE(is_made(runtime + "/a", 0660));
  EXPECT_EQ(owner_of(runtime + "/a"), (Owner{0, kServiceGroup}));
  EXPECT_EQ(mode_of(runtime + "/a"), 0660u);
}

TEST_F(SharedFile, file_of_an_earlier_run_is_taken_over) {
  const std::string state = make_directory("state", kService, 0750);
  ASSERT_TRUE(File::open(state + "/a", O_RDWR | O_CREAT));
  ASSERT_EQ(owner_of(state + "/a"), kRoot);
  ASSERT_TRUE(is_made(state + "/a"));
  EXPECT_EQ(owner_of(state + "/a"), kService);
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
  ASSERT_TRUE(File::open(secret, O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(::symlink(secret.c_str(), (state + "/symbolic").c_str()), 0);
  ASSERT_EQ(::link(secret.c_str(), (state + "/hard").c_str()), 0);

  const Result<File> followed = File::open_shared(state + "/symbolic", O_RDWR | O_CREAT);
  ASSERT_FALSE(followed);
  EXPECT_THAT(followed.error().message, HasSubstr("state/symbolic: it is a symbolic link"));
  (void)is_made(state + "/hard");
  EXPECT_EQ(owner_of(secret), kRoot);
  EXPECT_EQ(mode_of(secret), 0600u);
  EXPECT_EQ(owner_of(state + "/symbolic"), kRoot);
}

TEST_F(SharedFile, service_goes_on_with_what_root_left_in_the_runtime_directory) {
  const std::string runtime = make_directory("runtime", {0, kServiceGroup}, 0770);
  {
    ASSERT_TRUE(ProcessLock::acquire(runtime + "/controlplane.lock"));
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
  const Result<ProcessLock> lock = ProcessLock::acquire(runtime + "/controlplane.lock");
  EXPECT_TRUE(lock) << lock.error().message;
  EXPECT_TRUE(File::open(runtime + "/stats", O_RDONLY));
  EXPECT_FALSE(File::open(runtime + "/stats", O_RDWR)) << "only to be read";
  for (const std::string& directory : {dir_.file("pages"), runtime + "/flows"}) {
    const Result<File> flows = File::open(directory + "/flows.0", O_RDONLY);
    EXPECT_TRUE(flows) << flows.error().message;
    EXPECT_FALSE(File::open(directory + "/flows.0", O_RDWR)) << "an engine's memory";
  }
}

TEST_F(SharedFile, flow_directory_that_root_alone_may_enter_is_opened_by_the_next_engine) {
  const std::string runtime = make_directory("runtime", {0, kServiceGroup}, 0770);
  const std::string hidden = make_directory("hidden", kRoot, 0750);
  const std::string open = make_directory("open", kRoot, 0755);
  for (const std::string& directory : {hidden, open}) {
    ASSERT_TRUE(FlowSet::open(directory, runtime));
  }
  EXPECT_EQ(owner_of(hidden), (Owner{0, kServiceGroup}));
  EXPECT_EQ(owner_of(open), kRoot) << "hides nothing, so it is left as the operator made it";
}

TEST_F(SharedFile, what_may_not_be_read_is_hidden_and_not_absent) {
  const std::string own = make_directory("own", kRoot, 0700);
  ASSERT_TRUE(is_made(own + "/a"));
  ASSERT_TRUE(File::open(dir_.file("b"), O_RDWR | O_CREAT, 0600));
  EXPECT_FALSE(is_hidden(own + "/a"));
  const AsServiceUser service;
  EXPECT_TRUE(is_hidden(own + "/a"));
  EXPECT_TRUE(is_hidden(dir_.file("b")));
  EXPECT_FALSE(is_hidden(dir_.file("c"))) << "is not there";
}

}  // namespace
}  // namespace millrace::shm

// SPDX-License-Identifier: Apache-2.0
//
// fault_32: a publisher that dies at any point of publish() leaves generation G or G+1, never a
// mix, and its successor goes on from there.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "controlplane/publish/publisher.h"
#include "dataplane/shm/config_reader.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/publish/numbered_contents.h"

namespace millrace::control {
namespace {

using Kind = shm::ConfigEvent::Kind;

Publisher::Options options_for(const std::string& path) {
  return {.path = path, .segment_bytes = 256 << 10};
}

// In a child: joins, publishes image 2, and dies by SIGKILL at step number `fatal_step`. Returns
// false when the publish had fewer steps and the child ended by itself.
bool publish_and_die(const std::string& path, int fatal_step) {
  const pid_t child = ::fork();
  if (child == 0) {
    Publisher::Options options = options_for(path);
    int step = 0;
    options.step_hook = [&step, fatal_step](const char*) {
      if (step++ == fatal_step) (void)::kill(::getpid(), SIGKILL);
    };
    Result<std::unique_ptr<Publisher>> publisher = Publisher::open(options);
    if (!publisher) ::_exit(2);
    (*publisher)->reclaim((*publisher)->generation());
    ::_exit((*publisher)->publish(test::numbered_contents(2)) ? 0 : 3);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return true;
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return false;
}

TEST(PublisherCrash, fault_32_killed_at_every_step_readers_see_one_generation_or_the_next) {
  int steps = 0;
  int old_seen = 0;
  int new_seen = 0;
  for (bool died = true; died; ++steps) {
    const test::TempDir dir;
    const std::string path = dir.file("config");
    {
      Result<std::unique_ptr<Publisher>> first = Publisher::open(options_for(path));
      ASSERT_TRUE(first && (*first)->publish(test::numbered_contents(1)));
    }
    shm::ConfigReader running(path);
    const shm::ConfigEvent before = running.poll();
    ASSERT_EQ(before.kind, Kind::adopted);

    died = publish_and_die(path, steps);

    ASSERT_EQ(test::number_of(before.config.view), 1u) << "step " << steps;
    const shm::ConfigEvent after = running.poll();
    shm::ConfigReader restarted(path);
    const shm::ConfigEvent fresh = restarted.poll();
    ASSERT_EQ(fresh.kind, Kind::adopted) << "step " << steps << ": " << fresh.reason;
    if (after.kind == Kind::none) {
      ++old_seen;
      EXPECT_EQ(test::number_of(fresh.config.view), 1u) << "step " << steps;
    } else {
      ++new_seen;
      ASSERT_EQ(after.kind, Kind::adopted) << "step " << steps << ": " << after.reason;
      EXPECT_EQ(test::number_of(after.config.view), 2u) << "step " << steps;
      EXPECT_EQ(test::number_of(fresh.config.view), 2u) << "step " << steps;
    }
    Result<std::unique_ptr<Publisher>> successor = Publisher::open(options_for(path));
    ASSERT_TRUE(successor) << successor.error().message;
    EXPECT_EQ((*successor)->rejoin_error(), "");
    (*successor)->reclaim((*successor)->generation());
    ASSERT_TRUE((*successor)->publish(test::numbered_contents(3))) << "step " << steps;
    const shm::ConfigEvent last = running.poll();
    ASSERT_EQ(last.kind, Kind::adopted) << "step " << steps << ": " << last.reason;
    EXPECT_EQ(test::number_of(last.config.view), 3u);
  }
  EXPECT_GE(steps, 8) << "blocks, root, generation, done";
  EXPECT_GE(old_seen, 7);
  EXPECT_GE(new_seen, 2) << "after the generation was stored, and without a crash";
}

TEST(PublisherCrash, fault_32_killed_before_the_first_image_is_as_if_never_started) {
  const test::TempDir dir;
  const std::string path = dir.file("config");
  { ASSERT_TRUE(Publisher::open(options_for(path))); }
  Result<std::unique_ptr<Publisher>> second = Publisher::open(options_for(path));
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)->generation(), 0u);
  ASSERT_TRUE((*second)->publish(test::numbered_contents(1)));
  EXPECT_EQ((*second)->generation(), 1u);
}

}  // namespace
}  // namespace millrace::control

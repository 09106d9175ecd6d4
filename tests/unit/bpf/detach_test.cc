// SPDX-License-Identifier: Apache-2.0
//
// What `millrace-xdp detach` believes before it touches anything. What it does: tests/e2e.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "bpf/engine/engine.h"
#include "dataplane/shm/stats_writer.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"

namespace millrace::xdp {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Members of its group may put any file into the runtime directory.
TEST(Detach, stats_of_another_user_name_no_flow_directory) {
  if (!test::is_root()) GTEST_SKIP() << "gives a file to another user, which only root may";
  const test::TempDir runtime;
  const test::TempDir secret;
  shm::StatsOptions stats;
  stats.engine_kind = MR_ENGINE_XDP;
  stats.flow_table_dir = secret.path();
  Result<shm::StatsWriter> writer = shm::StatsWriter::create(runtime.file("stats"), stats);
  ASSERT_TRUE(writer && writer->publish());
  ASSERT_EQ(::chown(runtime.file("stats").c_str(), test::kServiceUser, test::kServiceGroup), 0);

  EngineOptions options;
  options.runtime_dir = runtime.path();
  options.pin_dir = runtime.file("no-bpf-file-system/pins");
  const Status refused = detach(options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(runtime.file("stats")));
  EXPECT_THAT(refused.error().message, HasSubstr("name it with --flow-dir"));
  EXPECT_THAT(refused.error().message,
              HasSubstr("; nothing was detached, and what is attached goes on forwarding"));
  EXPECT_TRUE(std::filesystem::exists(runtime.file("stats")));
  EXPECT_TRUE(std::filesystem::is_empty(secret.path()));

  options.flow_dir = runtime.file("flows");
  const Status goes_on = detach(options);
  ASSERT_FALSE(goes_on);
  EXPECT_THAT(goes_on.error().message, HasSubstr("--pin-dir")) << "which is next";
  EXPECT_THAT(goes_on.error().message, Not(HasSubstr("--flow-dir")));
}

}  // namespace
}  // namespace millrace::xdp

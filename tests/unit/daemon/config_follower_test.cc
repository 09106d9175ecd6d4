// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon/config_follower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/config/dump.h"
#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::web_config;
using test::World;
using ::testing::HasSubstr;

// A source that has one text, without a file.
class TextSource final : public ConfigSource {
 public:
  std::string held;

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] LoadResult load(const FindOwnInterface& own_interface) const override {
    return load_config(held, name_, own_interface);
  }
  [[nodiscard]] std::optional<std::string> text() const override { return held; }
  [[nodiscard]] bool says(const std::string& text) override { return text == held; }
  void look(const std::string& /*in_force*/, std::uint64_t /*now_ns*/) override {}
  [[nodiscard]] const std::string& alarm() const override { return alarm_; }

 private:
  std::string name_ = "cluster";
  std::string alarm_;
};

class ConfigFollowerTest : public ::testing::Test {
 protected:
  ConfigFollowerTest() { restart(); }
  void restart() {
    (void)world_.start(source_);
    world_.log_lines.clear();
  }
  ConfigFollower follower() { return {source_, *world_, world_}; }
  std::string last_line() const {
    return world_.log_lines.empty() ? "" : world_.log_lines.back().second;
  }
  static std::string text_with(const std::string& target) {
    return dump_config(web_config({target}));
  }

  TextSource source_;
  World world_;
};

TEST_F(ConfigFollowerTest, first_config_is_that_of_the_source) {
  source_.held = text_with("10.0.1.11");
  ASSERT_TRUE(follower().start());
  EXPECT_TRUE(world_.has_target("10.0.1.11"));
  EXPECT_EQ(world_->stored_config().source, "cluster");
  EXPECT_TRUE(world_->stored_config().is_from_file);
}

TEST_F(ConfigFollowerTest, without_any_config_the_start_fails_with_what_is_wrong) {
  source_.held = "load_balancers: 1\n";
  const Status started = follower().start();
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, HasSubstr("cluster:1"));
}

TEST_F(ConfigFollowerTest, wrong_source_lets_go_on_what_was_applied_last) {
  source_.held = text_with("10.0.1.11");
  ASSERT_TRUE(follower().start());
  source_.held = "load_balancers: 1\n";
  restart();
  ASSERT_TRUE(follower().start());
  EXPECT_TRUE(world_.has_target("10.0.1.11"));
  EXPECT_THAT(last_line(), HasSubstr("cluster is not used; the config applied last goes on:\n"));
  EXPECT_THAT(world_->snapshot().config_error, HasSubstr("cluster:1"));
}

TEST_F(ConfigFollowerTest, config_that_was_applied_past_the_source_is_the_last_word) {
  source_.held = text_with("10.0.1.11");
  ASSERT_TRUE(follower().start());
  ASSERT_TRUE(world_->apply(web_config({"10.0.1.12"}), "operator"));
  restart();
  ASSERT_TRUE(follower().start());
  EXPECT_TRUE(world_.has_target("10.0.1.12"));
  EXPECT_THAT(world_.log_lines.at(0).second,
              HasSubstr("the config in force is that of operator; cluster has not changed since"));
  source_.held = text_with("10.0.1.13");
  restart();
  ASSERT_TRUE(follower().start());
  EXPECT_TRUE(world_.has_target("10.0.1.13")) << "the source says something else since";
}

TEST_F(ConfigFollowerTest, reload_brings_the_source_into_force_or_changes_nothing) {
  source_.held = text_with("10.0.1.11");
  ASSERT_TRUE(follower().start());
  source_.held = text_with("10.0.1.12");
  ConfigFollower follows = follower();
  const auto applied = follows.reload();
  ASSERT_TRUE(std::holds_alternative<ApplyOutcome>(applied));
  EXPECT_EQ(std::get<ApplyOutcome>(applied).targets_added, 1u);
  EXPECT_THAT(last_line(), HasSubstr("read cluster: generation "));
  source_.held = "load_balancers: 1\n";
  const auto refused = follows.reload();
  ASSERT_TRUE(std::holds_alternative<std::vector<ConfigError>>(refused));
  EXPECT_TRUE(world_.has_target("10.0.1.12"));
  EXPECT_THAT(last_line(), HasSubstr("cluster is not used; what runs goes on:\ncluster:1"));
}

TEST_F(ConfigFollowerTest, vip_that_is_the_nodes_own_address_is_wrong) {
  source_.held = text_with("10.0.1.11");
  world_.local_addrs = {test::ip("203.0.113.10")};
  const Status started = follower().start();
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, HasSubstr("203.0.113.10"));
}

}  // namespace
}  // namespace millrace::control

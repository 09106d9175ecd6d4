// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/cc/temp_dir.h"

namespace millrace::program {
namespace {

using ::testing::HasSubstr;

Result<po::variables_map> parsed(std::vector<std::string> words) {
  po::options_description options;
  options.add_options()("config", po::value<std::string>())("count", po::value<unsigned>());
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_words(static_cast<int>(argv.size()), argv.data(), options, {});
}

TEST(Program, word_that_is_not_understood_is_named) {
  const auto stray = parsed({"--config", "a.yaml", "foo"});
  ASSERT_FALSE(stray);
  EXPECT_EQ(stray.error().message, "'foo' belongs to no option (see --help)");
  for (const auto& [words, said] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--frobnicate"}, "--frobnicate"},
           {{"--count", "many"}, "many"},
           {{"--count", "-1"}, "-1"},
           {{"--config"}, "--config"}}) {
    const auto refused = parsed(words);
    ASSERT_FALSE(refused) << words.front();
    EXPECT_THAT(refused.error().message, HasSubstr(said));
    EXPECT_THAT(refused.error().message, HasSubstr("--help"));
  }
  const auto good = parsed({"--config", "a.yaml"});
  ASSERT_TRUE(good);
  EXPECT_EQ((*good)["config"].as<std::string>(), "a.yaml");
}

TEST(Program, file_of_options_is_a_file) {
  const test::TempDir dir;
  const std::string pipe = dir.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  po::options_description options;
  add_common_options(options);
  for (const std::string& path : {pipe, dir.path(), dir.file("missing")}) {
    std::vector<std::string> words = {"program", "--config", path};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    const auto refused = parse(static_cast<int>(argv.size()), argv.data(), options, {});
    ASSERT_FALSE(refused) << path;
    EXPECT_THAT(refused.error().message, HasSubstr("--config: cannot read " + path));
  }
}

TEST(Program, file_that_has_no_options_is_named_with_what_it_should_have) {
  const test::TempDir dir;
  const std::string path = dir.file("millrace.yaml");
  std::ofstream(path) << "node: {name: lb-1}\n";
  po::options_description options;
  add_common_options(options);
  std::vector<std::string> words = {"program", "--config", path};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  const auto refused = parse(static_cast<int>(argv.size()), argv.data(), options, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--config " + path));
  EXPECT_THAT(refused.error().message, HasSubstr("'node: {name: lb-1}'"));
  EXPECT_THAT(refused.error().message, HasSubstr("a NAME=VALUE in each line"));
}

TEST(Program, hangup_is_no_reason_for_an_engine_to_stop) {
  const StopAsked is_stop_asked = stop_on_signals();
  ASSERT_EQ(::raise(SIGHUP), 0);
  EXPECT_FALSE(is_stop_asked());
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_TRUE(is_stop_asked());
}

}  // namespace
}  // namespace millrace::program

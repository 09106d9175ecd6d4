// SPDX-License-Identifier: Apache-2.0
//
// Files made to hurt: size, depth, alias expansion, floods of errors.
#include <gtest/gtest.h>

#include <string>

#include "controlplane/yaml/utf8.h"
#include "controlplane/yaml/yaml_tree.h"
#include "tests/unit/config/load_support.h"

namespace millrace::control {
namespace {

std::string repeat(const std::string& text, std::size_t count) {
  std::string result;
  result.reserve(text.size() * count);
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

void expect_single_error(const std::string& yaml, const std::string& reason_part) {
  const auto errors = load_errors(yaml);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_NE(errors[0].find(reason_part), std::string::npos) << errors[0];
}

TEST(HostileYamlTest, file_over_16_mib_is_refused_unread) {
  expect_single_error(repeat(" ", kYamlBytesMax + 1), "at most 16777216 (16 MiB) are read");
}

TEST(HostileYamlTest, deep_nesting_is_refused_whatever_the_brackets) {
  const std::string reason = "nested deeper than 64 levels";
  for (const std::size_t depth : {65u, 100'000u}) {
    expect_single_error("load_balancers: " + repeat("[", depth) + repeat("]", depth), reason);
    expect_single_error("load_balancers: " + repeat("{a: ", depth) + "1" + repeat("}", depth),
                        reason);
  }
  expect_single_error(repeat("- ", 10'000) + "x", reason);
  expect_single_error("load_balancers: " + repeat("[", 100'000), reason);
}

TEST(HostileYamlTest, aliases_cannot_multiply_without_bound) {
  std::string yaml = "load_balancers: []\ntarget_groups:\n- &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string below = "*a" + std::to_string(i - 1) + " ";
    yaml += "- &a" + std::to_string(i) + " [" + repeat(below + ",", 8) + below + "]\n";
  }
  expect_single_error(yaml, "values once aliases are followed");
}

TEST(HostileYamlTest, merge_keys_may_chain) {
  std::string yaml =
      "load_balancers: []\ntarget_groups:\n- &a0 {name: g, protocol: TCP, port: 1}\n";
  for (int i = 1; i < 200; ++i) {
    const std::string n = std::to_string(i);
    yaml += "- &a" + n + " {<<: *a" + std::to_string(i - 1) + ", name: g" + n + "}\n";
  }
  EXPECT_EQ(load_good(yaml).target_groups.size(), 200u);
}

TEST(HostileYamlTest, flood_of_errors_is_cut_and_counted) {
  const auto errors = load_errors("load_balancers: [" + repeat("1,", 5000) + "]");
  ASSERT_EQ(errors.size(), 101u);
  EXPECT_EQ(errors.back(), "f: 4900 more errors are not shown");
}

TEST(HostileYamlTest, long_values_and_keys_are_cut_in_messages) {
  const std::string longest(1'000'000, 'x');
  for (const std::string& yaml : {"load_balancers: []\n" + longest + ": 1\n",
                                  "load_balancers: []\nnode: {name: " + longest + "}\n"}) {
    const auto errors = load_errors(yaml);
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_LT(errors[0].size(), 500u);
  }
}

TEST(HostileYamlTest, messages_stay_utf8_when_a_value_is_cut) {
  const auto errors = load_errors("load_balancers: []\nnode: {name: a" + repeat("é", 200) + "}\n");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(find_bad_utf8(errors[0]), std::nullopt) << errors[0];
}

TEST(Utf8Test, well_formed_text_passes) {
  for (const char* text : {"", "plain\ttext\r\n", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                           "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(find_bad_utf8(text), std::nullopt) << text;
  }
}

TEST(Utf8Test, place_of_the_first_bad_byte_is_found) {
  struct Case {
    std::string text;
    std::size_t offset;
  };
  for (const Case& c :
       {Case{"ab\x80", 2}, Case{"\xc0\x80", 0}, Case{"\xc1\xbf", 0}, Case{"\xe0\x9f\xbf", 0},
        Case{"\xed\xa0\x80", 0}, Case{"\xf0\x8f\xbf\xbf", 0}, Case{"\xf4\x90\x80\x80", 0},
        Case{"\xf5\x80\x80\x80", 0}, Case{"a\xe2\x82", 1}, Case{"a\xe2\x28\xa1", 1},
        Case{"a\x1b[0m", 1}, Case{"a\x7f", 1}, Case{"\xff\xfe", 0}}) {
    EXPECT_EQ(find_bad_utf8(c.text), std::optional(c.offset)) << testing::PrintToString(c.text);
  }
}

}  // namespace
}  // namespace millrace::control

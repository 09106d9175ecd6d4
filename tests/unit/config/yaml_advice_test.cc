// SPDX-License-Identifier: Apache-2.0
//
// One slip in a good file, and what the operator is told of it.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/config/load_support.h"

namespace millrace::control {
namespace {

constexpr const char* kGood = R"(load_balancers:
  - name: web
    addresses: [203.0.113.10]
    listeners:
      - {protocol: TCP, port: 80, default_target_group: g}
target_groups:
  - name: g
    protocol: TCP
    port: 80
    health_check:
      protocol: HTTP
      path: /x
    targets:
      - id: 10.0.0.1
        weight: 5
      - id: 10.0.0.2
)";

struct Slip {
  const char* right;
  const char* wrong;
  const char* said;  // behind "not valid YAML: "
};

std::string with(const Slip& slip) {
  std::string text = kGood;
  const std::size_t at = text.find(slip.right);
  EXPECT_NE(at, std::string::npos) << slip.right;
  return text.replace(at, std::string(slip.right).size(), slip.wrong);
}

void expect_told(const std::string& text, const std::string& wanted) {
  const auto errors = load_errors(text);
  ASSERT_EQ(errors.size(), 1u) << text;
  EXPECT_EQ(errors.front(), wanted) << text;
}

constexpr Slip kIndented[] = {
    {"    protocol: TCP\n", "   protocol: TCP\n",
     "f:8:4: not valid YAML: the line begins in column 4, where nothing above does that it could "
     "belong to; lines of one map or list begin in one column (possible here: 1, 3, 5)"},
    {"    protocol: TCP\n", "     protocol: TCP\n",
     "f:8:14: not valid YAML: the line begins in column 6, further right than line 7, whose value "
     "is complete; keys of one map begin in one column"},
    {"        weight: 5", "       weight: 5",
     "f:15:8: not valid YAML: the line begins in column 8, where nothing above does that it could "
     "belong to; lines of one map or list begin in one column (possible here: 1, 3, 5, 7, 9)"},
    {"        weight: 5", "    weight: 5",
     "f:16:11: not valid YAML: the line begins in column 7, further right than line 15, whose "
     "value is complete; keys of one map begin in one column"},
    {"target_groups:", " target_groups:",
     "f:6:2: not valid YAML: the line begins in column 2, where nothing above does that it could "
     "belong to; lines of one map or list begin in one column (possible here: 1, 3, 5, 7, 9)"},
    {"      - id: 10.0.0.2", "      id: 10.0.0.2",
     "f:16:7: not valid YAML: the lines above that begin in column 7 are entries of a list, which "
     "begin with `- `"},
    {"      - id: 10.0.0.2", "      -id: 10.0.0.2",
     "f:16:7: not valid YAML: the lines above that begin in column 7 are entries of a list, which "
     "begin with `- `"},
    {"      - id: 10.0.0.2", "        - id: 10.0.0.2",
     "f:16:9: not valid YAML: the lines above that begin in column 9 are keys, among which there "
     "can be no entry of a list (`- `)"},
    {"      protocol: HTTP", "\t\tprotocol: HTTP",
     "f:11:3: not valid YAML: the line is indented by a tab; YAML takes spaces alone"},
    {"    protocol: TCP\n", "  \tprotocol: TCP\n",
     "f:8:3: not valid YAML: the line is indented by a tab; YAML takes spaces alone"},
};

TEST(YamlAdviceTest, line_that_is_indented_wrongly_is_told_by_columns) {
  for (const Slip& slip : kIndented) expect_told(with(slip), slip.said);
}

constexpr Slip kOther[] = {
    {"    targets:\n", "    targets\n",
     "f:14:11: not valid YAML: line 13, \"targets\", is no key: it needs a colon and a space"},
    {"    port: 80\n", "    port:80\n",
     "f:10:17: not valid YAML: line 9, \"port:80\", is no key: it needs a colon and a space"},
    {"path: /x", "path: a: b",
     "f:12:14: not valid YAML: a text with `: ` in it must stand in quotes"},
    {"path: /x", "path: @x",
     "f:12:13: not valid YAML: a value that begins with \"@\" must stand in quotes"},
    {"path: /x", "path: \"\\q\"",
     "f:12:16: not valid YAML: a \\ in \"double quotes\" begins a special character; write \\\\, "
     "or "
     "'single quotes', which take it as it is"},
    {"name: g", "name: \"g\" x",
     "f:7:15: not valid YAML: a value has ended before this; put it into quotes if this belongs to "
     "it"},
    {"group: g}", "group: g",
     "f:7:3: not valid YAML: in the map { of line 5, column 9: a comma is missing before this, or "
     "its }"},
    {"TCP, port: 80,", "TCP port: 80,",
     "f:5:28: not valid YAML: in the map { of line 5, column 9: a comma is missing before this, or "
     "its }"},
    {"[203.0.113.10]", "[203.0.113.10 # ]",
     "f:4:5: not valid YAML: in the list [ of line 3, column 16: a comma is missing before this, "
     "or its ]"},
    {"[203.0.113.10]", "[203.0.113.10]]",
     "f:3:30: not valid YAML: a ] or } that ends nothing; one too many?"},
};

TEST(YamlAdviceTest, bracket_quote_or_colon_that_is_missing_is_named) {
  for (const Slip& slip : kOther) expect_told(with(slip), slip.said);
}

// A text may end anywhere, and an error may be told beyond its last line.
TEST(YamlAdviceTest, text_that_ends_anywhere_is_told_with_a_place) {
  const std::string text = kGood;
  for (std::size_t length = 1; length < text.size(); ++length) {
    for (const std::string& error : load_errors(text.substr(0, length))) {
      EXPECT_EQ(error.rfind("f:", 0), 0u) << error;
    }
  }
}

}  // namespace
}  // namespace millrace::control

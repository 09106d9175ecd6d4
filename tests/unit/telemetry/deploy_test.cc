// SPDX-License-Identifier: Apache-2.0
//
// What operators are given (deploy/metrics.md, alert rules, dashboard) speaks of metrics that
// exist.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "controlplane/telemetry/metrics.h"

namespace millrace::control {
namespace {

const std::string kDeploy = MILLRACE_DEPLOY;

std::string read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::set<std::string> known_names() {
  std::set<std::string> names;
  for (const MetricInfo& info : metric_catalogue()) names.insert(info.name);
  return names;
}

// Metric names in a PromQL expression or a file of them.
std::set<std::string> names_in(const std::string& text) {
  const auto is_part = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  std::set<std::string> names;
  const std::string prefix = "millrace_";
  for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1)) {
    const auto end =
        std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), is_part);
    names.emplace(text.begin() + static_cast<std::ptrdiff_t>(at), end);
  }
  return names;
}

void collect_expressions(const boost::json::value& value, std::string& out) {
  if (const auto* array = value.if_array()) {
    for (const auto& element : *array) collect_expressions(element, out);
  }
  const auto* object = value.if_object();
  if (object == nullptr) return;
  for (const auto& [key, member] : *object) {
    const bool is_query = key == "expr" || key == "query" || key == "definition";
    if (is_query && member.is_string()) out += std::string(member.as_string()) + "\n";
    collect_expressions(member, out);
  }
}

std::string page() {
  std::string text = read(kDeploy + "/metrics.md");
  text.resize(std::min(text.size(), text.find("\n| Metric")));
  text +=
      "\n| Metric | Type | Labels | Meaning | NLB |\n"
      "|---|---|---|---|---|\n";
  for (const MetricInfo& info : metric_catalogue()) {
    const char* kind = info.kind == MetricKind::counter ? "counter" : "gauge";
    text += std::string("| `") + info.name + "` | " + kind + " | " + info.labels + " | " +
            info.help + " | " + info.nlb + " |\n";
  }
  return text;
}

TEST(Deploy, metrics_page_lists_the_catalogue) {
  const std::string expected = page();
  if (read(kDeploy + "/metrics.md") == expected) return;
  const std::string written = ::testing::TempDir() + "millrace-metrics.md";
  std::ofstream(written) << expected;
  FAIL() << "deploy/metrics.md differs from the code; what it should be is in " << written;
}

TEST(Deploy, alert_rules_use_metrics_that_exist) {
  const auto used = names_in(read(kDeploy + "/alerts/millrace.yml"));
  const auto known = known_names();
  EXPECT_GT(used.size(), 10U);
  for (const std::string& name : used) EXPECT_TRUE(known.contains(name)) << name;
}

TEST(Deploy, runbook_lists_every_kind_of_alarm_and_alert_rules_know_no_other) {
  std::set<std::string> labels;
  const std::string runbook = read(kDeploy + "/runbook.md");
  for (std::size_t i = 0; i < kAlarmKindCount; ++i) {
    const std::string label = alarm_label(static_cast<AlarmKind>(i));
    EXPECT_TRUE(labels.insert(label).second) << label;
    EXPECT_NE(runbook.find("\n| `" + label + "` | "), std::string::npos) << label;
  }
  const std::string rules = read(kDeploy + "/alerts/millrace.yml");
  const std::regex used("millrace_alarms\\{alarm=~?\"([a-z_|]+)\"\\}");
  const std::sregex_iterator end;
  std::size_t count = 0;
  for (std::sregex_iterator rule(rules.begin(), rules.end(), used); rule != end; ++rule, ++count) {
    std::istringstream words((*rule)[1].str());
    for (std::string word; std::getline(words, word, '|');) {
      EXPECT_TRUE(labels.contains(word)) << word;
    }
  }
  EXPECT_GT(count, 3U);
}

TEST(Deploy, dashboard_is_valid_json_and_uses_metrics_that_exist) {
  boost::json::error_code error;
  const auto dashboard = boost::json::parse(read(kDeploy + "/dashboards/millrace.json"), error);
  ASSERT_FALSE(error) << error.message();
  std::string expressions;
  collect_expressions(dashboard, expressions);
  const auto known = known_names();
  const auto used = names_in(expressions);
  EXPECT_GT(used.size(), 15U);
  for (const std::string& name : used) EXPECT_TRUE(known.contains(name)) << name;
  std::set<std::int64_t> ids;
  for (const auto& panel : dashboard.at("panels").as_array()) {
    EXPECT_TRUE(ids.insert(panel.at("id").as_int64()).second) << panel.at("title");
  }
}

}  // namespace
}  // namespace millrace::control

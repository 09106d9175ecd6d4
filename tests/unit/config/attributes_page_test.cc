// SPDX-License-Identifier: Apache-2.0
//
// What users read of attributes (deploy/attributes.md, deploy/examples/full.yaml) is what the rows
// say.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "controlplane/config/load.h"
#include "controlplane/model/attribute_tables.h"

namespace millrace::control {
namespace {

const std::string kDeploy = MILLRACE_DEPLOY;
constexpr std::size_t kColumnsMax = 100;

std::string read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void expect_content(const std::string& name, const std::string& expected) {
  if (read(kDeploy + "/" + name) == expected) return;
  const std::string written = ::testing::TempDir() + "millrace-" + name.substr(name.rfind('/') + 1);
  std::ofstream(written) << expected;
  FAIL() << "deploy/" << name << " differs from the rows; what it should be is in " << written;
}

template <typename Subject>
bool is_fixed(const Attribute<Subject>& row) {
  return std::holds_alternative<typename Attribute<Subject>::Fixed>(row.value);
}

// What the default depends on, with its words.
std::vector<std::pair<std::string, TargetGroup>> defaults(const TargetGroup&) {
  return {{"TCP", default_target_group(Protocol::tcp)},
          {"UDP and TCP_UDP", default_target_group(Protocol::udp)}};
}
std::vector<std::pair<std::string, HealthCheck>> defaults(const HealthCheck&) {
  HealthCheck http;
  http.protocol = HealthCheckProtocol::http;
  http.timeout_ms = default_timeout_ms(http.protocol);
  return {{"TCP", HealthCheck{}}, {"HTTP", http}};
}
std::vector<std::pair<std::string, Listener>> defaults(const Listener& listener) {
  return {{"TCP", listener}};
}

std::vector<std::pair<std::string, LoadBalancer>> defaults(const LoadBalancer& balancer) {
  return {{"all", balancer}};
}

template <typename Subject>
std::string default_text(const Attribute<Subject>& row) {
  const auto cases = defaults(Subject{});
  const std::string first = value_text(row, cases.front().second);
  const std::string last = value_text(row, cases.back().second);
  if (row.decides || first == last) return first.empty() ? "none" : first;
  return first + " for " + cases.front().first + ", " + last + " for " + cases.back().first;
}

template <typename Subject>
std::string table_of(std::span<const Attribute<Subject>> rows) {
  std::string text;
  for (const Attribute<Subject>& row : rows) {
    if (is_fixed(row)) continue;
    text += "| `" + std::string(row.name) + "` | " + allowed_text(row) + " | " + default_text(row) +
            " | " + std::string(row.applies_to) + " | " + std::string(row.meaning) + " |\n";
  }
  return text;
}

std::string fixed_table() {
  std::string text = "| Attribute | Value | Why |\n|---|---|---|\n";
  for (const Attribute<TargetGroup>& row : target_group_attributes()) {
    const auto* fixed = std::get_if<Attribute<TargetGroup>::Fixed>(&row.value);
    if (fixed == nullptr) continue;
    text += "| `" + std::string(row.name) + "` | " + std::string(fixed->value) + " | " +
            std::string(fixed->reason) + " |\n";
  }
  return text;
}

// The page's text with the table behind each heading made anew.
class Page {
 public:
  explicit Page(std::string text) : text_(std::move(text)) {}

  void replace_table(const std::string& heading, const std::string& table) {
    const auto begin = text_.find("\n|", text_.find("\n" + heading + "\n"));
    ASSERT_NE(begin, std::string::npos) << heading;
    const auto end = std::min(text_.find("\n\n", begin), text_.size() - 1);
    text_.replace(begin + 1, end - begin, table);
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST(AttributesPage, lists_every_row) {
  const std::string head =
      "| Attribute | Values | Default | Applies to | Meaning |\n|---|---|---|---|---|\n";
  Page page(read(kDeploy + "/attributes.md"));
  page.replace_table("## Target groups", head + table_of(target_group_attributes()) +
                                             table_of(health_check_attributes()));
  page.replace_table("## Health checks", head + table_of(health_check_settings()));
  page.replace_table("## Load balancers", head + table_of(load_balancer_attributes()));
  page.replace_table("## Listeners", head + table_of(listener_attributes()));
  page.replace_table("## With one possible value", fixed_table());
  expect_content("attributes.md", page.text());
}

// `text` as comment lines.
std::string comment(const std::string& indent, const std::string& text) {
  std::string lines;
  std::string line = indent + "#";
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (line.size() + 1 + word.size() > kColumnsMax) {
      lines += line + "\n";
      line = indent + "#";
    }
    line += " " + word;
  }
  return lines + line + "\n";
}

template <typename Subject>
std::string explained(const std::string& indent, const Attribute<Subject>& row) {
  std::string text(row.meaning);
  if (!row.applies_to.empty()) text += " Only with " + std::string(row.applies_to) + ".";
  text += " Default: " + default_text(row) + ". Possible: " + allowed_text(row) + ".";
  return comment(indent, text);
}

template <typename Subject>
std::string as_line(const Attribute<Subject>& row, const Subject& subject) {
  const bool is_quoted = std::holds_alternative<typename Attribute<Subject>::Special>(row.value);
  const std::string text = value_text(row, subject);
  return std::string(row.name) + ": " + (is_quoted ? "\"" + text + "\"" : text) + "\n";
}

// Every row with its explanation and the subject's value. What cannot stand beside the rest is a
// comment: it does not apply, or is given in another unit.
template <typename Subject>
std::string block_of(const std::string& indent, std::span<const Attribute<Subject>> rows,
                     const Subject& subject) {
  std::set<std::string_view> given_otherwise;
  for (const auto& row : health_check_settings()) given_otherwise.insert(row.in_milliseconds);
  std::string text;
  for (const Attribute<Subject>& row : rows) {
    if (is_fixed(row)) continue;
    const bool is_possible = refusal(row, subject).empty() && !given_otherwise.contains(row.name);
    text += explained(indent, row) + indent + (is_possible ? "" : "# ") + as_line(row, subject);
  }
  return text;
}

std::string fixed_block(const std::string& indent, const TargetGroup& group) {
  std::string text =
      comment(indent,
              "Attributes with one possible value in this version: they may be named, not "
              "varied. attributes.md says why.");
  for (const auto& row : target_group_attributes()) {
    if (is_fixed(row)) text += indent + as_line(row, group);
  }
  return text;
}

// `text` with what is between `begin` and `end`, from `from` on, made anew.
std::string replaced(const std::string& text, std::size_t from, const std::string& begin,
                     const std::string& end, const std::string& block) {
  const auto first = text.find(begin, from) + begin.size();
  const auto last = text.find(end, first);
  EXPECT_LT(first, last);
  EXPECT_NE(last, std::string::npos);
  return text.substr(0, first) + block + text.substr(last);
}

TEST(FullExample, names_and_explains_every_row) {
  const LoadResult loaded = load_config_file(kDeploy + "/examples/full.yaml");
  ASSERT_TRUE(std::holds_alternative<Config>(loaded));
  const Config& config = std::get<Config>(loaded);
  const TargetGroup& group = config.target_groups.front();
  std::string text = read(kDeploy + "/examples/full.yaml");
  const std::string in_group(6, ' ');
  const std::string in_balancer(6, ' ');
  const std::string in_listener(10, ' ');
  text = replaced(text, text.find("\ntarget_groups:"), "\n    attributes:\n", "    health_check:\n",
                  block_of(in_group, target_group_attributes(), group) +
                      block_of(in_group, health_check_attributes(), group.health_check) +
                      fixed_block(in_group, group));
  text = replaced(text, text.find("\ntarget_groups:"), "\n    health_check:\n",
                  "    targets:", block_of(in_group, health_check_settings(), group.health_check));
  text = replaced(text, 0, "\n    attributes:\n", "    listeners:",
                  block_of(in_balancer, load_balancer_attributes(), config.load_balancers.front()));
  text = replaced(text, 0, "\n        attributes:\n", "      - protocol: UDP",
                  block_of(in_listener, listener_attributes(),
                           config.load_balancers.front().listeners.front()));
  expect_content("examples/full.yaml", text);
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// The rows of all attributes: what they take, what they refuse, and that they fit each other.
#include "controlplane/model/attribute.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <functional>
#include <set>

#include "controlplane/model/attribute_tables.h"
#include "tests/support/cc/random_settings.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Calls `test(row, subject)` for every row, with a subject as it is by default.
template <typename Test>
void for_each_row(Test test) {
  const auto walk = [&](const auto& rows, const auto& subject) {
    for (const auto& row : rows) {
      SCOPED_TRACE(std::string(row.name));
      test(row, subject);
    }
  };
  walk(target_group_attributes(), TargetGroup{});
  walk(health_check_attributes(), HealthCheck{});
  walk(health_check_settings(), HealthCheck{});
  walk(listener_attributes(), Listener{});
  walk(load_balancer_attributes(), LoadBalancer{});
}

template <typename Subject>
const auto* number_of(const Attribute<Subject>& row) {
  return std::get_if<typename Attribute<Subject>::Number>(&row.value);
}
template <typename Subject>
const auto* fixed_of(const Attribute<Subject>& row) {
  return std::get_if<typename Attribute<Subject>::Fixed>(&row.value);
}

template <typename Subject>
std::string error_of(const Attribute<Subject>& row, const std::string& text) {
  Subject subject;
  const Status set = read_value(row, text, subject);
  EXPECT_EQ(subject, Subject{}) << "a wrong value leaves the subject alone";
  return set ? "" : set.error().message;
}

TEST(AttributeTest, every_value_survives_a_round_trip_as_text) {
  for_each_row([](const auto& row, const auto& by_default) {
    EXPECT_TRUE(rc::check("read(text(subject)) == subject", [&] {
      auto subject = by_default;
      RC_ASSERT(read_value(row, test::random_text(row), subject).has_value());
      auto again = by_default;
      RC_ASSERT(read_value(row, value_text(row, subject), again).has_value());
      RC_ASSERT(again == subject);
    }));
  });
}

TEST(AttributeTest, number_is_taken_up_to_both_ends_of_its_range_and_not_beyond) {
  int seen = 0;
  for_each_row([&](const auto& row, const auto& by_default) {
    const auto* number = number_of(row);
    if (number == nullptr) return;
    ++seen;
    for (const std::uint32_t end : {number->range.min, number->range.max}) {
      auto subject = by_default;
      EXPECT_TRUE(read_value(row, std::to_string(end), subject)) << end;
      EXPECT_EQ(value_text(row, subject), std::to_string(end));
    }
    const std::int64_t below = std::int64_t{number->range.min} - 1;
    const std::int64_t above = std::int64_t{number->range.max} + 1;
    for (const std::int64_t beyond : {below, above}) {
      EXPECT_EQ(error_of(row, std::to_string(beyond)),
                "\"" + std::to_string(beyond) + "\" must be a whole number, " + allowed_text(row));
    }
  });
  EXPECT_GT(seen, 5);
}

TEST(AttributeTest, wrong_text_is_quoted_and_what_is_allowed_is_named) {
  for_each_row([](const auto& row, const auto&) {
    for (const char* text : {"no such value", "", " 1", "1 ", "\n"}) {
      const std::string error = error_of(row, text);
      EXPECT_THAT(error, StartsWith(quote(text) + " "));
      EXPECT_THAT(error, HasSubstr(allowed_text(row)));
    }
  });
}

TEST(AttributeTest, fixed_one_takes_its_value_and_says_why_there_is_no_other) {
  int seen = 0;
  for_each_row([&](const auto& row, auto subject) {
    const auto* fixed = fixed_of(row);
    if (fixed == nullptr) return;
    ++seen;
    EXPECT_TRUE(read_value(row, fixed->value, subject));
    EXPECT_EQ(value_text(row, subject), fixed->value);
    EXPECT_EQ(error_of(row, "other"), "\"other\" cannot be chosen; only " +
                                          std::string(fixed->value) +
                                          " is possible: " + std::string(fixed->reason));
  });
  EXPECT_GT(seen, 5);
}

TEST(AttributeTest, word_that_is_understood_but_not_accepted_says_why) {
  EXPECT_EQ(error_of(target_group_attributes()[0], "geneve"),
            "\"geneve\": not supported by this version; nat, dsr, ipip and gue are");
  EXPECT_EQ(error_of(health_check_settings()[0], "HTTPS"),
            "\"HTTPS\": not supported by this version; TCP and HTTP are");
  EXPECT_EQ(error_of(target_group_attributes()[0], "nta"),
            "\"nta\" is not one of: nat, dsr, ipip, gue (did you mean `nat`?)");
}

TEST(AttributeTest, words_of_the_file_are_those_of_everything_else_that_is_shown) {
  for (const Forwarding forwarding :
       {Forwarding::nat, Forwarding::dsr, Forwarding::ipip, Forwarding::gue}) {
    TargetGroup group;
    group.forwarding = forwarding;
    EXPECT_EQ(value_text(target_group_attributes()[0], group), to_string(forwarding));
  }
  for (const HealthCheckProtocol protocol : {HealthCheckProtocol::tcp, HealthCheckProtocol::http}) {
    HealthCheck check;
    check.protocol = protocol;
    EXPECT_EQ(value_text(health_check_settings()[0], check), to_string(protocol));
  }
}

// A value that is right by itself, where it is impossible, and what is said.
template <typename Subject>
struct Refused {
  std::string name;
  std::function<void(Subject&)> change;
  std::string text;
};

// Every row that refuses something is in `refused`.
template <typename Subject>
void check_refusals(std::span<const Attribute<Subject>> rows,
                    const std::vector<Refused<Subject>>& refused) {
  std::set<std::string> seen;
  for (const Attribute<Subject>& row : rows) {
    for (const Refused<Subject>& one : refused) {
      if (one.name != row.name) continue;
      Subject subject;
      one.change(subject);
      EXPECT_EQ(refusal(row, subject), one.text);
      seen.insert(one.name);
    }
    EXPECT_EQ(row.refusal != nullptr, seen.contains(std::string(row.name))) << row.name;
  }
  for (const Refused<Subject>& one : refused) EXPECT_TRUE(seen.contains(one.name)) << one.name;
}

TEST(AttributeTest, attribute_of_a_group_is_refused_where_it_does_not_apply) {
  check_refusals<TargetGroup>(
      target_group_attributes(),
      {{"millrace.gue.port", [](TargetGroup& group) { group.forwarding = Forwarding::ipip; },
        "is for millrace.forwarding: gue only; this group's is ipip"},
       {"millrace.previous_target.timeout_seconds", [](TargetGroup&) {},
        "is for millrace.forwarding: dsr, ipip and gue; this group's is nat"},
       {"millrace.asymmetric_returns.enabled",
        [](TargetGroup& group) {
          group.forwarding = Forwarding::dsr;
          group.asymmetric_returns = true;
        },
        "is for millrace.forwarding: nat only; this group's is dsr, whose replies pass no node"},
       {"millrace.tcp.mss_clamp",
        [](TargetGroup& group) {
          group.protocol = Protocol::udp;
          group.mss_clamp = 1400;
        },
        "is for protocol: TCP and TCP_UDP; this group's is UDP"},
       {"millrace.tcp.mss_clamp",
        [](TargetGroup& group) {
          group.forwarding = Forwarding::gue;
          group.mss_clamp = kMssClampAuto;
        },
        "is for millrace.forwarding: nat only; this group's is gue, whose replies pass no node, so "
        "clients would not hear of it"},
       {"target_health_state.unhealthy.connection_termination.enabled",
        [](TargetGroup& group) { group.protocol = Protocol::udp; },
        "cannot be true for UDP: its flows have no connection to terminate"}});
}

TEST(AttributeTest, what_changes_nothing_may_be_said_anywhere) {
  TargetGroup group = default_target_group(Protocol::udp);
  group.forwarding = Forwarding::dsr;
  group.asymmetric_returns = false;
  for (const auto& row : target_group_attributes()) {
    if (row.name == "millrace.gue.port") continue;
    EXPECT_EQ(refusal(row, group), "") << row.name;
  }
}

TEST(AttributeTest, setting_of_a_health_check_is_refused_where_it_does_not_apply) {
  const auto slow = [](HealthCheck& check) { check.timeout_ms = check.interval_ms + 1; };
  const auto nothing = [](HealthCheck&) {};
  const std::string too_long =
      "the timeout (30001 ms) must not be longer than the interval (30000 ms)";
  const std::string not_http = "is for protocol: HTTP only; this health check is TCP";
  check_refusals<HealthCheck>(health_check_settings(), {{"path", nothing, not_http},
                                                        {"timeout_seconds", slow, too_long},
                                                        {"matcher", nothing, not_http}});
  check_refusals<HealthCheck>(
      health_check_attributes(),
      {{"millrace.health_check.timeout_milliseconds", slow, too_long},
       {"millrace.health_check.host", nothing,
        "is for a health check of protocol: HTTP only; this group's is TCP"}});
}

TEST(AttributeTest, attribute_of_a_listener_is_refused_where_it_does_not_apply) {
  check_refusals<Listener>(
      listener_attributes(),
      {{"tcp.idle_timeout.seconds", [](Listener& listener) { listener.protocol = Protocol::udp; },
        "is for TCP and TCP_UDP listeners only; the idle timeout of UDP flows is 120 seconds"}});
}

TEST(AttributeTest, rows_fit_each_other) {
  std::set<std::string_view> names;
  for (const auto& row : target_group_attributes()) EXPECT_TRUE(names.insert(row.name).second);
  for (const auto& row : health_check_attributes()) EXPECT_TRUE(names.insert(row.name).second);
  for_each_row([&](const auto& row, const auto&) {
    EXPECT_NE(row.meaning.empty(), fixed_of(row) == nullptr) << "a meaning, or a reason";
    EXPECT_TRUE(row.applies_to.empty() || row.refusal != nullptr);
    EXPECT_TRUE(row.in_milliseconds.empty() || names.contains(row.in_milliseconds));
  });
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Every command of the API, asked rightly and wrongly.
#include "controlplane/api/commands.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <tuple>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/api/fake_controller.h"
#include "tests/unit/api/flow_table_file.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

constexpr const char* kGoodConfig =
    "load_balancers: [{name: web, addresses: [203.0.113.10], listeners: ["
    "{protocol: TCP, port: 80, default_target_group: g}]}]\\n"
    "target_groups: [{name: g, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}]";

class CommandsTest : public testing::Test {
 protected:
  std::string ask(const std::string& request) {
    return answer_request(request, {.uid = 0, .pid = 1}, node_.parts());
  }
  // The result of a request that must succeed.
  json::object result(const std::string& request) {
    const std::string line = ask(request);
    EXPECT_EQ(line.find('\n'), std::string::npos) << "an answer is one line";
    const json::value answer = json::parse(line);
    EXPECT_TRUE(answer.at("ok").as_bool()) << line;
    return answer.as_object().contains("result") ? answer.at("result").as_object() : json::object{};
  }
  // "place: reason" of each error of a request that must fail.
  std::vector<std::string> errors(const std::string& request) {
    const std::string line = ask(request);
    const json::value answer = json::parse(line);
    EXPECT_FALSE(answer.at("ok").as_bool()) << line;
    std::vector<std::string> texts;
    if (!answer.as_object().contains("errors")) return texts;
    for (const json::value& error : answer.at("errors").as_array()) {
      texts.push_back(std::string(error.at("place").as_string().c_str()) + ": " +
                      error.at("reason").as_string().c_str());
    }
    return texts;
  }
  using Texts = std::vector<std::string>;

  SmallNode node_;
};

TEST_F(CommandsTest, what_is_no_request_is_refused_with_the_reason) {
  EXPECT_EQ(errors("hello"), Texts{"request: not valid JSON: syntax error"});
  EXPECT_EQ(errors("").size(), 1u);
  EXPECT_EQ(errors("[]"), Texts{R"(request: must be an object such as {"command": "status"})"});
  EXPECT_EQ(errors("{\"command\": 5}").size(), 1u);
  EXPECT_EQ(errors("{}").size(), 1u);
  EXPECT_EQ(errors(std::string(10'000, '[')).size(), 1u);
  EXPECT_EQ(errors("{\"command\": \"status\"} x").size(), 1u);
  EXPECT_EQ(errors(R"({"command": "statsu"})"),
            Texts{"request.command: \"statsu\" is not a command (did you mean `status`?); known: "
                  "status, targets, listeners, counters, validate, apply, reload, drain, undrain, "
                  "explain, flows"});
}

TEST_F(CommandsTest, unknown_fields_are_refused_by_every_command) {
  for (const std::string command : {"status", "targets", "listeners", "counters", "validate",
                                    "apply", "drain", "undrain", "explain", "flows"}) {
    const auto found = errors(R"({"command": ")" + command + R"(", "colour": 1})");
    ASSERT_FALSE(found.empty()) << command;
    EXPECT_EQ(found[0].rfind("request.colour: unknown field", 0), 0u) << found[0];
  }
  EXPECT_TRUE(node_.controller.applied.empty());
  EXPECT_TRUE(node_.controller.drained.empty());
}

TEST_F(CommandsTest, status_says_what_runs) {
  node_.target(0, 1).state = TargetState::unhealthy;
  const json::object status = result(R"({"command": "status"})");
  EXPECT_EQ(status.at("node").as_string(), "lb-1");
  EXPECT_EQ(status.at("generation").to_number<int>(), 1);
  EXPECT_TRUE(status.at("engine").at("running").as_bool());
  const json::array& groups = status.at("target_groups").as_array();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].at("healthy").to_number<int>(), 1);
  EXPECT_EQ(groups[0].at("unhealthy").to_number<int>(), 1);
  EXPECT_EQ(groups[1].at("healthy").to_number<int>(), 2);
}

TEST_F(CommandsTest, what_an_engine_that_cannot_be_seen_would_tell_is_null) {
  node_.target(0, 0).next_hop_resolved = true;
  const auto ask_all = [this] {
    return std::tuple(result(R"({"command": "targets"})"), result(R"({"command": "listeners"})"),
                      result(R"({"command": "counters"})"));
  };
  node_.controller.state.engine.workers.resize(1);
  {
    const auto [targets, listeners, counters] = ask_all();
    const json::value& target = targets.at("target_groups").at(0).at("targets").at(0);
    EXPECT_EQ(target.at("active_flows").to_number<int>(), 0);
    EXPECT_TRUE(target.at("next_hop_resolved").as_bool());
    EXPECT_EQ(listeners.at("listeners").at(0).at("packets").to_number<int>(), 0);
    EXPECT_EQ(counters.at("counters").at("rx_packets").to_number<int>(), 0);
    for (const json::object& answer : {targets, listeners, counters}) {
      EXPECT_TRUE(answer.at("problems").as_array().empty());
    }
  }
  node_.controller.state.engine = unseen_engine("cannot open stats");
  node_.target(0, 0).next_hop_resolved.reset();
  const auto [targets, listeners, counters] = ask_all();
  const json::value& target = targets.at("target_groups").at(0).at("targets").at(0);
  for (const char* name : {"next_hop_resolved", "active_flows", "new_flows", "packets", "bytes"}) {
    EXPECT_TRUE(target.at(name).is_null()) << name;
  }
  for (const char* name : {"new_flows", "packets", "bytes", "client_resets"}) {
    EXPECT_TRUE(listeners.at("listeners").at(0).at(name).is_null()) << name;
  }
  EXPECT_TRUE(counters.at("counters").as_object().empty());
  EXPECT_TRUE(counters.at("drops").as_object().empty());
  for (const json::object& answer : {targets, listeners, counters}) {
    EXPECT_EQ(json::serialize(answer.at("problems")), R"(["cannot open stats"])");
  }
}

TEST_F(CommandsTest, targets_can_be_asked_for_one_group) {
  node_.target(0, 0).drain_seconds_left = 17;
  node_.target(0, 0).state = TargetState::draining;
  node_.target(0, 0).stats.bytes = 1ULL << 60;
  EXPECT_EQ(result(R"({"command": "targets"})").at("target_groups").as_array().size(), 2u);
  const json::object one = result(R"({"command": "targets", "target_group": "web-4"})");
  ASSERT_EQ(one.at("target_groups").as_array().size(), 1u);
  const json::value& target = one.at("target_groups").at(0).at("targets").at(0);
  EXPECT_EQ(target.at("target").as_string(), "web-4/10.0.1.11:8080");
  EXPECT_EQ(target.at("state").as_string(), "draining");
  EXPECT_EQ(target.at("drain_seconds_left").to_number<int>(), 17);
  EXPECT_EQ(target.at("bytes").to_number<std::uint64_t>(), 1ULL << 60);
  EXPECT_TRUE(one.at("target_groups").at(0).at("targets").at(1).at("drain_seconds_left").is_null());
  EXPECT_EQ(errors(R"({"command": "targets", "target_group": "web-5"})"),
            Texts{"request.target_group: there is no target group \"web-5\" "
                  "(did you mean `web-4`?); there are: web-4, web-6"});
}

TEST_F(CommandsTest, of_many_target_groups_the_first_are_named) {
  node_.controller.state.target_groups.resize(25, node_.controller.state.target_groups[1]);
  const Texts said = errors(R"({"command": "targets", "target_group": "nothing-like-it"})");
  ASSERT_EQ(said.size(), 1u);
  EXPECT_NE(said[0].find("; there are: web-4, web-6, "), std::string::npos) << said[0];
  EXPECT_TRUE(said[0].ends_with(", web-6 and 5 more")) << said[0];
  node_.controller.state.target_groups.clear();
  EXPECT_EQ(errors(R"({"command": "targets", "target_group": "web-4"})"),
            Texts{"request.target_group: there is no target group \"web-4\"; there are: none"});
}

TEST_F(CommandsTest, listeners_are_listed_by_vip) {
  const json::object listed = result(R"({"command": "listeners"})");
  const json::array& listeners = listed.at("listeners").as_array();
  ASSERT_EQ(listeners.size(), 2u);
  EXPECT_EQ(listeners[1].at("vip").as_string(), "2001:db8:113::10");
  EXPECT_EQ(listeners[1].at("target_group").as_string(), "web-6");
}

TEST_F(CommandsTest, vips_are_listed_with_what_becomes_of_what_no_listener_is_for) {
  VipSnapshot& vip = node_.controller.state.vips[1];
  vip.echo = Echo::healthy;
  vip.answers_echo = false;
  vip.no_listener = NoListener::reject;
  const json::object listed = result(R"({"command": "listeners"})");
  const json::array& vips = listed.at("vips").as_array();
  ASSERT_EQ(vips.size(), 2u);
  EXPECT_EQ(vips[0].at("echo").as_string(), "always");
  EXPECT_EQ(vips[0].at("no_listener").as_string(), "drop");
  EXPECT_EQ(vips[1].at("vip").as_string(), "2001:db8:113::10");
  EXPECT_EQ(vips[1].at("load_balancer").as_string(), "web");
  EXPECT_EQ(vips[1].at("echo").as_string(), "healthy");
  EXPECT_FALSE(vips[1].at("answers_echo").as_bool());
  EXPECT_EQ(vips[1].at("no_listener").as_string(), "reject");
}

TEST_F(CommandsTest, counters_are_summed_and_named) {
  auto& workers = node_.controller.state.engine.workers;
  workers.resize(2);
  for (std::uint32_t i : {0u, 1u}) {
    workers[i].index = i;
    workers[i].counters[MR_COUNTER_RX_PACKETS] = 10 + i;
    workers[i].counters[MR_COUNTER_STALLS] = 1;
    workers[i].drops[MR_DROP_MARTIAN] = 2;
  }
  const json::object counters = result(R"({"command": "counters"})");
  EXPECT_EQ(counters.at("counters").at("rx_packets").to_number<int>(), 21);
  EXPECT_EQ(counters.at("counters").at("stalls").to_number<int>(), 2);
  EXPECT_EQ(counters.at("counters").as_object().size(), std::size_t{MR_COUNTER_COUNT});
  EXPECT_EQ(counters.at("drops").at("martian").to_number<int>(), 4);
  EXPECT_EQ(counters.at("drops").as_object().size(), std::size_t{MR_DROP_REASON_COUNT - 1});
  EXPECT_EQ(counters.at("workers").at(1).at("counters").at("rx_packets").to_number<int>(), 11);
}

TEST_F(CommandsTest, validate_checks_and_changes_nothing) {
  const json::object good =
      result(std::string(R"({"command": "validate", "text": ")") + kGoodConfig + "\"}");
  EXPECT_EQ(good.at("targets_added").to_number<int>(), 3) << "what apply would answer";
  ASSERT_EQ(node_.controller.rehearsed.size(), 1u);
  EXPECT_EQ(node_.controller.rehearsed[0].target_groups[0].name, "g");
  EXPECT_EQ(errors(R"({"command": "validate", "name": "a.yaml", "text": "node: 5"})"),
            (Texts{"a.yaml:1:1: the key `load_balancers` is missing: a list, [] for none",
                   "a.yaml:1:7: node: is a single value; must be a map with the keys: name, zone, "
                   "selection_key, lookup_seed, engine, encap_source"}));
  EXPECT_TRUE(node_.controller.applied.empty());
}

TEST_F(CommandsTest, apply_hands_over_a_checked_config) {
  const json::object applied =
      result(std::string(R"({"command": "apply", "text": ")") + kGoodConfig + "\"}");
  EXPECT_EQ(applied.at("generation").to_number<int>(), 1);
  EXPECT_EQ(applied.at("targets_added").to_number<int>(), 3);
  ASSERT_EQ(node_.controller.applied.size(), 1u);
  EXPECT_EQ(node_.controller.applied[0].first.target_groups[0].name, "g");
  EXPECT_EQ(node_.controller.applied[0].second, "apply of \"config\" by uid 0");
}

TEST_F(CommandsTest, apply_of_a_wrong_or_empty_config_reaches_nobody) {
  EXPECT_EQ(errors(R"({"command": "apply", "text": "load_balancers: 1"})").size(), 1u);
  EXPECT_EQ(errors(R"({"command": "apply", "text": ""})").size(), 1u);
  EXPECT_EQ(errors(R"({"command": "apply"})"), Texts{"request.text: is missing"});
  EXPECT_TRUE(node_.controller.applied.empty());
}

TEST_F(CommandsTest, validate_calls_nothing_good_that_apply_refuses) {
  node_.controller.apply_error = "the arena is full";
  EXPECT_EQ(errors(std::string(R"({"command": "validate", "text": ")") + kGoodConfig + "\"}"),
            Texts{"apply: the arena is full"});
}

TEST_F(CommandsTest, drain_hands_on_what_the_operator_should_know) {
  node_.controller.outcome.warnings = {"no healthy target is left"};
  const json::object drained =
      result(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})");
  EXPECT_EQ(drained.at("warnings").as_array().at(0).as_string(), "no healthy target is left");
}

TEST_F(CommandsTest, apply_that_the_controller_refuses_names_its_reason) {
  node_.controller.apply_error = "the arena is full";
  EXPECT_EQ(errors(std::string(R"({"command": "apply", "text": ")") + kGoodConfig + "\"}"),
            Texts{"apply: the arena is full"});
}

TEST_F(CommandsTest, reload_answers_with_the_generation_or_every_error) {
  const json::object done = result(R"({"command": "reload"})");
  EXPECT_EQ(done.at("generation").to_number<int>(), 1);
  EXPECT_EQ(done.at("file").as_string(), "/etc/millrace/millrace.yaml");
  node_.reload_errors = {{"a.yaml:1:1", "wrong"}, {"a.yaml:2:1", "wrong too"}};
  EXPECT_EQ(errors(R"({"command": "reload"})"),
            (Texts{"a.yaml:1:1: wrong", "a.yaml:2:1: wrong too"}));
  EXPECT_EQ(errors(R"({"command": "reload", "file": "other.yaml"})").size(), 1u);
}

TEST_F(CommandsTest, refused_apply_is_kept_as_the_last_attempt_and_a_refused_validate_is_not) {
  (void)errors(R"({"command": "validate", "text": "load_balancers: 1"})");
  EXPECT_EQ(node_.controller.config_error, "");
  (void)errors(R"({"command": "apply", "text": "load_balancers: 1", "name": "ci.yaml"})");
  EXPECT_NE(node_.controller.config_error.find("apply by uid"), std::string::npos);
  EXPECT_NE(node_.controller.config_error.find("ci.yaml"), std::string::npos);
}

TEST_F(CommandsTest, drain_finds_its_target_with_and_without_port) {
  EXPECT_EQ(result(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})")
                .at("target")
                .as_string(),
            "web-4/10.0.1.11:8080");
  (void)result(
      R"({"command": "undrain", "target_group": "web-6", "address": "fd00:10:1::12",
          "port": 8080})");
  ASSERT_EQ(node_.controller.drained.size(), 1u);
  EXPECT_EQ(node_.controller.drained[0], (TargetKey{"web-4", ip("10.0.1.11"), 8080}));
  ASSERT_EQ(node_.controller.undrained.size(), 1u);
  EXPECT_EQ(node_.controller.undrained[0], (TargetKey{"web-6", ip("fd00:10:1::12"), 8080}));
}

TEST_F(CommandsTest, drain_of_what_is_drained_says_so) {
  const std::string drain =
      R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})";
  EXPECT_FALSE(result(drain).at("was_drained").as_bool());
  node_.target(0, 0).operator_drained = true;
  EXPECT_TRUE(result(drain).at("was_drained").as_bool());
}

TEST_F(CommandsTest, drain_of_what_is_not_there_says_what_is_missing) {
  EXPECT_EQ(errors(R"({"command": "drain", "target_group": "web-44", "address": "10.0.1.11"})"),
            Texts{"request.target_group: there is no target group \"web-44\" "
                  "(did you mean `web-4`?); there are: web-4, web-6"});
  EXPECT_EQ(errors(R"({"command": "drain", "target_group": "web-4", "address": "10.0.9.9"})"),
            Texts{"request.address: target group web-4 has no target 10.0.9.9; it has: "
                  "10.0.1.11:8080, 10.0.1.12:8080"});
  EXPECT_EQ(
      errors(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11",
                       "port": 1})"),
      Texts{"request.address: target group web-4 has no target 10.0.1.11 with port 1; it has: "
            "10.0.1.11:8080, 10.0.1.12:8080"});
  EXPECT_EQ(errors(R"({"command": "drain", "address": "x", "port": 70000})"),
            (Texts{"request.target_group: is missing",
                   "request.address: \"x\" must be one IPv4 or IPv6 address",
                   "request.port: must be a whole number, 1-65535"}));
  EXPECT_TRUE(node_.controller.drained.empty());
}

TEST_F(CommandsTest, drain_asks_for_the_port_when_an_address_is_there_twice) {
  TargetSnapshot second = node_.target(0, 0);
  second.key.port = 8081;
  node_.controller.state.target_groups[0].targets.push_back(second);
  EXPECT_EQ(errors(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})"),
            Texts{"request.port: several targets have this address, say which: "
                  "web-4/10.0.1.11:8080 web-4/10.0.1.11:8081"});
}

// As after the group's port became `any`: the target that has port 8080 is draining.
TEST_F(CommandsTest, drain_without_a_port_means_the_target_that_takes_any) {
  TargetSnapshot second = node_.target(0, 0);
  second.key.port = 0;
  node_.controller.state.target_groups[0].targets.push_back(second);
  EXPECT_EQ(result(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})")
                .at("target")
                .as_string(),
            "web-4/10.0.1.11");
  ASSERT_EQ(node_.controller.drained.size(), 1u);
  EXPECT_EQ(node_.controller.drained[0], (TargetKey{"web-4", ip("10.0.1.11"), 0}));
}

TEST_F(CommandsTest, drain_passes_on_why_the_controller_refuses) {
  node_.controller.drain_error = "is draining already";
  EXPECT_EQ(errors(R"({"command": "drain", "target_group": "web-4", "address": "10.0.1.11"})"),
            Texts{"web-4/10.0.1.11:8080: is draining already"});
}

TEST_F(CommandsTest, explain_needs_a_whole_flow_of_one_family) {
  EXPECT_EQ(errors(R"({"command": "explain"})").size(), 5u);
  EXPECT_EQ(errors(R"({"command": "explain", "client": "192.0.2.1", "client_port": 1,
                       "vip": "2001:db8::1", "vip_port": 80, "protocol": "TCP"})"),
            Texts{"request.vip: must be of the client's address family"});
  EXPECT_EQ(errors(R"({"command": "explain", "client": "192.0.2.1", "client_port": 1.5,
                       "vip": "203.0.113.10", "vip_port": 80, "protocol": "tcp"})"),
            (Texts{"request.client_port: must be a whole number, 1-65535",
                   "request.protocol: \"tcp\" must be TCP or UDP"}));
  const json::object answer =
      result(R"({"command": "explain", "client": "192.0.2.1", "client_port": 1,
                 "vip": "203.0.113.10", "vip_port": 80, "protocol": "TCP"})");
  EXPECT_EQ(answer.at("verdict").as_string(), "forward");
}

class FlowsCommandTest : public CommandsTest {
 protected:
  FlowsCommandTest() {
    node_.controller.state.engine.flow_table_dir = dir_.path();
    node_.controller.state.engine.flow_table_count = 1;
    node_.controller.state.engine.workers.resize(1);
    test::FlowTableFile table(1000);
    const auto& listeners = node_.controller.state.listeners;
    for (std::uint16_t port = 1; port <= 60; ++port) {
      table.add({.client = test::addr_of(port % 2 == 0 ? "192.0.2.1" : "192.0.2.2"),
                 .client_port = port,
                 .state = port % 3 == 0 ? MR_FLOW_SYN : MR_FLOW_ESTABLISHED,
                 .listener_id = listeners[0].id,
                 .target_id = node_.target(0, port % 2).id});
    }
    table.add({.client = test::addr_of("2001:db8:2::100"),
               .client_port = 5,
               .protocol = MR_PROTOCOL_UDP,
               .state = MR_FLOW_UDP,
               .listener_id = 987654,
               .target_id = 987655});
    table.write(dir_.path() + "/flows.0");
  }
  std::size_t count(const std::string& filter) {
    return result(R"({"command": "flows", "limit": 1000)" + filter + "}")
        .at("flows")
        .as_array()
        .size();
  }

  test::TempDir dir_;
};

TEST_F(FlowsCommandTest, filters_by_every_field) {
  EXPECT_EQ(count(""), 61u);
  EXPECT_EQ(count(R"(, "client": "192.0.2.1")"), 30u);
  EXPECT_EQ(count(R"(, "client": "192.0.2.1", "client_port": 2)"), 1u);
  EXPECT_EQ(count(R"(, "vip": "203.0.113.10")"), 60u);
  EXPECT_EQ(count(R"(, "vip": "203.0.113.10", "vip_port": 81)"), 0u);
  EXPECT_EQ(count(R"(, "protocol": "UDP")"), 1u);
  EXPECT_EQ(count(R"(, "state": "syn")"), 20u);
  EXPECT_EQ(count(R"(, "target": "10.0.1.12")"), 30u);
  EXPECT_EQ(count(R"(, "target": "10.0.1.12", "target_port": 1)"), 0u);
  EXPECT_EQ(count(R"(, "target_group": "web-4")"), 60u);
  EXPECT_EQ(count(R"(, "target_group": "web-6")"), 0u);
}

TEST_F(FlowsCommandTest, shows_names_and_null_for_what_was_removed) {
  const json::object known =
      result(R"({"command": "flows", "client": "192.0.2.1", "client_port": 2})");
  const json::value& flow = known.at("flows").at(0);
  EXPECT_EQ(flow.at("client").as_string(), "192.0.2.1:2");
  EXPECT_EQ(flow.at("vip").as_string(), "203.0.113.10:80");
  EXPECT_EQ(flow.at("target").as_string(), "web-4/10.0.1.11:8080");
  EXPECT_EQ(flow.at("state").as_string(), "established");
  const json::object removed = result(R"({"command": "flows", "protocol": "UDP"})");
  EXPECT_EQ(removed.at("flows").at(0).at("client").as_string(), "[2001:db8:2::100]:5");
  EXPECT_TRUE(removed.at("flows").at(0).at("vip").is_null());
  EXPECT_TRUE(removed.at("flows").at(0).at("target").is_null());
}

TEST_F(FlowsCommandTest, answer_says_where_to_go_on) {
  std::size_t found = 0;
  std::string from;
  for (int round = 0; round < 10; ++round) {
    const json::object part = result(R"({"command": "flows", "limit": 20)" + from + "}");
    found += part.at("flows").as_array().size();
    if (part.at("next").is_null()) break;
    from = R"(, "from_worker": )" + json::serialize(part.at("next").at("from_worker")) +
           R"(, "from_record": )" + json::serialize(part.at("next").at("from_record"));
  }
  EXPECT_EQ(found, 61u);
}

TEST_F(FlowsCommandTest, wrong_filters_are_refused) {
  EXPECT_EQ(errors(R"({"command": "flows", "state": "open"})"),
            Texts{"request.state: \"open\" is not one of: syn, established, closing, closed, udp, "
                  "expired, udp_new"});
  EXPECT_EQ(
      errors(R"({"command": "flows", "target_group": "web-5"})"),
      Texts{"request.target_group: there is no target group \"web-5\" (did you mean `web-4`?); "
            "there are: web-4, web-6"});
  EXPECT_EQ(errors(R"({"command": "flows", "limit": 0})"),
            Texts{"request.limit: must be a whole number, 1-1000"});
}

TEST_F(FlowsCommandTest, without_an_engine_there_is_nothing_to_read) {
  node_.controller.state.engine.flow_table_dir.clear();
  EXPECT_EQ(errors(R"({"command": "flows"})").size(), 1u);
}

}  // namespace
}  // namespace millrace::control

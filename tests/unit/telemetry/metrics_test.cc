// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <set>
#include <sstream>

#include "dataplane/core/drop_reason.h"
#include "tests/unit/telemetry/sample_snapshot.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr ScrapeTime kTime{.boot_realtime_ns = 1'000'000'000'000};

std::string text_of(const Snapshot& snapshot) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, collect_metrics(snapshot, kTime));
  return out.str();
}

TEST(Metrics, names_follow_the_rules) {
  std::set<std::string> names;
  for (const MetricInfo& info : metric_catalogue()) {
    const std::string name = info.name;
    EXPECT_TRUE(name.starts_with("millrace_")) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), name.npos) << name;
    EXPECT_THAT(name, Not(HasSubstr("__")));
    EXPECT_EQ(name.ends_with("_total"), info.kind == MetricKind::counter) << name;
    EXPECT_TRUE(std::string(info.help).ends_with(".")) << name;
    EXPECT_TRUE(names.insert(name).second) << name << " is listed twice";
    for (const char* unit : {"_ns", "_ms", "_milliseconds", "_percent"}) {
      EXPECT_THAT(name, Not(HasSubstr(unit)));
    }
  }
}

TEST(Metrics, full_snapshot_has_every_metric_with_the_labels_of_the_catalogue) {
  std::map<std::string, prometheus::MetricFamily> families;
  for (auto& family : collect_metrics(test::sample_snapshot(), kTime)) {
    families.emplace(family.name, family);
  }
  for (const MetricInfo& info : metric_catalogue()) {
    const auto found = families.find(info.name);
    ASSERT_NE(found, families.end()) << info.name;
    EXPECT_EQ(found->second.help, info.help);
    std::string expected = "node,zone";
    if (*info.labels != '\0') expected += std::string(",") + info.labels;
    for (const auto& sample : found->second.metric) {
      std::string labels;
      for (const auto& label : sample.label) labels += (labels.empty() ? "" : ",") + label.name;
      EXPECT_EQ(labels, expected) << info.name;
    }
  }
  EXPECT_EQ(families.size(), metric_catalogue().size());
}

TEST(Metrics, values_and_units_are_those_of_the_snapshot) {
  const std::string text = text_of(test::sample_snapshot());
  for (const char* line : {
           "millrace_build_info{node=\"lb-1\",zone=\"a\",version=\"0.1.0\"} 1\n",
           "millrace_controlplane_start_time_seconds{node=\"lb-1\",zone=\"a\"} 1040\n",
           "millrace_engine_start_time_seconds{node=\"lb-1\",zone=\"a\"} 1050\n",
           "millrace_config_last_attempt_successful{node=\"lb-1\",zone=\"a\"} 1\n",
           "millrace_config_last_success_timestamp_seconds{node=\"lb-1\",zone=\"a\"} "
           "1700000000.5\n",
           "millrace_nic_link_up{node=\"lb-1\",zone=\"a\",nic=\"eth1\",twin=\"mr0\"} 1\n",
           "millrace_nic_unserved_queues{node=\"lb-1\",zone=\"a\",nic=\"eth1\",twin=\"mr0\"} 2\n",
           "millrace_nic_idle_members{node=\"lb-1\",zone=\"a\",nic=\"eth1\",twin=\"mr0\"} 1\n",
           "millrace_nic_missed_packets_total{node=\"lb-1\",zone=\"a\",nic=\"eth1\",twin=\"mr0\"} "
           "31\n",
           "millrace_nic_error_packets_total{node=\"lb-1\",zone=\"a\",nic=\"eth1\",twin=\"mr0\"} "
           "32\n",
           "millrace_nic_no_buffer_packets_total{node=\"lb-1\",zone=\"a\",nic=\"eth1\","
           "twin=\"mr0\"} 33\n",
           "millrace_nic_tx_dropped_packets_total{node=\"lb-1\",zone=\"a\",nic=\"eth1\","
           "twin=\"mr0\"} 34\n",
           "millrace_worker_heartbeat_age_seconds{node=\"lb-1\",zone=\"a\",worker=\"1\"} 0.25\n",
           "millrace_worker_busy_seconds_total{node=\"lb-1\",zone=\"a\",worker=\"0\"} 2.5\n",
           "millrace_worker_longest_turn_seconds{node=\"lb-1\",zone=\"a\",worker=\"0\"} 0.0015\n",
           "millrace_worker_stalls_total{node=\"lb-1\",zone=\"a\",worker=\"1\"} 126\n",
           "millrace_listener_balancer_resets_total{node=\"lb-1\",zone=\"a\",load_balancer=\"web\","
           "vip=\"203.0.113.10\",protocol=\"TCP\",port=\"80\"} 28\n",
           "millrace_target_group_lookup_digest_info{node=\"lb-1\",zone=\"a\","
           "target_group=\"web-80\",digest=\"fedcba9876543210\"} 1\n",
           "millrace_target_group_fail_open{node=\"lb-1\",zone=\"a\",target_group=\"dns\"} 1\n",
           "millrace_target_state_info{node=\"lb-1\",zone=\"a\",target_group=\"dns\","
           "target=\"[2001:db8::5]:53\",state=\"unhealthy\",reason=\"Target.Timeout\"} 1\n",
           "millrace_target_state_info{node=\"lb-1\",zone=\"a\",target_group=\"web-80\","
           "target=\"10.0.1.12:8081\",state=\"draining\","
           "reason=\"Target.DeregistrationInProgress\"} 1\n",
           "millrace_target_healthy{node=\"lb-1\",zone=\"a\",target_group=\"web-80\","
           "target=\"10.0.1.12:8081\"} 0\n",
           "millrace_target_lookup_ratio{node=\"lb-1\",zone=\"a\",target_group=\"web-80\","
           "target=\"10.0.1.11:8080\"} 0.5\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, every_drop_reason_is_a_sample_and_none_is_not) {
  const std::string text = text_of(test::sample_snapshot());
  for (std::uint32_t reason = 1; reason < MR_DROP_REASON_COUNT; ++reason) {
    EXPECT_THAT(text, HasSubstr("millrace_worker_dropped_packets_total{node=\"lb-1\",zone=\"a\","
                                "worker=\"1\",reason=\"" +
                                std::string(core::drop_reason_name(reason)) + "\"} " +
                                std::to_string(10 * reason + 1) + "\n"));
  }
  EXPECT_THAT(text, Not(HasSubstr("reason=\"none\"")));
}

TEST(Metrics, lookup_digest_survives_as_a_double) {
  Snapshot snapshot = test::sample_snapshot();
  for (const std::uint64_t digest : {0xfedcba9876543210ULL, 0x0000ffffffffffffULL}) {
    snapshot.target_groups[0].table_digest = digest;
    for (const auto& family : collect_metrics(snapshot, kTime)) {
      if (family.name != "millrace_target_group_lookup_digest") continue;
      EXPECT_EQ(static_cast<std::uint64_t>(family.metric[0].gauge.value),
                digest & 0xffffffffffffULL);
    }
  }
}

TEST(Metrics, engine_that_cannot_be_seen_has_no_counts_of_its_own) {
  Snapshot snapshot = test::sample_snapshot();
  snapshot.engine = {};
  snapshot.engine.state = EngineState::unseen;
  for (TargetGroupSnapshot& group : snapshot.target_groups) {
    for (TargetSnapshot& target : group.targets) target.next_hop_resolved.reset();
  }
  const std::string text = text_of(snapshot);
  for (const char* name :
       {"millrace_listener_processed_packets_total", "millrace_listener_new_flows_total",
        "millrace_target_active_flows", "millrace_target_processed_bytes_total",
        "millrace_target_next_hop_resolved", "millrace_worker_", "millrace_nic_"}) {
    EXPECT_THAT(text, Not(HasSubstr(name)));
  }
  EXPECT_THAT(text, HasSubstr("millrace_listener_info{"));
  EXPECT_THAT(text, HasSubstr("millrace_target_healthy{"));
}

TEST(Metrics, engine_that_is_away_has_no_series_but_those_that_say_so) {
  Snapshot snapshot = test::sample_snapshot();
  for (const EngineState state : {EngineState::stopped, EngineState::unattended}) {
    snapshot.engine.state = state;
    const std::string text = text_of(snapshot);
    for (const char* series : {"millrace_worker_", "millrace_nic_", "millrace_engine_start",
                               "millrace_engine_refused_generation"}) {
      EXPECT_THAT(text, Not(HasSubstr(series)));
    }
    EXPECT_THAT(text, HasSubstr("millrace_engine_running{node=\"lb-1\",zone=\"a\"} 0\n"));
  }
  EXPECT_THAT(text_of(snapshot),
              HasSubstr("millrace_engine_forwarding{node=\"lb-1\",zone=\"a\"} 1"));
  EXPECT_THAT(text_of(snapshot), HasSubstr("millrace_engine_adopted_generation{"));
}

TEST(Metrics, group_of_two_load_balancers_has_one_series_that_names_none) {
  Snapshot snapshot = test::sample_snapshot();
  ListenerSnapshot other = snapshot.listeners[0];
  other.load_balancer = "other";
  other.vip = *IpAddress::parse("203.0.113.11");
  snapshot.listeners.push_back(other);
  for (const auto& family : collect_metrics(snapshot, kTime)) {
    std::set<std::vector<std::pair<std::string, std::string>>> seen;
    for (const auto& metric : family.metric) {
      std::vector<std::pair<std::string, std::string>> labels;
      bool is_of_balancer = false;
      for (const auto& label : metric.label) {
        labels.emplace_back(label.name, label.value);
        is_of_balancer = is_of_balancer || label.name == "load_balancer";
      }
      EXPECT_TRUE(seen.insert(labels).second) << family.name << " has a series twice";
      EXPECT_EQ(is_of_balancer, family.name.starts_with("millrace_listener_")) << family.name;
    }
  }
}

TEST(Metrics, drain_time_is_told_only_while_draining) {
  const std::string text = text_of(test::sample_snapshot());
  EXPECT_THAT(text, HasSubstr("target=\"10.0.1.12:8081\"} 120\n"));
  EXPECT_THAT(text,
              Not(HasSubstr("millrace_target_drain_remaining_seconds{node=\"lb-1\",zone=\"a\","
                            "target_group=\"web-80\",target=\"10.0.1.11:8080\"}")));
}

// MillraceEngineRestarting counts the changes.
TEST(Metrics, engine_has_the_same_start_for_each_control_plane) {
  Snapshot snapshot = test::sample_snapshot();
  snapshot.engine.start_ns = 50'000'000'123;
  const ScrapeTime before{.boot_realtime_ns = 1'795'968'757'000'000'123};
  const ScrapeTime after{.boot_realtime_ns = before.boot_realtime_ns + 20'000};
  const auto start_of = [&](const ScrapeTime& time) {
    for (const auto& family : collect_metrics(snapshot, time)) {
      if (family.name == "millrace_engine_start_time_seconds") return family.metric[0].gauge.value;
    }
    return 0.0;
  };
  EXPECT_EQ(start_of(before), start_of(after));
  EXPECT_EQ(start_of(before), 1'795'968'807);
}

TEST(Metrics, empty_node_tells_only_of_itself) {
  Snapshot snapshot;
  snapshot.node = "lb-2";
  const std::string text = text_of(snapshot);
  EXPECT_THAT(text, HasSubstr("millrace_engine_running{node=\"lb-2\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("millrace_worker_")));
  EXPECT_THAT(text, Not(HasSubstr("millrace_engine_start_time_seconds")));
  EXPECT_THAT(text, Not(HasSubstr("zone=")));
}

}  // namespace
}  // namespace millrace::control

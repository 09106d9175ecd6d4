// SPDX-License-Identifier: Apache-2.0
//
// What each command says, and with which exit code.
#include "controlplane/cli/cli.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/local/stream_protocol.hpp>

#include "tests/support/cc/unprivileged.h"
#include "tests/unit/cli/cli_run.h"

namespace millrace::control {
namespace {

TEST_F(CliTest, without_a_daemon_the_reason_names_the_socket) {
  const Outcome outcome = run_without_server({"status"});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_TRUE(has(outcome.err, socket_)) << outcome.err;
  EXPECT_TRUE(has(outcome.err, "systemctl status millrace-controlplane"));
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(has(run_without_server({"status", "--json"}).out, "\"ok\":false"));
}

TEST_F(CliTest, status_shows_engine_and_groups) {
  node_.controller.state.alarms = {{AlarmKind::stall, "worker 0 has stalled"}};
  node_.controller.state.config_error = "x.yaml:1:1: wrong";
  node_.controller.state.engine.workers.resize(1);
  const Outcome outcome = run({"status"});
  EXPECT_EQ(outcome.code, kExitDone) << outcome.err;
  EXPECT_TRUE(has(outcome.out, "lb-1"));
  EXPECT_TRUE(has(outcome.out, "running: dpdk"));
  EXPECT_TRUE(has(outcome.out, "ALARM       worker 0 has stalled"));
  EXPECT_TRUE(has(outcome.out, "x.yaml:1:1: wrong"));
  EXPECT_TRUE(has(outcome.out, "web-6"));
  node_.controller.state.target_groups[0].routing = GroupRouting::nobody;
  EXPECT_TRUE(has(run({"status"}).out, "NO TARGET GETS NEW FLOWS"));
  node_.controller.state.engine.nics = {
      {.name = "eth1", .twin = "twin0", .mac = "02:00:00:00:00:01", .link_up = true},
      {.name = "eth2", .twin = "eth2", .mac = "02:00:00:00:00:02", .link_up = true}};
  const std::string nics = run({"status"}).out;
  EXPECT_TRUE(has(nics, "eth1 (02:00:00:00:00:01), kernel twin twin0, link up"));
  EXPECT_TRUE(has(nics, "eth2 (02:00:00:00:00:02), link up")) << "the XDP engine needs no twin";
  node_.controller.state.engine.nics[1].unserved_queues = 3;
  EXPECT_TRUE(has(run({"status"}).out, "link up, 3 QUEUES UNSERVED"));
  node_.controller.state.engine.nics[1].idle_members = 1;
  EXPECT_TRUE(has(run({"status"}).out, "link up, 1 MEMBERS IDLE, 3 QUEUES UNSERVED"));
  node_.controller.state.engine.nics[0].twin_state = TwinState::gone;
  EXPECT_TRUE(has(run({"status"}).out, "kernel twin twin0 GONE, link up"));
  node_.controller.state.engine.nics[0].twin_state = TwinState::set_down;
  EXPECT_TRUE(has(run({"status"}).out, "kernel twin twin0 DOWN, link up"));
  node_.controller.state.engine.nics[0].has_program = false;
  EXPECT_TRUE(has(run({"status"}).out, "kernel twin twin0 DOWN, XDP PROGRAM LOST"));
  node_.controller.state.engine.nics[0].twin_state = TwinState::there;
  node_.controller.state.engine.nics[0].has_program = true;
  node_.controller.state.engine.nics[0].rx_missed = 5;
  node_.controller.state.engine.nics[0].rx_errors = 7;
  EXPECT_TRUE(has(run({"status"}).out, "link up, dropped 5 rx_missed, 7 rx_errors\n"));
  const std::string counters = run({"counters"}).out;
  EXPECT_TRUE(has(counters, "DROPPED BY NIC"));
  EXPECT_TRUE(has(counters, "eth1            rx_errors"));
  EXPECT_FALSE(has(counters, "rx_no_buffer")) << "without --all only what was dropped";
  node_.controller.state.engine.state = EngineState::stopped;
  node_.controller.state.engine.problem = "no stats segment";
  EXPECT_TRUE(has(run({"status"}).out,
                  "NOT RUNNING: no stats segment (systemctl status millrace-dataplane)\n"));
  node_.controller.state.engine.wanted_kind = "xdp";
  EXPECT_TRUE(has(run({"status"}).out, "(systemctl status millrace-xdp)\n"));
  node_.controller.state.engine.state = EngineState::unattended;
  EXPECT_TRUE(has(run({"status"}).out,
                  "UNATTENDED: dpdk goes on forwarding by generation 1, but no change comes into "
                  "force: no stats segment"));
}

TEST_F(CliTest, answer_about_an_engine_that_cannot_be_seen_is_no_success) {
  const std::string why = "cannot open stats: Permission denied";
  node_.controller.state.engine = unseen_engine(why);
  node_.controller.state.alarms = {{AlarmKind::engine_unseen, why}};
  const Outcome status = run({"status"});
  EXPECT_EQ(status.code, kExitFailed);
  EXPECT_TRUE(has(status.out, "Engine      NOT TO BE SEEN\n")) << status.out;
  EXPECT_TRUE(has(status.out, "ALARM       " + why));
  EXPECT_EQ(status.out.find(why), status.out.rfind(why)) << "once: " << status.out;
  EXPECT_FALSE(has(status.out, "NOT RUNNING"));
  const Outcome counters = run({"counters"});
  EXPECT_EQ(counters.code, kExitFailed);
  EXPECT_EQ(counters.out, "Not read: " + why + "\n") << "no zeros";
  for (TargetGroupSnapshot& group : node_.controller.state.target_groups) {
    for (TargetSnapshot& target : group.targets) target.lookup_share = 0.5;
  }
  for (const char* command : {"targets", "listeners"}) {
    const Outcome shown = run({command});
    EXPECT_EQ(shown.code, kExitFailed);
    EXPECT_TRUE(has(shown.out, "\nNot read: " + why + "\n")) << shown.out;
    EXPECT_FALSE(has(shown.out, " 0")) << "no zeros: " << shown.out;
    EXPECT_FALSE(has(shown.out, "UNRESOLVED")) << shown.out;
  }
  const Outcome flows = run({"flows"});
  EXPECT_EQ(flows.code, kExitFailed);
  EXPECT_TRUE(has(flows.err, "cannot open stats: Permission denied")) << flows.err;
  const Outcome explained = run({"explain", "198.51.100.7:4711", "203.0.113.10:80", "tcp"});
  EXPECT_EQ(explained.code, kExitFailed);
  EXPECT_TRUE(has(explained.out, "=> unknown, while the engine cannot be seen")) << explained.out;
  EXPECT_FALSE(has(explained.out, "no flow table has this flow")) << explained.out;
}

// The program of a daemon that has ended goes on forwarding, and nobody takes its counters.
TEST_F(CliTest, counters_of_an_engine_that_shows_no_life_are_said_to_be_old) {
  node_.controller.state.engine.workers.resize(1);
  const std::string said = "The engine's process gives no sign of life: as it counted last.\n";
  EXPECT_FALSE(has(run({"counters"}).out, said));
  node_.controller.state.engine.state = EngineState::unattended;
  EXPECT_TRUE(has(run({"counters"}).out, said)) << run({"counters"}).out;
}

TEST_F(CliTest, counters_of_an_engine_that_never_was_are_no_zeros) {
  node_.controller.state.engine = {};
  EXPECT_EQ(run({"counters"}).out, "No engine is running, and none has left its counters.\n");
}

TEST_F(CliTest, listeners_show_the_vips_and_what_they_do_besides) {
  VipSnapshot& vip = node_.controller.state.vips[1];
  vip.echo = Echo::healthy;
  vip.answers_echo = false;
  vip.no_listener = NoListener::reject;
  const std::string shown = run({"listeners"}).out;
  EXPECT_TRUE(has(shown, "\nLOAD BALANCER")) << shown;
  EXPECT_TRUE(has(shown, "NO LISTENER\n")) << shown;
  EXPECT_TRUE(has(shown, "203.0.113.10      always")) << shown;
  EXPECT_TRUE(has(shown, "2001:db8:113::10  healthy: NOT ANSWERED  reject\n")) << shown;
  vip.answers_echo = true;
  EXPECT_TRUE(has(run({"listeners"}).out, "healthy: answered"));
  node_.controller.state.listeners.clear();
  EXPECT_TRUE(has(run({"listeners"}).out, "No listeners.\n\nLOAD BALANCER"));
}

TEST_F(CliTest, targets_show_state_and_why) {
  TargetSnapshot& target = node_.target(0, 1);
  target.state = TargetState::unhealthy;
  target.reason = HealthReason::response_code_mismatch;
  target.description = "Health checks failed with these codes: [503]";
  target.next_hop_resolved = true;
  target.lookup_share = 0.25;
  node_.target(0, 0).state = TargetState::draining;
  node_.target(0, 0).drain_seconds_left = 61;
  node_.target(0, 0).health = TargetState::unhealthy;
  const Outcome outcome = run({"targets", "web-4"});
  EXPECT_TRUE(has(outcome.out, "web-4/10.0.1.11:8080  draining, unhealthy"));
  EXPECT_TRUE(has(outcome.out, "web-4/10.0.1.12:8080  unhealthy"));
  EXPECT_TRUE(has(outcome.out, "25.0 %"));
  EXPECT_TRUE(has(outcome.out, "Target.ResponseCodeMismatch; Health checks failed with these"));
  EXPECT_TRUE(has(outcome.out, "1 min 1 s left"));
  EXPECT_FALSE(has(outcome.out, "web-6"));
}

TEST_F(CliTest, wrong_group_is_refused_with_a_suggestion) {
  const Outcome outcome = run({"targets", "web-5"});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_EQ(outcome.err,
            "millrace: target_group: there is no target group \"web-5\" (did you mean `web-4`?); "
            "there are: web-4, web-6\n");
}

TEST_F(CliTest, json_prints_the_result_alone_on_one_line) {
  for (const std::string command : {"status", "targets", "listeners", "counters"}) {
    const Outcome outcome = run({command, "--json"});
    EXPECT_EQ(outcome.code, kExitDone);
    ASSERT_FALSE(outcome.out.empty());
    EXPECT_EQ(outcome.out.find('\n'), outcome.out.size() - 1);
    EXPECT_TRUE(json::parse(outcome.out).is_object());
    EXPECT_FALSE(json::parse(outcome.out).as_object().contains("ok"));
  }
}

TEST_F(CliTest, wrong_command_line_is_told_as_json_where_json_is_asked_for) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"drain", "--json"}, {"nonsense", "--json"}, {"--json", "explain", "a", "b", "tcp"}}) {
    const Outcome outcome = run_without_server(args);
    EXPECT_EQ(outcome.code, kExitUsage);
    const json::value answer = json::parse(outcome.out);
    EXPECT_FALSE(answer.at("ok").as_bool());
    const json::value& error = answer.at("errors").at(0);
    EXPECT_EQ(error.at("place").as_string(), "command line");
    EXPECT_EQ(std::string(error.at("reason").as_string()) + "\n", outcome.err);
  }
  EXPECT_EQ(run_without_server({"drain"}).out, "");
}

TEST_F(CliTest, apply_sends_a_good_file) {
  const Outcome outcome = run({"apply", write(kGoodConfig)});
  EXPECT_EQ(outcome.code, kExitDone) << outcome.err;
  EXPECT_TRUE(has(outcome.out, "generation 1, 3 targets added")) << outcome.out;
  ASSERT_EQ(node_.controller.applied.size(), 1u);
  EXPECT_EQ(node_.controller.applied[0].first.load_balancers[0].name, "web");
}

TEST_F(CliTest, apply_of_wrong_files_shows_every_error_and_changes_nothing) {
  for (const std::string& text : {std::string(), std::string("load_balancers: 5\nnode: 6\n"),
                                  std::string("\xff\xfe"), std::string("a: [")}) {
    const std::string path = write(text);
    const Outcome outcome = run({"apply", path});
    EXPECT_EQ(outcome.code, kExitFailed);
    EXPECT_TRUE(has(outcome.err, path + ":1:")) << outcome.err;
    EXPECT_TRUE(has(outcome.err, "millrace: nothing was changed"));
  }
  EXPECT_TRUE(has(run({"apply", "/nonexistent"}).err, "/nonexistent: cannot open the file"));
  EXPECT_TRUE(node_.controller.applied.empty());
}

// A control plane that takes the request and ends may have carried it out before.
TEST_F(CliTest, change_whose_answer_does_not_come_is_not_called_undone) {
  using Protocol = boost::asio::local::stream_protocol;
  Protocol::acceptor acceptor(io_, Protocol::endpoint(socket_));
  const std::string path = write(kGoodConfig);
  const std::vector<std::vector<std::string>> changes = {{"apply", path},
                                                         {"reload"},
                                                         {"drain", "web-4", "10.0.1.11"},
                                                         {"undrain", "web-4", "10.0.1.11"}};
  for (const std::vector<std::string>& words : changes) {
    std::thread server([&] {
      Protocol::socket peer = acceptor.accept();
      char first = 0;
      (void)peer.receive(boost::asio::buffer(&first, 1));
    });
    const Outcome outcome = run_without_server(words);
    server.join();
    EXPECT_EQ(outcome.code, kExitFailed);
    EXPECT_TRUE(has(outcome.err, "may have been made all the same")) << words[0] << outcome.err;
    EXPECT_FALSE(has(outcome.err, "nothing was changed")) << words[0];
  }
}

TEST_F(CliTest, change_that_reaches_nobody_or_is_refused_changes_nothing) {
  const std::vector<std::string> drain = {"drain", "web-4", "10.9.9.9"};
  EXPECT_TRUE(has(run_without_server(drain).err, "nothing was changed"));
  EXPECT_TRUE(has(run(drain).err, "nothing was changed"));
}

TEST_F(CliTest, apply_refused_by_the_controller_says_why) {
  node_.controller.apply_error = "the arena is full";
  const Outcome outcome = run({"apply", write(kGoodConfig)});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_EQ(outcome.err, "apply: the arena is full\nmillrace: nothing was changed\n");
}

TEST_F(CliTest, validate_needs_no_daemon) {
  const std::string path = write(kGoodConfig);
  const Outcome good = run_without_server({"validate", path});
  EXPECT_EQ(good.code, kExitDone);
  EXPECT_TRUE(has(good.out, path + ": good. 1 load balancer, 1 listener, 1 target group, 1 target. "
                                   "No control plane answers at "))
      << good.out;
  const Outcome bad = run_without_server({"validate", write("node: 1\n"), "--json"});
  EXPECT_EQ(bad.code, kExitFailed);
  EXPECT_EQ(json::parse(bad.out).at("errors").as_array().size(), 2u);
  EXPECT_TRUE(has(bad.err, ":1:7: node: is a single value"));
}

TEST_F(CliTest, validate_says_why_it_did_not_ask_a_control_plane_that_may_be_there) {
  socket_ = "/" + std::string(200, 'x');  // longer than a socket's address
  const Outcome good = run_without_server({"validate", write(kGoodConfig)});
  EXPECT_EQ(good.code, kExitDone);
  EXPECT_TRUE(has(good.out, "What apply would change is unknown: cannot reach")) << good.out;
}

// As `status` and `apply` count them.
TEST_F(CliTest, validate_counts_a_listener_for_each_vip) {
  std::string text = kGoodConfig;
  const std::string one = "[203.0.113.10]";
  text.replace(text.find(one), one.size(), "[203.0.113.10, 203.0.113.11]");
  EXPECT_TRUE(
      has(run_without_server({"validate", write(text)}).out, "1 load balancer, 2 listeners"));
}

TEST_F(CliTest, socket_that_one_may_not_use_says_who_may) {
  if (!test::is_root()) GTEST_SKIP() << "becomes another user, which only root may";
  auto server = ApiServer::listen(io_, socket_, node_.parts());
  ASSERT_TRUE(server);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chown(socket_.c_str(), 0, 54'323), 0);
  const test::AsServiceUser stranger;
  const Outcome outcome = run_without_server({"status"});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_TRUE(
      has(outcome.err, "permission denied: user 54321 may not: " + socket_ +
                           " belongs to root:54323, mode 0660. Use sudo, or become a member "
                           "of the group (usermod --append --groups 54323 54321)"))
      << outcome.err;
}

TEST_F(CliTest, validate_asks_the_control_plane_what_apply_would_do) {
  const std::string path = write(kGoodConfig);
  const Outcome good = run({"validate", path});
  EXPECT_EQ(good.out, path +
                          ": good. 1 load balancer, 1 listener, 1 target group, 1 target. "
                          "Apply would say: 3 targets added\n");
  node_.controller.outcome = {};
  EXPECT_TRUE(has(run({"validate", path}).out, "Apply would change nothing"));
  EXPECT_TRUE(node_.controller.applied.empty());

  node_.controller.apply_error = "17000 target groups are more than the 16384 that fit";
  const Outcome refused = run({"validate", path});
  EXPECT_EQ(refused.code, kExitFailed);
  EXPECT_TRUE(has(refused.err, "17000 target groups"));
}

TEST_F(CliTest, apply_and_drain_pass_warnings_on_and_name_settings_that_changed) {
  node_.controller.outcome = {.target_groups_changed = 1,
                              .is_node_changed = true,
                              .warnings = {"no target of group web gets new flows"}};
  const Outcome applied = run({"apply", write(kGoodConfig)});
  EXPECT_EQ(applied.code, kExitDone);
  EXPECT_TRUE(has(applied.out, "1 target group changed, settings of the node changed"))
      << applied.out;
  EXPECT_EQ(applied.err, "millrace: warning: no target of group web gets new flows\n");
  const Outcome drained = run({"drain", "web-4", "10.0.1.11"});
  EXPECT_EQ(drained.code, kExitDone);
  EXPECT_EQ(drained.err, "millrace: warning: no target of group web gets new flows\n");

  node_.controller.outcome = {};
  EXPECT_TRUE(has(run({"apply", write(kGoodConfig)}).out, "nothing changed"));
}

TEST_F(CliTest, status_says_when_the_file_is_not_what_is_in_force) {
  EXPECT_FALSE(has(run({"status"}).out, "is not in force"));
  node_.controller.state.is_config_file_in_force = false;
  EXPECT_TRUE(has(run({"status"}).out, "/etc/millrace/millrace.yaml is not in force"));
}

TEST_F(CliTest, reload_says_what_came_of_the_file) {
  const Outcome good = run({"reload"});
  EXPECT_EQ(good.code, kExitDone) << good.err;
  EXPECT_EQ(good.out, "/etc/millrace/millrace.yaml: generation 1, 3 targets added\n");
  node_.reload_errors = {{"millrace.yaml:3:1: nodes", "is no key"}, {"second", "too"}};
  const Outcome bad = run({"reload"});
  EXPECT_EQ(bad.code, kExitFailed);
  EXPECT_EQ(bad.err,
            "millrace.yaml:3:1: nodes: is no key\nsecond: too\nmillrace: nothing was changed\n");
  EXPECT_EQ(run_without_server({"reload"}).code, kExitFailed);
}

TEST_F(CliTest, engine_is_the_one_that_the_file_names_while_no_control_plane_runs) {
  const std::string path = write("node: {engine: xdp}\n" + std::string(kGoodConfig));
  EXPECT_EQ(run_without_server({"engine", "xdp", "--config", path}).code, kExitDone);
  const Outcome other = run_without_server({"engine", "dpdk", "--config", path});
  EXPECT_EQ(other.code, kExitOther);
  EXPECT_EQ(other.out, path + ": node.engine is xdp\n");
  // A slip that has nothing to do with it.
  write("node: {engine: xdp}\nload_balancers: 7\n");
  EXPECT_EQ(run_without_server({"engine", "dpdk", "--config", path}).code, kExitOther);
  write(kGoodConfig);
  EXPECT_EQ(run_without_server({"engine", "xdp", "--config", path}).code, kExitOther)
      << "a good config that names none means dpdk";
  EXPECT_EQ(run_without_server({"engine", "vpp"}).code, kExitUsage);
}

TEST_F(CliTest, fault_80_engine_that_nobody_can_name_is_to_run) {
  const std::string config = kGoodConfig;
  const std::string broken[] = {"",
                                "node: {engine: xdp\n" + config,
                                config.substr(0, config.size() / 2),
                                "node: {engine: vpp}\n" + config,
                                "node: {name: lb-1}\n",
                                std::string("\xff\x00\xfe", 3),
                                "node: 7\n" + config};
  for (const std::string& text : broken) {
    const std::string path = write(text);
    for (const char* engine : {"dpdk", "xdp"}) {
      const Outcome outcome = run_without_server({"engine", engine, "--config", path});
      EXPECT_EQ(outcome.code, kExitDone) << engine << " with " << text;
      EXPECT_TRUE(has(outcome.out, path)) << outcome.out;
    }
  }
  const std::string fifo = dir_.file("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {dir_.file("missing"), dir_.path(), fifo}) {
    const Outcome outcome = run_without_server({"engine", "dpdk", "--config", path});
    EXPECT_EQ(outcome.code, kExitDone) << path;
    EXPECT_TRUE(has(outcome.out, path)) << outcome.out;
  }
}

TEST_F(CliTest, engine_is_that_of_the_config_in_force_whatever_the_file_says) {
  const std::string path = write("node: {engine: xdp}\n" + std::string(kGoodConfig));
  node_.controller.state.engine.wanted_kind = "dpdk";
  EXPECT_EQ(run({"engine", "dpdk", "--config", path}).code, kExitDone);
  const Outcome other = run({"engine", "xdp", "--config", path});
  EXPECT_EQ(other.code, kExitOther);
  EXPECT_EQ(other.out, "the config in force: node.engine is dpdk\n");
}

TEST_F(CliTest, control_plane_that_hangs_does_not_keep_an_engine_waiting) {
  const std::string path = write("node: {engine: xdp}\n" + std::string(kGoodConfig));
  auto server = ApiServer::listen(io_, socket_, node_.parts());
  ASSERT_TRUE(server);  // connections are queued, and io_ does not run
  const Outcome outcome = run_without_server({"engine", "dpdk", "--config", path});
  EXPECT_EQ(outcome.code, kExitDone) << "what is in force may be another config than the file's";
  EXPECT_TRUE(has(outcome.out, "no answer within 1 seconds")) << outcome.out;
  EXPECT_TRUE(has(outcome.out, "journalctl --unit millrace-controlplane")) << outcome.out;
}

TEST_F(CliTest, fault_87_output_that_does_not_arrive_is_a_failure) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"--help"}, {"--version"}, {"validate", write(kGoodConfig)}}) {
    std::ofstream full("/dev/full");
    std::ostringstream err;
    EXPECT_EQ(run_cli(args, full, err, false), kExitFailed) << args[0];
    EXPECT_TRUE(has(err.str(), "No space left on device")) << err.str();
  }
}

TEST_F(CliTest, drain_and_undrain_name_one_target) {
  const Outcome first = run({"drain", "web-4", "10.0.1.11"});
  EXPECT_EQ(first.code, kExitDone);
  EXPECT_EQ(first.out,
            "web-4/10.0.1.11:8080: gets no new flows; `millrace targets` shows the time left\n");
  EXPECT_EQ(run({"undrain", "web-6", "[fd00:10:1::12]:8080"}).code, kExitDone);
  ASSERT_EQ(node_.controller.drained.size(), 1u);
  EXPECT_EQ(node_.controller.drained[0], (TargetKey{"web-4", ip("10.0.1.11"), 8080}));
  ASSERT_EQ(node_.controller.undrained.size(), 1u);
  EXPECT_EQ(node_.controller.undrained[0], (TargetKey{"web-6", ip("fd00:10:1::12"), 8080}));
  const Outcome missing = run({"drain", "web-4", "10.9.9.9"});
  EXPECT_EQ(missing.code, kExitFailed);
  EXPECT_TRUE(has(missing.err, "has no target 10.9.9.9; it has: 10.0.1.11:8080, "));
  node_.target(0, 0).operator_drained = true;
  const Outcome again = run({"drain", "web-4", "10.0.1.11"});
  EXPECT_EQ(again.code, kExitDone);
  EXPECT_EQ(again.out, "web-4/10.0.1.11:8080: is drained already; nothing was changed\n");
  EXPECT_EQ(run({"drain", "web-4", "host"}).code, kExitUsage);
  node_.controller.outcome.warnings = {"it gets none"};
  const Outcome in_vain = run({"undrain", "web-4", "10.0.1.11"});
  EXPECT_EQ(in_vain.code, kExitDone);
  EXPECT_EQ(in_vain.out, "web-4/10.0.1.11:8080: is no longer drained by the operator\n");
  EXPECT_TRUE(has(in_vain.err, "warning: it gets none"));
}

TEST_F(CliTest, explain_tells_the_way_and_the_target) {
  const Outcome outcome =
      run({"explain", "[2001:db8:2::100]:4000", "[2001:db8:113::10]:80", "tcp"});
  EXPECT_EQ(outcome.code, kExitDone) << outcome.err;
  EXPECT_TRUE(has(outcome.out, "TCP [2001:db8:2::100]:4000 -> [2001:db8:113::10]:80\n"));
  EXPECT_TRUE(has(outcome.out, "=> forwarded to web-6/[fd00:10:1::1"));
  EXPECT_TRUE(has(run({"explain", "192.0.2.1:1", "203.0.113.10:81", "TCP"}).out,
                  "=> dropped: no_listener"));
  EXPECT_TRUE(
      has(run({"explain", "192.0.2.1:1", "192.0.2.2:81", "TCP"}).out, "=> handed to the kernel"));
  EXPECT_EQ(run({"explain", "192.0.2.1", "203.0.113.10:81", "TCP"}).code, kExitUsage);
  EXPECT_EQ(run({"explain", "192.0.2.1:1", "203.0.113.10:81", "SCTP"}).code, kExitFailed);
}

TEST_F(CliTest, counters_hide_drops_that_never_happened) {
  node_.controller.state.engine.workers.resize(1);
  EXPECT_TRUE(has(run({"counters"}).out, "No packets dropped."));
  node_.controller.state.engine.workers[0].drops[MR_DROP_MARTIAN] = 4;
  const std::string some = run({"counters"}).out;
  EXPECT_TRUE(has(some, "martian"));
  EXPECT_FALSE(has(some, "tx_full"));
  EXPECT_TRUE(has(run({"counters", "--all"}).out, "tx_full"));
}

TEST_F(CliTest, top_once_prints_one_screen_and_ends) {
  node_.controller.state.engine.workers.resize(1);
  const Outcome outcome = run({"top", "--once", "--interval", "0.1"});
  EXPECT_EQ(outcome.code, kExitDone) << outcome.err;
  EXPECT_TRUE(has(outcome.out, "lb-1: generation 1"));
  EXPECT_TRUE(has(outcome.out, "web-6/[fd00:10:1::11]:8080  healthy"));
  EXPECT_FALSE(has(outcome.out, "\x1b"));
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/commands.h"

#include <spdlog/spdlog.h>

#include <array>
#include <boost/json.hpp>
#include <ctime>
#include <variant>
#include <vector>

#include "controlplane/api/explain.h"
#include "controlplane/api/flow_reader.h"
#include "controlplane/api/flow_view.h"
#include "controlplane/api/request.h"
#include "controlplane/api/views.h"
#include "controlplane/config/load.h"
#include "controlplane/model/wording.h"
#include "dataplane/core/counted.h"
#include "dataplane/core/drop_reason.h"
#include "dataplane/os/clock.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

using Errors = std::vector<ConfigError>;
using Outcome = std::variant<json::value, Errors>;

// A request makes the control plane look at no more records than this, about 60 ms, so that probes
// and netlink are not kept waiting; the answer says where to go on.
constexpr std::uint64_t kFlowRecordsPerRequest = 1'000'000;
constexpr std::uint32_t kFlowsPerRequestMax = 1000;

struct Call {
  const json::object& request;
  const Peer& peer;
  const ApiParts& parts;
};

struct Command {
  std::string_view name;
  Outcome (*run)(const Call& call);
};

Outcome run_status(const Call& call);
Outcome run_targets(const Call& call);
Outcome run_listeners(const Call& call);
Outcome run_counters(const Call& call);
Outcome run_validate(const Call& call);
Outcome run_apply(const Call& call);
Outcome run_reload(const Call& call);
Outcome run_drain(const Call& call);
Outcome run_undrain(const Call& call);
Outcome run_explain(const Call& call);
Outcome run_flows(const Call& call);

constexpr std::array kCommands = {
    Command{"status", run_status},       Command{"targets", run_targets},
    Command{"listeners", run_listeners}, Command{"counters", run_counters},
    Command{"validate", run_validate},   Command{"apply", run_apply},
    Command{"reload", run_reload},       Command{"drain", run_drain},
    Command{"undrain", run_undrain},     Command{"explain", run_explain},
    Command{"flows", run_flows},
};

std::string to_line(const Outcome& outcome) {
  json::object response;
  if (const auto* result = std::get_if<json::value>(&outcome)) {
    response = {{"ok", true}, {"result", *result}};
    return json::serialize(response);
  }
  json::array errors;
  for (const ConfigError& error : std::get<Errors>(outcome)) {
    errors.push_back({{"place", error.place}, {"reason", error.reason}});
  }
  response = {{"ok", false}, {"errors", std::move(errors)}};
  return json::serialize(response);
}

Outcome run_named(const Call& call) {
  const auto* name = call.request.if_contains("command");
  const auto* text = name == nullptr ? nullptr : name->if_string();
  std::vector<std::string_view> known;
  for (const Command& command : kCommands) {
    if (text != nullptr && std::string_view(text->data(), text->size()) == command.name) {
      return command.run(call);
    }
    known.push_back(command.name);
  }
  const std::string asked = text == nullptr ? "" : std::string(text->data(), text->size());
  return Errors{{"request.command", quote(asked) + " is not a command" +
                                        did_you_mean(asked, known) + "; known: " + join(known)}};
}

}  // namespace

std::string answer_error(const std::string& place, const std::string& reason) {
  return to_line(Errors{{place, reason}});
}

std::string answer_request(std::string_view line, const Peer& peer, const ApiParts& parts) {
  json::error_code error;
  const json::value request = json::parse({line.data(), line.size()}, error);
  if (error) return answer_error("request", "not valid JSON: " + error.message());
  if (!request.is_object()) {
    return answer_error("request", "must be an object such as {\"command\": \"status\"}");
  }
  return to_line(run_named({request.get_object(), peer, parts}));
}

namespace {

Outcome run_status(const Call& call) {
  RequestReader reader(call.request, {});
  if (reader.failed()) return reader.take_errors();
  return status_view(call.parts.controller.snapshot(), clock_ns(CLOCK_BOOTTIME));
}

// nullptr after the request was found wrong.
const TargetGroupSnapshot* find_group(RequestReader& reader, const Snapshot& snapshot,
                                      const std::string& name) {
  std::vector<std::string_view> names;
  for (const TargetGroupSnapshot& known : snapshot.target_groups) {
    if (known.name == name) return &known;
    names.push_back(known.name);
  }
  reader.fail("target_group", "there is no target group " + quote(name) + known_names(name, names));
  return nullptr;
}

Outcome run_targets(const Call& call) {
  RequestReader reader(call.request, {"target_group"});
  const auto group = reader.text("target_group");
  const Snapshot snapshot = call.parts.controller.snapshot();
  if (group) (void)find_group(reader, snapshot, *group);
  if (reader.failed()) return reader.take_errors();
  return targets_view(snapshot, group);
}

Outcome run_listeners(const Call& call) {
  RequestReader reader(call.request, {});
  if (reader.failed()) return reader.take_errors();
  return listeners_view(call.parts.controller.snapshot());
}

Outcome run_counters(const Call& call) {
  RequestReader reader(call.request, {});
  if (reader.failed()) return reader.take_errors();
  return counters_view(call.parts.controller.snapshot());
}

std::string name_of(const Call& call) {
  return RequestReader(call.request, {"text", "name"}).text("name").value_or("config");
}

// The config in the request, or why there is none.
std::variant<Config, Errors> load_request(const Call& call) {
  RequestReader reader(call.request, {"text", "name"});
  const auto text = reader.text("text", true);
  (void)reader.text("name");
  if (reader.failed()) return reader.take_errors();
  return load_config(*text, name_of(call), [&call](const IpAddress& address) {
    return call.parts.controller.own_interface(address);
  });
}

json::array array_of(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.push_back(json::value(text));
  return array;
}

json::value outcome_view(const ApplyOutcome& outcome) {
  return {{"generation", outcome.generation},
          {"vips_added", outcome.vips_added},
          {"vips_removed", outcome.vips_removed},
          {"vips_changed", outcome.vips_changed},
          {"listeners_added", outcome.listeners_added},
          {"listeners_removed", outcome.listeners_removed},
          {"listeners_changed", outcome.listeners_changed},
          {"targets_added", outcome.targets_added},
          {"targets_removed", outcome.targets_removed},
          {"targets_changed", outcome.targets_changed},
          {"target_groups_added", outcome.target_groups_added},
          {"target_groups_removed", outcome.target_groups_removed},
          {"target_groups_changed", outcome.target_groups_changed},
          {"node_changed", outcome.is_node_changed},
          {"warnings", array_of(outcome.warnings)}};
}

// As apply, without any effect: what the file alone does not show, such as the node's own addresses
// and the room that draining targets take, counts too.
Outcome run_validate(const Call& call) {
  auto loaded = load_request(call);
  if (auto* errors = std::get_if<Errors>(&loaded)) return std::move(*errors);
  const auto rehearsed = call.parts.controller.rehearse(std::get<Config>(loaded));
  if (!rehearsed) return Errors{{"apply", rehearsed.error().message}};
  return outcome_view(*rehearsed);
}

// Whoever applied is told, but may be a program that nobody watches: so it is also kept as the last
// attempt, for `millrace status` and metrics, until a config is applied.
Outcome refuse_apply(const Call& call, Errors errors) {
  spdlog::warn("apply by uid {} (pid {}) refused: {}, the first: {}", call.peer.uid, call.peer.pid,
               core::counted(errors.size(), "error"), to_string(errors.front()));
  std::string text = "apply by uid " + std::to_string(call.peer.uid) + ":";
  for (const ConfigError& error : errors) text += "\n" + to_string(error);
  call.parts.controller.report_config_error(std::move(text));
  return errors;
}

Outcome run_apply(const Call& call) {
  auto loaded = load_request(call);
  if (auto* errors = std::get_if<Errors>(&loaded)) return refuse_apply(call, std::move(*errors));
  const std::string source =
      "apply of " + quote(name_of(call)) + " by uid " + std::to_string(call.peer.uid);
  const auto applied = call.parts.controller.apply(std::move(std::get<Config>(loaded)), source);
  if (!applied) return refuse_apply(call, Errors{{"apply", applied.error().message}});
  const ApplyOutcome& outcome = *applied;
  spdlog::info("apply by uid {} (pid {}): generation {}", call.peer.uid, call.peer.pid,
               outcome.generation);
  return outcome_view(outcome);
}

Outcome run_reload(const Call& call) {
  RequestReader reader(call.request, {});
  if (reader.failed()) return reader.take_errors();
  spdlog::info("reload by uid {} (pid {})", call.peer.uid, call.peer.pid);
  const auto reloaded = call.parts.reload();
  if (const auto* errors = std::get_if<Errors>(&reloaded)) return *errors;
  json::value view = outcome_view(std::get<ApplyOutcome>(reloaded));
  view.as_object()["file"] = call.parts.controller.snapshot().config_file;
  return view;
}

// Finds the one target that the request means; the port may be left out when that is clear.
std::variant<TargetSnapshot, Errors> find_target(const Call& call) {
  RequestReader reader(call.request, {"target_group", "address", "port"});
  const auto group_name = reader.text("target_group", true);
  const auto address = reader.address("address", true);
  const auto port = reader.port("port");
  if (reader.failed()) return reader.take_errors();

  const Snapshot snapshot = call.parts.controller.snapshot();
  const TargetGroupSnapshot* group = find_group(reader, snapshot, *group_name);
  if (group == nullptr) return reader.take_errors();
  std::vector<TargetSnapshot> found;
  std::vector<std::string> names;
  for (const TargetSnapshot& target : group->targets) {
    const bool is_port_fine = !port || target.key.port == *port;
    if (target.key.address == *address && is_port_fine) found.push_back(target);
    names.push_back(endpoint_text(target.key.address, target.key.port));
  }
  if (found.size() == 1) return found.front();
  // One that takes any port has none to say, beside those that had one before.
  const auto any_port = std::ranges::find_if(
      found, [](const TargetSnapshot& target) { return target.key.port == 0; });
  if (any_port != found.end()) return *any_port;
  if (found.empty()) {
    return Errors{{"request.address", "target group " + *group_name + " has no target " +
                                          address->to_string() +
                                          (port ? " with port " + std::to_string(*port) : "") +
                                          "; it has: " + some_of({names.begin(), names.end()})}};
  }
  std::string choices;
  for (const TargetSnapshot& target : found) choices += " " + target.key.to_string();
  return Errors{{"request.port", "several targets have this address, say which:" + choices}};
}

Outcome change_drain(const Call& call, bool is_drain,
                     Result<Controller::Warnings> (Controller::*change)(const TargetKey&)) {
  const auto found = find_target(call);
  if (const auto* errors = std::get_if<Errors>(&found)) return *errors;
  const auto& target = std::get<TargetSnapshot>(found);
  const TargetKey& key = target.key;
  const Result<Controller::Warnings> done = (call.parts.controller.*change)(key);
  const bool was_drained = target.operator_drained;
  spdlog::info("{} {} by uid {} (pid {}): {}", is_drain ? "drain" : "undrain", key.to_string(),
               call.peer.uid, call.peer.pid,
               !done                     ? done.error().message
               : was_drained == is_drain ? "nothing to do"
                                         : "done");
  if (!done) return Errors{{key.to_string(), done.error().message}};
  return json::value{
      {"target", key.to_string()}, {"was_drained", was_drained}, {"warnings", array_of(*done)}};
}

Outcome run_drain(const Call& call) { return change_drain(call, true, &Controller::drain); }

Outcome run_undrain(const Call& call) { return change_drain(call, false, &Controller::undrain); }

Outcome run_explain(const Call& call) {
  RequestReader reader(call.request, {"client", "client_port", "vip", "vip_port", "protocol"});
  const auto client = reader.address("client", true);
  const auto client_port = reader.port("client_port", true);
  const auto vip = reader.address("vip", true);
  const auto vip_port = reader.port("vip_port", true);
  const auto protocol = reader.protocol("protocol", true);
  if (client && vip && client->is_v4() != vip->is_v4()) {
    reader.fail("vip", "must be of the client's address family");
  }
  if (reader.failed()) return reader.take_errors();
  return explain_flow({.client = *client,
                       .client_port = *client_port,
                       .vip = *vip,
                       .vip_port = *vip_port,
                       .protocol = *protocol},
                      call.parts.controller.published(), call.parts.controller.snapshot());
}

std::optional<std::uint32_t> read_state(RequestReader& reader) {
  const auto text = reader.text("state");
  if (!text) return std::nullopt;
  std::vector<std::string_view> known;
  for (std::uint32_t state = MR_FLOW_SYN; state < MR_FLOW_STATE_COUNT; ++state) {
    if (*text == core::flow_state_name(state)) return state;
    known.emplace_back(core::flow_state_name(state));
  }
  reader.fail("state", quote(*text) + " is not one of: " + join(known));
  return std::nullopt;
}

FlowFilter read_filter(RequestReader& reader) {
  FlowFilter filter;
  filter.client = reader.address("client");
  filter.client_port = reader.port("client_port");
  filter.vip = reader.address("vip");
  filter.vip_port = reader.port("vip_port");
  filter.protocol = reader.protocol("protocol");
  filter.target = reader.address("target");
  filter.target_port = reader.port("target_port");
  filter.target_group = reader.text("target_group");
  filter.state = read_state(reader);
  return filter;
}

Outcome run_flows(const Call& call) {
  RequestReader reader(call.request, {"client", "client_port", "vip", "vip_port", "protocol",
                                      "target", "target_port", "target_group", "state", "limit",
                                      "from_worker", "from_record"});
  const FlowFilter filter = read_filter(reader);
  const auto limit = reader.number("limit", 1, kFlowsPerRequestMax);
  const auto from_worker = reader.number("from_worker", 0, MR_WORKER_COUNT_MAX);
  const auto from_record = reader.number("from_record", 0, 0x7fffffff);
  const Snapshot snapshot = call.parts.controller.snapshot();
  if (filter.target_group) (void)find_group(reader, snapshot, *filter.target_group);
  if (reader.failed()) return reader.take_errors();

  const Names names(snapshot);
  const EngineSnapshot& engine = snapshot.engine;
  if (engine.is_unseen()) return Errors{{"flows", engine.problem}};
  if (engine.flow_table_dir.empty()) {
    return Errors{{"flows", "no engine has been seen yet, so there is no flow table to read"}};
  }
  const FlowScan scan = scan_flows(
      {.directory = engine.flow_table_dir,
       .table_count = engine.flow_table_count,
       .from = {from_worker.value_or(0), from_record.value_or(0)},
       .found_max = limit.value_or(20),
       .records_max = kFlowRecordsPerRequest,
       .matches = [&](const mr_flow_record& record) { return matches(filter, record, names); }});
  const std::uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
  json::array flows;
  for (const FlowFound& flow : scan.found) flows.push_back(flow_view(flow, names, now_ns));
  json::array problems;
  for (const std::string& problem : scan.problems) problems.push_back(json::value(problem));
  json::object result{{"flows", std::move(flows)},
                      {"records_seen", scan.records_seen},
                      {"problems", std::move(problems)},
                      {"next", nullptr}};
  if (scan.next) {
    result["next"] = {{"from_worker", scan.next->worker}, {"from_record", scan.next->record}};
  }
  return json::value(std::move(result));
}

}  // namespace
}  // namespace millrace::control

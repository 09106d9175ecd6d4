// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/render.h"

#include "controlplane/cli/table.h"
#include "dataplane/core/counted.h"

namespace millrace::control {
namespace {

using Align = Table::Align;

std::string whole_text(JsonView value) { return std::to_string(value.whole()); }

// "-" of what nobody knows.
std::string count_or_dash(JsonView value) {
  return value.is_null() ? "-" : count_text(value.number());
}
std::string bytes_or_dash(JsonView value) {
  return value.is_null() ? "-" : bytes_text(value.number());
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

// What the answer is not whole without.
std::string not_read_text(JsonView answer) {
  std::string text;
  for (const JsonView problem : answer["problems"].items()) {
    text += "Not read: " + problem.text() + "\n";
  }
  return text;
}

// "Engine        dpdk, pid 12"
std::string fact(const std::string& name, const std::string& value) {
  return name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + value + "\n";
}

// ", dropped 3 rx_missed, 1 rx_errors"; nothing when it dropped nothing.
std::string nic_drops_text(JsonView drops) {
  std::vector<std::string> parts;
  for (const auto& [reason, count] : drops.fields()) {
    if (count.whole() != 0) parts.push_back(whole_text(count) + " " + reason);
  }
  return parts.empty() ? "" : ", dropped " + joined(parts, ", ");
}

std::string twin_trouble_text(const std::string& state) {
  if (state == "gone") return " GONE";
  return state == "down" ? " DOWN" : "";
}

std::string link_text(JsonView nic) {
  const JsonView has_program = nic["has_program"];
  if (!has_program.is_null() && !has_program.flag()) return ", XDP PROGRAM LOST";
  return nic["link_up"].flag() ? ", link up" : ", LINK DOWN";
}

std::string engine_facts(JsonView engine, std::uint64_t published) {
  if (!engine["running"].flag()) return fact("Engine", absent_engine_text(engine));
  const std::uint64_t adopted = engine["adopted_generation"].whole();
  std::string text = "running: " + engine["kind"].text() + ", pid " + whole_text(engine["pid"]) +
                     ", up " + duration_text(engine["uptime_seconds"].whole()) + ", generation " +
                     std::to_string(adopted);
  if (adopted < published) text += " (has not adopted the newest yet)";
  std::string facts = fact("Engine", text);
  if (!engine["problem"].text().empty()) facts += fact("Problem", engine["problem"].text());
  if (engine["refused_generation"].whole() != 0) {
    facts += fact("Refused", "generation " + whole_text(engine["refused_generation"]) + ": " +
                                 engine["refused_reason"].text());
  }
  for (const JsonView nic : engine["nics"].items()) {
    // The XDP engine shares the kernel's interface.
    const bool has_twin = nic["twin"].text() != nic["name"].text();
    const std::uint64_t unserved = nic["unserved_queues"].whole();
    const std::uint64_t idle = nic["idle_members"].whole();
    facts += fact("Interface",
                  nic["name"].text() + " (" + nic["mac"].text() + ")" +
                      (has_twin ? ", kernel twin " + or_dash(nic["twin"].text()) : "") +
                      twin_trouble_text(nic["twin_state"].text()) + link_text(nic) +
                      (idle == 0 ? "" : ", " + std::to_string(idle) + " MEMBERS IDLE") +
                      (unserved == 0 ? "" : ", " + std::to_string(unserved) + " QUEUES UNSERVED") +
                      nic_drops_text(nic["drops"]));
  }
  return facts;
}

std::string worker_table(JsonView engine) {
  Table table({{"WORKER", Align::right},
               {"CPU", Align::right},
               {"FLOWS", Align::right},
               {"CAPACITY", Align::right},
               {"GENERATION", Align::right},
               {"HEARTBEAT", Align::right},
               {"LONGEST TURN", Align::right}});
  for (const JsonView worker : engine["workers"].items()) {
    table.add({whole_text(worker["index"]), whole_text(worker["cpu"]),
               count_text(worker["flows_active"].number()),
               count_text(worker["flows_capacity"].number()),
               whole_text(worker["acknowledged_generation"]),
               milliseconds_text(worker["heartbeat_age_ms"].whole()) + " ago",
               nanoseconds_text(worker["turn_ns_max"].number())});
  }
  return table.empty() ? "" : "\n" + table.text();
}

std::string group_note(JsonView group) {
  if (group["no_target"].flag()) return "NO TARGET GETS NEW FLOWS: its listeners refuse them";
  if (group["fail_open"].flag()) return "FAILS OPEN: no target is healthy, all get flows";
  return group["unchecked"].flag() ? "not checked yet: all targets get flows" : "";
}

std::string group_table(JsonView status) {
  Table table({{"TARGET GROUP"},
               {"PROTOCOL"},
               {"PORT", Align::right},
               {"FORWARDING"},
               {"HEALTHY", Align::right},
               {"UNHEALTHY", Align::right},
               {"INITIAL", Align::right},
               {"DRAINING", Align::right},
               {"UNUSED", Align::right},
               {"NOTE"}});
  for (const JsonView group : status["target_groups"].items()) {
    table.add({group["name"].text(), group["protocol"].text(), group["port"].whole_or_text(),
               group["forwarding"].text(), whole_text(group["healthy"]),
               whole_text(group["unhealthy"]), whole_text(group["initial"]),
               whole_text(group["draining"]), whole_text(group["unused"]), group_note(group)});
  }
  return table.empty() ? "\nNo target groups.\n" : "\n" + table.text();
}

}  // namespace

std::string absent_engine_text(JsonView engine) {
  const std::string problem = or_dash(engine["problem"].text());
  if (engine["unseen"].flag()) return "NOT TO BE SEEN";  // why, is an alarm
  if (!engine["forwarding"].flag()) {
    const bool is_xdp = engine["wanted_kind"].text() == "xdp";
    return "NOT RUNNING: " + problem + " (systemctl status " +
           (is_xdp ? "millrace-xdp)" : "millrace-dataplane)");
  }
  return "UNATTENDED: " + engine["kind"].text() + " goes on forwarding by generation " +
         whole_text(engine["adopted_generation"]) + ", but no change comes into force: " + problem;
}

std::string render_status(JsonView status) {
  const JsonView config = status["config"];
  const std::string zone = status["zone"].text();
  std::string text = fact("Node", status["node"].text() + (zone.empty() ? "" : ", zone " + zone) +
                                      ", version " + status["version"].text() + ", up " +
                                      duration_text(status["uptime_seconds"].whole()));
  const std::uint64_t applied = config["applied_unix_seconds"].whole();
  text += fact("Config", "generation " + whole_text(status["generation"]) + " from " +
                             or_dash(config["source"].text()) +
                             (applied == 0 ? "" : ", applied " + time_text(applied)));
  if (!config["file_in_force"].flag()) {
    text += fact("", config["file"].text() + " is not in force; `millrace reload` reads it");
  }
  const std::string error = config["error"].text();
  if (!error.empty()) text += fact("Refused", "the last config; what runs stays: " + error);
  for (const JsonView alarm : status["alarms"].items()) text += fact("ALARM", alarm.text());
  text += engine_facts(status["engine"], status["generation"].whole());
  text += fact("Listeners", whole_text(status["listeners"]));
  return text + worker_table(status["engine"]) + group_table(status);
}

std::string target_state(JsonView target) {
  const std::string state = target["state"].text();
  const bool is_hidden = target["health"].text() == "unhealthy" && state != "unhealthy";
  return is_hidden ? state + ", unhealthy" : state;
}

std::string target_note(JsonView target) {
  std::vector<std::string> parts = {target["reason"].text(), target["description"].text()};
  if (!target["drain_seconds_left"].is_null()) {
    parts.push_back(duration_text(target["drain_seconds_left"].whole()) + " left");
  }
  if (target["operator_drained"].flag()) parts.emplace_back("drained by the operator");
  const JsonView is_resolved = target["next_hop_resolved"];
  if (!is_resolved.is_null() && !is_resolved.flag()) {
    parts.push_back("NEXT HOP UNRESOLVED: " + or_dash(target["next_hop"].text()));
  }
  return joined(parts, "; ");
}

std::string render_targets(JsonView targets) {
  Table table({{"TARGET"},
               {"STATE"},
               {"WEIGHT", Align::right},
               {"SHARE", Align::right},
               {"ACTIVE FLOWS", Align::right},
               {"NEW FLOWS", Align::right},
               {"PACKETS", Align::right},
               {"BYTES", Align::right},
               {"ZONE"},
               {"NOTE"}});
  std::string notes;
  for (const JsonView group : targets["target_groups"].items()) {
    for (const JsonView target : group["targets"].items()) {
      table.add({target["target"].text(), target_state(target), whole_text(target["weight"]),
                 share_text(target["lookup_share"].number()), count_or_dash(target["active_flows"]),
                 count_or_dash(target["new_flows"]), count_or_dash(target["packets"]),
                 bytes_or_dash(target["bytes"]), or_dash(target["zone"].text()),
                 target_note(target)});
    }
    if (group["targets"].items().empty()) notes += group["name"].text() + " has no targets.\n";
    const std::string note = group_note(group);
    if (!note.empty()) notes += group["name"].text() + ": " + note + ".\n";
  }
  notes += not_read_text(targets);
  if (table.empty() && notes.empty()) return "No target groups.\n";
  return (table.empty() ? "" : table.text()) + (notes.empty() ? "" : "\n" + notes);
}

namespace {

std::string echo_text(JsonView vip) {
  const std::string echo = vip["echo"].text();
  if (echo != "healthy") return echo;
  return vip["answers_echo"].flag() ? "healthy: answered" : "healthy: NOT ANSWERED";
}

std::string vip_table(JsonView listeners) {
  Table table({{"LOAD BALANCER"}, {"VIP"}, {"ECHO"}, {"NO LISTENER"}});
  for (const JsonView vip : listeners["vips"].items()) {
    table.add({vip["load_balancer"].text(), vip["vip"].text(), echo_text(vip),
               vip["no_listener"].text()});
  }
  return table.empty() ? "" : "\n" + table.text();
}

}  // namespace

std::string render_listeners(JsonView listeners) {
  Table table({{"LOAD BALANCER"},
               {"VIP"},
               {"PROTOCOL"},
               {"PORT", Align::right},
               {"TARGET GROUP"},
               {"FORWARDING"},
               {"NEW FLOWS", Align::right},
               {"REJECTED", Align::right},
               {"PACKETS", Align::right},
               {"BYTES", Align::right},
               {"RST CLIENT", Align::right},
               {"RST TARGET", Align::right},
               {"RST OURS", Align::right}});
  for (const JsonView listener : listeners["listeners"].items()) {
    table.add({listener["load_balancer"].text(), listener["vip"].text(),
               listener["protocol"].text(), listener["port"].whole_or_text(),
               listener["target_group"].text(), listener["forwarding"].text(),
               count_or_dash(listener["new_flows"]), count_or_dash(listener["rejected_flows"]),
               count_or_dash(listener["packets"]), bytes_or_dash(listener["bytes"]),
               count_or_dash(listener["client_resets"]), count_or_dash(listener["target_resets"]),
               count_or_dash(listener["balancer_resets"])});
  }
  const std::string not_read = not_read_text(listeners);
  const std::string vips = vip_table(listeners);
  if (table.empty()) return "No listeners.\n" + vips + not_read;
  return table.text() + vips + (not_read.empty() ? "" : "\n" + not_read);
}

std::string render_counters(JsonView counters, bool with_zeros) {
  const auto workers = counters["workers"].items();
  const auto table_of = [&](const char* title, const char* part, bool zeros) {
    std::vector<Table::Column> columns = {{title}, {"TOTAL", Align::right}};
    for (const JsonView worker : workers) {
      columns.push_back({"WORKER " + whole_text(worker["index"]), Align::right});
    }
    Table table(std::move(columns));
    for (const auto& [name, total] : counters[part].fields()) {
      if (total.whole() == 0 && !zeros) continue;
      std::vector<std::string> cells = {name, whole_text(total)};
      for (const JsonView worker : workers) cells.push_back(whole_text(worker[part][name]));
      table.add(std::move(cells));
    }
    return table;
  };
  std::string text = not_read_text(counters);
  if (!text.empty()) return text;
  if (workers.empty()) return "No engine is running, and none has left its counters.\n";
  if (!counters["engine_running"].flag()) {
    text = "The engine's process gives no sign of life: as it counted last.\n\n";
  }
  text += table_of("COUNTER", "counters", true).text();
  const Table drops = table_of("DROP REASON", "drops", with_zeros);
  text += "\n" + (drops.empty() ? "No packets dropped.\n" : drops.text());
  Table nics({{"DROPPED BY NIC"}, {"REASON"}, {"TOTAL", Align::right}});
  for (const JsonView nic : counters["nics"].items()) {
    for (const auto& [reason, count] : nic["drops"].fields()) {
      if (count.whole() == 0 && !with_zeros) continue;
      nics.add({nic["name"].text(), reason, whole_text(count)});
    }
  }
  return nics.empty() ? text : text + "\n" + nics.text();
}

std::string render_explain(JsonView explanation) {
  std::string text = explanation["protocol"].text() + " " + explanation["client"].text() + " -> " +
                     explanation["vip"].text() + "\n";
  std::size_t step = 0;
  for (const JsonView why : explanation["why"].items()) {
    text += "  " + std::to_string(++step) + ". " + why.text() + "\n";
  }
  const std::string verdict = explanation["verdict"].text();
  const bool is_forwarding = explanation["is_forwarding"].flag();
  const bool is_unseen = explanation["is_unseen"].flag();
  if (is_unseen) return text + "=> unknown, while the engine cannot be seen\n";
  if (!is_forwarding && verdict != "drop") return text + "=> nothing, while no engine runs\n";
  if (verdict == "forward") return text + "=> forwarded to " + explanation["target"].text() + "\n";
  if (verdict == "punt") return text + "=> handed to the kernel\n";
  if (verdict == "reply") return text + "=> answered by the node itself\n";
  return text + "=> dropped: " + or_dash(explanation["drop_reason"].text()) + "\n";
}

std::string render_flows(JsonView flows) {
  Table table({{"CLIENT"},
               {"VIP"},
               {"PROTOCOL"},
               {"TARGET"},
               {"STATE"},
               {"IDLE", Align::right},
               {"WORKER", Align::right},
               {"NOTE"}});
  for (const JsonView flow : flows["flows"].items()) {
    const std::string vip = flow["vip"].text();
    const std::string target = flow["target"].text();
    table.add({flow["client"].text(), vip.empty() ? "(removed)" : vip, flow["protocol"].text(),
               target.empty() ? "(removed)" : target, flow["state"].text(),
               milliseconds_text(flow["idle_ms"].whole()), whole_text(flow["worker"]),
               flow["orphan"].flag() ? "sent to the slot's target before the change" : ""});
  }
  std::string text = (table.empty() ? "No such flows.\n" : table.text()) + not_read_text(flows);
  if (!flows["next"].is_null()) text += "There may be more: raise --limit.\n";
  return text;
}

namespace {

// "2 listeners added, settings of 1 target group changed".
std::string changes_text(JsonView outcome) {
  const std::pair<const char*, const char*> kinds[] = {{"vips", "VIP"},
                                                       {"listeners", "listener"},
                                                       {"target_groups", "target group"},
                                                       {"targets", "target"}};
  std::vector<std::string> changes;
  for (const auto& [key, word] : kinds) {
    for (const char* how : {"added", "removed", "changed"}) {
      const std::uint64_t count = outcome[std::string(key) + "_" + how].whole();
      if (count != 0) changes.push_back(core::counted(count, word) + " " + how);
    }
  }
  if (outcome["node_changed"].flag()) changes.emplace_back("settings of the node changed");
  return joined(changes, ", ");
}

}  // namespace

std::string render_applied(JsonView outcome, const std::string& file) {
  const std::string changes = changes_text(outcome);
  return file + ": generation " + whole_text(outcome["generation"]) + ", " +
         (changes.empty() ? "nothing changed" : changes) + "\n";
}

std::string render_rehearsed(JsonView outcome) {
  const std::string changes = changes_text(outcome);
  return changes.empty() ? "Apply would change nothing" : "Apply would say: " + changes;
}

}  // namespace millrace::control

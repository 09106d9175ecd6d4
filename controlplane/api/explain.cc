// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/explain.h"

#include <algorithm>
#include <cstring>
#include <ctime>

#include <boost/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/api/flow_reader.h"
#include "controlplane/api/flow_view.h"
#include "controlplane/api/names.h"
#include "controlplane/api/views.h"
#include "controlplane/model/wording.h"
#include "dataplane/core/drop_reason.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"
#include "dataplane/os/clock.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/known_rule.h"
#include "dataplane/rules/vip_rule.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

// 256 MB of records, about a fifth of a second: a flow table of the default size is seen whole.
constexpr std::uint64_t kRecordsMax = 4'000'000;

// Walks the decision and writes down each step.
class Explanation {
 public:
  Explanation(const FlowQuestion& question, const core::ConfigView& config,
              const Snapshot& snapshot)
      : question_(question), config_(config), snapshot_(snapshot), names_(snapshot) {}

  json::value run();

 private:
  void decide();
  void explain_engine();
  [[nodiscard]] const mr_listener* find_listener() const;
  void decide_without_listener(std::uint32_t vip_flags);
  void decide_in_group(const mr_listener& listener);
  [[nodiscard]] mr_source_fault source_fault() const;
  [[nodiscard]] std::string why_no_client() const;
  void explain_slot(const mr_target_group& group, const mr_lookup_slot& slot);
  void explain_target(const mr_target& target);
  [[nodiscard]] IpAddress source_of_flow(const mr_encap_source& own) const;
  void explain_encapsulation(const mr_target& target);
  void find_flow();
  void explain_known(const FlowFound& found, const std::string& target_name);
  void answer();  // the node does, itself
  void drop(mr_drop_reason reason, const std::string& why);
  void say(const std::string& why) { why_.emplace_back(why); }
  // A step for which something could not be read, so that the answer is not whole.
  void not_read(const std::string& problem) {
    say(problem);
    problems_.emplace_back(problem);
  }
  [[nodiscard]] std::string listeners_of_vip() const;
  [[nodiscard]] std::string target_text(const mr_target& target) const;
  [[nodiscard]] core::Parsed packet() const;  // with the addresses of the question

  const FlowQuestion& question_;
  const core::ConfigView& config_;
  const Snapshot& snapshot_;
  Names names_;
  json::object result_;
  std::uint32_t explained_target_ = 0;  // whose way was told last; 0, which no target is: none's
  json::array why_;
  json::array problems_;
};

json::value Explanation::run() {
  result_ = {{"client", endpoint_text(question_.client, question_.client_port)},
             {"vip", endpoint_text(question_.vip, question_.vip_port)},
             {"protocol", to_string(question_.protocol)},
             {"generation", config_.generation},
             {"verdict", "drop"},
             {"drop_reason", nullptr},
             {"target", nullptr},
             {"next_hop", nullptr},
             {"flow", nullptr}};
  decide();
  explain_engine();
  result_["why"] = std::move(why_);
  result_["problems"] = std::move(problems_);
  return std::move(result_);
}

// Whether what is decided is also what happens.
void Explanation::explain_engine() {
  const EngineSnapshot& engine = snapshot_.engine;
  result_["is_forwarding"] = engine.is_forwarding();
  result_["is_unseen"] = engine.is_unseen();
  if (engine.is_unseen()) return not_read(engine.problem);
  if (!engine.is_forwarding()) {
    return say("nothing is forwarded at all: " + engine.problem);
  }
  const std::string adopted = "generation " + std::to_string(engine.adopted_generation);
  const bool is_newest = engine.adopted_generation == config_.generation;
  if (!engine.is_running()) {
    say("the engine goes on forwarding by " + adopted + ", but nobody gives it changes (" +
        engine.problem + ")" + (is_newest ? "" : ": this answer is by a newer one"));
  } else if (!is_newest) {
    say("the engine still runs " + adopted);
  }
}

void Explanation::decide() {
  if (config_.image == nullptr) {
    result_["verdict"] = "punt";
    return say("no config has been published yet: every packet goes to the kernel");
  }
  const mr_addr& vip = question_.vip.addr;
  const mr_table_entry* vip_entry = core::find_entry(config_.listener_table, vip, 0, 0);
  if (vip_entry == nullptr) {
    result_["verdict"] = "punt";
    return say(question_.vip.to_string() +
               " is not a VIP: its packets go to the kernel (see `millrace listeners`)");
  }
  const mr_listener* listener = find_listener();
  if (listener == nullptr) return decide_without_listener(vip_entry->slot);
  decide_in_group(*listener);
}

const mr_listener* Explanation::find_listener() const {
  const mr_addr& vip = question_.vip.addr;
  const auto protocol = static_cast<std::uint8_t>(question_.protocol);
  const auto* entry =
      core::find_entry(config_.listener_table, vip, core::to_be16(question_.vip_port), protocol);
  if (entry != nullptr) {
    return entry->slot < config_.listeners.size() ? &config_.listeners[entry->slot] : nullptr;
  }
  entry = core::find_entry(config_.listener_table, vip, 0, mr_ranges_of(protocol));
  return core::listener_in_ranges(config_, entry, question_.vip_port);
}

// `vip_flags`: enum mr_vip_flag
void Explanation::decide_without_listener(std::uint32_t vip_flags) {
  // What can be no packet of a client is refused before its listener is looked for.
  if (core::is_martian(packet())) {
    return drop(MR_DROP_MARTIAN, question_.client.to_string() + why_no_client());
  }
  const std::string lack = question_.vip.to_string() + " is a VIP, but has no " +
                           to_string(question_.protocol) + " listener on port " +
                           std::to_string(question_.vip_port) + " (it has " + listeners_of_vip() +
                           ")";
  const auto protocol = static_cast<std::uint32_t>(question_.protocol);
  const mr_source_fault source = mr_asks_for_source(vip_flags) ? source_fault() : MR_SOURCE_FINE;
  switch (mr_no_listener_of(vip_flags, protocol, 0, source)) {
    case MR_NO_LISTENER_DROP:
      return drop(MR_DROP_NO_LISTENER, lack);
    case MR_NO_LISTENER_FORGED:
      say(lack);
      return drop(MR_DROP_MARTIAN, question_.client.to_string() + why_no_client());
    case MR_NO_LISTENER_PUNT:
      result_["verdict"] = "punt";
      return say(lack + ": it goes to the kernel (millrace.no_listener: kernel)");
    case MR_NO_LISTENER_RESET:
      answer();
      return say(lack + ": a RST answers it, unless it is one (millrace.no_listener: reject)");
    case MR_NO_LISTENER_UNREACHABLE:
      answer();
      return say(lack + ": ICMP's \"port unreachable\" answers it (millrace.no_listener: reject)");
  }
}

// "TCP 80, UDP 53".
std::string Explanation::listeners_of_vip() const {
  std::vector<std::string> texts;
  for (const ListenerSnapshot& listener : snapshot_.listeners) {
    if (!(listener.vip == question_.vip)) continue;
    texts.push_back(std::string(to_string(listener.protocol)) + " " + listener.ports.to_string());
  }
  return some_of({texts.begin(), texts.end()});
}

void Explanation::decide_in_group(const mr_listener& listener) {
  const mr_target_group& group = config_.groups[listener.group_slot];
  const ListenerSnapshot* listener_name = names_.listener(listener.id);
  const TargetGroupSnapshot* group_name = names_.group(group.id);
  const std::string group_text = group_name == nullptr ? "?" : group_name->name;
  result_["load_balancer"] = listener_name == nullptr ? "" : listener_name->load_balancer;
  result_["target_group"] = group_text;
  say("listener " + std::string(to_string(question_.protocol)) + " " +
      endpoint_text(question_.vip, question_.vip_port) + " of load balancer " +
      (listener_name == nullptr ? "?" : listener_name->load_balancer) +
      " forwards to target group " + group_text);
  if (const std::string why = why_no_client(); !why.empty()) {
    drop(MR_DROP_MARTIAN, question_.client.to_string() + why);
  } else if (group.table_offset == 0) {
    drop(MR_DROP_NO_TARGET, "target group " + group_text + " has no target that may get flows");
  } else {
    const mr_flow_tuple flow =
        mr_selection_tuple(&question_.client.addr, core::to_be16(question_.client_port), &listener,
                           core::to_be16(question_.vip_port));
    const std::uint64_t hash = mr_selection_hash(&config_.image->selection_key, &flow);
    const std::uint32_t index = mr_slot_of_hash(hash, group.table_slots);
    result_["selection_hash"] = hex_text(hash);
    result_["lookup_slot"] = index;
    result_["lookup_slots"] = group.table_slots;
    say("selection hash " + hex_text(hash) + " picks slot " + std::to_string(index) + " of " +
        std::to_string(group.table_slots));
    explain_slot(group, config_.lookup_table(group)[index]);
  }
  find_flow();
}

// Why the engine begins no flow from this source, in words that follow its address; "" where it
// does.
std::string Explanation::why_no_client() const {
  switch (source_fault()) {
    case MR_SOURCE_VIP:
      return " is a VIP, which can be no client";
    case MR_SOURCE_NODE:
      return " is this node's own address, which can be no client: ask from another machine";
    case MR_SOURCE_LINK_LOCAL:
      return " is a link-local address, which nobody forwards";
    case MR_SOURCE_MARTIAN:
      return " is an address that no client has";
    case MR_SOURCE_FINE:
      break;
  }
  return "";
}

mr_source_fault Explanation::source_fault() const {
  const core::AddrWords source = core::words_of(question_.client.addr);
  const bool is_vip = core::find_entry(config_.listener_table, source, 0, 0) != nullptr;
  const bool is_node = std::ranges::any_of(
      config_.local_addrs, [&](const mr_addr& own) { return core::words_of(own) == source; });
  return mr_source_fault_of(source.low, is_vip, is_node, core::is_martian(packet()));
}

void Explanation::explain_slot(const mr_target_group& group, const mr_lookup_slot& slot) {
  const auto members = config_.members(group);
  const mr_target& current = config_.targets[members[slot.cur]];
  if ((group.flags & MR_GROUP_FAIL_OPEN) != 0) {
    const TargetGroupSnapshot* known = names_.group(group.id);
    const bool is_unchecked = known != nullptr && known->routing == GroupRouting::unchecked;
    say(is_unchecked ? "no health check has had a result yet, so all targets get flows"
                     : "the group fails open: no target is healthy, so all of them get flows");
  }
  result_["cur"] = target_text(current);
  result_["prev"] = nullptr;
  say("the slot belongs to " + target_text(current) + ": a new flow goes there");
  if (slot.prev != MR_MEMBER_NONE) {
    const mr_target& previous = config_.targets[members[slot.prev]];
    const bool keeps_flows = mr_takes_orphan(previous.flags);
    result_["prev"] = target_text(previous);
    say("within the deregistration delay the slot changed, before it belonged to " +
        target_text(previous) +
        (keeps_flows ? ": the middle of a TCP connection that no flow table knows goes there"
                     : ", which takes no flows any more"));
  }
  if (mr_refuses_own_client(current.forwarding) && IpAddress{current.addr} == question_.client) {
    return drop(MR_DROP_MARTIAN,
                "the client is that target itself, which would get its own packets back");
  }
  explain_target(current);
}

// The target of the flow: is the way to it open?
void Explanation::explain_target(const mr_target& target) {
  if (std::exchange(explained_target_, target.id) == target.id) return;
  const TargetSnapshot* known = names_.target(target.id);
  if (known != nullptr) {
    say(target_text(target) + " is " + to_string(known->state) + ", weight " +
        std::to_string(known->weight) +
        (known->description.empty() ? "" : " (" + known->description + ")"));
  }
  if ((target.next_hop.flags & MR_NEXT_HOP_RESOLVED) == 0) {
    return drop(MR_DROP_NEXT_HOP_UNRESOLVED,
                "its next hop is not resolved" +
                    (known == nullptr || known->next_hop.empty() ? "" : ": " + known->next_hop));
  }
  result_["verdict"] = "forward";
  result_["drop_reason"] = nullptr;
  result_["target"] = target_text(target);
  if (known != nullptr) {
    result_["next_hop"] = known->next_hop;
    say("its next hop is resolved: " + known->next_hop);
  }
  explain_encapsulation(target);
}

IpAddress Explanation::source_of_flow(const mr_encap_source& own) const {
  const core::AddrWords client = core::words_of(question_.client.addr);
  const std::uint32_t bits = own.spread_be & mr_flow_entropy(client.low, client.high,
                                                             core::to_be16(question_.client_port));
  IpAddress source{own.addr};
  std::uint32_t last = 0;
  std::memcpy(&last, source.addr.bytes + 12, sizeof(last));
  last |= bits;
  std::memcpy(source.addr.bytes + 12, &last, sizeof(last));
  return source;
}

void Explanation::explain_encapsulation(const mr_target& target) {
  const auto forwarding = static_cast<Forwarding>(target.forwarding);
  if (!encapsulates(forwarding)) return;
  const bool is_v4 = IpAddress{target.addr}.is_v4();
  const mr_encap_source& own =
      is_v4 ? config_.image->encap_source_v4 : config_.image->encap_source_v6;
  const IpAddress source = source_of_flow(own);
  if (IpAddress{own.addr} == IpAddress{}) {
    return drop(MR_DROP_NO_ENCAP_SOURCE, std::string("the node has no ") +
                                             (is_v4 ? "IPv4" : "IPv6") + " address to send from");
  }
  std::string how = std::string("it travels by ") + to_string(forwarding) + " from " +
                    source.to_string() + " to " + IpAddress{target.addr}.to_string();
  if (forwarding == Forwarding::gue) {
    how += " port " + std::to_string(core::from_be16(target.encap_port_be));
  }
  const std::uint32_t mtu = mr_inner_mtu(target.mtu, mr_outer_bytes(target.forwarding, is_v4));
  if (target.mtu != MR_MTU_NO_LIMIT) {
    how += "; packets over " + std::to_string(mtu) + " bytes are answered with an MTU of " +
           std::to_string(mr_told_mtu(mtu, question_.vip.is_v4()));
  }
  say(how);
}

// A flow that is known goes on to its target, whatever the lookup table says by now.
void Explanation::find_flow() {
  if (snapshot_.engine.is_unseen()) return;  // where its tables are, it alone tells
  FlowFilter filter;
  filter.client = question_.client;
  filter.client_port = question_.client_port;
  filter.vip = question_.vip;
  filter.vip_port = question_.vip_port;
  filter.protocol = question_.protocol;
  const FlowScan scan = scan_flows(
      {.directory = snapshot_.engine.flow_table_dir,
       .table_count = snapshot_.engine.flow_table_count,
       .from = {},
       .found_max = 1,
       .records_max = kRecordsMax,
       .matches = [&](const mr_flow_record& record) { return matches(filter, record, names_); }});
  for (const std::string& problem : scan.problems) not_read("flow table not read: " + problem);
  if (scan.found.empty()) {
    return say(scan.next ? "not found among the first " + std::to_string(scan.records_seen) +
                               " flow records; the rest was not searched"
               : scan.problems.empty()
                   ? "no flow table has this flow: its first packet is decided as above"
                   : "no flow table that can be read has this flow");
  }
  json::object flow = flow_view(scan.found.front(), names_, clock_ns(CLOCK_MONOTONIC));
  if (flow["target"].is_string()) {
    explain_known(scan.found.front(), std::string(flow["target"].get_string().c_str()));
  }
  result_["flow"] = std::move(flow);
}

// `target_name`: of the flow's target.
void Explanation::explain_known(const FlowFound& found, const std::string& target_name) {
  const mr_flow_record& record = found.record;
  const bool is_workers = snapshot_.engine.flow_table_count == snapshot_.engine.workers.size();
  const std::string known =
      (is_workers ? "worker " + std::to_string(found.worker) : std::string("the engine")) +
      " knows this flow (state " + core::flow_state_name(record.state) + "): ";
  // The slot may be another's in the image that is in force.
  const std::uint32_t slot = names_.target(record.target_id)->slot;
  const bool is_there =
      slot < config_.targets.size() && config_.targets[slot].id == record.target_id;
  const std::uint32_t flags =
      is_there ? std::uint32_t{config_.targets[slot].flags} : std::uint32_t{MR_TARGET_KEEPS_FLOWS};
  // A packet in the middle of the flow: what is asked for a SYN does not matter.
  switch (mr_revisit_of({.state = record.state,
                         .flags = record.flags,
                         .protocol = record.protocol,
                         .tcp_flags = 0,
                         .target_flags = flags,
                         .sees_replies = false,
                         .is_quiet = false})) {
    case MR_REVISIT_GO_ON:
    case MR_REVISIT_OPEN_AGAIN:
      say(known + "its packets go to " + target_name);
      if (is_there) explain_target(config_.targets[slot]);
      return;
    case MR_REVISIT_START_OVER:
      return say(known + "it is over, or " + target_name +
                 " keeps its flows no longer, so the next packet begins a new one");
    case MR_REVISIT_END_LATE:
      answer();
      return say(known + "it was idle for too long, so RSTs tell both ends; a new SYN begins anew");
    case MR_REVISIT_RESET:
      answer();
      return say(known + target_name + " resets its connections, so a RST answers all but a SYN");
  }
}

void Explanation::answer() {
  result_["verdict"] = "reply";
  result_["target"] = nullptr;
  result_["next_hop"] = nullptr;
  result_["drop_reason"] = nullptr;
}

void Explanation::drop(mr_drop_reason reason, const std::string& why) {
  result_["verdict"] = "drop";
  result_["target"] = nullptr;
  result_["next_hop"] = nullptr;
  result_["drop_reason"] = core::drop_reason_name(reason);
  say(why + ": dropped, counted as " + core::drop_reason_name(reason));
}

std::string Explanation::target_text(const mr_target& target) const {
  const TargetSnapshot* known = names_.target(target.id);
  if (known != nullptr) return known->key.to_string();
  return endpoint_text(IpAddress{target.addr}, core::from_be16(target.port_be));
}

core::Parsed Explanation::packet() const {
  core::Parsed packet{};
  packet.is_v4 = question_.client.is_v4();
  packet.source = core::words_of(question_.client.addr);
  packet.destination = core::words_of(question_.vip.addr);
  return packet;
}

}  // namespace

json::value explain_flow(const FlowQuestion& question, const core::ConfigView& config,
                         const Snapshot& snapshot) {
  return Explanation(question, config, snapshot).run();
}

}  // namespace millrace::control

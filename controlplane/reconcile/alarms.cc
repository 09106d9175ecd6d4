// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/alarms.h"

#include <algorithm>
#include <string>
#include <utility>

#include "dataplane/core/counted.h"
#include "dataplane/rules/forwarding_rule.h"

namespace millrace::control {

namespace {

void add_engine_alarms(const EngineSnapshot& engine, std::vector<Alarm>& alarms) {
  if (engine.is_unseen()) {
    std::erase_if(alarms, [](const Alarm& alarm) { return alarm.kind == AlarmKind::hold; });
    alarms.push_back({AlarmKind::engine_unseen,
                      engine.problem + "; until then no target's health gets worse, and the ways "
                                       "to targets stay as they are in force"});
  }
  if (engine.is_of_wrong_kind()) {
    alarms.push_back({AlarmKind::engine_kind, "the engine that runs is " + engine.kind +
                                                  ", but node.engine is " + engine.wanted_kind});
  }
}

void add_nic_alarms(const EngineSnapshot& engine, std::vector<Alarm>& alarms) {
  for (const NicSnapshot& nic : engine.nics) {
    if (!engine.is_running() || nic.idle_members == 0 || !nic.link_up) continue;
    alarms.push_back({AlarmKind::members,
                      "nic " + nic.name + ": " + core::counted(nic.idle_members, "member") +
                          " of the bond would not carry frames in place of another; the engine's "
                          "log says which"});
  }
  for (const NicSnapshot& nic : engine.nics) {
    if (!engine.is_running() || nic.unserved_queues == 0) continue;
    alarms.push_back({AlarmKind::queues,
                      "nic " + nic.name + ": frames on " + std::to_string(nic.unserved_queues) +
                          " of its rx queues reach no worker, so that a part of the clients gets "
                          "no service: restart the engine; its log says what happened"});
  }
}

// One for each group: targets of one group mostly share what is wrong. Of ways that went with their
// twin that is told already.
void add_unreachable_alarm(const GroupState& group, const AlarmSources& sources,
                           std::vector<Alarm>& alarms) {
  const EngineSnapshot& engine = sources.engine;
  const TargetRecord* first = nullptr;
  std::size_t count = 0;
  for (const auto& [key, target] : group.targets) {
    const bool is_healthy = target.health.state == TargetState::healthy;
    if (!target.is_unreachable || !is_healthy || !gets_flows(target, group)) continue;
    if (target.nic && *target.nic < engine.nics.size() &&
        engine.nics[*target.nic].twin_state != TwinState::there) {
      continue;
    }
    if (count++ == 0) first = &target;
  }
  if (first == nullptr) return;
  const auto hop = sources.routes.find(first->key.address);
  const std::string others = count == 1 ? "" : " and to " + std::to_string(count - 1) + " more";
  alarms.push_back(
      {AlarmKind::unreachable,
       "target group " + group.settings.name + ": the engine has no way to target " +
           first->key.address.to_string() + others + ", although healthy (" +
           (hop ? hop->text : "not looked up yet") + "): " +
           (first->is_passed_over ? "new flows go to the others" : "packets for it are dropped")});
}

void add_encap_source_alarm(const GroupState& group, const AlarmSources& sources,
                            std::vector<Alarm>& alarms) {
  for (const auto& [key, target] : group.targets) {
    const bool is_v4 = key.address.is_v4();
    const auto hop = sources.routes.find(key.address);
    const mr_addr& source =
        (is_v4 ? sources.given.encap_source_v4 : sources.given.encap_source_v6).addr;
    if (!hop || !hop->resolved || !(IpAddress{source} == IpAddress{})) continue;
    alarms.push_back(
        {AlarmKind::encap_source, "target group " + group.settings.name + " is forwarded by " +
                                      to_string(group.settings.forwarding) +
                                      ", but the node has no " + (is_v4 ? "IPv4" : "IPv6") +
                                      " address to send from: give it one, or name one under "
                                      "node.encap_source"});
    return;
  }
}

// Clients are told of what does not fit, and send smaller packets, but none below a certain size.
void add_mtu_alarm(const GroupState& group, const AlarmSources& sources,
                   std::vector<Alarm>& alarms) {
  if (!group.is_in_use) return;
  for (const auto& [key, target] : group.targets) {
    const auto hop = sources.routes.find(key.address);
    if (!hop || !hop->resolved) continue;
    const std::uint32_t mtu = sources.path_mtus.told_towards(key.address, group, hop->mtu);
    const std::uint32_t smallest = smallest_mtu_towards(key.address, group);
    if (mtu == 0 || mtu >= smallest) continue;
    const std::uint32_t overhead =
        mr_outer_bytes(static_cast<std::uint8_t>(group.settings.forwarding), key.address.is_v4());
    const std::uint32_t inner = smallest - overhead;
    const bool is_routes = mtu == hop->mtu;
    alarms.push_back(
        {AlarmKind::mtu,
         "target group " + group.settings.name + ": " +
             (inner == MR_IPV6_MTU_MIN ? "IPv6" : "IPv4") + " packets of " + std::to_string(inner) +
             " bytes do not fit the MTU of " + std::to_string(mtu) + " towards target " +
             key.address.to_string() + (is_routes ? "" : " (as a router on the way says)") +
             " with " + to_string(group.settings.forwarding) + "'s " + std::to_string(overhead) +
             " bytes, and no client sends smaller ones when told so: the way needs an MTU of at "
             "least " +
             std::to_string(smallest)});
    return;
  }
}

// An address that came after the config: plan_image() leaves it to the kernel.
void add_own_vip_alarms(const AlarmSources& sources, std::vector<Alarm>& alarms) {
  for (const auto& [vip, record] : sources.state.vips) {
    const std::string interface = sources.routes.interface_of(vip);
    if (interface.empty()) continue;
    alarms.push_back({AlarmKind::own_vip,
                      "the VIP " + vip.to_string() + " of load balancer " + record.load_balancer +
                          " has become an address of this node itself, on " + interface +
                          ": its packets are left to the kernel until it is taken away"});
  }
}

void add_vlan_alarm(const AlarmSources& sources, std::vector<Alarm>& alarms) {
  const std::size_t count = sources.routes.vlans().size();
  if (count <= MR_VLAN_COUNT_MAX) return;
  alarms.push_back({AlarmKind::vlans,
                    std::to_string(count) + " VLAN interfaces are on the engine's nics, of which " +
                        std::to_string(MR_VLAN_COUNT_MAX) +
                        " are balanced: packets of the others are left to the kernel; delete "
                        "those that no client or target needs"});
}

}  // namespace

std::vector<Alarm> all_alarms(std::vector<Alarm> noted, const AlarmSources& sources) {
  std::vector<Alarm> alarms = std::move(noted);
  add_engine_alarms(sources.engine, alarms);
  add_own_vip_alarms(sources, alarms);
  add_nic_alarms(sources.engine, alarms);
  if (sources.engine.is_running()) add_vlan_alarm(sources, alarms);
  for (const auto& [name, group] : sources.state.groups) {
    if (sources.engine.is_running()) add_unreachable_alarm(group, sources, alarms);
    if (!encapsulates(group.settings.forwarding)) continue;
    add_encap_source_alarm(group, sources, alarms);
    add_mtu_alarm(group, sources, alarms);
  }
  return alarms;
}

}  // namespace millrace::control

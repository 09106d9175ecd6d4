// SPDX-License-Identifier: Apache-2.0
//
// Holds the parts of a config against each other and puts the Config together. Cold.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "controlplane/config/draft.h"
#include "controlplane/model/lookup_size.h"
#include "dataplane/contract/config_abi.h"

namespace millrace::control {
namespace {

enum class Family : std::uint8_t { v4, v6 };

const char* to_string(Family family) { return family == Family::v4 ? "IPv4" : "IPv6"; }
Family family_of(const IpAddress& address) { return address.is_v4() ? Family::v4 : Family::v6; }

// Of one VIP and protocol. What they leave of any is a range before, between and behind them.
constexpr std::size_t kPortRangesMax = (MR_PORT_RANGES_OF_VIP_MAX - 2) / 2;

// Whether a group's targets speak all that a listener takes.
bool takes(Protocol group, Protocol listener) {
  return group == listener || group == Protocol::tcp_udp;
}

std::string group_advice(Protocol listener) {
  if (listener == Protocol::tcp_udp) {
    return "a TCP_UDP listener needs a TCP_UDP group, or write a TCP and a UDP listener, each with "
           "a group of its own";
  }
  return std::string("a ") + control::to_string(listener) + " listener needs a " +
         control::to_string(listener) + " or TCP_UDP group";
}

class Checker {
 public:
  Checker(const ConfigDraft& draft, const FindOwnInterface& own_interface, ErrorList& errors)
      : draft_(draft), own_interface_(own_interface), errors_(errors) {}

  Config run() {
    Config config;
    config.node = draft_.node;
    collect_vips();
    check_own_addresses();
    check_encap_sources();
    for (const TargetGroupDraft& group : draft_.target_groups) {
      config.target_groups.push_back(check_target_group(group));
    }
    for (const LoadBalancerDraft& balancer : draft_.load_balancers) {
      config.load_balancers.push_back(check_load_balancer(balancer));
    }
    check_asymmetric_targets(draft_, errors_);
    check_limits();
    return config;
  }

 private:
  void collect_vips();
  void check_own_addresses();
  void check_encap_sources();
  TargetGroup check_target_group(const TargetGroupDraft& draft);
  void check_weights(const TargetGroupDraft& draft);
  Target check_target(const TargetDraft& draft, std::uint16_t group_port,
                      std::map<std::pair<IpAddress, std::uint16_t>, Cursor>& seen);
  LoadBalancer check_load_balancer(const LoadBalancerDraft& draft);
  // By protocol and first port: of one port, and of several.
  using TakenPorts = std::map<std::pair<Protocol, std::uint16_t>, const ListenerDraft*>;
  struct Taken {
    TakenPorts ones;
    TakenPorts ranges;
  };
  void take_ports(const ListenerDraft& listener, Taken& taken);
  void check_range(const ListenerDraft& listener, Protocol protocol, const Taken& taken);
  Listener check_listener(const ListenerDraft& draft, const LoadBalancerDraft& balancer);
  void check_listener_families(const ListenerDraft& draft, const LoadBalancerDraft& balancer,
                               Listener& listener);
  void check_reference(const Placed<std::string>& name, Family family, const Placed<IpAddress>& vip,
                       const ListenerDraft& listener, const LoadBalancerDraft& balancer);
  void check_kept_port(const TargetGroupDraft& group, const Placed<std::string>& name,
                       const ListenerDraft& listener);
  void check_one_port(const TargetGroupDraft& group, const Placed<std::string>& name,
                      const ListenerDraft& listener);
  void check_one_listener(const Placed<std::string>& group, Family family,
                          const LoadBalancerDraft& balancer, Protocol protocol);
  void check_limits();
  std::string unknown_group(const std::string& name) const;

  const ConfigDraft& draft_;
  const FindOwnInterface& own_interface_;
  ErrorList& errors_;
  std::map<IpAddress, Cursor> vips_;
  std::map<std::string, const TargetGroupDraft*> groups_;
  std::map<std::string, Cursor> balancers_;
  // That a listener uses, with what it takes: the protocol tells a reply's listener.
  std::set<std::pair<std::string, Protocol>> asymmetric_groups_;
};

// The address family of a group's targets; nullptr when it has none (whose address is known).
const Placed<IpAddress>* first_address(const TargetGroupDraft& group) {
  for (const TargetDraft& target : group.targets) {
    if (target.address) return &*target.address;
  }
  return nullptr;
}

// Whether a target of the group has no port of its own.
bool takes_any_port(const TargetGroupDraft& group) {
  if (!group.port) return false;
  const auto is_any = [&](const TargetDraft& target) {
    return target.port.value_or(*group.port) == 0;
  };
  return group.targets.empty() ? *group.port == 0 : std::ranges::any_of(group.targets, is_any);
}

const Placed<IpAddress>* first_vip(const LoadBalancerDraft& balancer, Family family) {
  for (const auto& vip : balancer.addresses) {
    if (family_of(vip.value) == family) return &vip;
  }
  return nullptr;
}

void Checker::collect_vips() {
  for (const LoadBalancerDraft& balancer : draft_.load_balancers) {
    for (const auto& vip : balancer.addresses) {
      const auto [known, is_new] = vips_.emplace(vip.value, vip.at);
      if (is_new) continue;
      errors_.add(vip.at, "the VIP " + vip.value.to_string() + " is given already, in " +
                              line_of(known->second) + " (" + known->second.path +
                              "); a VIP belongs to one load balancer");
    }
  }
}

// All packets to it would be the listeners' or nobody's: logins and answers to probes, too.
void Checker::check_own_addresses() {
  if (!own_interface_) return;
  for (const auto& [vip, at] : vips_) {
    const std::string interface = own_interface_(vip);
    if (interface.empty()) continue;
    errors_.add(at,
                vip.to_string() + " is an address of this node itself, on " + interface +
                    "; a VIP must be nobody's own: take it from the interface, or name another");
  }
}

void Checker::check_encap_sources() {
  for (const auto& source : draft_.encap_sources) {
    const bool is_network = source.value.is_network();
    for (const auto& [vip, at] : vips_) {
      if (!source.value.contains(vip)) continue;
      errors_.add(source.at, source.value.to_string() +
                                 (is_network ? " has the VIP " + vip.to_string() : " is a VIP") +
                                 ", in " + line_of(at) + "; encapsulated packets come from " +
                                 (is_network ? "addresses that nobody else has"
                                             : "an address of the node's own"));
    }
    for (const TargetGroupDraft& group : draft_.target_groups) {
      for (const TargetDraft& target : group.targets) {
        if (!is_network || !target.address || !source.value.contains(target.address->value))
          continue;
        errors_.add(source.at,
                    source.value.to_string() + " has the target " +
                        target.address->value.to_string() + ", in " + line_of(target.address->at) +
                        "; encapsulated packets come from addresses that nobody else has");
      }
    }
  }
}

TargetGroup Checker::check_target_group(const TargetGroupDraft& draft) {
  TargetGroup group = draft.settings;
  group.port = draft.port.value_or(0);
  if (draft.name) {
    group.name = draft.name->value;
    const auto [known, is_new] = groups_.emplace(group.name, &draft);
    if (!is_new) {
      errors_.add(draft.name->at, "a target group " + quote(group.name) + " exists already, in " +
                                      line_of(known->second->name->at));
    }
  }
  const auto* first = first_address(draft);
  std::map<std::pair<IpAddress, std::uint16_t>, Cursor> seen;
  for (const TargetDraft& target : draft.targets) {
    group.targets.push_back(check_target(target, group.port, seen));
    if (!target.address || family_of(target.address->value) == family_of(first->value)) continue;
    errors_.add(target.address->at,
                std::string("is ") + to_string(family_of(target.address->value)) + " but " +
                    first->value.to_string() + " in " + line_of(first->at) + " is " +
                    to_string(family_of(first->value)) +
                    "; a target group holds one address family, make two groups");
  }
  check_weights(draft);
  if (takes_any_port(draft) && !group.health_check.port) {
    errors_.add(draft.at,
                "has targets of any port, so health_check needs a `port` that probes go to");
  }
  return group;
}

// A target with a weight would get no flow if it owned no slot of the lookup table.
void Checker::check_weights(const TargetGroupDraft& draft) {
  Weights weights;
  for (const TargetDraft& target : draft.targets) weights.add(target.weight);
  if (suffices(MR_LOOKUP_SLOTS_MAX, weights)) return;
  const auto is_lightest = [&](const TargetDraft& target) {
    return target.weight == weights.lightest;
  };
  const auto lightest = std::ranges::find_if(draft.targets, is_lightest);
  const auto heaviest = std::ranges::max_element(draft.targets, {}, &TargetDraft::weight);
  errors_.add(lightest->at,
              "weight " + std::to_string(lightest->weight) + " is too small beside those of the " +
                  "other targets, as " + std::to_string(heaviest->weight) + " in " +
                  line_of(heaviest->at) + ": of the largest lookup table, " +
                  std::to_string(MR_LOOKUP_SLOTS_MAX) + " slots, its share is below " +
                  std::to_string(kSlotsOfLightestMin) + "; the group's weights add up to " +
                  std::to_string(weights.sum) + ", and may to " +
                  std::to_string(weights.lightest * std::uint64_t{MR_LOOKUP_SLOTS_MAX} /
                                 kSlotsOfLightestMin) +
                  ": make the weights differ less, or take targets out by weight 0");
}

Target Checker::check_target(const TargetDraft& draft, std::uint16_t group_port,
                             std::map<std::pair<IpAddress, std::uint16_t>, Cursor>& seen) {
  Target target;
  target.port = draft.port.value_or(group_port);
  target.weight = draft.weight;
  target.zone = draft.zone;
  if (!draft.address) return target;
  target.address = draft.address->value;
  const std::string text = target.address.to_string();
  const auto [known, is_new] = seen.emplace(std::pair{target.address, target.port}, draft.at);
  if (!is_new) {
    const std::string port = target.port == 0 ? "" : " with port " + std::to_string(target.port);
    errors_.add(draft.at, "the target " + text + port + " is in this group already, in " +
                              line_of(known->second));
  }
  const auto first = seen.lower_bound({target.address, 0});
  const bool is_any = first->first.second == 0;
  const auto other = is_any && target.port == 0 ? std::next(first) : first;
  if (is_new && is_any && other != seen.end() && other->first.first == target.address &&
      other->first.second != target.port) {
    errors_.add(draft.at, "the target " + text + " is in this group already, in " +
                              line_of(other->second) + "; if one of them takes any port, there " +
                              "is no room for the other");
  }
  const auto vip = vips_.find(target.address);
  if (vip != vips_.end()) {
    errors_.add(draft.address->at, text + " is a VIP, in " + line_of(vip->second) +
                                       "; a target is a machine's own address");
  }
  return target;
}

LoadBalancer Checker::check_load_balancer(const LoadBalancerDraft& draft) {
  LoadBalancer balancer = draft.settings;
  if (draft.name) {
    balancer.name = draft.name->value;
    const auto [known, is_new] = balancers_.emplace(balancer.name, draft.name->at);
    if (!is_new) {
      errors_.add(draft.name->at, "a load balancer " + quote(balancer.name) +
                                      " exists already, in " + line_of(known->second));
    }
  }
  for (const auto& vip : draft.addresses) balancer.addresses.push_back(vip.value);
  Taken taken;
  for (const ListenerDraft& listener : draft.listeners) {
    balancer.listeners.push_back(check_listener(listener, draft));
    if (listener.protocol && listener.ports) take_ports(listener, taken);
  }
  return balancer;
}

void Checker::take_ports(const ListenerDraft& listener, Taken& taken) {
  const Protocol wanted = listener.protocol->value;
  const auto& ports = *listener.ports;
  for (const Protocol protocol : protocols_of(wanted)) {
    check_range(listener, protocol, taken);
    TakenPorts& kind = ports.value.is_one() ? taken.ones : taken.ranges;
    const auto [known, is_new] = kind.emplace(std::pair{protocol, ports.value.first}, &listener);
    if (is_new) continue;
    const Protocol by = known->second->protocol->value;
    const std::string text = std::string("a listener for ") + control::to_string(by) + " port " +
                             known->second->ports->value.to_string() + " exists already, in " +
                             line_of(known->second->ports->at);
    // One of both protocols may meet a listener of each; each is told by itself.
    errors_.add(ports.at, by == wanted ? text
                                       : text + "; it takes the " + control::to_string(protocol) +
                                             " packets that this " + control::to_string(wanted) +
                                             " listener would");
    if (by == wanted) return;
  }
}

// A port by itself goes to its own listener, and one of a range before any. So neither conflicts
// with the other but by its first port, which names a listener over changes of its last one.
void Checker::check_range(const ListenerDraft& listener, Protocol protocol, const Taken& taken) {
  const auto& ports = *listener.ports;
  const TakenPorts& others = ports.value.is_one() ? taken.ranges : taken.ones;
  const auto same = others.find({protocol, ports.value.first});
  if (same != others.end()) {
    errors_.add(ports.at, "begins with the same port as " + same->second->ports->value.to_string() +
                              " in " + line_of(same->second->ports->at) +
                              "; the port by itself wins, so let the range begin behind it");
  }
  if (ports.value.is_one() || ports.value.is_any()) return;
  std::size_t count = 1;
  for (const auto& [key, other] : taken.ranges) {
    if (key.first != protocol || other->ports->value.is_any()) continue;
    ++count;
    if (key.second == ports.value.first || !ports.value.overlaps(other->ports->value)) continue;
    errors_.add(ports.at, "overlaps the ports " + other->ports->value.to_string() + " in " +
                              line_of(other->ports->at) + "; a port goes to one listener");
  }
  if (count == kPortRangesMax + 1) {
    errors_.add(ports.at, "is one range too many: at most " + std::to_string(kPortRangesMax) +
                              " of a load balancer and protocol are possible");
  }
}

Listener Checker::check_listener(const ListenerDraft& draft, const LoadBalancerDraft& balancer) {
  Listener listener = draft.settings;
  if (draft.ports) listener.ports = draft.ports->value;
  check_listener_families(draft, balancer, listener);
  return listener;
}

// Each address family that the load balancer has needs a group; a family that it has not, none.
void Checker::check_listener_families(const ListenerDraft& draft, const LoadBalancerDraft& balancer,
                                      Listener& listener) {
  const bool is_pair = draft.group_v4 || draft.group_v6;
  if (!is_pair && !draft.group) return;
  for (const Family family : {Family::v4, Family::v6}) {
    const auto* vip = first_vip(balancer, family);
    const auto& named = family == Family::v4 ? draft.group_v4 : draft.group_v6;
    const std::string key = family == Family::v4 ? "ipv4" : "ipv6";
    if (vip == nullptr) {
      if (named && balancer.has_all_addresses) {
        errors_.add(named->at, std::string("the load balancer has no ") + to_string(family) +
                                   " address; remove this or add one to `addresses`");
      }
      continue;
    }
    const auto& used = is_pair ? named : draft.group;
    if (!used) {
      errors_.add(draft.at, std::string("default_target_groups names no `") + key +
                                "` group, but the load balancer has the " + to_string(family) +
                                " address " + vip->value.to_string() + " in " + line_of(vip->at));
      continue;
    }
    check_reference(*used, family, *vip, draft, balancer);
    (family == Family::v4 ? listener.default_target_group_v4 : listener.default_target_group_v6) =
        used->value;
  }
}

std::string Checker::unknown_group(const std::string& name) const {
  std::vector<std::string_view> names;
  for (const auto& [known, group] : groups_) names.push_back(known);
  return "there is no target group " + quote(name) + known_names(name, names);
}

void Checker::check_reference(const Placed<std::string>& name, Family family,
                              const Placed<IpAddress>& vip, const ListenerDraft& listener,
                              const LoadBalancerDraft& balancer) {
  const auto known = groups_.find(name.value);
  if (known == groups_.end()) return errors_.add(name.at, unknown_group(name.value));
  const TargetGroupDraft& group = *known->second;
  const auto& protocol = listener.protocol;
  if (protocol && group.protocol && !takes(*group.protocol, protocol->value)) {
    errors_.add(name.at, std::string("the listener is ") + control::to_string(protocol->value) +
                             " but target group " + quote(name.value) + " in " + line_of(group.at) +
                             " is " + control::to_string(*group.protocol) + "; " +
                             group_advice(protocol->value));
  }
  const auto* target = first_address(group);
  // The packet that is put around the client's has the target's family.
  if (target != nullptr && family_of(target->value) != family &&
      !encapsulates(group.settings.forwarding)) {
    errors_.add(name.at, std::string("the load balancer has the ") + to_string(family) +
                             " address " + vip.value.to_string() + " (" + line_of(vip.at) +
                             ") but target group " + quote(name.value) + " has " +
                             to_string(family_of(target->value)) +
                             " targets, which millrace.forwarding: " +
                             control::to_string(group.settings.forwarding) +
                             " cannot reach; name a group for each family: "
                             "default_target_groups: {ipv4: ..., ipv6: ...}, or let the group "
                             "forward by ipip or gue");
  }
  check_kept_port(group, name, listener);
  if (group.settings.asymmetric_returns) check_one_port(group, name, listener);
  if (group.settings.asymmetric_returns && protocol) {
    check_one_listener(name, family, balancer, protocol->value);
  }
}

// But with nat the target gets the client's packet as it is, so nothing can translate the port.
void Checker::check_kept_port(const TargetGroupDraft& group, const Placed<std::string>& name,
                              const ListenerDraft& listener) {
  const Forwarding forwarding = group.settings.forwarding;
  if (!keeps_port(forwarding) || !listener.ports || !group.port) return;
  const PortRange wanted = listener.ports->value;
  const auto is_fine = [&](std::uint16_t port) {
    return port == 0 || wanted == PortRange::one(port);
  };
  const auto mismatch = [&](std::uint16_t port, const std::string& whose) {
    errors_.add(name.at, "the listener has port " + wanted.to_string() + " but " + whose +
                             " has port " + std::to_string(port) +
                             "; with millrace.forwarding: " + control::to_string(forwarding) +
                             " they must be equal, or the " + "group's `port: any`");
  };
  if (group.targets.empty() && !is_fine(*group.port)) {
    return mismatch(*group.port, "target group " + quote(name.value));
  }
  for (const TargetDraft& target : group.targets) {
    const std::uint16_t port = target.port.value_or(*group.port);
    if (!is_fine(port)) return mismatch(port, "its target in " + line_of(target.at));
  }
}

// There, any packet of a target from its port counts as a reply to the one listener.
void Checker::check_one_port(const TargetGroupDraft& group, const Placed<std::string>& name,
                             const ListenerDraft& listener) {
  if ((!listener.ports || listener.ports->value.is_one()) && !takes_any_port(group)) return;
  errors_.add(name.at, "target group " + quote(name.value) +
                           " has millrace.asymmetric_returns.enabled; that needs a listener with "
                           "one port and targets with a port of their own, because replies that "
                           "pass another node than the requests do not say which port was asked");
}

// A node that sees only replies knows the target's address and port, and by them the listener.
void Checker::check_one_listener(const Placed<std::string>& group, Family family,
                                 const LoadBalancerDraft& balancer, Protocol protocol) {
  const auto vips = std::ranges::count_if(balancer.addresses, [&](const Placed<IpAddress>& vip) {
    return family_of(vip.value) == family;
  });
  bool is_only = vips == 1;
  for (const Protocol one : protocols_of(protocol)) {
    is_only = asymmetric_groups_.emplace(group.value, one).second && is_only;
  }
  if (is_only) return;
  errors_.add(group.at, "target group " + quote(group.value) +
                            " has millrace.asymmetric_returns.enabled and more than one listener, "
                            "counted for each VIP; replies that pass another node than the "
                            "requests do not say which one was asked: give each listener of a VIP "
                            "a group with target ports of its own");
}

void Checker::check_limits() {
  const auto check = [&](std::size_t count, std::size_t max, const std::string& what,
                         const Cursor& at) {
    if (count <= max) return;
    errors_.add(at, std::to_string(count) + " " + what + "; at most " + std::to_string(max) +
                        " are possible");
  };
  std::size_t vips = 0;
  std::size_t listeners = 0;
  for (const LoadBalancerDraft& balancer : draft_.load_balancers) {
    vips += balancer.addresses.size();
    for (const ListenerDraft& listener : balancer.listeners) {
      listeners += balancer.addresses.size() * protocols_of(listener.settings.protocol).size();
    }
  }
  if (!draft_.load_balancers.empty()) {
    const Cursor& last = draft_.load_balancers.back().at;
    check(vips, MR_LISTENER_SLOTS_MAX, "VIPs", last);
    check(listeners, MR_LISTENER_SLOTS_MAX, "listeners, counted for each VIP and protocol", last);
  }
  std::size_t targets = 0;
  for (const TargetGroupDraft& group : draft_.target_groups) {
    targets += group.targets.size();
    check(group.targets.size(), MR_GROUP_MEMBERS_MAX, "targets in one group", group.at);
  }
  if (draft_.target_groups.empty()) return;
  const Cursor& last = draft_.target_groups.back().at;
  check(draft_.target_groups.size(), MR_GROUP_SLOTS_MAX, "target groups", last);
  check(targets, MR_TARGET_SLOTS_MAX, "targets in all groups", last);
}

}  // namespace

Config check_config(const ConfigDraft& draft, const FindOwnInterface& own_interface,
                    ErrorList& errors) {
  return Checker(draft, own_interface, errors).run();
}

}  // namespace millrace::control

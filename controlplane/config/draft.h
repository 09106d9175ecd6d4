// SPDX-License-Identifier: Apache-2.0
//
// What was read of a config file, with the place of each value, before values are held against each
// other. Cold. Filled by load.cc and load_target_group.cc, judged by check.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controlplane/config/load.h"
#include "controlplane/model/model.h"
#include "controlplane/yaml/reader.h"

namespace millrace::control {

// "line 12", to point at the other half of a conflict.
[[nodiscard]] inline std::string line_of(const Cursor& at) {
  return "line " + std::to_string(at.node->place.line);
}

template <typename T>
struct Placed {
  T value;
  Cursor at;
};

// Absent values were wrong and have been reported; checks that would need them are skipped.
struct ListenerDraft {
  Cursor at;
  std::optional<Placed<Protocol>> protocol;
  std::optional<Placed<PortRange>> ports;
  // Either the first, or one or both of the others.
  std::optional<Placed<std::string>> group;
  std::optional<Placed<std::string>> group_v4;
  std::optional<Placed<std::string>> group_v6;
  Listener settings;  // protocol and attributes; nothing else of it is set
};

struct LoadBalancerDraft {
  Cursor at;
  std::optional<Placed<std::string>> name;
  std::vector<Placed<IpAddress>> addresses;
  bool has_all_addresses = false;  // else one could not be read, or none is named
  std::vector<ListenerDraft> listeners;
  LoadBalancer settings;  // attributes; nothing else of it is set
};

struct TargetDraft {
  Cursor at;
  std::optional<Placed<IpAddress>> address;
  std::optional<std::uint16_t> port;  // absent: the group's; 0: any
  std::uint32_t weight = Target{}.weight;
  std::string zone;
};

struct TargetGroupDraft {
  Cursor at;
  std::optional<Placed<std::string>> name;
  std::optional<Protocol> protocol;
  std::optional<std::uint16_t> port;  // 0: any
  TargetGroup settings;  // protocol, attributes and health check; nothing else of it is set
  std::vector<TargetDraft> targets;
};

struct ConfigDraft {
  Node node;
  std::vector<Placed<EncapSource>> encap_sources;  // at most one per family; those of `node`
  std::vector<LoadBalancerDraft> load_balancers;
  std::vector<TargetGroupDraft> target_groups;
};

[[nodiscard]] std::optional<EngineKind> read_engine(const Cursor& at, ErrorList& errors);
[[nodiscard]] std::optional<Protocol> read_protocol(const Cursor& at, ErrorList& errors);
[[nodiscard]] TargetGroupDraft read_target_group(const Cursor& at, ErrorList& errors);

// Holds the parts against each other (duplicates, references, address families, limits), and VIPs
// against the node's own addresses.
// The Config is complete when `errors` stays empty.
[[nodiscard]] Config check_config(const ConfigDraft& draft, const FindOwnInterface& own_interface,
                                  ErrorList& errors);
// A part of it, in a file of its own.
void check_asymmetric_targets(const ConfigDraft& draft, ErrorList& errors);

}  // namespace millrace::control

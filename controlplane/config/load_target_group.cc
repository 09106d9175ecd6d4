// SPDX-License-Identifier: Apache-2.0
//
// Reads target groups: their attributes, health check and targets. Cold.
#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "controlplane/config/attribute_reader.h"
#include "controlplane/config/draft.h"
#include "controlplane/model/attribute_tables.h"
#include "controlplane/yaml/reader.h"

namespace millrace::control {
namespace {

void read_settings(const MapReader& map, TargetGroup& group, ErrorList& errors);
void refuse_both_units(const MapReader& attributes, const MapReader& health_check,
                       ErrorList& errors);
TargetDraft read_target(const Cursor& at, ErrorList& errors);

}  // namespace

std::optional<Protocol> read_protocol(const Cursor& at, ErrorList& errors) {
  constexpr std::string_view kLater = "not supported by this version; TCP, UDP and TCP_UDP are";
  return read_word<Protocol>(at,
                             {{"TCP", Protocol::tcp},
                              {"UDP", Protocol::udp},
                              {"TCP_UDP", Protocol::tcp_udp},
                              {"TLS", Protocol::tcp, kLater},
                              {"QUIC", Protocol::udp, kLater},
                              {"TCP_QUIC", Protocol::tcp, kLater}},
                             errors);
}

TargetGroupDraft read_target_group(const Cursor& at, ErrorList& errors) {
  TargetGroupDraft draft;
  draft.at = at;
  const MapReader map(at, {"name", "protocol", "port", "attributes", "health_check", "targets"},
                      errors);
  if (const auto name = map.require("name", "what listeners call the target group")) {
    if (auto text = read_name(*name, kNameLengthMax, errors)) draft.name = {*text, *name};
  }
  if (const auto protocol = map.require("protocol", "TCP, UDP or TCP_UDP")) {
    draft.protocol = read_protocol(*protocol, errors);
  }
  if (const auto port = map.require("port", "1-65535 or any; targets may override it")) {
    draft.port = read_port_or_any(*port, errors);
  }
  draft.settings = default_target_group(draft.protocol.value_or(Protocol::tcp));
  read_settings(map, draft.settings, errors);
  if (const auto list = map.find("targets")) {
    for (const Cursor& item : read_list(*list, errors).value_or(std::vector<Cursor>{})) {
      draft.targets.push_back(read_target(item, errors));
    }
  }
  return draft;
}

namespace {

// `key` of the group's map; one that is absent names nothing.
Cursor map_at(const MapReader& map, std::string_view key) {
  static const YamlNodePtr kEmptyMap = [] {
    auto node = std::make_shared<YamlNode>();
    node->kind = YamlNode::Kind::map;
    return node;
  }();
  return map.find(key).value_or(Cursor{kEmptyMap, ""});
}

void read_settings(const MapReader& map, TargetGroup& group, ErrorList& errors) {
  std::vector<std::string_view> names;
  append_names(names, target_group_attributes());
  append_names(names, health_check_attributes());
  const MapReader attributes(map_at(map, "attributes"), names, errors);
  names.clear();
  append_names(names, health_check_settings());
  const MapReader health_check(map_at(map, "health_check"), names, errors);

  AttributeReader<TargetGroup> of_group(group, errors);
  of_group.read(attributes, target_group_attributes());
  of_group.judge();

  HealthCheck& check = group.health_check;
  check.timeout_ms = 0;  // not given
  AttributeReader<HealthCheck> of_check(check, errors);
  of_check.read(health_check, health_check_settings());
  of_check.read(attributes, health_check_attributes());
  if (check.timeout_ms == 0) {
    check.timeout_ms = std::min(default_timeout_ms(check.protocol), check.interval_ms);
  }
  of_check.judge();
  refuse_both_units(attributes, health_check, errors);
}

void refuse_both_units(const MapReader& attributes, const MapReader& health_check,
                       ErrorList& errors) {
  for (const Attribute<HealthCheck>& row : health_check_settings()) {
    const auto at = health_check.find(row.name);
    const auto finer_at = attributes.find(row.in_milliseconds);
    if (!at || !finer_at) continue;
    errors.add(*at, "is given in milliseconds too, by " + finer_at->path + "; keep one");
  }
}

TargetDraft read_target(const Cursor& at, ErrorList& errors) {
  TargetDraft draft;
  draft.at = at;
  const MapReader map(at, {"id", "port", "weight", "zone"}, errors);
  if (const auto id = map.require("id", "the target's IPv4 or IPv6 address")) {
    if (const auto address = read_address(*id, errors)) draft.address = {*address, *id};
  }
  if (const auto port = map.find("port")) draft.port = read_port_or_any(*port, errors);
  if (const auto weight = map.find("weight")) {
    draft.weight = read_number(*weight, {.min = 0, .max = 999}, errors).value_or(0);
  }
  if (const auto zone = map.find("zone")) {
    draft.zone = read_name(*zone, kNameLengthMax, errors).value_or("");
  }
  return draft;
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Writes a Config with yaml-cpp's emitter, which quotes what needs quotes. Cold.
#include "controlplane/config/dump.h"

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>

#include <cstdio>
#include <span>
#include <variant>

#include "controlplane/model/attribute_tables.h"

namespace millrace::control {
namespace {

template <typename T>
void put(YAML::Emitter& out, const char* key, const T& value) {
  out << YAML::Key << key << YAML::Value << value;
}

void put_if_set(YAML::Emitter& out, const char* key, const std::string& value) {
  if (!value.empty()) put(out, key, value);
}

std::string hex64(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

void put_node(YAML::Emitter& out, const Node& node) {
  out << YAML::Key << "node" << YAML::Value << YAML::BeginMap;
  put(out, "name", node.name);
  put_if_set(out, "zone", node.zone);
  out << YAML::Key << "selection_key" << YAML::Value << YAML::DoubleQuoted
      << hex64(node.selection_key[0]) + hex64(node.selection_key[1]);
  out << YAML::Key << "lookup_seed" << YAML::Value << YAML::DoubleQuoted << hex64(node.lookup_seed);
  put(out, "engine", to_string(node.engine));
  if (node.encap_source_v4 || node.encap_source_v6) {
    out << YAML::Key << "encap_source" << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const auto& source : {node.encap_source_v4, node.encap_source_v6}) {
      if (source) out << source->to_string();
    }
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

// Those that the subject has, under the key that is open.
template <typename Subject>
void put_rows(YAML::Emitter& out, std::span<const Attribute<Subject>> rows,
              const Subject& subject) {
  using Special = typename Attribute<Subject>::Special;
  for (const Attribute<Subject>& row : rows) {
    if (!is_kept(row) || !refusal(row, subject).empty()) continue;
    const std::string text = value_text(row, subject);
    if (text.empty()) continue;
    out << YAML::Key << std::string(row.name) << YAML::Value;
    if (std::holds_alternative<Special>(row.value)) out << YAML::DoubleQuoted;
    out << text;
  }
}

template <typename Subject>
void put_attributes(YAML::Emitter& out, std::span<const Attribute<Subject>> rows,
                    const Subject& subject) {
  out << YAML::Key << "attributes" << YAML::Value << YAML::BeginMap;
  put_rows(out, rows, subject);
  out << YAML::EndMap;
}

void put_attributes(YAML::Emitter& out, const TargetGroup& group) {
  out << YAML::Key << "attributes" << YAML::Value << YAML::BeginMap;
  put_rows(out, target_group_attributes(), group);
  put_rows(out, health_check_attributes(), group.health_check);
  out << YAML::EndMap << YAML::Key << "health_check" << YAML::Value << YAML::BeginMap;
  put_rows(out, health_check_settings(), group.health_check);
  out << YAML::EndMap;
}

void put_ports(YAML::Emitter& out, const PortRange& ports) {
  if (ports.is_one()) {
    put(out, "port", ports.first);
  } else {
    put(out, "port", ports.to_string());
  }
}

// Of a group or target; 0: any.
void put_port(YAML::Emitter& out, std::uint16_t port) {
  put_ports(out, port == 0 ? PortRange::any() : PortRange::one(port));
}

void put_listener(YAML::Emitter& out, const Listener& listener) {
  const std::string& v4 = listener.default_target_group_v4;
  const std::string& v6 = listener.default_target_group_v6;
  out << YAML::BeginMap;
  put(out, "protocol", to_string(listener.protocol));
  put_ports(out, listener.ports);
  if (v4.empty() || v6.empty() || v4 == v6) {
    put(out, "default_target_group", v4.empty() ? v6 : v4);
  } else {
    out << YAML::Key << "default_target_groups" << YAML::Value << YAML::Flow << YAML::BeginMap;
    put(out, "ipv4", v4);
    put(out, "ipv6", v6);
    out << YAML::EndMap;
  }
  put_attributes(out, listener_attributes(), listener);
  out << YAML::EndMap;
}

void put_load_balancer(YAML::Emitter& out, const LoadBalancer& balancer) {
  out << YAML::BeginMap;
  put(out, "name", balancer.name);
  put(out, "type", "network");
  out << YAML::Key << "addresses" << YAML::Value << YAML::BeginSeq;
  for (const IpAddress& vip : balancer.addresses) out << vip.to_string();
  out << YAML::EndSeq;
  put_attributes(out, load_balancer_attributes(), balancer);
  out << YAML::Key << "listeners" << YAML::Value << YAML::BeginSeq;
  for (const Listener& listener : balancer.listeners) put_listener(out, listener);
  out << YAML::EndSeq << YAML::EndMap;
}

void put_target_group(YAML::Emitter& out, const TargetGroup& group) {
  out << YAML::BeginMap;
  put(out, "name", group.name);
  put(out, "protocol", to_string(group.protocol));
  put_port(out, group.port);
  put_attributes(out, group);
  out << YAML::Key << "targets" << YAML::Value << YAML::BeginSeq;
  for (const Target& target : group.targets) {
    out << YAML::Flow << YAML::BeginMap;
    put(out, "id", target.address.to_string());
    put_port(out, target.port);
    put(out, "weight", target.weight);
    put_if_set(out, "zone", target.zone);
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
}

}  // namespace

std::string dump_config(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  put_node(out, config.node);
  out << YAML::Key << "load_balancers" << YAML::Value << YAML::BeginSeq;
  for (const LoadBalancer& balancer : config.load_balancers) put_load_balancer(out, balancer);
  out << YAML::EndSeq << YAML::Key << "target_groups" << YAML::Value << YAML::BeginSeq;
  for (const TargetGroup& group : config.target_groups) put_target_group(out, group);
  out << YAML::EndSeq << YAML::EndMap << YAML::Newline;
  return out.c_str();
}

}  // namespace millrace::control

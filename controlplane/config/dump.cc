// SPDX-License-Identifier: Apache-2.0
//
// Writes a Config with yaml-cpp's emitter, which quotes what needs quotes. Cold.
#include "controlplane/config/dump.h"

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>

#include <cstdio>

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

void put_listener(YAML::Emitter& out, const Listener& listener) {
  const std::string& v4 = listener.default_target_group_v4;
  const std::string& v6 = listener.default_target_group_v6;
  out << YAML::BeginMap;
  put(out, "protocol", to_string(listener.protocol));
  put(out, "port", listener.port);
  if (v4.empty() || v6.empty() || v4 == v6) {
    put(out, "default_target_group", v4.empty() ? v6 : v4);
  } else {
    out << YAML::Key << "default_target_groups" << YAML::Value << YAML::Flow << YAML::BeginMap;
    put(out, "ipv4", v4);
    put(out, "ipv6", v6);
    out << YAML::EndMap;
  }
  if (listener.protocol == Protocol::tcp) {
    out << YAML::Key << "attributes" << YAML::Value << YAML::BeginMap;
    put(out, "tcp.idle_timeout.seconds", listener.tcp_idle_timeout_seconds);
    out << YAML::EndMap;
  }
  out << YAML::EndMap;
}

void put_load_balancer(YAML::Emitter& out, const LoadBalancer& balancer) {
  out << YAML::BeginMap;
  put(out, "name", balancer.name);
  put(out, "type", "network");
  out << YAML::Key << "addresses" << YAML::Value << YAML::BeginSeq;
  for (const IpAddress& vip : balancer.addresses) out << vip.to_string();
  out << YAML::EndSeq << YAML::Key << "listeners" << YAML::Value << YAML::BeginSeq;
  for (const Listener& listener : balancer.listeners) put_listener(out, listener);
  out << YAML::EndSeq << YAML::EndMap;
}

void put_attributes(YAML::Emitter& out, const TargetGroup& group) {
  out << YAML::Key << "attributes" << YAML::Value << YAML::BeginMap;
  put(out, "millrace.forwarding", to_string(group.forwarding));
  if (group.forwarding == Forwarding::gue) put(out, "millrace.gue.port", group.gue_port);
  if (sees_replies(group.forwarding)) {
    put(out, "millrace.asymmetric_returns.enabled", group.asymmetric_returns);
  } else {
    put(out, "millrace.previous_target.timeout_seconds", group.previous_target_seconds);
  }
  put(out, "deregistration_delay.timeout_seconds", group.deregistration_delay_seconds);
  put(out, "deregistration_delay.connection_termination.enabled",
      group.deregistration_connection_termination);
  put(out, "target_health_state.unhealthy.connection_termination.enabled",
      group.unhealthy_connection_termination);
  put(out, "millrace.lookup_table.slots", group.lookup_slots);
  put(out, "millrace.health_check.interval_milliseconds", group.health_check.interval_ms);
  put(out, "millrace.health_check.timeout_milliseconds", group.health_check.timeout_ms);
  if (!group.health_check.host.empty()) {
    out << YAML::Key << "millrace.health_check.host" << YAML::Value << YAML::DoubleQuoted
        << group.health_check.host;
  }
  out << YAML::EndMap;
}

std::string matcher_text(const HealthCheck& check) {
  std::string text;
  for (const auto& [first, last] : check.matcher) {
    if (!text.empty()) text += ",";
    text += std::to_string(first);
    if (last != first) text += "-" + std::to_string(last);
  }
  return text;
}

void put_health_check(YAML::Emitter& out, const HealthCheck& check) {
  out << YAML::Key << "health_check" << YAML::Value << YAML::BeginMap;
  put(out, "protocol", to_string(check.protocol));
  if (check.port) {
    put(out, "port", *check.port);
  } else {
    put(out, "port", "traffic-port");
  }
  put(out, "healthy_threshold", check.healthy_threshold);
  put(out, "unhealthy_threshold", check.unhealthy_threshold);
  if (check.protocol == HealthCheckProtocol::http) {
    out << YAML::Key << "path" << YAML::Value << YAML::DoubleQuoted << check.path;
    out << YAML::Key << "matcher" << YAML::Value << YAML::DoubleQuoted << matcher_text(check);
  }
  out << YAML::EndMap;
}

void put_target_group(YAML::Emitter& out, const TargetGroup& group) {
  out << YAML::BeginMap;
  put(out, "name", group.name);
  put(out, "protocol", to_string(group.protocol));
  put(out, "port", group.port);
  put_attributes(out, group);
  put_health_check(out, group.health_check);
  out << YAML::Key << "targets" << YAML::Value << YAML::BeginSeq;
  for (const Target& target : group.targets) {
    out << YAML::Flow << YAML::BeginMap;
    put(out, "id", target.address.to_string());
    put(out, "port", target.port);
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

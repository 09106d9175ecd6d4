// SPDX-License-Identifier: Apache-2.0
//
// Reads target groups: their attributes, health check and targets. Cold.
#include <algorithm>
#include <utility>

#include "controlplane/config/draft.h"
#include "controlplane/config/reader.h"
#include "dataplane/contract/config_abi.h"

namespace millrace::control {
namespace {

constexpr std::size_t kHealthPathLengthMax = 1024;
constexpr std::size_t kMatcherRangesMax = 64;
constexpr std::size_t kHealthHostLengthMax = 255;

// ELBv2 attributes that this version knows but does not vary: naming the value that it has is fine,
// so that a group can be copied from elsewhere, and anything else is refused.
struct FixedAttribute {
  std::string_view key;
  std::string_view value;
  std::string_view why;
};

constexpr FixedAttribute kFixedAttributes[] = {
    {"preserve_client_ip.enabled", "true",
     "all ways of forwarding keep the client's address; full_nat is not supported by this version"},
    {"proxy_protocol_v2.enabled", "false", "not supported by this version"},
    {"stickiness.enabled", "false", "not supported by this version"},
    {"stickiness.type", "source_ip", "stickiness is not supported by this version"},
    {"load_balancing.cross_zone.enabled", "true", "targets of every zone get flows"},
    {"target_group_health.dns_failover.minimum_healthy_targets.count", "1",
     "health thresholds are not supported by this version"},
    {"target_group_health.dns_failover.minimum_healthy_targets.percentage", "off",
     "health thresholds are not supported by this version"},
    {"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1",
     "health thresholds are not supported by this version"},
    {"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off",
     "health thresholds are not supported by this version"},
    {"target_health_state.unhealthy.draining_interval_seconds", "0",
     "not supported by this version"},
};

constexpr std::string_view kDeregistrationDelay = "deregistration_delay.timeout_seconds";
constexpr std::string_view kDeregistrationTermination =
    "deregistration_delay.connection_termination.enabled";
constexpr std::string_view kUnhealthyTermination =
    "target_health_state.unhealthy.connection_termination.enabled";
constexpr std::string_view kForwarding = "millrace.forwarding";
constexpr std::string_view kGuePort = "millrace.gue.port";
constexpr std::string_view kPreviousTarget = "millrace.previous_target.timeout_seconds";
constexpr std::string_view kAsymmetricReturns = "millrace.asymmetric_returns.enabled";
constexpr std::string_view kLookupSlots = "millrace.lookup_table.slots";
constexpr std::string_view kHealthInterval = "millrace.health_check.interval_milliseconds";
constexpr std::string_view kHealthTimeout = "millrace.health_check.timeout_milliseconds";
constexpr std::string_view kHealthHost = "millrace.health_check.host";

// The attributes that belong to the health check, which is read after them.
struct HealthAttributes {
  std::optional<Placed<std::uint32_t>> interval_ms;
  std::optional<Placed<std::uint32_t>> timeout_ms;
  std::optional<Cursor> host;
};

HealthAttributes read_attributes(const Cursor& at, TargetGroupDraft& draft, ErrorList& errors);
void read_forwarding(const MapReader& map, TargetGroup& settings, ErrorList& errors);
void read_fixed_attributes(const MapReader& map, ErrorList& errors);
void read_health_check(const std::optional<Cursor>& at, const HealthAttributes& attributes,
                       TargetGroupDraft& draft, ErrorList& errors);
TargetDraft read_target(const Cursor& at, ErrorList& errors);

}  // namespace

std::optional<Protocol> read_protocol(const Cursor& at, ErrorList& errors) {
  constexpr std::string_view kLater = "not supported by this version; TCP and UDP are";
  return read_word<Protocol>(at,
                             {{"TCP", Protocol::tcp},
                              {"UDP", Protocol::udp},
                              {"TLS", Protocol::tcp, kLater},
                              {"TCP_UDP", Protocol::tcp,
                               "not supported by this version; write a TCP and a UDP listener, "
                               "which may share the port, and a target group for each"},
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
  if (const auto protocol = map.require("protocol", "TCP or UDP")) {
    draft.protocol = read_protocol(*protocol, errors);
  }
  if (const auto port = map.require("port", "1-65535; targets may override it")) {
    draft.port = read_port(*port, errors);
  }
  const bool is_udp = draft.protocol == Protocol::udp;
  draft.settings.deregistration_connection_termination = is_udp;
  draft.settings.unhealthy_connection_termination = !is_udp;

  HealthAttributes of_check;
  if (const auto attributes = map.find("attributes")) {
    of_check = read_attributes(*attributes, draft, errors);
  }
  read_health_check(map.find("health_check"), of_check, draft, errors);
  if (const auto list = map.find("targets")) {
    for (const Cursor& item : read_list(*list, errors).value_or(std::vector<Cursor>{})) {
      draft.targets.push_back(read_target(item, errors));
    }
  }
  return draft;
}

namespace {

HealthAttributes read_attributes(const Cursor& at, TargetGroupDraft& draft, ErrorList& errors) {
  std::vector<std::string_view> allowed = {kForwarding,
                                           kGuePort,
                                           kPreviousTarget,
                                           kDeregistrationDelay,
                                           kDeregistrationTermination,
                                           kUnhealthyTermination,
                                           kAsymmetricReturns,
                                           kLookupSlots,
                                           kHealthInterval,
                                           kHealthTimeout,
                                           kHealthHost};
  for (const FixedAttribute& fixed : kFixedAttributes) allowed.push_back(fixed.key);
  const MapReader map(at, allowed, errors);
  TargetGroup& settings = draft.settings;

  read_forwarding(map, settings, errors);
  if (const auto found = map.find(kDeregistrationDelay)) {
    settings.deregistration_delay_seconds =
        read_number(*found, {.min = 0, .max = 3600, .unit = "seconds"}, errors).value_or(0);
  }
  if (const auto found = map.find(kDeregistrationTermination)) {
    settings.deregistration_connection_termination = read_bool(*found, errors).value_or(false);
  }
  if (const auto found = map.find(kUnhealthyTermination)) {
    settings.unhealthy_connection_termination = read_bool(*found, errors).value_or(false);
    if (draft.protocol == Protocol::udp && settings.unhealthy_connection_termination) {
      errors.add(*found, "cannot be true for UDP: its flows have no connection to terminate");
    }
  }
  if (const auto found = map.find(kLookupSlots)) {
    settings.lookup_slots =
        read_word<std::uint32_t>(
            *found, {{"65537", MR_LOOKUP_SLOTS_DEFAULT}, {"655373", MR_LOOKUP_SLOTS_MAX}}, errors)
            .value_or(MR_LOOKUP_SLOTS_DEFAULT);
  }
  read_fixed_attributes(map, errors);

  HealthAttributes of_check;
  const auto read_ms = [&](std::string_view key, Range range) -> decltype(of_check.interval_ms) {
    const auto found = map.find(key);
    const auto value = found ? read_number(*found, range, errors) : std::nullopt;
    if (!value) return std::nullopt;
    return Placed<std::uint32_t>{*value, *found};
  };
  of_check.interval_ms =
      read_ms(kHealthInterval, {.min = 100, .max = 300000, .unit = "milliseconds"});
  of_check.timeout_ms = read_ms(kHealthTimeout, {.min = 50, .max = 120000, .unit = "milliseconds"});
  of_check.host = map.find(kHealthHost);
  return of_check;
}

void read_forwarding(const MapReader& map, TargetGroup& settings, ErrorList& errors) {
  if (const auto found = map.find(kForwarding)) {
    constexpr std::string_view kLater = "not supported by this version; nat, dsr, ipip and gue are";
    settings.forwarding = read_word<Forwarding>(*found,
                                                {{"nat", Forwarding::nat},
                                                 {"dsr", Forwarding::dsr},
                                                 {"ipip", Forwarding::ipip},
                                                 {"gue", Forwarding::gue},
                                                 {"full_nat", Forwarding::nat, kLater},
                                                 {"geneve", Forwarding::nat, kLater}},
                                                errors)
                              .value_or(Forwarding::nat);
  }
  if (const auto port = map.find(kGuePort)) {
    settings.gue_port = read_port(*port, errors).value_or(kGuePortDefault);
    if (settings.forwarding != Forwarding::gue) {
      errors.add(*port, "is for millrace.forwarding: gue only; this group's is " +
                            std::string(to_string(settings.forwarding)));
    }
  }
  if (const auto timeout = map.find(kPreviousTarget)) {
    settings.previous_target_seconds =
        read_number(*timeout, {.min = 0, .max = 3600, .unit = "seconds"}, errors).value_or(0);
    if (sees_replies(settings.forwarding)) {
      errors.add(*timeout, "is for millrace.forwarding: dsr, ipip and gue; this group's is " +
                               std::string(to_string(settings.forwarding)));
    }
  }
  if (const auto asymmetric = map.find(kAsymmetricReturns)) {
    settings.asymmetric_returns = read_bool(*asymmetric, errors).value_or(false);
    if (!sees_replies(settings.forwarding) && settings.asymmetric_returns) {
      errors.add(*asymmetric, "is for millrace.forwarding: nat only; this group's is " +
                                  std::string(to_string(settings.forwarding)) +
                                  ", whose replies pass no node");
    }
  }
}

void read_fixed_attributes(const MapReader& map, ErrorList& errors) {
  for (const FixedAttribute& fixed : kFixedAttributes) {
    const auto found = map.find(fixed.key);
    const auto text = found ? read_text(*found, errors) : std::nullopt;
    if (!text || *text == fixed.value) continue;
    errors.add(*found, quote(*text) + " cannot be chosen; only " + std::string(fixed.value) +
                           " is possible: " + std::string(fixed.why));
  }
}

// One code ("200") or a range of codes ("200-299").
std::optional<std::pair<std::uint16_t, std::uint16_t>> parse_code_range(std::string_view text) {
  const auto parse_code = [](std::string_view code) -> std::optional<std::uint16_t> {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (code.size() != 3 || !std::all_of(code.begin(), code.end(), is_digit)) return std::nullopt;
    const int value = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
    if (value < 200 || value > 599) return std::nullopt;
    return static_cast<std::uint16_t>(value);
  };
  const auto hyphen = text.find('-');
  const auto first = parse_code(text.substr(0, hyphen));
  const auto last = hyphen == std::string_view::npos ? first : parse_code(text.substr(hyphen + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  return std::pair{*first, *last};
}

void read_matcher(const Cursor& at, HealthCheck& check, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return;
  check.matcher.clear();
  std::string_view rest = *text;
  while (true) {
    const auto comma = rest.find(',');
    const auto range = parse_code_range(rest.substr(0, comma));
    if (!range || check.matcher.size() >= kMatcherRangesMax) {
      errors.add(at, quote(*text) +
                         " must be HTTP status codes from 200 to 599, as a list or as ranges: "
                         "\"200\", \"200,202\", \"200-299\", \"200-299,404\"");
      return;
    }
    check.matcher.push_back(*range);
    if (comma == std::string_view::npos) return;
    rest.remove_prefix(comma + 1);
  }
}

void read_path(const Cursor& at, HealthCheck& check, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return;
  // Nothing that could end the request line or start another header.
  const auto is_visible = [](char c) { return c > 0x20 && c < 0x7f; };
  if (text->empty() || text->size() > kHealthPathLengthMax || text->front() != '/' ||
      !std::all_of(text->begin(), text->end(), is_visible)) {
    errors.add(at, quote(*text) +
                       " must start with / and have 1-1024 visible ASCII characters, no spaces");
    return;
  }
  check.path = *text;
}

// The host of a URI (RFC 3986, section 3.2.2) without user, and with a port if wanted: a name, an
// IPv4 address, or an IPv6 address in brackets.
bool is_host(std::string_view text) {
  const bool is_bracketed = text.starts_with('[');
  std::size_t end = text.find(is_bracketed ? ']' : ':');
  if (is_bracketed) {
    if (end == std::string_view::npos) return false;
    const auto address = IpAddress::parse(std::string(text.substr(1, end - 1)));
    if (!address || address->is_v4()) return false;
    ++end;
  }
  const std::string_view name = text.substr(0, end);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_name_byte = [&](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '.' || c == '_';
  };
  const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), is_name_byte);
  if (!is_bracketed && !is_name) return false;
  if (end >= text.size()) return true;
  const std::string_view port = text.substr(end + 1);
  if (text[end] != ':' || port.empty() || port.size() > 5) return false;
  if (!std::all_of(port.begin(), port.end(), is_digit)) return false;
  const int number = std::stoi(std::string(port));
  return number >= 1 && number <= 65535;
}

void read_host(const Cursor& at, HealthCheck& check, ErrorList& errors) {
  const auto text = read_text(at, errors);
  if (!text) return;
  if (check.protocol != HealthCheckProtocol::http) {
    errors.add(at, "is for a health check of protocol: HTTP only; this group's is TCP");
  } else if (text->size() > kHealthHostLengthMax || !is_host(*text)) {
    errors.add(at, quote(*text) +
                       " must be a name or an address, with a port if wanted, of 1-255 characters: "
                       "\"www.example.org\", \"www.example.org:8080\", \"[2001:db8::1]:8080\"");
  } else {
    check.host = *text;
  }
}

// The two lengths of time, each from the health check's own key or from our finer attribute.
void read_health_times(const MapReader& map, const HealthAttributes& attributes, HealthCheck& check,
                       ErrorList& errors) {
  const auto read_one = [&](std::string_view key, Range range,
                            const std::optional<Placed<std::uint32_t>>& finer,
                            std::uint32_t& into_ms) -> std::optional<Cursor> {
    auto found = map.find(key);
    if (found && finer) {
      errors.add(*found, "is given in milliseconds too, by " + finer->at.path + "; keep one");
      return std::nullopt;
    }
    if (finer) into_ms = finer->value;
    if (finer) return finer->at;
    const auto value = found ? read_number(*found, range, errors) : std::nullopt;
    if (value) into_ms = *value * 1000;
    return found;
  };
  const auto interval_at = read_one("interval_seconds", {.min = 5, .max = 300, .unit = "seconds"},
                                    attributes.interval_ms, check.interval_ms);
  const std::uint32_t default_ms = check.protocol == HealthCheckProtocol::http ? 6000 : 10000;
  check.timeout_ms = std::min(default_ms, check.interval_ms);
  const auto timeout_at = read_one("timeout_seconds", {.min = 2, .max = 120, .unit = "seconds"},
                                   attributes.timeout_ms, check.timeout_ms);
  if (check.timeout_ms <= check.interval_ms) return;
  errors.add(timeout_at ? *timeout_at : interval_at.value_or(map.at()),
             "the timeout (" + std::to_string(check.timeout_ms) +
                 " ms) must not be longer than the interval (" + std::to_string(check.interval_ms) +
                 " ms)");
}

void read_health_check(const std::optional<Cursor>& at, const HealthAttributes& attributes,
                       TargetGroupDraft& draft, ErrorList& errors) {
  // An absent health check is one of which all keys are absent.
  static const YamlNodePtr kEmptyMap = [] {
    auto node = std::make_shared<YamlNode>();
    node->kind = YamlNode::Kind::map;
    return node;
  }();
  const MapReader map(at.value_or(Cursor{kEmptyMap, draft.at.path + ".health_check"}),
                      {"protocol", "port", "path", "interval_seconds", "timeout_seconds",
                       "healthy_threshold", "unhealthy_threshold", "matcher"},
                      errors);
  HealthCheck& check = draft.settings.health_check;
  if (const auto found = map.find("protocol")) {
    check.protocol =
        read_word<HealthCheckProtocol>(*found,
                                       {{"TCP", HealthCheckProtocol::tcp},
                                        {"HTTP", HealthCheckProtocol::http},
                                        {"HTTPS", HealthCheckProtocol::http,
                                         "not supported by this version; TCP and HTTP are"},
                                        {"UDP", HealthCheckProtocol::tcp,
                                         "there is no UDP probe; use TCP or HTTP, with `port` if "
                                         "the target answers those elsewhere"}},
                                       errors)
            .value_or(HealthCheckProtocol::http);
  }
  if (const auto found = map.find("port")) {
    const bool is_traffic_port =
        found->node->kind == YamlNode::Kind::scalar && found->node->scalar == "traffic-port";
    const Range range{.min = 1, .max = 65535, .unit = "or traffic-port"};
    const auto port = is_traffic_port ? std::nullopt : read_number(*found, range, errors);
    if (port) check.port = static_cast<std::uint16_t>(*port);
  }
  for (const std::string_view key : {"path", "matcher"}) {
    const auto found = map.find(key);
    if (!found) continue;
    if (check.protocol != HealthCheckProtocol::http) {
      errors.add(*found, "is for protocol: HTTP only; this health check is TCP");
    } else if (key == "path") {
      read_path(*found, check, errors);
    } else {
      read_matcher(*found, check, errors);
    }
  }
  if (const auto found = map.find("healthy_threshold")) {
    check.healthy_threshold = read_number(*found, {.min = 2, .max = 10}, errors).value_or(2);
  }
  if (const auto found = map.find("unhealthy_threshold")) {
    check.unhealthy_threshold = read_number(*found, {.min = 2, .max = 10}, errors).value_or(2);
  }
  if (attributes.host) read_host(*attributes.host, check, errors);
  read_health_times(map, attributes, check, errors);
}

TargetDraft read_target(const Cursor& at, ErrorList& errors) {
  TargetDraft draft;
  draft.at = at;
  const MapReader map(at, {"id", "port", "weight", "zone"}, errors);
  if (const auto id = map.require("id", "the target's IPv4 or IPv6 address")) {
    if (const auto address = read_address(*id, errors)) draft.address = {*address, *id};
  }
  if (const auto port = map.find("port")) draft.port = read_port(*port, errors);
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

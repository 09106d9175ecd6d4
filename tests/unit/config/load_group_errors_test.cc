// SPDX-License-Identifier: Apache-2.0
//
// Wrong target groups, health checks and targets: what an operator is told, and where.
#include "tests/unit/config/bad_config.h"

namespace millrace::control {
namespace {

// A good file around the keys of the target group in line 3; `keys` start line 4.
std::string with_group(const std::string& keys, const std::string& protocol = "TCP") {
  return "load_balancers: []\ntarget_groups:\n- {name: web, protocol: " + protocol +
         ", port: 80,\n   " + keys + "}\n";
}
std::string with_host(const std::string& host) {
  return with_group(
      "health_check: {protocol: HTTP},\n   attributes: {millrace.health_check.host: " + host + "}");
}
std::string refused_host(const std::string& host) {
  return "f:5:45: target_groups[0].attributes.millrace.health_check.host: \"" + host +
         "\" must be a name or an address, with a port if wanted, of 1-255 characters: "
         "\"www.example.org\", \"www.example.org:8080\", \"[2001:db8::1]:8080\"";
}
std::string heavy_targets(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += ", {id: 10.0.1." + std::to_string(i) + ", weight: 999}";
  return text;
}
const std::vector<BadConfig> kTargetGroups = {
    {"no keys",
     "load_balancers: []\ntarget_groups:\n- {}\n",
     {"f:3:3: target_groups[0]: the key `name` is missing: what listeners call the "
      "target group",
      "f:3:3: target_groups[0]: the key `protocol` is missing: TCP, UDP or TCP_UDP",
      "f:3:3: target_groups[0]: the key `port` is missing: 1-65535 or any; targets may "
      "override it"}},
    {"not a map",
     "load_balancers: []\ntarget_groups: [web]\n",
     {"f:2:17: target_groups[0]: is a single value; must be a map with the keys: "
      "name, protocol, port, attributes, health_check, targets"}},
    {"name twice",
     "load_balancers: []\ntarget_groups:\n- {name: a, protocol: TCP, port: 80}\n"
     "- {name: a, protocol: TCP, port: 80}\n",
     {"f:4:10: target_groups[1].name: a target group \"a\" exists already, in line 3"}},
    {"unknown attribute",
     with_group("attributes: {deregistration_delay: 5}"),
     {"f:4:17: target_groups[0].attributes.deregistration_delay: unknown key (did "
      "you mean `deregistration_delay.timeout_seconds`?)"}},
    {"deregistration delay",
     with_group("attributes: {deregistration_delay.timeout_seconds: 3601}"),
     {"f:4:55: target_groups[0].attributes.deregistration_delay.timeout_seconds: "
      "\"3601\" must be a whole number, 0-3600 seconds"}},
    {"yes for a boolean",
     with_group("attributes: {deregistration_delay.connection_termination.enabled: yes}"),
     {"f:4:70: "
      "target_groups[0].attributes.deregistration_delay.connection_termination.enable"
      "d: \"yes\" is not one of: true, false"}},
    {"termination of unhealthy UDP",
     with_group("attributes: {target_health_state.unhealthy.connection_termination.enabled: true}",
                "UDP"),
     {"f:4:79: "
      "target_groups[0].attributes.target_health_state.unhealthy.connection_terminati"
      "on.enabled: cannot be true for UDP: its flows have no connection to terminate"}},
    {"client address not preserved",
     with_group("attributes: {preserve_client_ip.enabled: false}"),
     {"f:4:45: target_groups[0].attributes.preserve_client_ip.enabled: \"false\" "
      "cannot be chosen; only true is possible: all ways of forwarding keep the "
      "client's address; full_nat is not supported by this version"}},
    {"proxy protocol",
     with_group("attributes: {proxy_protocol_v2.enabled: true}"),
     {"f:4:44: target_groups[0].attributes.proxy_protocol_v2.enabled: \"true\" "
      "cannot be chosen; only false is possible: not supported by this version"}},
    {"forwarding of later",
     with_group("attributes: {millrace.forwarding: full_nat}"),
     {"f:4:38: target_groups[0].attributes.millrace.forwarding: \"full_nat\": not "
      "supported by this version; nat, dsr, ipip and gue are"}},
    {"forwarding misspelt",
     with_group("attributes: {millrace.forwarding: nta}"),
     {"f:4:38: target_groups[0].attributes.millrace.forwarding: \"nta\" is not one "
      "of: nat, dsr, ipip, gue (did you mean `nat`?)"}},
    {"gue port of a way of forwarding that is misspelt",
     with_group("attributes: {millrace.forwarding: geu, millrace.gue.port: 6080}"),
     {"f:4:38: target_groups[0].attributes.millrace.forwarding: \"geu\" is not one "
      "of: nat, dsr, ipip, gue (did you mean `gue`?)"}},
    {"gue port of another way of forwarding",
     with_group("attributes: {millrace.forwarding: ipip, millrace.gue.port: 6080}"),
     {"f:4:63: target_groups[0].attributes.millrace.gue.port: is for "
      "millrace.forwarding: gue only; this group's is ipip"}},
    {"gue port 0",
     with_group("attributes: {millrace.forwarding: gue, millrace.gue.port: 0}"),
     {"f:4:62: target_groups[0].attributes.millrace.gue.port: \"0\" must be a whole "
      "number, 1-65535"}},
    {"time for previous targets where replies correct it",
     with_group("attributes: {millrace.previous_target.timeout_seconds: 5}"),
     {"f:4:59: target_groups[0].attributes.millrace.previous_target.timeout_seconds: is for "
      "millrace.forwarding: dsr, ipip and gue; this group's is nat"}},
    {"asymmetric returns where replies pass no node",
     with_group("attributes: {millrace.forwarding: dsr, millrace.asymmetric_returns.enabled: "
                "true}"),
     {"f:4:80: target_groups[0].attributes.millrace.asymmetric_returns.enabled: is for "
      "millrace.forwarding: nat only; this group's is dsr, whose replies pass no node"}},
    {"lookup table size",
     with_group("attributes: {millrace.lookup_table.slots: 1000}"),
     {"f:4:46: target_groups[0].attributes.millrace.lookup_table.slots: \"1000\" is "
      "not one of: 4093, 16381, 65537, 655373"}},
    {"health check HTTPS",
     with_group("health_check: {protocol: HTTPS}"),
     {"f:4:29: target_groups[0].health_check.protocol: \"HTTPS\": not supported by "
      "this version; TCP and HTTP are"}},
    {"health check UDP",
     with_group("health_check: {protocol: UDP}"),
     {"f:4:29: target_groups[0].health_check.protocol: \"UDP\": there is no UDP "
      "probe; use TCP or HTTP, with `port` if the target answers those elsewhere"}},
    {"path of a health check whose protocol is wrong",
     with_group("health_check: {protocol: HTTPS, path: /}"),
     {"f:4:29: target_groups[0].health_check.protocol: \"HTTPS\": not supported by "
      "this version; TCP and HTTP are"}},
    {"health check port",
     with_group("health_check: {port: traffic}"),
     {"f:4:25: target_groups[0].health_check.port: \"traffic\" must be a whole "
      "number, 1-65535 or traffic-port"}},
    {"health check path without slash",
     with_group("health_check: {protocol: HTTP, path: health}"),
     {"f:4:41: target_groups[0].health_check.path: \"health\" must be a path that "
      "starts with / and has 1-1024 visible ASCII characters, no spaces"}},
    {"health check path with a header",
     with_group("health_check: {protocol: HTTP, path: \"/ HTTP/1.1\\r\\nX: y\"}"),
     {"f:4:41: target_groups[0].health_check.path: \"/ HTTP/1.1??X: y\" must be a "
      "path that starts with / and has 1-1024 visible ASCII characters, no spaces"}},
    {"path of a TCP check",
     with_group("health_check: {path: /}"),
     {"f:4:25: target_groups[0].health_check.path: is for protocol: HTTP only; this "
      "health check is TCP"}},
    {"matcher of a TCP check",
     with_group("health_check: {matcher: 200}"),
     {"f:4:28: target_groups[0].health_check.matcher: is for protocol: HTTP only; "
      "this health check is TCP"}},
    {"matcher below 200",
     with_group("health_check: {protocol: HTTP, matcher: 199}"),
     {"f:4:44: target_groups[0].health_check.matcher: \"199\" must be HTTP status "
      "codes from 200 to 599, as a list or as ranges: \"200\", \"200,202\", "
      "\"200-299\", \"200-299,404\""}},
    {"matcher above 599",
     with_group("health_check: {protocol: HTTP, matcher: 200-600}"),
     {"f:4:44: target_groups[0].health_check.matcher: \"200-600\" must be HTTP "
      "status codes from 200 to 599, as a list or as ranges: \"200\", \"200,202\", "
      "\"200-299\", \"200-299,404\""}},
    {"matcher backwards",
     with_group("health_check: {protocol: HTTP, matcher: 300-200}"),
     {"f:4:44: target_groups[0].health_check.matcher: \"300-200\" must be HTTP "
      "status codes from 200 to 599, as a list or as ranges: \"200\", \"200,202\", "
      "\"200-299\", \"200-299,404\""}},
    {"matcher with an empty part",
     with_group("health_check: {protocol: HTTP, matcher: \"200,\"}"),
     {"f:4:44: target_groups[0].health_check.matcher: \"200,\" must be HTTP status "
      "codes from 200 to 599, as a list or as ranges: \"200\", \"200,202\", "
      "\"200-299\", \"200-299,404\""}},
    {"interval too short",
     with_group("health_check: {interval_seconds: 4}"),
     {"f:4:37: target_groups[0].health_check.interval_seconds: \"4\" must be a whole "
      "number, 5-300 seconds"}},
    {"timeout too short",
     with_group("health_check: {timeout_seconds: 1}"),
     {"f:4:36: target_groups[0].health_check.timeout_seconds: \"1\" must be a whole "
      "number, 2-120 seconds"}},
    {"threshold too low",
     with_group("health_check: {healthy_threshold: 1}"),
     {"f:4:38: target_groups[0].health_check.healthy_threshold: \"1\" must be a "
      "whole number, 2-10"}},
    {"threshold too high",
     with_group("health_check: {unhealthy_threshold: 11}"),
     {"f:4:40: target_groups[0].health_check.unhealthy_threshold: \"11\" must be a "
      "whole number, 2-10"}},
    {"timeout longer than interval",
     with_group("health_check: {interval_seconds: 5, timeout_seconds: 6}"),
     {"f:4:57: target_groups[0].health_check.timeout_seconds: the timeout (6000 ms) "
      "must not be longer than the interval (5000 ms)"}},
    {"interval in both units",
     with_group("health_check: {interval_seconds: 5},\n   "
                "attributes: {millrace.health_check.interval_milliseconds: 5000}"),
     {"f:4:37: target_groups[0].health_check.interval_seconds: is given in "
      "milliseconds too, by "
      "target_groups[0].attributes.millrace.health_check.interval_milliseconds; keep "
      "one"}},
    {"interval below our own range",
     with_group("attributes: {millrace.health_check.interval_milliseconds: 99}"),
     {"f:4:62: "
      "target_groups[0].attributes.millrace.health_check.interval_milliseconds: "
      "\"99\" must be a whole number, 100-300000 milliseconds"}},
    {"host of a TCP check",
     with_group("attributes: {millrace.health_check.host: www.example.org}"),
     {"f:4:45: target_groups[0].attributes.millrace.health_check.host: is for a health "
      "check of protocol: HTTP only; this group's is TCP"}},
    {"host with a header", with_host("\"a\\r\\nX: y\""), {refused_host("a??X: y")}},
    {"host that is empty", with_host("\"\""), {refused_host("")}},
    {"host with a path", with_host("\"www.example.org/a\""), {refused_host("www.example.org/a")}},
    {"host with a user", with_host("\"a@b\""), {refused_host("a@b")}},
    {"port without a host", with_host("\":80\""), {refused_host(":80")}},
    {"host without a port behind its colon", with_host("\"a:\""), {refused_host("a:")}},
    {"host with port 0", with_host("\"a:0\""), {refused_host("a:0")}},
    {"host with a port too high", with_host("\"a:65536\""), {refused_host("a:65536")}},
    {"host that is a bare IPv6 address", with_host("\"fd00::1\""), {refused_host("fd00::1")}},
    {"host with brackets around no address", with_host("\"[a]:80\""), {refused_host("[a]:80")}},
    {"host with brackets around IPv4", with_host("\"[10.0.0.1]\""), {refused_host("[10.0.0.1]")}},
    {"host with an open bracket", with_host("\"[fd00::1\""), {refused_host("[fd00::1")}},
    {"host with more behind its bracket",
     with_host("\"[fd00::1]a\""),
     {refused_host("[fd00::1]a")}},
};

const std::vector<BadConfig> kTargets = {
    {"no id",
     with_group("targets: [{port: 80}]"),
     {"f:4:14: target_groups[0].targets[0]: the key `id` is missing: the target's "
      "IPv4 or IPv6 address"}},
    {"an address alone",
     with_group("targets: [10.0.0.1]"),
     {"f:4:14: target_groups[0].targets[0]: is a single value; must be a map with "
      "the keys: id, port, weight, zone"}},
    {"host name",
     with_group("targets: [{id: web-1.example.org}]"),
     {"f:4:19: target_groups[0].targets[0].id: \"web-1.example.org\" must be one "
      "IPv4 or IPv6 address, such as 203.0.113.10 or 2001:db8::10, without port or "
      "prefix length"}},
    {"v4-mapped",
     with_group("targets: [{id: \"::ffff:10.0.0.1\"}]"),
     {"f:4:19: target_groups[0].targets[0].id: \"::ffff:10.0.0.1\" must be one IPv4 "
      "or IPv6 address, such as 203.0.113.10 or 2001:db8::10, without port or prefix "
      "length"}},
    {"broadcast",
     with_group("targets: [{id: 255.255.255.255}]"),
     {"f:4:19: target_groups[0].targets[0].id: \"255.255.255.255\" is in "
      "240.0.0.0/4, which is reserved or broadcast; must be a unicast address"}},
    {"weight 1000",
     with_group("targets: [{id: 10.0.0.1, weight: 1000}]"),
     {"f:4:37: target_groups[0].targets[0].weight: \"1000\" must be a whole number, "
      "0-999"}},
    {"weight that leaves no slot",
     with_group("targets: [{id: 10.0.0.1, weight: 1}" + heavy_targets(200) + "]"),
     {"f:4:14: target_groups[0].targets[0]: weight 1 is too small beside those of the other "
      "targets, as 999 in line 4: of the largest lookup table, 655373 slots, its share is below 4; "
      "the group's weights add up to 199801, and may to 163843: make the weights differ less, or "
      "take targets out by weight 0"}},
    {"weight negative",
     with_group("targets: [{id: 10.0.0.1, weight: -1}]"),
     {"f:4:37: target_groups[0].targets[0].weight: \"-1\" must be a whole number, "
      "0-999"}},
    {"weight with a fraction",
     with_group("targets: [{id: 10.0.0.1, weight: 1.5}]"),
     {"f:4:37: target_groups[0].targets[0].weight: \"1.5\" must be a whole number, "
      "0-999"}},
    {"zone",
     with_group("targets: [{id: 10.0.0.1, zone: \"\"}]"),
     {"f:4:35: target_groups[0].targets[0].zone: \"\" must be 1-32 letters, digits "
      "and single hyphens, not starting or ending with a hyphen"}},
    {"same target twice",
     with_group("targets: [{id: 10.0.0.1}, {id: 10.0.0.1, port: 80}]"),
     {"f:4:30: target_groups[0].targets[1]: the target 10.0.0.1 with port 80 is in "
      "this group already, in line 4"}},
    {"same target twice, in a group whose port is wrong",
     "load_balancers: []\ntarget_groups:\n- {name: g, protocol: TCP, port: 0, targets: [{id: "
     "10.0.0.1}, {id: 10.0.0.1}]}\n",
     {"f:3:34: target_groups[0].port: \"0\" must be a port (1-65535), or the word any",
      "f:3:63: target_groups[0].targets[1]: the target 10.0.0.1 is in this group already, in line "
      "3"}},
    {"both families",
     with_group("targets: [{id: 10.0.0.1}, {id: \"fd00::1\"}]"),
     {"f:4:35: target_groups[0].targets[1].id: is IPv6 but 10.0.0.1 in line 4 is "
      "IPv4; a target group holds one address family, make two groups"}},
    {"target is a VIP",
     "load_balancers:\n- {name: a, addresses: [203.0.113.10]}\n"
     "target_groups:\n- {name: a, protocol: TCP, port: 80, targets: [{id: 203.0.113.10}]}\n",
     {"f:4:53: target_groups[0].targets[0].id: 203.0.113.10 is a VIP, in line 2; a "
      "target is a machine's own address"}},
    {"several errors at once, in the order of the file",
     with_group("port: 0, health_check: {interval_seconds: 1, protocol: X},\n   "
                "targets: [{id: nowhere, wieght: 5}, {id: 10.0.0.1, port: 99999}]"),
     // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one error on two lines
     {"f:4:4: target_groups[0].port: this key stands in the same map already, in "
      "line 3; keep one",
      "f:4:46: target_groups[0].health_check.interval_seconds: \"1\" must be a whole "
      "number, 5-300 seconds",
      "f:4:59: target_groups[0].health_check.protocol: \"X\" is not one of: TCP, HTTP",
      "f:5:19: target_groups[0].targets[0].id: \"nowhere\" must be one IPv4 or IPv6 "
      "address, such as 203.0.113.10 or 2001:db8::10, without port or prefix length",
      "f:5:28: target_groups[0].targets[0].wieght: unknown key (did you mean "
      "`weight`?); allowed: id, port, weight, zone",
      "f:5:61: target_groups[0].targets[1].port: \"99999\" must be a port "
      "(1-65535), or the word any"}},
};

INSTANTIATE_TEST_SUITE_P(TargetGroups, LoadErrorsTest, testing::ValuesIn(kTargetGroups),
                         bad_config_name);
INSTANTIATE_TEST_SUITE_P(Targets, LoadErrorsTest, testing::ValuesIn(kTargets), bad_config_name);

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// The settings of health checks. Those that NLB has (deploy/nlb.md, "Health checks") stand under
// `health_check` of a target group, our own under its `attributes`.
#include "controlplane/model/attribute_tables.h"
#include "controlplane/model/health_check_text.h"

namespace millrace::control {
namespace {

using HealthRow = Attribute<HealthCheck>;

constexpr std::string_view kIntervalMs = "millrace.health_check.interval_milliseconds";
constexpr std::string_view kTimeoutMs = "millrace.health_check.timeout_milliseconds";

constexpr Word<HealthCheckProtocol> kHealthProtocols[] = {
    {"TCP", HealthCheckProtocol::tcp},
    {"HTTP", HealthCheckProtocol::http},
    {"HTTPS", {}, "not supported by this version; TCP and HTTP are"},
    {"UDP",
     {},
     "there is no UDP probe; use TCP or HTTP, with `port` if the target answers those elsewhere"},
};

std::string refuse_for_tcp(const HealthCheck& check) {
  if (check.protocol == HealthCheckProtocol::http) return "";
  return "is for protocol: HTTP only; this health check is TCP";
}

std::string refuse_host(const HealthCheck& check) {
  if (check.protocol == HealthCheckProtocol::http) return "";
  return "is for a health check of protocol: HTTP only; this group's is TCP";
}

std::string refuse_long_timeout(const HealthCheck& check) {
  if (check.timeout_ms <= check.interval_ms) return "";
  return "the timeout (" + std::to_string(check.timeout_ms) +
         " ms) must not be longer than the interval (" + std::to_string(check.interval_ms) + " ms)";
}

constexpr HealthRow kAttributes[] = {
    {.name = kIntervalMs,
     .value = HealthRow::Number{&HealthCheck::interval_ms,
                                {.min = 100, .max = 300000, .unit = "milliseconds"}},
     .meaning = "Time from one health check of a target to the next, in place of "
                "`interval_seconds`."},
    {.name = kTimeoutMs,
     .value = HealthRow::Number{&HealthCheck::timeout_ms,
                                {.min = 50, .max = 120000, .unit = "milliseconds"}},
     .refusal = refuse_long_timeout,
     .meaning = "How long a health check may take, in place of `timeout_seconds`. Never longer "
                "than the interval, which may shorten the default."},
    {.name = "millrace.health_check.host",
     .value =
         HealthRow::Special{"a name or an address, with a port if wanted, of 1-255 "
                            "characters: \"www.example.org\", \"www.example.org:8080\", "
                            "\"[2001:db8::1]:8080\"",
                            [](const HealthCheck& check) { return check.host; }, read_health_host},
     .applies_to = "health check protocol: HTTP",
     .refusal = refuse_host,
     .meaning = "The Host header of health checks. Without it they name this node's address and "
                "the listener's port, as NLB's do."},
};

constexpr HealthRow kSettings[] = {
    {.name = "protocol",
     .value = HealthRow::Choice<HealthCheckProtocol>{&HealthCheck::protocol, kHealthProtocols},
     .decides = true,
     .meaning = "TCP: the target accepts a connection. HTTP: it answers a GET with a code that "
                "`matcher` names."},
    {.name = "port",
     .value = HealthRow::Special{"a whole number, 1-65535 or traffic-port", health_port_text,
                                 read_health_port},
     .meaning = "Where the target is asked. traffic-port: the target's own port."},
    {.name = "path",
     .value =
         HealthRow::Special{"a path that starts with / and has 1-1024 visible ASCII "
                            "characters, no spaces",
                            [](const HealthCheck& check) { return check.path; }, read_health_path},
     .applies_to = "protocol: HTTP",
     .refusal = refuse_for_tcp,
     .meaning = "What the target is asked for."},
    {.name = "interval_seconds",
     .value =
         HealthRow::Number{
             &HealthCheck::interval_ms, {.min = 5, .max = 300, .unit = "seconds"}, 1000},
     .in_milliseconds = kIntervalMs,
     .meaning = "Time from one health check of a target to the next."},
    {.name = "timeout_seconds",
     .value =
         HealthRow::Number{
             &HealthCheck::timeout_ms, {.min = 2, .max = 120, .unit = "seconds"}, 1000},
     .refusal = refuse_long_timeout,
     .in_milliseconds = kTimeoutMs,
     .meaning =
         "How long a health check may take. Never longer than the interval, which may shorten "
         "the default."},
    {.name = "healthy_threshold",
     .value = HealthRow::Number{&HealthCheck::healthy_threshold, {.min = 2, .max = 10}},
     .meaning = "So many passed health checks in a row make an unhealthy target healthy."},
    {.name = "unhealthy_threshold",
     .value = HealthRow::Number{&HealthCheck::unhealthy_threshold, {.min = 2, .max = 10}},
     .meaning = "So many failed health checks in a row make a healthy target unhealthy."},
    {.name = "matcher",
     .value = HealthRow::Special{"HTTP status codes from 200 to 599, as a list or as ranges: "
                                 "\"200\", \"200,202\", \"200-299\", \"200-299,404\"",
                                 matcher_text, read_matcher},
     .applies_to = "protocol: HTTP",
     .refusal = refuse_for_tcp,
     .meaning = "The status codes that a healthy target answers with."},
};

}  // namespace

std::span<const Attribute<HealthCheck>> health_check_attributes() { return kAttributes; }

std::span<const Attribute<HealthCheck>> health_check_settings() { return kSettings; }

}  // namespace millrace::control

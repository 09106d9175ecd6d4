// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/result_json.h"

#include <boost/json.hpp>

namespace millrace::pktgen {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;  // bumped when a key changes its meaning

json::array to_array(const std::vector<std::string>& words) {
  json::array array;
  for (const std::string& word : words) array.emplace_back(word);
  return array;
}

json::object machine_object(const Machine& machine) {
  return {{"processor", machine.processor},
          {"cpu_count", machine.cpu_count},
          {"cpu", machine.cpu},
          {"cpu_mhz", machine.cpu_mhz},
          {"memory_bytes", machine.memory_bytes},
          {"huge_page_bytes", machine.huge_page_bytes},
          {"kernel", machine.kernel},
          {"isolated_cpus", machine.isolated_cpus},
          {"governor", machine.governor},
          {"load_average", machine.load_average},
          {"is_virtual", machine.is_virtual}};
}

json::object latency_object(const LatencyFigures& latency,
                            const std::vector<Histogram::Bucket>& buckets) {
  json::array array;
  for (const Histogram::Bucket& bucket : buckets) {
    array.push_back(json::array{bucket.first_value, bucket.last_value, bucket.count});
  }
  return {{"min_ns", latency.min_ns},   {"p50_ns", latency.p50_ns}, {"p99_ns", latency.p99_ns},
          {"p999_ns", latency.p999_ns}, {"max_ns", latency.max_ns}, {"buckets", std::move(array)}};
}

json::object connections_object(const ConnectionResult& result, double seconds) {
  json::object violations{{"total", result.violations_total}};
  for (std::size_t kind = 0; kind < kViolationKinds; ++kind) {
    violations[kViolationNames[kind]] = result.violations[kind];
  }
  const ClientCounts& clients = result.clients;
  json::object object{{"violations", std::move(violations)},
                      {"opened", clients.opened},
                      {"established", clients.established},
                      {"completed", clients.completed},
                      {"completed_per_second", static_cast<double>(clients.completed) / seconds},
                      {"responses", clients.responses},
                      {"timed_out", clients.timed_out},
                      {"reset", clients.reset},
                      {"cut_short", clients.cut_short},
                      {"not_over", result.live},
                      {"flow_busy", clients.flow_busy},
                      {"segments_repeated", result.repeated},
                      {"given_up_ns", result.given_up_ns},
                      {"by_target", json::value_from(result.shares)}};
  if (clients.established > 0) {
    object["connect_latency"] = latency_object(result.connect, result.connect_buckets);
  }
  if (clients.responses > 0) {
    object["response_latency"] = latency_object(result.response, result.response_buckets);
  }
  return object;
}

json::object stream_object(const StreamResult& stream, double seconds) {
  json::object object{
      {"name", stream.name},
      {"sent_packets", stream.sent_packets},
      {"sent_bytes", stream.sent_bytes},
      {"sent_pps", static_cast<double>(stream.sent_packets) / seconds},
      {"given_up_ns", stream.given_up_ns},
  };
  if (!stream.is_measured) return object;
  object["received_packets"] = stream.received_packets;
  object["lost_packets"] = stream.lost_packets;
  object["reordered_packets"] = stream.reordered_packets;
  object["duplicate_packets"] = stream.duplicate_packets;
  if (stream.received_packets > 0)
    object["latency"] = latency_object(stream.latency, stream.latency_buckets);
  return object;
}

}  // namespace

std::string to_json(const RunResult& result, const RunFacts& facts) {
  json::array streams;
  for (const StreamResult& stream : result.streams) {
    streams.push_back(stream_object(stream, result.seconds));
  }
  json::object root{{"format", kFormat},
                    {"program", "millrace-pktgen " MILLRACE_VERSION},
                    {"dpdk", MILLRACE_DPDK_VERSION},
                    {"started_at", facts.started_at},
                    {"command_line", to_array(facts.command_line)},
                    {"devices", to_array(facts.devices)},
                    {"machine", machine_object(facts.machine)},
                    {"profile", result.profile},
                    {"seed", result.seed},
                    {"seconds", result.seconds},
                    {"busy_share", result.busy_share},
                    {"blocked_share", result.blocked_share},
                    {"received_packets", result.received_packets},
                    {"received_bytes", result.received_bytes},
                    {"unmarked_packets", result.unmarked_packets},
                    {"corrupt_packets", result.corrupt_packets},
                    {"streams", std::move(streams)}};
  if (result.connections) {
    root["connections"] = connections_object(*result.connections, result.seconds);
  }
  return json::serialize(root) + "\n";
}

}  // namespace millrace::pktgen

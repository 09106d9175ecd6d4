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

json::object latency_object(const StreamResult& stream) {
  json::array buckets;
  for (const Histogram::Bucket& bucket : stream.latency_buckets) {
    buckets.push_back(json::array{bucket.first_value, bucket.last_value, bucket.count});
  }
  const LatencyFigures& latency = stream.latency;
  return {{"min_ns", latency.min_ns}, {"p50_ns", latency.p50_ns},
          {"p99_ns", latency.p99_ns}, {"p999_ns", latency.p999_ns},
          {"max_ns", latency.max_ns}, {"buckets", std::move(buckets)}};
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
  if (stream.received_packets > 0) object["latency"] = latency_object(stream);
  return object;
}

}  // namespace

std::string to_json(const RunResult& result, const RunFacts& facts) {
  json::array streams;
  for (const StreamResult& stream : result.streams) {
    streams.push_back(stream_object(stream, result.seconds));
  }
  const json::object root{{"format", kFormat},
                          {"program", "millrace-pktgen " MILLRACE_VERSION},
                          {"dpdk", MILLRACE_DPDK_VERSION},
                          {"started_at", facts.started_at},
                          {"command_line", to_array(facts.command_line)},
                          {"devices", to_array(facts.devices)},
                          {"machine", machine_object(facts.machine)},
                          {"profile", result.profile},
                          {"seed", result.seed},
                          {"seconds", result.seconds},
                          {"received_packets", result.received_packets},
                          {"received_bytes", result.received_bytes},
                          {"unmarked_packets", result.unmarked_packets},
                          {"corrupt_packets", result.corrupt_packets},
                          {"streams", std::move(streams)}};
  return json::serialize(root) + "\n";
}

}  // namespace millrace::pktgen

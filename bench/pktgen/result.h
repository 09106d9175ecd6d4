// SPDX-License-Identifier: Apache-2.0
//
// What a run found, as values and as text. Cold.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/pktgen/generator.h"

namespace millrace::pktgen {

struct LatencyFigures {
  std::uint64_t min_ns = 0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  std::uint64_t max_ns = 0;
};

struct StreamResult {
  std::string name;
  bool is_measured = false;  // false: nothing below `given_up_ns` is known
  std::uint64_t sent_packets = 0;
  std::uint64_t sent_bytes = 0;  // of frames without FCS
  std::uint64_t given_up_ns = 0;
  std::uint64_t received_packets = 0;  // duplicates included
  std::uint64_t lost_packets = 0;
  std::uint64_t reordered_packets = 0;
  std::uint64_t duplicate_packets = 0;
  LatencyFigures latency;
  std::vector<Histogram::Bucket> latency_buckets;
};

struct ConnectionResult {
  ClientCounts clients;
  std::uint64_t live = 0;         // not over when the run was
  std::uint64_t repeated = 0;     // segments sent again, by both sides
  std::uint64_t given_up_ns = 0;  // as of a stream
  LatencyFigures connect;         // SYN to SYN ACK
  LatencyFigures response;        // request to the last byte of the response
  std::vector<Histogram::Bucket> connect_buckets;
  std::vector<Histogram::Bucket> response_buckets;
  std::array<std::uint64_t, kViolationKinds> violations{};
  std::uint64_t violations_total = 0;
  std::vector<std::uint64_t> shares;  // connections by target; empty without emulated ones
};

struct RunResult {
  std::string profile;
  std::uint64_t seed = 0;
  double seconds = 0;        // in which packets were sent
  double busy_share = 0;     // of them, as Generator::busy_ns()
  double blocked_share = 0;  // and blocked_ns()
  std::vector<StreamResult> streams;
  std::optional<ConnectionResult> connections;
  std::uint64_t received_packets = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t unmarked_packets = 0;
  std::uint64_t corrupt_packets = 0;
};

// Of a run that is over.
[[nodiscard]] RunResult result_of(const Generator& generator);

// For a person, several lines.
[[nodiscard]] std::string to_text(const RunResult& result);

// Packets sent and received and connections completed so far; their differences are what
// progress_line() shows.
struct Progress {
  std::uint64_t sent_packets = 0;
  std::uint64_t received_packets = 0;
  std::uint64_t completed = 0;
  bool has_connections = false;
  std::uint64_t sending_ns = 0;
};
[[nodiscard]] Progress progress_of(const Generator& generator);
// One line without its end: "3 s  sent 14.20 Mpps  received 14.19 Mpps".
[[nodiscard]] std::string progress_line(const Progress& before, const Progress& now);

// A rate in words of its size: "14.88 M", "950 k", "12".
[[nodiscard]] std::string scaled(double number);

}  // namespace millrace::pktgen

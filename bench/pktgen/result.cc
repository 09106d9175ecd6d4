// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/result.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace millrace::pktgen {
namespace {

std::string with_format(const char* format, double number) {
  std::array<char, 64> text;
  (void)std::snprintf(text.data(), text.size(), format, number);  // the formats here fit
  return text.data();
}

std::string duration(std::uint64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 10'000) return with_format("%.0f ns", value);
  if (ns < 10'000'000) return with_format("%.1f us", value / 1e3);
  return with_format("%.1f ms", value / 1e6);
}

LatencyFigures latency_figures(const Histogram& histogram) {
  return {.min_ns = histogram.min(),
          .p50_ns = histogram.value_at(0.5),
          .p99_ns = histogram.value_at(0.99),
          .p999_ns = histogram.value_at(0.999),
          .max_ns = histogram.max()};
}

std::string latency_text(const LatencyFigures& latency) {
  return "min " + duration(latency.min_ns) + ", p50 " + duration(latency.p50_ns) + ", p99 " +
         duration(latency.p99_ns) + ", p99.9 " + duration(latency.p999_ns) + ", max " +
         duration(latency.max_ns) + '\n';
}

std::string not_the_rate(std::uint64_t given_up_ns) {
  if (given_up_ns == 0) return "";
  return ", NOT the rate asked for: nothing could be sent for " + duration(given_up_ns);
}

StreamResult stream_result(const Stream& stream, const Sender& sender,
                           const StreamArrivals& arrivals) {
  const Histogram& latency = arrivals.latency_ns;
  const std::uint64_t arrived = arrivals.sequence.unique();
  StreamResult result{.name = stream.name,
                      .is_measured = stream.is_measured,
                      .sent_packets = sender.packets(),
                      .sent_bytes = sender.bytes(),
                      .given_up_ns = sender.given_up_ns(),
                      .received_packets = arrivals.packets,
                      .lost_packets = stream.is_measured ? sender.packets() - arrived : 0,
                      .reordered_packets = arrivals.sequence.reordered(),
                      .duplicate_packets = arrivals.sequence.duplicates(),
                      .latency = latency_figures(latency),
                      .latency_buckets = latency.buckets()};
  return result;
}

double share_of(std::uint64_t ns, const Generator& generator) {
  const std::uint64_t sending_ns = generator.sending_ns();
  return sending_ns == 0 ? 0 : static_cast<double>(ns) / static_cast<double>(sending_ns);
}

std::string stream_text(const StreamResult& stream, double seconds) {
  const auto per_second = [&](std::uint64_t count) {
    return scaled(static_cast<double>(count) / seconds);
  };
  std::string text = stream.name + ": sent " + std::to_string(stream.sent_packets) + " (" +
                     per_second(stream.sent_packets) + "pps, " + per_second(stream.sent_bytes * 8) +
                     "bit/s)";
  text += not_the_rate(stream.given_up_ns) + '\n';
  if (!stream.is_measured) return text;
  const double share = stream.sent_packets == 0 ? 0
                                                : 100 * static_cast<double>(stream.lost_packets) /
                                                      static_cast<double>(stream.sent_packets);
  text += "  received " + std::to_string(stream.received_packets) + " (" +
          per_second(stream.received_packets) + "pps), lost " +
          std::to_string(stream.lost_packets) + " (" + with_format("%.4f", share) +
          " %), reordered " + std::to_string(stream.reordered_packets) + ", duplicates " +
          std::to_string(stream.duplicate_packets) + '\n';
  if (stream.received_packets == 0) return text;
  return text + "  latency " + latency_text(stream.latency);
}

ConnectionResult connection_result(const ConnectionLoad& load) {
  const TcpClients& clients = load.clients();
  const auto& targets = load.targets();
  ConnectionResult result{.clients = clients.counts(),
                          .live = clients.live(),
                          .repeated = clients.repeated() + (targets ? targets->repeated() : 0),
                          .given_up_ns = clients.given_up_ns(),
                          .connect = latency_figures(clients.connect_ns()),
                          .response = latency_figures(clients.response_ns()),
                          .connect_buckets = clients.connect_ns().buckets(),
                          .response_buckets = clients.response_ns().buckets(),
                          .violations = {},
                          .shares = targets ? targets->shares() : std::vector<std::uint64_t>()};
  for (std::size_t kind = 0; kind < kViolationKinds; ++kind) {
    const auto violation = static_cast<Violation>(kind);
    result.violations[kind] =
        clients.violations().of(violation) + (targets ? targets->violations().of(violation) : 0);
    result.violations_total += result.violations[kind];
  }
  return result;
}

std::string connection_text(const ConnectionResult& result, double seconds) {
  const ClientCounts& clients = result.clients;
  std::string text = "VIOLATIONS " + std::to_string(result.violations_total);
  for (std::size_t kind = 0; kind < kViolationKinds; ++kind) {
    if (result.violations[kind] == 0) continue;
    text.append(", ").append(kViolationNames[kind]).append(" ");
    text += std::to_string(result.violations[kind]);
  }
  text += "\nconnections: opened " + std::to_string(clients.opened) + ", completed " +
          std::to_string(clients.completed) + " (" +
          scaled(static_cast<double>(clients.completed) / seconds) + "per second)" +
          not_the_rate(result.given_up_ns) + "\n  responses " + std::to_string(clients.responses) +
          ", timed out " + std::to_string(clients.timed_out) + ", reset " +
          std::to_string(clients.reset) + ", cut short " + std::to_string(clients.cut_short) +
          ", not over " + std::to_string(result.live) + ", not opened for want of a free flow " +
          std::to_string(clients.flow_busy) + ", segments repeated " +
          std::to_string(result.repeated) + '\n';
  if (clients.established > 0) text += "  connect " + latency_text(result.connect);
  if (clients.responses > 0) text += "  response " + latency_text(result.response);
  if (result.shares.empty()) return text;
  const auto [fewest, most] = std::minmax_element(result.shares.begin(), result.shares.end());
  return text + "  " + std::to_string(result.shares.size()) + " targets, with " +
         std::to_string(*fewest) + " to " + std::to_string(*most) + " connections each\n";
}

}  // namespace

std::string scaled(double number) {
  if (number >= 1e9) return with_format("%.2f G", number / 1e9);
  if (number >= 1e6) return with_format("%.2f M", number / 1e6);
  if (number >= 1e3) return with_format("%.1f k", number / 1e3);
  return with_format("%.0f ", number);
}

RunResult result_of(const Generator& generator) {
  const Profile& profile = generator.profile();
  const Receiver& receiver = generator.receiver();
  RunResult result{.profile = profile.name,
                   .seed = profile.seed,
                   .seconds = static_cast<double>(generator.sending_ns()) / 1e9,
                   .busy_share = share_of(generator.busy_ns(), generator),
                   .blocked_share = share_of(generator.blocked_ns(), generator),
                   .streams = {},
                   .connections = {},
                   .received_packets = receiver.packets(),
                   .received_bytes = receiver.bytes(),
                   .unmarked_packets = receiver.unmarked(),
                   .corrupt_packets = receiver.corrupt()};
  for (std::size_t i = 0; i < profile.streams.size(); ++i) {
    result.streams.push_back(
        stream_result(profile.streams[i], *generator.senders()[i], receiver.streams()[i]));
  }
  if (generator.connections() != nullptr) {
    result.connections = connection_result(*generator.connections());
  }
  return result;
}

std::string to_text(const RunResult& result) {
  std::string text = "profile " + result.profile + ", seed " + std::to_string(result.seed) +
                     with_format(", %.2f s", result.seconds) +
                     with_format(", generator busy %.0f %%", 100 * result.busy_share) +
                     with_format(", nic full %.0f %%\n", 100 * result.blocked_share);
  if (result.connections) text += connection_text(*result.connections, result.seconds);
  for (const StreamResult& stream : result.streams) text += stream_text(stream, result.seconds);
  if (result.streams.empty()) return text;
  text += "received in all " + std::to_string(result.received_packets) + ", without a mark " +
          std::to_string(result.unmarked_packets) + ", with a wrong checksum " +
          std::to_string(result.corrupt_packets) + '\n';
  return text;
}

Progress progress_of(const Generator& generator) {
  Progress progress{.sent_packets = 0,
                    .received_packets = generator.receiver().packets(),
                    .completed = 0,
                    .has_connections = false,
                    .sending_ns = generator.sending_ns()};
  for (const auto& sender : generator.senders()) progress.sent_packets += sender->packets();
  if (const ConnectionLoad* load = generator.connections()) {
    progress.has_connections = true;
    progress.completed = load->clients().counts().completed;
    progress.sent_packets += load->packets_sent();
  }
  return progress;
}

std::string progress_line(const Progress& before, const Progress& now) {
  const double seconds = static_cast<double>(now.sending_ns - before.sending_ns) / 1e9;
  const auto per_second = [&](std::uint64_t earlier, std::uint64_t later) {
    return scaled(static_cast<double>(later - earlier) / seconds);
  };
  const std::string completed =
      now.has_connections ? "  completed " + per_second(before.completed, now.completed) + "/s"
                          : "";
  return with_format("%.0f s", static_cast<double>(now.sending_ns) / 1e9) + "  sent " +
         per_second(before.sent_packets, now.sent_packets) + "pps  received " +
         per_second(before.received_packets, now.received_packets) + "pps" + completed;
}

}  // namespace millrace::pktgen

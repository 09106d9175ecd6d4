// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/exporter.h"

#include <prometheus/text_serializer.h>

#include <ctime>
#include <sstream>
#include <utility>
#include <vector>

#include "controlplane/telemetry/metrics.h"
#include "dataplane/os/clock.h"

namespace millrace::control {
namespace {

constexpr const char* kPath = "/metrics";
constexpr const char* kHint = "Metrics are at GET /metrics\n";
constexpr std::uint16_t kUsualPort = 9465;

std::string text_of(const Snapshot& snapshot, std::uint64_t boot_realtime_ns) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(
      text, collect_metrics(snapshot, {.boot_realtime_ns = boot_realtime_ns}));
  return text.str();
}

}  // namespace

Result<std::unique_ptr<Exporter>> Exporter::listen(const std::string& address,
                                                   boost::asio::io_context& io,
                                                   std::function<Snapshot()> take_snapshot) {
  const std::uint64_t boot_realtime_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME);
  HttpHandler scrape = [take = std::move(take_snapshot),
                        boot_realtime_ns](const HttpRequest& request) -> HttpResponse {
    // No metrics are chosen by a query.
    if (request.target != kPath) return {.status = 404, .body = kHint};
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
            .body = text_of(take(), boot_realtime_ns)};
  };
  std::vector<HttpRoute> routes;
  routes.push_back({.path = kPath, .methods = {"GET"}, .handler = std::move(scrape)});
  auto server =
      HttpServer::listen(io, {.address = address, .usual_port = kUsualPort, .limits = kLimits},
                         HttpRoutes(std::move(routes), kHint));
  if (!server) return server.error().within("--metrics");
  return std::unique_ptr<Exporter>(new Exporter(std::move(*server)));
}

std::string Exporter::problem() const {
  const std::string absent = server_->absent_address();
  if (absent.empty()) return "";
  return "nobody can ask for metrics: this node does not have the address " + absent +
         " of --metrics";
}

}  // namespace millrace::control

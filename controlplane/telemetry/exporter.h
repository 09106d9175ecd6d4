// SPDX-License-Identifier: Apache-2.0
//
// /metrics for Prometheus. Cold; a scrape sees one consistent Snapshot.
//
// prometheus-cpp makes the text; its own server is not used: the one that Debian ships (CivetWeb
// 1.15) listens on IPv4 only, needs threads, and takes 2 s to stop once it has served a request.
//
// Whoever can reach the address may read it. http/server.h says what bounds them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "controlplane/http/server.h"
#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class Exporter {
 public:
  // Two Prometheus servers and a person are three connections.
  static constexpr HttpLimits kLimits{};

  // Serves on `address` ("127.0.0.1:9465", "[::1]:9465"; port 0 picks a free one). `take_snapshot`
  // is called on `io`'s thread for each scrape, and never after the Exporter is gone. The node may
  // get the address later: problem() says so until then. Fails when the address is none or cannot
  // be bound; the message names it and the cause.
  [[nodiscard]] static Result<std::unique_ptr<Exporter>> listen(
      const std::string& address, boost::asio::io_context& io,
      std::function<Snapshot()> take_snapshot);

  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  // Why nobody can ask at the moment: the node does not have the address. "" when it has. Asks the
  // kernel each time.
  [[nodiscard]] std::string problem() const;

 private:
  explicit Exporter(std::unique_ptr<HttpServer> server) : server_(std::move(server)) {}
  std::unique_ptr<HttpServer> server_;
};

}  // namespace millrace::control

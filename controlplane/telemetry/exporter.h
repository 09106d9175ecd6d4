// SPDX-License-Identifier: Apache-2.0
//
// /metrics for Prometheus over HTTP. Cold; on the control plane's io_context, like everything else,
// so that a scrape sees one consistent Snapshot without locks.
//
// prometheus-cpp makes the text; its own server is not used: the one that Debian ships (CivetWeb
// 1.15) listens on IPv4 only, needs threads, and takes 2 s to stop once it has served a request.
//
// Whoever can reach the address may read it. Bounded against them: connections, bytes per request,
// time per connection. Who has not asked yet gives way to who comes: silent connections, however
// many, keep no scraper out.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class Exporter {
 public:
  // Connections at once. Two Prometheus servers and a person are 3.
  static constexpr std::size_t kSessionsMax = 16;
  // From accept to the last byte sent.
  static constexpr std::chrono::seconds kSessionTime{5};
  static constexpr std::uint32_t kRequestHeaderBytesMax = 8 * 1024;

  // Serves on `address` ("127.0.0.1:9465", "[::1]:9465"; port 0 picks a free one). `take_snapshot`
  // is called on `io`'s thread for each scrape, and never after the Exporter is gone. The node may
  // get the address later: problem() says so until then. Fails when the address is none or cannot
  // be bound; the message names it and the cause.
  [[nodiscard]] static Result<std::unique_ptr<Exporter>> listen(
      const std::string& address, boost::asio::io_context& io,
      std::function<Snapshot()> take_snapshot);
  ~Exporter();  // NOLINT(bugprone-exception-escape): it does not, see the .cc
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  // Why nobody can ask at the moment: the node does not have the address. "" when it has. Asks the
  // kernel each time.
  [[nodiscard]] std::string problem() const;

 private:
  class Impl;
  class Session;
  explicit Exporter(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace millrace::control

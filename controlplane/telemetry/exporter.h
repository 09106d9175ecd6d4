// SPDX-License-Identifier: Apache-2.0
//
// /metrics for Prometheus. Cold. prometheus-cpp serves it on threads of its own; a scrape asks the
// control plane's thread for a Snapshot and waits for it within a bound, so that a busy control
// plane costs a scrape its freshness (millrace_snapshot_age_seconds), never its answer.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class Exporter {
 public:
  // A scrape waits this long for the control plane's thread, then answers from the last snapshot.
  // Below Prometheus' default scrape timeout of 10 s by a wide margin.
  static constexpr std::chrono::milliseconds kSnapshotWait{2000};

  // Serves on `address` ("127.0.0.1:9465", "[::1]:9465"; port 0 picks a free one). `take_snapshot`
  // is called only on `io`'s thread, and never after the Exporter is gone. Destroy it before `io`.
  // Fails when the address cannot be bound; the message names it.
  [[nodiscard]] static Result<std::unique_ptr<Exporter>> listen(
      const std::string& address, boost::asio::io_context& io,
      std::function<Snapshot()> take_snapshot);
  ~Exporter();
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  [[nodiscard]] int port() const;

 private:
  struct Impl;
  explicit Exporter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// One probe of one target: a TCP connection, or an HTTP GET over it, closed afterwards. Cold; runs
// on the control plane's io_context and never blocks it.
//
// The timeout covers everything from connect to the end of the response's header. Only the header
// is read, and at most kResponseHeaderBytesMax of it: a target cannot make the control plane buffer
// more.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/health/health_state.h"
#include "controlplane/model/model.h"

namespace millrace::control {

// Far above what real servers send (nginx: under 300 bytes; 8 KiB is the common server-side limit).
inline constexpr std::uint32_t kResponseHeaderBytesMax = 16 * 1024;

struct ProbeRequest {
  IpAddress address;
  std::uint16_t port = 0;       // where to connect
  std::uint16_t host_port = 0;  // HTTP: the Host header is this node's address and this port
  HealthCheck check;
};

// A probe under way. Destroying it closes the connection, and the handler is not called any more.
class Probe {
 public:
  virtual ~Probe() = default;
};

// Called exactly once from the io_context, never from within start_probe(), unless destroyed
// before.
using ProbeHandler = std::function<void(const ProbeOutcome&)>;

[[nodiscard]] std::unique_ptr<Probe> start_probe(boost::asio::io_context& io, ProbeRequest request,
                                                 ProbeHandler handler);

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// One probe of one target: a TCP connection, or an HTTP GET over it, closed afterwards. Cold; runs
// on the control plane's io_context and never blocks it.
//
// The timeout covers everything from connect to the end of the answer's header, which is the
// verdict. The connection is closed later: a socket that is closed with bytes unread, or before the
// peer has written its last, resets the connection, and the target's log is full of that. So what
// else the target sends is read and thrown away until it closes, for as long as the timeout
// lasts and up to kDrainedBytesMax.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/health/health_state.h"
#include "controlplane/model/model.h"

namespace millrace::control {

// Far above what a page that is asked every few seconds should have; a target that sends more, or
// without end, is reset.
inline constexpr std::size_t kDrainedBytesMax = std::size_t{1024} * 1024;

struct ProbeRequest {
  IpAddress address;
  std::uint16_t port = 0;       // where to connect
  std::uint16_t host_port = 0;  // behind this node's address in Host, unless check.host names one
  HealthCheck check;
};

// A probe under way, or its connection while it closes. Destroying it closes the connection at
// once, and no handler is called any more.
class Probe {
 public:
  virtual ~Probe() = default;
};

// Each is called exactly once, from the io_context and never from within start_probe(), unless the
// Probe is destroyed before: on_outcome with the verdict, then on_closed when the socket is free.
struct ProbeHandlers {
  std::function<void(const ProbeOutcome&)> on_outcome;
  std::function<void()> on_closed;
};

[[nodiscard]] std::unique_ptr<Probe> start_probe(boost::asio::io_context& io, ProbeRequest request,
                                                 ProbeHandlers handlers);

}  // namespace millrace::control

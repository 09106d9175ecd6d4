// SPDX-License-Identifier: Apache-2.0
//
// Where a server listens, as the operator writes it. Cold.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::control {

// "10.0.0.1:9465", "[::1]:9465"; port 0 picks a free one. A bare port would mean all interfaces,
// which nobody should get by accident. The error shows how it is written, with `usual_port`.
[[nodiscard]] Result<boost::asio::ip::tcp::endpoint> parse_endpoint(const std::string& text,
                                                                    std::uint16_t usual_port);

}  // namespace millrace::control

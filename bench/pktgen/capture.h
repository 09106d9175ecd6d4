// SPDX-License-Identifier: Apache-2.0
//
// Reads a capture file (pcap, as tcpdump -w writes it) as a list of frames. Cold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/core/result.h"

namespace millrace::pktgen {

using Frame = std::vector<std::uint8_t>;

// Frames of `path` in their order, at most `frame_bytes_max` long each. Times are not kept: a
// replay has a rate of its own. Errors: not readable, not a pcap file (pcapng is not; convert with
// `editcap -F pcap`), not Ethernet, cut short in the file or when captured, a frame too long, no
// frames.
[[nodiscard]] Result<std::vector<Frame>> read_capture(const std::string& path,
                                                      std::uint32_t frame_bytes_max);

}  // namespace millrace::pktgen

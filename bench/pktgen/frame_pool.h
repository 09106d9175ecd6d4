// SPDX-License-Identifier: Apache-2.0
//
// Packet buffers for writers that set headers alone: all zero, and zero behind the headers for
// ever if one kind of writer has the pool to itself. Cold.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/dpdk/mbuf_pool.h"

namespace millrace::pktgen {

// Errors: no memory.
[[nodiscard]] Result<dpdk::MbufPool> make_zero_pool(const std::string& name,
                                                    std::uint32_t mbuf_count);

}  // namespace millrace::pktgen

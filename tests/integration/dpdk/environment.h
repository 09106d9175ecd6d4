// SPDX-License-Identifier: Apache-2.0
//
// One EAL for the whole test program (DPDK allows no second): no hugepages, no PCI, two worker
// lcores.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/mbuf_pool.h"

namespace millrace::test {

[[nodiscard]] dpdk::Eal& eal();

// `stem` with a number that no name before had; DPDK's objects have names.
[[nodiscard]] std::string unique_name(const std::string& stem);

// A pool of its own, so that a test can count what is out.
inline constexpr std::uint32_t kPoolMbufs = 4095;
[[nodiscard]] dpdk::MbufPool make_pool();

}  // namespace millrace::test

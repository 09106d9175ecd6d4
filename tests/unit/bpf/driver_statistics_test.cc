// SPDX-License-Identifier: Apache-2.0
//
// Lost sends of XDP, by the names that drivers of Linux give them.
#include "bpf/engine/driver_statistics.h"

#include <gtest/gtest.h>

namespace millrace::xdp {
namespace {

TEST(DriverStatistics, lost_sends_of_a_veth_are_summed_over_queues) {
  EXPECT_EQ(lost_sends({{"peer_ifindex", 1000},
                        {"rx_queue_0_xdp_packets", 1000},
                        {"rx_queue_0_xdp_drops", 1000},
                        {"rx_queue_0_xdp_tx", 1000},
                        {"rx_queue_0_xdp_tx_errors", 1},
                        {"rx_queue_1_xdp_tx_errors", 2},
                        {"tx_queue_0_xdp_xmit", 1000},
                        {"tx_queue_0_xdp_xmit_errors", 4}}),
            7u);
}

TEST(DriverStatistics, drops_of_the_program_are_no_lost_sends) {
  EXPECT_EQ(lost_sends({{"rx_queue_0_drops", 1000},
                        {"rx_queue_0_xdp_drops", 1000},
                        {"rx_queue_0_xdp_redirects", 1000},
                        {"tx_queue_0_xdp_tx", 1000},
                        {"tx_queue_0_xdp_tx_drops", 5},
                        {"tx_queue_0_tx_timeouts", 1000}}),
            5u);
}

TEST(DriverStatistics, sums_of_a_driver_are_not_added_to_its_queues) {
  EXPECT_EQ(lost_sends({{"rx_xdp_drop", 1000},
                        {"rx_xdp_tx_xmit", 1000},
                        {"rx_xdp_tx_full", 1},
                        {"rx_xdp_tx_err", 2},
                        {"tx_xdp_full", 4},
                        {"tx_xdp_err", 8},
                        {"tx_queue_dropped", 1000},
                        {"rx0_xdp_tx_full", 1},
                        {"tx0_xdp_err", 8}}),
            15u);
}

TEST(DriverStatistics, driver_that_counts_none_has_none) {
  EXPECT_EQ(lost_sends({{"tx_dropped", 9}, {"rx_errors", 9}}), 0u);
}

TEST(DriverStatistics, interface_that_does_not_exist_has_neither_driver_nor_statistics) {
  EXPECT_EQ(driver_of("nosuch0"), "");
  EXPECT_TRUE(driver_statistics("nosuch0").empty());
}

}  // namespace
}  // namespace millrace::xdp

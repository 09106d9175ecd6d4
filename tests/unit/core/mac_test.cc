// SPDX-License-Identifier: Apache-2.0
//
// Whose MAC address a frame is for: the nic's, another one of the node's, another machine's.
#include <cstdint>
#include <vector>

#include "tests/unit/core/family.h"

namespace millrace::test {
namespace {

using core::VerdictKind;

constexpr core::MacAddr kChanged{{2, 0, 0, 0, 0, 0x51}};

class MacTest : public ForwarderTest {
 protected:
  static std::vector<std::uint8_t> to_mac(const FrameSpec& spec, const core::MacAddr& mac) {
    std::vector<std::uint8_t> frame = make_frame(spec);
    std::copy(mac.bytes.begin(), mac.bytes.end(), frame.begin());
    return frame;
  }
  static core::MacAddr source_of(const std::vector<std::uint8_t>& frame) {
    core::MacAddr mac;
    std::copy_n(frame.begin() + 6, mac.bytes.size(), mac.bytes.begin());
    return mac;
  }
};

INSTANTIATE_TEST_SUITE_P(All, MacTest, testing::ValuesIn(kAllTraffic), name_of);

TEST_P(MacTest, fault_71_changed_mac_address_of_the_nic_is_served_and_sent_from_at_once) {
  balance(1);
  ASSERT_EQ(open_flow(40000), 0u);
  node.set_nic_mac(0, kChanged);
  EXPECT_EQ(node.send(to_vip(40000)).reason, MR_DROP_OTHER_MAC) << "the address before";
  const Outcome request = node.send(to_mac(to_vip(40000), kChanged));
  ASSERT_EQ(request.kind, VerdictKind::forward);
  EXPECT_EQ(source_of(request.frame), kChanged);
  const Outcome reply = node.send(to_mac(from_target(0, 40000), kChanged));
  ASSERT_EQ(reply.kind, VerdictKind::forward);
  EXPECT_EQ(source_of(reply.frame), kChanged);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(MacTest, fault_71_local_mac_counts_from_the_config_that_brings_it) {
  balance(1);
  const auto frame = to_mac(to_vip(40000, kSyn), kChanged);
  EXPECT_EQ(node.send(frame).reason, MR_DROP_OTHER_MAC);
  node.builder.add_local_mac({.mac = {2, 0, 0, 0, 0, 0x51}, .nic = 0, .reserved = 0});
  node.publish();
  EXPECT_EQ(node.send(frame).kind, VerdictKind::forward);
  EXPECT_EQ(node.send(frame, 1).reason, MR_DROP_OTHER_MAC) << "of another nic";
}

TEST_P(MacTest, fault_71_kernel_gets_no_more_of_other_machines_frames_than_the_budget) {
  node.reset({.foreign_per_ms = 3});
  balance(1);
  FrameSpec spec = to_vip(40000, kSyn);
  spec.destination = client_addr();
  const auto frame = to_mac(spec, kChanged);
  for (int sent = 0; sent < 3; ++sent) EXPECT_EQ(node.send(frame).kind, VerdictKind::punt);
  EXPECT_EQ(node.send(frame).reason, MR_DROP_OTHER_MAC);
  EXPECT_EQ(node.send(spec).kind, VerdictKind::punt) << "the node's own has no such bound";
  node.pass_seconds(1);
  EXPECT_EQ(node.send(frame).kind, VerdictKind::punt);
  EXPECT_EQ(node.dropped(MR_DROP_OTHER_MAC), 1u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(MacTest, fault_71_frame_for_another_machine_is_handed_to_no_other_worker) {
  balance(1);
  FrameSpec spec = to_vip(40000, kSyn);
  spec.destination = client_addr();
  const core::Ownership second{.worker = 1, .worker_count = 2};
  EXPECT_EQ(node.send_to(second, to_mac(spec, kChanged)).kind, VerdictKind::punt);
  EXPECT_EQ(node.send_to(second, to_mac(to_vip(40000, kSyn), kChanged)).reason, MR_DROP_OTHER_MAC);
}

}  // namespace
}  // namespace millrace::test

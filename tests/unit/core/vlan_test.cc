// SPDX-License-Identifier: Apache-2.0
//
// VLANs in an image: which images are refused, and what a nic is to take for them. Packets of VLANs
// are in tests/packets/vlan.packets.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "dataplane/core/config_view.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::core {
namespace {

constexpr MacAddr kUsual{{2, 0, 0, 0, 0, 1}};

mr_vlan vlan_on(std::uint8_t nic, std::uint32_t id, const MacAddr& mac) {
  mr_vlan vlan{};
  std::memcpy(vlan.mac, mac.bytes.data(), sizeof(vlan.mac));
  vlan.nic = nic;
  vlan.flags = MR_VLAN_PRESENT;
  vlan.tag = to_be32(MR_ETH_TYPE_VLAN << 16 | id);
  return vlan;
}

mr_local_mac local_on(std::uint8_t nic, const MacAddr& mac) {
  mr_local_mac local{};
  std::memcpy(local.mac, mac.bytes.data(), sizeof(local.mac));
  local.nic = nic;
  return local;
}

// Two VLANs of the first nic and one of the second; the third slot's interface is gone.
test::ImageBuilder with_vlans() {
  test::ImageBuilder builder;
  builder.add_vlan(vlan_on(0, 10, kUsual));
  builder.add_vlan(vlan_on(0, 20, {{2, 0, 0, 0, 0, 20}}));
  builder.add_vlan(vlan_on(0, 30, {{2, 0, 0, 0, 0, 30}}));
  builder.add_vlan(vlan_on(1, 10, {{2, 0, 0, 0, 1, 10}}));
  builder.vlan(2).flags = 0;
  return builder;
}

// What check_image() says of an image that `spoil` has changed; the checksum is right again.
std::string refusal(const std::function<void(mr_image&, std::byte*)>& spoil) {
  test::Image built = with_vlans().build(1);
  auto* image = const_cast<mr_image*>(built.view().image);
  spoil(*image, built.segment().data());
  image->checksum = image_checksum(built.view());
  const auto view = check_image(built.segment(), 1, nullptr);
  return view ? "" : view.error().message;
}

mr_vlan& vlan_in(const mr_image& image, std::byte* segment, std::uint32_t slot) {
  return reinterpret_cast<mr_vlan*>(segment + image.vlans_offset)[slot];
}

TEST(Vlans, image_with_them_is_taken) {
  EXPECT_EQ(refusal([](mr_image&, std::byte*) {}), "");
}

TEST(Vlans, nic_that_no_engine_can_have_is_refused) {
  const std::string said = refusal([](const mr_image& image, std::byte* segment) {
    vlan_in(image, segment, 3).nic = MR_NIC_COUNT_MAX;
  });
  EXPECT_NE(said.find("vlan slot 3: nic 8 >= 8"), std::string::npos) << said;
}

TEST(Vlans, number_that_leads_beyond_them_is_refused) {
  const std::string said = refusal([](const mr_image& image, std::byte* segment) {
    const auto slots = reinterpret_cast<std::uint8_t*>(segment + image.vlan_slots_offset);
    slots[MR_VLAN_ID_COUNT + 10] = 4;
  });
  EXPECT_NE(said.find("vlan_slots name slot 4 >= 4"), std::string::npos) << said;
}

TEST(Vlans, more_of_them_than_an_index_names_are_refused) {
  const std::string said =
      refusal([](mr_image& image, std::byte*) { image.vlan_count = MR_VLAN_COUNT_MAX + 1; });
  EXPECT_NE(said.find("vlan_count 241 > 240"), std::string::npos) << said;
}

TEST(Vlans, half_a_row_of_numbers_is_refused) {
  test::Image built = with_vlans().build(1);
  auto* image = const_cast<mr_image*>(built.view().image);
  image->vlan_slot_count = MR_VLAN_ID_COUNT + 64;
  ConfigView shorter = built.view();
  shorter.vlan_slots = shorter.vlan_slots.first(image->vlan_slot_count);
  image->checksum = image_checksum(shorter);
  const auto view = check_image(built.segment(), 1, nullptr);
  ASSERT_FALSE(view);
  EXPECT_NE(view.error().message.find("vlan_slot_count 4160 is not a multiple of 4096"),
            std::string::npos)
      << view.error().message;
}

TEST(Vlans, nic_takes_frames_for_the_mac_addresses_of_its_vlans) {
  test::ImageBuilder builder = with_vlans();
  const MacAddr of_nic{{0, 0, 0x5e, 0, 1, 1}};
  const MacAddr in_vlan{{0, 0, 0x5e, 0, 1, 20}};
  builder.add_local_mac(local_on(0, of_nic));
  builder.add_local_mac(local_on(0, kUsual));
  builder.add_local_mac(local_on(MR_NIC_COUNT_MAX + 1, in_vlan));
  builder.add_local_mac(local_on(MR_NIC_COUNT_MAX, in_vlan));
  const test::Image image = builder.build(1);
  const MacAddr of_vlan{{2, 0, 0, 0, 0, 20}};
  EXPECT_EQ(further_macs(image.view(), 0, kUsual),
            (std::vector<MacAddr>{of_nic, in_vlan, of_vlan}));
  EXPECT_EQ(further_macs(image.view(), 1, kUsual), (std::vector<MacAddr>{{{2, 0, 0, 0, 1, 10}}}));
  EXPECT_TRUE(further_macs(image.view(), 2, kUsual).empty());
}

}  // namespace
}  // namespace millrace::core

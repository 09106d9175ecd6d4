// SPDX-License-Identifier: Apache-2.0
//
// The config part of golden packets: lines of text -> ImageBuilder, and the names that packets of
// the same file use. Cold; the lines are described in tests/packets/README.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "dataplane/core/result.h"
#include "tests/support/cc/frame_text.h"
#include "tests/support/cc/golden_case.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {

class GoldenConfig {
 public:
  // mac, addr, nic, group, target, listener, vip, default_next_hop, local
  [[nodiscard]] Status read(const GoldenLine& line);
  // Between packets: a target's state or what a VIP does; counts from the next `publish`.
  [[nodiscard]] Status change(const GoldenLine& line);

  // The packet that begins at word `first`.
  [[nodiscard]] Result<Bytes> frame(const GoldenLine& line, std::size_t first) const;

  [[nodiscard]] const FrameNames& names() const { return names_; }
  [[nodiscard]] const MacTable& nic_macs() const { return nic_macs_; }
  [[nodiscard]] ImageBuilder& builder() { return builder_; }
  [[nodiscard]] std::uint32_t target_slot(const std::string& name) const;

 private:
  [[nodiscard]] Status read_nic(const GoldenLine& line);
  [[nodiscard]] Status change_vlan(const GoldenLine& line);
  [[nodiscard]] Status read_vlan(const GoldenLine& line);
  [[nodiscard]] Status read_local_mac(const GoldenLine& line);
  [[nodiscard]] Status read_encap_source(const GoldenLine& line);
  [[nodiscard]] Status read_nic_addr(const GoldenLine& line);
  [[nodiscard]] Status read_group(const GoldenLine& line);
  [[nodiscard]] Status read_target(const GoldenLine& line);
  [[nodiscard]] Status read_listener(const GoldenLine& line);
  [[nodiscard]] Status read_vip(const GoldenLine& line);
  [[nodiscard]] Status read_default_next_hop(const GoldenLine& line);
  [[nodiscard]] Result<mr_next_hop> next_hop(const std::string& mac, std::uint64_t nic) const;

  FrameNames names_;
  MacTable nic_macs_;
  ImageBuilder builder_;
  std::map<std::string, std::uint32_t> groups_;
  std::map<std::string, std::uint32_t> targets_;
  mr_next_hop default_next_hops_[2] = {};  // v4, v6
};

}  // namespace millrace::test

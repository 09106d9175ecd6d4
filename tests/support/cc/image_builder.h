// SPDX-License-Identifier: Apache-2.0
//
// Builds real config images in memory, for tests, fuzz targets and benchmarks of everything that
// reads them. Cold; not part of any program.
//
//   ImageBuilder builder;
//   const auto group = builder.add_group({});
//   builder.add_target({.group_slot = group, .addr = addr_of("10.0.1.11"), .port = 8080});
//   builder.add_listener({.vip_addr = addr_of("203.0.113.10"), .port = 80, .group_slot = group});
//   Image image = builder.build(1);
//   forwarder.adopt(image.view());
//
// What build() returns went through core::check_image(). Lookup tables are those of
// controlplane/lookup. The builder keeps its state, so that a test changes a target and builds the
// next generation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/config_view.h"

namespace millrace::test {

// "10.0.0.1" or "2001:db8::1"; aborts on anything else.
[[nodiscard]] mr_addr addr_of(const std::string& text);

// "02:00:00:00:00:01" on nic `nic`, resolved.
[[nodiscard]] mr_next_hop next_hop_of(const std::string& mac, std::uint8_t nic = 0);

[[nodiscard]] constexpr std::uint32_t ticks_of_seconds(std::uint64_t seconds) {
  return static_cast<std::uint32_t>((seconds * 1'000'000'000) >> MR_TICK_SHIFT);
}

// Idle timeouts that the listeners get: the defaults of TCP and UDP, 350 s and 120 s
// (deploy/nlb.md, "Idle timeouts"), and short ones around them.
inline constexpr std::uint32_t kSynTimeoutSeconds = 10;
inline constexpr std::uint32_t kEstablishedTimeoutSeconds = 350;
inline constexpr std::uint32_t kClosingTimeoutSeconds = 60;
inline constexpr std::uint32_t kClosedTimeoutSeconds = 5;
inline constexpr std::uint32_t kResetTimeoutSeconds = 40;
inline constexpr std::uint32_t kUdpTimeoutSeconds = 120;
inline constexpr std::uint32_t kUdpNewTimeoutSeconds = 20;
inline constexpr std::uint32_t kExpiredTimeoutSeconds = 30;

struct GroupSpec {
  std::uint8_t forwarding = MR_FORWARDING_NAT;
  std::uint8_t flags = 0;           // enum mr_group_flag
  std::uint32_t table_slots = 251;  // a prime; small, so that tests are quick
  std::uint16_t encap_port = 6080;  // host order; counts in gue groups
};

struct TargetSpec {
  std::uint32_t group_slot = 0;
  mr_addr addr{};
  std::uint16_t port = 0;  // host order; 0: any. Counts in nat groups, others keep the listener's
  std::uint8_t protocol = MR_PROTOCOL_TCP;
  std::uint8_t flags = MR_TARGET_KEEPS_FLOWS | MR_TARGET_HEALTHY;
  std::uint32_t weight = 100;
  bool gets_new_flows = true;  // false: the lookup table does not name it (draining, unhealthy)
  mr_next_hop next_hop{{2, 0, 0, 0, 1, 1}, 0, MR_NEXT_HOP_RESOLVED};
  std::uint16_t mtu = MR_MTU_NO_LIMIT;
  std::uint16_t mss_max = 0;
};

struct ListenerSpec {
  mr_addr vip_addr{};
  std::uint16_t port = 0;  // host order
  std::uint8_t protocol = MR_PROTOCOL_TCP;
  std::uint32_t group_slot = 0;
  std::uint16_t last_port = 0;  // 0: `port` is the only one. Ports 0-65535: any
};

// A config segment with one image in it. Owns the memory; views stay valid while it lives.
class Image {
 public:
  [[nodiscard]] const core::ConfigView& view() const { return view_; }
  // The whole segment, mr_config_header first; writable so that tests can corrupt it.
  [[nodiscard]] std::span<std::byte> segment() { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::span<const std::byte> segment() const { return {memory_.get(), bytes_}; }

 private:
  friend class ImageBuilder;
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t bytes_ = 0;
  core::ConfigView view_;
};

class ImageBuilder {
 public:
  // Each returns the slot: 0, 1, 2, ... in order of calls. Ids are never reused.
  std::uint32_t add_group(const GroupSpec& spec);
  std::uint32_t add_target(const TargetSpec& spec);
  std::uint32_t add_listener(const ListenerSpec& spec);

  // For the next generation: change a group or a target, put another machine into its slot (new
  // id), or free the slot.
  [[nodiscard]] GroupSpec& group(std::uint32_t slot) { return groups_[slot].spec; }
  [[nodiscard]] TargetSpec& target(std::uint32_t slot) { return targets_[slot].spec; }
  [[nodiscard]] ListenerSpec& listener(std::uint32_t slot) { return listeners_[slot].spec; }
  // The slot of the listener with the VIP, protocol and first port of `spec`.
  [[nodiscard]] std::optional<std::uint32_t> listener_like(const ListenerSpec& spec) const {
    for (std::uint32_t slot = 0; slot < listeners_.size(); ++slot) {
      const Listener& listener = listeners_[slot];
      const bool is_like = listener.id != 0 && listener.spec.port == spec.port &&
                           listener.spec.protocol == spec.protocol &&
                           text_of(listener.spec.vip_addr) == text_of(spec.vip_addr);
      if (is_like) return slot;
    }
    return std::nullopt;
  }
  void replace_target(std::uint32_t slot, const TargetSpec& spec);
  void free_target(std::uint32_t slot) { targets_[slot].id = 0; }
  void free_listener(std::uint32_t slot) { listeners_[slot].id = 0; }

  void set_vip_flags(const mr_addr& vip, std::uint32_t flags) { vip_flags_[text_of(vip)] = flags; }
  void add_local_addr(const mr_addr& addr) { local_addrs_.push_back(addr); }
  void add_local_mac(const mr_local_mac& mac) { local_macs_.push_back(mac); }
  // VLAN slots are 0, 1, 2, ... in order of calls.
  void add_vlan(const mr_vlan& vlan) { vlans_.push_back(vlan); }
  [[nodiscard]] mr_vlan& vlan(std::uint32_t slot) { return vlans_.at(slot); }
  [[nodiscard]] std::size_t vlan_count() const { return vlans_.size(); }
  void set_default_next_hops(const mr_next_hop& v4, const mr_next_hop& v6) {
    default_next_hop_v4_ = v4;
    default_next_hop_v6_ = v6;
  }
  // The node's own address of the family of `addr`.
  void set_encap_source(const mr_addr& addr, std::uint32_t spread_be = 0);
  void set_nic_addr(std::uint32_t nic, const mr_addr& addr);
  void set_selection_key(const mr_selection_key& key) { selection_key_ = key; }
  void set_lookup_seed(std::uint64_t seed) { lookup_seed_ = seed; }

  // Builds and checks an image; aborts with the reason when core::check_image() refuses it. A slot
  // whose target differs from `previous` names the old one as `prev`, as within the drain window.
  [[nodiscard]] Image build(std::uint64_t generation, const Image* previous = nullptr) const;

 private:
  class Arena;
  struct Target {
    std::uint32_t id;
    std::uint32_t member_index;  // in its group
    TargetSpec spec;
  };
  struct Listener {
    std::uint32_t id;
    ListenerSpec spec;
  };
  struct Group {
    std::uint32_t id;
    GroupSpec spec;
    std::vector<std::uint32_t> members;  // target slots
  };
  struct Table {
    std::vector<mr_lookup_slot> slots;  // empty when no target gets new flows
    std::uint64_t digest = 0;
  };

  [[nodiscard]] static std::string text_of(const mr_addr& addr) {
    return {std::begin(addr.bytes), std::end(addr.bytes)};
  }
  [[nodiscard]] std::vector<mr_table_entry> listener_table(
      std::vector<mr_port_range>& ranges) const;
  [[nodiscard]] std::vector<mr_port_range> ranges_of(const ListenerSpec& first) const;
  [[nodiscard]] std::vector<mr_table_entry> reverse_table() const;
  [[nodiscard]] std::uint32_t reply_listener(std::uint32_t group_slot, std::uint8_t protocol) const;
  [[nodiscard]] bool is_asked_of_machine(const mr_table_entry& entry) const;
  void write_asked_ports(mr_table_entry& entry, std::uint32_t group_slot) const;
  void enter_reverse(std::vector<mr_table_entry>& table, std::uint32_t slot,
                     std::uint8_t protocol) const;
  [[nodiscard]] Table lookup_table(std::uint32_t group_slot, const Image* previous) const;
  [[nodiscard]] std::vector<mr_listener> listeners() const;
  [[nodiscard]] std::vector<mr_target> targets() const;
  [[nodiscard]] std::vector<mr_target_group> write_groups(Arena& arena,
                                                          const Image* previous) const;
  [[nodiscard]] mr_image write_arrays(Arena& arena, const Image* previous) const;

  std::vector<Group> groups_;
  std::vector<Target> targets_;
  std::vector<Listener> listeners_;
  std::map<std::string, std::uint32_t> vip_flags_;  // enum mr_vip_flag, by the address's bytes
  std::vector<mr_addr> local_addrs_;
  std::vector<mr_local_mac> local_macs_;
  std::vector<mr_vlan> vlans_;
  mr_next_hop default_next_hop_v4_{};
  mr_next_hop default_next_hop_v6_{};
  mr_encap_source encap_source_v4_{};
  mr_encap_source encap_source_v6_{};
  std::array<mr_nic_addrs, MR_NIC_COUNT_MAX> nic_addrs_{};
  mr_selection_key selection_key_{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::uint64_t lookup_seed_ = 0;
  std::uint32_t next_id_ = 1;
};

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// The maps of the XDP engine in plain memory, with no program: what the daemon does with them is
// the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bpf/engine/maps.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {

struct MapsOptions {
  std::uint32_t flows = 64;
  std::uint32_t config_lines = 4096;
  std::uint32_t cpus = 2;
  std::uint32_t listener_slots = 8;
  std::uint32_t target_slots = 8;
};

class EngineMaps {
 public:
  explicit EngineMaps(const MapsOptions& options = {})
      : config_lines_(options.config_lines),
        flows_(options.flows),
        last_hops_(MR_LAST_HOP_COUNT),
        no_room_(2 * MR_XDP_NO_ROOM_WORDS),
        cpus_(options.cpus),
        listener_stats_(std::size_t{options.cpus + 1} * options.listener_slots),
        target_stats_(std::size_t{options.cpus + 1} * options.target_slots) {
    control_.flow_mask = options.flows - 1;
    control_.cpu_count = options.cpus;
    control_.listener_slots = options.listener_slots;
    control_.target_slots = options.target_slots;
    std::uint32_t word = 0x9e3779b9;
    for (std::uint32_t& secret : control_.flow_secret) secret = word = word * 2654435761u + 1;
    control_.flow_multiplier = 0xd6e8feb86659fd93u;
  }
  EngineMaps(const EngineMaps&) = delete;  // maps() points into it
  EngineMaps& operator=(const EngineMaps&) = delete;

  [[nodiscard]] xdp::Maps maps() {
    return {.control = &control_,
            .config_lines = config_lines_,
            .flows = flows_,
            .last_hops = last_hops_,
            .no_room = no_room_,
            .cpus = cpus_,
            .listener_stats = listener_stats_,
            .target_stats = target_stats_};
  }
  [[nodiscard]] mr_xdp_control& control() { return control_; }
  [[nodiscard]] const mr_xdp_root& root() const { return control_.roots[control_.active & 1]; }

 private:
  mr_xdp_control control_{};
  std::vector<mr_config_line> config_lines_;
  std::vector<mr_flow_record> flows_;
  std::vector<mr_xdp_last_hop> last_hops_;
  std::vector<std::uint64_t> no_room_;
  std::vector<mr_xdp_cpu> cpus_;
  std::vector<mr_listener_stats> listener_stats_;
  std::vector<mr_target_stats> target_stats_;
};

// A listener on TCP and one on UDP, a group of three targets for each.
class Config {
 public:
  ImageBuilder builder;

  Config() {
    for (const std::uint8_t protocol : {MR_PROTOCOL_TCP, MR_PROTOCOL_UDP}) {
      const std::uint32_t group = builder.add_group({});
      for (const char* addr : {"10.0.1.11", "10.0.1.12", "10.0.1.13"}) {
        builder.add_target(
            {.group_slot = group, .addr = addr_of(addr), .port = 8080, .protocol = protocol});
      }
      builder.add_listener({.vip_addr = addr_of("203.0.113.10"),
                            .port = 80,
                            .protocol = protocol,
                            .group_slot = group});
    }
  }
};

inline constexpr std::uint32_t kTcpListener = 0;
inline constexpr std::uint32_t kUdpListener = 1;

// A flow of client `port` to the first target of the listener.
[[nodiscard]] inline mr_flow_record flow_of(const core::ConfigView& view, std::uint16_t port,
                                            std::uint32_t listener, mr_flow_state state) {
  mr_flow_record flow{};
  const std::uint32_t target = listener * 3;
  flow.client_addr = addr_of("192.0.2.100");
  flow.client_port_be = port;
  flow.protocol = view.listeners[listener].protocol;
  flow.state = state;
  flow.listener_slot = static_cast<std::uint16_t>(listener);
  flow.listener_id = view.listeners[listener].id;
  flow.target_slot = target;
  flow.target_id = view.targets[target].id;
  return flow;
}

}  // namespace millrace::test

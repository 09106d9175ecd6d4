// SPDX-License-Identifier: Apache-2.0
//
// What the world around says to an image: ways to targets, default next hops, the node's own
// addresses, and what encapsulated packets are sent from. Cold; time is an argument.
//
// After a restart, the image in force stands in for what the kernel has not been asked about yet: a
// restart of the control plane must not cost a packet.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/net/route_watch.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/engine_watch.h"
#include "controlplane/reconcile/image_plan.h"
#include "controlplane/reconcile/path_mtus.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

class SurroundingsReader {
 public:
  // So long may the kernel take for its first answers.
  static constexpr std::uint64_t kGraceNs = 5 * kSecondNs;

  // All must outlive this object; `opened_at_ns` is when the kernel was asked first.
  SurroundingsReader(const RouteWatch& routes, const PathMtus& path_mtus, const EngineWatch& engine,
                     std::uint64_t opened_at_ns)
      : routes_(routes), path_mtus_(path_mtus), engine_(engine), opened_at_ns_(opened_at_ns) {}

  // `in_force` must be valid while the answer is used.
  [[nodiscard]] FindWay way_to_targets(const core::ConfigView& in_force,
                                       std::uint64_t now_ns) const;
  [[nodiscard]] Surroundings read(const ControlState& state, const core::ConfigView& in_force,
                                  std::uint64_t now_ns) const;

  [[nodiscard]] bool is_grace_over(std::uint64_t now_ns) const {
    return now_ns >= opened_at_ns_ + kGraceNs;
  }

 private:
  [[nodiscard]] core::ConfigView stand_in(const core::ConfigView& in_force,
                                          std::uint64_t now_ns) const;
  [[nodiscard]] FindWay find_way(std::vector<mr_vlan> vlans, const core::ConfigView& before) const;
  // The VLANs that there are now, in the slots that they have in the image in force.
  [[nodiscard]] std::vector<mr_vlan> vlans_now(const core::ConfigView& in_force) const;
  [[nodiscard]] std::vector<VlanLink> vlans_on_nics() const;
  // Index of a nic by its twin, or of a VLAN by its interface; nothing where it is neither.
  [[nodiscard]] std::optional<std::uint8_t> nic_of(std::uint32_t link_index,
                                                   std::span<const mr_vlan> vlans) const;
  void read_default_next_hops(const mr_image* before, Surroundings& around) const;
  void read_own_addresses(const core::ConfigView& before, Surroundings& around) const;
  void read_nic_addresses(const ControlState& state, const mr_image* before,
                          Surroundings& around) const;
  [[nodiscard]] mr_encap_source encap_source(AddressFamily family, const ControlState& state,
                                             const mr_image* before) const;
  [[nodiscard]] std::optional<mr_next_hop> resolved(const std::optional<NextHopInfo>& hop,
                                                    std::span<const mr_vlan> vlans) const;

  const RouteWatch& routes_;
  const PathMtus& path_mtus_;
  const EngineWatch& engine_;
  std::uint64_t opened_at_ns_;
};

}  // namespace millrace::control

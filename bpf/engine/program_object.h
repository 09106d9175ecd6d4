// SPDX-License-Identifier: Apache-2.0
//
// What program.cc and program_attach.cc share: libbpf's side of a Program. Cold.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <nlb_xdp.skel.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bpf/engine/program.h"

namespace millrace::xdp {

constexpr std::size_t kSharedMaps = 9;
constexpr std::size_t kConfigLinesMap = 0;  // in shared_maps()
constexpr int kOwnMap = -1;                 // in the place of a descriptor

struct ClockReading {
  std::uint64_t jiffies = 0;
  std::uint64_t ktime_ns = 0;
};

// Why the kernel did not take a program, from errno's number.
[[nodiscard]] Error load_error(int error);

struct Program::Object {
  nlb_xdp* skeleton = nullptr;
  ~Object() { nlb_xdp__destroy(skeleton); }

  struct NamedMap {
    const char* name;
    bpf_map* map;
  };
  // Those that outlive the daemon.
  [[nodiscard]] std::array<NamedMap, kSharedMaps> shared_maps() const {
    auto& maps = skeleton->maps;
    return {{{"config_lines", maps.config_lines},
             {"control", maps.data_control},
             {"cpus", maps.cpus},
             {"flows", maps.flows},
             {"last_hops", maps.last_hops},
             {"listener_stats", maps.listener_stats},
             {"no_room", maps.no_room},
             {"target_stats", maps.target_stats},
             {"tx_nics", maps.tx_nics}}};
  }
  [[nodiscard]] int program() const { return ::bpf_program__fd(skeleton->progs.nlb_xdp); }
  // Descriptors of shared_maps(), once it is loaded.
  [[nodiscard]] std::array<int, kSharedMaps> map_fds() const {
    std::array<int, kSharedMaps> fds{};
    std::ranges::transform(shared_maps(), fds.begin(),
                           [](const NamedMap& shared) { return ::bpf_map__fd(shared.map); });
    return fds;
  }
  // Before it is loaded: `maps` in the place of its own, in the order of shared_maps(), but for
  // those that are kOwnMap.
  [[nodiscard]] Status use_maps(std::span<const int> maps) const;
  [[nodiscard]] Result<ClockReading> read_clock() const;
  // The length of a jiffy in ns; 0 when what was measured fits none.
  [[nodiscard]] Result<std::uint64_t> measure_jiffy() const;
};

}  // namespace millrace::xdp

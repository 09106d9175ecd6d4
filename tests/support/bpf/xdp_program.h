// SPDX-License-Identifier: Apache-2.0
//
// The XDP program in this kernel without a daemon: loaded, its maps mapped, run packet by packet by
// BPF_PROG_TEST_RUN. For tests and benchmarks; needs CAP_BPF, no network interface. Cold.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpf/engine/config_mirror.h"
#include "bpf/engine/maps.h"
#include "dataplane/core/config_view.h"
#include "tests/support/bpf/bpf_interpreter.h"

struct bpf_object;
struct bpf_program;

namespace millrace::test {

class XdpProgram {
 public:
  struct Options {
    std::span<const std::byte> object;      // the ELF file, as the skeleton holds it
    std::uint32_t flow_count = 2048;        // a power of two
    std::uint32_t config_lines = 1u << 15;  // room for two images
    std::uint32_t slot_count = 64;          // of listener and target counters
    bool is_under_test = true;              // time and nic come from `control`
  };

  // Ends the process when the program can't be loaded: nothing else can be tested then.
  explicit XdpProgram(const Options& options);
  ~XdpProgram();
  XdpProgram(const XdpProgram&) = delete;
  XdpProgram& operator=(const XdpProgram&) = delete;

  // As freshly loaded: no flow, no config, no count; tables, budgets and secrets set.
  void reset();
  // Nic `nic` has this address and is this interface.
  void set_nic(std::uint32_t nic, std::span<const std::uint8_t, 6> mac, std::uint32_t ifindex);
  // Makes an image the config in force, by the daemon's own mirror.
  void adopt(const core::ConfigView& view);

  [[nodiscard]] const xdp::Maps& maps() const { return maps_; }
  struct Run {
    std::uint32_t verdict;            // enum xdp_action
    std::uint32_t duration_ns;        // per turn, by the kernel
    std::vector<std::uint8_t> frame;  // as the program left it; empty when not asked for
  };
  // Runs program `name` on `frame` (at least an Ethernet header), `turns` times on its own output,
  // and returns the last.
  [[nodiscard]] Run run(const std::string& name, std::span<const std::uint8_t> frame,
                        std::uint32_t turns, bool wants_frame) const;
  // Runs program `name` on `packets` frames that the kernel then handles like a nic's, in turns of
  // `burst`, and returns nanoseconds per packet by the kernel's clock, which leaves out what it
  // takes to prepare and to end a run. Needs CAP_NET_ADMIN.
  [[nodiscard]] double run_live(const std::string& name, std::span<const std::uint8_t> frame,
                                std::uint32_t packets, std::uint32_t burst) const;
  // Puts program `name` on an interface (native mode), in place of one that is there.
  void attach(const std::string& name, std::uint32_t ifindex) const;
  // Program `name` as the kernel was given it, on the same maps.
  [[nodiscard]] BpfInterpreter interpreter(const std::string& name) const;
  struct Size {
    std::uint32_t loaded_instructions;
    std::uint32_t verified_instructions;  // that the verifier looked at, over all paths
  };
  [[nodiscard]] Size size(const std::string& name) const;
  // The value of a map of global variables (".data.bench"), mapped.
  template <typename T>
  [[nodiscard]] T* globals(const std::string& map) const {
    return reinterpret_cast<T*>(map_memory(map).data());
  }

 private:
  [[nodiscard]] const bpf_program* find_program(const std::string& name) const;
  [[nodiscard]] int program_fd(const std::string& name) const;
  [[nodiscard]] int map_fd(const std::string& name) const;
  void empty_hash(const std::string& name) const;
  [[nodiscard]] std::span<std::byte> map_memory(const std::string& name) const;
  template <typename T>
  [[nodiscard]] std::span<T> values(const std::string& name) const;

  Options options_;
  bpf_object* object_;
  xdp::Maps maps_;
  std::optional<xdp::ConfigMirror> mirror_;
};

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// The XDP program in the kernel: its maps, new or an earlier daemon's, and its attachments. Cold.
// Beside it only pins.cc, chain.cc and attach_error.cc use libbpf.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpf/engine/maps.h"
#include "bpf/engine/nics.h"
#include "bpf/engine/pins.h"
#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::xdp {

enum class Mode {
  native,   // in the driver, before the kernel has made anything of the frame
  generic,  // in the kernel's stack: any driver, slow; a last resort
};

struct Attachment {
  Mode mode = Mode::native;
  // Beside other programs, by libxdp's dispatcher: those with a lower number are before ours.
  std::optional<std::uint32_t> chain_priority = std::nullopt;
};

struct ProgramOptions {
  std::uint32_t config_lines = 0;  // of new maps; pinned ones may have grown
  std::uint32_t flows = 0;         // a power of two
  std::uint32_t cpu_count = 0;
  std::uint32_t listener_slots = 0;
  std::uint32_t target_slots = 0;
  bool is_for_chains = false;  // libxdp will load the program itself, once for each interface
};

// The pinned flows, for a daemon that does not go on with the maps, and for detaching.
struct FormerFlows {
  os::Mapping flows_memory;
  os::Mapping last_hops_memory;
  std::span<mr_flow_record> flows;
  std::span<mr_xdp_last_hop> last_hops;
};

[[nodiscard]] Result<FormerFlows> pinned_flows(const Pins& pins);

class Program {
 public:
  // Loads it, with the pinned maps if all of them are there and have these sizes (but for
  // config_lines, which may have any).
  [[nodiscard]] static Result<Program> load(const ProgramOptions& options, const Pins& pins);
  Program(Program&& other) noexcept;
  Program& operator=(Program&& other) noexcept;
  ~Program();

  [[nodiscard]] const Maps& maps() const { return maps_; }
  // The maps are an earlier daemon's, with its flows, and its programs may be using them.
  [[nodiscard]] bool has_kept_maps() const { return why_new_maps_.empty(); }
  // Otherwise: why not.
  [[nodiscard]] const std::string& why_new_maps() const { return why_new_maps_; }

  // Fills control.ns_per_jiffy and clock_offset_ns. Takes about a fifth of a second.
  [[nodiscard]] Status set_clock();
  // nics[i] is nic i of the config, for sending and in `control`. In kept maps an earlier daemon's
  // program uses them at once: after attach() there. Until then a program leaves the frames of an
  // interface that is new to the kernel.
  [[nodiscard]] Status set_nics(const std::vector<Nic>& nics);

  // Attaches it to `nics`, in the place of an earlier daemon's programs without a gap, and detaches
  // those from all other interfaces. From then on it forwards.
  // On failure all are as before, but where it joins a chain or leaves one.
  [[nodiscard]] Status attach(const std::vector<Nic>& nics, const Attachment& how,
                              const Pins& pins);
  // Whether this program sees the frames of `nic`: somebody may have detached it.
  [[nodiscard]] bool is_attached_to(const Nic& nic, const Attachment& how);
  [[nodiscard]] Status attach_again(const Nic& nic, const Attachment& how, const Pins& pins) const;
  [[nodiscard]] Status pin_maps(const Pins& pins) const;

  // Puts a program in the place of this one that has `lines` lines for configs, at least as many as
  // before, with the same contents, and all other maps in common: for packets nothing happens. On
  // failure nothing has changed. maps().config_lines is another memory then. Refused for chains.
  [[nodiscard]] Status grow_config(std::uint32_t lines, const std::vector<Nic>& nics, Mode mode,
                                   const Pins& pins);

 private:
  struct Object;  // libbpf's
  explicit Program(std::unique_ptr<Object> object);
  [[nodiscard]] static std::unique_ptr<Object> open(const ProgramOptions& options);
  [[nodiscard]] Status map_memory();
  [[nodiscard]] Status attach_alone(const std::vector<Nic>& nics, Mode mode, const Pins& pins);
  [[nodiscard]] Status attach_in_chains(const std::vector<Nic>& nics, const Attachment& how,
                                        const Pins& pins) const;
  [[nodiscard]] Status attach_in_chain(const Nic& nic, const Attachment& how,
                                       const Pins& pins) const;
  [[nodiscard]] Status replace_attached(const std::vector<Nic>& nics, Mode mode, const Pins& pins);
  // The first that the kernel refuses, and errno; nothing when all are taken.
  std::optional<std::uint32_t> send_to(const std::array<mr_xdp_nic, MR_NIC_COUNT_MAX>& nics,
                                       std::size_t count);
  [[nodiscard]] Result<std::uint64_t> ns_per_jiffy();

  std::unique_ptr<Object> object_;
  std::vector<os::Mapping> memory_;
  Maps maps_;
  std::string why_new_maps_;
  ProgramOptions options_;
  bool is_attached_ = false;
  std::map<std::uint32_t, std::uint32_t> dispatchers_;  // by interface: the last one with us behind
};

}  // namespace millrace::xdp

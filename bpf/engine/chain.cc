// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/chain.h"

#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>
#include <xdp/libxdp.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/engine/attach_error.h"

namespace millrace::xdp {

namespace {

constexpr const char* kProgramName = "nlb_xdp";
constexpr std::uint32_t kNone = 0;  // no program's id

struct CloseProgram {
  void operator()(xdp_program* program) const { ::xdp_program__close(program); }
};
struct CloseChain {
  void operator()(xdp_multiprog* chain) const { ::xdp_multiprog__close(chain); }
};
using ProgramHandle = std::unique_ptr<xdp_program, CloseProgram>;
using ChainHandle = std::unique_ptr<xdp_multiprog, CloseChain>;

// libxdp returns errors in place of pointers, which must not be closed.
template <typename Handle>
Handle handle_of(typename Handle::pointer returned) {
  return Handle(::libxdp_get_error(returned) == 0 ? returned : nullptr);
}

__attribute__((format(printf, 2, 0))) int log_of_libxdp(libxdp_print_level, const char* format,
                                                        va_list arguments) {
  std::array<char, 1024> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) spdlog::debug("libxdp: {}", text.data());
  return length;
}

// Nothing when the interface has no program, or one that is no dispatcher.
ChainHandle chain_of(std::uint32_t ifindex) {
  auto chain = handle_of<ChainHandle>(::xdp_multiprog__get_from_ifindex(static_cast<int>(ifindex)));
  if (chain != nullptr && ::xdp_multiprog__is_legacy(chain.get())) chain.reset();
  return chain;
}

// Of our programs in the chain, whichever daemon loaded them.
std::vector<std::uint32_t> own_ids(const xdp_multiprog* chain) {
  std::vector<std::uint32_t> found;
  for (xdp_program* program = ::xdp_multiprog__next_prog(nullptr, chain); program != nullptr;
       program = ::xdp_multiprog__next_prog(program, chain)) {
    if (std::string_view(::xdp_program__name(program)) == kProgramName) {
      found.push_back(::xdp_program__id(program));
    }
  }
  return found;
}

Status detach_all_but(std::uint32_t kept, std::uint32_t ifindex) {
  const ChainHandle chain = chain_of(ifindex);
  if (chain == nullptr) return ok();
  for (const std::uint32_t id : own_ids(chain.get())) {
    if (id == kept) continue;
    const auto program = handle_of<ProgramHandle>(::xdp_program__from_id(id));
    if (program == nullptr) continue;  // gone meanwhile
    const int error = ::xdp_program__detach(program.get(), static_cast<int>(ifindex),
                                            ::xdp_multiprog__attach_mode(chain.get()), 0);
    if (error == 0) continue;
    const std::string name = interface_text(ifindex);
    errno = -error;
    return os::os_error(name +
                        ": the earlier program does not leave the chain (xdp-loader status)");
  }
  return ok();
}

}  // namespace

Status check_chains() {
  if (::libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, nullptr) == 1) return ok();
  return Error{
      "--chain: this kernel chains no XDP programs (it refuses BPF_PROG_TYPE_EXT, which Linux 5.10 "
      "and newer have on x86-64 with BTF and BPF trampolines); without --chain the interface is "
      "for Millrace alone"};
}

bool is_shared(std::uint32_t ifindex) {
  (void)::libxdp_set_print(log_of_libxdp);
  const ChainHandle chain = chain_of(ifindex);
  return chain != nullptr && static_cast<std::size_t>(::xdp_multiprog__program_count(chain.get())) >
                                 own_ids(chain.get()).size();
}

bool is_in_chain(std::uint32_t ifindex) {
  (void)::libxdp_set_print(log_of_libxdp);
  const ChainHandle chain = chain_of(ifindex);
  return chain != nullptr && !own_ids(chain.get()).empty();
}

Status join_chain(bpf_object* part, const Nic& nic, const Attachment& how) {
  (void)::libxdp_set_print(log_of_libxdp);
  xdp_program_opts options{};
  options.sz = sizeof(options);
  options.obj = part;
  options.prog_name = kProgramName;
  const auto program = handle_of<ProgramHandle>(::xdp_program__create(&options));
  if (program == nullptr) return Error{"libxdp does not take the program"};
  (void)::xdp_program__set_run_prio(program.get(), *how.chain_priority);  // is not attached yet
  const auto ifindex = static_cast<int>(nic.ifindex);
  const auto mode = how.mode == Mode::native ? XDP_MODE_NATIVE : XDP_MODE_SKB;
  if (const int error = ::xdp_program__attach(program.get(), ifindex, mode, 0); error != 0) {
    return attach_error(nic, how.mode, -error);
  }
  if (chain_of(nic.ifindex) == nullptr) {
    // What libxdp does where it finds no dispatcher or no bpf file system for its pins.
    (void)::xdp_program__detach(program.get(), ifindex, mode, 0);
    return Error{nic.name + ": libxdp attached the program without its dispatcher (is " +
                 "xdp-dispatcher.o installed, and a bpf file system on /sys/fs/bpf?)"};
  }
  return detach_all_but(::xdp_program__id(program.get()), nic.ifindex);
}

Status leave_chain(std::uint32_t ifindex, const Pins& pins) {
  (void)::libxdp_set_print(log_of_libxdp);
  if (Status detached = detach_all_but(kNone, ifindex); !detached) return detached;
  return pins.remove_chain(ifindex);
}

}  // namespace millrace::xdp

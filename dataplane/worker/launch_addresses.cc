// SPDX-License-Identifier: Apache-2.0
//
// The nics' MAC addresses and what else the link layer wants of an engine that has no kernel in
// front: tags that stay in frames, further addresses of the node. Cold; the main thread.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "dataplane/os/interface.h"
#include "dataplane/os/xdp_program.h"
#include "dataplane/worker/launch.h"

namespace millrace::worker {

namespace {

// That DPDK's driver can attach its own program, or go on with what an earlier engine left. What
// cannot be asked for is left to the driver.
Status check_program(const std::string& interface) {
  const auto [id, is_generic] = dpdk::xdp_program(interface).value_or(dpdk::XdpProgram{});
  const std::string name = id == 0 ? "" : os::name_of_xdp_program(id);
  if (name.empty() || name == "xsk_def_prog" || name == "xdp_dispatcher") return ok();
  return Error{"nic " + os::interface_has_program(interface, id, is_generic).message};
}

}  // namespace

Status Engine::prepare_interface(const std::string& device) const {
  if (!dpdk::Nic::is_interface(device)) return ok();
  if (Status free = check_program(device); !free) return free;
  const Result<std::vector<std::string>> changed = os::keep_vlan_tags(device);
  if (!changed) return changed.error().within("nic " + device);
  for (const std::string& interface : *changed) {
    spdlog::info("interface {}: leaves VLAN tags in frames from now on (rxvlan off)", interface);
  }
  return ok();
}

// Somebody, or a driver that begins anew, may switch the offload on again. The engine has given up
// what it would need to switch it off.
void Engine::watch_tags() {
  std::string problem;
  for (const auto& nic : nics_) {
    if (!dpdk::Nic::is_interface(nic->name()) || nic->is_gone()) continue;
    const Result<std::vector<std::string>> kept = os::keep_vlan_tags(nic->name());
    if (!kept) problem = "nic " + kept.error().message;
  }
  if (problem == tags_problem_) return;
  if (problem.empty()) {
    spdlog::info("over: {}", tags_problem_);
  } else {
    spdlog::error("{}", problem);
  }
  tags_problem_ = problem;
}

// AF_XDP's sockets and the twin's descriptor stay with an interface that somebody renames: a new
// name changes nothing but what is shown, and what the next start must be told.
void Engine::follow_names() {
  for (std::size_t nic = 0; nic < nics_.size(); ++nic) {
    const std::string name = os::name_of_interface(nics_[nic]->interface_index());
    const bool is_renamed = !name.empty() && name != nics_[nic]->name();
    std::string& twin = options_.nics[nic].twin;
    const std::string twin_now = twins_[nic] ? twins_[nic]->name() : "";
    const bool is_twin_renamed = !twin_now.empty() && twin_now != twin;
    if (is_renamed) {
      spdlog::warn("nic {}: is called {} now and forwards as before; the next start needs --nic {}",
                   nics_[nic]->name(), name, name);
      nics_[nic]->rename(name);
    }
    if (is_twin_renamed) {
      spdlog::warn(
          "twin {}: is called {} now and carries what it did; the next start needs --twin "
          "{}",
          twin, twin_now, twin_now);
      twin = twin_now;
      memberships_->rename(nic, twin);
    }
    if (is_renamed || is_twin_renamed) {
      stats_->set_names(static_cast<std::uint32_t>(nic), nics_[nic]->name(), twin);
    }
  }
}

// A bond that fails over, a virtual machine that moves, an operator. The twin's goes with it:
// neighbours must see one machine, whether the engine or the kernel answers them.
void Engine::watch_macs(std::uint64_t now_ns) {
  for (std::uint32_t nic = 0; nic < nics_.size(); ++nic) {
    const std::optional<core::MacAddr> mac = mac_now(nic);
    if (!mac || *mac == nic_macs_.get(nic)) continue;
    spdlog::info("nic {}: has another MAC address, VIPs are announced anew", nics_[nic]->name());
    nic_macs_.set(nic, *mac);
    stats_->set_mac(nic, *mac);
    announcer_->set_mac(nic, *mac);
    announcer_->repeat(now_ns);
    if (!twins_[nic]) continue;
    const Status set = twins_[nic]->set_mac(options_.nics[nic].twin, *mac);
    if (!set) spdlog::warn("{}", set.error().message);
  }
}

// AF_XDP's driver knows what the interface had when it was opened.
std::optional<core::MacAddr> Engine::mac_now(std::size_t nic) const {
  if (!dpdk::Nic::is_interface(options_.nics[nic].device)) return nics_[nic]->read_mac();
  if (nics_[nic]->is_gone()) return std::nullopt;  // whoever has its name
  const Result<core::MacAddr> mac = os::mac_of_interface(nics_[nic]->name());
  return mac ? std::optional(*mac) : std::nullopt;
}

void Engine::accept_local_macs(const core::ConfigView& view) {
  for (std::size_t nic = 0; nic < nics_.size(); ++nic) {
    const auto index = static_cast<std::uint8_t>(nic);
    nics_[nic]->accept(core::further_macs(view, index, nic_macs_.get(nic)));
  }
}

}  // namespace millrace::worker

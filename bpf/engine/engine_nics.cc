// SPDX-License-Identifier: Apache-2.0
//
// The engine's nics while it runs: their names, links and addresses, what they drop, and that the
// program stays on them. Cold.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bpf/engine/engine.h"
#include "dataplane/core/counted.h"
#include "dataplane/os/interface.h"

namespace millrace::xdp {

// Program and maps know an interface by its index, and so do those who forward by it: a new name
// changes nothing but what is shown, and what the next start must be told.
void Engine::follow_names() {
  for (std::uint32_t nic = 0; nic < nics_.size(); ++nic) {
    const std::string before = nics_[nic].name;
    if (!follow_name(nics_[nic])) continue;
    const std::string& name = nics_[nic].name;
    stats_->set_names(nic, name, name);
    memberships_->rename(nic, name);
    spdlog::warn(
        "interface {}: is called {} now and forwards as before; the next start needs "
        "--interface {}",
        before, name, name);
  }
}

// The switch behind a link that was down has forgotten where VIPs are, or is another one. Groups
// the kernel reports again by itself.
void Engine::watch_links(std::uint64_t now_ns) {
  keep_tags();  // before a member is one
  follow_members();
  links_up_.resize(nics_.size(), true);
  attach_problems_.resize(nics_.size());
  for (std::uint32_t nic = 0; nic < nics_.size(); ++nic) {
    const bool has_program = keep_attached(nic);
    const bool has_link = link_is_up(nics_[nic]);
    const bool is_up = has_program && has_link;
    stats_->set_program(nic, has_program);
    stats_->set_link(nic, has_link);
    publish_drops(nic);
    // Another nic may be on the wire of one that has lost its link.
    if (is_up ? !links_up_[nic] : links_up_[nic] && nics_.size() > 1) announcer_->repeat(now_ns);
    links_up_[nic] = is_up;
  }
}

// More members are written from the last on, fewer from the first: so each that stays is there all
// the time, also while it moves to another place, and no packet of its goes to the kernel.
void Engine::follow_members() {
  std::vector<std::uint64_t> wanted;
  for (std::uint64_t nic = 0; nic < nics_.size(); ++nic) {
    for (const std::uint32_t ifindex : bond_members(nics_[nic])) {
      wanted.push_back(ifindex | nic << 32);
    }
  }
  const auto members = std::span(program_->maps().control->members);
  if (wanted.size() > members.size() && members_ != wanted) {
    spdlog::error("bonds have {} members, of which {} are served", wanted.size(), members.size());
  }
  const bool are_more = wanted.size() > members_.size();
  members_ = wanted;
  wanted.resize(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::size_t place = are_more ? members.size() - 1 - i : i;
    std::atomic_ref(members[place]).store(wanted[place], std::memory_order_release);
  }
}

// Also where somebody switches the offload on again, and of members that a bond gets later: those
// are as their drivers made them.
void Engine::keep_tags() {
  std::string problem;
  for (const Nic& nic : nics_) {
    const Result<std::vector<std::string>> changed = os::keep_vlan_tags(nic.name);
    if (!changed) problem = changed.error().message;
    if (!changed) continue;
    for (const std::string& interface : *changed) {
      spdlog::warn("interface {}: took VLAN tags off, and leaves them in frames from now on",
                   interface);
    }
  }
  if (problem != tags_problem_ && !problem.empty()) spdlog::error("{}", problem);
  tags_problem_ = problem;
}

// An interface from which somebody has taken the program forwards as little as one without a link,
// and is reported as lacking it unless the program can be put there again.
bool Engine::keep_attached(std::uint32_t index) {
  const Nic& nic = nics_[index];
  std::string& told = attach_problems_[index];
  if (program_->is_attached_to(nic, options_.attachment)) {
    told.clear();
    return true;
  }
  if (is_gone(nic)) {
    constexpr const char* kGone =
        "is gone, so that nothing comes in or leaves by it: restart the daemon when it is back";
    if (std::exchange(told, kGone) != kGone) spdlog::error("{}: {}", nic.name, kGone);
    return false;
  }
  const Status again = program_->attach_again(nic, options_.attachment, *pins_);
  const std::string said = again ? "attached again" : again.error().message;
  if (again || said != told) {
    spdlog::error("{}: somebody has detached the program: {}", nic.name, said);
  }
  told = again ? "" : said;
  return static_cast<bool>(again);
}

// A bond that fails over, a virtual machine that moves, an operator.
void Engine::watch_macs(std::uint64_t now_ns) {
  for (std::uint32_t nic = 0; nic < nics_.size(); ++nic) {
    if (is_gone(nics_[nic])) continue;  // whoever has its name
    const Result<core::MacAddr> mac = os::mac_of_interface(nics_[nic].name);
    if (!mac || *mac == nics_[nic].mac) continue;
    spdlog::info("interface {}: has another MAC address, VIPs are announced anew", nics_[nic].name);
    nics_[nic].mac = *mac;
    // A packet in this very moment may see half of each and be for nobody.
    std::copy(mac->bytes.begin(), mac->bytes.end(), program_->maps().control->nics[nic].mac);
    stats_->set_mac(nic, *mac);
    announcer_->set_mac(nic, *mac, now_ns);
  }
}

void Engine::publish_drops(std::uint32_t nic) {
  mr_nic counted{};
  count_drops(nics_[nic], counted);
  const mr_nic& before = drops_before_[nic];
  counted.rx_missed -= std::min(counted.rx_missed, before.rx_missed);
  counted.rx_errors -= std::min(counted.rx_errors, before.rx_errors);
  counted.tx_dropped -= std::min(counted.tx_dropped, before.tx_dropped);
  stats_->set_drops(nic, counted);
  if (counted.tx_dropped == 0 || has_told_of_drops_[nic]) return;
  has_told_of_drops_[nic] = true;
  // No error: any full queue loses a few. When it goes on, an alarm tells.
  spdlog::warn("interface {}: its driver dropped {} that it was given to send: {}", nics_[nic].name,
               core::counted(counted.tx_dropped, "frame"), cause_of_lost_sends(nics_[nic]));
}

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
//
// The engine's nics while it runs: their links, what they drop, and that their frames reach the
// workers. Cold; the main thread.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "dataplane/worker/launch.h"

namespace millrace::worker {

// The switch behind a link that was down has forgotten where VIPs are, or is another one.
void Engine::watch_links(std::uint64_t now_ns) {
  for (std::uint32_t nic = 0; nic < nics_.size(); ++nic) {
    watch_program(nic);
    if (nics_[nic]->bond()) watch_bond(nic, now_ns);
    const bool is_up = nics_[nic]->link_is_up();
    if (is_up == links_up_[nic]) continue;
    links_up_[nic] = is_up;
    stats_->set_link(nic, is_up);
    if (twins_[nic]) twins_[nic]->set_carrier(is_up);
    if (!is_up) {
      spdlog::warn("nic {}: no link", nics_[nic]->name());
      if (nics_.size() > 1) announcer_->repeat(now_ns);  // another may be on the same wire
      continue;
    }
    spdlog::info("nic {}: link", nics_[nic]->name());
    announcer_->repeat(now_ns);
    memberships_->renew(nic);
  }
}

// The driver has others carry by itself. What is left to say: to the operator who is missing, and
// to the switches by which member they find the bond now.
void Engine::watch_bond(std::uint32_t nic, std::uint64_t now_ns) {
  const dpdk::Bond& bond = *nics_[nic]->bond();
  const std::string& name = nics_[nic]->name();
  std::vector<dpdk::IdleMember> idle = bond.idle_members();
  std::vector<dpdk::IdleMember>& known = idle_members_[nic];
  for (const dpdk::IdleMember& member : idle) {
    if (std::ranges::count(known, member) != 0) continue;
    spdlog::warn("nic {}: its member {} {}", name, member.name, member.why);
  }
  for (const dpdk::IdleMember& member : known) {
    if (std::ranges::count(idle, member.name, &dpdk::IdleMember::name) != 0) continue;
    spdlog::info("nic {}: its member {} is there", name, member.name);
  }
  if (idle != known) stats_->set_idle_members(nic, idle.size());
  known = std::move(idle);
  const std::uint16_t carrier = bond.carrier();
  if (carrier == carriers_[nic]) return;
  carriers_[nic] = carrier;
  announcer_->repeat(now_ns);
  memberships_->renew(nic);
}

// Without its program the nic's frames go to the kernel. The twin keeps its carrier: what the
// kernel takes of them for the node itself it answers by the twin, which may be the operator's way
// in.
void Engine::watch_program(std::uint32_t nic) {
  const bool is_lost = nics_[nic]->has_lost_program();
  if (is_lost == lost_programs_[nic]) return;
  lost_programs_[nic] = is_lost;
  stats_->set_program(nic, !is_lost);
  const std::string& name = nics_[nic]->name();
  if (!is_lost) {
    spdlog::info("nic {}: has its XDP program again", name);
    return;
  }
  if (nics_[nic]->is_gone()) {
    spdlog::error(
        "nic {}: was taken away from this engine, so that nothing comes in or leaves by it: "
        "restart the engine when it is back",
        name);
    return;
  }
  spdlog::error(
      "nic {}: somebody took off its XDP program, so that nothing that comes in is forwarded: "
      "restart the engine, and if it got another one, take that off before",
      name);
}

void Engine::watch_queues() {
  for (std::uint32_t index = 0; index < nics_.size(); ++index) {
    const dpdk::Nic& nic = *nics_[index];
    mr_nic counted{};
    nic.count_drops(counted);
    stats_->set_drops(index, counted);
    const std::uint32_t unserved = nic.unserved_queues();
    if (!stats_->set_unserved_queues(index, unserved)) continue;
    if (unserved == 0) {
      spdlog::info("nic {}: all its queues are served again", nic.name());
    } else {
      spdlog::error(
          "nic {}: frames on {} of its rx queues reach no worker: a part of the clients gets no "
          "service; {}",
          nic.name(), unserved, nic.queue_remedy());
    }
  }
}

}  // namespace millrace::worker

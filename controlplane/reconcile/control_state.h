// SPDX-License-Identifier: Apache-2.0
//
// All that the control plane has decided: the wanted config joined with slots, ids, health and
// drains. Cold; plain data, changed by apply.cc and the reconciler, read by everything else.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "controlplane/reconcile/group_state.h"
#include "controlplane/reconcile/slots.h"

namespace millrace::control {

// A listener of both protocols is two of these.
struct ListenerKey {
  IpAddress vip;
  Protocol protocol = Protocol::tcp;  // or udp
  std::uint16_t port = 0;             // the first, if it has several; 0: any

  friend bool operator==(const ListenerKey&, const ListenerKey&) = default;
  friend std::strong_ordering operator<=>(const ListenerKey&, const ListenerKey&) = default;
};

// One published (VIP, protocol, port or ports).
struct ListenerRecord {
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  PortRange ports;
  std::string load_balancer;
  std::string target_group;
  std::uint32_t tcp_idle_timeout_seconds = 0;
};

// A VIP, with what its load balancer says of it.
struct VipRecord {
  std::string load_balancer;
  Echo echo = Echo::always;
  NoListener no_listener = NoListener::drop;
  std::set<std::string> groups;  // that its listeners forward to
};

// Ids and generations are taken from the store this many at a time, ahead of use.
inline constexpr std::uint32_t kNumberStep = 1000;

struct ControlState {
  explicit ControlState(std::uint32_t id_floor = 1) : ids(id_floor) {}

  Node node;
  std::map<IpAddress, VipRecord> vips;  // of the config; those without a listener, too
  std::map<ListenerKey, ListenerRecord> listeners;
  std::map<std::string, GroupState> groups;  // by name
  SlotAllocator listener_slots{MR_LISTENER_SLOTS_MAX};
  SlotAllocator group_slots{MR_GROUP_SLOTS_MAX};
  SlotAllocator target_slots{MR_TARGET_SLOTS_MAX};
  NumberSource<std::uint32_t> ids;

  AppliedConfig config;
};

// Whether the VIP answers echo requests as things are: by its load balancer's word, and by its
// targets where that is `healthy`.
[[nodiscard]] bool answers_echo(const VipRecord& vip, const ControlState& state);

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// What outlives the control plane: ids, slots, health and drains, as values. Cold.
//
// Enough to go on after a restart as if nothing had been: same ids and slots, same health, drains
// that end when they would have ended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/model/model.h"

namespace millrace::control {

// Where a target is on its way out.
enum class Registration : std::uint8_t {
  registered = 0,
  draining = 1,  // deregistration delay is running: known flows go on, no new ones
  drained = 2,   // the delay is over; the slot is kept while flows remain
};

struct StoredListener {
  IpAddress vip;
  Protocol protocol = Protocol::tcp;
  std::uint16_t port = 0;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;

  friend bool operator==(const StoredListener&, const StoredListener&) = default;
};

struct StoredGroup {
  // Its draining targets need them after the group has left the config. Without `targets`, which
  // are rows of their own.
  TargetGroup settings;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  std::uint16_t listener_port = 0;  // that HTTP probes say in Host; 0: none was known

  friend bool operator==(const StoredGroup&, const StoredGroup&) = default;
};

struct StoredTarget {
  TargetKey key;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  std::uint32_t weight = 0;
  std::string zone;
  bool is_configured = true;  // false: removed from the config, on its way out
  bool is_operator_drained = false;
  Registration registration = Registration::registered;
  std::uint64_t drain_deadline_ns = 0;              // CLOCK_REALTIME, while draining
  TargetState health_state = TargetState::initial;  // as probed: initial, healthy or unhealthy
  HealthReason health_reason = HealthReason::none;
  std::string health_description;

  friend bool operator==(const StoredTarget&, const StoredTarget&) = default;
};

// The config that was applied last.
struct AppliedConfig {
  std::string text;              // as YAML; "" before the first
  std::string source;            // the config file's path, or who applied it
  std::uint64_t applied_ns = 0;  // CLOCK_REALTIME
  bool is_from_file = true;      // read from the config file, not applied past it
  // The config file's bytes at that moment, or when it could be read last before. A file that says
  // something else later is a newer word than an apply. Bytes, and no digest of what some release
  // made of them: the next one may make something else of the same file.
  std::string file_text;

  friend bool operator==(const AppliedConfig&, const AppliedConfig&) = default;
};

struct StoredState {
  // Every id and generation below its floor may have been used. They are raised in steps, ahead of
  // use; no id is given out before a floor above it is stored.
  std::uint32_t id_floor = 1;
  std::uint64_t generation_floor = 0;
  AppliedConfig config;
  std::vector<StoredListener> listeners;
  std::vector<StoredGroup> groups;
  std::vector<StoredTarget> targets;

  friend bool operator==(const StoredState&, const StoredState&) = default;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a target: registered, draining, gone; and what that means for its flows. Cold and
// pure; time is an argument.
//
//   registered --removed from the config, or drained by the operator--> draining
//   draining   --put back before the delay is over-------------------> registered, health as probed
//   draining   --deregistration delay over---------------------------> drained
//   drained    --put back--------------------------------------------> registered, health initial
//
// Who gets new flows: targets that are registered and healthy and have a weight above 0. If there
// is none, the group fails open: all registered targets get new flows (as with NLB: deploy/nlb.md,
// "Health checks"). Among those, the engine passes over the targets that it has no way to, unless
// it has a way to none of them.
//
// What becomes of known flows: they are kept, with two exceptions. If the target is unhealthy and
// the group does not fail open, its UDP flows choose another target, and its TCP flows are reset if
// unhealthy connection termination is on. If the target is drained, its flows end if connection
// termination is on.
//
// Registration and health are two facts, and neither hides the other. A target that was taken out
// and is then switched off is unhealthy as any other, for as long as it may have flows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/health/health_state.h"
#include "controlplane/model/model.h"
#include "controlplane/reconcile/epochs.h"
#include "controlplane/reconcile/snapshot.h"
#include "controlplane/store/stored_state.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

struct TargetRecord {
  TargetKey key;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  std::uint64_t identity = 0;
  std::uint32_t weight = 0;
  std::string zone;
  bool is_configured = true;
  bool is_operator_drained = false;
  Registration registration = Registration::registered;
  // CLOCK_MONOTONIC: when the delay of a draining target ends, or when that of a drained one ended.
  std::uint64_t drain_deadline_ns = 0;
  TargetHealth health;  // as last told by the checker
  // For a target that gets no flows any more (drained, or nobody uses the group): it may still have
  // some.
  bool may_have_flows = false;
  std::optional<std::uint8_t> nic = std::nullopt;  // of the engine, by which it was last reached
  std::optional<std::uint8_t> former_nic = std::nullopt;  // and the one before
  // A probe goes by the kernel's routes and may pass where the engine has no next hop.
  std::uint64_t no_way_since_ns = 0;  // CLOCK_MONOTONIC; 0: the engine has a next hop, or is away
  bool is_unreachable = false;        // it had none for kNoWayNs, and has got none since
  bool is_passed_over = false;        // and has one to another target that may get new flows
  bool is_in_base = false;            // has a place in the lookup table, though it may be out
};

// A target group with all its targets, those on their way out included.
struct GroupState {
  TargetGroup settings;  // `targets` and `health_check` as in the config
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  bool is_configured = true;
  bool is_in_use = false;           // some listener forwards to it
  std::vector<IpAddress> vips;      // whose listeners do
  std::uint16_t listener_port = 0;  // of the first that did last: what HTTP probes say in Host
  std::map<TargetKey, TargetRecord> targets;
  Epochs epochs;
};

// Identifies the target, and is equal on every node that has it in its config. Maglev chooses by
// it.
[[nodiscard]] std::uint64_t target_identity(const TargetKey& key, Protocol protocol);

// Likewise for a group. The same name with another protocol is another group, unless one of the two
// is TCP_UDP (apply.cc).
[[nodiscard]] std::uint64_t group_identity(const std::string& name, Protocol protocol);

// Starts the deregistration delay, unless it runs or is over already.
void begin_drain(TargetRecord& target, const TargetGroup& settings, std::uint64_t now_ns);
// Shortens a drain to the length that one would have that begins now. A control plane that restarts
// does the same, since it knows the delay of the present settings alone.
void shorten_drain(TargetRecord& target, const TargetGroup& settings, std::uint64_t now_ns);
// Back to registered, unless the config or the operator still wants it gone.
void end_drain(TargetRecord& target);
// Ends a delay that is over. True when it did.
[[nodiscard]] bool advance_drain(TargetRecord& target, std::uint64_t now_ns);

// The time at which advance_drain() has something to do for some target of the group; kNever if no
// drain runs.
[[nodiscard]] std::uint64_t next_drain_end_ns(const GroupState& group);

// True when the group is in use and has registered targets, but none of them is healthy with a
// weight. Then health says nothing about any target of the group, draining ones included.
[[nodiscard]] bool fails_open(const GroupState& group);

// Whether some target gets new flows because it is healthy, and not because the group fails open;
// and the engine has a way to it.
[[nodiscard]] bool has_healthy_target(const GroupState& group);

// Longer than the kernel takes to find a neighbour, or to give it up (3 tries, 1 s apart).
inline constexpr std::uint64_t kNoWayNs = 5 * kSecondNs;
// Notes whether the engine has a next hop to the target. A target that is unreachable stays so
// until the engine has one. True when is_unreachable has changed.
[[nodiscard]] bool note_way(TargetRecord& target, bool has_way, std::uint64_t now_ns);
// Chooses anew which targets are passed over. Call after a change of ways, health, registrations or
// weights.
void pass_over_unreachable(GroupState& group);

// A sentence for the operator when listeners forward to the group and no target of it may get new
// flows, whatever its health; "" otherwise.
[[nodiscard]] std::string lack_of_targets(const GroupState& group);
// Registered and with a weight: gets new flows, if it is healthy or the group fails open.
[[nodiscard]] bool may_get_new_flows(const TargetRecord& target);

// For people, who need to tell dead targets from those that nobody has looked at yet. The engine
// treats both alike.
[[nodiscard]] GroupRouting routing_of(const GroupState& group);

// Whether the target is *in*: slots of the lookup table may lead to it.
[[nodiscard]] bool gets_new_flows(const TargetRecord& target, bool is_fail_open);

// Slots of the group's lookup table, by the weights of the config.
[[nodiscard]] std::uint32_t lookup_size(const GroupState& group);

// Chooses anew which targets have a place in the base of the lookup table. Call after a change of
// the config or of health, before epoch_members().
//
// A target enters with its first probe result, or when it gets new flows before that. While it is
// new it has no place: else its slots would go to others now, and to it soon. It leaves with the
// config, though its drain has only begun: else its slots would change their owner once more when
// the drain ends, and a node that starts with that config does not know it. One that the operator
// drains stays: nobody else's slots move when it comes back.
void choose_base(GroupState& group);

// enum mr_target_flag
[[nodiscard]] std::uint8_t target_flags(const TargetRecord& target, const TargetGroup& settings,
                                        bool is_fail_open);

// Whether the checker probes the target: it is in use and not yet drained, or has flows that would
// end if it died. Draining targets stay probed for another reason, too: one that is put back need
// not start from `initial`.
[[nodiscard]] bool is_probed(const TargetRecord& target, const GroupState& group);

// The health check of the target, with the port that probes go to; nothing if none is known. The
// group may have had a health check port for targets of any port, and have none since its targets
// have ports: then one of any port that drains is asked at the port that the group's targets have.
[[nodiscard]] std::optional<HealthCheck> check_of(const TargetRecord& target,
                                                  const GroupState& group);

// Notes how many flows the target has, as far as known. True when may_have_flows has changed, and
// with it is_probed().
[[nodiscard]] bool note_flows(TargetRecord& target, const GroupState& group,
                              std::optional<std::uint64_t> active_flows);
// Whether note_flows() has anything to find out.
[[nodiscard]] bool gets_flows(const TargetRecord& target, const GroupState& group);

// State, reason and description in NLB's words. NLB has one state for both facts, registration and
// health. So the description of a target that is draining also says when it is unhealthy.
struct ShownState {
  TargetState state = TargetState::unused;
  HealthReason reason = HealthReason::none;
  std::string description;
};
[[nodiscard]] ShownState shown_state(const TargetRecord& target, const GroupState& group);

// True when nothing keeps the slot of a target that left the config: its delay is over for so long
// that the last flow to begin has been counted, and `active_flows`, as far as known, is 0.
[[nodiscard]] bool may_retire(const TargetRecord& target, std::optional<std::uint64_t> active_flows,
                              std::uint64_t now_ns);

// The group's members for its lookup table.
[[nodiscard]] std::vector<EpochMember> epoch_members(const GroupState& group);

}  // namespace millrace::control

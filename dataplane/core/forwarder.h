// SPDX-License-Identifier: Apache-2.0
//
// The packet path of one worker: everything between rx_burst and tx_burst. HOT.
//
// process_burst() takes a burst through its passes: parse, find the listener and hash; look at the
// bucket and prefetch the record; then, in order of arrival, match, decide and rewrite. It sets one
// verdict per packet and counts each packet in exactly one place. Pure: time comes in as an
// argument, memory at construction; nothing is allocated, locked, logged or asked of the kernel.
//
//   forwarder.cc        the passes, known flows that go on
//   forwarder_flows.cc  new flows, room for them, expiry, the sweep
//   forwarder_known.cc  known flows that do not simply go on: TCP state, late packets
//   forwarder_reply.cc  replies whose flow is in doubt
//   forwarder_listener.cc  listeners with several ports
//   forwarder_setup.cc  what it has from the start; a new config
//   forwarder_error.cc  ICMP errors about packets of flows
//   forwarder_fragment.cc  fragments of UDP datagrams
//   forwarder_link.cc   the link header: whose frame it is, VLANs
//   forwarder_local.cc  what is of no flow; the node's own answers; drops, punts
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/answer.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/flow_class.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/forwarder_parts.h"
#include "dataplane/core/fragment_store.h"
#include "dataplane/core/no_room.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/record_set.h"
#include "dataplane/core/steering.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/known_rule.h"

namespace millrace::core {

struct RenamedEnd;  // quote.h
struct NewEnd;      // rewrite.h
struct NicHop;      // vlan_tag.h

class Forwarder {
 public:
  struct Options {
    FlowTable flow_table = FlowTable::none();  // this worker's own; nobody else changes it
    Ownership ownership = kOwnsAll;            // which worker of how many this is
    std::span<const MacAddr> nic_macs;         // by nic index, at most MR_NIC_COUNT_MAX
    WorkerCounters counters;
    std::uint32_t flow_inserts_per_ms = 2000;  // budget; over it a flow is forwarded untracked
    // Each: RST, echo, own errors, flowless errors, refusals of ports without a listener.
    std::uint32_t replies_per_ms = 100;
    // Frames for other machines that are given to the kernel. Each costs 0.9 us, so what a switch
    // floods takes at most a fifth of a worker.
    std::uint32_t foreign_per_ms = 200;
  };

  explicit Forwarder(const Options& options) noexcept;

  // Makes `view` the config from the next burst on. The caller keeps the one before mapped until
  // this returns. `view` must have passed check_image().
  void adopt(const ConfigView& view) noexcept;
  [[nodiscard]] std::uint64_t generation() const noexcept { return config_.generation; }

  // The nic has this MAC address from the next burst on.
  void set_nic_mac(std::uint32_t nic, const MacAddr& mac) noexcept;

  // Handles burst.packets[0, count): rewrites frames in place and sets every verdict.
  // `now_ns` is CLOCK_MONOTONIC-like and must not go backwards by more than a tick.
  void process_burst(Burst& burst, std::uint64_t now_ns) noexcept;

  // The same where several workers share the nics. A packet whose flow another worker owns is not
  // looked at further and gets the verdict hand_over. A packet that needs no flow table stays with
  // the worker that received it: one that is neither TCP nor UDP, one for the node itself, and one
  // for a VIP but for none of its listeners. So nothing of the node waits for a worker that stands
  // still, and no flood falls on a single worker. ICMP errors go to the owner of the flow that they
  // are about. Fragments that pass the node go to worker 0, which knows their datagrams; those of
  // UDP, also to a VIP, to the worker that knows theirs, and from there to the flow's owner.
  void process_burst(Burst& burst, std::uint64_t now_ns, const Ownership& ownership) noexcept;

  // Looks at the next `record_count` flow records: folds their packet and byte counts into the
  // counters, expires the idle ones, forgets those whose listener or target is gone. Call between
  // bursts so that all records are seen about once a second.
  void sweep(std::uint64_t now_ns, std::uint32_t record_count) noexcept;

  // Recomputes gauges (active flows per target) from the flow table; once, after adopting the first
  // config on a table that an earlier process left.
  void recount_flows() noexcept;

  [[nodiscard]] const FlowTable& flows() const noexcept { return flows_; }

 private:
  // forwarder.cc
  [[nodiscard]] bool is_ours(const Packet& packet) const noexcept {  // >= MR_ETH_BYTES long
    // A frame's first 8 bytes hold the destination; the nic's MAC address lies in the low 6.
    const auto word = load<std::uint64_t>(packet.data);
    return (word ^ nic_mac_words_[packet.nic % MR_NIC_COUNT_MAX]) << 16 == 0;
  }
  template <bool kIsShared>
  void run_passes(Burst& burst, std::uint64_t now_ns, const Ownership& ownership) noexcept;
  void renew_budgets() noexcept;
  void decide(Burst& burst, std::span<Work> works) noexcept;
  [[nodiscard]] bool classify(Packet& packet, Work& work, ClientKey& key,
                              const Ownership& ownership) noexcept;
  // The worker that handles the packet of the client `key`: the owner of its flow, or this worker
  // if the packet can belong to no flow.
  [[nodiscard]] std::uint32_t handler_of(const Work& work, const ClientKey& key,
                                         const Ownership& ownership) const noexcept {
    const std::uint32_t owner = owner_of(key, ownership.worker_count);
    if (owner == ownership.worker) [[likely]]
      return owner;
    const AddrWords& destination = work.parsed.destination;
    const bool is_of_no_flow =
        work.listener == nullptr && (is_vip(destination) || is_local(destination));
    return is_of_no_flow ? ownership.worker : owner;
  }
  // Likewise for a packet that classify() refused.
  [[nodiscard, gnu::noinline]] std::uint32_t handler_of_other(Packet& packet, const Parsed& parsed,
                                                              const Ownership& ownership) noexcept;
  [[nodiscard]] std::uint32_t owner_of_other(const Packet& packet, const Parsed& parsed,
                                             const Ownership& ownership) noexcept;
  // The listener of the packet's destination, or null. If it has several ports, this is a copy with
  // the one that the packet asks for, which holds as long as the burst.
  [[nodiscard]] const mr_listener* find_listener(const Parsed& parsed) noexcept;
  [[nodiscard]] Verdict forward_to_target(Packet& packet, Work& work) noexcept;
  [[nodiscard]] Verdict forward_to_client(Packet& packet, Work& work) noexcept;
  // The packet's flow by the client's half, or MR_RECORD_NONE.
  [[nodiscard, gnu::noinline]] std::uint32_t find_to_listener(const Work& work) const noexcept;
  [[nodiscard]] std::uint32_t find_from_target(const Work& work) noexcept;
  [[nodiscard]] Verdict send_to_target(Packet& packet, const Parsed& parsed,
                                       const mr_flow_record& flow,
                                       const mr_target& target) noexcept;
  [[nodiscard]] Verdict send_whole_to_target(Packet& packet, const Parsed& parsed,
                                             const mr_flow_record& flow,
                                             const mr_target& target) noexcept;
  template <typename Frame>
  [[nodiscard]] Verdict send_to_target(Packet& packet, const Parsed& parsed,
                                       const mr_flow_record& flow,
                                       const mr_target& target) noexcept;
  template <typename Frame>
  [[nodiscard]] Verdict send_to_target_by(Packet& packet, const Parsed& parsed,
                                          const mr_flow_record& flow, const mr_target& target,
                                          NicHop by) noexcept;
  template <typename Frame>
  [[nodiscard, gnu::noinline]] Verdict send_to_target_in_vlan(Packet& packet, const Parsed& parsed,
                                                              const mr_flow_record& flow,
                                                              const mr_target& target) noexcept;
  template <typename Inner, typename Outer, mr_forwarding kForwarding>
  [[nodiscard]] Verdict encapsulate_to_target(Packet& packet, const Parsed& parsed,
                                              const mr_target& target, std::uint64_t hop) noexcept;
  template <typename Inner, typename Outer, mr_forwarding kForwarding>
  [[nodiscard, gnu::noinline]] Verdict encapsulate_from_network(Packet& packet,
                                                                const Parsed& parsed,
                                                                const mr_target& target,
                                                                std::uint64_t hop) noexcept;
  template <typename Inner, typename Outer, mr_forwarding kForwarding>
  [[nodiscard]] Verdict encapsulate_from(Packet& packet, const Parsed& parsed,
                                         const mr_target& target, std::uint64_t hop,
                                         const mr_addr& source) noexcept;
  template <typename Frame>
  [[nodiscard, gnu::noinline]] Verdict send_by_variant(Packet& packet, const Parsed& parsed,
                                                       const mr_flow_record& flow,
                                                       const mr_target& target,
                                                       std::uint64_t hop) noexcept;
  template <typename Inner>
  [[nodiscard]] Verdict encapsulate_across(Packet& packet, const Parsed& parsed,
                                           const mr_target& target, std::uint64_t hop) noexcept;
  [[nodiscard, gnu::noinline]] Verdict refuse_next_hop(const mr_flow_record& flow,
                                                       std::uint64_t hop) noexcept;
  // The neighbour to which a client's packets are sent, as loaded from memory: its MAC address,
  // then the nic.
  [[nodiscard]] std::uint64_t client_hop(std::uint16_t last_hop, bool is_v4) const noexcept {
    const mr_last_hop& learned = flows_.last_hops().at(last_hop);
    const bool is_known = learned.in_use != 0;
    const mr_next_hop& fallback =
        is_v4 ? config_.image->default_next_hop_v4 : config_.image->default_next_hop_v6;
    if (!is_known && (fallback.flags & MR_NEXT_HOP_RESOLVED) == 0) [[unlikely]]
      return kNoHop;
    return load<std::uint64_t>(is_known ? learned.mac : fallback.mac);
  }
  [[nodiscard]] Verdict send_to_client(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                       const mr_listener& listener) noexcept;
  [[nodiscard]] Verdict send_whole_to_client(Packet& packet, const Parsed& parsed,
                                             mr_flow_record& flow, const VipEnd& vip) noexcept;
  template <typename Frame>
  [[nodiscard]] Verdict send_to_client(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                       const VipEnd& vip) noexcept;
  template <typename Frame>
  [[nodiscard]] Verdict send_to_client_by(Packet& packet, const Parsed& parsed,
                                          mr_flow_record& flow, const VipEnd& vip,
                                          NicHop by) noexcept;
  template <typename Frame>
  [[nodiscard, gnu::noinline]] Verdict send_to_client_in_vlan(Packet& packet, const Parsed& parsed,
                                                              mr_flow_record& flow,
                                                              const VipEnd& vip,
                                                              std::uint64_t hop) noexcept;
  [[nodiscard]] static ClientKey source_key(const Parsed& parsed) noexcept {
    return {parsed.source, parsed.source_port_protocol};
  }
  [[nodiscard]] static ClientKey destination_key(const Parsed& parsed) noexcept {
    return {parsed.destination, parsed.destination_port_protocol};
  }
  [[nodiscard]] const mr_target* target_of(const mr_flow_record& flow) const noexcept {
    if (flow.target_slot >= config_.targets.size()) return nullptr;
    const mr_target& target = config_.targets[flow.target_slot];
    return target.id == flow.target_id ? &target : nullptr;
  }
  [[nodiscard]] bool is_reply_of(const mr_flow_record& flow, const Parsed& parsed) const noexcept {
    const mr_target* target = target_of(flow);
    return target != nullptr && target->port_be == parsed.source_port_be() &&
           words_of(target->addr) == parsed.source;
  }
  // Likewise, also for targets that take any port.
  [[nodiscard]] bool is_any_reply_of(const mr_flow_record& flow,
                                     const Parsed& parsed) const noexcept {
    const mr_target* target = target_of(flow);
    return target != nullptr && words_of(target->addr) == parsed.source &&
           parsed.source_port_be() != 0 &&
           target_port_be_of(flow, *target) == parsed.source_port_be();
  }
  [[nodiscard]] const mr_listener* listener_of(const mr_flow_record& flow) const noexcept {
    if (flow.listener_slot >= config_.listeners.size()) return nullptr;
    const mr_listener& listener = config_.listeners[flow.listener_slot];
    return listener.id == flow.listener_id ? &listener : nullptr;
  }
  // Likewise, but null if it has several ports.
  [[nodiscard]] const mr_listener* exact_listener_of(const mr_flow_record& flow) const noexcept {
    if (flow.listener_slot >= config_.listeners.size()) return nullptr;
    const mr_listener& listener = config_.listeners[flow.listener_slot];
    return word_of(listener) == listener_word_of(flow) ? &listener : nullptr;
  }
  // The port at which the flow's target is asked and from which it answers; 0 if the packets of the
  // flow keep theirs and nothing is translated.
  [[nodiscard]] std::uint16_t target_port_be_of(const mr_flow_record& flow,
                                                const mr_target& target) const noexcept {
    if (target.port_be != 0 || !mr_translates(target.forwarding)) return target.port_be;
    const mr_listener* listener = listener_of(flow);
    return listener == nullptr ? flow.vip_port_be
                               : mr_vip_port_be_of(flow.vip_port_be, listener->port_be);
  }
  [[nodiscard]] bool is_silent(const mr_flow_record& flow, std::uint32_t ticks) const noexcept {
    return mr_is_silent(tick_, flow.last_seen_tick, ticks);
  }
  [[nodiscard]] bool is_idle(const mr_flow_record& flow,
                             const mr_listener& listener) const noexcept {
    return is_silent(flow, listener.timeout_ticks[mr_timeout_index(flow.state, flow.flags)]);
  }
  static void add_flags(mr_flow_record& flow, std::uint32_t flags) noexcept {
    flow.flags = static_cast<std::uint16_t>(flow.flags | flags);
  }
  static void clear_flags(mr_flow_record& flow, std::uint32_t flags) noexcept {
    flow.flags = static_cast<std::uint16_t>(flow.flags & ~flags);
  }
  void account(mr_flow_record& flow, const Parsed& parsed) const noexcept;
  void flush(const BurstCounts& counts) noexcept;

  // forwarder_flows.cc
  struct Choice;
  [[gnu::noinline]] void foresee_flow(Work& work) const noexcept;
  [[nodiscard, gnu::noinline]] Verdict start_flow(Packet& packet, Work& work) noexcept;
  [[nodiscard]] std::uint64_t selection_hash_of(const ClientKey& client,
                                                const mr_listener& listener,
                                                std::uint16_t vip_port_be) const noexcept;
  [[nodiscard]] Choice choose_target(const mr_listener& listener, std::uint64_t selection_hash,
                                     bool may_be_orphan) const noexcept;
  [[nodiscard]] std::uint32_t target_by_table(const ClientKey& client, const mr_listener& listener,
                                              std::uint16_t vip_port_be,
                                              bool may_be_orphan) const noexcept;
  [[nodiscard]] mr_source_fault source_fault_of(const Parsed& parsed) const noexcept;
  [[nodiscard]] bool is_no_client(const Parsed& parsed) const noexcept {
    return source_fault_of(parsed) != MR_SOURCE_FINE;
  }
  void bind_flow(mr_flow_record& flow, const mr_listener& listener,
                 std::uint32_t target_slot) noexcept;
  [[nodiscard]] std::uint32_t insert_flow(const Work& work, std::uint32_t state,
                                          bool has_replies) noexcept;
  [[nodiscard]] Verdict forward_untracked(Packet& packet, const Work& work,
                                          std::uint32_t target_slot) noexcept;
  [[nodiscard]] bool make_room() noexcept;
  [[nodiscard]] bool clear_way(std::uint64_t hash) noexcept;
  void give_up_flow(mr_flow_record& flow) noexcept;
  void set_state(mr_flow_record& flow, std::uint32_t state) noexcept;
  void confirm(mr_flow_record& flow) noexcept;
  void take_confirmation(mr_flow_record& flow) noexcept;
  void note_round(mr_flow_record& flow) noexcept;
  void count_expiry(const mr_flow_record& flow) noexcept;
  void expire_flow(mr_flow_record& flow) noexcept;
  void forget_flow(mr_flow_record& flow) noexcept;
  void fold_counts(mr_flow_record& flow) noexcept;
  void sweep_record(std::uint32_t index) noexcept;
  void adjust_active(const mr_flow_record& flow, std::int32_t by) noexcept;

  // forwarder_known.cc
  [[nodiscard, gnu::noinline]] Verdict revisit_flow(Packet& packet, Work& work,
                                                    mr_flow_record& flow) noexcept;
  [[nodiscard]] Verdict open_again(Packet& packet, Work& work, mr_flow_record& flow,
                                   const mr_target& target) noexcept;
  void track(mr_flow_record& flow, const Packet& packet, const Parsed& parsed,
             bool is_from_client) noexcept;
  void count_reset(const mr_flow_record& flow, bool is_from_client) noexcept;
  [[nodiscard]] Verdict end_late(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                 bool is_from_client) noexcept;
  void learn_last_hop(mr_flow_record& flow, const Packet& packet) noexcept {
    const std::uint8_t* source_mac = packet.data + MR_ETH_SOURCE;
    if (flows_.last_hops().is(flow.last_hop, source_mac, packet.nic)) [[likely]]
      return;
    flow.last_hop = flows_.last_hops().learn(source_mac, packet.nic);
  }

  // forwarder_reply.cc
  [[nodiscard, gnu::noinline]] Verdict revisit_reply(Packet& packet, Work& work) noexcept;
  [[nodiscard]] std::uint32_t best_of_shared(const Work& work) noexcept;
  [[nodiscard]] std::uint32_t rank_of(const mr_flow_record& flow, bool opens) const noexcept;
  void claim_replies(std::uint64_t hash, mr_flow_record& flow, const mr_target& target) noexcept;
  [[nodiscard]] bool accept_again(mr_flow_record& flow) noexcept;
  [[gnu::noinline]] void note_reply(mr_flow_record& flow, const Parsed& parsed) noexcept;
  [[nodiscard]] bool move_orphan(std::uint64_t hash, mr_flow_record& flow,
                                 const mr_listener& listener) noexcept;
  [[nodiscard, gnu::noinline]] Verdict forward_untracked_reply(Packet& packet, Work& work) noexcept;
  // What becomes of a packet towards a client that has no flow. If it is translated, `listener` and
  // `target` say between which names.
  struct Flowless {
    mr_flowless_reply what = MR_FLOWLESS_PUNT;
    const mr_listener* listener = nullptr;
    const mr_target* target = nullptr;
    std::uint16_t vip_port_be = 0;
  };
  [[nodiscard]] Flowless judge_flowless(const Parsed& parsed, std::uint64_t hash) const noexcept;

  // forwarder_listener.cc
  [[nodiscard, gnu::noinline]] const mr_listener* copy_in_ranges(const Parsed& parsed) noexcept;
  [[nodiscard]] const mr_listener* find_in_ranges(const Parsed& parsed) const noexcept;
  [[nodiscard]] bool has_listener(const Parsed& parsed) const noexcept;

  // forwarder_error.cc
  [[nodiscard]] std::optional<Parsed> answer_of_error(const Packet& packet,
                                                      const Parsed& parsed) noexcept;
  [[nodiscard]] Verdict pass_error(Packet& packet, const Parsed& parsed,
                                   const Parsed& answer) noexcept;
  [[nodiscard]] Verdict pass_error_to_target(Packet& packet, const Parsed& answer,
                                             std::uint32_t target_slot) noexcept;
  [[nodiscard]] Verdict pass_error_to_client(Packet& packet, const Work& work) noexcept;
  [[nodiscard]] Verdict send_error(Packet& packet, const Parsed& answer, bool is_to_target,
                                   std::uint64_t hop, const RenamedEnd& end) noexcept;
  template <typename Frame>
  [[nodiscard]] Verdict send_error(Packet& packet, const Parsed& answer, bool is_to_target,
                                   std::uint64_t hop, const RenamedEnd& end) noexcept;

  // forwarder_fragment.cc
  [[nodiscard]] bool resolve_fragment(const Packet& packet, Parsed& parsed,
                                      const Ownership& asked) noexcept;
  [[nodiscard]] bool learn_ports(const Packet& packet, Parsed& parsed, const Fragment& fragment,
                                 const DatagramKey& key) noexcept;
  [[nodiscard]] bool is_worth_knowing(const Parsed& first) noexcept;
  [[nodiscard]] std::uint32_t owner_of_flow(const Parsed& parsed, const Ownership& own) noexcept;
  [[nodiscard]] Verdict leave_fragment(Packet& packet, const Parsed& parsed) noexcept;
  [[nodiscard, gnu::noinline]] Verdict send_fragment_to_target(Packet& packet, const Parsed& parsed,
                                                               const mr_flow_record& flow,
                                                               const mr_target& target) noexcept;
  [[nodiscard, gnu::noinline]] Verdict translate_to_target_by(Packet& packet, const Parsed& parsed,
                                                              const mr_flow_record& flow,
                                                              const mr_target& target,
                                                              NicHop by) noexcept;
  [[nodiscard]] Verdict translate_to_client_by(Packet& packet, const Parsed& parsed,
                                               const mr_flow_record& flow,
                                               const mr_listener& listener, NicHop by) noexcept;
  [[nodiscard]] Verdict send_translated_to_target(Packet& packet, const Parsed& parsed,
                                                  const mr_flow_record& flow,
                                                  const mr_target& target) noexcept;
  [[nodiscard, gnu::noinline]] Verdict send_fragment_to_client(
      Packet& packet, const Parsed& parsed, const mr_flow_record& flow,
      const mr_listener& listener) noexcept;
  [[nodiscard]] Verdict send_translated(Packet& packet, const Parsed& parsed, NicHop by,
                                        const NewEnd& end) noexcept;
  static void write_outer_checksum(Packet& packet) noexcept;

  // forwarder_link.cc
  [[nodiscard, gnu::noinline]] bool examine(Packet& packet, Parsed& parsed,
                                            const Ownership& ownership) noexcept;
  [[nodiscard]] bool is_own_of_vlan(Parsed& parsed, const Ownership& ownership) noexcept;
  [[nodiscard, gnu::noinline]] bool examine_in_vlan(Packet& packet, Parsed& parsed,
                                                    const Ownership& ownership) noexcept;
  [[nodiscard, gnu::noinline]] static bool leave_other_macs(const Packet& packet,
                                                            Parsed& parsed) noexcept;
  [[nodiscard]] bool is_for_vlan(const Packet& packet) const noexcept;
  // The frame is for a MAC address that the node has beside the nic's.
  [[nodiscard]] bool is_local_mac(const Packet& packet) const noexcept;
  [[nodiscard, gnu::noinline]] bool take_off_tag(Packet& packet) const noexcept;
  void give_back_tag(Packet& packet) const noexcept;
  // The VLAN that a nic's index names, if it can be used; null for any other index.
  [[nodiscard]] const mr_vlan* vlan_at(std::uint32_t nic) const noexcept;
  // What the node has on a nic or in a VLAN; null where `nic` is neither.
  [[nodiscard]] const std::uint8_t* mac_on(std::uint32_t nic) const noexcept;
  [[nodiscard]] const mr_nic_addrs* addrs_on(std::uint32_t nic) const noexcept;
  [[nodiscard]] bool has_exit(std::uint64_t hop) const noexcept {
    const std::uint32_t nic = hop >> 48 & 0xff;
    return nic < nic_count_ || vlan_at(nic) != nullptr;
  }
  // Sends a packet that is ready but for its link header to a neighbour that has_exit().
  [[nodiscard]] Verdict forward_to(Packet& packet, std::uint64_t hop, EtherType type) noexcept;
  [[nodiscard]] Verdict tag_if_forwarded(Packet& packet, Verdict verdict,
                                         const mr_vlan& vlan) noexcept;
  [[nodiscard]] Verdict reply_in_vlan(Packet& packet) noexcept;

  // forwarder_local.cc
  [[nodiscard, gnu::noinline]] Verdict handle_other(Packet& packet, const Parsed& parsed) noexcept;
  [[nodiscard]] bool is_passing_fragment(const Parsed& parsed) const noexcept;
  [[nodiscard]] bool is_of_target(const Packet& packet, const Parsed& parsed) noexcept;
  // The entry of the target of a `nat` group that answers from there, or null.
  [[nodiscard]] const mr_table_entry* find_service(const AddrWords& addr, std::uint16_t port_be,
                                                   std::uint8_t protocol) const noexcept;
  [[nodiscard]] bool is_service(const AddrWords& addr, std::uint16_t port_be,
                                std::uint8_t protocol) const noexcept {
    return find_service(addr, port_be, protocol) != nullptr;
  }
  [[nodiscard]] Verdict leave_foreign(Packet& packet, const Parsed& parsed) noexcept;
  [[nodiscard]] Verdict handle_icmp(Packet& packet, const Parsed& parsed) noexcept;
  [[nodiscard]] Verdict refuse_martian(Packet& packet, const Parsed& parsed) noexcept;
  [[nodiscard]] Verdict reset(Packet& packet, const Parsed& parsed,
                              std::uint32_t listener_slot) noexcept;
  void count_own_reset(std::uint32_t listener_slot) noexcept;
  [[nodiscard, gnu::noinline]] Verdict answer_too_big(Packet& packet, const Parsed& parsed,
                                                      std::uint32_t mtu) noexcept;
  [[nodiscard, gnu::noinline]] Verdict answer_expired(Packet& packet,
                                                      const Parsed& parsed) noexcept;
  // A packet to a VIP's port without a listener.
  [[nodiscard, gnu::noinline]] Verdict handle_unserved(Packet& packet, const Parsed& parsed,
                                                       std::uint32_t vip_flags) noexcept;
  [[nodiscard]] Verdict answer_unreachable(Packet& packet, const Parsed& parsed) noexcept;
  // The VIP's own entry, whose slot has its flags; nullptr for what is no VIP.
  [[nodiscard]] const mr_table_entry* find_vip(const AddrWords& addr) const noexcept;
  [[nodiscard]] bool is_vip(const AddrWords& addr) const noexcept {
    return find_vip(addr) != nullptr;
  }
  [[nodiscard]] bool is_local(const AddrWords& addr) const noexcept;
  [[nodiscard]] Verdict drop(mr_drop_reason reason) noexcept;
  // Counts a frame that is ready to leave on `nic`.
  [[nodiscard]] Verdict forward(const Packet& packet, std::uint32_t nic) noexcept {
    burst_counts_.forwarded += std::uint64_t{1} << kForwardedShift | packet.length;
    return Verdict::forward(nic);
  }
  // As it came.
  [[nodiscard]] Verdict punt(Packet& packet) noexcept {
    ++burst_counts_.punted;
    if (packet.nic >= MR_NIC_COUNT_MAX) give_back_tag(packet);
    return Verdict::punt(packet.nic);
  }
  [[nodiscard]] Verdict reply(Packet& packet) noexcept {
    ++burst_counts_.replied;
    if (packet.nic >= MR_NIC_COUNT_MAX) return reply_in_vlan(packet);
    return Verdict::reply(packet.nic);
  }

  void count(mr_counter counter, std::uint64_t amount = 1) noexcept;

  ConfigView config_;
  FlowTable flows_;
  std::uint32_t tick_ = 0;
  ListenerHint listener_hint_;
  // Sources of encapsulated packets; :: where there is none, or a network.
  mr_addr encap_source_v4_{};
  mr_addr encap_source_v6_{};
  std::array<MacAddr, MR_NIC_COUNT_MAX> nic_macs_{};
  std::array<std::uint64_t, MR_NIC_COUNT_MAX> nic_mac_words_{};  // the same, as loaded from a frame
  // What copy_in_ranges() copied last. It copies twice for a packet of a VLAN that has several
  // workers, and the passes look at a burst at a time.
  std::array<mr_listener, std::size_t{2} * kBurstMax> asked_;
  std::uint32_t asked_next_ = 0;
  std::uint32_t nic_count_ = 0;
  WorkerCounters counters_;
  BurstCounts burst_counts_;
  Budget inserts_;
  // One budget for each kind, so that a flood of one kind does not silence the others.
  Budget resets_;
  Budget echoes_;
  Budget too_bigs_;
  Budget expiries_;
  Budget errors_;    // ICMP errors without a flow
  Budget refusals_;  // what tells of ports without a listener
  Budget foreign_;
  std::uint32_t budget_tick_ = 0;
  // Flows that are never given up; bounded, so that there is always room for new ones.
  std::uint32_t confirmed_ = 0;
  RecordSet unconfirmed_;           // all others
  std::uint32_t give_up_next_ = 0;  // where a full table looks next among those
  std::uint32_t sweep_next_ = 0;
  NoRoom no_room_;
  FragmentMemory untranslated_;  // fragments of targets that are dropped
  Ownership own_;
  FragmentStore fragments_;
};

}  // namespace millrace::core

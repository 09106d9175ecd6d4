// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/core_engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "dataplane/core/encapsulate.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/forwarder.h"

namespace millrace::test {
namespace {

constexpr std::uint32_t kFlowCapacity = 1024;
constexpr std::uint32_t kSlotCount = 64;  // of listener and target counters
constexpr std::uint16_t kHeadroom = mr_outer_bytes(MR_FORWARDING_GUE, false) + MR_VLAN_BYTES;

struct alignas(MR_CACHE_LINE_BYTES) Line {
  std::byte bytes[MR_CACHE_LINE_BYTES];
};

class CoreEngine final : public Engine {
 public:
  explicit CoreEngine(const MacTable& nic_macs)
      : memory_(core::FlowTable::bytes_for(kFlowCapacity) / sizeof(Line) + 1) {
    for (const auto& mac : nic_macs) nic_macs_.push_back({.bytes = mac});
    table_.emplace(core::FlowTable::format(table_memory(), kLayout));
    start();
  }

  void adopt(const Image& image) override {
    view_ = image.view();
    forwarder_->adopt(*view_);
  }

  std::vector<Outcome> run(const std::vector<Frame>& frames, std::uint64_t now_ns) override {
    // Each frame in memory of just its size and the headroom that new headers need: a sanitizer
    // sees every byte read or written beyond.
    std::vector<std::unique_ptr<std::uint8_t[]>> buffers;
    core::Burst burst;
    for (const Frame& frame : frames) {
      buffers.emplace_back(new std::uint8_t[kHeadroom + frame.bytes.size()]);
      std::uint8_t* data = buffers.back().get() + kHeadroom;
      std::ranges::copy(frame.bytes, data);
      burst.packets[burst.count] = {.data = data,
                                    .length = static_cast<std::uint32_t>(frame.bytes.size()),
                                    .headroom = kHeadroom,
                                    .nic = frame.nic,
                                    .reserved = 0};
      ++burst.count;
    }
    forwarder_->process_burst(burst, now_ns);
    std::vector<Outcome> outcomes;
    for (std::uint32_t i = 0; i < burst.count; ++i) {
      const core::Packet& packet = burst.packets[i];
      const core::Verdict& verdict = burst.verdicts[i];
      outcomes.push_back({.kind = verdict.kind(),
                          .nic = verdict.nic(),
                          .reason = verdict.reason(),
                          .bytes = Bytes(packet.data, packet.data + packet.length)});
    }
    return outcomes;
  }

  void sweep(std::uint64_t now_ns) override { forwarder_->sweep(now_ns, kFlowCapacity); }

  void restart() override {
    forwarder_.reset();
    auto attached = core::FlowTable::attach(table_memory(), kLayout);
    if (!attached) std::abort();
    table_.emplace(*attached);
    stats_ = {};
    start();
    if (view_) forwarder_->adopt(*view_);
    forwarder_->recount_flows();
  }

  EngineCounters counters() const override {
    EngineCounters out;
    std::ranges::copy(stats_.counters, out.counters.begin());
    std::ranges::copy(stats_.drops, out.drops.begin());
    return out;
  }

  bool gauges_agree() const override {
    const core::FlowTable& flows = forwarder_->flows();
    std::uint64_t active = 0;
    std::vector<std::uint64_t> by_target(kSlotCount);
    for (std::uint32_t i = 0; i < flows.record_high(); ++i) {
      const mr_flow_record& record = flows.record(i);
      if (!core::is_active(record)) continue;
      ++active;
      ++by_target[record.target_slot];
    }
    const bool targets_agree =
        std::ranges::equal(by_target, targets_, {}, {},
                           [](const mr_target_stats& stats) { return stats.active_flows; });
    return targets_agree && active == stats_.flows_active;
  }

  FlowSight flow_of(const mr_addr& client, std::uint16_t client_port,
                    std::uint8_t protocol) const override {
    const auto key =
        core::ClientKey::of(core::words_of(client), core::to_be16(client_port), protocol);
    const core::FlowTable& flows = forwarder_->flows();
    for (std::uint32_t i = 0; i < flows.record_high(); ++i) {
      const mr_flow_record& record = flows.record(i);
      if (record.state == MR_FLOW_FREE || !core::FlowTable::is_of_client(record, key)) continue;
      return {.state = record.state, .target_slot = record.target_slot};
    }
    return {};
  }

 private:
  static constexpr core::FlowTable::Layout kLayout = {.capacity = kFlowCapacity,
                                                      .worker_index = 0,
                                                      .worker_count = 1,
                                                      .secret = {1, 2, 3, 4},
                                                      .created_ns = 1,
                                                      .creator_pid = 1};

  std::span<std::byte> table_memory() { return std::as_writable_bytes(std::span{memory_}); }

  void start() {
    listeners_.assign(kSlotCount, {});
    targets_.assign(kSlotCount, {});
    forwarder_.emplace(core::Forwarder::Options{
        .flow_table = *table_,
        .nic_macs = nic_macs_,
        .counters = {.worker = &stats_, .listeners = listeners_, .targets = targets_}});
  }

  std::vector<Line> memory_;  // of the flow table; outlives restart()
  std::vector<core::MacAddr> nic_macs_;
  std::optional<core::FlowTable> table_;
  mr_worker_stats stats_{};
  std::vector<mr_listener_stats> listeners_;
  std::vector<mr_target_stats> targets_;
  std::optional<core::ConfigView> view_;
  std::optional<core::Forwarder> forwarder_;
};

}  // namespace

std::unique_ptr<Engine> make_core_engine(const MacTable& nic_macs) {
  return std::make_unique<CoreEngine>(nic_macs);
}

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// An engine as the control plane sees one: holds the lock, has a stats segment, acknowledges. Its
// memory is real; only the packets are missing.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "dataplane/os/process_lock.h"
#include "dataplane/shm/atomic.h"
#include "dataplane/shm/config_reader.h"
#include "dataplane/shm/stats_writer.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::test {

class FakeEngine {
 public:
  static constexpr std::uint32_t kTwinIndex = 7;

  explicit FakeEngine(const std::string& runtime_dir, std::uint64_t start_ns = 100,
                      mr_engine_kind kind = MR_ENGINE_DPDK)
      : lock_(take(os::ProcessLock::acquire(runtime_dir + "/dataplane.lock"))),
        writer_(take(shm::StatsWriter::create(runtime_dir + "/stats", options(start_ns, kind)))),
        reader_(runtime_dir + "/config") {
    EXPECT_TRUE(writer_.publish());
  }

  [[nodiscard]] const shm::StatsWriter& writer() const { return writer_; }
  void acknowledge(std::uint64_t generation) const {
    shm::store_release(writer_.worker(0).acknowledged_generation, generation);
  }
  void beat(std::uint64_t now_ns) const {
    writer_.set_heartbeat(now_ns);
    shm::store_relaxed(writer_.worker(0).heartbeat_ns, now_ns);
  }
  // Adopts the newest config, if there is a new one, and acknowledges it.
  const core::ConfigView* adopt() {
    shm::ConfigEvent event = reader_.poll();
    if (event.kind != shm::ConfigEvent::Kind::adopted) return nullptr;
    config_ = std::move(event.config);
    writer_.set_adopted(event.generation);
    acknowledge(event.generation);
    return &config_.view;
  }
  [[nodiscard]] const core::ConfigView& config() const { return config_.view; }

 private:
  template <typename T>
  static T take(Result<T> result) {
    return std::move(result).value();
  }
  static shm::StatsOptions options(std::uint64_t start_ns, mr_engine_kind kind) {
    mr_nic nic{};
    std::strcpy(nic.name, "lb0");
    nic.link_up = 1;
    std::strcpy(nic.twin, kind == MR_ENGINE_XDP ? "lb0" : "mr0");
    nic.twin_index = kTwinIndex;
    return {.engine_kind = kind,
            .engine_start_ns = start_ns,
            .worker_count = kind == MR_ENGINE_XDP ? 2u : 1u,
            .listener_slots = 16,
            .target_slots = 64,
            .nics = {nic},
            .flow_table_dir = "/nowhere"};
  }

  os::ProcessLock lock_;
  shm::StatsWriter writer_;
  shm::ConfigReader reader_;
  shm::CheckedConfig config_;
};

}  // namespace millrace::test

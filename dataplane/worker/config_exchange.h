// SPDX-License-Identifier: Apache-2.0
//
// How a checked config gets from the main thread to the workers, and when the one before may go.
//
//   main      publish() --release--> newest_
//   worker i  newest() --acquire--> Forwarder::adopt --> set_adopted(i) --release--> adopted_[i]
//   main      collect(): frees the configs that every worker has left behind, and with the last
//             config of a segment that the control plane has replaced, the segment's mapping
//
// Compared by address, not by generation: a control plane that lost its store counts anew.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "dataplane/core/config_view.h"
#include "dataplane/shm/config_reader.h"

namespace millrace::worker {

class ConfigExchange {
 public:
  explicit ConfigExchange(std::uint32_t worker_count) : adopted_(worker_count) {}

  // Main thread.
  void publish(shm::CheckedConfig config);
  void collect();
  [[nodiscard]] std::size_t kept_count() const { return kept_.size(); }

  // Workers. Null until the first config.
  [[nodiscard]] const core::ConfigView* newest() const noexcept {
    return newest_.load(std::memory_order_acquire);
  }
  // From now on `worker` reads nothing older than `view`.
  void set_adopted(std::uint32_t worker, const core::ConfigView* view) noexcept {
    adopted_[worker].view.store(view, std::memory_order_release);
  }

 private:
  struct alignas(MR_WRITER_SEPARATION_BYTES) Adopted {  // written by its worker only
    std::atomic<const core::ConfigView*> view{nullptr};
  };

  std::deque<std::unique_ptr<const shm::CheckedConfig>> kept_;  // oldest first
  alignas(MR_WRITER_SEPARATION_BYTES) std::atomic<const core::ConfigView*> newest_{nullptr};
  std::vector<Adopted> adopted_;
};

}  // namespace millrace::worker

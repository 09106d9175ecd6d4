// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/config_exchange.h"

#include <utility>

namespace millrace::worker {

void ConfigExchange::publish(shm::CheckedConfig config) {
  kept_.push_back(std::make_unique<const shm::CheckedConfig>(std::move(config)));
  newest_.store(&kept_.back()->view, std::memory_order_release);
}

void ConfigExchange::collect() {
  while (kept_.size() > 1) {
    for (const Adopted& adopted : adopted_) {
      const core::ConfigView* view = adopted.view.load(std::memory_order_acquire);
      // Null: has none yet, and may be about to take any of these.
      if (view == nullptr || view == &kept_.front()->view) return;
    }
    kept_.pop_front();
  }
}

}  // namespace millrace::worker

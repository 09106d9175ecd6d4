// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/config_exchange.h"

#include <gtest/gtest.h>

namespace millrace::worker {
namespace {

shm::CheckedConfig config_of(std::uint64_t generation) {
  shm::CheckedConfig config;
  config.view.generation = generation;
  return config;
}

TEST(ConfigExchange, workers_see_nothing_before_the_first_config) {
  ConfigExchange exchange(2);
  EXPECT_EQ(exchange.newest(), nullptr);
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 0u);
}

TEST(ConfigExchange, config_stays_until_every_worker_has_left_it) {
  ConfigExchange exchange(2);
  exchange.publish(config_of(1));
  const core::ConfigView* first = exchange.newest();
  exchange.set_adopted(0, first);
  exchange.set_adopted(1, first);
  exchange.publish(config_of(2));
  const core::ConfigView* second = exchange.newest();
  EXPECT_EQ(second->generation, 2u);

  exchange.set_adopted(0, second);
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 2u);
  EXPECT_EQ(first->generation, 1u);  // worker 1 may still read it

  exchange.set_adopted(1, second);
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 1u);
  EXPECT_EQ(exchange.newest(), second);
}

TEST(ConfigExchange, worker_that_never_adopted_anything_blocks_collection) {
  ConfigExchange exchange(2);
  exchange.publish(config_of(1));
  exchange.publish(config_of(2));
  exchange.set_adopted(0, exchange.newest());
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 2u);
}

TEST(ConfigExchange, worker_may_skip_generations) {
  ConfigExchange exchange(1);
  for (std::uint64_t generation = 1; generation <= 5; ++generation) {
    exchange.publish(config_of(generation));
  }
  exchange.set_adopted(0, exchange.newest());
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 1u);
  EXPECT_EQ(exchange.newest()->generation, 5u);
}

// A control plane that lost its store starts again at generation 1, in a new segment.
TEST(ConfigExchange, equal_generation_of_another_segment_is_another_config) {
  ConfigExchange exchange(1);
  exchange.publish(config_of(1));
  const core::ConfigView* old = exchange.newest();
  exchange.set_adopted(0, old);
  exchange.publish(config_of(1));
  EXPECT_NE(exchange.newest(), old);
  exchange.collect();
  EXPECT_EQ(exchange.kept_count(), 2u);
}

}  // namespace
}  // namespace millrace::worker

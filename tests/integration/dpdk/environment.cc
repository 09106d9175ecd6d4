// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dpdk/environment.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <thread>

namespace millrace::test {

namespace {

std::optional<dpdk::Eal>& started_eal() {
  static std::optional<dpdk::Eal> eal;
  return eal;
}

template <typename T>
T value_or_abort(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::abort();
}

}  // namespace

dpdk::Eal& eal() { return *started_eal(); }

std::string unique_name(const std::string& stem) {
  static std::uint32_t next = 0;
  return stem + std::to_string(next++);
}

dpdk::MbufPool make_pool() {
  return value_or_abort(dpdk::MbufPool::create(unique_name("pool"), kPoolMbufs));
}

}  // namespace millrace::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  millrace::test::started_eal().emplace(millrace::test::value_or_abort(millrace::dpdk::Eal::init(
      {.main_cpu = 0,
       .worker_cpus = {0, std::thread::hardware_concurrency() > 1 ? 1u : 0u},
       .use_pci = false,
       .memory_bytes = 0,
       .extra = {"--no-huge", "-m", "256"}})));
  return RUN_ALL_TESTS();
}

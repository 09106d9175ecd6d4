// SPDX-License-Identifier: Apache-2.0
//
// Zeroed memory for flow tables under measurement: huge pages if the machine has them free.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <utility>

namespace millrace::bench {

// Owns an anonymous mapping of `bytes`, rounded up to 2 MiB. Explicit huge pages first, then
// transparent ones; kind() says which, because 4 KiB pages cost 70-100 ns more per random access.
class HugeMemory {
 public:
  explicit HugeMemory(std::size_t bytes) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, kFlags | MAP_HUGETLB, -1, 0);
    kind_ = "hugetlb";
    if (memory_ == MAP_FAILED) {
      memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory_ == MAP_FAILED) {
        std::perror("mmap");
        std::exit(1);
      }
      kind_ = madvise(memory_, bytes_, MADV_HUGEPAGE) == 0 ? "transparent" : "4k";
    }
  }
  HugeMemory(HugeMemory&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_), kind_(other.kind_) {}
  HugeMemory& operator=(HugeMemory&&) = delete;
  ~HugeMemory() {
    if (memory_ != nullptr) munmap(memory_, bytes_);
  }

  [[nodiscard]] std::span<std::byte> span() const {
    return {static_cast<std::byte*>(memory_), bytes_};
  }
  [[nodiscard]] const char* kind() const { return kind_; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  const char* kind_ = "";
};

}  // namespace millrace::bench

// SPDX-License-Identifier: Apache-2.0
//
// What the kernel does for an interpreted program: its helper functions and its context.
#include <bpf/bpf.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/support/bpf/bpf_interpreter.h"

namespace millrace::test {
namespace {

// Some time after boot: all packets are of one moment.
constexpr std::uint64_t kJiffies = 1'000'000;
constexpr std::uint64_t kKtimeNs = 4'000'000'000'000;
constexpr std::size_t kEthernetBytes = 14;
constexpr std::uint64_t kInvalid = static_cast<std::uint64_t>(-22);  // -EINVAL

}  // namespace

void BpfInterpreter::call_helper(std::int32_t helper) {
  ++run_.helper_calls;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): registers hold addresses
  const auto map = [&]() -> const Map& { return *reinterpret_cast<const Map*>(registers_[1]); };
  // NOLINTNEXTLINE(performance-no-int-to-ptr): likewise
  const auto argument = [&](std::size_t n) { return reinterpret_cast<const void*>(registers_[n]); };
  std::uint64_t& result = registers_[0];
  switch (helper) {
    case BPF_FUNC_map_lookup_elem: {
      if (map().is_hash) {
        result = lookup_hash(map(), argument(2));
        break;
      }
      std::uint32_t key = 0;
      std::memcpy(&key, argument(2), sizeof(key));
      result = lookup(map(), key);
      break;
    }
    case BPF_FUNC_map_update_elem: {
      const int failed = bpf_map_update_elem(map().fd, argument(2), argument(3), registers_[4]);
      result = failed == 0 ? 0 : kInvalid;
      break;
    }
    case BPF_FUNC_get_smp_processor_id:
      result = cpu_;
      break;
    case BPF_FUNC_jiffies64:
      result = kJiffies;
      break;
    case BPF_FUNC_ktime_get_ns:
      result = kKtimeNs;
      break;
    case BPF_FUNC_redirect_map:
      result = redirect(map(), static_cast<std::uint32_t>(registers_[2]), registers_[3]);
      break;
    case BPF_FUNC_xdp_adjust_head:
      result = adjust_head(static_cast<std::int32_t>(registers_[2]));
      break;
    case BPF_FUNC_xdp_adjust_tail:
      result = adjust_tail(static_cast<std::int32_t>(registers_[2]));
      break;
    default:
      std::fprintf(stderr, "bpf_interpreter: helper %d is unknown\n", helper);
      std::abort();
  }
}

const BpfInterpreter::Map& BpfInterpreter::map_of(std::int32_t fd) const {
  const auto found = std::ranges::find(maps_, fd, &Map::fd);
  if (found == maps_.end()) {
    std::fprintf(stderr, "bpf_interpreter: no map %d\n", fd);
    std::abort();
  }
  return *found;
}

std::uint64_t BpfInterpreter::lookup(const Map& map, std::uint32_t key) const {
  if (map.values == nullptr || key >= map.entry_count) return 0;
  return reinterpret_cast<std::uint64_t>(map.values + std::size_t{key} * map.value_bytes);
}

// A copy of the value: the program only reads it.
std::uint64_t BpfInterpreter::lookup_hash(const Map& map, const void* key) {
  hash_value_.resize(map.value_bytes);
  if (bpf_map_lookup_elem(map.fd, key, hash_value_.data()) != 0) return 0;
  return reinterpret_cast<std::uint64_t>(hash_value_.data());
}

std::uint64_t BpfInterpreter::redirect(const Map& map, std::uint32_t key,
                                       std::uint64_t otherwise) const {
  std::uint32_t ifindex = 0;
  const bool is_there = bpf_map_lookup_elem(map.fd, &key, &ifindex) == 0 && ifindex != 0;
  return is_there ? std::uint64_t{XDP_REDIRECT} : otherwise & 3;
}

std::uint64_t BpfInterpreter::adjust_head(std::int64_t by) {
  const std::int64_t start = static_cast<std::int64_t>(start_) + by;
  if (start < 0 ||
      start + static_cast<std::int64_t>(kEthernetBytes) > static_cast<std::int64_t>(end_)) {
    return kInvalid;
  }
  start_ = static_cast<std::size_t>(start);
  return 0;
}

std::uint64_t BpfInterpreter::adjust_tail(std::int64_t by) {
  const std::int64_t end = static_cast<std::int64_t>(end_) + by;
  if (end > static_cast<std::int64_t>(memory_.size()) ||
      end < static_cast<std::int64_t>(start_ + kEthernetBytes)) {
    return kInvalid;
  }
  const auto new_end = static_cast<std::size_t>(end);
  if (new_end > end_) std::fill_n(memory_.begin() + static_cast<std::ptrdiff_t>(end_), by, 0);
  end_ = new_end;
  return 0;
}

bool BpfInterpreter::is_context(std::uint64_t address) const {
  const auto context = reinterpret_cast<std::uint64_t>(&context_);
  return address >= context && address < context + sizeof(context_);
}

// The program sees addresses in fields of 32 bits: the kernel, too, puts pointers in their place.
std::uint64_t BpfInterpreter::context_field(std::uint64_t address) const {
  switch (address - reinterpret_cast<std::uint64_t>(&context_)) {
    case offsetof(xdp_md, data):
    case offsetof(xdp_md, data_meta):
      return reinterpret_cast<std::uint64_t>(memory_.data() + start_);
    case offsetof(xdp_md, data_end):
      return reinterpret_cast<std::uint64_t>(memory_.data() + end_);
    case offsetof(xdp_md, ingress_ifindex):
      return context_.ingress_ifindex;
    default:
      return 0;
  }
}

}  // namespace millrace::test

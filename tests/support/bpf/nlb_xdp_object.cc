// SPDX-License-Identifier: Apache-2.0
#include "tests/support/bpf/nlb_xdp_object.h"

// The skeleton names the contract's structs without declaring them.
#include "dataplane/contract/xdp_abi.h"
// clang-format off
#include <nlb_xdp.skel.h>
// clang-format on

namespace millrace::test {

std::span<const std::byte> nlb_xdp_object() {
  std::size_t bytes = 0;
  const void* elf = nlb_xdp__elf_bytes(&bytes);
  return {static_cast<const std::byte*>(elf), bytes};
}

}  // namespace millrace::test

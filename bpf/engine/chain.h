// SPDX-License-Identifier: Apache-2.0
//
// The program among others of an interface. An interface takes one XDP program; libxdp's is a
// dispatcher that calls the others in order of priority, each replacing one of its functions
// (BPF_PROG_TYPE_EXT). Every change of the chain is a new dispatcher that libxdp puts in the place
// of the old one between two packets. Cold. The only user of libxdp.
#pragma once

#include <cstdint>

#include "bpf/engine/nics.h"
#include "bpf/engine/pins.h"
#include "bpf/engine/program.h"
#include "dataplane/core/result.h"

struct bpf_object;

namespace millrace::xdp {

// Whether this kernel can chain at all; errors say what to do instead.
[[nodiscard]] Status check_chains();

// Programs of others are in the chain of that interface.
[[nodiscard]] bool is_shared(std::uint32_t ifindex);

// A program of ours is in the chain of that interface, whichever daemon loaded it.
[[nodiscard]] bool is_in_chain(std::uint32_t ifindex);

// Loads `part`, which was opened and given its maps, into the chain of `nic`, and then takes
// everything of earlier daemons out of it: for a moment both are there, and what one leaves to the
// kernel the other one leaves, too. how.chain_priority must have a value.
[[nodiscard]] Status join_chain(bpf_object* part, const Nic& nic, const Attachment& how);

// Other programs stay. An interface that is gone is no error.
[[nodiscard]] Status leave_chain(std::uint32_t ifindex, const Pins& pins);

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
//
// Why the kernel would not attach the program to an interface, as far as it can be told. Cold.
#pragma once

#include "bpf/engine/nics.h"
#include "bpf/engine/program.h"
#include "dataplane/core/result.h"

namespace millrace::xdp {

// `error` is an errno.
[[nodiscard]] Error attach_error(const Nic& nic, Mode mode, int error);

}  // namespace millrace::xdp

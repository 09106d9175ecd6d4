// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/invariant.h"

namespace millrace {

const bool kChecksInvariants = MILLRACE_CHECKS_INVARIANTS;

}  // namespace millrace

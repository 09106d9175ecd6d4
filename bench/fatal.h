// SPDX-License-Identifier: Apache-2.0
//
// How a benchmark ends that cannot go on: one line on stderr, status 1. Cold.
#pragma once

#include <errno.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "dataplane/core/result.h"

namespace millrace::bench {

[[noreturn]] inline void fail(const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, why.c_str());
  std::exit(1);
}

template <typename T>
[[nodiscard]] T take(Result<T> result) {
  if (!result) fail(result.error().message);
  return std::move(result).value();
}

}  // namespace millrace::bench

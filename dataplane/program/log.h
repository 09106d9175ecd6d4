// SPDX-License-Identifier: Apache-2.0
//
// The log of every program: on stderr, a line per event, waiting for no reader (log_stream.h). A
// program flushes it in its loop, so that lost lines are told of when there is room again. Cold.
//
// When stderr is the journal, each line says its priority in the way of sd-daemon(3), "<4>" for a
// warning, so that `journalctl --priority warning` finds what needs somebody; name and time are the
// journal's own. Elsewhere the lines have both.
#pragma once

#include <spdlog/common.h>

#include <string>

namespace millrace::program {

// `name` is the program's. Nothing below `level` is written.
void start_log(const std::string& name, spdlog::level::level_enum level);

// A line outside of the log, from before it starts or at the end: why the program fails.
void print_failure(const std::string& name, const std::string& message);

}  // namespace millrace::program

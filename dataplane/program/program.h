// SPDX-License-Identifier: Apache-2.0
//
// What the engines' main.cc have in common: a command line that may name a file of options, a log
// on stderr, the signals that end a program, and the line that says why it cannot start. Cold.
#pragma once

#include <atomic>
#include <boost/program_options.hpp>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::program {

namespace po = boost::program_options;

// --log-level and --config, which every engine has.
void add_common_options(po::options_description& options);

// The command line, and behind it, where --config names one, a file of NAME=VALUE lines. `options`
// has the common ones and "help" in it. Boost throws on bad input; this is where it ends.
[[nodiscard]] Result<po::variables_map> parse(int argc, char** argv,
                                              const po::options_description& options,
                                              const po::positional_options_description& positional);

// To stderr as `name`, from the level on that --log-level says.
[[nodiscard]] Status start_log(const std::string& name, const po::variables_map& values);

// True from the first SIGTERM or SIGINT on. SIGPIPE is ignored: a reader of the log that goes away
// must not end anything.
[[nodiscard]] const std::atomic<bool>& stop_on_signals();

// Prints the one line that says why; returns the exit status.
[[nodiscard]] int fail(const std::string& name, const Error& error);

}  // namespace millrace::program

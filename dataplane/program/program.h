// SPDX-License-Identifier: Apache-2.0
//
// What the daemons' main.cc have in common: a command line, a log on stderr, the line that says why
// they cannot start, text on stdout; of the engines also a file of options that the command line
// may name, and the signals that end them. Cold.
#pragma once

#include <boost/program_options.hpp>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::program {

namespace po = boost::program_options;
using StopAsked = bool (*)();

// --log-level, --config and --control-user, which every engine has.
void add_common_options(po::options_description& options);

// The command line alone. Boost throws on bad input; this is where it ends.
[[nodiscard]] Result<po::variables_map> parse_words(
    int argc, char** argv, const po::options_description& options,
    const po::positional_options_description& positional);

// The command line, and behind it, where --config names one, a file of NAME=VALUE lines. `options`
// has the common ones and "help" in it.
[[nodiscard]] Result<po::variables_map> parse(int argc, char** argv,
                                              const po::options_description& options,
                                              const po::positional_options_description& positional);

// The number of --control-user; root's when that is left out and there is no such user.
[[nodiscard]] Result<std::uint32_t> control_user(const po::variables_map& values);

// Starts the log (log.h) as `name`, from the level with this word on. Ignores SIGPIPE: who reads
// the log, or asks at some socket, and goes away must not end the program.
[[nodiscard]] Status start_log(const std::string& name, const std::string& word);

// Of an engine, which outlives the terminal that it was started from and has no file to read again:
// SIGTERM and SIGINT end it, SIGHUP does not. The function that is returned is true from the first
// of the former on, and writes a line after one of the latter; the main loop is to ask it in each
// turn.
[[nodiscard]] StopAsked stop_on_signals();

// Prints the one line that says why; returns the exit status.
[[nodiscard]] int fail(const std::string& name, const Error& error);

// Puts what was asked for (--help) on stdout; returns the exit status, not 0 when it did not
// arrive.
[[nodiscard]] int print(const std::string& name, const std::string& text);

}  // namespace millrace::program

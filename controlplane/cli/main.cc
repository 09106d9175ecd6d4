// SPDX-License-Identifier: Apache-2.0
//
// `millrace`, the operator's command. Cold.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "controlplane/cli/cli.h"

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  return millrace::control::run_cli(args, std::cout, std::cerr, isatty(STDOUT_FILENO) == 1);
}

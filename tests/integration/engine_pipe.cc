// SPDX-License-Identifier: Apache-2.0
//
// An engine behind a pipe, for models in other languages: engine_pipe CONFIG reads commands from
// standard input and answers each `frame` with one line.
//
//   frame NIC HEX   -> forward NIC HEX | reply NIC HEX | punt NIC HEX | drop REASON
//   wait MS
//   sweep
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "dataplane/core/drop_reason.h"
#include "tests/support/cc/engine_under_test.h"
#include "tests/support/cc/golden_config.h"

namespace millrace::test {
namespace {

std::string hex(const Bytes& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string answer_of(const Outcome& outcome) {
  if (outcome.kind == core::VerdictKind::drop) {
    return std::string("drop ") + core::drop_reason_name(outcome.reason);
  }
  static constexpr const char* kNames[] = {"forward", "reply", "punt"};
  return std::string(kNames[static_cast<std::size_t>(outcome.kind)]) + " " +
         std::to_string(outcome.nic) + " " + hex(outcome.bytes);
}

Status read_config(const std::string& path, GoldenConfig& config) {
  std::ifstream file(path);
  if (!file) return Error{path + ": cannot be read"};
  for (std::string text; std::getline(file, text);) {
    if (text.empty() || text.starts_with('#')) continue;
    if (Status status = config.read({.number = 0, .text = text, .words = words_of_line(text)});
        !status) {
      return status.error().within(text);
    }
  }
  return ok();
}

int serve(GoldenConfig& config) {
  const auto engine = make_engine_under_test(config.nic_macs());
  const Image image = config.builder().build(1);
  engine->adopt(image);
  std::uint64_t now_ns = 1'000'000'000'000;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    std::string text;
    std::uint64_t number = 0;
    words >> command >> number >> text;
    if (command == "wait") now_ns += number * 1'000'000;
    if (command == "sweep") engine->sweep(now_ns);
    if (command != "frame") continue;
    const auto frame = hex_of(text);
    if (!frame) return 1;
    const auto outcomes = engine->run({{*frame, static_cast<std::uint8_t>(number)}}, now_ns);
    std::cout << answer_of(outcomes[0]) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace millrace::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "engine_pipe CONFIG\n";
    return 2;
  }
  millrace::test::GoldenConfig config;
  const auto status = millrace::test::read_config(argv[1], config);
  if (!status) {
    std::cerr << status.error().message << "\n";
    return 2;
  }
  return millrace::test::serve(config);
}

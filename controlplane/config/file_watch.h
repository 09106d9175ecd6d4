// SPDX-License-Identifier: Apache-2.0
//
// Whether the config in force is that of the config file: it is not after another file was applied,
// or when the file was edited and nobody applied it. Who looks into the file should know. Cold;
// time is an argument.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace millrace::control {

class ConfigFileWatch {
 public:
  // Whoever edits the file needs a while until it is applied.
  static constexpr std::uint64_t kEditNs = 60'000'000'000;

  explicit ConfigFileWatch(std::string path) : path_(std::move(path)) {}

  // `in_force` is what dump_config() makes of the config in force. Reads the file when that or the
  // file has changed since the last look; a file that cannot be loaded differs.
  void look(const std::string& in_force, std::uint64_t now_ns);

  // What is wrong since kEditNs or more, with what to do; "" when nothing is.
  [[nodiscard]] const std::string& alarm() const { return alarm_; }

 private:
  [[nodiscard]] bool is_changed();

  std::string path_;
  std::string in_force_;
  struct stat seen_ {};
  std::uint64_t differs_since_ns_ = 0;  // 0: does not
  std::string alarm_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// What the config file says, and whether that is the config in force. It is not after another file
// was applied, or when the file was edited and nobody applied it: who looks into the file should
// know. The one place where this is decided, for `status`, the alarm, an apply and a start. Cold;
// time is an argument.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/config/config_source.h"

namespace millrace::control {

class ConfigFileWatch final : public ConfigSource {
 public:
  // Whoever edits the file needs a while until it is applied.
  static constexpr std::uint64_t kEditNs = 60'000'000'000;

  explicit ConfigFileWatch(std::string path) : path_(std::move(path)) {}

  [[nodiscard]] const std::string& name() const override { return path_; }
  // One that cannot be read is wrong like any.
  [[nodiscard]] LoadResult load(const FindOwnInterface& own_interface) const override {
    return load_config_file(path_, own_interface);
  }
  [[nodiscard]] std::optional<std::string> text() const override;
  // Does its work again only when the file or `text` has changed since the last call.
  [[nodiscard]] bool says(const std::string& text) override;

  void look(const std::string& in_force, std::uint64_t now_ns) override;
  // From kEditNs on.
  [[nodiscard]] const std::string& alarm() const override { return alarm_; }

 private:
  [[nodiscard]] bool is_changed();
  void read();

  std::string path_;
  struct stat seen_ {};
  std::uint64_t meaning_ = 0;  // of the file; compared within this process, never kept
  std::string asked_;
  bool is_said_ = false;
  std::uint64_t differs_since_ns_ = 0;  // 0: does not
  std::string file_error_;              // the first; "" when the file is a config
  std::string alarm_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Where the config comes from that the operator wants: today a file that is watched
// (file_watch.h). Cold.
#pragma once

#include <optional>
#include <string>

namespace millrace::control {

class ConfigSource {
 public:
  virtual ~ConfigSource() = default;

  // The bytes as they are now, good or not, at most one more than a config may have; nullopt when
  // they cannot be read.
  [[nodiscard]] virtual std::optional<std::string> text() const = 0;

  // Whether the source says what `text` does: comments, spaces, and defaults that are written out
  // or not make no difference. A text that is no good config says what its bytes say. Both are read
  // by this release, so that `text` may be of another one.
  [[nodiscard]] virtual bool says(const std::string& text) = 0;
};

}  // namespace millrace::control

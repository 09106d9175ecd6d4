// SPDX-License-Identifier: Apache-2.0
//
// Where the config comes from that the operator wants: today a file that is watched
// (file_watch.h). Cold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/config/load.h"

namespace millrace::control {

class ConfigSource {
 public:
  virtual ~ConfigSource() = default;

  // For the operator: the file's path.
  [[nodiscard]] virtual const std::string& name() const = 0;

  // The config that the source has now, or all that is wrong with it. With `own_interface`, a VIP
  // that is the node's own address is wrong, too.
  [[nodiscard]] virtual LoadResult load(const FindOwnInterface& own_interface) const = 0;

  // The bytes as they are now, good or not, at most one more than a config may have; nullopt when
  // they cannot be read.
  [[nodiscard]] virtual std::optional<std::string> text() const = 0;

  // Whether the source says what `text` does: comments, spaces, and defaults that are written out
  // or not make no difference. A text that is no good config says what its bytes say. Both are read
  // by this release, so that `text` may be of another one.
  [[nodiscard]] virtual bool says(const std::string& text) = 0;

  // Call it often, with the config in force as text.
  virtual void look(const std::string& in_force, std::uint64_t now_ns) = 0;
  // What the operator should know when the source says something else for long, with what to do; ""
  // when nothing is wrong.
  [[nodiscard]] virtual const std::string& alarm() const = 0;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// The engine's side of the config segment: notices a new generation, has it checked, hands it out.
// Runs on the engine's main thread every millisecond or so; nothing here is on the packet path.
//
//   poll() -> none      nothing new (or no segment yet)
//          -> adopted   a checked config: give it to the workers
//          -> refused   segment or image failed its checks: count and report; what runs stays
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "dataplane/core/config_view.h"
#include "dataplane/shm/segment.h"

namespace millrace::shm {

// A view and the mapped memory that it points into. Keep one for as long as any worker may read the
// view: until all of them adopted a newer one.
struct CheckedConfig {
  core::ConfigView view;
  std::shared_ptr<const Segment> segment;
};

struct ConfigEvent {
  enum class Kind { none, adopted, refused };
  Kind kind = Kind::none;
  CheckedConfig config;          // adopted
  std::uint64_t generation = 0;  // adopted and refused; 0 when the segment itself was refused
  std::string reason;            // refused
};

class ConfigReader {
 public:
  // `path` of the config segment; it need not exist yet. It is believed when root, the effective
  // user or the control plane's user `control_user` (a number; root: no other) alone can write it.
  explicit ConfigReader(std::string path, std::uint32_t control_user = 0)
      : path_(std::move(path)), control_user_(control_user) {}

  // Each generation and each bad file is reported once. When the control plane replaced the
  // segment, the new one is joined; configs handed out before stay valid.
  [[nodiscard]] ConfigEvent poll();

  // CLOCK_MONOTONIC of the control plane's last sign of life; 0 when there was none.
  [[nodiscard]] std::uint64_t control_plane_heartbeat_ns() const;

 private:
  [[nodiscard]] std::optional<ConfigEvent> join_if_new();
  [[nodiscard]] ConfigEvent check_newest();
  [[nodiscard]] ConfigEvent refuse(std::uint64_t generation, std::string reason);

  std::string path_;
  std::uint32_t control_user_;
  std::shared_ptr<const Segment> segment_;
  std::string join_error_;             // of the last try, so that it is reported once
  std::uint64_t seen_generation_ = 0;  // of segment_: adopted or refused
  CheckedConfig adopted_;
};

}  // namespace millrace::shm

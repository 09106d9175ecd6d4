// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/config_reader.h"

#include <utility>

#include "dataplane/shm/atomic.h"

namespace millrace::shm {

ConfigEvent ConfigReader::poll() {
  if (std::optional<ConfigEvent> event = join_if_new()) return std::move(*event);
  if (segment_ == nullptr) return {};
  // Pairs with the release in control::Publisher: the image is complete before its number shows.
  const std::uint64_t generation = load_acquire(segment_->header<mr_config_header>()->generation);
  if (generation == seen_generation_ || generation == 0) return {};
  return check_newest();
}

std::uint64_t ConfigReader::control_plane_heartbeat_ns() const {
  return segment_ == nullptr ? 0 : load_relaxed(segment_->header<mr_config_header>()->heartbeat_ns);
}

// Joins the file that the path names, unless it is the one in use. A file that was refused is tried
// again each time, because an inode number alone does not tell its successor from it.
std::optional<ConfigEvent> ConfigReader::join_if_new() {
  if (segment_ != nullptr && !segment_->is_replaced()) return std::nullopt;
  if (os::identity_of(path_) == os::FileIdentity{}) return std::nullopt;
  Result<Segment> joined = Segment::join(path_, kConfigSpec, os::Access::read_only);
  if (Status own = joined ? joined->check_trust(control_user_) : ok(); !own) {
    joined = Error{own.error().message +
                   "; if it is the control plane's, name its user by --control-user"};
  }
  if (!joined) {
    if (joined.error().message == join_error_) return std::nullopt;
    join_error_ = joined.error().message;
    return refuse(0, join_error_);
  }
  join_error_.clear();
  segment_ = std::make_shared<const Segment>(std::move(*joined));
  seen_generation_ = 0;
  return std::nullopt;
}

ConfigEvent ConfigReader::check_newest() {
  if (segment_->is_truncated()) {
    segment_ = nullptr;  // wait for a file that replaces it
    return refuse(0, path_ + ": file was truncated while in use");
  }
  const auto* header = segment_->header<mr_config_header>();
  // While an image is being checked the control plane may publish so many more that its root is
  // gone: that is no fault of the image, so the newest is tried instead. Bounded: one try per root.
  for (std::uint32_t attempt = 0; attempt < MR_ROOT_COUNT; ++attempt) {
    const std::uint64_t generation = load_acquire(header->generation);
    const bool is_same_segment = adopted_.segment == segment_;
    Result<core::ConfigView> view = core::check_image(segment_->bytes(), generation,
                                                      is_same_segment ? &adopted_.view : nullptr);
    if (view) {
      seen_generation_ = generation;
      adopted_ = CheckedConfig{.view = *view, .segment = segment_};
      return {.kind = ConfigEvent::Kind::adopted,
              .config = adopted_,
              .generation = generation,
              .reason = {}};
    }
    if (load_acquire(header->generation) == generation) {
      seen_generation_ = generation;
      return refuse(generation, view.error().message);
    }
  }
  return {};  // outpaced; the next poll tries again
}

ConfigEvent ConfigReader::refuse(std::uint64_t generation, std::string reason) {
  return {.kind = ConfigEvent::Kind::refused,
          .config = {},
          .generation = generation,
          .reason = std::move(reason)};
}

}  // namespace millrace::shm

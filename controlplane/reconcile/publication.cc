// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/publication.h"

#include <algorithm>

#include "controlplane/reconcile/image_plan.h"

namespace millrace::control {

namespace {

Result<std::unique_ptr<Publisher>> open_publisher(const Publication::Options& options,
                                                  std::uint64_t generation_floor) {
  EngineWatch engine(options.runtime_dir);
  (void)engine.poll(0, [](const auto&) { return LinkState{}; });  // for its generations alone
  std::uint64_t floor = std::max(generation_floor, engine.info().adopted_generation);
  if (const shm::StatsReader* stats = engine.stats()) {
    for (std::uint32_t i = 0; i < stats->worker_count(); ++i) {
      floor = std::max(floor, stats->acknowledged_generation(i));
    }
  }
  return Publisher::open({.path = options.runtime_dir + "/config",
                          .segment_bytes = options.segment_bytes,
                          .generation_floor = floor,
                          .step_hook = {}});
}

}  // namespace

Result<std::unique_ptr<Publication>> Publication::open(Options options,
                                                       std::uint64_t generation_floor, Host& host) {
  Result<std::unique_ptr<Publisher>> publisher = open_publisher(options, generation_floor);
  if (!publisher) return publisher.error();
  if (const std::string& why = (*publisher)->rejoin_error(); !why.empty()) {
    host.log(LogLevel::warning, "made a new config segment: " + why);
  }
  return std::unique_ptr<Publication>(
      new Publication(std::move(options), std::move(*publisher), host));
}

bool Publication::is_news(const ImageContents& contents) const {
  return !is_known_ || !are_equal(contents, contents_);
}

Status Publication::commit(ImageContents contents, std::uint64_t now_ns) {
  contents_ = std::move(contents);
  return commit_contents(now_ns);
}

Status Publication::commit_contents(std::uint64_t now_ns) {
  const Result<std::uint64_t> generation = publisher_->commit();
  is_known_ = static_cast<bool>(generation);
  if (!generation) return generation.error();
  published_at_ns_ = now_ns;
  return ok();
}

void Publication::publish_draft(std::uint64_t now_ns) {
  Status published = publisher_->prepare(contents_);
  if (published) published = commit_contents(now_ns);
  is_known_ = static_cast<bool>(published);  // else everything is planned anew
  note(published, now_ns);
}

void Publication::note(const Status& published, std::uint64_t now_ns) {
  if (!published) trouble_.note_try(now_ns);
  trouble_.note(published ? "" : "config is not published: " + published.error().message,
                "config is published again");
}

bool Publication::renew_if_lost(std::uint64_t generation_floor, std::uint64_t now_ns) {
  if (!publisher_->is_lost() || trouble_.waits(now_ns)) return false;
  Result<std::unique_ptr<Publisher>> publisher =
      open_publisher(options_, std::max(generation_floor, generation()));
  if (!publisher) {
    trouble_.note_try(now_ns);
    trouble_.note("config segment is lost: " + publisher.error().message, "");
    return false;
  }
  host_.log(LogLevel::warning, "the config segment was removed or replaced; made a new one");
  publisher_ = std::move(*publisher);
  is_known_ = false;
  return true;
}

}  // namespace millrace::control

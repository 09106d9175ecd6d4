// SPDX-License-Identifier: Apache-2.0
//
// What is in force: the image that was published last, what is known of it, and what keeps the next
// one from being published. Cold; time is an argument.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "controlplane/publish/publisher.h"
#include "controlplane/reconcile/engine_watch.h"
#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/trouble.h"

namespace millrace::control {

class Publication {
 public:
  struct Options {
    std::string runtime_dir;
    std::uint64_t segment_bytes = Publisher::Options{}.segment_bytes;
  };
  // Joins the config segment, or makes a new one, which begins above `generation_floor` and all
  // generations that an engine has seen.
  [[nodiscard]] static Result<std::unique_ptr<Publication>> open(Options options,
                                                                 std::uint64_t generation_floor,
                                                                 Host& host);

  [[nodiscard]] std::uint64_t generation() const { return publisher_->generation(); }
  [[nodiscard]] std::uint64_t published_at_ns() const { return published_at_ns_; }
  [[nodiscard]] const core::ConfigView& in_force() const { return publisher_->published(); }
  [[nodiscard]] const Publisher& segment() const { return *publisher_; }

  // What the image in force was made of; says nothing of it while !is_known().
  [[nodiscard]] const ImageContents& contents() const { return contents_; }
  [[nodiscard]] bool is_known() const { return is_known_; }
  // True when publishing these would tell an engine something new.
  [[nodiscard]] bool is_news(const ImageContents& contents) const;

  // As of the Publisher.
  [[nodiscard]] Status prepare(const ImageContents& contents) {
    return publisher_->prepare(contents);
  }
  void abandon() { publisher_->abandon(); }
  // Puts in force what was prepared of these.
  [[nodiscard]] Status commit(ImageContents contents, std::uint64_t now_ns);
  // contents() for a change of some groups, which publish_draft() puts in force.
  [[nodiscard]] ImageContents& draft() { return contents_; }
  // On failure nothing is known any more.
  void publish_draft(std::uint64_t now_ns);
  // Nothing is known any more of what is in force.
  void forget() { is_known_ = false; }
  // Whether the last change was published, for the alarm.
  void note(const Status& published, std::uint64_t now_ns);

  void reclaim(EngineWatch& engine) { publisher_->reclaim(engine.oldest_read(generation())); }
  void beat(std::uint64_t now_ns) { publisher_->beat(now_ns); }
  // Makes a new segment when somebody removed or replaced the file. Engines that still read the old
  // one join the new one. True when it did: then all is to be published anew.
  [[nodiscard]] bool renew_if_lost(std::uint64_t generation_floor, std::uint64_t now_ns);

  [[nodiscard]] const std::string& alarm() const { return trouble_.alarm(); }
  // The last try failed, and the next one is not due yet.
  [[nodiscard]] bool waits(std::uint64_t now_ns) const { return trouble_.waits(now_ns); }

 private:
  Publication(Options options, std::unique_ptr<Publisher> publisher, Host& host)
      : options_(std::move(options)),
        publisher_(std::move(publisher)),
        host_(host),
        trouble_(host) {}

  [[nodiscard]] Status commit_contents(std::uint64_t now_ns);

  Options options_;
  std::unique_ptr<Publisher> publisher_;
  Host& host_;
  Trouble trouble_;
  ImageContents contents_;
  bool is_known_ = false;
  std::uint64_t published_at_ns_ = 0;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/publisher.h"

#include <utility>

#include "dataplane/os/file.h"
#include "dataplane/shm/segment.h"

namespace millrace::control {

namespace {

// The arena over the image: see the head of publisher.h.
constexpr std::uint64_t kRoomFactor = 3;

}  // namespace

Result<std::unique_ptr<Publisher>> Publisher::open(const Options& options) {
  const ImageWriter::Options of_writer{.path = options.path,
                                       .segment_bytes = options.segment_bytes,
                                       .generation_floor = options.generation_floor,
                                       .step_hook = options.step_hook};
  shm::Segment::discard(options.path);  // of a predecessor that died before it was in place
  std::string why_not;
  if (os::identity_of(options.path) != os::FileIdentity{}) {
    Result<std::unique_ptr<ImageWriter>> joined = ImageWriter::join(of_writer);
    if (joined) return std::unique_ptr<Publisher>(new Publisher(options, std::move(*joined)));
    why_not = joined.error().message;
  }
  Result<std::unique_ptr<ImageWriter>> created = ImageWriter::create(of_writer);
  if (!created) return created.error();
  std::unique_ptr<Publisher> publisher(new Publisher(options, std::move(*created)));
  publisher->rejoin_error_ = std::move(why_not);
  return publisher;
}

Status Publisher::prepare(const ImageContents& contents) {
  abandon();
  const std::uint64_t wanted = kRoomFactor * ImageWriter::bytes_of_image(contents);
  if (wanted > writer_->arena_bytes()) return prepare_aside(contents, wanted);
  Status prepared = writer_->prepare(contents);
  if (prepared || !writer_->is_out_of_room()) return prepared;
  // Where nobody keeps blocks that are not in use, the rest of the room is in pieces too small.
  if (!writer_->is_waiting()) return prepare_aside(contents, 2 * writer_->arena_bytes());
  // To wait for workers that cannot be seen would have no end.
  return are_readers_seen_ ? prepared : prepare_aside(contents, writer_->arena_bytes());
}

Status Publisher::prepare_aside(const ImageContents& contents, std::uint64_t arena_bytes) {
  std::uint64_t segment_bytes = options_.segment_bytes;
  while (segment_bytes < arena_bytes + sizeof(mr_config_header)) segment_bytes *= 2;
  Result<std::unique_ptr<ImageWriter>> aside =
      ImageWriter::create_aside({.path = options_.path,
                                 .segment_bytes = segment_bytes,
                                 .generation_floor = writer_->last_generation(),
                                 .step_hook = options_.step_hook});
  if (!aside) return aside.error();
  if (Status prepared = (*aside)->prepare(contents); !prepared) return prepared;
  aside_ = std::move(*aside);
  return ok();
}

Result<std::uint64_t> Publisher::commit() {
  if (aside_ == nullptr) return writer_->commit();
  std::unique_ptr<ImageWriter> aside = std::move(aside_);
  const Result<std::uint64_t> generation = aside->commit();
  if (generation) writer_ = std::move(aside);
  return generation;
}

void Publisher::abandon() {
  aside_.reset();
  writer_->abandon();
}

Result<std::uint64_t> Publisher::publish(const ImageContents& contents) {
  if (Status prepared = prepare(contents); !prepared) return prepared.error();
  return commit();
}

}  // namespace millrace::control

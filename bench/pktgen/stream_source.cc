// SPDX-License-Identifier: Apache-2.0
//
// HOT from plan() on; make() is cold.
#include "bench/pktgen/stream_source.h"

#include <cstring>

#include "bench/pktgen/frame_rewrite.h"
#include "bench/pktgen/malformed.h"
#include "dataplane/dpdk/mbuf_pool.h"

namespace millrace::pktgen {
namespace {

Result<std::vector<Frame>> frames_of(const Stream& stream) {
  std::vector<Frame> frames;
  switch (stream.source) {
    case Source::headers:
      break;
    case Source::malformed:
      for (MalformedFrame& made : malformed_frames(stream.headers)) {
        frames.push_back(std::move(made.frame));
      }
      break;
    case Source::replay: {
      auto captured = read_capture(stream.capture, dpdk::kFrameBytesUsual);
      if (!captured) return captured.error();
      frames = std::move(captured).value();
      FrameRewrite rewrite{.source_mac = stream.headers.source_mac,
                           .destination_mac = stream.headers.destination_mac,
                           .destination = {},
                           .clients = {}};
      if (stream.rewrites_destination) rewrite.destination = stream.headers.destination;
      if (stream.rewrites_clients) rewrite.clients = stream.headers.clients;
      for (Frame& frame : frames) rewrite_frame(frame, rewrite);
      break;
    }
  }
  return frames;
}

}  // namespace

Result<StreamSource> StreamSource::make(const Stream& stream, const StreamPlace& place) {
  auto frames = frames_of(stream);
  if (!frames) return frames.error().within("stream " + stream.name);
  return StreamSource(stream, place, std::move(frames).value());
}

StreamSource::StreamSource(const Stream& stream, const StreamPlace& place,
                           std::vector<Frame> frames)
    : index_(place.index),
      is_measured_(stream.is_measured),
      clock_(stream.rate),
      chooser_(stream.flows, Random(place.seed ^ place.index).next()),
      sizes_random_(Random(place.seed ^ (0x100u + place.index)).next()),
      sizes_(stream.sizes),
      frames_(std::move(frames)) {
  if (stream.source == Source::headers) template_.emplace(stream.headers, stream.is_measured);
}

std::uint32_t StreamSource::plan(std::uint64_t now_ns) noexcept {
  if (taken_ < planned_) return planned_ - taken_;
  clock_.give_up_lost_time(now_ns);
  planned_ = 0;
  taken_ = 0;
  while (planned_ < core::kBurstMax && clock_.is_due(now_ns)) {
    std::uint32_t length = 0;
    if (template_) {
      length = sizes_[sizes_.size() == 1
                          ? 0
                          : sizes_random_.below(static_cast<std::uint32_t>(sizes_.size()))];
    } else {
      length = static_cast<std::uint32_t>(frames_[next_frame_].size());
      flows_[planned_] = static_cast<std::uint32_t>(next_frame_);
      next_frame_ = next_frame_ + 1 == frames_.size() ? 0 : next_frame_ + 1;
    }
    lengths_[planned_++] = static_cast<std::uint16_t>(length);
    clock_.charge(length);
  }
  if (template_) chooser_.choose({flows_.data(), planned_});
  return planned_;
}

std::uint32_t StreamSource::write_next(std::uint8_t* frame, std::uint64_t now_ns) noexcept {
  const std::uint32_t at = taken_++;
  const std::uint64_t sequence = sequence_++;
  if (!template_) {
    std::memcpy(frame, frames_[flows_[at]].data(), lengths_[at]);
    return lengths_[at];
  }
  MarkWords mark{0, 0};
  if (is_measured_) {
    mark = words_of(Mark{.stream = index_, .sequence = sequence, .sent_ns = now_ns});
  }
  template_->write(frame, {.flow = flows_[at], .frame_bytes = lengths_[at], .mark = mark});
  return lengths_[at];
}

}  // namespace millrace::pktgen

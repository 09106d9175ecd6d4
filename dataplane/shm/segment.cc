// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/os/clock.h"
#include "dataplane/shm/atomic.h"

namespace millrace::shm {

const SegmentSpec kConfigSpec = {
    .kind = MR_SEGMENT_CONFIG,
    .struct_bytes = {sizeof(mr_config_header), sizeof(mr_image), sizeof(mr_listener),
                     sizeof(mr_target_group), sizeof(mr_target), sizeof(mr_lookup_slot),
                     sizeof(mr_table_entry), sizeof(mr_next_hop)},
    .bytes_min = sizeof(mr_config_header)};

const SegmentSpec kStatsSpec = {
    .kind = MR_SEGMENT_STATS,
    .struct_bytes = {sizeof(mr_stats_header), sizeof(mr_worker_stats), sizeof(mr_listener_stats),
                     sizeof(mr_target_stats), sizeof(mr_nic), MR_COUNTER_COUNT,
                     MR_DROP_REASON_COUNT, 0},
    .bytes_min = sizeof(mr_stats_header)};

namespace {

std::string hex(std::uint64_t value) {
  char text[20];
  (void)::snprintf(text, sizeof(text), "0x%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string differs(const char* what, const std::string& found, const std::string& wanted) {
  return std::string(what) + " is " + found + " but must be " + wanted;
}

}  // namespace

Status check_segment_header(std::span<const std::byte> bytes, std::uint64_t file_bytes,
                            const SegmentSpec& spec) {
  mr_segment_header header;
  if (bytes.size() < sizeof(header) || file_bytes < spec.bytes_min) {
    return Error{"file has " + std::to_string(file_bytes) + " bytes, too short for its header of " +
                 std::to_string(spec.bytes_min)};
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != MR_SEGMENT_MAGIC) {
    return Error{differs("magic", hex(header.magic), hex(MR_SEGMENT_MAGIC)) +
                 " (no Millrace segment, or one of a machine with another byte order)"};
  }
  if (header.abi_version != MR_ABI_VERSION) {
    return Error{
        differs("ABI version", std::to_string(header.abi_version), std::to_string(MR_ABI_VERSION)) +
        " (install the same release of all Millrace programs)"};
  }
  if (header.kind != static_cast<std::uint32_t>(spec.kind)) {
    return Error{differs("segment kind", std::to_string(header.kind), std::to_string(spec.kind))};
  }
  if (header.total_bytes != file_bytes) {
    return Error{differs("total size in the header", std::to_string(header.total_bytes),
                         "the file's " + std::to_string(file_bytes))};
  }
  for (std::size_t i = 0; i < spec.struct_bytes.size(); ++i) {
    if (header.struct_bytes[i] == spec.struct_bytes[i]) continue;
    return Error{differs(("struct_bytes[" + std::to_string(i) + "]").c_str(),
                         std::to_string(header.struct_bytes[i]),
                         std::to_string(spec.struct_bytes[i]))};
  }
  return ok();
}

Result<Segment> Segment::create(const std::string& path, const SegmentSpec& spec,
                                std::uint64_t total_bytes, std::uint64_t reserved_bytes) {
  const std::string temporary = path + ".new";
  (void)::unlink(temporary.c_str());  // left over from a creator that died; absent is fine
  Result<os::File> file = os::File::open_shared(temporary, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return file.error();
  if (::ftruncate(file->fd(), static_cast<off_t>(total_bytes)) != 0) {
    return os::os_error("cannot make " + temporary + " " + std::to_string(total_bytes) +
                        " bytes long");
  }
  if (Status reserved = file->reserve(0, reserved_bytes); !reserved) {
    return reserved.error().within(temporary);
  }
  Result<os::Mapping> mapping = os::Mapping::map(*file, total_bytes, os::Access::read_write);
  if (!mapping) return mapping.error().within(temporary);

  Segment segment;
  segment.path_ = path;
  segment.identity_ = os::identity_of(*file);
  segment.file_ = std::move(*file);
  segment.mapping_ = std::move(*mapping);
  auto* header = segment.header<mr_segment_header>();
  header->abi_version = MR_ABI_VERSION;
  header->kind = static_cast<std::uint32_t>(spec.kind);
  header->total_bytes = total_bytes;
  header->created_ns = clock_ns(CLOCK_BOOTTIME);
  header->creator_pid = static_cast<std::uint32_t>(::getpid());
  std::memcpy(header->struct_bytes, spec.struct_bytes.data(), sizeof(header->struct_bytes));
  return segment;
}

Status Segment::publish() {
  // Pairs with nothing but the rename: readers come through the path, after it.
  store_release(header<mr_segment_header>()->magic, MR_SEGMENT_MAGIC);
  if (::rename((path_ + ".new").c_str(), path_.c_str()) != 0) {
    return os::os_error("cannot rename " + path_ + ".new into place");
  }
  return ok();
}

void Segment::discard(const std::string& path) { (void)::unlink((path + ".new").c_str()); }

Status Segment::renew(const SegmentSpec& spec) {
  const std::uint64_t total_bytes = mapping_.bytes().size();
  const Result<os::Mapping> old = os::Mapping::map(file_, total_bytes, os::Access::read_only);
  if (!old) return old.error().within(path_);
  const os::CutGuard guard(old->bytes());
  Result<Segment> anew = create(path_, spec, total_bytes, total_bytes);
  if (!anew) return anew.error();

  const auto words_of = [](const os::Mapping& mapping) {
    return std::span(reinterpret_cast<std::uint64_t*>(mapping.bytes().data()),
                     mapping.bytes().size() / sizeof(std::uint64_t))
        .subspan(sizeof(mr_segment_header) / sizeof(std::uint64_t));
  };
  const std::span<std::uint64_t> own = words_of(mapping_);
  const std::span<std::uint64_t> after = words_of(anew->mapping_);
  for (std::size_t i = 0; i < own.size(); ++i) store_relaxed(after[i], load_relaxed(own[i]));
  // From one store of another thread to the next, which then goes to the new file.
  if (::mmap(mapping_.bytes().data(), total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             anew->file_.fd(), 0) == MAP_FAILED) {
    return os::os_error("cannot map " + path_ + " anew");
  }
  guard_.reset();
  file_ = std::move(anew->file_);
  identity_ = anew->identity_;
  raise_words(after, words_of(*old));
  return publish();
}

void raise_words(std::span<std::uint64_t> words, std::span<const std::uint64_t> least) {
  for (std::size_t i = 0; i < least.size(); ++i) {
    const std::uint64_t last = load_relaxed(least[i]);
    std::atomic_ref<std::uint64_t> word(words[i]);
    for (std::uint64_t now = word.load(std::memory_order_relaxed);
         now < last && !word.compare_exchange_weak(now, last, std::memory_order_relaxed);) {
    }
  }
}

Result<Segment> Segment::join(const std::string& path, const SegmentSpec& spec, os::Access access) {
  Result<os::File> file = access == os::Access::read_only
                              ? os::File::open(path, O_RDONLY | O_NOFOLLOW)
                              : os::File::open_shared(path, O_RDWR);
  if (!file) return file.error();
  Result<std::uint64_t> size = file->size_bytes();
  if (!size) return size.error().within(path);

  // The header is read, not mapped, so that a file that shrinks meanwhile is an error and no
  // SIGBUS.
  std::array<std::byte, sizeof(mr_segment_header)> head{};
  const ssize_t read = ::pread(file->fd(), head.data(), head.size(), 0);
  if (read < 0) return os::os_error("cannot read " + path);
  const Status checked =
      check_segment_header(std::span(head).first(static_cast<std::size_t>(read)), *size, spec);
  if (!checked) return checked.error().within(path);

  Result<os::Mapping> mapping = os::Mapping::map(*file, *size, access);
  if (!mapping) return mapping.error().within(path);
  Segment segment;
  segment.path_ = path;
  segment.identity_ = os::identity_of(*file);
  segment.file_ = std::move(*file);
  segment.mapping_ = std::move(*mapping);
  return segment;
}

Status Segment::check_trust(std::uint32_t other) const {
  const Result<bool> trusted = file_.is_trusted(other);
  if (!trusted) return trusted.error().within(path_);
  return *trusted ? ok() : Status(os::untrusted(path_));
}

bool Segment::is_truncated() const {
  Result<std::uint64_t> size = file_.size_bytes();
  if (!size || *size < mapping_.bytes().size() || guard_.was_cut()) return true;
  return load_relaxed(header<mr_segment_header>()->magic) != MR_SEGMENT_MAGIC;
}

}  // namespace millrace::shm

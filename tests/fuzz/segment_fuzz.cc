// SPDX-License-Identifier: Apache-2.0
//
// Files that say they are segments, through everything that joins one: the engine's config reader,
// the control plane's stats reader. They must be refused with a reason or be safe to read.
//
// Input: [u8 mode][u16 cut][...]. Mode bits 0-1: 0 config, 1 stats, 2 and 3 the rest is the file.
// Otherwise the rest are patches to a valid file. `cut`, if not 0, is the file's new size.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "dataplane/shm/config_reader.h"
#include "dataplane/shm/segment.h"
#include "dataplane/shm/stats_reader.h"
#include "dataplane/shm/stats_writer.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/patches.h"
#include "tests/support/cc/image_builder.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::fuzz {
namespace {

using Bytes = std::vector<std::byte>;

Bytes config_file() {
  test::ImageBuilder builder;
  const auto group = builder.add_group({.table_slots = 7});
  static_cast<void>(
      builder.add_target({.group_slot = group, .addr = test::addr_of("10.0.1.11"), .port = 8080}));
  static_cast<void>(builder.add_listener(
      {.vip_addr = test::addr_of("203.0.113.10"), .port = 80, .group_slot = group}));
  test::Image image = builder.build(1);
  auto* header = reinterpret_cast<mr_config_header*>(image.segment().data());
  std::ranges::copy(shm::kConfigSpec.struct_bytes, header->segment.struct_bytes);
  return {image.segment().begin(), image.segment().end()};
}

Bytes stats_file() {
  const test::TempDir dir;
  const std::string path = dir.path() + "/stats";
  auto writer = shm::StatsWriter::create(path, {.worker_count = 2,
                                                .listener_slots = 4,
                                                .target_slots = 4,
                                                .nics = {mr_nic{}},
                                                .flow_table_dir = ""});
  require(writer.has_value() && writer->publish(), "a stats segment can be made");
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> read{std::istreambuf_iterator<char>(file), {}};
  Bytes bytes(read.size());
  std::memcpy(bytes.data(), read.data(), read.size());
  return bytes;
}

// An unnamed file that can be opened by path all the same.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("segment", MFD_CLOEXEC)) { require(fd_ >= 0, "memfd"); }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  void fill(std::span<const std::byte> bytes) const {
    require(::ftruncate(fd_, 0) == 0, "ftruncate");
    const auto written = ::pwrite(fd_, bytes.data(), bytes.size(), 0);
    require(written == static_cast<ssize_t>(bytes.size()), "pwrite");
  }

 private:
  int fd_;
};

void read_stats(const std::string& path) {
  const auto reader = shm::StatsReader::join(path);
  if (!reader) return require(!reader.error().message.empty(), "a refusal says why");
  require(!reader->is_stale(), "just joined");
  const shm::EngineInfo engine = reader->engine();
  require(engine.nics.size() <= MR_NIC_COUNT_MAX, "no more nics than the format has");
  for (std::uint32_t i = 0; i < reader->worker_count(); ++i) {
    static_cast<void>(reader->worker(i));
    static_cast<void>(reader->acknowledged_generation(i));
  }
  static_cast<void>(reader->acknowledged_by_all());
  for (std::uint32_t i = 0; i < 8; ++i) {
    static_cast<void>(reader->listener(i));
    static_cast<void>(reader->target(i));
  }
  static_cast<void>(reader->listener(reader->listener_slots() - 1));
  static_cast<void>(reader->target(reader->target_slots() - 1));
}

void read_config(const std::string& path) {
  shm::ConfigReader reader(path);
  const shm::ConfigEvent event = reader.poll();
  if (event.kind == shm::ConfigEvent::Kind::refused) {
    require(!event.reason.empty(), "a refusal says why");
  }
  if (event.kind == shm::ConfigEvent::Kind::adopted) {
    require(event.config.view.image != nullptr && event.config.segment != nullptr,
            "an adopted config is there");
  }
  static_cast<void>(reader.control_plane_heartbeat_ns());
  require(reader.poll().kind == shm::ConfigEvent::Kind::none, "everything is reported once");
}

void run(Input input) {
  static const Bytes config = config_file();
  static const Bytes stats = stats_file();
  static const MemoryFile file;
  const std::uint8_t mode = input.u8();
  const std::uint16_t cut = input.u16();
  Bytes bytes;
  if ((mode & 2) != 0) {
    const auto rest = std::as_bytes(input.bytes(1 << 16));
    bytes.assign(rest.begin(), rest.end());
  } else {
    bytes = (mode & 1) == 0 ? config : stats;
    damage(bytes, input);
    if (cut != 0) bytes.resize(cut);
  }
  file.fill(bytes);
  read_config(file.path());
  read_stats(file.path());
}

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) millrace::fuzz::run({data, size});
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// The format: draft-ietf-opsawg-pcap. A header of 24 bytes, then 16 bytes and the frame for each.
#include "bench/pktgen/capture.h"

#include <array>
#include <fstream>

#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

constexpr std::uint32_t kMagicMicroseconds = 0xa1b2c3d4;
constexpr std::uint32_t kMagicNanoseconds = 0xa1b23c4d;
constexpr std::uint32_t kMagicNextGeneration = 0x0a0d0d0a;
constexpr std::uint32_t kLinkEthernet = 1;

class Reader {
 public:
  explicit Reader(const std::string& path) : file_(path, std::ios::binary) {}

  [[nodiscard]] bool is_open() const { return file_.is_open(); }
  [[nodiscard]] bool is_at_end() { return file_.peek() == std::ifstream::traits_type::eof(); }
  template <std::size_t kWords>
  bool read_words(std::array<std::uint32_t, kWords>& words) {
    std::array<char, kWords * 4> bytes;
    if (!file_.read(bytes.data(), bytes.size())) return false;
    for (std::size_t i = 0; i < kWords; ++i) {
      std::uint32_t word;
      std::memcpy(&word, bytes.data() + i * 4, 4);
      words[i] = is_swapped_ ? __builtin_bswap32(word) : word;
    }
    return true;
  }
  bool read_bytes(Frame& frame) {
    return static_cast<bool>(file_.read(static_cast<char*>(static_cast<void*>(frame.data())),
                                        static_cast<std::streamsize>(frame.size())));
  }
  void swap_from_now_on() { is_swapped_ = true; }

 private:
  std::ifstream file_;
  bool is_swapped_ = false;
};

Status read_header(Reader& reader) {
  std::array<std::uint32_t, 1> magic{};
  if (!reader.read_words(magic)) return Error{"is empty or too short for a capture"};
  const std::uint32_t swapped = __builtin_bswap32(magic[0]);
  if (magic[0] == kMagicNextGeneration) {
    return Error{"is a pcapng file; convert it: editcap -F pcap IN OUT"};
  }
  if (swapped == kMagicMicroseconds || swapped == kMagicNanoseconds) {
    reader.swap_from_now_on();
  } else if (magic[0] != kMagicMicroseconds && magic[0] != kMagicNanoseconds) {
    return Error{"is not a pcap file"};
  }
  std::array<std::uint32_t, 5> rest{};  // version, zone, accuracy, longest frame, link type
  if (!reader.read_words(rest)) return Error{"is cut short in its header"};
  const std::uint32_t link = rest[4] & 0x0fffffffu;  // the bits above say how long an FCS is
  if (link != kLinkEthernet) {
    return Error{"has link type " + std::to_string(link) + "; only Ethernet (1) can be replayed"};
  }
  return ok();
}

}  // namespace

Result<std::vector<Frame>> read_capture(const std::string& path, std::uint32_t frame_bytes_max) {
  Reader reader(path);
  if (!reader.is_open()) return Error{path + ": cannot be read"};
  if (Status header = read_header(reader); !header) return header.error().within(path);
  std::vector<Frame> frames;
  while (!reader.is_at_end()) {
    const std::string place = path + ": frame " + std::to_string(frames.size() + 1);
    std::array<std::uint32_t, 4> record{};  // seconds, fraction, bytes here, bytes on the wire
    if (!reader.read_words(record)) return Error{place + " is cut short"};
    if (record[2] != record[3]) {
      return Error{place + " was captured in part; capture with: tcpdump -s 0"};
    }
    if (record[2] == 0 || record[2] > frame_bytes_max) {
      return Error{place + " has " + std::to_string(record[2]) + " bytes; possible are 1 to " +
                   std::to_string(frame_bytes_max)};
    }
    Frame frame(record[2]);
    if (!reader.read_bytes(frame)) return Error{place + " is cut short"};
    frames.push_back(std::move(frame));
  }
  if (frames.empty()) return Error{path + ": holds no frames"};
  return frames;
}

}  // namespace millrace::pktgen

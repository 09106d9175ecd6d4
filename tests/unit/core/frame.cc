// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/core/frame.h"

#include <arpa/inet.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace millrace::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

bool is_v6_text(const std::string& text) { return text.find(':') != std::string::npos; }

Bytes raw_addr(const std::string& text) {
  Bytes bytes(is_v6_text(text) ? 16 : 4);
  if (inet_pton(is_v6_text(text) ? AF_INET6 : AF_INET, text.c_str(), bytes.data()) != 1) {
    std::abort();
  }
  return bytes;
}

std::string addr_text(const std::uint8_t* at, bool is_v6) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_v6 ? AF_INET6 : AF_INET, at, text.data(), text.size());
  return text.data();
}

Bytes raw_mac(const std::string& text) {
  std::array<unsigned, 6> parts{};
  std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x", &parts[0], &parts[1], &parts[2], &parts[3],
              &parts[4], &parts[5]);
  return {parts.begin(), parts.end()};
}

std::string mac_text(const std::uint8_t* at) {
  std::array<char, 18> text{};
  std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", at[0], at[1], at[2],
                at[3], at[4], at[5]);
  return text.data();
}

void append(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

Bytes big_endian(std::uint64_t value, int bytes) {
  Bytes out;
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  return out;
}

std::uint32_t number_at(const std::uint8_t* at, int bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | at[i];
  return value;
}

// RFC 1071, one big-endian word at a time.
std::uint16_t plain_checksum(Bytes bytes) {
  if (bytes.size() % 2 != 0) bytes.push_back(0);
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<std::uint32_t>(bytes[i] << 8 | bytes[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<std::uint16_t>(~sum);
}

std::uint16_t pseudo_checksum(const Bytes& source, const Bytes& destination, std::uint8_t protocol,
                              const Bytes& segment) {
  Bytes all = source;
  append(all, destination);
  append(all, big_endian(segment.size(), 4));
  append(all, big_endian(protocol, 4));
  append(all, segment);
  return plain_checksum(all);
}

Bytes make_segment(const FrameSpec& spec) {
  Bytes l4 = big_endian(spec.source_port, 2);
  append(l4, big_endian(spec.destination_port, 2));
  if (spec.protocol == MR_PROTOCOL_TCP) {
    append(l4, big_endian(spec.sequence, 4));
    append(l4, big_endian(spec.acknowledgement, 4));
    append(l4, {0x50, spec.tcp_flags, 0x20, 0x00, 0, 0, 0, 0});
  } else {
    append(l4, big_endian(8 + spec.payload.size(), 2));
    append(l4, {0, 0});
  }
  append(l4, Bytes(spec.payload.begin(), spec.payload.end()));
  return l4;
}

}  // namespace

Bytes make_frame(const FrameSpec& spec) {
  const bool is_v6 = is_v6_text(spec.source);
  const Bytes source = raw_addr(spec.source);
  const Bytes destination = raw_addr(spec.destination);
  Bytes l4 = make_segment(spec);
  const std::uint16_t checksum = pseudo_checksum(source, destination, spec.protocol, l4);
  const std::size_t field = spec.protocol == MR_PROTOCOL_TCP ? 16 : 6;
  l4[field] = static_cast<std::uint8_t>(checksum >> 8);
  l4[field + 1] = static_cast<std::uint8_t>(checksum);

  Bytes frame = raw_mac("02:00:00:00:00:01");
  append(frame, raw_mac(spec.source_mac));
  if (is_v6) {
    append(frame, {0x86, 0xdd, 0x60, 0, 0, 0});
    append(frame, big_endian(l4.size(), 2));
    append(frame, {spec.protocol, spec.ttl});
    append(frame, source);
    append(frame, destination);
  } else {
    Bytes ip = {0x45, 0};
    append(ip, big_endian(20 + l4.size(), 2));
    append(ip, {0x12, 0x34, 0x40, 0, spec.ttl, spec.protocol, 0, 0});
    append(ip, source);
    append(ip, destination);
    const std::uint16_t ip_checksum = plain_checksum(ip);
    ip[10] = static_cast<std::uint8_t>(ip_checksum >> 8);
    ip[11] = static_cast<std::uint8_t>(ip_checksum);
    append(frame, {0x08, 0x00});
    append(frame, ip);
  }
  append(frame, l4);
  return frame;
}

FrameSpec read_frame(const Bytes& frame) {
  const bool is_v6 = number_at(frame.data() + 12, 2) == 0x86dd;
  const std::uint8_t* ip = frame.data() + 14;
  const std::uint8_t* l4 = ip + (is_v6 ? 40 : 20);
  FrameSpec spec;
  spec.source = addr_text(ip + (is_v6 ? 8 : 12), is_v6);
  spec.destination = addr_text(ip + (is_v6 ? 24 : 16), is_v6);
  spec.protocol = ip[is_v6 ? 6 : 9];
  spec.ttl = ip[is_v6 ? 7 : 8];
  spec.source_port = static_cast<std::uint16_t>(number_at(l4, 2));
  spec.destination_port = static_cast<std::uint16_t>(number_at(l4 + 2, 2));
  spec.source_mac = mac_text(frame.data() + 6);
  std::size_t header = 8;
  if (spec.protocol == MR_PROTOCOL_TCP) {
    spec.sequence = number_at(l4 + 4, 4);
    spec.acknowledgement = number_at(l4 + 8, 4);
    spec.tcp_flags = l4[13];
    header = 20;
  }
  spec.payload = std::string(l4 + header, frame.data() + frame.size());
  return spec;
}

bool checksums_hold(const Bytes& frame) {
  const bool is_v6 = number_at(frame.data() + 12, 2) == 0x86dd;
  const auto ip = frame.begin() + 14;
  const auto l4 = ip + (is_v6 ? 40 : 20);
  const std::uint8_t protocol = is_v6 ? ip[6] : ip[9];
  const std::ptrdiff_t ip_bytes = is_v6 ? 40 + number_at(&ip[4], 2) : number_at(&ip[2], 2);
  if (!is_v6 && plain_checksum({ip, ip + 20}) != 0) return false;
  const Bytes segment{l4, ip + ip_bytes};
  if (!is_v6 && protocol == MR_PROTOCOL_UDP && segment[6] == 0 && segment[7] == 0) return true;
  const std::ptrdiff_t addr_bytes = is_v6 ? 16 : 4;
  const auto source = ip + (is_v6 ? 8 : 12);
  return pseudo_checksum({source, source + addr_bytes},
                         {source + addr_bytes, source + 2 * addr_bytes}, protocol, segment) == 0;
}

std::string destination_mac(const Bytes& frame) { return mac_text(frame.data()); }

}  // namespace millrace::test

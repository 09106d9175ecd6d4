// SPDX-License-Identifier: Apache-2.0
//
// Each frame is a good one with one thing wrong; IPv4 header checksums are made right again unless
// they are the thing.
#include "bench/pktgen/malformed.h"

#include <algorithm>
#include <initializer_list>

#include "bench/pktgen/packet_template.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

using namespace core;  // wire.h's offsets, loads and stores

constexpr Protocol kUdp = Protocol::udp;
constexpr Protocol kTcp = Protocol::tcp;
constexpr Protocol kIcmp = Protocol::icmp;
constexpr std::uint32_t kFrameBytes = 100;
constexpr std::uint8_t kPsh = 0x08;
constexpr std::uint8_t kUrg = 0x20;
constexpr std::uint8_t kSctp = 132;
constexpr std::uint8_t kUdpLite = 136;
constexpr std::uint8_t kIpInIp = 4;
constexpr std::uint8_t kIp6InIp = 41;
constexpr std::uint8_t kGre = 47;
constexpr std::uint8_t kUnassigned = 253;

class Builder {
 public:
  explicit Builder(const Headers& headers)
      : headers_(headers), ip_(MR_ETH_BYTES + (headers.vlan == 0 ? 0u : 4u)) {}

  [[nodiscard]] Frame good(Protocol protocol, std::uint8_t flags = MR_TCP_ACK) const {
    Headers headers = headers_;
    headers.protocol = protocol;
    headers.tcp_flags = flags;
    Frame frame(std::max(kFrameBytes, PacketTemplate::kHeadBytesMax));
    const PacketTemplate built(headers, false);
    built.write(frame.data(), {.flow = 0, .frame_bytes = kFrameBytes, .mark = {}});
    frame.resize(kFrameBytes);
    return frame;
  }
  // A good packet of `protocol` with some bytes of its IP header set: pairs of offset and value.
  using Patch = std::pair<std::uint32_t, std::uint8_t>;
  void add(std::uint8_t fault, const std::string& name, Protocol protocol,
           std::initializer_list<Patch> ip_patches) {
    Frame frame = good(protocol);
    for (const auto& [at, value] : ip_patches) frame[ip_ + at] = value;
    add_ip(fault, name, frame);
  }
  void add_l4(std::uint8_t fault, const std::string& name, Protocol protocol,
              std::initializer_list<Patch> l4_patches) {
    Frame frame = good(protocol);
    for (const auto& [at, value] : l4_patches) frame[l4() + at] = value;
    add_raw(fault, name, frame);
  }
  void add_flags(const std::string& name, int flags) {
    add_raw(9, name, good(kTcp, static_cast<std::uint8_t>(flags)));
  }
  void add_source(const std::string& name, const mr_addr& source) {
    Headers headers = headers_;
    headers.clients.first = source;
    add_raw(12, name, Builder(headers).good(kUdp));
  }
  // The IP payload ends `bytes` behind the IP header, in the header and in the frame.
  void add_cut(const std::string& name, Protocol protocol, std::uint32_t bytes,
               Patch l4_patch = {0, 0}) {
    Frame frame = good(protocol);
    frame[l4() + l4_patch.first] = l4_patch.second;
    frame.resize(l4() + bytes);
    set_ip_bytes(frame, is_ipv4() ? MR_IPV4_BYTES + bytes : MR_IPV6_BYTES + bytes);
    add_ip(8, name, frame);
  }
  // As add_raw(), after making the IPv4 header's checksum right.
  void add_ip(std::uint8_t fault, const std::string& name, Frame frame) {
    if (is_ipv4()) {
      store(&frame[ip_ + MR_IPV4_CHECKSUM], std::uint16_t{0});
      const std::uint32_t bytes = std::clamp((frame[ip_] & 0x0fu) * 4, MR_IPV4_BYTES,
                                             static_cast<std::uint32_t>(frame.size()) - ip_);
      const auto checksum = static_cast<std::uint16_t>(~mr_fold(sum_bytes({&frame[ip_], bytes})));
      store(&frame[ip_ + MR_IPV4_CHECKSUM], checksum);
    }
    add_raw(fault, name, std::move(frame));
  }
  void add_raw(std::uint8_t fault, const std::string& name, Frame frame) {
    made_.push_back({fault, name, std::move(frame)});
  }
  // The IP header, with its checksum still to be set.
  void set_ip_bytes(Frame& frame, std::uint32_t bytes) const {
    const std::uint32_t at = is_ipv4() ? MR_IPV4_TOTAL_LENGTH : MR_IPV6_PAYLOAD_LENGTH;
    const std::uint32_t stated = is_ipv4() ? bytes : bytes - MR_IPV6_BYTES;
    store(&frame[ip_ + at], to_be16(static_cast<std::uint16_t>(stated)));
  }

  [[nodiscard]] bool is_ipv4() const { return is_v4(headers_.destination); }
  [[nodiscard]] std::uint32_t ip() const { return ip_; }
  [[nodiscard]] std::uint32_t l4() const {
    return ip_ + (is_ipv4() ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  }
  [[nodiscard]] const Headers& headers() const { return headers_; }
  [[nodiscard]] std::vector<MalformedFrame> take() { return std::move(made_); }

 private:
  Headers headers_;
  std::uint32_t ip_;
  std::vector<MalformedFrame> made_;
};

mr_addr v6_addr(std::uint8_t first, std::uint8_t last) {
  mr_addr addr{};
  addr.bytes[0] = first;
  addr.bytes[15] = last;
  return addr;
}

void add_link(Builder& builder) {
  Frame runt = builder.good(kUdp);
  runt.resize(MR_ETH_BYTES);
  builder.add_raw(1, "ethernet-header-alone", runt);
  runt = builder.good(kUdp);
  runt.resize(builder.ip() + 10);
  builder.add_raw(1, "ip-header-cut", runt);
  const auto retyped = [&](const char* name, std::uint16_t type) {
    Frame frame = builder.good(kUdp);
    store(&frame[MR_ETH_TYPE], to_be16(type));
    builder.add_raw(2, name, frame);
  };
  retyped("ethertype-unknown", 0x88b5);
  retyped("llc-length", 0x0026);
  Frame tagged = builder.good(kUdp);
  for (int tags = 1; tags <= 3; ++tags) {
    const std::uint8_t tag[] = {0x81, 0x00, 0x0f, 0xfe};
    tagged.insert(tagged.begin() + MR_ETH_TYPE, std::begin(tag), std::end(tag));
    builder.add_raw(2, "vlan-tags-more-" + std::to_string(tags), tagged);
  }
  Frame padded = builder.good(kUdp);
  padded.insert(padded.end(), 20, 0xa5);
  builder.add_raw(4, "ethernet-padding", padded);
}

void add_ipv4_headers(Builder& builder) {
  builder.add(3, "ipv4-header-length-4", kUdp, {{0, 0x44}});
  builder.add(3, "ipv4-header-beyond-total-length", kUdp, {{0, 0x4f}, {2, 0}, {3, 40}});
  builder.add(3, "ipv4-total-length-beyond-frame", kUdp, {{2, 0xff}, {3, 0xff}});
  builder.add(3, "ipv4-total-length-below-header", kUdp, {{2, 0}, {3, 19}});
  builder.add(3, "ipv4-version-5", kUdp, {{0, 0x55}});
  Frame frame = builder.good(kUdp);
  frame[builder.ip() + MR_IPV4_CHECKSUM] ^= 0x55;
  builder.add_raw(5, "ipv4-checksum-wrong", frame);
  builder.add(7, "ttl-0", kUdp, {{MR_IPV4_TTL, 0}});
  builder.add(7, "ttl-1", kUdp, {{MR_IPV4_TTL, 1}});
  // Options take the place of the first 4 or 8 bytes behind the header.
  constexpr std::uint32_t kOption = MR_IPV4_BYTES;
  const auto option = [&](const char* name, std::uint8_t type, std::uint8_t bytes) {
    builder.add(6, name, kUdp,
                {{0, 0x47}, {kOption, type}, {kOption + 1, bytes}, {kOption + 2, 4}});
  };
  option("ipv4-option-nop", 1, 1);
  option("ipv4-option-record-route", 7, 7);
  option("ipv4-option-loose-source-route", 131, 7);
  option("ipv4-option-strict-source-route", 137, 7);
  option("ipv4-option-length-0", 7, 0);
  option("ipv4-option-length-1", 7, 1);
  option("ipv4-option-length-beyond", 7, 200);
  builder.add(13, "ipv4-fragment-first", kUdp, {{6, 0x20}, {7, 0}});
  builder.add(13, "ipv4-fragment-later", kUdp, {{6, 0x00}, {7, 10}});
  builder.add(13, "ipv4-fragment-last-of-64-kb", kUdp, {{6, 0x1f}, {7, 0xff}});
  for (const std::uint8_t protocol : {kIpInIp, kIp6InIp, kGre}) {
    builder.add(17, "tunnel-" + std::to_string(protocol), kUdp, {{MR_IPV4_PROTOCOL, protocol}});
  }
  for (const std::uint8_t protocol : {kSctp, kUdpLite, kUnassigned}) {
    builder.add(18, "protocol-" + std::to_string(protocol), kUdp, {{MR_IPV4_PROTOCOL, protocol}});
  }
}

void add_ipv6_headers(Builder& builder) {
  builder.add(3, "ipv6-version-5", kUdp, {{0, 0x50}});
  builder.add(3, "ipv6-payload-beyond-frame", kUdp, {{4, 0xff}, {5, 0xff}});
  builder.add(7, "hop-limit-0", kUdp, {{MR_IPV6_HOP_LIMIT, 0}});
  builder.add(7, "hop-limit-1", kUdp, {{MR_IPV6_HOP_LIMIT, 1}});
  // The extension header is what the UDP header was: next header UDP, length as given.
  constexpr std::uint32_t kExtension = MR_IPV6_BYTES;
  const auto extension = [&](const char* name, std::uint8_t type, std::uint8_t length) {
    builder.add(14, name, kUdp,
                {{MR_IPV6_NEXT_HEADER, type}, {kExtension, 17}, {kExtension + 1, length}});
  };
  extension("ipv6-hop-by-hop", MR_PROTOCOL_HOP_BY_HOP, 0);
  extension("ipv6-routing-0", MR_PROTOCOL_ROUTING, 2);
  extension("ipv6-destination-options", MR_PROTOCOL_DESTINATION_OPTIONS, 0);
  extension("ipv6-esp", MR_PROTOCOL_ESP, 0);
  extension("ipv6-authentication", MR_PROTOCOL_AUTHENTICATION, 4);
  extension("ipv6-no-next-header", MR_PROTOCOL_NO_NEXT, 0);
  extension("ipv6-extension-beyond-payload", MR_PROTOCOL_HOP_BY_HOP, 0xff);
  const auto fragment = [&](const char* name, std::uint8_t high, std::uint8_t low) {
    builder.add(13, name, kUdp,
                {{MR_IPV6_NEXT_HEADER, MR_PROTOCOL_FRAGMENT},
                 {kExtension, 17},
                 {kExtension + 1, 0},
                 {kExtension + 2, high},
                 {kExtension + 3, low}});
  };
  fragment("ipv6-fragment-first", 0x00, 0x01);
  fragment("ipv6-fragment-later", 0x00, 0x50);
  fragment("ipv6-fragment-atomic", 0x00, 0x00);
  for (const std::uint8_t protocol : {kIpInIp, kIp6InIp, kGre}) {
    builder.add(17, "tunnel-" + std::to_string(protocol), kUdp, {{MR_IPV6_NEXT_HEADER, protocol}});
  }
  for (const std::uint8_t protocol : {kSctp, kUdpLite, kUnassigned}) {
    builder.add(18, "protocol-" + std::to_string(protocol), kUdp,
                {{MR_IPV6_NEXT_HEADER, protocol}});
  }
}

void add_transport(Builder& builder) {
  builder.add_cut("tcp-cut", kTcp, 19);
  builder.add_cut("udp-cut", kUdp, 7);
  builder.add_l4(8, "tcp-data-offset-4", kTcp, {{MR_TCP_DATA_OFFSET, 4 << 4}});
  builder.add_cut("tcp-data-offset-beyond-payload", kTcp, 20, {MR_TCP_DATA_OFFSET, 6 << 4});
  builder.add_l4(8, "udp-length-7", kUdp, {{MR_UDP_LENGTH, 0}, {MR_UDP_LENGTH + 1, 7}});
  builder.add_l4(8, "udp-length-beyond-payload", kUdp, {{MR_UDP_LENGTH, 0x7f}});
  builder.add_flags("tcp-flags-none", 0);
  builder.add_flags("tcp-flags-xmas", MR_TCP_FIN | kPsh | kUrg);
  builder.add_flags("tcp-flags-all", 0x3f);
  builder.add_flags("tcp-flags-syn-fin", MR_TCP_SYN | MR_TCP_FIN);
  builder.add_flags("tcp-flags-syn-rst", MR_TCP_SYN | MR_TCP_RST);
  builder.add_flags("tcp-flags-fin", MR_TCP_FIN);
  builder.add_l4(10, "tcp-checksum-wrong", kTcp, {{MR_TCP_CHECKSUM, 0x12}, {17, 0x34}});
  builder.add_l4(10, "udp-checksum-wrong", kUdp, {{MR_UDP_CHECKSUM, 0x12}, {7, 0x34}});
  builder.add_l4(11, "udp-checksum-none", kUdp, {{MR_UDP_CHECKSUM, 0}, {7, 0}});
  builder.add_raw(15, "echo-request", builder.good(kIcmp));
}

void add_sources(Builder& builder) {
  builder.add_source("source-is-destination", builder.headers().destination);
  if (builder.is_ipv4()) {
    builder.add_source("source-0.0.0.1", v4_mapped(to_be32(0x00000001)));
    builder.add_source("source-loopback", v4_mapped(to_be32(0x7f000001)));
    builder.add_source("source-multicast", v4_mapped(to_be32(0xe0000001)));
    builder.add_source("source-class-e", v4_mapped(to_be32(0xf0000001)));
    builder.add_source("source-broadcast", v4_mapped(0xffffffff));
    return;
  }
  builder.add_source("source-unspecified", mr_addr{});
  builder.add_source("source-loopback", v6_addr(0, 1));
  builder.add_source("source-multicast", v6_addr(0xff, 1));
  builder.add_source("source-v4-mapped", v4_mapped(to_be32(0xc6336407)));
}

// "Fragmentation needed" or "packet too big", with a packet of a flow that nobody has inside; one
// with an MTU below the minimum, one whose inner packet is cut.
void add_icmp_errors(Builder& builder) {
  const bool is_ipv4 = builder.is_ipv4();
  const auto error = [&](const char* name, std::uint16_t mtu, std::uint32_t inner_bytes) {
    Frame frame = builder.good(kIcmp);
    const std::uint32_t l4 = builder.l4();
    const std::uint32_t bytes = MR_ICMP_BYTES + inner_bytes;
    const Frame inner = builder.good(kTcp);
    frame.resize(l4 + MR_ICMP_BYTES);
    frame.insert(frame.end(), inner.begin() + builder.ip(),
                 inner.begin() + builder.ip() + inner_bytes);
    std::fill_n(&frame[l4], MR_ICMP_BYTES, std::uint8_t{0});
    frame[l4] = is_ipv4 ? 3 : 2;
    frame[l4 + 1] = is_ipv4 ? 4 : 0;
    store(&frame[l4 + 6], to_be16(mtu));
    builder.set_ip_bytes(frame, (is_ipv4 ? MR_IPV4_BYTES : MR_IPV6_BYTES) + bytes);
    std::uint64_t sum = sum_bytes({&frame[l4], bytes});
    if (!is_ipv4) {
      sum += sum_bytes({&frame[builder.ip() + MR_IPV6_SOURCE], 32}) +
             to_be16(static_cast<std::uint16_t>(bytes)) + to_be16(MR_PROTOCOL_ICMPV6);
    }
    store(&frame[l4 + MR_ICMP_CHECKSUM], static_cast<std::uint16_t>(~mr_fold(sum)));
    builder.add_ip(16, name, frame);
  };
  const std::uint32_t inner_ip = is_ipv4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  error("icmp-too-big-forged", 1400, inner_ip + 8);
  error("icmp-too-big-mtu-100", 100, inner_ip + 8);
  error("icmp-too-big-inner-cut", 1400, 12);
}

}  // namespace

std::vector<MalformedFrame> malformed_frames(const Headers& headers) {
  Builder builder(headers);
  add_link(builder);
  if (builder.is_ipv4()) {
    add_ipv4_headers(builder);
  } else {
    add_ipv6_headers(builder);
  }
  add_transport(builder);
  add_sources(builder);
  add_icmp_errors(builder);
  return builder.take();
}

}  // namespace millrace::pktgen

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/golden_config.h"

#include <algorithm>
#include <optional>

namespace millrace::test {
namespace {

constexpr std::uint32_t kNoSlot = 0xffffffff;

// The word behind `key`, or `otherwise`.
std::string option(const GoldenLine& line, const std::string& key, const std::string& otherwise) {
  for (std::size_t i = 1; i + 1 < line.words.size(); ++i) {
    if (line.words[i] == key) return line.words[i + 1];
  }
  return otherwise;
}

std::uint8_t protocol_of(const std::string& word) {
  if (word == "tcp_udp") return MR_PROTOCOL_TCP_UDP;
  return word == "udp" ? MR_PROTOCOL_UDP : MR_PROTOCOL_TCP;
}

std::optional<std::uint8_t> forwarding_of(const std::string& word) {
  static const std::map<std::string, std::uint8_t> kModes = {{"nat", MR_FORWARDING_NAT},
                                                             {"dsr", MR_FORWARDING_DSR},
                                                             {"ipip", MR_FORWARDING_IPIP},
                                                             {"gue", MR_FORWARDING_GUE}};
  const auto found = kModes.find(word);
  return found == kModes.end() ? std::nullopt : std::optional{found->second};
}

std::uint32_t slot_of(const std::map<std::string, std::uint32_t>& slots, const std::string& name) {
  const auto found = slots.find(name);
  return found == slots.end() ? kNoSlot : found->second;
}

}  // namespace

std::uint32_t GoldenConfig::target_slot(const std::string& name) const {
  return slot_of(targets_, name);
}

Result<Bytes> GoldenConfig::frame(const GoldenLine& line, std::size_t first) const {
  std::string text;
  for (std::size_t i = first; i < line.words.size(); ++i) text += line.words[i] + " ";
  return frame_of(text, names_);
}

Status GoldenConfig::read(const GoldenLine& line) {
  const std::string& word = line.words[0];
  if (word == "mac" && line.words.size() == 3) {
    const auto mac = mac_of(line.words[2], names_);
    if (!mac) return mac.error();
    names_.macs[line.words[1]] = *mac;
    return ok();
  }
  if ((word == "addr" || word == "local") && line.words.size() >= 2) {
    const auto addr = named_addr_of(line.words.back(), names_);
    if (!addr) return addr.error();
    if (word == "addr") names_.addrs[line.words[1]] = *addr;
    if (word == "local") builder_.add_local_addr(*addr);
    return ok();
  }
  if (word == "encap_source" && (line.words.size() == 2 || line.words.size() == 4)) {
    return read_encap_source(line);
  }
  if (word == "nic_addr" && line.words.size() >= 2) return read_nic_addr(line);
  if (word == "local_mac" && line.words.size() >= 2) return read_local_mac(line);
  if (word == "vlan" && line.words.size() >= 4) return read_vlan(line);
  if (word == "nic" && line.words.size() == 4) return read_nic(line);
  if (word == "group" && line.words.size() >= 3) return read_group(line);
  if (word == "target" && line.words.size() >= 5) return read_target(line);
  if (word == "listener" && line.words.size() == 5) return read_listener(line);
  if (word == "vip" && line.words.size() >= 2) return read_vip(line);
  if (word == "default_next_hop" && line.words.size() >= 3) return read_default_next_hop(line);
  return Error{"no such line of config"};
}

// encap_source ADDRESS [bits N]
Status GoldenConfig::read_encap_source(const GoldenLine& line) {
  const auto addr = named_addr_of(line.words[1], names_);
  if (!addr) return addr.error();
  const auto bits = line.words.size() == 4 ? number_of(line.words[3]) : Result<std::uint64_t>{0};
  if (!bits || *bits > 32) return Error{"bits must be 0-32"};
  const std::uint64_t spread = (std::uint64_t{1} << *bits) - 1;
  builder_.set_encap_source(*addr, core::to_be32(static_cast<std::uint32_t>(spread)));
  return ok();
}

// nic INDEX mac MAC
Status GoldenConfig::read_nic(const GoldenLine& line) {
  const auto mac = mac_of(line.words[3], names_);
  if (!mac) return mac.error();
  const auto index = number_of(line.words[1]);
  if (!index || *index != nic_macs_.size()) return Error{"nics are numbered 0, 1, ..."};
  nic_macs_.emplace_back();
  std::ranges::copy(*mac, nic_macs_.back().begin());
  return ok();
}

// vlan INDEX id NUMBER mac MAC [nic N]
Status GoldenConfig::read_vlan(const GoldenLine& line) {
  const auto mac = mac_of(option(line, "mac", ""), names_);
  if (!mac) return mac.error();
  const auto index = number_of(line.words[1]);
  if (!index || *index != MR_NIC_COUNT_MAX + builder_.vlan_count()) {
    return Error{"VLANs are numbered 8, 9, ..."};
  }
  const auto id = number_of(option(line, "id", "0"));
  const auto nic = number_of(option(line, "nic", "0"));
  if (!id || !nic) return Error{"no such VLAN"};
  mr_vlan vlan{};
  std::ranges::copy(*mac, vlan.mac);
  vlan.nic = static_cast<std::uint8_t>(*nic);
  vlan.flags = MR_VLAN_PRESENT;
  vlan.tag = core::to_be32(MR_ETH_TYPE_VLAN << 16 | static_cast<std::uint32_t>(*id));
  builder_.add_vlan(vlan);
  return ok();
}

// local_mac MAC [nic N]
Status GoldenConfig::read_local_mac(const GoldenLine& line) {
  const auto mac = mac_of(line.words[1], names_);
  if (!mac) return mac.error();
  const auto nic = number_of(option(line, "nic", "0"));
  if (!nic) return nic.error();
  mr_local_mac own{};
  std::ranges::copy(*mac, own.mac);
  own.nic = static_cast<std::uint8_t>(*nic);
  builder_.add_local_mac(own);
  return ok();
}

// nic_addr ADDRESS [nic N]
Status GoldenConfig::read_nic_addr(const GoldenLine& line) {
  const auto addr = named_addr_of(line.words[1], names_);
  if (!addr) return addr.error();
  const auto nic = number_of(option(line, "nic", "0"));
  if (!nic || *nic >= MR_NIC_COUNT_MAX + builder_.vlan_count()) return Error{"no such nic"};
  builder_.set_nic_addr(static_cast<std::uint32_t>(*nic), *addr);
  return ok();
}

// group NAME nat|dsr|ipip|gue [port N] [slots PRIME] [fail_open yes]
Status GoldenConfig::read_group(const GoldenLine& line) {
  GroupSpec spec;
  const auto forwarding = forwarding_of(line.words[2]);
  if (!forwarding) return Error{"no such way of forwarding: " + line.words[2]};
  spec.forwarding = *forwarding;
  const auto port = number_of(option(line, "port", "6080"));
  if (!port) return port.error();
  spec.encap_port = static_cast<std::uint16_t>(*port);
  if (option(line, "fail_open", "no") == "yes") spec.flags |= MR_GROUP_FAIL_OPEN;
  const auto slots = number_of(option(line, "slots", "251"));
  if (!slots) return slots.error();
  spec.table_slots = static_cast<std::uint32_t>(*slots);
  groups_[line.words[1]] = builder_.add_group(spec);
  return ok();
}

// target NAME GROUP ADDR PORT|any tcp|udp|tcp_udp via MAC [nic N] [weight N] [mtu N]
// [unresolved yes] [asymmetric yes] [mss N]
Status GoldenConfig::read_target(const GoldenLine& line) {
  const auto& words = line.words;
  const std::uint32_t group = slot_of(groups_, words[2]);
  if (group == kNoSlot) return Error{"no such group: " + words[2]};
  const auto addr = named_addr_of(words[3], names_);
  if (!addr) return addr.error();
  const auto port = number_of(words[4] == "any" ? "0" : words[4]);
  if (!port) return port.error();
  const auto weight = number_of(option(line, "weight", "100"));
  if (!weight) return weight.error();
  const auto nic = number_of(option(line, "nic", "0"));
  if (!nic) return nic.error();
  const auto mtu = number_of(option(line, "mtu", "65535"));
  if (!mtu) return mtu.error();
  const auto mss = number_of(option(line, "mss", "0"));
  if (!mss) return mss.error();
  auto hop = next_hop(option(line, "via", ""), *nic);
  if (!hop) return hop.error();
  if (option(line, "unresolved", "no") == "yes") hop->flags = 0;
  std::uint8_t flags = TargetSpec{}.flags;
  if (option(line, "asymmetric", "no") == "yes") flags |= MR_TARGET_ASYMMETRIC;
  targets_[words[1]] = builder_.add_target({.group_slot = group,
                                            .addr = *addr,
                                            .port = static_cast<std::uint16_t>(*port),
                                            .protocol = protocol_of(words[5]),
                                            .flags = flags,
                                            .weight = static_cast<std::uint32_t>(*weight),
                                            .next_hop = *hop,
                                            .mtu = static_cast<std::uint16_t>(*mtu),
                                            .mss_max = static_cast<std::uint16_t>(*mss)});
  return ok();
}

// PORT of a listener: 80, 1000-2000 or any.
Result<std::pair<std::uint16_t, std::uint16_t>> ports_of(const std::string& text) {
  if (text == "any") return std::pair<std::uint16_t, std::uint16_t>{0, 0xffff};
  const std::size_t dash = text.find('-');
  const auto first = number_of(text.substr(0, dash));
  if (!first) return first.error();
  if (dash == std::string::npos)
    return std::pair{static_cast<std::uint16_t>(*first), std::uint16_t{0}};
  const auto last = number_of(text.substr(dash + 1));
  if (!last) return last.error();
  return std::pair{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

// listener VIP PORT tcp|udp GROUP: a new one, or other ports or another group of the one with this
// first port
Status GoldenConfig::read_listener(const GoldenLine& line) {
  const auto vip = named_addr_of(line.words[1], names_);
  if (!vip) return vip.error();
  const auto ports = ports_of(line.words[2]);
  if (!ports) return ports.error();
  const std::uint32_t group = slot_of(groups_, line.words[4]);
  if (group == kNoSlot) return Error{"no such group: " + line.words[4]};
  const ListenerSpec spec{.vip_addr = *vip,
                          .port = ports->first,
                          .protocol = protocol_of(line.words[3]),
                          .group_slot = group,
                          .last_port = ports->second};
  if (const auto known = builder_.listener_like(spec)) {
    builder_.listener(*known) = spec;
  } else {
    static_cast<void>(builder_.add_listener(spec));
  }
  return ok();
}

// vip VIP [echo no] [no_listener drop|reject|kernel]
Status GoldenConfig::read_vip(const GoldenLine& line) {
  static const std::map<std::string, std::uint32_t> kFlags = {
      {"drop", 0}, {"reject", MR_VIP_REJECTS}, {"kernel", MR_VIP_PUNTS}};
  const auto vip = named_addr_of(line.words[1], names_);
  if (!vip) return vip.error();
  const auto flags = kFlags.find(option(line, "no_listener", "drop"));
  if (flags == kFlags.end()) return Error{"no_listener is drop, reject or kernel"};
  const bool is_silent = option(line, "echo", "yes") == "no";
  builder_.set_vip_flags(*vip, flags->second | (is_silent ? MR_VIP_NO_ECHO : 0));
  return ok();
}

// default_next_hop v4|v6 MAC [nic N]
Status GoldenConfig::read_default_next_hop(const GoldenLine& line) {
  const auto nic = number_of(option(line, "nic", "0"));
  if (!nic) return nic.error();
  const auto hop = next_hop(line.words[2], *nic);
  if (!hop) return hop.error();
  default_next_hops_[line.words[1] == "v4" ? 0 : 1] = *hop;
  builder_.set_default_next_hops(default_next_hops_[0], default_next_hops_[1]);
  return ok();
}

Result<mr_next_hop> GoldenConfig::next_hop(const std::string& mac, std::uint64_t nic) const {
  const auto bytes = mac_of(mac, names_);
  if (!bytes) return bytes.error();
  mr_next_hop hop{};
  std::ranges::copy(*bytes, hop.mac);
  hop.nic = static_cast<std::uint8_t>(nic);
  hop.flags = MR_NEXT_HOP_RESOLVED;
  return hop;
}

// vlan INDEX gone|back
Status GoldenConfig::change_vlan(const GoldenLine& line) {
  const auto index = number_of(line.words[1]);
  if (!index || *index - MR_NIC_COUNT_MAX >= builder_.vlan_count()) return Error{"no such VLAN"};
  builder_.vlan(static_cast<std::uint32_t>(*index) - MR_NIC_COUNT_MAX).flags =
      line.words[2] == "gone" ? std::uint8_t{0} : std::uint8_t{MR_VLAN_PRESENT};
  return ok();
}

// set TARGET draining|healthy|unhealthy|keeps_tcp|gone|unresolved|resolved, set TARGET via MAC, set
// TARGET mtu N, or a line as read_vip(), read_listener() or change_vlan() reads it
Status GoldenConfig::change(const GoldenLine& line) {
  const auto& words = line.words;
  if (words[0] == "vip" && words.size() >= 2) return read_vip(line);
  if (words[0] == "listener" && words.size() == 5) return read_listener(line);
  if (words[0] == "vlan" && words.size() == 3) return change_vlan(line);
  if (words[0] != "set" || words.size() < 3) return Error{"no such step"};
  const std::uint32_t slot = target_slot(words[1]);
  if (slot == kNoSlot) return Error{"no such target: " + words[1]};
  TargetSpec& target = builder_.target(slot);
  const std::string& what = words[2];
  if (what == "healthy" || what == "draining") {
    target.gets_new_flows = what == "healthy";
    target.flags = MR_TARGET_KEEPS_FLOWS | MR_TARGET_HEALTHY;
    if (what == "draining") target.flags |= MR_TARGET_DRAINING;
  } else if (what == "unhealthy") {
    target.gets_new_flows = false;
    target.flags = MR_TARGET_RESETS_FLOWS;
  } else if (what == "keeps_tcp") {
    target.gets_new_flows = false;
    target.flags = MR_TARGET_KEEPS_TCP;
  } else if (what == "gone") {
    builder_.free_target(slot);
  } else if (what == "unresolved" || what == "resolved") {
    target.next_hop.flags = what == "resolved" ? MR_NEXT_HOP_RESOLVED : 0;
  } else if (what == "mtu" && words.size() == 4) {
    const auto mtu = number_of(words[3]);
    if (!mtu) return mtu.error();
    target.mtu = static_cast<std::uint16_t>(*mtu);
  } else if (what == "via" && words.size() == 4) {
    const auto hop = next_hop(words[3], target.next_hop.nic);
    if (!hop) return hop.error();
    target.next_hop = *hop;
  } else {
    return Error{"no such state of a target: " + what};
  }
  return ok();
}

}  // namespace millrace::test

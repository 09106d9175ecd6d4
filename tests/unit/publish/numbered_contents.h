// SPDX-License-Identifier: Apache-2.0
//
// Image contents of which every part says the same number, so that a mix of two images shows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "controlplane/publish/image_contents.h"
#include "dataplane/core/checksum64.h"
#include "dataplane/core/config_view.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {

inline std::shared_ptr<const control::LookupTable> table_of(std::uint16_t cur,
                                                            std::size_t slots = 251) {
  auto table = std::make_shared<control::LookupTable>();
  table->slots.assign(slots, mr_lookup_slot{.cur = cur, .prev = MR_MEMBER_NONE});
  table->digest = cur;
  table->checksum = core::checksum64(std::as_bytes(std::span(table->slots)));
  return table;
}

// One TCP listener, one group with members 0 and 1; `number` is in all of them.
inline control::ImageContents numbered_contents(std::uint32_t number) {
  control::ImageContents contents;
  mr_listener listener{};
  listener.vip_addr = addr_of("203.0.113.10");
  listener.id = number + 1;
  listener.last_port_be = 80;
  listener.asked_port_be = 80;
  listener.port_be = 80;
  listener.protocol = MR_PROTOCOL_TCP;
  listener.timeout_ticks[MR_FLOW_ESTABLISHED] = number;
  contents.listeners = {listener};
  for (std::uint32_t i = 0; i < 2; ++i) {
    mr_target target{};
    target.addr = addr_of("10.0.1.1" + std::to_string(i));
    target.id = number + 1;
    target.port_be = 8080;
    target.protocol = MR_PROTOCOL_TCP;
    target.forwarding = MR_FORWARDING_NAT;
    target.identity = number;
    contents.targets.push_back(target);
  }
  control::GroupContents group;
  group.id = number + 1;
  group.members = {0, 1};
  group.table = table_of(number % 2);
  contents.groups = {group};
  contents.selection_key.k0 = number;
  return contents;
}

// The number that all parts of the image agree on; nullopt for a mix.
inline std::optional<std::uint32_t> number_of(const core::ConfigView& view) {
  const auto number = static_cast<std::uint32_t>(view.image->selection_key.k0);
  bool agrees = view.listeners.size() == 1 && view.targets.size() == 2 && view.groups.size() == 1;
  if (!agrees) return std::nullopt;
  agrees = view.listeners[0].id == number + 1 &&
           view.listeners[0].timeout_ticks[MR_FLOW_ESTABLISHED] == number &&
           view.groups[0].id == number + 1 && view.groups[0].table_digest == number % 2;
  for (const mr_target& target : view.targets) {
    agrees = agrees && target.id == number + 1 && target.identity == number;
  }
  for (const mr_lookup_slot& slot : view.lookup_table(view.groups[0])) {
    agrees = agrees && slot.cur == number % 2 && slot.prev == MR_MEMBER_NONE;
  }
  return agrees ? std::optional(number) : std::nullopt;
}

}  // namespace millrace::test

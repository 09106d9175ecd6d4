// SPDX-License-Identifier: Apache-2.0
//
// Listeners with several ports, and who else asks for a packet's listener. Warm.
#include "dataplane/core/forwarder.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::core {

const mr_listener* Forwarder::find_in_ranges(const Parsed& parsed) const noexcept {
  const mr_table_entry* entry =
      find_entry(config_.listener_table, parsed.destination, 0, mr_ranges_of(parsed.protocol));
  return listener_in_ranges(config_, entry, from_be16(parsed.destination_port_be()));
}

const mr_listener* Forwarder::copy_in_ranges(const Parsed& parsed) noexcept {
  const mr_listener* listener = find_in_ranges(parsed);
  if (listener == nullptr) return nullptr;
  mr_listener& asked = asked_[asked_next_++ % asked_.size()];
  asked = *listener;
  asked.asked_port_be = parsed.destination_port_be();
  asked.port_be = parsed.destination_port_be();
  return &asked;
}

bool Forwarder::has_listener(const Parsed& parsed) const noexcept {
  if (listener_hint_.is_of(parsed)) return true;
  const mr_table_entry* entry = find_entry(config_.listener_table, parsed.destination,
                                           parsed.destination_port_be(), parsed.protocol);
  return entry != nullptr ? config_.listeners[entry->slot].id != 0
                          : find_in_ranges(parsed) != nullptr;
}

}  // namespace millrace::core

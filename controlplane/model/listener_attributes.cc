// SPDX-License-Identifier: Apache-2.0
//
// The attributes of listeners, by the names of the ELBv2 API.
#include "controlplane/model/attribute_tables.h"

namespace millrace::control {
namespace {

using ListenerRow = Attribute<Listener>;

std::string refuse_idle_timeout(const Listener& listener) {
  if (has_protocol(listener.protocol, Protocol::tcp)) return "";
  return "is for TCP and TCP_UDP listeners only; the idle timeout of UDP flows is 120 seconds";
}

constexpr ListenerRow kListenerRows[] = {
    {.name = "tcp.idle_timeout.seconds",
     .value = ListenerRow::Number{&Listener::tcp_idle_timeout_seconds,
                                  {.min = 60, .max = 6000, .unit = "seconds"}},
     .applies_to = "protocol: TCP, TCP_UDP",
     .refusal = refuse_idle_timeout,
     .meaning = "How long a connection may be silent; then both ends get a RST when one speaks. "
                "UDP flows have 120 seconds."},
};

}  // namespace

std::span<const Attribute<Listener>> listener_attributes() { return kListenerRows; }

}  // namespace millrace::control

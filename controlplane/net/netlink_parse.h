// SPDX-License-Identifier: Apache-2.0
//
// Kernel messages to values. Cold and pure. Lengths are checked although the kernel wrote them: a
// message that does not fit its own claims is ignored.
#pragma once

#include <linux/netlink.h>

#include <optional>

#include "controlplane/net/netlink.h"

namespace millrace::control {

// nullopt for messages that say nothing about links, addresses, neighbours or routes of IPv4 or
// IPv6, and for malformed ones. `message.nlmsg_len` bytes must be readable.
[[nodiscard]] std::optional<NetlinkEvent> parse_event(const nlmsghdr& message);

// An RTM_NEWLINK as the answer to a question for one interface.
[[nodiscard]] std::optional<LinkState> parse_link_state(const nlmsghdr& message);

// An RTM_NEWROUTE as the answer to a question for one destination.
[[nodiscard]] std::optional<RouteAnswer> parse_route(const nlmsghdr& message);

}  // namespace millrace::control

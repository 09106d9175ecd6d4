// SPDX-License-Identifier: Apache-2.0
//
// The attributes of load balancers. Each holds for all VIPs of the load balancer.
#include "controlplane/model/attribute_tables.h"

namespace millrace::control {
namespace {

using LoadBalancerRow = Attribute<LoadBalancer>;

constexpr Word<Echo> kEchoes[] = {
    {"always", Echo::always}, {"healthy", Echo::healthy}, {"never", Echo::never}};

constexpr Word<NoListener> kNoListeners[] = {
    {"drop", NoListener::drop}, {"reject", NoListener::reject}, {"kernel", NoListener::kernel}};

constexpr LoadBalancerRow kLoadBalancerRows[] = {
    {.name = "millrace.echo",
     .value = LoadBalancerRow::Choice<Echo>{&LoadBalancer::echo, kEchoes},
     .meaning = "When the VIPs answer echo requests (ping). healthy: while some listener of the "
                "VIP has a target that gets new flows because it is healthy. So a VIP is silent "
                "where every group fails open, only drains, has no target, has not been checked "
                "yet, or cannot be reached. never: echo requests are dropped, and counted as "
                "`no_echo`."},
    {.name = "millrace.no_listener",
     .value = LoadBalancerRow::Choice<NoListener>{&LoadBalancer::no_listener, kNoListeners},
     .meaning = "What becomes of a TCP or UDP packet to a port of the VIPs that has no listener. "
                "drop: nobody is told, as with NLB. reject: TCP is answered with a RST and UDP "
                "with ICMP's \"port unreachable\", as by a host. kernel: the packet is given to "
                "the node's kernel, which needs a route of its own for the VIP (see the runbook: "
                "Ports without a listener)."},
};

}  // namespace

std::span<const Attribute<LoadBalancer>> load_balancer_attributes() { return kLoadBalancerRows; }

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Wrong ports where there are several or any, and wrong networks of VIPs: what an operator is told.
#include "tests/unit/config/bad_config.h"

namespace millrace::control {
namespace {

const std::vector<BadConfig> kPorts = {
    {"range backwards",
     with_listener("protocol: TCP, port: 2000-1000, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"2000-1000\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"range without an end",
     with_listener("protocol: TCP, port: 1000-, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"1000-\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"ranges that overlap, also of both protocols",
     "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP, port: 1000-2000, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: 2000-2001, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: 1000-1001, default_target_group: tcp}\n"
     "  - {protocol: UDP, port: 1500-1600, default_target_group: udp}\n"
     "target_groups:\n- {name: tcp, protocol: TCP, port: 80}\n"
     "- {name: udp, protocol: UDP, port: 80}\n",
     {"f:6:27: load_balancers[0].listeners[1].port: overlaps the ports 1000-2000 in line 5; a port "
      "goes to one listener",
      "f:7:27: load_balancers[0].listeners[2].port: a listener for TCP port 1000-2000 exists "
      "already, in line 5"}},
    {"port that a range begins with",
     "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP, port: 1000-2000, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: 1000, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: any, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: any, default_target_group: tcp}\n"
     "target_groups:\n- {name: tcp, protocol: TCP, port: 80}\n",
     {"f:6:27: load_balancers[0].listeners[1].port: begins with the same port as 1000-2000 in line "
      "5; the port by itself wins, so let the range begin behind it",
      "f:8:27: load_balancers[0].listeners[3].port: a listener for TCP port any exists already, in "
      "line 7"}},
    {"range to a group that keeps ports and has one",
     with_listener("protocol: TCP, port: 80-81, default_target_group: dsr"),
     {"f:5:56: load_balancers[0].listeners[0].default_target_group: the listener has port 80-81 "
      "but "
      "target group \"dsr\" has port 81; with millrace.forwarding: dsr they must be equal, or the "
      "group's `port: any`"}},
    {"any port without one to probe",
     "load_balancers: []\n"
     "target_groups:\n- {name: tcp, protocol: TCP, port: any, targets: [{id: 10.0.0.1}]}\n",
     {"f:3:3: target_groups[0]: has targets of any port, so health_check needs a `port` that "
      "probes "
      "go to"}},
    {"target with a port beside itself with any",
     "load_balancers: []\n"
     "target_groups:\n- name: tcp\n  protocol: TCP\n  port: any\n  health_check: {port: 81}\n"
     "  targets: [{id: 10.0.0.1}, {id: 10.0.0.1, port: 80}, {id: 10.0.0.2, port: 80}, {id: "
     "10.0.0.2}]\n",
     {"f:7:29: target_groups[0].targets[1]: the target 10.0.0.1 is in this group already, in line "
      "7; if one of them takes any port, there is no room for the other",
      "f:7:81: target_groups[0].targets[3]: the target 10.0.0.2 is in this group already, in line "
      "7; if one of them takes any port, there is no room for the other"}},
    {"range with asymmetric returns",
     "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP, port: 1000-2000, default_target_group: tcp}\n"
     "target_groups:\n- {name: tcp, protocol: TCP, port: 80, attributes: "
     "{millrace.asymmetric_returns.enabled: true}}\n",
     {"f:5:60: load_balancers[0].listeners[0].default_target_group: target group \"tcp\" has "
      "millrace.asymmetric_returns.enabled; that needs a listener with one port and targets with a "
      "port of their own, because replies that pass another node than the requests do not say "
      "which "
      "port was asked"}},
};

std::string with_addresses(const std::string& list) {
  return "load_balancers:\n- {name: web, addresses: [" + list + "]}\ntarget_groups: []\n";
}

const std::vector<BadConfig> kNetworks = {
    {"network with too many addresses",
     with_addresses("203.0.112.0/23"),
     {"f:2:27: load_balancers[0].addresses[0]: \"203.0.112.0/23\" must have a prefix length of "
      "24-32"}},
    {"network of IPv6 with too many addresses",
     with_addresses("\"2001:db8::/64\""),
     {"f:2:27: load_balancers[0].addresses[0]: \"2001:db8::/64\" must have a prefix length of "
      "120-128"}},
    {"address of a host with a prefix",
     with_addresses("203.0.113.1/28"),
     {"f:2:27: load_balancers[0].addresses[0]: \"203.0.113.1/28\" must be a network's first "
      "address, with 0 in the bits behind its prefix"}},
    {"network that has an address which is a VIP already",
     with_addresses("203.0.113.3, 203.0.113.2/31"),
     {"f:2:40: load_balancers[0].addresses[1]: the VIP 203.0.113.3 is given already, in line 2 "
      "(load_balancers[0].addresses[0]); a VIP belongs to one load balancer"}},
};

INSTANTIATE_TEST_SUITE_P(Networks, LoadErrorsTest, testing::ValuesIn(kNetworks), bad_config_name);
INSTANTIATE_TEST_SUITE_P(Ports, LoadErrorsTest, testing::ValuesIn(kPorts), bad_config_name);

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Wrong files, load balancers and listeners: what an operator is told, word for word, and where.
#include "tests/unit/config/bad_config.h"

namespace millrace::control {
namespace {

std::string with_balancer(const std::string& keys) { return "load_balancers:\n- {" + keys + "}\n"; }

TEST_P(LoadErrorsTest, are_all_reported_with_place_and_reason) {
  EXPECT_EQ(load_errors(GetParam().yaml), GetParam().errors) << GetParam().yaml;
}

using namespace std::string_literals;

const std::vector<BadConfig> kWholeFile = {
    {"empty",
     "",
     {"f:1:1: the file is empty; to remove everything on purpose, write "
      "`load_balancers: []`"}},
    {"only comments",
     "# nothing\n---\n",
     {"f:1:1: the file is empty; to remove everything on purpose, write "
      "`load_balancers: []`"}},
    {"only a scalar",
     "hello",
     {"f:1:1: is a single value; must be a map with the keys: node, load_balancers, "
      "target_groups"}},
    {"a list",
     "- a\n",
     {"f:1:1: is a list; must be a map with the keys: node, load_balancers, "
      "target_groups"}},
    {"no load balancers",
     "node: {name: a}\n",
     {"f:1:1: the key `load_balancers` is missing: a list, [] for none"}},
    {"load balancers without a value",
     "load_balancers:\n",
     {"f:2:1: load_balancers: is nothing; must be a list (may be empty: [])"}},
    {"unknown key",
     "load_balancers: []\nloadbalancers: []\n",
     {"f:2:1: loadbalancers: unknown key (did you mean `load_balancers`?); allowed: "
      "node, load_balancers, target_groups"}},
    {"key twice",
     "load_balancers: []\nload_balancers: []\n",
     {"f:2:1: load_balancers: this key stands in the same map already, in line 1; "
      "keep one"}},
    {"key that is a list",
     "load_balancers: []\n? [a, b]\n: 1\n",
     {"f:2:3: a key is a list; must be one of: node, load_balancers, target_groups"}},
    {"a tab",
     "node:\n\tname: a\n",
     {"f:2:6: not valid YAML: the line is indented by a tab; YAML takes spaces alone"}},
    {"not YAML",
     "load_balancers: [\n",
     {"f:2:1: not valid YAML: in the list [ of line 1, column 17: a comma is missing before this, "
      "or its ]"}},
    {"tab as indentation",
     "load_balancers:\n\t- name: a\n",
     {"f:2:2: not valid YAML: the line is indented by a tab; YAML takes spaces alone"}},
    {"two documents",
     "load_balancers: []\n---\nload_balancers: []\n",
     {"f:2:1: a second YAML document begins here (---); only one is read"}},
    {"tag",
     "load_balancers: !!python/object []\n",
     {"f:1:17: YAML tags (here tag:yaml.org,2002:python/object) are not used in this "
      "file"}},
    {"unknown anchor",
     "load_balancers: *missing\n",
     {"f:1:17: not valid YAML: * means a value that was named by & further up, and there is none "
      "of that name; a text that begins with * must stand in quotes"}},
    {"alias in its own anchor",
     "load_balancers: &a [*a]\n",
     {"f:1:21: an alias cannot stand inside its own anchor"}},
    {"invalid UTF-8",
     "load_balancers: []\nnode: {name: \"\xc3\x28\"}\n",
     {"f:2:15: not text: a byte that is neither UTF-8 nor a printable character"}},
    {"NUL byte",
     "load_balancers: []\n\0"s,
     {"f:2:1: not text: a byte that is neither UTF-8 nor a printable character"}},
    {"merge of a scalar",
     "load_balancers: []\n<<: 5\n",
     {"f:2:1: <<: a merge key takes the alias of a map, or a list of them"}},
    {"node is a list",
     "load_balancers: []\nnode: []\n",
     {"f:2:7: node: is a list; must be a map with the keys: name, zone, "
      "selection_key, lookup_seed, engine, encap_source"}},
    {"node name",
     "load_balancers: []\nnode: {name: lb--1}\n",
     {"f:2:14: node.name: \"lb--1\" must be 1-63 letters, digits and single hyphens, "
      "not starting or ending with a hyphen"}},
    {"node key too short",
     "load_balancers: []\nnode: {selection_key: \"0123\"}\n",
     {"f:2:23: node.selection_key: \"0123\" must be exactly 32 hexadecimal digits "
      "(put them in quotes)"}},
    {"node key not hexadecimal",
     "load_balancers: []\nnode: {lookup_seed: 0123456789abcdeg}\n",
     {"f:2:21: node.lookup_seed: \"0123456789abcdeg\" must be exactly 16 hexadecimal "
      "digits (put them in quotes)"}},
    {"terminal escapes in a value",
     "load_balancers: []\nnode: {name: \"\\e[31mred\"}\n",
     {"f:2:14: node.name: \"?[31mred\" must be 1-63 letters, digits and single "
      "hyphens, not starting or ending with a hyphen"}},
    {"unknown engine",
     "node: {engine: ebpf}\nload_balancers: []\n",
     {"f:1:16: node.engine: \"ebpf\" is not one of: dpdk, xdp"}},
    {"two sources of one family",
     "node: {encap_source: [192.0.2.1, \"2001:db8::1\", 192.0.2.2]}\nload_balancers: []\n",
     {"f:1:49: node.encap_source[2]: 192.0.2.2 is of the same address family as "
      "192.0.2.1; one of each is possible"}},
    {"VIP as source",
     "node: {encap_source: [192.0.2.1]}\n"
     "load_balancers: [{name: web, addresses: [192.0.2.1]}]\n",
     {"f:1:23: node.encap_source[0]: 192.0.2.1 is a VIP, in line 2; encapsulated "
      "packets come from an address of the node's own"}},
    {"VIP in the network of sources",
     "node: {encap_source: [203.0.113.0/24]}\n"
     "load_balancers: [{name: web, addresses: [203.0.113.10]}]\n",
     {"f:1:23: node.encap_source[0]: 203.0.113.0/24 has the VIP 203.0.113.10, in line 2; "
      "encapsulated packets come from addresses that nobody else has"}},
    {"target in the network of sources",
     "node: {encap_source: [10.0.0.0/8]}\n"
     "load_balancers: []\n"
     "target_groups: [{name: a, protocol: TCP, port: 80, targets: [{id: 10.0.1.11}]}]\n",
     {"f:1:23: node.encap_source[0]: 10.0.0.0/8 has the target 10.0.1.11, in line 3; "
      "encapsulated packets come from addresses that nobody else has"}},
    {"network of sources that is none",
     "node: {encap_source: [172.16.0.0/x]}\nload_balancers: []\n",
     {"f:1:23: node.encap_source[0]: \"172.16.0.0/x\" must be an address or a network, such as "
      "192.0.2.1 or 172.16.0.0/16"}},
    {"network of sources that is too large",
     "node: {encap_source: [\"100::/48\"]}\nload_balancers: []\n",
     {"f:1:23: node.encap_source[0]: \"100::/48\" must have a prefix length of 64-127"}},
    {"network of sources that begins in the middle",
     "node: {encap_source: [172.16.0.1/16]}\nload_balancers: []\n",
     {"f:1:23: node.encap_source[0]: \"172.16.0.1/16\" must be a network's first address, with 0 "
      "in the bits behind its prefix"}},
    {"network of sources that nobody can have",
     "node: {encap_source: [127.0.0.0/16]}\nload_balancers: []\n",
     {"f:1:23: node.encap_source[0]: \"127.0.0.0/16\" is a loopback address; must be a unicast "
      "network"}},
};

const std::string kVip = "name: web, addresses: [203.0.113.10], ";

const std::vector<BadConfig> kLoadBalancers = {
    {"no name",
     with_balancer("addresses: [203.0.113.10]"),
     {"f:2:3: load_balancers[0]: the key `name` is missing: what the load balancer "
      "is called"}},
    {"no addresses",
     with_balancer("name: web"),
     {"f:2:3: load_balancers[0]: the key `addresses` is missing: a list of its VIPs, "
      "at least one"}},
    {"empty addresses",
     with_balancer("name: web, addresses: []"),
     {"f:2:26: load_balancers[0].addresses: is empty; must name at least one VIP"}},
    {"address that is none is not told as one of a family that is missing",
     with_balancer("name: web, addresses: [203.0.113.10/33, \"2001:db8::10\"], listeners: [{"
                   "protocol: TCP, port: 80, default_target_groups: {ipv4: four, ipv6: six}}]") +
         "target_groups:\n- {name: four, protocol: TCP, port: 80}\n"
         "- {name: six, protocol: TCP, port: 80}\n",
     {"f:2:27: load_balancers[0].addresses[0]: \"203.0.113.10/33\" must be an address or a "
      "network, such as 203.0.113.10 or 203.0.113.0/28"}},
    {"name with a slash",
     with_balancer("name: a/b, addresses: [203.0.113.10]"),
     {"f:2:10: load_balancers[0].name: \"a/b\" must be 1-32 letters, digits and "
      "single hyphens, not starting or ending with a hyphen"}},
    {"name too long",
     with_balancer("name: abcdefghijklmnopqrstuvwxyz0123456, addresses: [203.0.113.10]"),
     {"f:2:10: load_balancers[0].name: \"abcdefghijklmnopqrstuvwxyz0123456\" must be "
      "1-32 letters, digits and single hyphens, not starting or ending with a hyphen"}},
    {"name starts with a hyphen",
     with_balancer("name: -web, addresses: [203.0.113.10]"),
     {"f:2:10: load_balancers[0].name: \"-web\" must be 1-32 letters, digits and "
      "single hyphens, not starting or ending with a hyphen"}},
    {"gateway",
     with_balancer("name: web, type: gateway, addresses: [203.0.113.10]"),
     {"f:2:21: load_balancers[0].type: \"gateway\": not supported by this version; "
      "only network is"}},
    {"type misspelt",
     with_balancer("name: web, type: netwrok, addresses: [203.0.113.10]"),
     {"f:2:21: load_balancers[0].type: \"netwrok\" is not one of: network (did you "
      "mean `network`?)"}},
    {"address misspelt",
     with_balancer("name: web, addresses: [203.0.113.300]"),
     {"f:2:27: load_balancers[0].addresses[0]: \"203.0.113.300\" must be one IPv4 or "
      "IPv6 address, such as 203.0.113.10 or 2001:db8::10, without port or prefix "
      "length"}},
    {"address is a map",
     with_balancer("name: web, addresses: [{a: b}]"),
     {"f:2:27: load_balancers[0].addresses[0]: is a map of keys and values; must be "
      "a single value"}},
    {"multicast VIP",
     with_balancer("name: web, addresses: [224.0.0.1]"),
     {"f:2:27: load_balancers[0].addresses[0]: \"224.0.0.1\" is a multicast address; "
      "must be a unicast address"}},
    {"loopback VIP",
     with_balancer("name: web, addresses: [127.0.0.1]"),
     {"f:2:27: load_balancers[0].addresses[0]: \"127.0.0.1\" is a loopback address; "
      "must be a unicast address"}},
    {"link-local VIP",
     with_balancer("name: web, addresses: [\"fe80::1\"]"),
     {"f:2:27: load_balancers[0].addresses[0]: \"fe80::1\" is a link-local address; "
      "must be a unicast address"}},
    {"unspecified VIP",
     with_balancer("name: web, addresses: [\"::\"]"),
     {"f:2:27: load_balancers[0].addresses[0]: \"::\" is the unspecified address; "
      "must be a unicast address"}},
    {"VIP twice in one load balancer",
     with_balancer("name: web, addresses: [203.0.113.10, 203.0.113.10]"),
     {"f:2:41: load_balancers[0].addresses[1]: the VIP 203.0.113.10 is given "
      "already, in line 2 (load_balancers[0].addresses[0]); a VIP belongs to one "
      "load balancer"}},
    {"VIP in two load balancers",
     "load_balancers:\n- {name: a, addresses: [203.0.113.10]}\n"
     "- {name: b, addresses: [203.0.113.10]}\n",
     {"f:3:25: load_balancers[1].addresses[0]: the VIP 203.0.113.10 is given "
      "already, in line 2 (load_balancers[0].addresses[0]); a VIP belongs to one "
      "load balancer"}},
    {"VIP written in two ways",
     "load_balancers:\n- {name: a, addresses: [\"2001:db8::1\"]}\n"
     "- {name: b, addresses: [\"2001:DB8:0::1\"]}\n",
     {"f:3:25: load_balancers[1].addresses[0]: the VIP 2001:db8::1 is given already, "
      "in line 2 (load_balancers[0].addresses[0]); a VIP belongs to one load balancer"}},
    {"name twice",
     "load_balancers:\n- {name: a, addresses: [203.0.113.10]}\n"
     "- {name: a, addresses: [203.0.113.11]}\n",
     {"f:3:10: load_balancers[1].name: a load balancer \"a\" exists already, in line "
      "2"}},
    {"echo that is no word of it",
     with_balancer(kVip + "attributes: {millrace.echo: sometimes}"),
     {"f:2:70: load_balancers[0].attributes.millrace.echo: \"sometimes\" is not one of: always, "
      "healthy, never"}},
    {"policy that is no word of it",
     with_balancer(kVip + "attributes: {millrace.no_listener: rejects}"),
     {"f:2:77: load_balancers[0].attributes.millrace.no_listener: \"rejects\" is not one of: "
      "drop, reject, kernel (did you mean `reject`?)"}},
    {"attribute that a load balancer has not",
     with_balancer(kVip + "attributes: {millrace.ecco: never}"),
     {"f:2:55: load_balancers[0].attributes.millrace.ecco: unknown key (did you mean "
      "`millrace.echo`?); allowed: millrace.echo, millrace.no_listener"}},
};

const std::string kTcp = "protocol: TCP, port: 80, ";

const std::vector<BadConfig> kListeners = {
    {"no keys",
     with_listener(""),
     {"f:5:5: load_balancers[0].listeners[0]: the key `protocol` is missing: TCP, UDP "
      "or TCP_UDP",
      "f:5:5: load_balancers[0].listeners[0]: the key `port` is missing: 1-65535, a range as "
      "1000-2000, or any",
      "f:5:5: load_balancers[0].listeners[0]: the key `default_target_group` is "
      "missing: the name of the target group that gets the flows"}},
    {"port 0",
     with_listener("protocol: TCP, port: 0, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"0\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port 65536",
     with_listener("protocol: TCP, port: 65536, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"65536\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port negative",
     with_listener("protocol: TCP, port: -1, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"-1\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port is a name",
     with_listener("protocol: TCP, port: http, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"http\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port in hex",
     with_listener("protocol: TCP, port: 0x50, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"0x50\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port is NaN",
     with_listener("protocol: TCP, port: .nan, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \".nan\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"port overflows",
     with_listener("protocol: TCP, port: 4294967376, default_target_group: tcp"),
     {"f:5:27: load_balancers[0].listeners[0].port: \"4294967376\" must be a port (1-65535), "
      "a range of ports (1000-2000), or the word any"}},
    {"protocol in lower case",
     with_listener("protocol: tcp, port: 80, default_target_group: tcp"),
     {"f:5:16: load_balancers[0].listeners[0].protocol: \"tcp\" is not one of: TCP, "
      "UDP, TCP_UDP (did you mean `TCP`?)"}},
    {"TLS",
     with_listener("protocol: TLS, port: 80, default_target_group: tcp"),
     {"f:5:16: load_balancers[0].listeners[0].protocol: \"TLS\": not supported by "
      "this version; TCP, UDP and TCP_UDP are"}},
    {"TCP_UDP with a group of one protocol",
     with_listener("protocol: TCP_UDP, port: 80, default_target_group: tcp"),
     {"f:5:57: load_balancers[0].listeners[0].default_target_group: the listener is TCP_UDP but "
      "target group \"tcp\" in line 7 is TCP; a TCP_UDP listener needs a TCP_UDP group, or write a "
      "TCP and a UDP listener, each with a group of its own"}},
    {"unknown key",
     with_listener(kTcp + "default_target_group: tcp, prot: 1"),
     {"f:5:58: load_balancers[0].listeners[0].prot: unknown key (did you mean "
      "`protocol`?); allowed: protocol, port, default_target_group, "
      "default_target_groups, attributes"}},
    {"key twice",
     with_listener(kTcp + "port: 81, default_target_group: tcp"),
     {"f:5:31: load_balancers[0].listeners[0].port: this key stands in the same map "
      "already, in line 5; keep one"}},
    {"target group misspelt",
     with_listener(kTcp + "default_target_group: tpc"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: there is no "
      "target group \"tpc\" (did you mean `tcp`?); there are: dsr, dsr-override, ipip, "
      "six, tcp, udp"}},
    {"target group unknown",
     with_listener(kTcp + "default_target_group: something-else"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: there is no "
      "target group \"something-else\"; there are: dsr, dsr-override, ipip, "
      "six, tcp, udp"}},
    {"protocols differ",
     with_listener(kTcp + "default_target_group: udp"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: the listener is "
      "TCP but target group \"udp\" in line 8 is UDP; a TCP listener needs a TCP or TCP_UDP "
      "group"}},
    {"family differs",
     with_listener(kTcp + "default_target_group: six"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: the load "
      "balancer has the IPv4 address 203.0.113.10 (line 3) but target group \"six\" "
      "has IPv6 targets, which millrace.forwarding: nat cannot reach; name a group for each "
      "family: default_target_groups: {ipv4: ..., ipv6: ...}, or let the group forward by ipip or "
      "gue"}},
    {"both forms",
     with_listener(kTcp + "default_target_group: tcp, default_target_groups: {ipv4: tcp}"),
     {"f:5:81: load_balancers[0].listeners[0].default_target_groups: "
      "default_target_group is given too; keep one of the two"}},
    {"pair without the family of the VIP",
     with_listener(kTcp + "default_target_groups: {ipv6: six}"),
     {"f:5:5: load_balancers[0].listeners[0]: default_target_groups names no `ipv4` "
      "group, but the load balancer has the IPv4 address 203.0.113.10 in line 3",
      "f:5:61: load_balancers[0].listeners[0].default_target_groups.ipv6: the load "
      "balancer has no IPv6 address; remove this or add one to `addresses`"}},
    {"pair with an unknown family",
     with_listener(kTcp + "default_target_groups: {v4: tcp}"),
     {"f:5:55: load_balancers[0].listeners[0].default_target_groups.v4: unknown key "
      "(did you mean `ipv4`?); allowed: ipv4, ipv6"}},
    {"dsr changes the port",
     with_listener(kTcp + "default_target_group: dsr"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: the listener has "
      "port 80 but target group \"dsr\" has port 81; with millrace.forwarding: dsr "
      "they must be equal, or the group's `port: any`"}},
    {"dsr target changes the port",
     with_listener(kTcp + "default_target_group: dsr-override"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: the listener has "
      "port 80 but its target in line 12 has port 81; with millrace.forwarding: dsr "
      "they must be equal, or the group's `port: any`"}},
    {"ipip changes the port",
     with_listener(kTcp + "default_target_group: ipip"),
     {"f:5:53: load_balancers[0].listeners[0].default_target_group: the listener has "
      "port 80 but target group \"ipip\" has port 81; with millrace.forwarding: ipip "
      "they must be equal, or the group's `port: any`"}},
    {"idle timeout too short",
     with_listener(kTcp + "default_target_group: tcp, attributes: {tcp.idle_timeout.seconds: 59}"),
     {"f:5:97: load_balancers[0].listeners[0].attributes.tcp.idle_timeout.seconds: "
      "\"59\" must be a whole number, 60-6000 seconds"}},
    {"idle timeout too long",
     with_listener(kTcp +
                   "default_target_group: tcp, attributes: {tcp.idle_timeout.seconds: 6001}"),
     {"f:5:97: load_balancers[0].listeners[0].attributes.tcp.idle_timeout.seconds: "
      "\"6001\" must be a whole number, 60-6000 seconds"}},
    {"idle timeout of UDP",
     with_listener("protocol: UDP, port: 80, default_target_group: udp, "
                   "attributes: {tcp.idle_timeout.seconds: 60}"),
     {"f:5:97: load_balancers[0].listeners[0].attributes.tcp.idle_timeout.seconds: "
      "is for TCP and TCP_UDP listeners only; the idle timeout of UDP flows is 120 seconds"}},
    {"same port twice",
     "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP, port: 80, default_target_group: tcp}\n"
     "  - {protocol: TCP, port: 80, default_target_group: tcp}\n"
     "target_groups: [{name: tcp, protocol: TCP, port: 80}]\n",
     {"f:6:27: load_balancers[0].listeners[1].port: a listener for TCP port 80 "
      "exists already, in line 5"}},
    {"one group for VIPs of both families",
     "load_balancers:\n- name: web\n  addresses: [203.0.113.10, \"2001:db8::10\"]\n"
     "  listeners: [{protocol: TCP, port: 80, default_target_group: four}]\n"
     "target_groups: [{name: four, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}]\n",
     {"f:4:63: load_balancers[0].listeners[0].default_target_group: the load "
      "balancer has the IPv6 address 2001:db8::10 (line 3) but target group \"four\" "
      "has IPv4 targets, which millrace.forwarding: nat cannot reach; name a group for each "
      "family: default_target_groups: {ipv4: ..., ipv6: ...}, or let the group forward by ipip or "
      "gue"}},
    {"asymmetric returns with a listener of two VIPs",
     "load_balancers:\n- name: a\n  addresses: [203.0.113.10, 203.0.113.11]\n"
     "  listeners: [{protocol: TCP, port: 80, default_target_group: tcp}]\n"
     "target_groups: [{name: tcp, protocol: TCP, port: 80, attributes: "
     "{millrace.asymmetric_returns.enabled: true}}]\n",
     {"f:4:63: load_balancers[0].listeners[0].default_target_group: target group "
      "\"tcp\" has millrace.asymmetric_returns.enabled and more than one listener, counted for "
      "each VIP; replies that pass another node than the requests do not say which one was asked: "
      "give each listener of a VIP a group with target ports of its own"}},
    {"TCP_UDP asked for twice",
     "load_balancers:\n- name: a\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP_UDP, port: 80, default_target_group: both}\n"
     "  - {protocol: TCP_UDP, port: 80, default_target_group: both}\n"
     "target_groups: [{name: both, protocol: TCP_UDP, port: 80}]\n",
     {"f:6:31: load_balancers[0].listeners[1].port: a listener for TCP_UDP port 80 exists already, "
      "in line 5"}},
    {"UDP beside TCP_UDP",
     "load_balancers:\n- name: a\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP_UDP, port: 80, default_target_group: both}\n"
     "  - {protocol: UDP, port: 80, default_target_group: both}\n"
     "target_groups: [{name: both, protocol: TCP_UDP, port: 80}]\n",
     {"f:6:27: load_balancers[0].listeners[1].port: a listener for TCP_UDP port 80 exists already, "
      "in line 5; it takes the UDP packets that this UDP listener would"}},
    {"TCP_UDP beside TCP and UDP",
     "load_balancers:\n- name: a\n  addresses: [203.0.113.10]\n  listeners:\n"
     "  - {protocol: TCP, port: 80, default_target_group: both}\n"
     "  - {protocol: UDP, port: 80, default_target_group: both}\n"
     "  - {protocol: TCP_UDP, port: 80, default_target_group: both}\n"
     "target_groups: [{name: both, protocol: TCP_UDP, port: 80}]\n",
     {"f:7:31: load_balancers[0].listeners[2].port: a listener for TCP port 80 exists already, in "
      "line 5; it takes the TCP packets that this TCP_UDP listener would",
      "f:7:31: load_balancers[0].listeners[2].port: a listener for UDP port 80 exists already, in "
      "line 6; it takes the UDP packets that this TCP_UDP listener would"}},
    {"asymmetric group whose machine and port another group has",
     "load_balancers: []\ntarget_groups:\n- {name: a, protocol: TCP, port: 80, attributes: "
     "{millrace.asymmetric_returns.enabled: true}, targets: [{id: 10.0.0.1}, {id: 10.0.0.2}]}\n"
     "- {name: b, protocol: TCP_UDP, port: 8080, targets: [{id: 10.0.0.1}, {id: 10.0.0.2, port: "
     "80}]}\n",
     {"f:3:121: target_groups[0].targets[1]: target group \"a\" has "
      "millrace.asymmetric_returns.enabled, and 10.0.0.2 with this port is a target of another "
      "group, too, in line 4; replies that pass another node than the requests do not say which "
      "group was asked: give the target another port there"}},
    {"asymmetric group with a machine that takes any port in another group",
     "load_balancers: []\ntarget_groups:\n- {name: a, protocol: UDP, port: 80, attributes: "
     "{millrace.asymmetric_returns.enabled: true}, targets: [{id: 10.0.0.1}]}\n"
     "- {name: b, protocol: UDP, port: any, health_check: {port: 9}, targets: [{id: 10.0.0.1}]}\n"
     "- {name: c, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}\n"
     "- {name: d, protocol: UDP, port: 80, attributes: {millrace.forwarding: dsr}, targets: [{id: "
     "10.0.0.1}]}\n",
     {"f:3:105: target_groups[0].targets[0]: target group \"a\" has "
      "millrace.asymmetric_returns.enabled, and 10.0.0.1 with this port is a target of another "
      "group, too, in line 4; replies that pass another node than the requests do not say which "
      "group was asked: give the target another port there"}},
    {"asymmetric group in two load balancers",
     "load_balancers:\n- name: a\n  addresses: [203.0.113.10]\n"
     "  listeners: [{protocol: TCP, port: 80, default_target_group: tcp}]\n"
     "- name: b\n  addresses: [203.0.113.11]\n"
     "  listeners: [{protocol: TCP, port: 80, default_target_group: tcp}]\n"
     "target_groups: [{name: tcp, protocol: TCP, port: 80, attributes: "
     "{millrace.asymmetric_returns.enabled: true}}]\n",
     {"f:7:63: load_balancers[1].listeners[0].default_target_group: target group "
      "\"tcp\" has millrace.asymmetric_returns.enabled and more than one listener, counted for "
      "each VIP; replies that pass another node than the requests do not say which one was asked: "
      "give each listener of a VIP a group with target ports of its own"}},
};

INSTANTIATE_TEST_SUITE_P(WholeFile, LoadErrorsTest, testing::ValuesIn(kWholeFile), bad_config_name);
INSTANTIATE_TEST_SUITE_P(LoadBalancers, LoadErrorsTest, testing::ValuesIn(kLoadBalancers),
                         bad_config_name);
INSTANTIATE_TEST_SUITE_P(Listeners, LoadErrorsTest, testing::ValuesIn(kListeners), bad_config_name);

TEST(LoadErrors, fault_79_vip_that_the_node_has_is_refused_with_place_and_interface) {
  const auto own_interface = [](const IpAddress& address) {
    return std::string(address == *IpAddress::parse("203.0.113.10") ? "eth1" : "");
  };
  const LoadResult loaded = load_config(kSmallConfig, "f", own_interface);
  const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
  ASSERT_NE(errors, nullptr);
  ASSERT_EQ(errors->size(), 1u);
  EXPECT_EQ(to_string(errors->front()),
            "f:4:17: load_balancers[0].addresses[0]: 203.0.113.10 is an address of this node "
            "itself, on eth1; a VIP must be nobody's own: take it from the interface, or name "
            "another");
  const auto nobody = [](const IpAddress&) { return std::string(); };
  EXPECT_TRUE(std::holds_alternative<Config>(load_config(kSmallConfig, "f", nobody)));
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/help.h"

#include <array>

namespace millrace::control {
namespace {

// The texts start after the first line end, so that their lines are as wide here as in a terminal.
constexpr std::array kCommands = {
    CommandHelp{CommandKind::status, "status", "status", "is everything well?",
                R"(
Shows the node, the config in force, the engine with its workers and interfaces, and how many
targets of each group are healthy. Lines that start with ALARM want attention.

The generation is the number of what was published for the engine. It grows with each change of the
config, a target's health or a next hop, and stands for nothing else: it may jump, by a thousand or
so, where a reboot or a lost file makes the control plane number on from above all that was in use.

  millrace status
  millrace status --json | jq .engine.running
)"},
    CommandHelp{CommandKind::targets, "targets", "targets [GROUP]",
                "targets, their states and load",
                R"(
Shows each target with its state, its share of new flows, its flows, and why it is in that state.

  initial    registered, has not passed its first health check
  healthy    gets new flows
  unhealthy  fails its health checks; gets none, unless no target of the group is healthy
  draining   removed or drained: established flows go on, no new ones; the time left is shown
  unused     no listener uses the group, or its drain is over

  millrace targets
  millrace targets http-4
)",
                0, 1},
    CommandHelp{CommandKind::listeners, "listeners", "listeners",
                "VIPs, ports, and what they forward to",
                R"(
Shows each listener, its target group, and what it has carried. A listener is one VIP, protocol and
port: where a load balancer has two VIPs, each `listeners` entry of its config counts as two, and
one of TCP_UDP is shown for TCP and for UDP, each with what it has carried. RST columns count TCP
resets by who sent them: client, target, or Millrace itself.

Below stand the VIPs, with what becomes of what no listener is for: echo requests (ping), and
packets to a port without a listener.

  millrace listeners
)"},
    CommandHelp{CommandKind::apply, "apply", "apply FILE", "put a config file in force",
                R"(
Sends FILE (- for standard input) to the control plane, which checks it as a whole and puts it in
force. Only what differs is touched; established flows stay. With any error nothing changes, and
every error is shown with its line and reason. A target that the file no longer names is drained.

  millrace apply /etc/millrace/millrace.yaml
  sed 's/weight: 100/weight: 50/' millrace.yaml | millrace apply -
)",
                1, 1},
    CommandHelp{CommandKind::validate, "validate", "validate FILE", "check a config file",
                R"(
Checks FILE (- for standard input) like `apply` would, without any effect. If a control plane runs,
it also says what `apply` would change, or why it would refuse; without one the file alone counts.

  millrace validate /etc/millrace/millrace.yaml
)",
                1, 1},
    CommandHelp{CommandKind::reload, "reload", "reload", "read the config file again",
                R"(
Has the control plane read its own config file again, as `systemctl reload` does, and says what came
of it. With any error nothing changes, and every error is shown with its line and reason.

  millrace reload
)"},
    CommandHelp{CommandKind::engine, "engine", "engine NAME [OPTIONS]",
                "is this node to run that engine?",
                R"(
Says whether node.engine is NAME (dpdk or xdp): in the config in force if a control plane runs, else
in the config file. Units ask so before they start an engine. The exit code is 3 only when it is the
other engine for sure, and 0 also when nobody can say (the file is missing or broken): an engine
that ran goes on with what was published last.

  millrace engine xdp
  millrace engine dpdk --config /etc/millrace/millrace.yaml
)",
                1, 1},
    CommandHelp{CommandKind::drain, "drain", "drain GROUP TARGET[:PORT]",
                "take a target out softly",
                R"(
The target gets no new flows from now on; established ones go on. Its state is `draining` until the
group's deregistration delay has passed. It stays drained, also over a restart, until `undrain`.
The port is needed when the group has the address more than once.

  millrace drain http-4 10.0.1.11
  millrace drain http-4 10.0.1.11:8081
  millrace drain http-6 [2001:db8::5]:8080
)",
                2, 2},
    CommandHelp{CommandKind::undrain, "undrain", "undrain GROUP TARGET[:PORT]",
                "bring a drained target back",
                R"(
Ends what `drain` began: the target gets new flows again as soon as it is healthy.

  millrace undrain http-4 10.0.1.11
)",
                2, 2},
    CommandHelp{CommandKind::explain, "explain", "explain CLIENT:PORT VIP:PORT PROTOCOL",
                "where would this flow go, and why?",
                R"(
Goes through the engine's decision step by step: listener, target group, slot of the lookup table,
its target now and before the last change, next hop. If the engine knows the flow already, that is
what counts, and it is shown. PROTOCOL is TCP or UDP.

  millrace explain 192.0.2.100:40000 203.0.113.10:80 TCP
  millrace explain [2001:db8:2::100]:40000 [2001:db8:113::10]:53 UDP
)",
                3, 3},
    CommandHelp{CommandKind::flows, "flows", "flows [OPTIONS]", "flows in the engine's tables, now",
                R"(
Reads the live flow tables and shows the flows that fit all options, the first 20 unless --limit
says otherwise.

  millrace flows
  millrace flows --client 192.0.2.100
  millrace flows --vip [2001:db8:113::10]:80 --state established --limit 1000
  millrace flows --target-group http-4 --target 10.0.1.11
)"},
    CommandHelp{CommandKind::counters, "counters", "counters [OPTIONS]",
                "packets by what became of them",
                R"(
Shows the engine's counters since it started, and drops by reason. Each packet ends in exactly one:
  rx_packets + handover_in = forwarded + replied + punted + handover_out + drops

  millrace counters
  millrace counters --all
)"},
    CommandHelp{CommandKind::top, "top", "top [OPTIONS]", "live rates",
                R"(
Shows rates per worker, listener and target, again and again until Ctrl-C.

  millrace top
  millrace top --interval 5
  millrace top --once > load.txt
)"},
};

}  // namespace

std::span<const CommandHelp> command_helps() { return kCommands; }

std::string program_help() {
  std::string text =
      "millrace - look at and change a running Millrace load balancer\n\n"
      "Usage: millrace [--socket PATH] [--json] COMMAND [ARGUMENTS]\n\nCommands:\n";
  std::size_t width = 0;
  for (const CommandHelp& command : kCommands) width = std::max(width, command.usage.size());
  for (const CommandHelp& command : kCommands) {
    text += "  " + std::string(command.usage) + std::string(width - command.usage.size() + 2, ' ') +
            std::string(command.summary) + "\n";
  }
  return text +
         "\nEach explains itself: millrace COMMAND --help\n\n"
         "A first look:\n"
         "  millrace status                                       is everything well?\n"
         "  millrace targets                                      which target does what?\n"
         "  millrace explain 192.0.2.7:40000 203.0.113.10:80 TCP  where does this flow go?\n\n"
         "A change:\n"
         "  millrace validate new.yaml && millrace apply new.yaml\n\n"
         "Exit codes:\n"
         "  0  done\n"
         "  1  refused or failed: also when a part of the answer could not be read, or not "
         "written\n"
         "  2  the command line is wrong\n"
         "  3  `engine` alone: this node is to run the other engine\n"
         "Errors are on stderr, and with --json also on stdout: {\"ok\": false, \"errors\": "
         "[...]}\n";
}

std::string command_help(const CommandHelp& command) {
  return "millrace " + std::string(command.name) + " - " + std::string(command.summary) +
         "\n\nUsage: millrace " + std::string(command.usage) + "\n\n" +
         std::string(command.text.substr(1));
}

std::string version_text() { return "millrace " MILLRACE_VERSION "\n"; }

}  // namespace millrace::control

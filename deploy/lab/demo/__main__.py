# SPDX-License-Identifier: Apache-2.0
"""`python3 -m lab.demo [--once]`, started by deploy/demo when packages and programs are there."""

from __future__ import annotations

import argparse
import signal
import sys

from lab.demo.screen import Screen
from lab.demo.story import Story
from lab import Lab, LabError, Layout
from lab.addresses import VIP_V4, VIP_V6
from lab.node import ENGINES, REPOSITORY

# Nobody is in it but who is shown.
QUIET = Layout(noise_per_second=0, bystander=False, tagged=False)
DEMO_CONFIG = REPOSITORY / "deploy" / "examples" / "demo.yaml"


def show_next_steps(lab: Lab, screen: Screen) -> None:
    """Commands for a second terminal, ready to copy."""
    client = " ".join(lab.client.command([]))
    millrace = " ".join(str(word) for word in lab.node.cli_words())
    screen.heading("Everything runs. In another terminal (as root), try:")
    for about, command in (
        ("be the client", f"{client} bash"),
        ("ask over IPv4", f"{client} curl http://{VIP_V4}/"),
        ("ask over IPv6", f"{client} curl 'http://[{VIP_V6}]/'"),
        ("ask the DNS", f"{client} dig +short @{VIP_V4} TXT whoami.lab"),
        ("watch it live", f"{millrace} top"),
        ("targets and their health", f"{millrace} targets"),
        ("why a flow goes where", f"{millrace} explain 192.0.2.100:40000 {VIP_V4}:80 TCP"),
        ("drop reasons and counters", f"{millrace} counters"),
        ("change the config", f"$EDITOR {lab.node.config_file}"),
        ("and apply it", f"{millrace} apply {lab.node.config_file}"),
    ):
        screen.say(f"# {about}\n  {command}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/demo")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--engine", choices=ENGINES, default="dpdk")
    options = parser.parse_args()
    screen = Screen()
    screen.heading("Lab")
    try:
        with Lab(QUIET, engine=options.engine, progress=screen.say) as lab:
            engine = ENGINES[options.engine]
            screen.say(f"{engine} and millrace-controlplane with deploy/examples/demo.yaml")
            lab.node.start(DEMO_CONFIG)
            Story(lab, screen).tell()
            if not options.once:
                show_next_steps(lab, screen)
                screen.say("\n  Ctrl-C takes everything down.")
                signal.pause()
    except KeyboardInterrupt:
        screen.say("\n  everything is down")
        return 0 if not options.once else 130
    except LabError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    screen.heading(f"{screen.held} checks held, {len(screen.failed)} failed")
    return 1 if screen.failed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A target: real nginx and a real DNS server (dnsmasq) whose answers say who answered.

HTTP, ports 80, 8080 and 9000-9009:
                          /          "target=t1 client=192.0.2.100 port=40312"
                          /health    200 "ok", or 503 after fail_health()
                          /blob      1 MiB of data
DNS, port 5353, UDP and TCP (53 when the target holds the VIPs): TXT whoami.lab is "t1", and TXT
                          large.lab the same with 3,800 bytes behind it
ipip and gue, when asked for: what is inside is taken out, by the kernel as encap.yaml says if this
machine's has the modules, else by decapsulator.py
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from shutil import which

from lab.decapsulator import DEVICE, GUE_PORT
from lab.machine import kernel_has
from lab.namespace import Namespace
from lab.outage import Outage
from lab.process import LabError, Service, wait_until

HTTP_PORT = 8080
ANY_PORTS = range(9000, 9010)  # of HTTP, for listeners with several
DNS_PORT = 5353
DNS_PORT_DSR = 53  # nothing translates a port there
DNS_BYTES_MAX = 4096  # of a query
WHOAMI = "whoami.lab"
LARGE = "large.lab"
LARGE_STRINGS = 15  # of 253 bytes: the answer has almost what EDNS allows (DNS_BYTES_MAX)
BLOB_BYTES = 1 << 20
ENCAP_EXAMPLE = Path(__file__).resolve().parents[1] / "examples/encap.yaml"
DECAPSULATING_MODULES = ("ipip", "sit", "ip6_tunnel", "fou", "fou6")

_NGINX_CONF = """
daemon off;
user root;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
  default_type text/plain;
  log_format seen '$msec $remote_addr $remote_port $server_addr $server_port $status $request_uri';
  access_log {home}/http-requests.log seen;
  client_body_temp_path {home}/tmp-body;
  proxy_temp_path {home}/tmp-proxy;
  fastcgi_temp_path {home}/tmp-fastcgi;
  uwsgi_temp_path {home}/tmp-uwsgi;
  scgi_temp_path {home}/tmp-scgi;
  keepalive_timeout 3600s;
  keepalive_requests 100000000;
  server {{
    listen 80 backlog=4096;
    listen [::]:80 ipv6only=on backlog=4096;
    listen 8080 backlog=4096;
    listen [::]:8080 ipv6only=on backlog=4096;
    listen {any_ports} backlog=256;
    listen [::]:{any_ports} ipv6only=on backlog=256;
    location / {{
      return 200 "target={name} client=$remote_addr port=$remote_port\\n";
    }}
    location = /health {{
      access_log off;
      if (-e {home}/unhealthy) {{ return 503 "told to fail\\n"; }}
      return 200 "ok\\n";
    }}
    location = /blob {{ alias {home}/blob; }}
  }}
}}
"""


class Target:
    """`addresses` are the target's own, IPv4 first. Services are stopped by the lab at its end."""

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        addresses: tuple[str, str],
        home: Path,
        *,
        dns_port: int = DNS_PORT,
        decapsulates: bool = False,
    ) -> None:
        self.name = name
        self.outage = Outage()  # of its link
        self.dns_port = dns_port
        self.namespace = namespace
        self.v4, self.v6 = addresses
        self.home = home
        home.mkdir()
        (home / "blob").write_bytes(b"\0" * BLOB_BYTES)
        ports = f"{ANY_PORTS[0]}-{ANY_PORTS[-1]}"
        conf = _NGINX_CONF.format(home=home, name=name, any_ports=ports)
        (home / "nginx.conf").write_text(conf)
        self.http = namespace.service("nginx", self._nginx_words())
        self.dns = namespace.service("dnsmasq", self._dnsmasq_words())
        self._decapsulates = decapsulates
        self.decapsulator: Service | None = None
        if decapsulates and not kernel_has(*DECAPSULATING_MODULES):
            program = Path(__file__).with_name("decapsulator.py")
            self.decapsulator = namespace.service("decapsulator", [sys.executable, program])

    @property
    def services(self) -> list[Service]:
        return [self.http, self.dns, *([self.decapsulator] if self.decapsulator else [])]

    def start(self) -> None:
        for service in self.services:
            service.start()
        if self._decapsulates and not self.decapsulator:
            for command in decapsulating_commands():
                self.namespace.run(["env", f"OWN6={self.v6}", "sh", "-ec", command])
        if self.decapsulator:
            self.decapsulator.wait_ready(lambda: self._listens("udp", GUE_PORT))
            # Clients are not behind the device by which their packets come.
            self.namespace.sysctl("net.ipv4.conf.all.rp_filter", "0")
            self.namespace.sysctl(f"net.ipv4.conf.{DEVICE}.rp_filter", "0")
        self.http.wait_ready(lambda: self._listens("tcp", HTTP_PORT))
        self.dns.wait_ready(lambda: self._listens("udp", self.dns_port))

    def stop(self) -> None:
        """Ends the servers as an operator would: the host stays, its ports are closed."""
        for service in self.services:
            service.stop()

    def fail_health(self, failing: bool = True) -> None:
        """Makes /health answer 503 (or 200 again) while everything else goes on."""
        flag = self.home / "unhealthy"
        if failing:
            flag.touch()
        else:
            flag.unlink(missing_ok=True)

    def packets_by(self, device: str) -> int:
        """That an interface of the target's has received since it was made."""
        shown = self.namespace.run(["ip", "-json", "-stats", "link", "show", device]).stdout
        return int(json.loads(shown)[0]["stats64"]["rx"]["packets"])

    def http_clients(self) -> Counter[str]:
        """Requests that nginx logged, by the client address that it saw."""
        lines = self._lines("http-requests.log")
        return Counter(line.split()[1] for line in lines if len(line.split()) >= 7)

    def dns_clients(self) -> Counter[str]:
        """Queries that the DNS server logged, by the client address that it saw."""
        pattern = re.compile(r" ([0-9a-f.:]+)/\d+ query\[TXT\]")
        matches = (pattern.search(line) for line in self._lines("dns-queries.log"))
        return Counter(match.group(1) for match in matches if match)

    def _lines(self, name: str) -> list[str]:
        path = self.home / name
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def _listens(self, protocol: str, port: int) -> bool:
        words = [
            "ss",
            "--no-header",
            "--listening",
            "--numeric",
            f"--{protocol}",
            f"sport = {port}",
        ]
        return bool(self.namespace.run(words).stdout.strip())

    def _nginx_words(self) -> list[str]:
        nginx = which("nginx", path="/usr/sbin:/usr/bin")
        if nginx is None:
            raise LabError("nginx is not installed (see deploy/install-packages)")
        conf = self.home / "nginx.conf"
        return [nginx, "-p", str(self.home), "-c", str(conf), "-e", f"{self.home}/nginx-error.log"]

    def _dnsmasq_words(self) -> list[str]:
        return [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--group=root",
            "--pid-file=",
            "--no-resolv",
            "--no-hosts",
            "--local=/lab/",
            f"--port={self.dns_port}",
            f"--txt-record={WHOAMI},{self.name}",
            f"--txt-record={LARGE},{','.join([self.name, *LARGE_STRINGS * ['x' * 253]])}",
            "--local-ttl=0",
            f"--edns-packet-max={DNS_BYTES_MAX}",
            "--log-queries=extra",
            f"--log-facility={self.home}/dns-queries.log",
        ]


def decapsulating_commands() -> list[str]:
    """What the example tells operators to run on targets, each a line of shell."""
    lines = ENCAP_EXAMPLE.read_text().partition("take packets out")[2].partition("Let only")[0]
    return re.findall(r"^#       (\S.*)$", lines, re.MULTILINE)


def wait_for_log(target: Target, count: int, timeout_s: float = 5.0) -> None:
    """nginx writes its log after the answer: waits until `count` requests are in it."""
    wait_until(
        lambda: sum(target.http_clients().values()) >= count,
        f"{target.name} logged {count} requests",
        timeout_s=timeout_s,
    )

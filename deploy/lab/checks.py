# SPDX-License-Identifier: Apache-2.0
"""What holds of traffic through a VIP however it is forwarded: all three targets get a share, and
they see the client's own address."""

from __future__ import annotations

from lab.addresses import client_v4, client_v6
from lab.namespace import Namespace
from lab.traffic import connect_many, dns_query

TARGETS = {"t1", "t2", "t3"}


def assert_http_is_shared(client: Namespace, vip: str, count: int = 300) -> None:
    """`client` is the lab's first."""
    answers = connect_many(client, vip, count)
    assert len(answers) == count
    own = client_v6(0) if ":" in vip else client_v4(0)
    assert {answer.client for answer in answers} == {own}
    assert {answer.target for answer in answers} == TARGETS


def assert_dns_is_shared(client: Namespace, vip: str, count: int = 200) -> None:
    answers = dns_query(client, vip, count)
    assert len(answers) == count
    assert set(answers) == TARGETS

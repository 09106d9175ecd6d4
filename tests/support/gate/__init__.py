# SPDX-License-Identifier: Apache-2.0
"""The whole test run: what `tests/run` starts after the packages are there."""

# SPDX-License-Identifier: Apache-2.0
"""What `deploy/demo` shows: a story told on the lab, in which every claim is checked."""

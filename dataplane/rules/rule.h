// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What every file of this folder starts from. A rule is a decision over numbers: what a packet or a
// flow is, and what becomes of it. Both engines, the XDP engine's daemon and `millrace flow
// explain` apply the same ones, so that none of them can decide otherwise.
//
// C subset: compiles as C11, C++20 and BPF. Rules read no packet, no table and no clock, and have
// no loop: each engine loads what they ask for in its own way and writes what they say by its own
// discipline (core alone in its memory, BPF by compare-and-swap). Tests judge them by a model that
// includes none of them (tests/packets/oracle.py).
#ifndef MILLRACE_RULES_RULE_H_
#define MILLRACE_RULES_RULE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Inlined without fail: a BPF function that is called takes no struct.
#ifdef __cplusplus
#define MR_RULE [[nodiscard, gnu::always_inline]] constexpr
#else
#define MR_RULE static inline __attribute__((always_inline, warn_unused_result))
#endif

#endif  // MILLRACE_RULES_RULE_H_

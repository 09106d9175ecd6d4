// SPDX-License-Identifier: Apache-2.0
//
// How much a class looks after its own books.
//
//   assert()            one comparison, in cold code: on in every build that deploy/build makes
//   kChecksInvariants   walks over whole tables after each change: on under a sanitizer, where the
//                       unit tests, the property tests and the fuzzers run
//
// A fault in the books is a fault of the program, never of what it was given. The process ends, and
// the next one finds flows and config in their files.
#pragma once

namespace millrace {

extern const bool kChecksInvariants;

}  // namespace millrace

// SPDX-License-Identifier: Apache-2.0
//
// Addresses in tests as text. Throws at a wrong one. Cold.
#pragma once

#include <string>

#include "controlplane/model/model.h"

namespace millrace::test {

inline control::IpAddress ip(const std::string& text) {
  return control::IpAddress::parse(text).value();
}

}  // namespace millrace::test

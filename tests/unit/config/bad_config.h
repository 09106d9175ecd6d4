// SPDX-License-Identifier: Apache-2.0
//
// One wrong file and exactly what must be said about it; the tables are in load_*errors_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "tests/unit/config/load_support.h"

namespace millrace::control {

struct BadConfig {
  const char* what;
  std::string yaml;
  std::vector<std::string> errors;
};

class LoadErrorsTest : public testing::TestWithParam<BadConfig> {};

inline std::string bad_config_name(const testing::TestParamInfo<BadConfig>& info) {
  std::string name = info.param.what;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

// A good file around the keys of the listener in line 5.
inline std::string with_listener(const std::string& keys) {
  return "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n  - {" + keys +
         "}\ntarget_groups:\n- {name: tcp, protocol: TCP, port: 80}\n"
         "- {name: udp, protocol: UDP, port: 80}\n"
         "- {name: six, protocol: TCP, port: 80, targets: [{id: \"fd00::1\"}]}\n"
         "- {name: dsr, protocol: TCP, port: 81, attributes: {millrace.forwarding: dsr}}\n"
         "- {name: dsr-override, protocol: TCP, port: 80, attributes: {millrace.forwarding: dsr},\n"
         "   targets: [{id: 10.0.0.1}, {id: 10.0.0.1, port: 81}]}\n"
         "- {name: ipip, protocol: TCP, port: 81, attributes: {millrace.forwarding: ipip}}\n";
}

}  // namespace millrace::control

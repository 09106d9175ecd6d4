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

}  // namespace millrace::control

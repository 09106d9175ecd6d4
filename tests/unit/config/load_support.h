// SPDX-License-Identifier: Apache-2.0
//
// What the tests of config/ share.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/config/load.h"

namespace millrace::control {

inline constexpr std::string_view kSmallConfig = R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10]
    listeners:
      - {protocol: TCP, port: 80, default_target_group: web-80}
target_groups:
  - name: web-80
    protocol: TCP
    port: 8080
    targets:
      - {id: 10.0.1.11}
)";

// Loads what must be good; a test that gets errors fails with them.
inline Config load_good(std::string_view yaml) {
  LoadResult loaded = load_config(yaml, "test.yaml");
  if (auto* config = std::get_if<Config>(&loaded)) return *config;
  for (const ConfigError& error : std::get<std::vector<ConfigError>>(loaded)) {
    ADD_FAILURE() << to_string(error);
  }
  return {};
}

// Errors of `yaml`, one text each; empty when it is good.
inline std::vector<std::string> load_errors(std::string_view yaml) {
  const LoadResult loaded = load_config(yaml, "f");
  std::vector<std::string> texts;
  if (const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded)) {
    for (const ConfigError& error : *errors) texts.push_back(to_string(error));
  }
  return texts;
}

}  // namespace millrace::control

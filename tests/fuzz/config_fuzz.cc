// SPDX-License-Identifier: Apache-2.0
//
// Arbitrary text as a config file: errors with places, or a Config that keeps the promises of
// model.h and says the same when written out and read again.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/config/dump.h"
#include "controlplane/config/load.h"
#include "tests/fuzz/input.h"

namespace millrace::fuzz {
namespace {

using control::Config;
using control::ConfigError;

void check_errors(const std::vector<ConfigError>& errors) {
  require(!errors.empty(), "no config without an error");
  for (const ConfigError& error : errors) {
    require(error.place.starts_with("fuzz.yaml") && !error.reason.empty(),
            "an error has a place and a reason");
  }
}

void check_promises(const Config& config) {
  for (const control::LoadBalancer& balancer : config.load_balancers) {
    require(!balancer.addresses.empty(), "a load balancer has an address");
    for (const control::Listener& listener : balancer.listeners) {
      require(listener.ports.last != 0 && listener.ports.first <= listener.ports.last,
              "a listener has ports");
      for (const control::IpAddress& vip : balancer.addresses) {
        const auto named = std::ranges::find(config.target_groups, listener.target_group_for(vip),
                                             &control::TargetGroup::name);
        require(named != config.target_groups.end() && named->protocol == listener.protocol,
                "a listener names a group of its protocol for each VIP");
      }
    }
  }
  for (const control::TargetGroup& group : config.target_groups) {
    require(!group.name.empty() && group.name.size() <= 32, "a group has a name");
    require(group.health_check.timeout_ms <= group.health_check.interval_ms,
            "a health check ends before the next one");
    for (const control::Target& target : group.targets) {
      require(target.port != 0 && target.weight <= 999, "a target has a port and a weight");
    }
  }
}

void run(std::string_view text) {
  const control::LoadResult loaded = control::load_config(text, "fuzz.yaml");
  if (const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded)) {
    return check_errors(*errors);
  }
  const Config& config = std::get<Config>(loaded);
  check_promises(config);
  const std::string dumped = control::dump_config(config);
  const control::LoadResult again = control::load_config(dumped, "fuzz.yaml");
  require(std::holds_alternative<Config>(again), "what was dumped can be loaded");
  require(control::dump_config(std::get<Config>(again)) == dumped, "and is the same config");
}

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  millrace::fuzz::run({reinterpret_cast<const char*>(data), size});
  return 0;
}

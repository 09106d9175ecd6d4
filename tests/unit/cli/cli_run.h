// SPDX-License-Identifier: Apache-2.0
//
// The whole command against a real API server on a real socket: what its tests share.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "controlplane/api/server.h"
#include "controlplane/cli/cli.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/api/fake_controller.h"

namespace millrace::control {

namespace json = boost::json;

inline constexpr const char* kGoodConfig = R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10]
    listeners: [{protocol: TCP, port: 80, default_target_group: g}]
target_groups: [{name: g, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}]
)";

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

class CliTest : public testing::Test {
 protected:
  // Runs the command while the server answers; the io_context is this thread's.
  Outcome run(std::vector<std::string> args) {
    auto server = ApiServer::listen(io_, socket_, node_.parts());
    EXPECT_TRUE(server);
    Outcome outcome;
    std::thread thread([&] {
      outcome = run_without_server(std::move(args));
      io_.stop();
    });
    io_.run();
    thread.join();
    io_.restart();
    return outcome;
  }
  Outcome run_without_server(std::vector<std::string> args) {
    args.insert(args.begin(), {"--socket", socket_});
    std::ostringstream out;
    std::ostringstream err;
    const int code = run_cli(args, out, err, false);
    return {code, out.str(), err.str()};
  }
  std::string write(const std::string& text) {
    std::string path = dir_.file("config.yaml");
    std::ofstream(path) << text;
    return path;
  }
  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  test::TempDir dir_;
  std::string socket_ = dir_.file("s");
  SmallNode node_;
  boost::asio::io_context io_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Golden packets through an engine: every case of tests/packets, once with each packet in a burst
// of its own and once with packets together. The folder is the program's last argument.
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "tests/support/cc/engine_under_test.h"
#include "tests/support/cc/golden_case.h"

namespace millrace::test {
namespace {

class GoldenPackets : public testing::Test {
 public:
  GoldenPackets(GoldenCase golden, Bursts bursts) : golden_(std::move(golden)), bursts_(bursts) {}
  void TestBody() override {
    if (const char* reason = reason_to_skip(golden_.name)) GTEST_SKIP() << reason;
    const std::string wrong = run_case(golden_, make_engine_under_test, bursts_);
    EXPECT_TRUE(wrong.empty()) << wrong;
  }

 private:
  GoldenCase golden_;
  Bursts bursts_;
};

void add_test(const std::string& suite, const GoldenCase& golden, Bursts bursts) {
  const std::string how = bursts == Bursts::together ? "_in_one_burst" : "";
  testing::RegisterTest(
      suite.c_str(), (golden.name + how).c_str(), nullptr, nullptr, __FILE__, __LINE__,
      [golden, bursts]() -> testing::Test* { return new GoldenPackets(golden, bursts); });
}

int add_tests_of(const std::filesystem::path& folder) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".packets") continue;
    const auto cases = read_golden_file(entry.path());
    if (!cases) {
      std::cerr << cases.error().message << "\n";
      return 0;
    }
    for (const GoldenCase& golden : *cases) {
      for (const Bursts bursts : {Bursts::one_by_one, Bursts::together}) {
        add_test(entry.path().stem(), golden, bursts);
      }
      ++count;
    }
  }
  return count;
}

}  // namespace
}  // namespace millrace::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2 || millrace::test::add_tests_of(argv[1]) == 0) {
    std::cerr << "golden_packets_test FOLDER: a folder of *.packets files\n";
    return 2;
  }
  return RUN_ALL_TESTS();
}

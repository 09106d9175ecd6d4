// SPDX-License-Identifier: Apache-2.0
//
// A directory of its own for one test, removed with everything in it at the end.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace millrace::test {

class TempDir {
 public:
  // Below $TMPDIR or /tmp; `base` for tests that need a certain file system.
  explicit TempDir(const std::string& base = std::filesystem::temp_directory_path()) {
    std::string pattern = base + "/millrace-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;  // a leftover in /tmp is no reason to fail a test
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace millrace::test

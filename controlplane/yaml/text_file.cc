// SPDX-License-Identifier: Apache-2.0
#include "controlplane/yaml/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "controlplane/yaml/yaml_tree.h"
#include "dataplane/os/file.h"

namespace millrace::control {
namespace {

constexpr const char* kCannotOpen = "cannot open the file";

std::variant<std::string, ConfigError> read_all(int fd, const std::string& place) {
  std::string text;
  std::array<char, 65536> chunk;
  while (text.size() <= kYamlBytesMax) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ConfigError{place, os::os_error("cannot read the file").message};
    if (got == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

std::string to_string(const ConfigError& error) { return error.place + ": " + error.reason; }

std::variant<std::string, ConfigError> read_config_file(const std::string& path) {
  const os::File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) return ConfigError{path, os::path_error(kCannotOpen, path).message};
  const Status is_file = os::check_kind(file.fd(), kCannotOpen);
  if (!is_file) return ConfigError{path, is_file.error().message};
  return read_all(file.fd(), path);
}

std::variant<std::string, ConfigError> read_given_file(const std::string& word) {
  if (word == "-") return read_all(STDIN_FILENO, "standard input");
  const os::File file(::open(word.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return ConfigError{word, os::path_error(kCannotOpen, word).message};
  return read_all(file.fd(), word);
}

}  // namespace millrace::control

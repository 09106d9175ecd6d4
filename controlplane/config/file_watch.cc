// SPDX-License-Identifier: Apache-2.0
#include "controlplane/config/file_watch.h"

#include <span>
#include <variant>
#include <vector>

#include "controlplane/config/dump.h"
#include "controlplane/config/load.h"
#include "dataplane/core/checksum64.h"

namespace millrace::control {

namespace {

std::uint64_t digest_of(const std::string& text) {
  return core::checksum64(std::as_bytes(std::span(text)));
}

// Of a text that is no config: the text.
std::uint64_t meaning_of(const LoadResult& loaded, const std::string& text) {
  const auto* config = std::get_if<Config>(&loaded);
  return digest_of(config != nullptr ? dump_config(*config) : text);
}

}  // namespace

std::optional<std::string> ConfigFileWatch::text() const {
  auto text = read_config_file(path_);
  if (auto* read = std::get_if<std::string>(&text)) return std::move(*read);
  return std::nullopt;
}

// Who writes a file changes one of these, and so does who changes its rights.
bool ConfigFileWatch::is_changed() {
  struct stat now {};
  (void)::stat(path_.c_str(), &now);  // without a file all is 0, which is a change, too
  const bool is_same = now.st_ino == seen_.st_ino && now.st_size == seen_.st_size &&
                       now.st_ctim.tv_sec == seen_.st_ctim.tv_sec &&
                       now.st_ctim.tv_nsec == seen_.st_ctim.tv_nsec;
  seen_ = now;
  return !is_same;
}

void ConfigFileWatch::read() {
  const auto bytes = read_config_file(path_);
  if (const auto* error = std::get_if<ConfigError>(&bytes)) {
    file_error_ = to_string(*error);
    meaning_ = digest_of("");
    seen_ = {};  // what is in the way may pass without a trace on the file
    return;
  }
  const auto& text = std::get<std::string>(bytes);
  const LoadResult loaded = load_config(text, path_);
  const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
  file_error_ = errors == nullptr ? "" : to_string(errors->front());
  meaning_ = meaning_of(loaded, text);
}

bool ConfigFileWatch::says(const std::string& text) {
  const std::uint64_t meaning_before = meaning_;
  if (is_changed()) read();
  if (meaning_ != meaning_before || text != asked_) {
    asked_ = text;
    // The text in force is mostly one that dump_config() made, which need not be loaded again.
    is_said_ = digest_of(text) == meaning_ || meaning_of(load_config(text, ""), text) == meaning_;
  }
  return is_said_;
}

void ConfigFileWatch::look(const std::string& in_force, std::uint64_t now_ns) {
  if (says(in_force)) {
    differs_since_ns_ = 0;
  } else if (differs_since_ns_ == 0) {
    differs_since_ns_ = now_ns;
  }
  const bool is_told = differs_since_ns_ != 0 && now_ns >= differs_since_ns_ + kEditNs;
  alarm_.clear();
  if (!is_told) return;
  alarm_ = "the config in force is not that of " + path_ +
           (file_error_.empty() ? ": apply that file"
                                : ", which is wrong (" + file_error_ + "): mend that file") +
           ", or write into it what is in force";
}

}  // namespace millrace::control

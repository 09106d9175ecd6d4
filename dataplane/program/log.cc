// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/log.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>

#include "dataplane/program/log_stream.h"

namespace millrace::program {

namespace {

// syslog(3)
const char* priority_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::critical:
      return "<2>";
    case spdlog::level::err:
      return "<3>";
    case spdlog::level::warn:
      return "<4>";
    case spdlog::level::info:
      return "<6>";
    default:
      return "<7>";
  }
}

// systemd.exec(5): JOURNAL_STREAM names device and inode of what it gave to the unit; a program
// further down may have another stderr and the variable nevertheless.
bool is_journal() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat own {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &own) != 0) return false;
  return std::to_string(own.st_dev) + ":" + std::to_string(own.st_ino) == stream;
}

// The journal takes a line for a message of its own, so every line has the priority.
std::string for_journal(spdlog::level::level_enum level, std::string_view text) {
  std::string lines = priority_of(level);
  for (const char c : text) {
    lines += c;
    if (c == '\n') lines += priority_of(level);
  }
  return lines + "\n";
}

class JournalFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string lines =
        for_journal(message.level, {message.payload.data(), message.payload.size()});
    out.append(lines.data(), lines.data() + lines.size());
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JournalFormatter>();
  }
};

class LogSink final : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    stream_.write({line.data(), line.size()});
  }
  void flush_() override { stream_.catch_up(); }

  LogStream stream_{STDERR_FILENO};
};

}  // namespace

void start_log(const std::string& name, spdlog::level::level_enum level) {
  auto logger = std::make_shared<spdlog::logger>(name, std::make_shared<LogSink>());
  if (is_journal()) logger->set_formatter(std::make_unique<JournalFormatter>());
  spdlog::set_default_logger(std::move(logger));
  spdlog::set_level(level);
}

void print_failure(const std::string& name, const std::string& message) {
  const std::string line = name + ": " + message;
  const std::string text = is_journal() ? for_journal(spdlog::level::err, line) : line + "\n";
  LogStream(STDERR_FILENO).write(text);
}

}  // namespace millrace::program

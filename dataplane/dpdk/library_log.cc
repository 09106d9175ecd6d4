// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/library_log.h"

#include <dlfcn.h>
#include <rte_log.h>
#include <spdlog/spdlog.h>
#include <stdio.h>

#include <array>
#include <cstdarg>
#include <cstddef>
#include <sstream>

namespace millrace::dpdk {

namespace {

spdlog::level::level_enum level_of(int dpdk_level) {
  if (dpdk_level <= static_cast<int>(RTE_LOG_ERR)) return spdlog::level::err;
  if (dpdk_level == static_cast<int>(RTE_LOG_WARNING)) return spdlog::level::warn;
  return spdlog::level::debug;
}

// libbpf_print_fn_t, and libxdp's: the first argument is an enumerator that both begin at 0.
using PrintFunction = int (*)(int level, const char* format, va_list arguments);
using SetPrintFunction = PrintFunction (*)(PrintFunction);

__attribute__((format(printf, 2, 0))) int print_to_log(int, const char* format, va_list arguments) {
  std::array<char, 1024> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) spdlog::debug("XDP: {}", text.data());
  return length;
}

// The engine does not link against either: a build without the XDP engine needs neither, and
// whether they are there is the driver's business.
void redirect(const char* library, const char* function) {
  void* handle = ::dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return;
  const auto set_print = reinterpret_cast<SetPrintFunction>(::dlsym(handle, function));
  if (set_print != nullptr) (void)set_print(print_to_log);
  (void)::dlclose(handle);  // the driver keeps it
}

}  // namespace

LibraryLog& LibraryLog::instance() {
  static LibraryLog log;
  return log;
}

void LibraryLog::attach_to_dpdk() {
  if (is_attached_) return;
  cookie_io_functions_t functions{};
  functions.write = [](void* log, const char* text, std::size_t bytes) {
    static_cast<LibraryLog*>(log)->take({text, bytes});
    return static_cast<ssize_t>(bytes);
  };
  // Without a stream of our own the EAL would also write to syslog.
  FILE* stream = ::fopencookie(this, "w", functions);
  if (stream == nullptr) return;  // the EAL then logs where it likes
  is_attached_ = true;
  ::setvbuf(stream, nullptr, _IOLBF, 0);
  (void)::rte_openlog_stream(stream);  // always succeeds
}

void LibraryLog::attach_to_xdp_libraries() {
  redirect("libbpf.so.1", "libbpf_set_print");
  redirect("libxdp.so.1", "libxdp_set_print");
}

void LibraryLog::take(std::string text) {
  // DPDK writes each message at once, so that what it says of the present one holds for this one.
  const auto level = warns_ ? level_of(::rte_log_cur_msg_loglevel()) : spdlog::level::debug;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    spdlog::log(level, "DPDK: {}", line);
    last_ = line;
  }
}

}  // namespace millrace::dpdk

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/eal.h"

#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <stdio.h>

#include <cstring>
#include <fstream>
#include <string_view>

namespace millrace::dpdk {

namespace {

constexpr std::uint64_t kPageBytes = 2u << 20;

// Keeps the last line that the EAL logged, to say it if init fails, and writes the lines of a
// running EAL to stderr. One per process because rte_log's stream is.
class LogTail {
 public:
  static LogTail& instance() {
    static LogTail tail;
    return tail;
  }

  // Attaches to rte_log. Without a stream of our own the EAL would also write to syslog.
  void attach() {
    cookie_io_functions_t functions{};
    functions.write = [](void* tail, const char* text, std::size_t bytes) {
      static_cast<LogTail*>(tail)->write({text, bytes});
      return static_cast<ssize_t>(bytes);
    };
    if (stream_ == nullptr) stream_ = ::fopencookie(this, "w", functions);
    if (stream_ == nullptr) return;  // the EAL then logs where it likes
    ::setvbuf(stream_, nullptr, _IOLBF, 0);
    (void)::rte_openlog_stream(stream_);  // always succeeds
  }

  void forward_to_stderr() { forwards_ = true; }
  [[nodiscard]] const std::string& last() const { return last_; }

 private:
  void write(std::string_view text) {
    if (forwards_) (void)::fwrite(text.data(), 1, text.size(), stderr);
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    if (text.empty()) return;
    const std::size_t line = text.rfind('\n');
    last_ = line == std::string_view::npos ? text : text.substr(line + 1);
  }

  FILE* stream_ = nullptr;
  bool forwards_ = false;
  std::string last_;
};

std::uint64_t read_number(const std::string& path) {
  std::uint64_t number = 0;
  std::ifstream(path) >> number;
  return number;
}

Status check_hugepages(std::uint64_t needed_bytes) {
  const std::string pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const std::uint64_t large_free =
      read_number("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages");
  const std::uint64_t free = read_number(pages + "free_hugepages");
  const std::uint64_t needed = (needed_bytes + kPageBytes - 1) / kPageBytes;
  if (free >= needed || large_free > 0) return ok();
  const std::uint64_t total = read_number(pages + "nr_hugepages");
  return Error{"hugepages: " + std::to_string(free) + " of 2 MB are free, " +
               std::to_string(needed) + " are needed; reserve more: echo " +
               std::to_string(total + needed - free) + " > /proc/sys/vm/nr_hugepages"};
}

bool is_among(const std::vector<std::string>& arguments, std::string_view option) {
  for (const std::string& argument : arguments) {
    if (argument.rfind(option, 0) == 0) return true;
  }
  return false;
}

std::vector<std::string> arguments_of(const EalOptions& options) {
  // lcore ids are ours (0 is main, i + 1 is worker i) and mapped to CPUs, so that two workers may
  // share a CPU on a small machine.
  std::string lcores = "0@" + std::to_string(options.main_cpu);
  for (std::size_t i = 0; i < options.worker_cpus.size(); ++i) {
    lcores.append(",").append(std::to_string(i + 1)).append("@");
    lcores.append(std::to_string(options.worker_cpus[i]));
  }
  std::vector<std::string> arguments = {"millrace-dataplane", "--lcores", lcores,
                                        "--main-lcore",       "0",        "--no-telemetry"};
  // Without hugepages (tests) EAL refuses --in-memory; --no-shconf is the part of it that matters
  // then.
  const bool has_huge_pages = !is_among(options.extra, "--no-huge");
  arguments.emplace_back(has_huge_pages ? "--in-memory" : "--no-shconf");
  if (!options.use_pci) {
    // AF_XDP hands a packet pool to the kernel as one range of virtual addresses; with physical
    // addressing the pool may be cut at page borders instead.
    arguments.insert(arguments.end(), {"--no-pci", "--iova-mode=va"});
  }
  if (!is_among(options.extra, "--log-level")) arguments.emplace_back("--log-level=warning");
  arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
  return arguments;
}

int run_work(void* work) {
  (*static_cast<std::function<void()>*>(work))();
  return 0;
}

}  // namespace

Result<Eal> Eal::init(const EalOptions& options) {
  if (!is_among(options.extra, "--no-huge")) {
    if (Status enough = check_hugepages(options.memory_bytes); !enough) return enough.error();
  }
  std::vector<std::string> arguments = arguments_of(options);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  LogTail::instance().attach();
  if (::rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) {
    const std::string& said = LogTail::instance().last();
    return Error{"DPDK does not start: " + std::string(::rte_strerror(rte_errno)) +
                 (said.empty() ? "" : " (" + said + ")")};
  }
  return Eal{};
}

const std::string& Eal::last_log_line() { return LogTail::instance().last(); }

void Eal::show_log() { LogTail::instance().forward_to_stderr(); }

Status Eal::launch(std::uint32_t index, std::function<void()>& work) {
  const int status = ::rte_eal_remote_launch(run_work, &work, index + 1);
  if (status == 0) return ok();
  return Error{"worker " + std::to_string(index) + " does not start: " + ::rte_strerror(-status)};
}

void Eal::wait_for_workers() { ::rte_eal_mp_wait_lcore(); }

Status Eal::call_on_interrupt_thread(void (*work)(void*)) {
  const int status = ::rte_eal_alarm_set(1, work, nullptr);
  if (status == 0) return ok();
  return Error{std::string("cannot reach DPDK's interrupt thread: ") + ::rte_strerror(-status)};
}

}  // namespace millrace::dpdk

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/cut_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

namespace millrace::os {

namespace {

// The control plane guards two maps, an engine one; a few more while files are made again.
constexpr std::size_t kGuardsMax = 16;

struct Slot {
  std::atomic<bool> is_taken{false};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  // stored last; 0: not in use
  std::atomic<bool> was_cut{false};
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free, "read by a signal handler");

std::array<Slot, kGuardsMax> slots;
std::uintptr_t system_page_bytes = 4096;

// Only system calls that a signal handler may use: mmap is one, whatever signal-safety(7) lists.
void on_sigbus(int signal, siginfo_t* info, void* /*context*/) {
  const int error = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Slot& slot : slots) {
    if (address >= slot.end.load() || address < slot.begin.load()) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address within the map
    void* page = reinterpret_cast<void*>(address / system_page_bytes * system_page_bytes);
    if (::mmap(page, system_page_bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
      break;
    }
    slot.was_cut.store(true);
    errno = error;
    return;
  }
  (void)::signal(signal, SIG_DFL);  // not a guarded map: the access is tried again, and ends us
}

bool install_handler() {
  system_page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = on_sigbus;
  action.sa_flags = SA_SIGINFO;
  return ::sigaction(SIGBUS, &action, nullptr) == 0;
}

}  // namespace

CutGuard::CutGuard(std::span<const std::byte> bytes) {
  static const bool is_installed = install_handler();
  if (!is_installed) return;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_taken.exchange(true)) continue;
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    slots[i].was_cut.store(false);
    slots[i].begin.store(begin);
    slots[i].end.store(begin + bytes.size());
    slot_ = i;
    return;
  }
}

CutGuard& CutGuard::operator=(CutGuard&& other) noexcept {
  std::swap(slot_, other.slot_);
  return *this;
}

CutGuard::~CutGuard() {
  if (slot_ == kNone) return;
  slots[slot_].end.store(0);
  slots[slot_].is_taken.store(false);
}

bool CutGuard::was_cut() const { return slot_ != kNone && slots[slot_].was_cut.load(); }

void CutGuard::reset() const {
  if (slot_ != kNone) slots[slot_].was_cut.store(false);
}

}  // namespace millrace::os

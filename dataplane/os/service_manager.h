// SPDX-License-Identifier: Apache-2.0
//
// What a program tells the service manager that started it (sd_notify(3), Type=notify). Nothing
// where no service manager asked for it. Cold.
#pragma once

#include <cstdint>

namespace millrace::os {

// The program does its work: `systemctl start` returns now and not before, and fails when this
// never comes.
void tell_ready();

// Signs of life for WatchdogSec=. A program whose loop no longer turns is ended by the service
// manager and started again.
class Watchdog {
 public:
  // Asks the environment how often the service manager wants to hear of this process.
  Watchdog();

  // Once in each turn of the loop, and between the parts of a long one; speaks up four times within
  // what the service manager waits for. `now_ns` is any clock that goes on steadily.
  void turn(std::uint64_t now_ns);

 private:
  std::uint64_t interval_ns_ = 0;  // 0: nobody waits
  std::uint64_t due_ns_ = 0;
};

}  // namespace millrace::os

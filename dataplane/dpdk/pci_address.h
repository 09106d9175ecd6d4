// SPDX-License-Identifier: Apache-2.0
//
// Addresses of devices on the PCI bus, as an operator names them. Cold; start-up.
#pragma once

#include <string>

#include "dataplane/core/result.h"

namespace millrace::dpdk {

// Whether `device` is meant as one, perhaps with arguments for its driver behind a comma;
// check_pci_address() says whether it is one.
[[nodiscard]] bool is_pci_address(const std::string& device);

// Kernel and DPDK know a device by one way to write its address, which is part of the error: with
// its domain, in small letters. Another one would pass for another device, too. What is behind a
// comma must be an argument (key=value) and no second NIC.
[[nodiscard]] Status check_pci_address(const std::string& device);

// True when the machine has no device at this PCI address (by now: it may have broken); false for
// all that is none.
[[nodiscard]] bool is_gone(const std::string& address);

// Why the EAL does not have the device `address`, or the virtual device of that name, and what to
// do.
[[nodiscard]] Error why_not_taken(const std::string& address, const std::string& sysfs = "/sys");

}  // namespace millrace::dpdk

// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/privileges.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dataplane/os/file.h"

namespace millrace::os {

Status drop_privileges(std::span<const unsigned> kept) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) != 0) {
    return os_error("cannot set no_new_privs");
  }
  // Without this a process of uid 0 would get its capabilities back on exec.
  for (unsigned long capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    // Refused without CAP_SETPCAP, and then there is nothing to take away either.
    (void)::prctl(PR_CAPBSET_DROP, capability, 0UL, 0UL, 0UL);
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct own[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, own) != 0) {
    return os_error("cannot read capabilities");
  }
  __user_cap_data_struct wanted[_LINUX_CAPABILITY_U32S_3] = {};
  for (const unsigned capability : kept) {
    const unsigned word = CAP_TO_INDEX(capability);
    wanted[word].permitted |= own[word].permitted & CAP_TO_MASK(capability);
    wanted[word].effective = wanted[word].permitted;
  }
  if (::syscall(SYS_capset, &header, wanted) != 0) {
    return os_error("cannot give up capabilities");
  }
  return ok();
}

}  // namespace millrace::os

// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into the control plane where the kernel is built without VLANs: TAP devices of
// tagger.py look like the VLAN interfaces that they stand for. Changes what the kernel says of them
// over netlink (RTM_NEWLINK), in place: kind, number, and the interface below.
//
//   MILLRACE_TOLD_VLANS="NAME:BELOW:NUMBER ..."
#include <arpa/inet.h>
#include <dlfcn.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct told {
  uint32_t below;
  uint16_t number;
};

static int find(const char* name, struct told* told) {
  const char* list = getenv("MILLRACE_TOLD_VLANS");
  char own[IF_NAMESIZE];
  char below[IF_NAMESIZE];
  unsigned number;
  int length;
  for (; list != NULL && sscanf(list, " %15[^:]:%15[^:]:%u%n", own, below, &number, &length) == 3;
       list += length) {
    if (strcmp(own, name) != 0) continue;
    told->below = if_nametoindex(below);
    told->number = (uint16_t)number;
    return told->below != 0;
  }
  return 0;
}

static char* put(char* at, uint16_t type, const void* value, uint16_t bytes) {
  struct rtattr head = {.rta_len = (uint16_t)RTA_LENGTH(bytes), .rta_type = type};
  memcpy(at, &head, sizeof(head));
  if (value != NULL) memcpy(at + RTA_LENGTH(0), value, bytes);
  return at + (value != NULL ? RTA_SPACE(bytes) : RTA_LENGTH(0));
}

// Over what says that it is a TAP device, which is longer.
static void tell(struct rtattr* info, const struct told* told) {
  const uint16_t protocol = htons(ETH_P_8021Q);
  char* const end = (char*)info + RTA_ALIGN(info->rta_len);
  const uint16_t data_bytes = RTA_SPACE(sizeof(told->number)) + RTA_SPACE(sizeof(protocol));
  const uint16_t info_bytes = (uint16_t)(RTA_SPACE(5) + RTA_LENGTH(data_bytes));
  if ((char*)info + RTA_SPACE(4) + RTA_LENGTH(info_bytes) + RTA_LENGTH(0) > end) return;
  char* at = put((char*)info, IFLA_LINK, &told->below, sizeof(told->below));
  at = put(at, IFLA_LINKINFO, NULL, info_bytes);
  at = put(at, IFLA_INFO_KIND, "vlan", 5);
  at = put(at, IFLA_INFO_DATA, NULL, data_bytes);
  at = put(at, IFLA_VLAN_ID, &told->number, sizeof(told->number));
  at = put(at, IFLA_VLAN_PROTOCOL, &protocol, sizeof(protocol));
  (void)put(at, IFLA_UNSPEC, NULL, (uint16_t)(end - at - RTA_LENGTH(0)));
}

static void look_at(struct nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWLINK) return;
  struct rtattr* info = NULL;
  const char* name = NULL;
  int left = (int)IFLA_PAYLOAD(message);
  for (struct rtattr* at = IFLA_RTA(NLMSG_DATA(message)); RTA_OK(at, left);
       at = RTA_NEXT(at, left)) {
    if (at->rta_type == IFLA_IFNAME) name = RTA_DATA(at);
    if (at->rta_type == IFLA_LINKINFO) info = at;
  }
  struct told told;
  if (name != NULL && info != NULL && find(name, &told)) tell(info, &told);
}

ssize_t recvmsg(int fd, struct msghdr* message, int flags) {
  static ssize_t (*real)(int, struct msghdr*, int);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "recvmsg");
  const ssize_t bytes = real(fd, message, flags);
  int domain = 0;
  socklen_t size = sizeof(domain);
  if (bytes <= 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return bytes;
  if (domain != AF_NETLINK) return bytes;
  int left = (int)bytes;
  for (struct nlmsghdr* at = message->msg_iov[0].iov_base; NLMSG_OK(at, left);
       at = NLMSG_NEXT(at, left)) {
    look_at(at);
  }
  return bytes;
}

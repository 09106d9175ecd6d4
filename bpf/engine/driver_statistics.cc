// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/driver_statistics.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstring>

#include "dataplane/os/file.h"

namespace millrace::xdp {

namespace {

// `request` starts with the command and takes the answer.
bool ask_driver(const std::string& interface, void* request) {
  ifreq question{};
  interface.copy(question.ifr_name, sizeof(question.ifr_name) - 1);
  question.ifr_data = static_cast<char*>(request);
  const os::File socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return socket.is_open() && ::ioctl(socket.fd(), SIOCETHTOOL, &question) == 0;
}

// A command of ethtool whose answer is `Head` and then `count` entries of `entry_bytes` each.
template <typename Head>
std::vector<std::uint64_t> ask_for_list(const std::string& interface, const Head& head,
                                        std::size_t count, std::size_t entry_bytes) {
  std::vector<std::uint64_t> answer((sizeof(Head) + count * entry_bytes) / 8 + 1);
  std::memcpy(answer.data(), &head, sizeof(head));
  if (!ask_driver(interface, answer.data())) answer.clear();
  return answer;
}

bool contains(std::string_view name, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(
      words, [&](std::string_view word) { return name.find(word) != std::string_view::npos; });
}

// rx_queue_0_xdp_tx_errors and tx_queue_0_xdp_xmit_errors (veth), tx_queue_0_xdp_tx_drops (virtio),
// rx_xdp_tx_full and tx_xdp_err (mlx5), but not rx_queue_0_xdp_drops: that is a program's verdict.
bool counts_lost_sends(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  return contains(name, {"xdp"}) && contains(name, {"tx", "xmit"}) &&
         contains(name, {"err", "drop", "full"});
}

bool is_of_a_queue(const std::string& name) {
  return std::ranges::any_of(name, [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

std::vector<DriverStatistic> driver_statistics(const std::string& interface) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!ask_driver(interface, &info) || info.n_stats == 0) return {};
  ethtool_gstrings strings{};
  strings.cmd = ETHTOOL_GSTRINGS;
  strings.string_set = ETH_SS_STATS;
  strings.len = info.n_stats;
  const auto names = ask_for_list(interface, strings, info.n_stats, ETH_GSTRING_LEN);
  ethtool_stats statistics{};
  statistics.cmd = ETHTOOL_GSTATS;
  statistics.n_stats = info.n_stats;
  const auto counts = ask_for_list(interface, statistics, info.n_stats, sizeof(std::uint64_t));
  if (names.empty() || counts.empty()) return {};

  // The driver may have fewer by now, never more than it was asked for.
  std::memcpy(&strings, names.data(), sizeof(strings));
  std::memcpy(&statistics, counts.data(), sizeof(statistics));
  const std::size_t count = std::min({info.n_stats, strings.len, statistics.n_stats});
  const char* name = reinterpret_cast<const char*>(names.data()) + sizeof(strings);
  const std::uint64_t* value = counts.data() + sizeof(statistics) / sizeof(std::uint64_t);
  std::vector<DriverStatistic> found;
  for (std::size_t i = 0; i < count; ++i) {
    const char* text = name + i * ETH_GSTRING_LEN;
    found.push_back(
        {.name = std::string(text, ::strnlen(text, ETH_GSTRING_LEN)), .count = value[i]});
  }
  return found;
}

std::string driver_of(const std::string& interface) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  return ask_driver(interface, &info) ? info.driver : "";
}

std::uint64_t lost_sends(const std::vector<DriverStatistic>& statistics) {
  std::uint64_t in_sums = 0;
  std::uint64_t of_queues = 0;
  bool has_sums = false;
  for (const DriverStatistic& statistic : statistics) {
    if (!counts_lost_sends(statistic.name)) continue;
    if (is_of_a_queue(statistic.name)) {
      of_queues += statistic.count;
    } else {
      in_sums += statistic.count;
      has_sums = true;
    }
  }
  return has_sums ? in_sums : of_queues;
}

}  // namespace millrace::xdp

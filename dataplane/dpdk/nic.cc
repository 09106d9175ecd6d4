// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/nic.h"

#include <net/if.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dataplane/core/counted.h"
#include "dataplane/dpdk/carrier.h"
#include "dataplane/dpdk/kernel_interface.h"
#include "dataplane/dpdk/library_log.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/pci_address.h"
#include "dataplane/dpdk/queue_plan.h"

namespace millrace::dpdk {

namespace {

// About 20 us of rte_pause().
constexpr std::uint32_t kLockPausesMax = 500;
// Ethernet header and two VLAN tags.
constexpr std::uint32_t kLinkBytesMax = 14 + 8;
// What the kernel keeps free in front of a frame for XDP programs (XDP_PACKET_HEADROOM).
constexpr std::uint32_t kXdpHeadroom = 256;
constexpr std::uint32_t kAfXdpFrameBytesMax = kAfXdpMtuMax + kLinkBytesMax + kXdpHeadroom;
static_assert(sizeof(rte_mempool_objhdr) + sizeof(rte_mbuf) + RTE_PKTMBUF_HEADROOM +
                      kAfXdpFrameBytesMax <=
                  63 * RTE_CACHE_LINE_SIZE,
              "with what stands before it, the frame lies within a page");
constexpr std::uint64_t kRssFields = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;

Error device_error(const std::string& what, int status) {
  const std::string& said = LibraryLog::instance().last_line();
  return Error{what + ": " + ::rte_strerror(-status) + (said.empty() ? "" : " (" + said + ")")};
}

// Memory of another node than the device's is slower, and better than no engine.
template <typename SetUp>
int on_node_or_any(unsigned node, SetUp set_up) {
  const int status = set_up(node);
  return status == -ENOMEM ? set_up(static_cast<unsigned>(SOCKET_ID_ANY)) : status;
}

std::string up_to_comma(const std::string& text) { return text.substr(0, text.find(',')); }

bool is_af_xdp(const std::string& driver) { return driver == "net_af_xdp"; }

// A virtio device drops frames of VLANs that it was not told of, unless it takes everything
// (Virtual I/O Device 1.2, section 5.1.6.5.3). Only the kernel knows the VLANs of the twin, and
// each of all 4094 would take a command.
bool filters_vlans(const std::string& driver) { return driver.rfind("net_virtio", 0) == 0; }

bool is_virtual_device(const std::string& device) { return device.rfind("net_", 0) == 0; }

}  // namespace

bool Nic::is_interface(const std::string& device) {
  return !is_pci_address(device) && !is_virtual_device(device) && !is_bond(device);
}

std::uint32_t Nic::frame_bytes(const NicOptions& options) {
  if (options.mtu <= kMtuUsual) return kFrameBytesUsual;
  const std::uint32_t frame = options.mtu + kLinkBytesMax;
  if (is_interface(options.device)) return std::max(frame + kXdpHeadroom, kFrameBytesUsual);
  // Some nics count a buffer in KiB and leave the rest unused.
  return std::max((frame + 1023) / 1024 * 1024, kFrameBytesUsual);
}

std::uint32_t Nic::expected_queue_count(const NicOptions& options) {
  if (options.queue_count != 0) return options.queue_count;
  if (is_pci_address(options.device) || is_bond(options.device)) return options.worker_count;
  if (is_interface(options.device)) {
    return std::max<std::uint32_t>(rx_queue_count_with_xdp(options.device), 1);
  }
  return std::max(queues_argument(options.device), options.worker_count);
}

Result<std::unique_ptr<Nic>> Nic::open(const NicOptions& options, const MbufPool& pool) {
  const std::string name = is_bond(options.device) ? "bond:" + std::to_string(options.index)
                                                   : up_to_comma(options.device);
  std::unique_ptr<Nic> nic(new Nic(name));
  const std::string place = "nic " + (is_bond(options.device) ? options.device : name);
  if (Status found = nic->probe(options, pool); !found) return found.error().within(place);
  const std::vector<int> others = af_xdp_sockets();
  if (Status configured = nic->configure_all(options, pool); !configured) {
    return configured.error().within(place);
  }
  if (Status started = nic->start(); !started) return started.error().within(place);
  if (nic->is_interface_) {
    std::vector<int> own = af_xdp_sockets();
    std::erase_if(own, [&](int fd) { return std::ranges::count(others, fd) != 0; });
    nic->interface_drops_.emplace(nic->name_, own);
    nic->sockets_ = std::move(own);
    nic->xdp_program_ = xdp_program(nic->name_).value_or(XdpProgram{}).id;
  } else {
    nic->sum_device_drops(nic->drops_before_);
  }
  return nic;
}

Nic::~Nic() {
  for (const std::uint16_t device : devices_) {
    // Nothing is left to do about errors: the engine ends, or start-up already failed for a reason
    // that is being reported.
    (void)::rte_eth_dev_stop(device);
    // Closing an AF_XDP device detaches its XDP program, for which a running engine has no
    // capability any more. Left alone, the program passes all packets to the kernel until the next
    // start.
    if (!is_af_xdp(driver_)) (void)::rte_eth_dev_close(device);
  }
  if (!bond_) return;
  for (const std::uint16_t member : bond_->members()) (void)::rte_eth_dev_close(member);
}

std::uint32_t Nic::unserved_queues() const {
  if (!is_interface_) return 0;  // spreads over what configure() set up
  const std::uint32_t has = rx_queue_count(name_now());
  return has > rx_queues_.size() ? has - static_cast<std::uint32_t>(rx_queues_.size()) : 0;
}

bool Nic::has_lost_program() {
  if (xdp_program_ == 0) return false;
  if (is_gone()) return true;
  const std::optional<XdpProgram> now = xdp_program(name_now());
  return now && now->id != xdp_program_;
}

std::string Nic::queue_remedy() const {
  return "restart the engine, or: " +
         queue_command(name_, static_cast<std::uint32_t>(rx_queues_.size()));
}

void Nic::count_drops(mr_nic& shown) const {
  if (interface_drops_) return interface_drops_->count(shown);
  sum_device_drops(shown);
  shown.rx_missed -= std::min(shown.rx_missed, drops_before_.rx_missed);
  shown.rx_errors -= std::min(shown.rx_errors, drops_before_.rx_errors);
  shown.rx_no_buffer -= std::min(shown.rx_no_buffer, drops_before_.rx_no_buffer);
  shown.tx_dropped -= std::min(shown.tx_dropped, drops_before_.tx_dropped);
}

void Nic::sum_device_drops(mr_nic& sum) const {
  sum.rx_missed = sum.rx_errors = sum.rx_no_buffer = sum.tx_dropped = 0;
  for (const std::uint16_t device : devices_) {
    rte_eth_stats stats{};
    if (::rte_eth_stats_get(device, &stats) != 0) continue;  // a driver that does not count
    sum.rx_missed += stats.imissed;
    sum.rx_errors += stats.ierrors;
    sum.rx_no_buffer += stats.rx_nombuf;
    sum.tx_dropped += stats.oerrors;
  }
}

void Nic::rename(const std::string& name) {
  name_ = name;
  if (interface_drops_) interface_drops_->rename(name);
}

std::string Nic::name_now() const {
  std::array<char, IFNAMSIZ> name{};
  return ::if_indextoname(interface_index_, name.data()) == nullptr ? "" : name.data();
}

bool Nic::is_gone() {
  is_gone_ = is_gone_ || (is_interface_ && name_now().empty()) || lost_interface(sockets_);
  return is_gone_;
}

bool Nic::link_is_up() const {
  if (is_interface_) {
    const std::string name = name_now();
    return !name.empty() && interface_has_link(name);
  }
  if (bond_) return bond_->has_link();
  rte_eth_link link{};
  return ::rte_eth_link_get_nowait(devices_.front(), &link) == 0 &&
         link.link_status == RTE_ETH_LINK_UP;
}

Status Nic::probe(const NicOptions& options, const MbufPool& pool) {
  if (is_bond(options.device)) return probe_bond(options);
  std::uint16_t device = 0;
  if (::rte_eth_dev_get_port_by_name(name_.c_str(), &device) == 0) {
    devices_.push_back(device);
    return ok();
  }
  if (is_pci_address(name_)) return why_not_taken(name_);
  if (!is_virtual_device(name_)) return probe_interface(options, pool);

  const std::string arguments =
      options.device.size() > name_.size() ? options.device.substr(name_.size() + 1) : "";
  const int status = ::rte_eal_hotplug_add("vdev", name_.c_str(), arguments.c_str());
  if (status < 0) return device_error("cannot make this virtual device", status);
  if (::rte_eth_dev_get_port_by_name(name_.c_str(), &device) != 0) {
    return Error{"this virtual device is no network device"};
  }
  devices_.push_back(device);
  return ok();
}

Status Nic::probe_bond(const NicOptions& options) {
  const Result<BondForm> form = parse_bond(options.device);
  if (!form) return form.error();
  Result<Bond> bond =
      Bond::make(*form, "net_bonding" + std::to_string(options.index), options.known_mac);
  if (!bond) return bond.error();
  bond_.emplace(std::move(*bond));
  devices_.push_back(bond_->device());
  return ok();
}

std::span<const std::uint16_t> Nic::plugged() const {
  return bond_ ? bond_->members() : std::span<const std::uint16_t>(devices_);
}

Status Nic::probe_interface(const NicOptions& options, const MbufPool& pool) {
  is_interface_ = true;
  interface_index_ = ::if_nametoindex(name_.c_str());
  const std::uint32_t queue_count =
      options.queue_count != 0 ? options.queue_count : rx_queue_count(name_);
  if (Status checked = check_queues(queue_count); !checked) return checked;
  if (options.mtu > kAfXdpMtuMax) {
    return Error{"has an MTU of " + std::to_string(options.mtu) + ", AF_XDP takes up to " +
                 std::to_string(kAfXdpMtuMax) + "; try: ip link set dev " + name_ + " mtu " +
                 std::to_string(kAfXdpMtuMax) + "; or bind the NIC to vfio-pci"};
  }
  if (pool.frame_bytes() > kAfXdpFrameBytesMax) {
    return Error{"AF_XDP takes an MTU of up to " + std::to_string(kAfXdpMtuMax) +
                 ", and another nic of this engine, or its twin, has a larger one"};
  }
  if (!pool.is_contiguous() && ::rte_eal_iova_mode() == RTE_IOVA_PA) {
    return Error{
        "is the kernel's, whose AF_XDP takes no packet buffers by physical addresses, as another "
        "nic of this engine wants them; bind this one, too, or the other one to vfio-pci"};
  }
  if (!pool.is_contiguous()) {
    return Error{"AF_XDP needs the packet buffers in one piece, and hugepages are too fragmented"};
  }
  return probe_queue(0);
}

Status Nic::probe_queue(std::uint32_t queue) {
  const std::string name = "net_af_xdp_" + name_ + "_" + std::to_string(queue);
  const std::string arguments =
      "iface=" + name_ + ",start_queue=" + std::to_string(queue) + ",queue_count=1";
  const int status = ::rte_eal_hotplug_add("vdev", name.c_str(), arguments.c_str());
  std::uint16_t device = 0;
  if (status < 0) return device_error("AF_XDP refuses queue " + std::to_string(queue), status);
  if (::rte_eth_dev_get_port_by_name(name.c_str(), &device) != 0) {
    return Error{"AF_XDP made no device " + name};
  }
  devices_.push_back(device);
  return ok();
}

// An interface's first queue brings it AF_XDP's program, and with that it may have more queues than
// before (rx_queue_count_with_xdp()). All are counted only then.
Status Nic::configure_all(const NicOptions& options, const MbufPool& pool) {
  if (Status first = configure(devices_.front(), options, pool); !first) return first;
  if (is_interface_) {
    const std::uint32_t queue_count =
        options.queue_count != 0 ? options.queue_count : rx_queue_count(name_);
    if (Status checked = check_queues(queue_count); !checked) return checked;
    for (std::uint32_t queue = 1; queue < queue_count; ++queue) {
      if (Status probed = probe_queue(queue); !probed) return probed;
      if (Status more = configure(devices_.back(), options, pool); !more) return more;
    }
  }
  make_tx_queues(options.worker_count);
  return ok();
}

void Nic::make_tx_queues(std::uint32_t worker_count) {
  std::vector<std::pair<std::uint16_t, std::uint16_t>> made;  // device, queue
  for (const std::uint16_t device : devices_) {
    rte_eth_dev_info info{};
    (void)::rte_eth_dev_info_get(device, &info);  // cannot fail where configure() has asked, too
    for (std::uint16_t queue = 0; queue < info.nb_tx_queues; ++queue) {
      made.emplace_back(device, queue);
    }
  }
  for (const auto& [device, queue] : made) {
    tx_queues_.push_back(std::make_unique<TxQueue>(device, queue, made.size() < worker_count));
  }
}

Status Nic::check_queues(std::uint32_t queue_count) const {
  const std::uint32_t has = rx_queue_count(name_);
  if (has == 0 && ::if_nametoindex(name_.c_str()) == 0) {
    return Error{"no such interface in this network namespace (ip link show)"};
  }
  if (has == 0) {
    return Error{"shows no rx queues in /sys/class/net/" + name_ +
                 "/queues: mount the /sys of this network namespace"};
  }
  if (has < queue_count) {
    return Error{"has " + core::counted(has, "rx queue") + ", " + std::to_string(queue_count) +
                 " were asked for; leave --queues out, or, if its driver has so many: " +
                 queue_command(name_, queue_count)};
  }
  if (has > queue_count) {
    return Error{"spreads frames over " + std::to_string(has) + " rx queues, --queues asks for " +
                 std::to_string(queue_count) +
                 ": a part of the clients would get no service; leave --queues out, or: " +
                 queue_command(name_, queue_count)};
  }
  // Every queue is a device of DPDK's, which counts them all together; some may be made already.
  const std::uint32_t others =
      ::rte_eth_dev_count_total() - static_cast<std::uint32_t>(devices_.size());
  const std::uint32_t all = queue_count + others;
  if (all <= RTE_MAX_ETHPORTS) return ok();
  return Error{"has " + core::counted(has, "rx queue") + ", which makes " + std::to_string(all) +
               " with those of other nics; DPDK drives up to " + std::to_string(RTE_MAX_ETHPORTS) +
               " by AF_XDP; give it fewer: " + queue_command(name_, 1)};
}

Status Nic::configure(std::uint16_t device, const NicOptions& options, const MbufPool& pool) {
  rte_eth_dev_info info{};
  if (int status = ::rte_eth_dev_info_get(device, &info); status != 0) {
    return device_error("cannot ask what the device can do", status);
  }
  // What a bond says of queues and offloads is what all of its members can do.
  rte_eth_dev_info plugged_info = info;
  if (bond_) (void)::rte_eth_dev_info_get(plugged().front(), &plugged_info);
  driver_ = plugged_info.driver_name;
  Result<QueuePlan> plan = QueuePlan{.rx = 1, .tx = 1};  // of a queue that is a device
  if (!is_interface_) {
    plan = plan_queues(
        {.rx = options.queue_count, .worker_count = options.worker_count},
        {.driver = driver_, .rx_max = info.max_rx_queues, .tx_max = info.max_tx_queues});
  }
  if (!plan) return plan.error();
  const auto [rx_count, tx_count] = *plan;
  if (!is_interface_ && options.mtu > kMtuUsual && options.mtu > plugged_info.max_mtu) {
    return Error{"its driver takes an MTU of up to " + std::to_string(plugged_info.max_mtu) +
                 ", its twin has " + std::to_string(options.mtu) +
                 "; try: ip link set dev TWIN mtu " + std::to_string(plugged_info.max_mtu)};
  }
  rte_eth_conf conf{};
  if (!is_interface_ && options.mtu > kMtuUsual) conf.rxmode.mtu = options.mtu;
  const std::uint64_t rss = kRssFields & info.flow_type_rss_offloads;
  if (rx_count > 1 && rss != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = rss;
  }
  std::uint16_t rx_descriptors = kQueueDescriptors;
  std::uint16_t tx_descriptors = kQueueDescriptors;
  int status = ::rte_eth_dev_configure(device, rx_count, tx_count, &conf);
  if (status == 0) {
    status = ::rte_eth_dev_adjust_nb_rx_tx_desc(device, &rx_descriptors, &tx_descriptors);
  }
  const int socket = ::rte_eth_dev_socket_id(device);
  const auto numa_node = static_cast<unsigned>(socket < 0 ? SOCKET_ID_ANY : socket);
  for (std::uint16_t queue = 0; status == 0 && queue < rx_count; ++queue) {
    status = on_node_or_any(numa_node, [&](unsigned node) {
      return ::rte_eth_rx_queue_setup(device, queue, rx_descriptors, node, nullptr, pool.get());
    });
    rx_queues_.push_back({.device = device, .queue = queue, .nic = options.index});
  }
  for (std::uint16_t queue = 0; status == 0 && queue < tx_count; ++queue) {
    status = on_node_or_any(numa_node, [&](unsigned node) {
      return ::rte_eth_tx_queue_setup(device, queue, tx_descriptors, node, nullptr);
    });
  }
  if (status == 0) return ok();
  Error error = device_error("cannot configure the device", status);
  if (is_af_xdp(driver_)) {
    error.message += "; ip link show " + name_ + " tells of XDP programs that are in the way";
  }
  return error;
}

Status Nic::start() {
  for (const std::uint16_t device : devices_) {
    if (int status = ::rte_eth_dev_start(device); status != 0) {
      return device_error("cannot start the device", status);
    }
    // Neighbour solicitations for VIPs come by multicast groups that nobody joined on this device.
    // What a driver cannot filter (AF_XDP, rings) it delivers anyway, or takes as promiscuous.
    const bool has_multicast = ::rte_eth_allmulticast_enable(device) == 0;
    if (!has_multicast || filters_vlans(driver_)) (void)::rte_eth_promiscuous_enable(device);
  }
  if (bond_) bond_->share_mac();
  keep_vlan_tags();
  rte_ether_addr mac{};
  if (int status = ::rte_eth_macaddr_get(devices_.front(), &mac); status != 0) {
    return device_error("cannot read its MAC", status);
  }
  std::memcpy(mac_.bytes.data(), mac.addr_bytes, mac_.bytes.size());
  return ok();
}

std::uint32_t RxQueue::receive(std::span<rte_mbuf*> mbufs) const noexcept {
  const std::uint16_t count =
      ::rte_eth_rx_burst(device, queue, mbufs.data(), static_cast<std::uint16_t>(mbufs.size()));
  for (std::uint16_t i = 0; i < count; ++i) mbufs[i]->port = nic;
  return count;
}

std::uint32_t TxQueue::send(std::span<rte_mbuf*> mbufs) noexcept {
  if (is_shared_) {
    // Longer than a burst takes to send means that the holder lost its CPU, perhaps to this thread.
    for (std::uint32_t pauses = 0; is_locked_.test_and_set(std::memory_order_acquire); ++pauses) {
      if (pauses < kLockPausesMax) {
        ::rte_pause();
      } else {
        (void)::sched_yield();  // always succeeds
      }
    }
  }
  const std::uint16_t sent =
      ::rte_eth_tx_burst(device_, queue_, mbufs.data(), static_cast<std::uint16_t>(mbufs.size()));
  if (is_shared_) is_locked_.clear(std::memory_order_release);
  return sent;
}

}  // namespace millrace::dpdk

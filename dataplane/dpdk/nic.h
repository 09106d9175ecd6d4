// SPDX-License-Identifier: Apache-2.0
//
// A nic: one network device as workers see it, a set of rx queues and tx queues. Opening is cold,
// receive() and send() are HOT.
//
// A nic is one or more DPDK devices, hidden here. A kernel interface is driven by AF_XDP with one
// device per queue, which works on veth too (it reports no combined channels, and the driver then
// accepts one queue per device). Everything else is one device with as many queues as it is told to
// have; a bond is a device that has others (bond.h). Either way every queue that the nic spreads
// frames over is read by some worker: what arrives on another one would be a part of the clients
// that gets no service.
//
// Steering: with several rx queues a device spreads packets by RSS over addresses and ports. That
// need not agree with who owns a flow (core::owner_of: the client's side only, in both directions),
// so with several workers the forwarder says whose a packet is, and a stranger's is handed over
// (worker/handover).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/result.h"
#include "dataplane/dpdk/bond.h"
#include "dataplane/dpdk/kernel_interface.h"
#include "dataplane/dpdk/mbuf.h"

namespace millrace::dpdk {

class MbufPool;

// Descriptors per queue: at 1 Mpps, 1 ms of packets while a worker is elsewhere. AF_XDP wants a
// power of two.
inline constexpr std::uint16_t kQueueDescriptors = 1024;

inline constexpr std::uint32_t kMtuUsual = 1500;
// The largest MTU with AF_XDP, whose packet buffers lie within a page: 63 cache lines for DPDK's
// own 320 bytes, the 256 that the kernel keeps free in front of a frame, and the frame. (With 64
// lines DPDK adds one for a better spread over memory channels.) Drivers refuse XDP from about
// there on.
inline constexpr std::uint32_t kAfXdpMtuMax = 3434;

struct NicOptions {
  // One of: a kernel interface ("eth1"), a PCI address ("0000:03:00.0"), a bond of these
  // (parse_bond()), a virtual device with its arguments
  // ("net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap"), or a device that the EAL already has.
  std::string device;
  std::uint8_t index = 0;          // in the engine's table of nics
  std::uint32_t queue_count = 0;   // rx queues wanted; 0: all that it spreads frames over
  std::uint32_t worker_count = 1;  // tx queues wanted; the device may have fewer
  // That frames come by: an interface's own, of another device what its twin has. Smaller ones than
  // usual make no difference, since neighbours may keep to another one.
  std::uint32_t mtu = kMtuUsual;
  // What the neighbours know, of a bond whose first member is gone.
  std::optional<core::MacAddr> known_mac = std::nullopt;
};

// Read by one worker.
struct RxQueue {
  std::uint16_t device = 0;
  std::uint16_t queue = 0;
  std::uint8_t nic = 0;

  // Fills `mbufs` (at most kBurstMax) from the front, each marked with the nic's index; returns how
  // many there were.
  [[nodiscard]] std::uint32_t receive(std::span<Mbuf*> mbufs) const noexcept;
};

// Written by one worker, or by several where the device has fewer queues than there are workers:
// they take a spinlock for the burst. The alternative, handing frames back over a ring to the one
// worker that owns the queue, would cost up to its idle sleep (100 us) in delay.
class TxQueue {
 public:
  TxQueue(std::uint16_t device, std::uint16_t queue, bool is_shared)
      : device_(device), queue_(queue), is_shared_(is_shared) {}

  // Sends from the front; returns how many were taken. The rest stay the caller's.
  [[nodiscard]] std::uint32_t send(std::span<Mbuf*> mbufs) noexcept;

 private:
  std::uint16_t device_;
  std::uint16_t queue_;
  bool is_shared_;
  std::atomic_flag is_locked_;
};

class Nic {
 public:
  // Probes, configures and starts the device. Packets are received into mbufs of `pool`, which
  // outlives the nic. Errors start with "nic DEVICE: ".
  [[nodiscard]] static Result<std::unique_ptr<Nic>> open(const NicOptions& options,
                                                         const MbufPool& pool);
  // Rx queues that open() will find or make, for what has to be known before: all of an
  // interface's, and as many of another device as it is told to have.
  [[nodiscard]] static std::uint32_t expected_queue_count(const NicOptions& options);
  // True when `device` is an interface of the kernel's, which the kernel may change behind the
  // driver's back: neither PCI address, bond nor virtual device.
  [[nodiscard]] static bool is_interface(const std::string& device);
  // Room for frames that the nic needs in the packet buffers (MbufPool::create).
  [[nodiscard]] static std::uint32_t frame_bytes(const NicOptions& options);

  Nic(const Nic&) = delete;
  Nic& operator=(const Nic&) = delete;
  // Stops the device; no worker may use its queues any more.
  ~Nic();

  // A bond's says which nic of the engine it is ("bond:0"): its members would find no room.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::optional<Bond>& bond() const { return bond_; }
  // By which the kernel knows its interface whatever it is called, and so do AF_XDP's sockets; 0:
  // not an interface.
  [[nodiscard]] std::uint32_t interface_index() const { return interface_index_; }
  // The interface is called `name` now.
  void rename(const std::string& name);
  [[nodiscard]] const core::MacAddr& mac() const { return mac_; }
  [[nodiscard]] const std::string& driver() const { return driver_; }
  [[nodiscard]] bool link_is_up() const;
  // What the driver says now; mac() is what it said at start.
  [[nodiscard]] std::optional<core::MacAddr> read_mac() const;
  // Makes the device take frames for `macs` as well as for its own address, and no longer for those
  // of the call before.
  void accept(const std::vector<core::MacAddr>& macs);
  // It passes on no multicast but what somebody joined, as virtual functions do that the host does
  // not trust, and NICs of clouds.
  [[nodiscard]] bool filters_multicast() const;
  // The kernel took its interface away (a driver that was loaded anew, a virtual machine's NIC, a
  // move to another network namespace), and with it AF_XDP's sockets. If one of that name comes
  // back, even the same one, they are no part of it.
  [[nodiscard]] bool is_gone();
  // Somebody took AF_XDP's program off it, so that all its frames go to the kernel, or it is gone.
  // About 20 us.
  [[nodiscard]] bool has_lost_program();
  // Rx queues whose frames reach no worker by now but go to the kernel: somebody gave the nic more
  // (ethtool -L, a driver that was loaded anew). About 20 us.
  [[nodiscard]] std::uint32_t unserved_queues() const;
  // What to do about them.
  [[nodiscard]] std::string queue_remedy() const;
  // Writes the drop counters of `shown`: what was dropped since open() before a worker saw it.
  void count_drops(mr_nic& shown) const;

  [[nodiscard]] std::span<const RxQueue> rx_queues() const { return rx_queues_; }
  // The queue that `worker` sends on.
  [[nodiscard]] TxQueue& tx_queue(std::uint32_t worker) const {
    return *tx_queues_[worker % tx_queues_.size()];
  }
  [[nodiscard]] std::size_t tx_queue_count() const { return tx_queues_.size(); }

 private:
  explicit Nic(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] Status probe(const NicOptions& options, const MbufPool& pool);
  [[nodiscard]] Status probe_interface(const NicOptions& options, const MbufPool& pool);
  [[nodiscard]] Status probe_bond(const NicOptions& options);
  [[nodiscard]] Status probe_queue(std::uint32_t queue);
  [[nodiscard]] Status check_queues(std::uint32_t queue_count) const;
  [[nodiscard]] Status configure_all(const NicOptions& options, const MbufPool& pool);
  [[nodiscard]] Status configure(std::uint16_t device, const NicOptions& options,
                                 const MbufPool& pool);
  void make_tx_queues(std::uint32_t worker_count);
  [[nodiscard]] Status start();
  // What the kernel calls the interface this moment, "" when it is gone. `name_` is what it was
  // called at the last look, and may be another's by now.
  [[nodiscard]] std::string name_now() const;
  // A tag that the device took off would leave packets of a VLAN like untagged ones.
  void keep_vlan_tags() const;
  void sum_device_drops(mr_nic& sum) const;
  // Those that have a cable: of a bond its members.
  [[nodiscard]] std::span<const std::uint16_t> plugged() const;

  std::string name_;
  std::string driver_;  // of a bond: its members'
  std::optional<Bond> bond_;
  bool is_interface_ = false;  // of the kernel, driven by AF_XDP
  std::uint32_t interface_index_ = 0;
  std::vector<int> sockets_;  // AF_XDP's, which the driver owns
  bool is_gone_ = false;
  std::optional<InterfaceDrops> interface_drops_;
  std::uint32_t xdp_program_ = 0;  // AF_XDP's; 0: none, or the kernel did not say
  mr_nic drops_before_{};          // of other devices, when they started
  core::MacAddr mac_;
  std::vector<core::MacAddr> accepted_;  // beside the device's own
  std::vector<std::uint16_t> devices_;
  std::vector<RxQueue> rx_queues_;
  std::vector<std::unique_ptr<TxQueue>> tx_queues_;
};

}  // namespace millrace::dpdk

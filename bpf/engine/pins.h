// SPDX-License-Identifier: Apache-2.0
//
// What outlives the daemon: maps and links pinned in a folder of a bpf file system. Cold. The
// folder is one daemon's: it detaches what it finds there and does not know.
//
//   DIRECTORY/abi-N/NAME     a map, for daemons with MR_ABI_VERSION N
//   DIRECTORY/link-IFINDEX   the attachment of the program to an interface: it forwards as long as
//                            this is there
//   DIRECTORY/chain-IFINDEX  a folder, empty: the program is in the chain of that interface, where
//                            libxdp has pins of its own
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::xdp {

struct PinnedLink {
  std::string path;
  os::File fd;
  std::uint32_t ifindex = 0;  // 0: its interface is gone
};

class Pins {
 public:
  // Makes the directory and locks it against other daemons, for as long as this lives. Errors say
  // how to mount a bpf file system, or who has the directory.
  [[nodiscard]] static Result<Pins> open(const std::string& directory);

  // The pinned map, or nothing.
  [[nodiscard]] std::optional<os::File> find_map(const std::string& name) const;
  // In the place of the one that has been there, in one step.
  [[nodiscard]] Status pin_map(const std::string& name, int fd) const;
  // All of a daemon, in the place of those of any ABI version, in one step: whoever is killed on
  // the way leaves the ones or the others. Programs keep those that they use.
  struct NamedMap {
    std::string name;
    int fd;
  };
  [[nodiscard]] Status pin_maps(std::span<const NamedMap> maps) const;

  [[nodiscard]] std::vector<PinnedLink> links() const;
  // In the place of one that is no link of an interface any more.
  [[nodiscard]] Status pin_link(std::uint32_t ifindex, int fd) const;
  // Removes the pin; the program is detached when the last descriptor of the link is closed.
  [[nodiscard]] static Status remove_link(PinnedLink link);

  // Indexes of interfaces: of those where the program is in a chain, and of all that it is on.
  [[nodiscard]] std::vector<std::uint32_t> chains() const;
  [[nodiscard]] std::vector<std::uint32_t> interfaces() const;
  [[nodiscard]] Status add_chain(std::uint32_t ifindex) const;
  [[nodiscard]] Status remove_chain(std::uint32_t ifindex) const;

  // With everything in it.
  void remove_directory() const;

 private:
  Pins(os::File lock, std::string directory);
  void remove_maps_but(const std::string& kept) const;

  os::File lock_;
  std::string directory_;
  std::string maps_directory_;
};

}  // namespace millrace::xdp

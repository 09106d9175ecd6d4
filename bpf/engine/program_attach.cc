// SPDX-License-Identifier: Apache-2.0
//
// The program on its interfaces: put in the place of an earlier daemon's, looked after, and put
// there again. Whatever fails on the way, an interface that had a program keeps it.
#include <linux/if_link.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "bpf/engine/attach_error.h"
#include "bpf/engine/chain.h"
#include "bpf/engine/program_object.h"

namespace millrace::xdp {

namespace {

bpf_link_info info_of(const os::File& link) {
  bpf_link_info info{};
  std::uint32_t bytes = sizeof(info);
  (void)::bpf_obj_get_info_by_fd(link.fd(), &info, &bytes);  // then it is all zeroes
  return info;
}

// The id of the program that sees the interface's frames first, 0 if there is none, and its mode.
struct Attached {
  std::uint32_t program_id = 0;
  Mode mode = Mode::native;
};

Attached attached_to(std::uint32_t ifindex) {
  bpf_xdp_query_opts query{};
  query.sz = sizeof(query);
  if (::bpf_xdp_query(static_cast<int>(ifindex), 0, &query) != 0) return {};
  return {.program_id = query.prog_id,
          .mode = query.attach_mode == XDP_ATTACHED_SKB ? Mode::generic : Mode::native};
}

std::uint32_t id_of_program(int program) {
  bpf_prog_info info{};
  std::uint32_t bytes = sizeof(info);
  return ::bpf_obj_get_info_by_fd(program, &info, &bytes) == 0 ? info.id : 0;
}

Status attach_by_link(int program, const Nic& nic, Mode mode, const Pins& pins) {
  bpf_link_create_opts options{};
  options.sz = sizeof(options);
  options.flags = mode == Mode::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  const os::File link(::bpf_link_create(program, static_cast<int>(nic.ifindex), BPF_XDP, &options));
  if (!link.is_open()) return attach_error(nic, mode, errno);
  return pins.pin_link(nic.ifindex, link.fd());
}

// What an interface had before attach_alone() came to it.
struct Before {
  Nic nic;
  os::File program;  // closed: none, or one that the kernel does not give us
  Mode mode = Mode::native;
  bool had_link = false;
};

void take_back(const Before& before, const Pins& pins) {
  std::vector<PinnedLink> links = pins.links();
  const auto link = std::ranges::find(links, before.nic.ifindex, &PinnedLink::ifindex);
  const bool has_link = link != links.end();
  if (before.had_link && !before.program.is_open()) return;  // better the new one than none
  if (has_link && before.had_link && attached_to(before.nic.ifindex).mode == before.mode) {
    (void)::bpf_link_update(link->fd.fd(), before.program.fd(), nullptr);
    return;
  }
  if (has_link) (void)Pins::remove_link(std::move(*link));
  links.clear();
  if (!before.had_link) return;
  const Status again = attach_by_link(before.program.fd(), before.nic, before.mode, pins);
  if (!again) spdlog::error("{}: has lost its program: {}", before.nic.name, again.error().message);
}

Before state_of(const Nic& nic, const std::vector<PinnedLink>& links) {
  Before before{.nic = nic, .program = {}, .mode = attached_to(nic.ifindex).mode};
  const auto link = std::ranges::find(links, nic.ifindex, &PinnedLink::ifindex);
  before.had_link = link != links.end();
  if (before.had_link) {
    before.program = os::File(::bpf_prog_get_fd_by_id(info_of(link->fd).prog_id));
  }
  return before;
}

// Puts `program` on one interface, in the place of what its link has, which is taken from `links`.
Status attach_one(int program, const Nic& nic, Mode mode, const Pins& pins,
                  std::vector<PinnedLink>& links) {
  const auto link = std::ranges::find(links, nic.ifindex, &PinnedLink::ifindex);
  if (link != links.end()) {
    PinnedLink own = std::move(*link);
    links.erase(link);
    if (attached_to(nic.ifindex).mode == mode) {
      if (::bpf_link_update(own.fd.fd(), program, nullptr) == 0) return ok();
      return attach_error(nic, mode, errno);
    }
    spdlog::warn("{}: changing the mode detaches the program for a moment", nic.name);
    if (Status removed = Pins::remove_link(std::move(own)); !removed) return removed;
  }
  return attach_by_link(program, nic, mode, pins);
}

}  // namespace

Status Program::attach(const std::vector<Nic>& nics, const Attachment& how, const Pins& pins) {
  // Not to judge lengths is right in both modes, if less helpful: so it holds while they change.
  const std::uint32_t before = std::exchange(maps_.control->has_merged_frames, 1);
  Status attached =
      how.chain_priority ? attach_in_chains(nics, how, pins) : attach_alone(nics, how.mode, pins);
  const std::uint32_t wanted = how.mode == Mode::generic ? 1 : 0;
  maps_.control->has_merged_frames = attached ? wanted : before;
  return attached;
}

Status Program::attach_alone(const std::vector<Nic>& nics, Mode mode, const Pins& pins) {
  for (const Nic& nic : nics) {
    if (is_shared(nic.ifindex)) return attach_error(nic, mode, EBUSY);  // and forward as before
  }
  for (const std::uint32_t ifindex : pins.chains()) {
    spdlog::warn("{}: leaving the chain detaches the program for a moment",
                 interface_text(ifindex));
    if (Status left = leave_chain(ifindex, pins); !left) return left;
  }
  std::vector<PinnedLink> links = pins.links();
  // First those of which the kernel may refuse one; the exchange of a program is always taken.
  std::vector<Nic> order = nics;
  (void)std::stable_partition(order.begin(), order.end(), [&](const Nic& nic) {
    return std::ranges::find(links, nic.ifindex, &PinnedLink::ifindex) == links.end() ||
           attached_to(nic.ifindex).mode != mode;
  });
  std::vector<Before> done;
  for (const Nic& nic : order) {
    done.push_back(state_of(nic, links));
    Status attached = attach_one(object_->program(), nic, mode, pins, links);
    if (attached) continue;
    for (const Before& before : done) take_back(before, pins);
    return attached;
  }
  for (PinnedLink& link : links) {
    spdlog::info("{}: is no --interface any more, detached", interface_text(link.ifindex));
    if (Status removed = Pins::remove_link(std::move(link)); !removed) return removed;
  }
  is_attached_ = true;
  return ok();
}

Status Program::attach_in_chains(const std::vector<Nic>& nics, const Attachment& how,
                                 const Pins& pins) const {
  if (Status possible = check_chains(); !possible) return possible;
  for (PinnedLink& link : pins.links()) {
    spdlog::warn("{}: joining a chain detaches the program for a moment",
                 interface_text(link.ifindex));
    if (Status removed = Pins::remove_link(std::move(link)); !removed) return removed;
  }
  std::vector<std::uint32_t> others = pins.chains();
  for (const Nic& nic : nics) {
    std::erase(others, nic.ifindex);
    if (Status joined = attach_in_chain(nic, how, pins); !joined) return joined;
  }
  for (const std::uint32_t ifindex : others) {
    spdlog::info("{}: is no --interface any more, detached", interface_text(ifindex));
    if (Status left = leave_chain(ifindex, pins); !left) return left;
  }
  return ok();
}

// A part of a chain is another program to the kernel, and one for each interface: loaded anew, with
// the same maps.
Status Program::attach_in_chain(const Nic& nic, const Attachment& how, const Pins& pins) const {
  Object part;
  part.skeleton = nlb_xdp__open();
  if (part.skeleton == nullptr) return load_error(errno);
  (void)::bpf_program__set_autoload(part.skeleton->progs.read_clock, false);  // not loaded yet
  if (Status used = part.use_maps(object_->map_fds()); !used) return used;
  if (Status noted = pins.add_chain(nic.ifindex); !noted) return noted;
  return join_chain(part.skeleton->obj, nic, how);
}

// libxdp reads a good deal to say who is in a chain, so it is asked only when the dispatcher is
// another one than the last time.
bool Program::is_attached_to(const Nic& nic, const Attachment& how) {
  const std::uint32_t id = attached_to(nic.ifindex).program_id;
  if (!how.chain_priority) return id != 0 && id == id_of_program(object_->program());
  std::uint32_t& known = dispatchers_[nic.ifindex];
  if (id != known) known = is_in_chain(nic.ifindex) ? id : 0;
  return id != 0 && id == known;
}

Status Program::attach_again(const Nic& nic, const Attachment& how, const Pins& pins) const {
  if (how.chain_priority) return attach_in_chain(nic, how, pins);
  return attach_by_link(object_->program(), nic, how.mode, pins);
}

Status Program::pin_maps(const Pins& pins) const {
  std::vector<Pins::NamedMap> maps;
  for (const auto& [name, map] : object_->shared_maps()) {
    maps.push_back({.name = name, .fd = ::bpf_map__fd(map)});
  }
  return pins.pin_maps(maps);
}

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
//
// `millrace-xdp detach`: the end of forwarding, which no end of a daemon is. Cold.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <optional>
#include <utility>
#include <vector>

#include "bpf/engine/chain.h"
#include "bpf/engine/engine.h"
#include "dataplane/shm/stats_reader.h"

namespace millrace::xdp {

namespace {

// Where the last daemon kept its copy of the flows; "" when nothing tells. Others may put files
// into the runtime directory, and what a file of theirs names is nothing to write to.
Result<std::string> flow_dir_of_daemon(const std::string& runtime_dir) {
  const std::string path = runtime_dir + "/stats";
  const Result<shm::StatsReader> stats = shm::StatsReader::join(path);
  if (!stats) return std::string();
  if (const Status trusted = stats->check_trust(); !trusted) return trusted.error();
  const shm::EngineInfo info = stats->engine();
  return info.engine_kind == MR_ENGINE_XDP ? info.flow_table_dir : std::string();
}

// With the daemon's --flow-dir, which the next engine has as well, where none is given.
Result<EngineOptions> with_flow_dir(EngineOptions options) {
  const Result<std::string> known = flow_dir_of_daemon(options.runtime_dir);
  if (options.flow_dir.empty()) {
    if (!known) {
      return Error{known.error().message +
                   ", so that the flow directory of the daemon is not known: name it with "
                   "--flow-dir"};
    }
    options.flow_dir = known->empty() ? kFlowDir : *known;
  } else if (known && !known->empty() && *known != options.flow_dir) {
    spdlog::warn("{}: left as it is, though the daemon kept its flows there", *known);
  }
  return options;
}

Status remove_attachments(const Pins& pins) {
  std::vector<PinnedLink> links = pins.links();
  for (PinnedLink& link : links) {
    spdlog::info("{}: detached", interface_text(link.ifindex));
    if (Status removed = Pins::remove_link(std::move(link)); !removed) return removed;
  }
  const std::vector<std::uint32_t> chains = pins.chains();
  for (const std::uint32_t ifindex : chains) {
    spdlog::info("{}: detached, other programs of its chain stay", interface_text(ifindex));
    if (Status left = leave_chain(ifindex, pins); !left) return left;
  }
  if (links.empty() && chains.empty()) spdlog::info("nothing was attached");
  return ok();
}

// All that is needed, and may be refused, before anything is touched.
struct Preparation {
  os::ProcessLock lock;
  EngineOptions options;
  Pins pins;
  Memberships memberships;
  Result<FormerFlows> former;
  std::optional<shm::FlowSet> flow_set{};
  std::optional<FlowCopy> flow_copy{};
};

Result<Preparation> prepare(const EngineOptions& given) {
  Result<os::ProcessLock> lock = take_engine_lock(given.runtime_dir);
  if (!lock) return lock.error();
  Result<EngineOptions> options = with_flow_dir(given);
  if (!options) return options.error();
  Result<Pins> pins = Pins::open(options->pin_dir);
  if (!pins) return pins.error();
  Result<Memberships> memberships = Memberships::open({});
  if (!memberships) return memberships.error();
  Result<FormerFlows> former = pinned_flows(*pins);
  Preparation prepared{.lock = std::move(*lock),
                       .options = std::move(*options),
                       .pins = std::move(*pins),
                       .memberships = std::move(*memberships),
                       .former = std::move(former)};
  if (!prepared.former) return prepared;
  // Room for the flows first: they are in the maps alone.
  Result<shm::FlowSet> set =
      shm::FlowSet::open(prepared.options.flow_dir, prepared.options.runtime_dir);
  if (!set) return set.error();
  prepared.flow_set.emplace(std::move(*set));
  const auto capacity = static_cast<std::uint32_t>(prepared.former->flows.size());
  Result<FlowCopy> copy = FlowCopy::reuse(*prepared.flow_set, capacity);
  if (!copy) return copy.error();
  prepared.flow_copy.emplace(*copy);
  return prepared;
}

}  // namespace

Status detach(const EngineOptions& given) {
  Result<Preparation> prepared = prepare(given);
  if (!prepared) {
    return Error{prepared.error().message +
                 "; nothing was detached, and what is attached goes on forwarding"};
  }
  auto& [lock, options, pins, memberships, former, flow_set, flow_copy] = *prepared;
  for (const std::uint32_t ifindex : pins.interfaces()) memberships.leave_all(ifindex);
  if (Status removed = remove_attachments(pins); !removed) return removed;
  // What the last daemon said of itself: to the control plane a program on one of its nics, such as
  // a chain's dispatcher, would be that daemon's.
  (void)::unlink((options.runtime_dir + "/stats").c_str());  // there need be none
  if (flow_copy) {
    flow_copy->set_all(former->flows, former->last_hops);
    if (Status committed = flow_set->commit(); !committed) return committed;
    spdlog::info("flows are in {}", options.flow_dir);
  } else {
    spdlog::info("{}: {}; what is in {} is left as it is", options.pin_dir, former.error().message,
                 options.flow_dir);
  }
  pins.remove_directory();
  return ok();
}

}  // namespace millrace::xdp

// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "bpf/engine/program_object.h"

namespace millrace::xdp {

namespace {

// CONFIG_HZ of kernels that are out there, and the length of a jiffy as the kernel rounds it.
struct JiffyLength {
  std::uint64_t hz;
  std::uint64_t ns;
};
constexpr std::array<JiffyLength, 4> kJiffyLengths = {{
    {.hz = 100, .ns = 10'000'000},
    {.hz = 250, .ns = 4'000'000},
    {.hz = 300, .ns = 3'333'333},
    {.hz = 1000, .ns = 1'000'000},
}};
constexpr long kJiffyMeasureNs = 100'000'000;  // tells 250 from 300 with a jiffy of error
constexpr int kJiffyMeasurements = 30;
// Readings within a jiffy of any length, of which the one next to its start counts.
constexpr int kOffsetReadings = 24;
constexpr long kOffsetPauseNs = 500'000;

void pause(long ns) {
  const timespec length{.tv_sec = 0, .tv_nsec = ns};
  (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);  // shorter does no harm
}

// What libbpf has to say is for developers; errors of ours say what went wrong and what to do.
__attribute__((format(printf, 2, 0))) int log_of_libbpf(libbpf_print_level, const char* format,
                                                        va_list arguments) {
  std::array<char, 1024> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) spdlog::debug("libbpf: {}", text.data());
  return length;
}

}  // namespace

Error load_error(int error) {
  if (error == EPERM || error == EACCES) {
    return Error{
        "the kernel does not let us load the XDP program: needs CAP_BPF and CAP_NET_ADMIN, or "
        "root"};
  }
  errno = error;
  return os::os_error(
      "the kernel refused the XDP program (it needs Linux 5.12 or newer; --log-level debug shows "
      "what the kernel said)");
}

namespace {

// Empty, or why the pinned map is not what `wanted` would be.
std::string difference(const bpf_map* wanted, const char* name, const os::File& found) {
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  if (::bpf_obj_get_info_by_fd(found.fd(), &info, &bytes) != 0) return "cannot be asked";
  const auto differs = [&](const char* what, std::uint32_t is, std::uint32_t wants) {
    return is == wants ? std::string()
                       : std::string(name) + " has " + std::to_string(is) + " " + what + ", not " +
                             std::to_string(wants);
  };
  std::string text = differs("entries", info.max_entries, ::bpf_map__max_entries(wanted));
  if (text.empty())
    text = differs("bytes per entry", info.value_size, ::bpf_map__value_size(wanted));
  return text;
}

std::uint32_t entries_of(const os::File& map) {
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  return ::bpf_obj_get_info_by_fd(map.fd(), &info, &bytes) == 0 ? info.max_entries : 0;
}

Result<os::Mapping> map_memory_of(int fd, std::uint64_t bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const os::File file(::dup(fd));
  return os::Mapping::map(file, (bytes + page - 1) / page * page, os::Access::read_write);
}

template <typename T>
std::span<T> elements(const os::Mapping& memory, std::uint64_t count) {
  return {reinterpret_cast<T*>(memory.bytes().data()), static_cast<std::size_t>(count)};
}

}  // namespace

Program::Program(std::unique_ptr<Object> object) : object_(std::move(object)) {}
Program::Program(Program&& other) noexcept = default;
Program& Program::operator=(Program&& other) noexcept = default;
Program::~Program() = default;

// Null: errno says why.
std::unique_ptr<Program::Object> Program::open(const ProgramOptions& options) {
  auto object = std::make_unique<Object>();
  object->skeleton = nlb_xdp__open();
  if (object->skeleton == nullptr) return nullptr;
  auto& maps = object->skeleton->maps;
  const std::uint32_t rows = options.cpu_count + 1;
  // These fail only after loading.
  (void)::bpf_program__set_autoload(object->skeleton->progs.nlb_xdp, !options.is_for_chains);
  (void)::bpf_map__set_max_entries(maps.config_lines, options.config_lines);
  (void)::bpf_map__set_max_entries(maps.flows, options.flows);
  (void)::bpf_map__set_max_entries(maps.cpus, options.cpu_count);
  (void)::bpf_map__set_max_entries(maps.listener_stats, rows * options.listener_slots);
  (void)::bpf_map__set_max_entries(maps.target_stats, rows * options.target_slots);
  return object;
}

Result<Program> Program::load(const ProgramOptions& options, const Pins& pins) {
  ::libbpf_set_print(log_of_libbpf);
  std::unique_ptr<Object> object = open(options);
  if (object == nullptr) return load_error(errno);
  Program program(std::move(object));
  program.options_ = options;
  std::vector<os::File> kept;
  for (const auto& [name, map] : program.object_->shared_maps()) {
    std::optional<os::File> found = pins.find_map(name);
    if (!found) {
      program.why_new_maps_ = "none of an earlier one are there";
      break;
    }
    if (map == program.object_->skeleton->maps.config_lines) {
      program.options_.config_lines = entries_of(*found);
      (void)::bpf_map__set_max_entries(map, program.options_.config_lines);
    }
    program.why_new_maps_ = difference(map, name, *found);
    if (!program.why_new_maps_.empty()) break;
    kept.push_back(std::move(*found));
  }
  if (program.has_kept_maps()) {
    std::vector<int> maps_in_use;
    maps_in_use.reserve(kept.size());
    for (const os::File& map : kept) maps_in_use.push_back(map.fd());
    if (Status used = program.object_->use_maps(maps_in_use); !used) return used.error();
  }
  if (const int error = nlb_xdp__load(program.object_->skeleton); error != 0) {
    return load_error(-error);
  }
  if (Status mapped = program.map_memory(); !mapped) return mapped.error();
  return program;
}

Status Program::Object::use_maps(std::span<const int> maps) const {
  const auto shared = shared_maps();
  for (std::size_t i = 0; i < shared.size(); ++i) {
    if (maps[i] == kOwnMap) continue;
    if (const int error = ::bpf_map__reuse_fd(shared[i].map, maps[i]); error != 0) {
      return load_error(-error);
    }
  }
  return ok();
}

Status Program::map_memory() {
  for (const auto& [name, map] : object_->shared_maps()) {
    memory_.emplace_back();
    if (::bpf_map__type(map) == BPF_MAP_TYPE_DEVMAP) continue;
    Result<os::Mapping> memory =
        map_memory_of(::bpf_map__fd(map),
                      std::uint64_t{::bpf_map__value_size(map)} * ::bpf_map__max_entries(map));
    if (!memory) return memory.error().within(name);
    memory_.back() = std::move(*memory);
  }
  const ProgramOptions& options = options_;
  const std::uint64_t rows = options.cpu_count + 1;
  maps_ = {.control = elements<mr_xdp_control>(memory_[1], 1).data(),
           .config_lines = elements<mr_config_line>(memory_[kConfigLinesMap], options.config_lines),
           .flows = elements<mr_flow_record>(memory_[3], options.flows),
           .last_hops = elements<mr_xdp_last_hop>(memory_[4], MR_LAST_HOP_COUNT),
           .no_room = elements<std::uint64_t>(memory_[6], 2 * MR_XDP_NO_ROOM_WORDS),
           .cpus = elements<mr_xdp_cpu>(memory_[2], options.cpu_count),
           .listener_stats = elements<mr_listener_stats>(memory_[5], rows * options.listener_slots),
           .target_stats = elements<mr_target_stats>(memory_[7], rows * options.target_slots)};
  return ok();
}

Result<FormerFlows> pinned_flows(const Pins& pins) {
  const std::optional<os::File> flows = pins.find_map("flows");
  const std::optional<os::File> last_hops = pins.find_map("last_hops");
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  if (!flows || !last_hops || ::bpf_obj_get_info_by_fd(flows->fd(), &info, &bytes) != 0 ||
      info.value_size != sizeof(mr_flow_record)) {
    return Error{"no flows of an earlier XDP engine are pinned"};
  }
  Result<os::Mapping> records =
      map_memory_of(flows->fd(), std::uint64_t{info.max_entries} * sizeof(mr_flow_record));
  Result<os::Mapping> hops =
      map_memory_of(last_hops->fd(), MR_LAST_HOP_COUNT * sizeof(mr_xdp_last_hop));
  if (!records) return records.error();
  if (!hops) return hops.error();
  FormerFlows former;
  former.flows = elements<mr_flow_record>(*records, info.max_entries);
  former.last_hops = elements<mr_xdp_last_hop>(*hops, MR_LAST_HOP_COUNT);
  former.flows_memory = std::move(*records);
  former.last_hops_memory = std::move(*hops);
  return former;
}

Result<ClockReading> Program::Object::read_clock() const {
  std::array<std::uint8_t, 64> frame{};  // test runs want one
  bpf_test_run_opts run{};
  run.sz = sizeof(run);
  run.data_in = frame.data();
  run.data_size_in = frame.size();
  run.repeat = 1;
  if (::bpf_prog_test_run_opts(::bpf_program__fd(skeleton->progs.read_clock), &run) != 0) {
    return os::os_error("cannot read the kernel's clocks (BPF_PROG_TEST_RUN)");
  }
  return ClockReading{.jiffies = skeleton->bss->clock_reading.jiffies,
                      .ktime_ns = skeleton->bss->clock_reading.ktime_ns};
}

Result<std::uint64_t> Program::Object::measure_jiffy() const {
  const Result<ClockReading> first = read_clock();
  if (!first) return first.error();
  pause(kJiffyMeasureNs);
  const Result<ClockReading> last = read_clock();
  if (!last) return last.error();
  const std::uint64_t jiffies = last->jiffies - first->jiffies;
  const std::uint64_t elapsed_ns = last->ktime_ns - first->ktime_ns;
  for (const JiffyLength& length : kJiffyLengths) {
    const auto expected = static_cast<std::int64_t>(elapsed_ns / length.ns);
    const std::int64_t off = static_cast<std::int64_t>(jiffies) - expected;
    if (off >= -1 && off <= 1) return length.ns;
  }
  return 0;
}

// A virtual machine that its host held up counts the jiffies that it missed later: one measurement
// may be wrong, two that follow each other are not wrong by the same.
Result<std::uint64_t> Program::ns_per_jiffy() {
  std::uint64_t before_ns = 0;
  for (int i = 0; i < kJiffyMeasurements; ++i) {
    const Result<std::uint64_t> length_ns = object_->measure_jiffy();
    if (!length_ns) return length_ns.error();
    if (*length_ns != 0 && *length_ns == before_ns) return *length_ns;
    before_ns = *length_ns;
  }
  return Error{"the kernel's jiffies fit no CONFIG_HZ of 100, 250, 300 and 1000"};
}

// A jiffy's number holds for all of its length: the reading that is nearest to its start is the one
// with the smallest difference.
Status Program::set_clock() {
  mr_xdp_control& control = *maps_.control;
  if (control.ns_per_jiffy != 0) return ok();  // both clocks go on in step until the next boot
  const Result<std::uint64_t> length = ns_per_jiffy();
  if (!length) return length.error();
  std::int64_t offset_ns = INT64_MAX;
  for (int i = 0; i < kOffsetReadings; ++i) {
    const Result<ClockReading> reading = object_->read_clock();
    if (!reading) return reading.error();
    offset_ns = std::min(offset_ns,
                         static_cast<std::int64_t>(reading->ktime_ns - reading->jiffies * *length));
    pause(kOffsetPauseNs);
  }
  control.clock_offset_ns = offset_ns;
  control.ns_per_jiffy = *length;
  return ok();
}

Status Program::set_nics(const std::vector<Nic>& nics) {
  mr_xdp_control& control = *maps_.control;
  std::array<mr_xdp_nic, MR_NIC_COUNT_MAX> before{};
  std::copy(std::begin(control.nics), std::end(control.nics), before.begin());
  std::array<mr_xdp_nic, MR_NIC_COUNT_MAX> wanted{};
  for (std::uint32_t i = 0; i < nics.size(); ++i) {
    wanted[i].ifindex = nics[i].ifindex;
    std::copy(nics[i].mac.bytes.begin(), nics[i].mac.bytes.end(), wanted[i].mac);
  }
  if (const std::optional<std::uint32_t> refused = send_to(wanted, nics.size())) {
    const Error error = os::os_error(nics[*refused].name + ": cannot be sent to by XDP");
    send_to(before, control.nic_count);
    return error;
  }
  const bool are_same =
      std::equal(wanted.begin(), wanted.end(), control.nics,
                 [](const auto& a, const auto& b) { return a.ifindex == b.ifindex; });
  if (!are_same) {
    // Neighbours are remembered with the number of a nic: with others in their place replies take
    // the default next hop until the next packet of a client.
    std::memset(maps_.last_hops.data(), 0, maps_.last_hops.size_bytes());
  }
  std::copy(wanted.begin(), wanted.end(), control.nics);
  control.nic_count = static_cast<std::uint32_t>(nics.size());
  return ok();
}

std::optional<std::uint32_t> Program::send_to(const std::array<mr_xdp_nic, MR_NIC_COUNT_MAX>& nics,
                                              std::size_t count) {
  const int tx_nics = ::bpf_map__fd(object_->skeleton->maps.tx_nics);
  for (std::uint32_t i = 0; i < nics.size(); ++i) {
    if (i >= count) {
      (void)::bpf_map_delete_elem(tx_nics, &i);  // absent is fine
    } else if (::bpf_map_update_elem(tx_nics, &i, &nics[i].ifindex, BPF_ANY) != 0) {
      return i;
    }
  }
  return std::nullopt;
}

// Old and new lines have the config in force at the same place, so that while some nics run one
// program and some the other, and whichever of both maps is pinned, both work.
Status Program::grow_config(std::uint32_t lines, const std::vector<Nic>& nics, Mode mode,
                            const Pins& pins) {
  if (options_.is_for_chains) {
    return Error{
        "with --chain the memory for configs cannot grow while it is in use: stop the daemon, run "
        "millrace-xdp detach, start it with a --config-mib that is large enough (flows are kept)"};
  }
  ProgramOptions options = options_;
  options.config_lines = lines;
  std::unique_ptr<Object> larger = open(options);
  if (larger == nullptr) return load_error(errno);
  auto maps = object_->map_fds();
  maps[kConfigLinesMap] = kOwnMap;
  if (Status used = larger->use_maps(maps); !used) return used;
  if (const int error = nlb_xdp__load(larger->skeleton); error != 0) return load_error(-error);
  Result<os::Mapping> memory = map_memory_of(larger->map_fds()[kConfigLinesMap],
                                             std::uint64_t{lines} * MR_CONFIG_LINE_BYTES);
  if (!memory) return memory.error().within("config_lines");
  const auto larger_lines = elements<mr_config_line>(*memory, lines);
  std::ranges::copy(maps_.config_lines, larger_lines.begin());
  std::swap(object_, larger);
  // An earlier daemon's program, where this one's is not attached yet, would not find the lines.
  if (is_attached_ || has_kept_maps()) {
    if (Status replaced = replace_attached(nics, mode, pins); !replaced) {
      std::swap(object_, larger);
      (void)replace_attached(nics, mode, pins);  // what was done is undone the same way
      return replaced;
    }
  }
  spdlog::info("config memory has grown from {} to {} MiB", maps_.config_lines.size_bytes() >> 20,
               larger_lines.size_bytes() >> 20);
  memory_[kConfigLinesMap] = std::move(*memory);
  maps_.config_lines = larger_lines;
  options_ = options;
  return ok();
}

Status Program::replace_attached(const std::vector<Nic>& nics, Mode mode, const Pins& pins) {
  if (Status attached = attach_alone(nics, mode, pins); !attached) return attached;
  return pins.pin_map("config_lines", object_->map_fds()[kConfigLinesMap]);
}

}  // namespace millrace::xdp

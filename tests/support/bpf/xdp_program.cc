// SPDX-License-Identifier: Apache-2.0
#include "tests/support/bpf/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace millrace::test {
namespace {

// What the DPDK engine's forwarder has by default.
constexpr std::uint32_t kFlowInsertsPerMs = 2000;
constexpr std::uint32_t kRepliesPerMs = 100;
constexpr std::size_t kRoomBytes = 256;  // that a program may add to a frame

[[noreturn]] void fail(const std::string& what) {
  std::perror(what.c_str());
  std::abort();
}

bpf_map* find_map(bpf_object* object, const std::string& name) {
  bpf_map* map = bpf_object__find_map_by_name(object, name.c_str());
  if (map == nullptr) fail("no map " + name);
  return map;
}

template <typename T>
void clear(std::span<T> memory) {
  std::ranges::fill(std::as_writable_bytes(memory), std::byte{0});
}

}  // namespace

XdpProgram::XdpProgram(const Options& options)
    : options_(options),
      object_(bpf_object__open_mem(options.object.data(), options.object.size(), nullptr)) {
  if (object_ == nullptr) fail("bpf_object__open_mem");
  const auto cpu_count = static_cast<std::uint32_t>(libbpf_num_possible_cpus());
  const auto resize = [&](const char* name, std::uint32_t entries) {
    if (bpf_map__set_max_entries(find_map(object_, name), entries) != 0) fail(name);
  };
  resize("config_lines", options.config_lines);
  resize("flows", options.flow_count);
  resize("cpus", cpu_count);
  resize("listener_stats", (cpu_count + 1) * options.slot_count);
  resize("target_stats", (cpu_count + 1) * options.slot_count);
  std::size_t bytes = 0;
  auto* is_under_test = static_cast<std::uint8_t*>(
      const_cast<void*>(bpf_map__initial_value(find_map(object_, ".rodata"), &bytes)));
  if (is_under_test == nullptr || bytes == 0) fail(".rodata");
  *is_under_test = options.is_under_test;
  if (bpf_object__load(object_) != 0) fail("loading the XDP program (it needs CAP_BPF)");
  maps_ = {.control = globals<mr_xdp_control>(".data.control"),
           .config_lines = values<mr_config_line>("config_lines"),
           .flows = values<mr_flow_record>("flows"),
           .last_hops = values<mr_xdp_last_hop>("last_hops"),
           .no_room = values<std::uint64_t>("no_room"),
           .cpus = values<mr_xdp_cpu>("cpus"),
           .listener_stats = values<mr_listener_stats>("listener_stats"),
           .target_stats = values<mr_target_stats>("target_stats")};
  reset();
}

XdpProgram::~XdpProgram() { bpf_object__close(object_); }

void XdpProgram::reset() {
  clear(maps_.flows);
  clear(maps_.last_hops);
  clear(maps_.no_room);
  clear(maps_.cpus);
  clear(map_memory(".bss"));
  empty_hash("datagrams");
  clear(maps_.listener_stats);
  clear(maps_.target_stats);
  mr_xdp_control& control = *maps_.control;
  control = {};
  control.cpu_count = static_cast<std::uint32_t>(maps_.cpus.size());
  control.flow_mask = options_.flow_count - 1;
  control.listener_slots = options_.slot_count;
  control.target_slots = options_.slot_count;
  control.flow_inserts_per_ms = kFlowInsertsPerMs;
  control.replies_per_ms = kRepliesPerMs;
  for (std::uint32_t i = 0; i < 6; ++i) control.flow_secret[i] = 0x9e3779b9u * (i + 1) | 1;
  control.flow_multiplier = 0xd6e8feb86659fd93ULL;
  Result<xdp::ConfigMirror> mirror = xdp::ConfigMirror::open(maps_);
  if (!mirror) fail(mirror.error().message);
  mirror_.emplace(std::move(*mirror));
}

void XdpProgram::empty_hash(const std::string& name) const {
  std::vector<std::byte> key(bpf_map__key_size(find_map(object_, name)));
  while (bpf_map_get_next_key(map_fd(name), nullptr, key.data()) == 0) {
    if (bpf_map_delete_elem(map_fd(name), key.data()) != 0) fail("emptying " + name);
  }
}

void XdpProgram::set_nic(std::uint32_t nic, std::span<const std::uint8_t, 6> mac,
                         std::uint32_t ifindex) {
  mr_xdp_control& control = *maps_.control;
  control.nic_count = std::max(control.nic_count, nic + 1);
  std::ranges::copy(mac, control.nics[nic].mac);
  control.nics[nic].ifindex = ifindex;
  if (bpf_map_update_elem(map_fd("tx_nics"), &nic, &ifindex, BPF_ANY) != 0) fail("tx_nics");
}

void XdpProgram::adopt(const core::ConfigView& view) {
  if (const Status adopted = mirror_->adopt(view); !adopted) fail(adopted.error().message);
}

XdpProgram::Run XdpProgram::run(const std::string& name, std::span<const std::uint8_t> frame,
                                std::uint32_t turns, bool wants_frame) const {
  Run run{};
  run.frame.resize(wants_frame ? frame.size() + kRoomBytes : 0);
  bpf_test_run_opts options{};  // libbpf's macro for this is no C++
  options.sz = sizeof(options);
  options.data_in = frame.data();
  options.data_out = wants_frame ? run.frame.data() : nullptr;
  options.data_size_in = static_cast<std::uint32_t>(frame.size());
  options.data_size_out = static_cast<std::uint32_t>(run.frame.size());
  options.repeat = static_cast<int>(turns);
  if (bpf_prog_test_run_opts(program_fd(name), &options) != 0) fail("BPF_PROG_TEST_RUN");
  if (wants_frame) run.frame.resize(options.data_size_out);
  run.verdict = options.retval;
  run.duration_ns = options.duration;
  return run;
}

double XdpProgram::run_live(const std::string& name, std::span<const std::uint8_t> frame,
                            std::uint32_t packets, std::uint32_t burst) const {
  bpf_test_run_opts options{};  // libbpf's macro for this is no C++
  options.sz = sizeof(options);
  options.data_in = frame.data();
  options.data_size_in = static_cast<std::uint32_t>(frame.size());
  options.repeat = static_cast<int>(packets);
  options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  options.batch_size = burst;
  if (bpf_prog_test_run_opts(program_fd(name), &options) != 0) fail("running live frames");
  return options.duration;
}

void XdpProgram::attach(const std::string& name, std::uint32_t ifindex) const {
  if (bpf_xdp_attach(static_cast<int>(ifindex), program_fd(name), XDP_FLAGS_DRV_MODE, nullptr) !=
      0) {
    fail("attaching " + name);
  }
}

BpfInterpreter XdpProgram::interpreter(const std::string& name) const {
  std::vector<BpfInterpreter::Map> maps;
  for (const bpf_map* map = bpf_object__next_map(object_, nullptr); map != nullptr;
       map = bpf_object__next_map(object_, map)) {
    const bool is_array = bpf_map__type(map) == BPF_MAP_TYPE_ARRAY;
    maps.push_back({.fd = bpf_map__fd(map),
                    .value_bytes = bpf_map__value_size(map),
                    .entry_count = bpf_map__max_entries(map),
                    .values = is_array ? map_memory(bpf_map__name(map)).data() : nullptr,
                    .is_hash = bpf_map__type(map) == BPF_MAP_TYPE_LRU_HASH});
  }
  const bpf_program* program = find_program(name);
  return {{bpf_program__insns(program), bpf_program__insn_cnt(program)}, std::move(maps)};
}

XdpProgram::Size XdpProgram::size(const std::string& name) const {
  const bpf_program* program = find_program(name);
  bpf_prog_info info{};
  std::uint32_t bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &bytes) != 0) fail(name);
  return {.loaded_instructions = static_cast<std::uint32_t>(bpf_program__insn_cnt(program)),
          .verified_instructions = info.verified_insns};
}

const bpf_program* XdpProgram::find_program(const std::string& name) const {
  const bpf_program* program = bpf_object__find_program_by_name(object_, name.c_str());
  if (program == nullptr) fail("no program " + name);
  return program;
}

int XdpProgram::program_fd(const std::string& name) const {
  return bpf_program__fd(find_program(name));
}

int XdpProgram::map_fd(const std::string& name) const {
  return bpf_map__fd(find_map(object_, name));
}

std::span<std::byte> XdpProgram::map_memory(const std::string& name) const {
  const bpf_map* map = find_map(object_, name);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes = std::size_t{bpf_map__max_entries(map)} * bpf_map__value_size(map);
  const bool is_constant = (bpf_map__map_flags(map) & BPF_F_RDONLY_PROG) != 0;
  void* memory =
      ::mmap(nullptr, (bytes + page - 1) / page * page,
             is_constant ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
  if (memory == MAP_FAILED) fail("mmap of map " + name);
  return {static_cast<std::byte*>(memory), bytes};
}

template <typename T>
std::span<T> XdpProgram::values(const std::string& name) const {
  const std::span<std::byte> memory = map_memory(name);
  return {reinterpret_cast<T*>(memory.data()), memory.size() / sizeof(T)};
}

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/flow_copy.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/wire.h"

namespace millrace::xdp {

namespace {

// Bits of mr_xdp_last_hop.
constexpr std::uint64_t kMacMask = 0xffff'ffff'ffff;
constexpr unsigned kNicShift = 48;
constexpr std::uint64_t kInUse = std::uint64_t{1} << 56;

mr_last_hop to_last_hop(std::uint64_t word) {
  mr_last_hop hop{};
  if ((word & kInUse) == 0) return hop;
  std::memcpy(hop.mac, &word, sizeof(hop.mac));
  hop.nic = static_cast<std::uint8_t>(word >> kNicShift);
  hop.in_use = 1;
  return hop;
}

std::uint64_t to_word(const mr_last_hop& hop) {
  if (hop.in_use == 0) return 0;
  std::uint64_t word = 0;
  std::memcpy(&word, hop.mac, sizeof(hop.mac));
  return (word & kMacMask) | std::uint64_t{hop.nic} << kNicShift | kInUse;
}

bool is_flow(std::uint8_t state) { return state != MR_FLOW_FREE && state < MR_FLOW_STATE_COUNT; }

core::FlowTable::Layout layout_of(std::uint32_t capacity) {
  timespec now{};
  (void)::clock_gettime(CLOCK_BOOTTIME, &now);  // cannot fail with a valid clock
  return {.capacity = capacity,
          .worker_index = 0,
          .worker_count = 1,
          .secret = {},
          .created_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
                        static_cast<std::uint64_t>(now.tv_nsec),
          .creator_pid = static_cast<std::uint32_t>(::getpid())};
}

// Enters flows one by one, each with the neighbour that its client's packets come from.
class Importer {
 public:
  explicit Importer(const Maps& into) : into_(into) {}

  void enter(const mr_flow_record& flow, std::uint64_t last_hop_word) {
    const core::AddrWords addr = core::words_of(flow.client_addr);
    const std::uint32_t port_protocol = flow.client_port_be | std::uint32_t{flow.protocol} << 16;
    const std::uint32_t first = mr_xdp_flow_hash(into_.control, addr.low, addr.high, port_protocol);
    const std::uint32_t mask = into_.control->flow_mask;
    for (std::uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
      mr_flow_record& record = into_.flows[(first + probe) & mask];
      if (record.state != MR_FLOW_FREE) continue;
      record = flow;
      record.last_hop = index_of(last_hop_word);
      record.reserved = 0;
      ++import.flows;
      return;
    }
    ++import.refused;
  }

  Import import;

 private:
  // Where programs look for it first, so that they find it again.
  [[nodiscard]] std::uint16_t index_of(std::uint64_t word) {
    if (word == 0) return 0;
    for (std::uint32_t probe = 0; probe < MR_XDP_LAST_HOP_PROBE_MAX; ++probe) {
      const std::uint32_t index = mr_xdp_last_hop_index(word, probe);
      if (index == 0) continue;
      std::uint64_t& known = into_.last_hops[index].word;
      if (known == 0) known = word;
      if (known == word) return static_cast<std::uint16_t>(index);
    }
    return 0;
  }

  const Maps& into_;
};

// One worker's table, whatever its size and number of workers.
Status import_file(const std::string& directory, std::uint32_t worker, Importer& importer) {
  Result<shm::FlowFile> found = shm::FlowFile::open_read_only(directory, worker);
  if (!found) return found.error();
  const std::span<std::byte> read_only = found->bytes();
  const std::uint64_t size = read_only.size();
  mr_flow_table_header header{};
  if (size < sizeof(header)) return Error{found->path() + ": has no header"};
  std::memcpy(&header, read_only.data(), sizeof(header));
  // Opened as its own engine would, which drops the records that cannot be believed.
  Result<shm::FlowFile> file = shm::FlowFile::open(directory, worker, size);
  if (!file) return file.error();
  Result<core::FlowTable> table =
      core::FlowTable::attach(file->bytes(), {.capacity = header.capacity,
                                              .worker_index = header.worker_index,
                                              .worker_count = header.worker_count,
                                              .secret = {},
                                              .created_ns = 0,
                                              .creator_pid = 0});
  if (!table) return table.error().within(file->path());
  for (std::uint32_t index = 0; index < table->record_high(); ++index) {
    const mr_flow_record& record = table->record(index);
    if (!is_flow(record.state)) continue;
    importer.enter(record, to_word(table->last_hop(record.last_hop)));
  }
  return ok();
}

}  // namespace

FlowCopy::FlowCopy(shm::FlowFile file) : file_(std::move(file)) {
  auto* header = reinterpret_cast<mr_flow_table_header*>(file_.bytes().data());
  header->record_high = header->capacity;  // any of them may be in use
  std::byte* start = file_.bytes().data();
  records_ = {reinterpret_cast<mr_flow_record*>(start + header->records_offset), header->capacity};
  last_hops_ = reinterpret_cast<mr_last_hop*>(start + header->last_hops_offset);
}

Result<FlowCopy> FlowCopy::create(const std::string& directory, std::uint32_t capacity) {
  Result<shm::FlowFile> file =
      shm::FlowFile::open(directory, 0, core::FlowTable::bytes_for(capacity));
  if (!file) return file.error();
  std::memset(file->bytes().data(), 0, file->bytes().size());
  core::FlowTable::Layout layout = layout_of(capacity);
  if (::getrandom(layout.secret, sizeof(layout.secret), 0) != sizeof(layout.secret)) {
    return shm::os_error("no random numbers");
  }
  (void)core::FlowTable::format(file->bytes(), layout);  // the memory is what is wanted
  return FlowCopy(std::move(*file));
}

void FlowCopy::set(std::uint32_t index, mr_flow_record& record) {
  mr_flow_record& copy = records_[index];
  const StateWord word = load_state(record);
  std::atomic_ref<std::uint8_t> state(copy.state);
  if (!is_flow(word.state())) {
    if (copy.state != MR_FLOW_FREE) state.store(MR_FLOW_FREE, std::memory_order_relaxed);
    return;
  }
  mr_flow_record taken;
  std::memcpy(&taken, &record, sizeof(taken));
  std::atomic_thread_fence(std::memory_order_acquire);
  if (load_state(record).word != word.word) return;  // under change: the next round has it
  taken.state = MR_FLOW_FREE;
  taken.bytes = 0;  // counted by the sweep already
  taken.packets = 0;
  taken.reserved = 0;
  // Whoever finds the file after a kill in between finds no flow here rather than half of one.
  state.store(MR_FLOW_FREE, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  copy = taken;
  state.store(word.state(), std::memory_order_release);
}

void FlowCopy::set_last_hops(std::span<mr_xdp_last_hop> last_hops) {
  for (std::size_t index = 1; index < last_hops.size(); ++index) {
    const std::uint64_t word =
        std::atomic_ref<std::uint64_t>(last_hops[index].word).load(std::memory_order_relaxed);
    last_hops_[index] = to_last_hop(word);
  }
}

void FlowCopy::set_all(std::span<mr_flow_record> flows, std::span<mr_xdp_last_hop> last_hops) {
  set_last_hops(last_hops);
  for (std::uint32_t index = 0; index < flows.size(); ++index) set(index, flows[index]);
}

Import import_flow_files(const std::string& directory, const Maps& into) {
  Importer importer(into);
  for (std::uint32_t worker = 0; worker < MR_WORKER_COUNT_MAX; ++worker) {
    const std::string path = directory + "/flows." + std::to_string(worker);
    if (::access(path.c_str(), F_OK) != 0) break;
    if (Status read = import_file(directory, worker, importer); !read) {
      importer.import.problem = read.error().message;
    }
    // A DPDK engine with as many workers would take it for its own later, long out of date.
    (void)::unlink(path.c_str());  // what cannot be removed is overwritten or refused by its number
  }
  return importer.import;
}

Import import_flows(std::span<mr_flow_record> records, std::span<const mr_xdp_last_hop> last_hops,
                    const Maps& into) {
  Importer importer(into);
  for (mr_flow_record& record : records) {
    const StateWord word = load_state(record);
    const mr_flow_record taken = record;
    std::atomic_thread_fence(std::memory_order_acquire);
    // Programs may be using it: what changes meanwhile is left to the lookup table.
    if (!is_flow(word.state()) || load_state(record).word != word.word) continue;
    if (taken.last_hop < last_hops.size()) importer.enter(taken, last_hops[taken.last_hop].word);
  }
  return importer.import;
}

}  // namespace millrace::xdp

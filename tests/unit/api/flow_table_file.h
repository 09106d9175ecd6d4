// SPDX-License-Identifier: Apache-2.0
//
// A real flow table in a file, as an engine leaves it, for tests of who reads it.
#pragma once

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/wire.h"

namespace millrace::test {

struct FlowSpec {
  mr_addr client{};
  std::uint16_t client_port = 0;
  std::uint8_t protocol = MR_PROTOCOL_TCP;
  mr_flow_state state = MR_FLOW_ESTABLISHED;
  std::uint32_t listener_id = 0;
  std::uint32_t target_id = 0;
  std::uint32_t last_seen_tick = 0;
  std::uint16_t flags = 0;
};

class FlowTableFile {
 public:
  explicit FlowTableFile(std::uint32_t capacity, std::uint32_t worker = 0)
      : bytes_(core::FlowTable::bytes_for(capacity)),
        memory_(static_cast<std::byte*>(std::aligned_alloc(64, (bytes_ + 63) / 64 * 64))),
        table_(format(capacity, worker)) {}

  void add(const FlowSpec& flow) {
    const auto key = core::ClientKey::of(core::words_of(flow.client),
                                         core::to_be16(flow.client_port), flow.protocol);
    const std::uint32_t index = table_.insert(table_.hash(key), key, flow.state);
    mr_flow_record& record = table_.record(index);
    record.listener_id = flow.listener_id;
    record.target_id = flow.target_id;
    record.last_seen_tick = flow.last_seen_tick;
    record.flags = flow.flags;
  }

  void write(const std::string& path) const {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(memory_.get()), static_cast<std::streamsize>(bytes_));
  }

  [[nodiscard]] mr_flow_table_header& header() {
    return *reinterpret_cast<mr_flow_table_header*>(memory_.get());
  }
  [[nodiscard]] core::FlowTable& table() { return table_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  core::FlowTable format(std::uint32_t capacity, std::uint32_t worker) {
    std::fill_n(memory_.get(), bytes_, std::byte{0});
    return core::FlowTable::format({memory_.get(), bytes_}, {.capacity = capacity,
                                                             .worker_index = worker,
                                                             .worker_count = 1,
                                                             .secret = {1, 2, 3, 4},
                                                             .created_ns = 1,
                                                             .creator_pid = 1});
  }

  std::size_t bytes_;
  std::unique_ptr<std::byte[], Free> memory_;
  core::FlowTable table_;
};

}  // namespace millrace::test

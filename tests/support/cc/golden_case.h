// SPDX-License-Identifier: Apache-2.0
//
// Golden packets: cases in text files (tests/packets/README.md) that say what an engine does with
// which packet. Cold.
//
// A case knows nothing of the engine. run_case() drives any Engine: core's Forwarder today, another
// engine with the same files.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/packet.h"
#include "tests/support/cc/frame_text.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {

struct Frame {
  Bytes bytes;
  std::uint8_t nic = 0;
};

struct Outcome {
  core::VerdictKind kind = core::VerdictKind::drop;
  std::uint8_t nic = 0;
  std::uint8_t reason = 0;  // of a drop
  Bytes bytes;              // the frame as the engine left it
};

struct FlowSight {
  std::uint8_t state = MR_FLOW_FREE;  // free: no such flow
  std::uint32_t target_slot = 0;
};

struct EngineCounters {
  std::array<std::uint64_t, MR_COUNTER_COUNT> counters{};
  std::array<std::uint64_t, MR_DROP_REASON_COUNT> drops{};
};

// What a case needs of an engine. One worker, one flow table that survives restart().
class Engine {
 public:
  virtual ~Engine() = default;
  // Shorter frames cannot be given to it.
  [[nodiscard]] virtual std::size_t frame_bytes_min() const { return 1; }
  virtual void adopt(const Image& image) = 0;
  // At most core::kBurstMax frames, handled as one burst.
  [[nodiscard]] virtual std::vector<Outcome> run(const std::vector<Frame>& frames,
                                                 std::uint64_t now_ns) = 0;
  // Looks at every flow once, as housekeeping does within a second.
  virtual void sweep(std::uint64_t now_ns) = 0;
  // The process ends and another one takes over the flow table; the config is adopted anew.
  virtual void restart() = 0;
  [[nodiscard]] virtual EngineCounters counters() const = 0;
  // True when the gauges of active flows, of the worker and of each target, are what the flow table
  // holds.
  [[nodiscard]] virtual bool gauges_agree() const = 0;
  [[nodiscard]] virtual FlowSight flow_of(const mr_addr& client, std::uint16_t client_port,
                                          std::uint8_t protocol) const = 0;
};

using MacTable = std::vector<std::array<std::uint8_t, 6>>;  // by nic index
using EngineMaker = std::unique_ptr<Engine> (*)(const MacTable& nic_macs);

// One line of a case, split into words but not yet understood.
struct GoldenLine {
  std::uint32_t number = 0;
  std::string text;
  std::vector<std::string> words;
};

struct GoldenCase {
  std::string name;
  std::vector<GoldenLine> config;  // shared by the cases of a file
  std::vector<GoldenLine> steps;
};

// Reads one file and what it uses. An error names file and line.
[[nodiscard]] Result<std::vector<GoldenCase>> read_golden_file(const std::filesystem::path& path);

// How packets that follow each other without another step between them reach the engine. What comes
// out must not depend on it.
enum class Bursts : std::uint8_t { one_by_one, together };

// "" when everything was as the case says, otherwise what was not, with its line.
[[nodiscard]] std::string run_case(const GoldenCase& golden, EngineMaker make_engine,
                                   Bursts bursts);

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/golden_case.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "dataplane/core/counter_name.h"
#include "dataplane/core/drop_reason.h"
#include "tests/support/cc/golden_config.h"

namespace millrace::test {
namespace {

constexpr std::uint64_t kStartNs = 1'000'000'000'000;

// The counter of that name; MR_COUNTER_COUNT when there is none.
std::size_t counter_of(const std::string& name) {
  std::size_t counter = 0;
  while (counter < MR_COUNTER_COUNT && name != core::counter_name(counter)) ++counter;
  return counter;
}

const char* name_of(core::VerdictKind kind) {
  constexpr std::array kNames = {"forward", "reply", "punt", "drop", "hand_over"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string describe(const Outcome& outcome) {
  std::string text = name_of(outcome.kind);
  if (outcome.kind == core::VerdictKind::drop) {
    return text + " " + core::drop_reason_name(outcome.reason);
  }
  return text + " on nic " + std::to_string(outcome.nic);
}

// A packet of the case and what must become of it.
struct Expectation {
  GoldenLine line;  // of the verdict
  Frame in;
  Outcome outcome;
};

class Runner {
 public:
  Runner(const GoldenCase& golden, Bursts bursts) : golden_(golden), bursts_(bursts) {}

  std::string run(EngineMaker make_engine) {
    for (const GoldenLine& line : golden_.config) {
      if (Status status = config_.read(line); !status) return at(line, status.error().message);
    }
    engine_ = make_engine(config_.nic_macs());
    publish(true);
    for (const GoldenLine& line : golden_.steps) {
      if (Status status = step(line); !status) return at(line, status.error().message);
    }
    if (times_ != 0) return golden_.name + ": the last packet has no verdict";
    Status status = flush();
    if (!status) return status.error().message;
    return engine_->gauges_agree() ? "" : golden_.name + ": gauges of active flows are wrong";
  }

 private:
  // A verdict's failure may come to light at a later line, and then already names its own.
  static std::string at(const GoldenLine& line, const std::string& what) {
    if (what.starts_with("line ")) return what;
    return "line " + std::to_string(line.number) + ": " + line.text + "\n" + what;
  }

  void publish(bool keeps_history) {
    auto next = std::make_unique<Image>(
        config_.builder().build(++generation_, keeps_history ? image_.get() : nullptr));
    engine_->adopt(*next);
    previous_ = std::move(image_);
    image_ = std::move(next);
  }

  Status step(const GoldenLine& line) {
    const std::string& word = line.words[0];
    if (word == "in") return read_packet(line);
    if (word == "forward" || word == "reply" || word == "punt" || word == "drop") {
      return read_verdict(line);
    }
    if (Status status = flush(); !status) return status;
    if (word == "wait") return wait(line);
    if (word == "counters") return check_counters(line);
    if (word == "flow") return check_flow(line);
    if (word == "sweep") engine_->sweep(now_ns_);
    if (word == "publish") publish(line.words.size() == 1);
    if (word == "restart") {
      engine_->restart();
      counted_ = {};
    }
    if (word == "sweep" || word == "publish" || word == "restart") return ok();
    return config_.change(line);
  }

  // in [nic N] [times N] PACKET
  Status read_packet(const GoldenLine& line) {
    if (times_ != 0) return Error{"the packet before this one has no verdict"};
    std::size_t at = 1;
    in_ = {};
    times_ = 1;
    for (; at + 1 < line.words.size(); at += 2) {
      if (line.words[at] != "nic" && line.words[at] != "times") break;
      const auto number = number_of(line.words[at + 1]);
      if (!number) return number.error();
      if (line.words[at] == "nic") in_.nic = static_cast<std::uint8_t>(*number);
      if (line.words[at] == "times") times_ = *number;
    }
    auto frame = config_.frame(line, at);
    if (!frame) return frame.error();
    in_.bytes = *frame;
    return ok();
  }

  // forward [nic N] PACKET | reply [nic N] PACKET | punt | drop REASON
  Status read_verdict(const GoldenLine& line) {
    if (times_ == 0) return Error{"a verdict without a packet"};
    Expectation expected{line, in_, {}};
    if (Status status = fill_outcome(line, expected.outcome); !status) return status;
    for (; times_ != 0; --times_) {
      waiting_.push_back(expected);
      const bool is_full = waiting_.size() == core::kBurstMax;
      if (bursts_ == Bursts::together && !is_full) continue;
      if (Status status = flush(); !status) return status;
    }
    return ok();
  }

  Status fill_outcome(const GoldenLine& line, Outcome& outcome) {
    const std::string& word = line.words[0];
    if (word == "drop") {
      outcome.kind = core::VerdictKind::drop;
      const std::string reason = line.words.size() == 2 ? line.words[1] : "";
      for (std::uint32_t i = 1; i < MR_DROP_REASON_COUNT; ++i) {
        if (reason == core::drop_reason_name(i)) outcome.reason = static_cast<std::uint8_t>(i);
      }
      return outcome.reason != 0 ? ok() : Error{"no such drop reason: " + reason};
    }
    if (word == "punt") {
      outcome.kind = core::VerdictKind::punt;
      outcome.nic = in_.nic;
      outcome.bytes = in_.bytes;
      return ok();
    }
    outcome.kind = word == "forward" ? core::VerdictKind::forward : core::VerdictKind::reply;
    std::size_t at = 1;
    outcome.nic = in_.nic;
    if (line.words.size() > 2 && line.words[1] == "nic") {
      const auto nic = number_of(line.words[2]);
      if (!nic) return nic.error();
      outcome.nic = static_cast<std::uint8_t>(*nic);
      at = 3;
    }
    auto frame = config_.frame(line, at);
    if (!frame) return frame.error();
    outcome.bytes = *frame;
    return ok();
  }

  // Gives the engine what is waiting and compares; then the counters of verdicts must balance.
  Status flush() {
    if (waiting_.empty()) return ok();
    const EngineCounters before = engine_->counters();
    std::vector<Frame> frames;
    for (const Expectation& expected : waiting_) frames.push_back(expected.in);
    const std::vector<Outcome> outcomes = engine_->run(frames, now_ns_);
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      if (Status status = compare(waiting_[i], outcomes[i]); !status) {
        return Error{at(waiting_[i].line, status.error().message)};
      }
    }
    Status status = check_balance(before, engine_->counters());
    waiting_.clear();
    return status;
  }

  static Status compare(const Expectation& expected, const Outcome& actual) {
    const Outcome& wanted = expected.outcome;
    const bool is_drop = wanted.kind == core::VerdictKind::drop;
    if (wanted.kind != actual.kind || (is_drop && wanted.reason != actual.reason) ||
        (!is_drop && wanted.nic != actual.nic)) {
      return Error{"expected " + describe(wanted) + ", got " + describe(actual)};
    }
    if (!is_drop && wanted.bytes != actual.bytes) {
      return Error{difference_of(wanted.bytes, actual.bytes)};
    }
    return ok();
  }

  // Every packet is counted in exactly one place.
  Status check_balance(const EngineCounters& before, const EngineCounters& after) const {
    std::map<std::string, std::int64_t> wrong;
    for (const Expectation& expected : waiting_) --wrong[describe_kind(expected.outcome)];
    for (std::uint32_t i = 0; i < MR_DROP_REASON_COUNT; ++i) {
      wrong[std::string("drop ") + core::drop_reason_name(i)] +=
          static_cast<std::int64_t>(after.drops[i] - before.drops[i]);
    }
    for (const auto& [name, counter] : {std::pair{"forward", MR_COUNTER_FORWARDED_PACKETS},
                                        std::pair{"reply", MR_COUNTER_REPLIED_PACKETS},
                                        std::pair{"punt", MR_COUNTER_PUNTED_PACKETS}}) {
      wrong[name] += static_cast<std::int64_t>(after.counters[counter] - before.counters[counter]);
    }
    for (const auto& [name, excess] : wrong) {
      if (excess == 0) continue;
      return Error{"counter of '" + name + "' is " + std::to_string(excess) + " too high"};
    }
    return ok();
  }

  static std::string describe_kind(const Outcome& outcome) {
    return outcome.kind == core::VerdictKind::drop ? describe(outcome) : name_of(outcome.kind);
  }

  // wait N s|ms
  Status wait(const GoldenLine& line) {
    if (line.words.size() != 3) return Error{"wait N s, or wait N ms"};
    const auto number = number_of(line.words[1]);
    if (!number) return number.error();
    now_ns_ += *number * (line.words[2] == "ms" ? 1'000'000 : 1'000'000'000);
    return ok();
  }

  // counters NAME GROWTH ...: since the last such line, or the start
  Status check_counters(const GoldenLine& line) {
    const EngineCounters now = engine_->counters();
    std::string wrong;
    for (std::size_t i = 1; i + 1 < line.words.size(); i += 2) {
      const std::size_t index = counter_of(line.words[i]);
      if (index == MR_COUNTER_COUNT) return Error{"no such counter: " + line.words[i]};
      const auto wanted = number_of(line.words[i + 1]);
      if (!wanted) return wanted.error();
      const std::uint64_t grown = now.counters[index] - counted_.counters[index];
      if (grown != *wanted) wrong += line.words[i] + " grew by " + std::to_string(grown) + "; ";
    }
    counted_ = now;
    return wrong.empty() ? ok() : Error{wrong};
  }

  // flow CLIENT PORT tcp|udp none | state STATE [target NAME]
  Status check_flow(const GoldenLine& line) {
    if (line.words.size() < 5) return Error{"flow CLIENT PORT tcp|udp none, or state STATE"};
    const auto client = named_addr_of(line.words[1], config_.names());
    if (!client) return client.error();
    const auto port = number_of(line.words[2]);
    if (!port) return port.error();
    const std::uint8_t protocol = line.words[3] == "tcp" ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP;
    const FlowSight flow = engine_->flow_of(*client, static_cast<std::uint16_t>(*port), protocol);
    const std::string state = core::flow_state_name(flow.state);
    const std::string wanted = line.words[4] == "none" ? "free" : line.words.at(5);
    if (state != wanted) return Error{"its state is " + state};
    if (line.words.size() == 8 && config_.target_slot(line.words[7]) != flow.target_slot) {
      return Error{"its target is slot " + std::to_string(flow.target_slot)};
    }
    return ok();
  }

  const GoldenCase& golden_;
  Bursts bursts_;
  GoldenConfig config_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Image> image_;
  std::unique_ptr<Image> previous_;
  std::uint64_t generation_ = 0;
  std::uint64_t now_ns_ = kStartNs;
  Frame in_;
  std::uint64_t times_ = 0;  // of the packet that waits for its verdict
  std::vector<Expectation> waiting_;
  EngineCounters counted_;
};

// Lines without comments and blank ones; a line that starts with white space goes on with the one
// before.
Result<std::vector<GoldenLine>> read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return Error{path.string() + ": cannot be read"};
  std::vector<GoldenLine> lines;
  std::uint32_t number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    if (text.starts_with('#') || text.find_first_not_of(' ') == std::string::npos) continue;
    if (text.starts_with(' ') && !lines.empty()) {
      lines.back().text += " " + text.substr(text.find_first_not_of(' '));
    } else {
      lines.push_back({number, text, {}});
    }
    lines.back().words = words_of_line(lines.back().text);
  }
  return lines;
}

}  // namespace

Result<std::vector<GoldenCase>> read_golden_file(const std::filesystem::path& path) {
  auto lines = read_lines(path);
  if (!lines) return lines.error();
  std::vector<GoldenLine> config;
  std::vector<GoldenCase> cases;
  for (const GoldenLine& line : *lines) {
    if (line.words[0] == "use" && line.words.size() == 2 && cases.empty()) {
      auto used = read_lines(path.parent_path() / line.words[1]);
      if (!used) return used.error();
      config.insert(config.end(), used->begin(), used->end());
    } else if (line.words[0] == "case" && line.words.size() == 2) {
      cases.push_back({line.words[1], config, {}});
    } else if (cases.empty()) {
      config.push_back(line);
    } else {
      cases.back().steps.push_back(line);
    }
  }
  if (cases.empty()) return Error{path.string() + ": no case"};
  return cases;
}

std::string run_case(const GoldenCase& golden, EngineMaker make_engine, Bursts bursts) {
  return Runner(golden, bursts).run(make_engine);
}

}  // namespace millrace::test

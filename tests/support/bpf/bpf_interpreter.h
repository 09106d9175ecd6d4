// SPDX-License-Identifier: Apache-2.0
//
// Runs an XDP program instruction by instruction and counts them: what a packet costs without a
// clock. Cold.
//
// It takes what the kernel was given (after libbpf's relocations) and works on the same maps, so
// that a program can go on in one where the other left off. Loads and stores are not checked: the
// kernel's verifier has done that. What the kernel does on top is not counted: it puts the array
// lookup in place of its call and leaves out branches that read-only data decides.
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace::test {

class BpfInterpreter {
 public:
  struct Map {
    int fd = -1;
    std::uint32_t value_bytes = 0;
    std::uint32_t entry_count = 0;
    std::byte* values = nullptr;  // of an array, mapped; null: a device map, or a hash
    bool is_hash = false;         // a helper goes to the kernel's map
  };
  struct Run {
    std::uint32_t verdict = 0;  // enum xdp_action
    std::uint64_t instructions = 0;
    std::uint64_t helper_calls = 0;
    std::vector<std::uint8_t> frame;  // as the program left it
  };

  // `instructions`: the program and behind it the functions that it calls.
  BpfInterpreter(std::span<const bpf_insn> instructions, std::vector<Map> maps);

  // The CPU that it runs as, 0 to begin with. Interpreters of one program that run as different
  // CPUs may do so in different threads.
  void set_cpu(std::uint32_t cpu) { cpu_ = cpu; }

  // Runs the program on `frame`, which came in by interface `ifindex`. The clocks stand still. Ends
  // the process at an instruction or helper that it does not know.
  [[nodiscard]] Run run(std::span<const std::uint8_t> frame, std::uint32_t ifindex);

 private:
  static constexpr std::size_t kRegisters = 11;
  static constexpr std::size_t kSavedRegisters = 4;  // r6 to r9
  static constexpr std::size_t kStackBytes = 512;    // of one function
  static constexpr std::size_t kCallDepthMax = 8;

  struct Call {
    std::array<std::uint64_t, kSavedRegisters> saved;
    std::size_t return_to;
  };

  // bpf_interpreter.cc; each returns where to go on.
  std::size_t step(std::size_t at);
  std::size_t load_constant(std::size_t at);
  std::size_t jump(std::size_t at);
  std::size_t enter(std::size_t at, std::size_t function);
  std::size_t leave();
  [[nodiscard]] std::uint64_t operand(const bpf_insn& insn) const;
  void compute(const bpf_insn& insn);
  void load(const bpf_insn& insn);
  void store(const bpf_insn& insn);
  void change_atomically(const bpf_insn& insn);

  // bpf_helpers.cc
  void call_helper(std::int32_t helper);
  [[nodiscard]] const Map& map_of(std::int32_t fd) const;
  [[nodiscard]] std::uint64_t lookup(const Map& map, std::uint32_t key) const;
  [[nodiscard]] std::uint64_t lookup_hash(const Map& map, const void* key);
  [[nodiscard]] std::uint64_t redirect(const Map& map, std::uint32_t key,
                                       std::uint64_t otherwise) const;
  [[nodiscard]] std::uint64_t adjust_head(std::int64_t by);
  [[nodiscard]] std::uint64_t adjust_tail(std::int64_t by);
  [[nodiscard]] bool is_context(std::uint64_t address) const;
  [[nodiscard]] std::uint64_t context_field(std::uint64_t address) const;

  std::uint32_t cpu_ = 0;
  std::span<const bpf_insn> instructions_;
  std::vector<Map> maps_;
  std::array<std::uint64_t, kRegisters> registers_{};
  std::vector<Call> calls_;
  std::vector<std::uint8_t> stack_;
  std::vector<std::byte> hash_value_;  // what was looked up last
  std::vector<std::uint8_t> memory_;   // room, the frame from start_ to end_, room
  std::size_t start_ = 0;
  std::size_t end_ = 0;
  xdp_md context_{};
  Run run_;
};

}  // namespace millrace::test

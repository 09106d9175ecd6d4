// SPDX-License-Identifier: Apache-2.0
//
// The instruction set (RFC 9669), as far as clang makes use of it with -mcpu=v3.
#include "tests/support/bpf/bpf_interpreter.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace millrace::test {
namespace {

constexpr std::uint64_t kInstructionsMax = 1'000'000;  // the verifier's own limit
constexpr std::size_t kHeadroom = 216;                 // the kernel's 256 less its own 40
constexpr std::size_t kTailroom = 2048;
constexpr std::uint8_t kStackPointer = 10;
constexpr std::size_t kFirstSaved = 6;

[[noreturn]] void refuse(const bpf_insn& insn) {
  std::fprintf(stderr, "bpf_interpreter: instruction %02x (imm %d) is unknown\n", insn.code,
               insn.imm);
  std::abort();
}

template <typename T>
T read(std::uint64_t address) {
  T value;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): registers hold addresses
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof(value));
  return value;
}
template <typename T>
void write(std::uint64_t address, std::uint64_t value) {
  const T narrow = static_cast<T>(value);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): registers hold addresses
  std::memcpy(reinterpret_cast<void*>(address), &narrow, sizeof(narrow));
}

std::uint64_t read_sized(const bpf_insn& insn, std::uint64_t address) {
  switch (BPF_SIZE(insn.code)) {
    case BPF_B:
      return read<std::uint8_t>(address);
    case BPF_H:
      return read<std::uint16_t>(address);
    case BPF_W:
      return read<std::uint32_t>(address);
    default:
      return read<std::uint64_t>(address);
  }
}

void write_sized(const bpf_insn& insn, std::uint64_t address, std::uint64_t value) {
  switch (BPF_SIZE(insn.code)) {
    case BPF_B:
      return write<std::uint8_t>(address, value);
    case BPF_H:
      return write<std::uint16_t>(address, value);
    case BPF_W:
      return write<std::uint32_t>(address, value);
    default:
      return write<std::uint64_t>(address, value);
  }
}

// T is the width of the instruction; its result goes to the low bits, zeros above.
template <typename T>
T result_of(const bpf_insn& insn, T left, T right) {
  constexpr T kShiftMask = sizeof(T) * 8 - 1;
  switch (BPF_OP(insn.code)) {
    case BPF_ADD:
      return left + right;
    case BPF_SUB:
      return left - right;
    case BPF_MUL:
      return left * right;
    case BPF_DIV:
      return right == 0 ? 0 : left / right;
    case BPF_MOD:
      return right == 0 ? left : left % right;
    case BPF_OR:
      return left | right;
    case BPF_AND:
      return left & right;
    case BPF_XOR:
      return left ^ right;
    case BPF_LSH:
      return left << (right & kShiftMask);
    case BPF_RSH:
      return left >> (right & kShiftMask);
    case BPF_ARSH:
      return static_cast<T>(static_cast<std::make_signed_t<T>>(left) >> (right & kShiftMask));
    case BPF_NEG:
      return T{0} - left;
    case BPF_MOV:
      return right;
    default:
      refuse(insn);
  }
}

// To or from network byte order, or cut to so many bits, on a little-endian machine.
std::uint64_t ordered(const bpf_insn& insn, std::uint64_t value) {
  const bool swaps = BPF_SRC(insn.code) == BPF_TO_BE;
  switch (insn.imm) {
    case 16:
      return swaps ? __builtin_bswap16(static_cast<std::uint16_t>(value)) : value & 0xffffu;
    case 32:
      return swaps ? __builtin_bswap32(static_cast<std::uint32_t>(value)) : value & 0xffffffffu;
    case 64:
      return swaps ? __builtin_bswap64(value) : value;
    default:
      refuse(insn);
  }
}

template <typename T>
bool holds(const bpf_insn& insn, T left, T right) {
  const auto signed_left = static_cast<std::make_signed_t<T>>(left);
  const auto signed_right = static_cast<std::make_signed_t<T>>(right);
  switch (BPF_OP(insn.code)) {
    case BPF_JEQ:
      return left == right;
    case BPF_JNE:
      return left != right;
    case BPF_JGT:
      return left > right;
    case BPF_JGE:
      return left >= right;
    case BPF_JLT:
      return left < right;
    case BPF_JLE:
      return left <= right;
    case BPF_JSET:
      return (left & right) != 0;
    case BPF_JSGT:
      return signed_left > signed_right;
    case BPF_JSGE:
      return signed_left >= signed_right;
    case BPF_JSLT:
      return signed_left < signed_right;
    case BPF_JSLE:
      return signed_left <= signed_right;
    default:
      refuse(insn);
  }
}

// An immediate is signed, also where an unsigned register meets it.
std::uint64_t widened(std::int32_t imm) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(imm));
}

std::size_t moved(std::size_t at, std::int64_t by) {
  return static_cast<std::size_t>(static_cast<std::int64_t>(at) + by);
}

}  // namespace

BpfInterpreter::BpfInterpreter(std::span<const bpf_insn> instructions, std::vector<Map> maps)
    : instructions_(instructions), maps_(std::move(maps)), stack_(kStackBytes * kCallDepthMax) {}

BpfInterpreter::Run BpfInterpreter::run(std::span<const std::uint8_t> frame,
                                        std::uint32_t ifindex) {
  memory_.assign(kHeadroom, 0);
  memory_.insert(memory_.end(), frame.begin(), frame.end());
  start_ = kHeadroom;
  end_ = memory_.size();
  memory_.resize(memory_.size() + kTailroom);
  context_.ingress_ifindex = ifindex;
  run_ = {};
  calls_.clear();
  registers_.fill(0);
  registers_[1] = reinterpret_cast<std::uint64_t>(&context_);
  registers_[kStackPointer] = reinterpret_cast<std::uint64_t>(stack_.data() + stack_.size());
  for (std::size_t at = 0; at < instructions_.size();) {
    if (++run_.instructions > kInstructionsMax) {
      std::fprintf(stderr, "bpf_interpreter: the program does not end\n");
      std::abort();
    }
    at = step(at);
  }
  run_.verdict = static_cast<std::uint32_t>(registers_[0]);
  run_.frame.assign(memory_.begin() + static_cast<std::ptrdiff_t>(start_),
                    memory_.begin() + static_cast<std::ptrdiff_t>(end_));
  return run_;
}

std::size_t BpfInterpreter::step(std::size_t at) {
  const bpf_insn& insn = instructions_[at];
  switch (BPF_CLASS(insn.code)) {
    case BPF_LD:
      return load_constant(at);
    case BPF_LDX:
      load(insn);
      break;
    case BPF_ST:
    case BPF_STX:
      store(insn);
      break;
    case BPF_ALU:
    case BPF_ALU64:
      compute(insn);
      break;
    default:
      return jump(at);
  }
  return at + 1;
}

// 64 bits in two slots; with a source register the address of a map or of its values.
std::size_t BpfInterpreter::load_constant(std::size_t at) {
  const bpf_insn& insn = instructions_[at];
  const bpf_insn& next = instructions_[at + 1];
  if (insn.code != (BPF_LD | BPF_IMM | BPF_DW)) refuse(insn);
  std::uint64_t& target = registers_[insn.dst_reg];
  switch (insn.src_reg) {
    case 0:
      target = static_cast<std::uint32_t>(insn.imm) |
               std::uint64_t{static_cast<std::uint32_t>(next.imm)} << 32;
      break;
    case BPF_PSEUDO_MAP_FD:
      target = reinterpret_cast<std::uint64_t>(&map_of(insn.imm));
      break;
    case BPF_PSEUDO_MAP_VALUE:
      target = reinterpret_cast<std::uint64_t>(map_of(insn.imm).values + next.imm);
      break;
    default:
      refuse(insn);
  }
  return at + 2;
}

std::uint64_t BpfInterpreter::operand(const bpf_insn& insn) const {
  return BPF_SRC(insn.code) == BPF_X ? registers_[insn.src_reg] : widened(insn.imm);
}

void BpfInterpreter::compute(const bpf_insn& insn) {
  std::uint64_t& target = registers_[insn.dst_reg];
  if (BPF_OP(insn.code) == BPF_END) {
    target = ordered(insn, target);
  } else if (BPF_CLASS(insn.code) == BPF_ALU64) {
    target = result_of<std::uint64_t>(insn, target, operand(insn));
  } else {
    target = result_of<std::uint32_t>(insn, static_cast<std::uint32_t>(target),
                                      static_cast<std::uint32_t>(operand(insn)));
  }
}

void BpfInterpreter::load(const bpf_insn& insn) {
  if (BPF_MODE(insn.code) != BPF_MEM) refuse(insn);
  const std::uint64_t address = registers_[insn.src_reg] + widened(insn.off);
  registers_[insn.dst_reg] =
      is_context(address) ? context_field(address) : read_sized(insn, address);
}

void BpfInterpreter::store(const bpf_insn& insn) {
  if (BPF_MODE(insn.code) == BPF_ATOMIC) return change_atomically(insn);
  if (BPF_MODE(insn.code) != BPF_MEM) refuse(insn);
  const std::uint64_t value =
      BPF_CLASS(insn.code) == BPF_STX ? registers_[insn.src_reg] : widened(insn.imm);
  write_sized(insn, registers_[insn.dst_reg] + widened(insn.off), value);
}

namespace {

std::uint64_t changed(const bpf_insn& insn, std::uint64_t before, std::uint64_t source) {
  switch (insn.imm & ~BPF_FETCH) {
    case BPF_ADD:
      return before + source;
    case BPF_OR:
      return before | source;
    case BPF_AND:
      return before & source;
    case BPF_XOR:
      return before ^ source;
    case BPF_XCHG & ~BPF_FETCH:
      return source;
    default:
      refuse(insn);
  }
}

// What was there before. With BPF_CMPXCHG `source` replaces `wanted` only.
template <typename T>
std::uint64_t change(const bpf_insn& insn, std::uint64_t address, std::uint64_t source,
                     std::uint64_t wanted) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): registers hold addresses
  std::atomic_ref<T> value(*reinterpret_cast<T*>(address));
  if (insn.imm == BPF_CMPXCHG) {
    T before = static_cast<T>(wanted);
    (void)value.compare_exchange_strong(before, static_cast<T>(source));
    return before;
  }
  T before = value.load();
  while (!value.compare_exchange_weak(before, static_cast<T>(changed(insn, before, source)))) {
  }
  return before;
}

}  // namespace

// Other threads may interpret programs on the same maps.
void BpfInterpreter::change_atomically(const bpf_insn& insn) {
  const std::uint64_t address = registers_[insn.dst_reg] + widened(insn.off);
  std::uint64_t& source = registers_[insn.src_reg];
  const std::uint64_t before = BPF_SIZE(insn.code) == BPF_W
                                   ? change<std::uint32_t>(insn, address, source, registers_[0])
                                   : change<std::uint64_t>(insn, address, source, registers_[0]);
  if (insn.imm == BPF_CMPXCHG) {
    registers_[0] = before;
  } else if ((insn.imm & BPF_FETCH) != 0) {
    source = before;
  }
}

std::size_t BpfInterpreter::jump(std::size_t at) {
  const bpf_insn& insn = instructions_[at];
  const std::size_t there = moved(at + 1, insn.off);
  switch (BPF_OP(insn.code)) {
    case BPF_JA:
      return there;
    case BPF_EXIT:
      return leave();
    case BPF_CALL:
      if (insn.src_reg == BPF_PSEUDO_CALL) return enter(at, moved(at + 1, insn.imm));
      if (insn.src_reg != 0) refuse(insn);
      call_helper(insn.imm);
      return at + 1;
    default:
      break;
  }
  const std::uint64_t left = registers_[insn.dst_reg];
  const std::uint64_t right = operand(insn);
  const bool is_taken = BPF_CLASS(insn.code) == BPF_JMP
                            ? holds<std::uint64_t>(insn, left, right)
                            : holds<std::uint32_t>(insn, static_cast<std::uint32_t>(left),
                                                   static_cast<std::uint32_t>(right));
  return is_taken ? there : at + 1;
}

std::size_t BpfInterpreter::enter(std::size_t at, std::size_t function) {
  if (calls_.size() + 1 == kCallDepthMax) refuse(instructions_[at]);
  Call call{.saved = {}, .return_to = at + 1};
  std::copy_n(registers_.begin() + kFirstSaved, kSavedRegisters, call.saved.begin());
  calls_.push_back(call);
  registers_[kStackPointer] -= kStackBytes;
  return function;
}

std::size_t BpfInterpreter::leave() {
  if (calls_.empty()) return instructions_.size();
  const Call call = calls_.back();
  calls_.pop_back();
  std::copy_n(call.saved.begin(), kSavedRegisters, registers_.begin() + kFirstSaved);
  registers_[kStackPointer] += kStackBytes;
  return call.return_to;
}

}  // namespace millrace::test

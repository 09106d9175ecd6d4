// SPDX-License-Identifier: Apache-2.0
//
// Result<T>: a value or an Error, for cold code that can fail as part of its job (STYLE.md,
// "Errors"). Same verbs as std::expected, which g++ 12 and clang 14 do not both have in C++20 mode.
#pragma once

#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace millrace {

// What went wrong, in words for the operator: names the key, file or limit, and what to do about
// it.
struct Error {
  std::string message;

  // The same error seen from further out: "outer: inner".
  [[nodiscard]] Error within(const std::string& context) const {
    return Error{context + ": " + message};
  }
};

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that `return value;` and `return Error{...};` work.
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  // Calling value() of a failed Result, or error() of a good one, is a programmer error: aborts.
  [[nodiscard]] T& value() & { return *checked<0>(); }
  [[nodiscard]] const T& value() const& { return *checked<0>(); }
  [[nodiscard]] T&& value() && { return std::move(*checked<0>()); }
  [[nodiscard]] const Error& error() const { return *checked<1>(); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return checked<0>(); }
  const T* operator->() const { return checked<0>(); }

 private:
  template <std::size_t I>
  auto* checked() {
    auto* held = std::get_if<I>(&state_);
    if (held == nullptr) std::abort();
    return held;
  }
  template <std::size_t I>
  const auto* checked() const {
    const auto* held = std::get_if<I>(&state_);
    if (held == nullptr) std::abort();
    return held;
  }

  std::variant<T, Error> state_;
};

// For operations that return nothing but may fail: `Status s = ok();` or `return Error{...};`.
struct Ok {};
using Status = Result<Ok>;
[[nodiscard]] inline Status ok() { return Ok{}; }

}  // namespace millrace

// SPDX-License-Identifier: Apache-2.0
//
// Random values of every attribute, by the rows: one that is new is among them at once.
#pragma once

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "controlplane/model/attribute_tables.h"

namespace millrace::test {

inline std::string random_path() {
  std::string path = "/" + *rc::gen::container<std::string>(rc::gen::inRange<char>('!', '\x7f'));
  path.resize(std::min<std::size_t>(path.size(), 1024));
  return path;
}

inline std::string random_matcher() {
  std::string text;
  for (int i = *rc::gen::inRange(1, 4); i > 0; --i) {
    const int first = *rc::gen::inRange(200, 600);
    const int last = *rc::gen::inRange(first, 600);
    text += (text.empty() ? "" : ",") + std::to_string(first);
    if (last != first) text += "-" + std::to_string(last);
  }
  return text;
}

// A right value of an attribute that has a form of its own.
inline std::string random_special(std::string_view name) {
  if (name == "path") return random_path();
  if (name == "matcher") return random_matcher();
  if (name == "port") return *rc::gen::element<std::string>("traffic-port", "1", "65535");
  if (name == "millrace.tcp.mss_clamp") {
    return *rc::gen::element<std::string>("off", "auto", "536", "1460", "65495");
  }
  if (name == "millrace.health_check.host") {
    return *rc::gen::element<std::string>("null", "www.example.org", "a_b-1.example:65535",
                                          "10.0.0.1:1", "[2001:db8::1]", "[fd00::1]:8080",
                                          std::string(255, 'a'));
  }
  ADD_FAILURE() << "random_settings.h knows no right value of " << name;
  return "";
}

template <typename Subject>
struct RandomText {
  using Row = control::Attribute<Subject>;
  std::string_view name;

  std::string operator()(const typename Row::Number& number) const {
    const auto end = std::uint64_t{number.range.max} + 1;
    return std::to_string(*rc::gen::inRange<std::uint64_t>(number.range.min, end));
  }
  std::string operator()(const typename Row::Flag&) const {
    return *rc::gen::arbitrary<bool>() ? "true" : "false";
  }
  template <typename T>
  std::string operator()(const typename Row::template Choice<T>& choice) const {
    return std::string(*rc::gen::elementOf(control::accepted_words(choice.words)));
  }
  std::string operator()(const typename Row::Special&) const { return random_special(name); }
  std::string operator()(const typename Row::Fixed& fixed) const {
    return std::string(fixed.value);
  }
};

template <typename Subject>
std::string random_text(const control::Attribute<Subject>& row) {
  return std::visit(RandomText<Subject>{row.name}, row.value);
}

// Sets most attributes to a random value, if that is possible beside those that are set already.
template <typename Subject>
void randomise(std::span<const control::Attribute<Subject>> rows, Subject& subject) {
  for (const control::Attribute<Subject>& row : rows) {
    if (*rc::gen::inRange(0, 5) == 0) continue;
    Subject changed = subject;
    const Status set = read_value(row, random_text(row), changed);
    if (!set) ADD_FAILURE() << row.name << ": " << set.error().message;
    if (refusal(row, changed).empty()) subject = std::move(changed);
  }
}

// All but name, port and targets.
inline control::TargetGroup random_settings(control::Protocol protocol) {
  control::TargetGroup group = control::default_target_group(protocol);
  randomise(control::target_group_attributes(), group);
  group.health_check.timeout_ms = 50;  // which fits every interval
  randomise(control::health_check_settings(), group.health_check);
  group.health_check.timeout_ms = 50;
  randomise(control::health_check_attributes(), group.health_check);
  return group;
}

}  // namespace millrace::test

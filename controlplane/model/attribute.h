// SPDX-License-Identifier: Apache-2.0
//
// The form of a row that says all there is to say of an attribute. Cold and constant.
//
// The tables are in attribute_tables.h. Everything that deals with attributes walks them: config/
// reads and writes the file, store/ keeps what draining targets need, deploy/attributes.md and
// deploy/examples/full.yaml tell people (ARCHITECTURE.md, "An attribute is one row").
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "controlplane/model/model.h"
#include "controlplane/model/value_text.h"
#include "dataplane/core/result.h"

namespace millrace::control {

// `Subject` is what has the attribute: a TargetGroup, a HealthCheck, a Listener or a LoadBalancer.
// The default is that of the subject's member.
template <typename Subject>
struct Attribute {
  // The member is `scale` times the number.
  struct Number {
    std::variant<std::uint32_t Subject::*, std::uint16_t Subject::*> member;
    Range range;
    std::uint32_t scale = 1;
  };
  struct Flag {
    bool Subject::*member;
  };
  template <typename T>
  struct Choice {
    T Subject::*member;
    std::span<const Word<T>> words;
  };
  // A value with a form of its own. `allowed` follows "must be". `read` says whether the text is
  // right and leaves the subject alone when it is not.
  struct Special {
    std::string_view allowed;
    std::string (*text)(const Subject&);
    bool (*read)(std::string_view text, Subject&);
  };
  // NLB has it and this version does not vary it. Naming the value that it has is fine, so that a
  // group can be copied from elsewhere, and anything else is refused.
  struct Fixed {
    std::string_view value;
    std::string_view reason;
  };

  std::string_view name;  // as in the file
  std::variant<Number, Flag, Choice<Forwarding>, Choice<HealthCheckProtocol>, Choice<std::uint32_t>,
               Choice<Echo>, Choice<NoListener>, Special, Fixed>
      value;
  bool decides = false;  // what other attributes of the subject apply to
  // What the subject must be like, for people: "millrace.forwarding: gue". Empty: anything.
  std::string_view applies_to = {};
  // Why this value is impossible beside the subject's others; empty when it is possible.
  std::string (*refusal)(const Subject&) = nullptr;
  // The attribute that says the same in milliseconds, when there is one: of the two one is given.
  std::string_view in_milliseconds = {};
  // A sentence or more for people. Not of a fixed one: its reason is enough.
  std::string_view meaning = {};
};

// The value as the file and the API write it: "300", "true", "gue". Empty: it is not set.
template <typename Subject>
[[nodiscard]] std::string value_text(const Attribute<Subject>& row, const Subject& subject);

// Sets the value, or leaves the subject alone and says what is wrong with the text: "\"0\" must be
// a whole number, 1-65535".
template <typename Subject>
[[nodiscard]] Status read_value(const Attribute<Subject>& row, std::string_view text,
                                Subject& subject);

// Why the value that the subject has is impossible beside its others; empty when it is possible.
template <typename Subject>
[[nodiscard]] std::string refusal(const Attribute<Subject>& row, const Subject& subject) {
  return row.refusal == nullptr ? std::string() : row.refusal(subject);
}

// What may be written: "0-3600 seconds", "true, false".
template <typename Subject>
[[nodiscard]] std::string allowed_text(const Attribute<Subject>& row);

// False for what need not be kept: it never varies, or another row says the same more finely.
template <typename Subject>
[[nodiscard]] bool is_kept(const Attribute<Subject>& row) {
  using Fixed = typename Attribute<Subject>::Fixed;
  return !std::holds_alternative<Fixed>(row.value) && row.in_milliseconds.empty();
}

}  // namespace millrace::control

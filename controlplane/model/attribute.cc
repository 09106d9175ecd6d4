// SPDX-License-Identifier: Apache-2.0
#include "controlplane/model/attribute.h"

#include <cstdlib>
#include <type_traits>

namespace millrace::control {
namespace {

template <typename Subject>
struct Printer {
  using Row = Attribute<Subject>;
  const Subject& subject;

  std::string operator()(const typename Row::Number& number) const {
    const auto print = [&](auto member) { return std::to_string(subject.*member / number.scale); };
    return std::visit(print, number.member);
  }
  std::string operator()(const typename Row::Flag& flag) const {
    return subject.*flag.member ? "true" : "false";
  }
  template <typename T>
  std::string operator()(const typename Row::template Choice<T>& choice) const {
    for (const Word<T>& word : choice.words) {
      if (word.refusal.empty() && word.value == subject.*choice.member) {
        return std::string(word.text);
      }
    }
    std::abort();
  }
  std::string operator()(const typename Row::Special& special) const {
    return special.text(subject);
  }
  std::string operator()(const typename Row::Fixed& fixed) const {
    return std::string(fixed.value);
  }
};

template <typename Subject>
struct Reader {
  using Row = Attribute<Subject>;
  std::string_view text;
  Subject& subject;

  Status operator()(const typename Row::Number& number) const {
    const Result<std::uint32_t> value = parse_number(text, number.range);
    if (!value) return value.error();
    const auto set = [&](auto member) {
      using T = std::remove_reference_t<decltype(subject.*member)>;
      subject.*member = static_cast<T>(*value * number.scale);
    };
    std::visit(set, number.member);
    return ok();
  }
  Status operator()(const typename Row::Flag& flag) const {
    return choose<bool>(flag.member, kTrueFalse);
  }
  template <typename T>
  Status operator()(const typename Row::template Choice<T>& choice) const {
    return choose(choice.member, choice.words);
  }
  Status operator()(const typename Row::Special& special) const {
    if (special.read(text, subject)) return ok();
    return Error{quote(text) + " must be " + std::string(special.allowed)};
  }
  Status operator()(const typename Row::Fixed& fixed) const {
    if (text == fixed.value) return ok();
    return Error{quote(text) + " cannot be chosen; only " + std::string(fixed.value) +
                 " is possible: " + std::string(fixed.reason)};
  }

 private:
  template <typename T>
  Status choose(T Subject::*member, std::span<const Word<T>> words) const {
    const Result<T> value = parse_word(text, words);
    if (!value) return value.error();
    subject.*member = *value;
    return ok();
  }
};

template <typename Subject>
struct Describer {
  using Row = Attribute<Subject>;

  std::string operator()(const typename Row::Number& number) const {
    return range_text(number.range);
  }
  std::string operator()(const typename Row::Flag&) const {
    return join(accepted_words<bool>(kTrueFalse));
  }
  template <typename T>
  std::string operator()(const typename Row::template Choice<T>& choice) const {
    return join(accepted_words(choice.words));
  }
  std::string operator()(const typename Row::Special& special) const {
    return std::string(special.allowed);
  }
  std::string operator()(const typename Row::Fixed& fixed) const {
    return std::string(fixed.value);
  }
};

}  // namespace

template <typename Subject>
std::string value_text(const Attribute<Subject>& row, const Subject& subject) {
  return std::visit(Printer<Subject>{subject}, row.value);
}

template <typename Subject>
Status read_value(const Attribute<Subject>& row, std::string_view text, Subject& subject) {
  return std::visit(Reader<Subject>{text, subject}, row.value);
}

template <typename Subject>
std::string allowed_text(const Attribute<Subject>& row) {
  return std::visit(Describer<Subject>{}, row.value);
}

template std::string value_text(const Attribute<TargetGroup>&, const TargetGroup&);
template std::string value_text(const Attribute<HealthCheck>&, const HealthCheck&);
template std::string value_text(const Attribute<Listener>&, const Listener&);
template std::string value_text(const Attribute<LoadBalancer>&, const LoadBalancer&);
template Status read_value(const Attribute<TargetGroup>&, std::string_view, TargetGroup&);
template Status read_value(const Attribute<HealthCheck>&, std::string_view, HealthCheck&);
template Status read_value(const Attribute<Listener>&, std::string_view, Listener&);
template Status read_value(const Attribute<LoadBalancer>&, std::string_view, LoadBalancer&);
template std::string allowed_text(const Attribute<TargetGroup>&);
template std::string allowed_text(const Attribute<HealthCheck>&);
template std::string allowed_text(const Attribute<Listener>&);
template std::string allowed_text(const Attribute<LoadBalancer>&);

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Reads JSON without trusting its shape: what is missing or of another type reads as nothing, so
// that a command line of one version shows what it can of an answer of another. Cold.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::control {

// Points into a JSON value, which must outlive it.
class JsonView {
 public:
  JsonView(const boost::json::value* value) : value_(value) {}  // NOLINT: null reads as nothing

  [[nodiscard]] JsonView operator[](std::string_view key) const {
    const auto* object = value_ == nullptr ? nullptr : value_->if_object();
    return object == nullptr ? nullptr : object->if_contains({key.data(), key.size()});
  }
  [[nodiscard]] bool is_null() const { return value_ == nullptr || value_->is_null(); }
  [[nodiscard]] bool flag() const {
    return value_ != nullptr && value_->is_bool() && value_->get_bool();
  }
  [[nodiscard]] std::string text() const {
    const auto* string = value_ == nullptr ? nullptr : value_->if_string();
    return string == nullptr ? "" : std::string(string->data(), string->size());
  }
  [[nodiscard]] double number() const {
    if (value_ == nullptr) return 0;
    if (const auto* real = value_->if_double()) return *real;
    if (const auto* whole = value_->if_int64()) return static_cast<double>(*whole);
    if (const auto* large = value_->if_uint64()) return static_cast<double>(*large);
    return 0;
  }
  [[nodiscard]] std::uint64_t whole() const {
    if (value_ == nullptr) return 0;
    if (const auto* large = value_->if_uint64()) return *large;
    const auto* small = value_->if_int64();
    return small == nullptr || *small < 0 ? 0 : static_cast<std::uint64_t>(*small);
  }
  // A number, or the text that stands where there is not one number.
  [[nodiscard]] std::string whole_or_text() const {
    const std::string words = text();
    return words.empty() ? std::to_string(whole()) : words;
  }
  [[nodiscard]] std::vector<JsonView> items() const {
    std::vector<JsonView> views;
    const auto* array = value_ == nullptr ? nullptr : value_->if_array();
    if (array == nullptr) return views;
    for (const auto& item : *array) views.emplace_back(&item);
    return views;
  }
  [[nodiscard]] const boost::json::value* raw() const { return value_; }
  struct Field;
  [[nodiscard]] std::vector<Field> fields() const;

 private:
  const boost::json::value* value_;
};

struct JsonView::Field {
  std::string key;
  JsonView value;
};

inline std::vector<JsonView::Field> JsonView::fields() const {
  std::vector<Field> found;
  const auto* object = value_ == nullptr ? nullptr : value_->if_object();
  if (object == nullptr) return found;
  for (const auto& pair : *object) {
    found.push_back({std::string(pair.key().data(), pair.key().size()), &pair.value()});
  }
  return found;
}

}  // namespace millrace::control

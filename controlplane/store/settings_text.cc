// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store/settings_text.h"

#include <boost/json.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "controlplane/model/attribute_tables.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

constexpr std::string_view kAttributes = "attributes";
constexpr std::string_view kHealthCheck = "health_check";

// Also what does not apply now: it comes back as it was.
template <typename Subject>
void put_rows(json::object& section, std::span<const Attribute<Subject>> rows,
              const Subject& subject) {
  for (const Attribute<Subject>& row : rows) {
    if (!is_kept(row)) continue;
    std::string text = value_text(row, subject);
    if (!text.empty()) section[row.name] = std::move(text);
  }
}

template <typename Subject>
Status read_rows(const json::object& section, std::span<const Attribute<Subject>> rows,
                 Subject& subject) {
  for (const Attribute<Subject>& row : rows) {
    const json::value* value = section.if_contains(row.name);
    if (value == nullptr) continue;
    const json::string* text = value->if_string();
    if (text == nullptr) return Error{std::string(row.name) + " is no text"};
    if (*text == value_text(row, subject)) continue;  // also what is not set, and so no value
    if (Status set = read_value(row, *text, subject); !set) {
      return set.error().within(std::string(row.name));
    }
  }
  return ok();
}

// Empty when there is none: it says nothing.
json::object section_of(const json::object& whole, std::string_view key) {
  const json::value* section = whole.if_contains(key);
  const json::object* object = section == nullptr ? nullptr : section->if_object();
  return object == nullptr ? json::object() : *object;
}

}  // namespace

std::string settings_text(const TargetGroup& group) {
  json::object attributes;
  put_rows(attributes, target_group_attributes(), group);
  put_rows(attributes, health_check_attributes(), group.health_check);
  json::object health_check;
  put_rows(health_check, health_check_settings(), group.health_check);
  return json::serialize(
      json::object{{kAttributes, std::move(attributes)}, {kHealthCheck, std::move(health_check)}});
}

Status read_settings(const std::string& text, TargetGroup& group) {
  json::error_code failed;
  const json::value parsed = json::parse(text, failed);
  const json::object* whole = failed ? nullptr : parsed.if_object();
  if (whole == nullptr) return Error{"the settings are no JSON object"};
  const json::object attributes = section_of(*whole, kAttributes);
  if (Status read = read_rows(attributes, target_group_attributes(), group); !read) return read;
  if (Status read = read_rows(attributes, health_check_attributes(), group.health_check); !read) {
    return read;
  }
  return read_rows(section_of(*whole, kHealthCheck), health_check_settings(), group.health_check);
}

}  // namespace millrace::control

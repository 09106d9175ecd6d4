// SPDX-License-Identifier: Apache-2.0
//
// Reads the attributes that a map of the config file names, by their rows (model/attribute.h).
// Cold.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/attribute.h"
#include "controlplane/yaml/reader.h"

namespace millrace::control {

template <typename Subject>
void append_names(std::vector<std::string_view>& names, std::span<const Attribute<Subject>> rows) {
  for (const Attribute<Subject>& row : rows) names.push_back(row.name);
}

template <typename Subject>
class AttributeReader {
 public:
  AttributeReader(Subject& subject, ErrorList& errors) : subject_(subject), errors_(errors) {}

  // Sets those of `rows` that the map names. Reports values that are wrong by themselves.
  void read(const MapReader& map, std::span<const Attribute<Subject>> rows) {
    for (const Attribute<Subject>& row : rows) {
      if (const auto at = map.find(row.name)) read_one(row, *at);
    }
  }

  // After all of the subject is read: reports values that are impossible beside others.
  void judge() {
    for (const auto& [row, at] : given_) {
      if (!row->applies_to.empty() && !is_decided_) continue;
      if (std::string reason = refusal(*row, subject_); !reason.empty()) {
        errors_.add(at, std::move(reason));
      }
    }
  }

 private:
  struct Given {
    const Attribute<Subject>* row;
    Cursor at;
  };

  void read_one(const Attribute<Subject>& row, const Cursor& at) {
    const auto text = read_text(at, errors_);
    const Status set = text ? read_value(row, *text, subject_) : ok();
    if (text && set) {
      given_.push_back({&row, at});
      return;
    }
    if (!set) errors_.add(at, set.error().message);
    if (row.decides) is_decided_ = false;
  }

  Subject& subject_;
  ErrorList& errors_;
  std::vector<Given> given_;  // whose values are right by themselves
  bool is_decided_ = true;    // what attributes apply to; else that is reported already
};

}  // namespace millrace::control

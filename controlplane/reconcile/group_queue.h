// SPDX-License-Identifier: Apache-2.0
//
// Groups that wait to be worked out anew: first come, first served, each once however often it was
// asked for. Cold.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace millrace::control {

class GroupQueue {
 public:
  void add(const std::string& name) {
    const auto [waiting, is_new] = waiting_.insert(name);
    if (is_new) order_.push_back(&*waiting);  // nodes stay where they are
  }
  // The first `most`, or as many as there are.
  [[nodiscard]] std::vector<std::string> take(std::size_t most) {
    std::vector<std::string> names;
    for (; names.size() < most && !order_.empty(); order_.pop_front()) {
      names.push_back(std::move(waiting_.extract(*order_.front()).value()));
    }
    return names;
  }
  void clear() {
    order_.clear();
    waiting_.clear();
  }
  [[nodiscard]] bool is_empty() const { return order_.empty(); }

 private:
  std::unordered_set<std::string> waiting_;
  std::deque<const std::string*> order_;  // into waiting_
};

}  // namespace millrace::control

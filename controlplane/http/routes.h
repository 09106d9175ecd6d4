// SPDX-License-Identifier: Apache-2.0
//
// Who answers which request. Cold and pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "controlplane/http/message.h"

namespace millrace::control {

struct HttpRoute {
  std::string path;  // "/metrics": this path alone; "/console/", with a '/' at its end: all below
  std::vector<std::string> methods;
  std::size_t body_bytes_max = 0;  // 0: a body is not read
  HttpHandler handler;
};

class HttpRoutes {
 public:
  // `hint` says where something is, to whoever asks for what is not there.
  HttpRoutes(std::vector<HttpRoute> routes, std::string hint)
      : routes_(std::move(routes)), hint_(std::move(hint)) {}

  // The route with the longest path that fits, or the refusal: 404 when none fits, 405 when it does
  // not take the method. The pointer is valid as long as this object.
  using Found = std::variant<const HttpRoute*, HttpResponse>;
  [[nodiscard]] Found find(std::string_view method, std::string_view path) const;

 private:
  std::vector<HttpRoute> routes_;
  std::string hint_;
};

}  // namespace millrace::control

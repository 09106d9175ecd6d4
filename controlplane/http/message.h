// SPDX-License-Identifier: Apache-2.0
//
// A request and its answer as values: all that a handler sees of HTTP. Cold.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::control {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;               // "GET"
  std::string target;               // as it was sent: "/metrics", "/?Action=DescribeTargetHealth"
  std::vector<HttpHeader> headers;  // in order of arrival
  std::string body;

  // The target without what comes behind '?'.
  [[nodiscard]] std::string_view path() const {
    return std::string_view(target).substr(0, target.find('?'));
  }
  // The first header of that name, written in any case; "" when there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "text/plain";
  std::string body;
};

// Called on the io_context's thread, and never after its server is gone. Must not take long:
// everything else waits.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/message.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>

namespace millrace::control {

std::string_view HttpRequest::header(std::string_view name) const {
  const auto found = std::ranges::find_if(headers, [&](const HttpHeader& header) {
    return boost::beast::iequals({header.name.data(), header.name.size()},
                                 {name.data(), name.size()});
  });
  return found == headers.end() ? std::string_view() : found->value;
}

}  // namespace millrace::control

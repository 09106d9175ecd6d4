// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/routes.h"

#include <algorithm>

namespace millrace::control {

namespace {

bool fits(const HttpRoute& route, std::string_view path) {
  return route.path.ends_with('/') ? path.starts_with(route.path) : path == route.path;
}

}  // namespace

HttpRoutes::Found HttpRoutes::find(std::string_view method, std::string_view path) const {
  const HttpRoute* best = nullptr;
  for (const HttpRoute& route : routes_) {
    const bool is_better = best == nullptr || route.path.size() > best->path.size();
    if (is_better && fits(route, path)) best = &route;
  }
  if (best == nullptr) return HttpResponse{.status = 404, .body = hint_};
  if (std::ranges::find(best->methods, method) == best->methods.end()) {
    return HttpResponse{.status = 405, .body = hint_};
  }
  return best;
}

}  // namespace millrace::control

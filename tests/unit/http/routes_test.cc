// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/routes.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

HttpRoute route(const std::string& path, std::vector<std::string> methods = {"GET"}) {
  return {.path = path, .methods = std::move(methods), .handler = {}};
}

// The path of the route that was found, or the status of the refusal.
std::string found(const HttpRoutes& routes, const char* method, const char* path) {
  const HttpRoutes::Found found = routes.find(method, path);
  if (const auto* refusal = std::get_if<HttpResponse>(&found)) {
    EXPECT_EQ(refusal->body, "hint");
    return std::to_string(refusal->status);
  }
  return std::get<const HttpRoute*>(found)->path;
}

TEST(HttpRoutes, path_without_a_slash_at_its_end_is_that_path_alone) {
  const HttpRoutes routes({route("/metrics")}, "hint");
  EXPECT_EQ(found(routes, "GET", "/metrics"), "/metrics");
  for (const char* other : {"/", "", "*", "/metric", "/metrics/", "/metricsx", "/metrics/x"}) {
    EXPECT_EQ(found(routes, "GET", other), "404") << other;
  }
}

TEST(HttpRoutes, path_with_a_slash_at_its_end_is_all_below) {
  const HttpRoutes routes({route("/console/")}, "hint");
  EXPECT_EQ(found(routes, "GET", "/console/"), "/console/");
  EXPECT_EQ(found(routes, "GET", "/console/css/main"), "/console/");
  EXPECT_EQ(found(routes, "GET", "/console"), "404");
}

TEST(HttpRoutes, longest_path_wins_whatever_the_order) {
  const HttpRoutes routes({route("/console/"), route("/"), route("/console/api/")}, "hint");
  EXPECT_EQ(found(routes, "GET", "/console/api/x"), "/console/api/");
  EXPECT_EQ(found(routes, "GET", "/console/x"), "/console/");
  EXPECT_EQ(found(routes, "GET", "/x"), "/");
}

TEST(HttpRoutes, method_that_a_path_does_not_take_is_told_from_a_path_that_is_not_there) {
  const HttpRoutes routes({route("/", {"GET", "POST"}), route("/metrics")}, "hint");
  EXPECT_EQ(found(routes, "POST", "/"), "/");
  EXPECT_EQ(found(routes, "POST", "/metrics"), "405");
  EXPECT_EQ(found(routes, "get", "/metrics"), "405");
}

TEST(HttpRequest, header_is_found_in_any_case_and_the_first_counts) {
  HttpRequest request{.method = "GET", .target = "/?a=b?c", .headers = {}, .body = {}};
  request.headers = {{"X-One", "1"}, {"x-one", "2"}};
  EXPECT_EQ(request.header("x-ONE"), "1");
  EXPECT_EQ(request.header("x-on"), "");
  EXPECT_EQ(request.path(), "/");
}

}  // namespace
}  // namespace millrace::control

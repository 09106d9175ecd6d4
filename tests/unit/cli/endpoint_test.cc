// SPDX-License-Identifier: Apache-2.0
//
// Addresses with and without ports, as people type them.
#include "controlplane/cli/endpoint.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

TEST(EndpointTest, address_and_port_are_read_in_every_form) {
  struct Case {
    const char* text;
    const char* address;
    std::optional<std::uint16_t> port;
  };
  for (const Case& c :
       {Case{"10.0.1.11", "10.0.1.11", {}}, Case{"10.0.1.11:8080", "10.0.1.11", 8080},
        Case{"2001:db8::1", "2001:db8::1", {}}, Case{"::", "::", {}},
        Case{"[2001:db8::1]", "2001:db8::1", {}}, Case{"[2001:db8::1]:1", "2001:db8::1", 1},
        Case{"[::1]:65535", "::1", 65535}}) {
    const auto endpoint = parse_endpoint(c.text);
    ASSERT_TRUE(endpoint) << c.text;
    EXPECT_EQ(endpoint->address.to_string(), c.address);
    EXPECT_EQ(endpoint->port, c.port);
  }
}

TEST(EndpointTest, anything_else_is_refused_with_examples) {
  for (const char* text :
       {"", ":", ":80", "10.0.1.11:", "10.0.1.11:0", "10.0.1.11:65536", "10.0.1.11:-1",
        "10.0.1.11:8 0", "10.0.1.11:80x", "[10.0.1.11]:80", "[2001:db8::1", "[2001:db8::1]80",
        "[2001:db8::1]:", "[]:80", "2001:db8::1]:80", "web:80", "fe80::1%eth0"}) {
    const auto endpoint = parse_endpoint(text);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_NE(endpoint.error().message.find("[2001:db8::1]:8080"), std::string::npos);
  }
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Clients of an HTTP server in the test's own io_context, over real sockets, in small steps.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace millrace::test {

class HttpClient {
 public:
  explicit HttpClient(boost::asio::io_context& io) : socket_(io) {}

  void connect(std::uint16_t port, const std::string& request,
               const std::string& address = "127.0.0.1") {
    namespace asio = boost::asio;
    boost::system::error_code error;
    (void)socket_.connect({asio::ip::make_address(address), port}, error);
    ASSERT_FALSE(error) << error.message();
    asio::write(socket_, asio::buffer(request));
    asio::async_read(socket_, asio::dynamic_buffer(response_),
                     [this](const auto&, std::size_t) { is_done_ = true; });
  }
  void send(const std::string& text) { boost::asio::write(socket_, boost::asio::buffer(text)); }
  [[nodiscard]] bool is_done() const { return is_done_; }  // the server closed the connection
  [[nodiscard]] const std::string& response() const { return response_; }
  [[nodiscard]] std::string body() const {
    return response_.substr(response_.find("\r\n\r\n") + 4);
  }

 private:
  boost::asio::ip::tcp::socket socket_;
  std::string response_;
  bool is_done_ = false;
};

class LoopbackTest : public ::testing::Test {
 protected:
  // False when it has not become true within the limit.
  template <typename Predicate>
  [[nodiscard]] bool becomes_true(Predicate is_true,
                                  std::chrono::milliseconds limit = std::chrono::seconds(5)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!is_true() && std::chrono::steady_clock::now() < deadline) {
      io_.restart();
      io_.run_one_until(deadline);
    }
    return is_true();
  }

  std::string response_of(std::uint16_t port, const std::string& request,
                          const std::string& address = "127.0.0.1") {
    HttpClient client(io_);
    client.connect(port, request, address);
    EXPECT_TRUE(becomes_true([&] { return client.is_done(); }));
    return client.response();
  }

  boost::asio::io_context io_;
};

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// Servers on loopback that behave badly in one way each, and a socket that answers nothing, for
// tests of what probes them. Everything runs on the test's io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/model/model.h"
#include "tests/support/cc/address.h"

namespace millrace::test {

using boost::asio::ip::tcp;

// Runs `io` until `is_true` or until `limit` has passed; returns whether it became true.
template <typename Predicate>
[[nodiscard]] bool becomes_true(boost::asio::io_context& io, Predicate is_true,
                                std::chrono::milliseconds limit = std::chrono::seconds(5)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!is_true() && std::chrono::steady_clock::now() < deadline) {
    io.restart();
    io.run_one_until(deadline);
  }
  return is_true();
}

// Accepts, reads up to the end of a request's header, sends `response`, and then closes or not.
class FakeServer {
 public:
  struct Behaviour {
    std::string response;
    bool reads_request = true;
    bool closes = true;
  };

  FakeServer(boost::asio::io_context& io, Behaviour behaviour, const char* address = "127.0.0.1")
      : acceptor_(io, {boost::asio::ip::make_address(address), 0}),
        behaviour_(std::move(behaviour)) {
    accept();
  }

  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  [[nodiscard]] const std::string& last_request() const { return last_request_; }
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  [[nodiscard]] const std::vector<std::chrono::steady_clock::time_point>& accepted() const {
    return accepted_;
  }
  void set_behaviour(Behaviour behaviour) { behaviour_ = std::move(behaviour); }

  // What writing the last answer ended with; none while it goes on.
  [[nodiscard]] const std::optional<boost::system::error_code>& answer_end() const {
    return answer_end_;
  }

  // How the peer of the last connection ended it: eof, or a reset; would_block while it has not.
  [[nodiscard]] boost::system::error_code end_of_peer() {
    if (connections_.empty()) return boost::asio::error::would_block;
    char byte = 0;
    boost::system::error_code error;
    connections_.back()->non_blocking(true);
    (void)connections_.back()->read_some(boost::asio::buffer(&byte, 1), error);
    return error;
  }
  [[nodiscard]] bool peer_has_closed() {
    const auto end = end_of_peer();
    return end && end != boost::asio::error::would_block;
  }

  // On the last connection, which is kept open: a few more bytes, or the end.
  [[nodiscard]] boost::system::error_code send(const std::string& bytes) {
    boost::system::error_code error;
    (void)boost::asio::write(*connections_.back(), boost::asio::buffer(bytes), error);
    return error;
  }
  void end() {
    boost::system::error_code ignored;
    (void)connections_.back()->shutdown(tcp::socket::shutdown_send, ignored);
  }

 private:
  void accept() {
    acceptor_.async_accept([this](const auto& error, tcp::socket socket) {
      if (error) return;
      accepted_.push_back(std::chrono::steady_clock::now());
      connections_.push_back(std::make_shared<tcp::socket>(std::move(socket)));
      serve(connections_.back());
      accept();
    });
  }

  void serve(const std::shared_ptr<tcp::socket>& socket) {
    if (!behaviour_.reads_request) return answer(socket);
    auto request = std::make_shared<std::string>();
    auto buffer = boost::asio::dynamic_buffer(*request);
    boost::asio::async_read(
        *socket, buffer,
        [request](const auto& error, std::size_t) -> std::size_t {
          return error || request->ends_with("\r\n\r\n") ? 0 : 4096;
        },
        [this, socket, request](const auto& error, std::size_t) {
          if (error) return;
          last_request_ = *request;
          answer(socket);
        });
  }

  void answer(const std::shared_ptr<tcp::socket>& socket) {
    auto response = std::make_shared<std::string>(behaviour_.response);
    boost::asio::async_write(*socket, boost::asio::buffer(*response),
                             [this, socket, response](const auto& error, std::size_t) {
                               answer_end_ = error;
                               boost::system::error_code ignored;
                               if (behaviour_.closes) socket->close(ignored);
                             });
  }

  tcp::acceptor acceptor_;
  Behaviour behaviour_;
  std::string last_request_;
  std::optional<boost::system::error_code> answer_end_;
  std::vector<std::shared_ptr<tcp::socket>> connections_;
  std::vector<std::chrono::steady_clock::time_point> accepted_;
};

// Listens with a full queue: the kernel drops every further SYN, as a host that is gone would.
class BlackHole {
 public:
  explicit BlackHole(boost::asio::io_context& io) : acceptor_(io) {
    acceptor_.open(tcp::v4());
    acceptor_.bind({boost::asio::ip::address_v4::loopback(), 0});
    acceptor_.listen(0);
    for (int i = 0; i < 4; ++i) {  // a queue of 0 holds one; the rest makes sure
      fillers_.push_back(std::make_unique<tcp::socket>(io));
      fillers_.back()->async_connect(acceptor_.local_endpoint(), [](const auto&) {});
    }
    io.restart();
    io.run_for(std::chrono::milliseconds(50));
  }
  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  tcp::acceptor acceptor_;
  std::vector<std::unique_ptr<tcp::socket>> fillers_;
};

// A port on which nobody listens: bound, so that nobody else takes it meanwhile.
class ClosedPort {
 public:
  explicit ClosedPort(boost::asio::io_context& io) : socket_(io) {
    socket_.open(tcp::v4());
    socket_.bind({boost::asio::ip::address_v4::loopback(), 0});
  }
  [[nodiscard]] std::uint16_t port() const { return socket_.local_endpoint().port(); }

 private:
  tcp::socket socket_;
};

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
//
// One connection of the HTTP server: one request and its answer, then it is closed. Cold.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstddef>
#include <functional>
#include <memory>

#include "controlplane/http/routes.h"
#include "controlplane/http/server.h"

namespace millrace::control {

class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  // `routes` must outlive the session or its close(). `done` is called once, unless close() came
  // before.
  HttpSession(boost::asio::ip::tcp::socket socket, const HttpLimits& limits,
              const HttpRoutes& routes, std::function<void(const HttpSession&)> done);

  void start();
  // A whole request has come.
  [[nodiscard]] bool has_asked() const { return has_asked_; }
  void close();

 private:
  using ErrorCode = boost::system::error_code;
  void on_header();
  void read_body();
  void on_request();
  void respond(HttpResponse answer);
  void finish();

  HttpLimits limits_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  const HttpRoutes& routes_;
  const HttpRoute* route_ = nullptr;              // once the header has come
  std::function<void(const HttpSession&)> done_;  // empty once the session is over
  bool has_asked_ = false;
  boost::beast::flat_buffer buffer_;
  boost::beast::http::request_parser<boost::beast::http::string_body> parser_;
  boost::beast::http::response<boost::beast::http::string_body> response_;
};

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/session.h"

#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace millrace::control {

namespace {

namespace http = boost::beast::http;
using boost::asio::ip::tcp;

std::string_view text_of(boost::beast::string_view text) { return {text.data(), text.size()}; }

HttpRequest request_of(http::request<http::string_body>&& message) {
  HttpRequest request{.method = std::string(text_of(message.method_string())),
                      .target = std::string(text_of(message.target())),
                      .headers = {},
                      .body = {}};
  for (const auto& field : message) {
    request.headers.push_back(
        {std::string(text_of(field.name_string())), std::string(text_of(field.value()))});
  }
  request.body = std::move(message.body());
  return request;
}

HttpResponse too_large(const HttpRoute& route) {
  return {.status = 413,
          .body = "A body may have " + std::to_string(route.body_bytes_max) + " bytes here\n"};
}

}  // namespace

HttpSession::HttpSession(tcp::socket socket, const HttpLimits& limits, const HttpRoutes& routes,
                         std::function<void(const HttpSession&)> done)
    : limits_(limits),
      socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      routes_(routes),
      done_(std::move(done)),
      buffer_(limits.header_bytes_max) {
  parser_.header_limit(limits.header_bytes_max);
  parser_.body_limit(limits.body_bytes_max);
}

void HttpSession::start() {
  timer_.expires_after(limits_.session_time);
  timer_.async_wait([self = shared_from_this()](const ErrorCode& error) {
    if (!error) self->finish();
  });
  http::async_read_header(socket_, buffer_, parser_,
                          [self = shared_from_this()](const ErrorCode& error, std::size_t) {
                            if (error) return self->finish();
                            self->on_header();
                          });
}

void HttpSession::close() {
  done_ = nullptr;
  ErrorCode ignored;  // nothing is left to do for a socket that does not close
  (void)socket_.close(ignored);
  timer_.cancel();
}

// Who asks for what is not there is told so before a body is read.
void HttpSession::on_header() {
  if (!done_) return;
  const auto& message = parser_.get();
  const std::string_view target = text_of(message.target());
  HttpRoutes::Found found =
      routes_.find(text_of(message.method_string()), target.substr(0, target.find('?')));
  if (auto* refusal = std::get_if<HttpResponse>(&found)) return respond(std::move(*refusal));
  route_ = std::get<const HttpRoute*>(found);
  const bool has_body = route_->body_bytes_max != 0 && !parser_.is_done();
  if (has_body) return read_body();
  on_request();
}

void HttpSession::read_body() {
  const auto announced = parser_.content_length();
  if (announced && *announced > route_->body_bytes_max) return respond(too_large(*route_));
  parser_.body_limit(route_->body_bytes_max);
  http::async_read(socket_, buffer_, parser_,
                   [self = shared_from_this()](const ErrorCode& error, std::size_t) {
                     if (!self->done_) return;
                     if (error == http::error::body_limit) {
                       return self->respond(too_large(*self->route_));
                     }
                     if (error) return self->finish();
                     self->on_request();
                   });
}

void HttpSession::on_request() {
  has_asked_ = true;
  respond(route_->handler(request_of(parser_.release())));
}

void HttpSession::respond(HttpResponse answer) {
  has_asked_ = true;
  response_.version(11);
  response_.keep_alive(false);
  response_.result(answer.status);
  response_.set(http::field::content_type, answer.content_type);
  response_.body() = std::move(answer.body);
  response_.prepare_payload();
  http::async_write(socket_, response_, [self = shared_from_this()](const ErrorCode&, std::size_t) {
    ErrorCode ignored;  // the client may be gone
    (void)self->socket_.shutdown(tcp::socket::shutdown_send, ignored);
    self->finish();
  });
}

void HttpSession::finish() {
  const auto done = std::exchange(done_, nullptr);
  close();
  if (done) done(*this);
}

}  // namespace millrace::control

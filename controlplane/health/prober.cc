// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/prober.h"

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <utility>

namespace millrace::control {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

tcp::endpoint endpoint_of(const ProbeRequest& request) {
  asio::ip::address_v6::bytes_type bytes;
  std::copy(std::begin(request.address.addr.bytes), std::end(request.address.addr.bytes),
            bytes.begin());
  const asio::ip::address_v6 v6(bytes);
  if (!request.address.is_v4()) return {v6, request.port};
  return {asio::ip::make_address_v4(asio::ip::v4_mapped, v6), request.port};
}

// "10.0.0.1:80", "[2001:db8::1]:80".
std::string host_of(const asio::ip::address& address, std::uint16_t port) {
  const std::string text = address.to_string();
  return (address.is_v6() ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

// Errors that a socket reports about this node, whatever the target does: limits on descriptors,
// memory and local ports, a local firewall, and an address family that the kernel does not have.
bool is_local_fault(const error_code& error) {
  static constexpr std::array kLocal = {EMFILE,     ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL,
                                        EADDRINUSE, EAGAIN, EPERM,   EACCES, EAFNOSUPPORT};
  return error.category() == boost::system::system_category() &&
         std::find(kLocal.begin(), kLocal.end(), error.value()) != kLocal.end();
}

// The state of one probe. Handlers of its socket and timer hold it; the owner's Probe only cancels.
class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  Attempt(asio::io_context& io, ProbeRequest request, ProbeHandler handler)
      : request_(std::move(request)),
        handler_(std::move(handler)),
        socket_(io),
        deadline_(io),
        due_(std::chrono::steady_clock::now() +
             std::chrono::milliseconds(request_.check.timeout_ms)) {
    parser_.header_limit(kResponseHeaderBytesMax);
    parser_.body_limit(boost::none);  // of no concern: the body is not read
  }

  void start() {
    deadline_.expires_at(due_);
    deadline_.async_wait([self = shared_from_this()](const error_code& error) {
      if (!error) self->finish({.verdict = ProbeVerdict::timed_out});
    });
    const tcp::endpoint endpoint = endpoint_of(request_);
    error_code error;
    (void)socket_.open(endpoint.protocol(), error);
    if (error) {
      // Not from within start_probe(): its caller does not own the Probe yet.
      asio::post(socket_.get_executor(),
                 [self = shared_from_this(), error] { self->finish_failed(error); });
      return;
    }
    socket_.async_connect(endpoint, [self = shared_from_this()](const error_code& result) {
      self->on_connected(result);
    });
  }

  void cancel() {
    handler_ = nullptr;
    close();
  }

 private:
  void on_connected(const error_code& error) {
    if (!handler_) return;
    if (error) return finish_failed(error);
    if (request_.check.protocol == HealthCheckProtocol::tcp) return finish({});

    error_code ignored;  // a socket that just connected has a local address
    const asio::ip::address local = socket_.local_endpoint(ignored).address();
    http_request_.version(11);
    http_request_.method(http::verb::get);
    http_request_.target(request_.check.path);
    http_request_.set(http::field::host, host_of(local, request_.host_port));
    http_request_.set(http::field::user_agent, "Millrace-HealthChecker/1");
    http_request_.set(http::field::accept, "*/*");
    http_request_.set(http::field::connection, "close");
    http::async_write(socket_, http_request_,
                      [self = shared_from_this()](const error_code& result, std::size_t) {
                        self->on_written(result);
                      });
  }

  void on_written(const error_code& error) {
    if (!handler_) return;
    if (error) return finish_failed(error);
    http::async_read_header(socket_, buffer_, parser_,
                            [self = shared_from_this()](const error_code& result, std::size_t) {
                              self->on_header(result);
                            });
  }

  void on_header(const error_code& error) {
    if (!handler_) return;
    if (error == http::error::end_of_stream || error == http::error::partial_message) {
      return finish({.verdict = ProbeVerdict::failed,
                     .detail = "connection closed before the response was complete"});
    }
    if (error) return finish_failed(error);
    const auto code = static_cast<std::uint16_t>(parser_.get().result_int());
    if (matches(request_.check, code)) return finish({});
    finish({.verdict = ProbeVerdict::code_mismatch, .status_code = code});
  }

  void finish_failed(const error_code& error) {
    finish({.verdict = is_local_fault(error) ? ProbeVerdict::local_fault : ProbeVerdict::failed,
            .detail = error.message()});
  }

  void finish(ProbeOutcome outcome) {
    if (!handler_) return;
    const ProbeHandler handler = std::exchange(handler_, nullptr);
    close();
    handler(judge(std::move(outcome), due_, std::chrono::steady_clock::now()));
  }

  void close() {
    error_code ignored;  // nothing is left to do for a socket that does not close
    (void)socket_.close(ignored);
    deadline_.cancel();
  }

  ProbeRequest request_;
  ProbeHandler handler_;  // empty once the probe is over
  tcp::socket socket_;
  asio::steady_timer deadline_;
  ProbeTime due_;
  http::request<http::empty_body> http_request_;
  boost::beast::flat_buffer buffer_{kResponseHeaderBytesMax};
  http::response_parser<http::empty_body> parser_;
};

class OwnedAttempt final : public Probe {
 public:
  explicit OwnedAttempt(std::shared_ptr<Attempt> attempt) : attempt_(std::move(attempt)) {}
  // NOLINTNEXTLINE(bugprone-exception-escape): Asio declares that cancel() throws, it never does
  ~OwnedAttempt() override { attempt_->cancel(); }
  OwnedAttempt(const OwnedAttempt&) = delete;
  OwnedAttempt& operator=(const OwnedAttempt&) = delete;

 private:
  std::shared_ptr<Attempt> attempt_;
};

}  // namespace

std::unique_ptr<Probe> start_probe(asio::io_context& io, ProbeRequest request,
                                   ProbeHandler handler) {
  auto attempt = std::make_shared<Attempt>(io, std::move(request), std::move(handler));
  attempt->start();
  return std::make_unique<OwnedAttempt>(std::move(attempt));
}

}  // namespace millrace::control

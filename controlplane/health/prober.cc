// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/prober.h"

#include <algorithm>
#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <string_view>
#include <utility>

#include "controlplane/health/http_answer.h"

namespace millrace::control {
namespace {

namespace asio = boost::asio;
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

std::string request_text(const HealthCheck& check, const std::string& host) {
  return "GET " + check.path + " HTTP/1.1\r\nHost: " + host +
         "\r\nUser-Agent: Millrace-HealthChecker/1\r\nAccept: */*\r\nConnection: close\r\n\r\n";
}

// What an error of connect(), send() or recv() says. It is this node's when it says nothing about
// how the target's traffic fares, which the engine forwards past all of that: limits on
// descriptors, memory and local ports, a policy that forbids this process to connect (systemd's
// IPAddressDeny). Everything else is the target's, or the way's to it. That includes this node's
// own routes (unreachable, prohibit, blackhole, none at all), since the engine's packets take the
// same ones, and firewalls on the way: IPv6 has "administratively prohibited" as EACCES, IPv4 as
// EHOSTUNREACH.
bool is_local_fault(const error_code& error) {
  static constexpr std::array kLocal = {EMFILE,        ENFILE,     ENOBUFS, ENOMEM,
                                        EADDRNOTAVAIL, EADDRINUSE, EAGAIN,  EPERM};
  return error.category() == boost::system::system_category() &&
         std::find(kLocal.begin(), kLocal.end(), error.value()) != kLocal.end();
}

// connect() says EADDRNOTAVAIL where no local port is left, and where the node has no address to
// send from. Datagrams have ports of their own, but the same addresses.
bool has_source_address_for(const tcp::endpoint& target, const asio::any_io_executor& executor) {
  asio::ip::udp::socket socket(executor);
  error_code error;
  (void)socket.connect({target.address(), target.port()}, error);
  return error.value() != EADDRNOTAVAIL;
}

// In a network engineer's words where the system's would mislead.
std::string text_of(const error_code& error, const tcp::endpoint& target,
                    const asio::any_io_executor& executor) {
  if (error.category() != boost::system::system_category()) return error.message();
  switch (error.value()) {
    case EACCES:
      return "prohibited by a firewall on the way or by a route of this node";
    case EINVAL:
      return "this node's route to the target is a blackhole";
    case EPERM:
      return "a firewall or policy of this node forbids connections to the target";
    case EADDRNOTAVAIL:
      if (!has_source_address_for(target, executor)) {
        return "this node has no address to reach the target from: it was removed, or IPv6 is off";
      }
      return "no local port is left for a connection to the target";
    default:
      return error.message();
  }
}

// The state of one probe. Handlers of its socket and timer hold it; the owner's Probe only cancels.
class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  Attempt(asio::io_context& io, ProbeRequest request, ProbeHandlers handlers)
      : request_(std::move(request)),
        handlers_(std::move(handlers)),
        socket_(io),
        deadline_(io),
        due_(std::chrono::steady_clock::now() +
             std::chrono::milliseconds(request_.check.timeout_ms)) {}

  void start() {
    deadline_.expires_at(due_);
    deadline_.async_wait([self = shared_from_this()](const error_code& error) {
      if (error || self->is_over_) return;
      self->finish({.verdict = ProbeVerdict::timed_out});
      self->close();
    });
    const tcp::endpoint endpoint = endpoint_of(request_);
    error_code error;
    (void)socket_.open(endpoint.protocol(), error);
    if (error) {
      // Not from within start_probe(): its caller does not own the Probe yet. Nobody has been asked
      // yet, so that it is this node's fault whatever it is.
      asio::post(socket_.get_executor(), [self = shared_from_this(), text = error.message()] {
        self->finish({.verdict = ProbeVerdict::local_fault, .detail = text});
        self->close();
      });
      return;
    }
    socket_.async_connect(endpoint, [self = shared_from_this()](const error_code& result) {
      self->on_connected(result);
    });
  }

  void cancel() {
    handlers_ = {};
    close();
  }

 private:
  void on_connected(const error_code& error) {
    if (is_over_) return;
    if (error) return fail(error);
    if (request_.check.protocol == HealthCheckProtocol::tcp) {
      finish({});
      if (is_over_) return;
      // A target that speaks first still gets rid of its greeting, and then sees an ordinary end.
      error_code ignored;  // a peer that is gone already shows when it is read from
      (void)socket_.shutdown(tcp::socket::shutdown_send, ignored);
      return read_more();
    }
    error_code ignored;  // a socket that just connected has a local address
    const asio::ip::address local = socket_.local_endpoint(ignored).address();
    const std::string& host = request_.check.host;
    text_ = request_text(request_.check, host.empty() ? host_of(local, request_.host_port) : host);
    asio::async_write(socket_, asio::buffer(text_),
                      [self = shared_from_this()](const error_code& result, std::size_t) {
                        self->on_written(result);
                      });
  }

  void on_written(const error_code& error) {
    if (is_over_) return;
    if (is_local_fault(error)) return fail(error);
    // A target may answer without reading the question, and close: what it said can still be read.
    read_more();
  }

  void read_more() {
    socket_.async_read_some(asio::buffer(bytes_),
                            [self = shared_from_this()](const error_code& result, std::size_t n) {
                              self->on_read(result, n);
                            });
  }

  void on_read(const error_code& error, std::size_t count) {
    if (is_over_) return;
    if (!has_verdict_) {
      judge_bytes(error, std::string_view(bytes_.data(), count));
    } else {
      drained_bytes_ += count;
    }
    if (is_over_) return;  // the handler destroyed the Probe
    if (error || drained_bytes_ > kDrainedBytesMax) return close();
    read_more();
  }

  void judge_bytes(const error_code& error, std::string_view bytes) {
    auto progress = answer_.read(bytes);
    if (error == asio::error::eof) progress = answer_.read_end();
    if (progress == HttpAnswer::Progress::not_http) {
      return finish({.verdict = ProbeVerdict::failed, .detail = answer_.problem()});
    }
    if (progress == HttpAnswer::Progress::complete) {
      const std::uint16_t code = answer_.status_code();
      if (matches(request_.check, code)) return finish({});
      return finish({.verdict = ProbeVerdict::code_mismatch, .status_code = code});
    }
    if (error) fail(error);
  }

  void fail(const error_code& error) {
    finish({.verdict = is_local_fault(error) ? ProbeVerdict::local_fault : ProbeVerdict::failed,
            .detail = text_of(error, endpoint_of(request_), socket_.get_executor())});
    close();
  }

  void finish(ProbeOutcome outcome) {
    if (has_verdict_) return;
    has_verdict_ = true;
    const auto handler = std::exchange(handlers_.on_outcome, nullptr);
    if (handler) handler(judge(std::move(outcome), due_, std::chrono::steady_clock::now()));
  }

  void close() {
    if (std::exchange(is_over_, true)) return;
    error_code ignored;  // nothing is left to do for a socket that does not close
    (void)socket_.close(ignored);
    deadline_.cancel();
    const auto handler = std::exchange(handlers_.on_closed, nullptr);
    if (handler) handler();
  }

  ProbeRequest request_;
  ProbeHandlers handlers_;
  tcp::socket socket_;
  asio::steady_timer deadline_;
  ProbeTime due_;
  std::string text_;  // the request
  HttpAnswer answer_;
  std::array<char, 4096> bytes_{};
  std::size_t drained_bytes_ = 0;
  bool has_verdict_ = false;
  bool is_over_ = false;  // closed, by itself or by the owner
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
                                   ProbeHandlers handlers) {
  auto attempt = std::make_shared<Attempt>(io, std::move(request), std::move(handlers));
  attempt->start();
  return std::make_unique<OwnedAttempt>(std::move(attempt));
}

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/exporter.h"

#include <netinet/in.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <ctime>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "controlplane/telemetry/metrics.h"
#include "dataplane/os/clock.h"

namespace millrace::control {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// After a failed accept (out of descriptors), so that it does not spin.
constexpr std::chrono::milliseconds kAcceptPause{200};

// "10.0.0.1:9465", "[::1]:9465". A bare port would mean all interfaces, which nobody should get by
// accident.
std::optional<tcp::endpoint> parse_endpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const std::string port = text.substr(colon + 1);
  const bool is_number = !port.empty() && port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoul(port) > UINT16_MAX) return std::nullopt;
  std::string host = text.substr(0, colon);
  const bool is_bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (is_bracketed) host = host.substr(1, host.size() - 2);
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || address.is_v6() != is_bracketed) return std::nullopt;
  return tcp::endpoint(address, static_cast<std::uint16_t>(std::stoul(port)));
}

}  // namespace

// One request and its answer; the connection is closed afterwards.
class Exporter::Session : public std::enable_shared_from_this<Session> {
 public:
  // `answer` gives the text for /metrics; `done` is called once, unless close() came before.
  Session(tcp::socket socket, std::function<std::string()> answer,
          std::function<void(const Session&)> done)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        answer_(std::move(answer)),
        done_(std::move(done)) {
    parser_.header_limit(Exporter::kRequestHeaderBytesMax);
  }

  void start() {
    timer_.expires_after(Exporter::kSessionTime);
    timer_.async_wait([self = shared_from_this()](const error_code& error) {
      if (!error) self->finish();
    });
    http::async_read_header(socket_, buffer_, parser_,
                            [self = shared_from_this()](const error_code& error, std::size_t) {
                              if (error) return self->finish();
                              self->respond();
                            });
  }

  [[nodiscard]] bool has_asked() const { return has_asked_; }

  void close() {
    done_ = nullptr;
    error_code ignored;  // nothing is left to do for a socket that does not close
    (void)socket_.close(ignored);
    timer_.cancel();
  }

 private:
  void respond() {
    if (!done_) return;
    has_asked_ = true;
    const bool is_get = parser_.get().method() == http::verb::get;
    const bool is_metrics = parser_.get().target() == "/metrics";
    response_.version(11);
    response_.keep_alive(false);
    if (is_get && is_metrics) {
      response_.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      response_.body() = answer_();
    } else {
      response_.result(is_metrics ? http::status::method_not_allowed : http::status::not_found);
      response_.set(http::field::content_type, "text/plain");
      response_.body() = "Metrics are at GET /metrics\n";
    }
    response_.prepare_payload();
    http::async_write(socket_, response_, [self = shared_from_this()](const error_code&, auto) {
      error_code ignored;  // the client may be gone
      (void)self->socket_.shutdown(tcp::socket::shutdown_send, ignored);
      self->finish();
    });
  }

  void finish() {
    const auto done = std::exchange(done_, nullptr);
    close();
    if (done) done(*this);
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  std::function<std::string()> answer_;
  std::function<void(const Session&)> done_;  // empty once the session is over
  bool has_asked_ = false;
  boost::beast::flat_buffer buffer_{Exporter::kRequestHeaderBytesMax};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
};

class Exporter::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, std::function<Snapshot()> take_snapshot)
      : io_(io), acceptor_(io), pause_(io), take_snapshot_(std::move(take_snapshot)) {}

  [[nodiscard]] error_code bind(const tcp::endpoint& endpoint) {
    error_code error;
    (void)acceptor_.open(endpoint.protocol(), error);
    if (!error) (void)acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) allow_absent_address(endpoint);
    if (!error) (void)acceptor_.bind(endpoint, error);
    if (!error) (void)acceptor_.listen(asio::socket_base::max_listen_connections, error);
    return error;
  }

  void accept() {
    acceptor_.async_accept([weak = weak_from_this()](const error_code& error, tcp::socket socket) {
      const auto self = weak.lock();
      if (self) self->on_accepted(error, std::move(socket));
    });
  }

  void close() {
    error_code ignored;  // nothing is left to do for a socket that does not close
    (void)acceptor_.close(ignored);
    pause_.cancel();
    for (const auto& session : sessions_) session->close();
    sessions_.clear();
  }

  // Where it cannot be set, an absent address is the bind's error.
  void allow_absent_address(const tcp::endpoint& endpoint) {
    const int yes = 1;
    const bool is_v6 = endpoint.address().is_v6();
    (void)::setsockopt(acceptor_.native_handle(), is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                       is_v6 ? IPV6_FREEBIND : IP_FREEBIND, &yes, sizeof(yes));
  }

  // An ordinary socket can have only an address that the node has, at any port.
  [[nodiscard]] std::string problem() const {
    error_code error;
    tcp::endpoint own = acceptor_.local_endpoint(error);
    own.port(0);
    tcp::socket probe(io_);
    if (!error) (void)probe.open(own.protocol(), error);
    if (!error) (void)probe.bind(own, error);
    if (error.value() != EADDRNOTAVAIL) return "";
    return "nobody can ask for metrics: this node does not have the address " +
           own.address().to_string() + " of --metrics";
  }

  [[nodiscard]] std::uint16_t port() const {
    error_code ignored;  // a bound socket has a local endpoint
    return acceptor_.local_endpoint(ignored).port();
  }

 private:
  void on_accepted(const error_code& error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) return accept_after_pause();
    if (sessions_.size() == kSessionsMax) close_one();
    // Sessions are closed before this object goes, and call nothing after that.
    auto session = std::make_shared<Session>(
        std::move(socket), [this] { return metrics(); },
        [this](const Session& ended) { on_ended(ended); });
    sessions_.push_back(session);
    session->start();
    accept();
  }

  // The one that has not asked for the longest time; a scraper's request is there with its
  // connection. When all have asked, the one that takes longest to take its answer.
  void close_one() {
    auto found =
        std::ranges::find_if(sessions_, [](const auto& session) { return !session->has_asked(); });
    if (found == sessions_.end()) found = sessions_.begin();
    (*found)->close();
    sessions_.erase(found);
  }

  void on_ended(const Session& ended) {
    std::erase_if(sessions_, [&](const auto& session) { return session.get() == &ended; });
  }

  void accept_after_pause() {
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([weak = weak_from_this()](const error_code& error) {
      const auto self = weak.lock();
      if (!error && self) self->accept();
    });
  }

  [[nodiscard]] std::string metrics() const {
    std::ostringstream text;
    const auto families =
        collect_metrics(take_snapshot_(), {.boot_realtime_ns = boot_realtime_ns_});
    prometheus::TextSerializer().Serialize(text, families);
    return text.str();
  }

  asio::io_context& io_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::function<Snapshot()> take_snapshot_;
  std::vector<std::shared_ptr<Session>> sessions_;  // in order of arrival
  std::uint64_t boot_realtime_ns_ = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME);
};

namespace {

std::string advice_on(const error_code& error, const tcp::endpoint& endpoint) {
  const std::string port = std::to_string(endpoint.port());
  if (error == asio::error::address_in_use) {
    return "; another program listens there (`ss -ltnp 'sport = :" + port +
           "'` names it), so end that one or choose another port";
  }
  if (error == asio::error::access_denied) return "; choose a port above 1023, as 9465";
  return "";
}

}  // namespace

Result<std::unique_ptr<Exporter>> Exporter::listen(const std::string& address, asio::io_context& io,
                                                   std::function<Snapshot()> take_snapshot) {
  const auto endpoint = parse_endpoint(address);
  if (!endpoint) {
    return Error{"--metrics: '" + address +
                 "' is not ADDRESS:PORT, such as 127.0.0.1:9465 or [::1]:9465 (neither a host's "
                 "name nor a port alone)"};
  }
  auto impl = std::make_shared<Impl>(io, std::move(take_snapshot));
  const error_code error = impl->bind(*endpoint);
  if (error) {
    return Error{"--metrics: cannot listen on " + address + ": " + error.message() +
                 advice_on(error, *endpoint)};
  }
  impl->accept();
  return std::unique_ptr<Exporter>(new Exporter(std::move(impl)));
}

Exporter::Exporter(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
// NOLINTNEXTLINE(bugprone-exception-escape): Asio declares that cancel() throws, it never does
Exporter::~Exporter() { impl_->close(); }
std::uint16_t Exporter::port() const { return impl_->port(); }
std::string Exporter::problem() const { return impl_->problem(); }

}  // namespace millrace::control

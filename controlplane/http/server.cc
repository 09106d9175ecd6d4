// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <utility>
#include <vector>

#include "controlplane/http/endpoint.h"
#include "controlplane/http/session.h"

namespace millrace::control {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// After a failed accept (out of descriptors), so that it does not spin.
constexpr std::chrono::milliseconds kAcceptPause{200};

}  // namespace

class HttpServer::Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(asio::io_context& io, const HttpLimits& limits, HttpRoutes routes)
      : io_(io), acceptor_(io), pause_(io), limits_(limits), routes_(std::move(routes)) {}

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

  // An ordinary socket can have only an address that the node has, at any port.
  [[nodiscard]] std::string absent_address() const {
    error_code error;
    tcp::endpoint own = acceptor_.local_endpoint(error);
    own.port(0);
    tcp::socket probe(io_);
    if (!error) (void)probe.open(own.protocol(), error);
    if (!error) (void)probe.bind(own, error);
    return error.value() == EADDRNOTAVAIL ? own.address().to_string() : "";
  }

  [[nodiscard]] std::uint16_t port() const {
    error_code ignored;  // a bound socket has a local endpoint
    return acceptor_.local_endpoint(ignored).port();
  }

 private:
  // Where it cannot be set, an absent address is the bind's error.
  void allow_absent_address(const tcp::endpoint& endpoint) {
    const int yes = 1;
    const bool is_v6 = endpoint.address().is_v6();
    (void)::setsockopt(acceptor_.native_handle(), is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                       is_v6 ? IPV6_FREEBIND : IP_FREEBIND, &yes, sizeof(yes));
  }

  void on_accepted(const error_code& error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) return accept_after_pause();
    if (sessions_.size() == limits_.sessions_max) close_one();
    // Sessions are closed before this object goes, and use nothing of it after that.
    auto session = std::make_shared<HttpSession>(
        std::move(socket), limits_, routes_, [this](const HttpSession& ended) { on_ended(ended); });
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

  void on_ended(const HttpSession& ended) {
    std::erase_if(sessions_, [&](const auto& session) { return session.get() == &ended; });
  }

  void accept_after_pause() {
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([weak = weak_from_this()](const error_code& error) {
      const auto self = weak.lock();
      if (!error && self) self->accept();
    });
  }

  asio::io_context& io_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  HttpLimits limits_;
  HttpRoutes routes_;
  std::vector<std::shared_ptr<HttpSession>> sessions_;  // in order of arrival
};

namespace {

std::string advice_on(const error_code& error, std::uint16_t port, std::uint16_t usual_port) {
  if (error == asio::error::address_in_use) {
    return "; another program listens there (`ss -ltnp 'sport = :" + std::to_string(port) +
           "'` names it), so end that one or choose another port";
  }
  if (error == asio::error::access_denied) {
    return "; choose a port above 1023, as " + std::to_string(usual_port);
  }
  return "";
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(asio::io_context& io, const Options& options,
                                                       HttpRoutes routes) {
  const auto endpoint = parse_endpoint(options.address, options.usual_port);
  if (!endpoint) return endpoint.error();
  auto acceptor = std::make_shared<Acceptor>(io, options.limits, std::move(routes));
  const error_code error = acceptor->bind(*endpoint);
  if (error) {
    return Error{"cannot listen on " + options.address + ": " + error.message() +
                 advice_on(error, endpoint.value().port(), options.usual_port)};
  }
  acceptor->accept();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(acceptor)));
}

HttpServer::HttpServer(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
// NOLINTNEXTLINE(bugprone-exception-escape): Asio declares that cancel() throws, it never does
HttpServer::~HttpServer() { acceptor_->close(); }
std::uint16_t HttpServer::port() const { return acceptor_->port(); }
std::string HttpServer::absent_address() const { return acceptor_->absent_address(); }

}  // namespace millrace::control

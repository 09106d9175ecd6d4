// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/server.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "dataplane/os/file.h"

namespace millrace::control {

namespace asio = boost::asio;
using asio::local::stream_protocol;
using boost::system::error_code;

namespace {

// After accept() failed for want of descriptors or memory.
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
// Who has said nothing for so long since it came, or had its answer, is not about to.
constexpr auto kIdleForSure = kAcceptRetry;
// What failed within this time of its last failure is not news.
constexpr auto kAcceptQuiet = std::chrono::minutes(1);

Peer peer_of(int fd) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return {};
  return {.uid = credentials.uid, .pid = static_cast<std::uint32_t>(credentials.pid)};
}

// Whether a live process listens on `path`.
bool is_in_use(asio::io_context& io, const std::string& path) {
  stream_protocol::socket probe(io);
  error_code error;
  probe.connect(stream_protocol::endpoint(path), error);
  return !error;
}

}  // namespace

// One client: read a line, answer it, again. Lives as long as an operation of its own is pending.
class ApiServer::Session : public std::enable_shared_from_this<Session> {
 public:
  using Ended = std::function<void(Session*)>;
  using Clock = std::chrono::steady_clock;

  Session(stream_protocol::socket socket, const ApiParts& parts, const ApiLimits& limits,
          Ended ended)
      : socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
        parts_(parts),
        limits_(limits),
        peer_(peer_of(socket_.native_handle())),
        ended_(std::move(ended)) {}

  void start() { read_request(); }

  // Says why, then closes.
  void refuse(const std::string& reason) {
    is_closing_ = true;
    send(answer_error("connection", reason));
  }

  // Since when it has been waiting for a request, or the rest of one; nullopt: it is being
  // answered.
  [[nodiscard]] std::optional<Clock::time_point> waiting_since() const { return waiting_since_; }

  // Ends what is pending; its handlers run later and do nothing more.
  void close() {
    is_closed_ = true;
    error_code ignored;  // there is nothing left to do about a socket that does not close
    socket_.close(ignored);
    deadline_.cancel();
  }

 private:
  void read_request();
  void read_more();
  void handle_read(const error_code& error, std::size_t bytes);
  void send(std::string line);
  void arm(std::chrono::milliseconds timeout);
  void end() {
    close();
    ended_(this);
  }

  stream_protocol::socket socket_;
  asio::steady_timer deadline_;
  const ApiParts& parts_;
  const ApiLimits& limits_;
  Peer peer_;
  Ended ended_;
  std::string input_;
  std::string output_;
  std::optional<Clock::time_point> waiting_since_ = Clock::now();
  bool is_closing_ = false;  // after the answer under way
  bool is_closed_ = false;
};

void ApiServer::Session::arm(std::chrono::milliseconds timeout) {
  deadline_.expires_after(timeout);
  deadline_.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error && !self->is_closed_) self->end();
  });
}

// Waits for the first byte of a request, without hurry.
void ApiServer::Session::read_request() {
  waiting_since_ = Clock::now();
  if (!input_.empty()) return read_more();
  arm(limits_.idle_timeout);
  socket_.async_wait(stream_protocol::socket::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (self->is_closed_) return;
                       if (error) return self->end();
                       self->read_more();
                     });
}

// Waits for the rest of it, for a limited time.
void ApiServer::Session::read_more() {
  arm(limits_.request_timeout);
  asio::async_read_until(socket_, asio::dynamic_buffer(input_, limits_.request_bytes_max), '\n',
                         [self = shared_from_this()](const error_code& error, std::size_t bytes) {
                           if (!self->is_closed_) self->handle_read(error, bytes);
                         });
}

void ApiServer::Session::handle_read(const error_code& error, std::size_t bytes) {
  if (error == asio::error::not_found) {
    return refuse("the request is longer than " + std::to_string(limits_.request_bytes_max) +
                  " bytes");
  }
  // A last line without line end counts too: `printf '{"command":"status"}' | nc -U ...`.
  const bool is_last = error == asio::error::eof;
  if ((error && !is_last) || input_.empty()) return end();
  const std::size_t line_bytes = is_last ? input_.size() : bytes;
  std::string_view line(input_.data(), line_bytes);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  std::string answer = answer_request(line, peer_, parts_);
  input_.erase(0, line_bytes);
  is_closing_ = is_last;
  send(std::move(answer));
}

void ApiServer::Session::send(std::string line) {
  waiting_since_.reset();
  output_ = std::move(line) + "\n";
  arm(limits_.answer_timeout);
  asio::async_write(socket_, asio::buffer(output_),
                    [self = shared_from_this()](const error_code& error, std::size_t) {
                      if (self->is_closed_) return;
                      if (error || self->is_closing_) return self->end();
                      self->output_ = {};
                      self->read_request();
                    });
}

class ApiServer::Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(asio::io_context& io, std::string path, ApiParts parts, ApiLimits limits)
      : io_(io),
        acceptor_(io),
        retry_(io),
        path_(std::move(path)),
        parts_(std::move(parts)),
        limits_(limits) {}

  [[nodiscard]] Status open();
  [[nodiscard]] bool is_lost() const { return os::identity_of(path_) != identity_; }
  [[nodiscard]] Status reopen();
  void accept();
  void stop();
  [[nodiscard]] std::size_t client_count() const { return sessions_.size(); }

 private:
  void handle_accept(const error_code& error, stream_protocol::socket socket);
  void wait_for_room(const error_code& why);
  void accept_after_pause();
  void note_accept_error(const error_code& error);
  [[nodiscard]] bool close_idlest(std::chrono::milliseconds idle);

  asio::io_context& io_;
  stream_protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  std::string path_;
  os::FileIdentity identity_;  // of the socket that we listen on
  ApiParts parts_;
  ApiLimits limits_;
  std::set<std::shared_ptr<Session>> sessions_;
  std::optional<Session::Clock::time_point> accept_failed_;  // last
  bool is_stopped_ = false;
};

Status ApiServer::Acceptor::open() {
  if (path_.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error{"API socket " + path_ + ": the path is longer than " +
                 std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " characters"};
  }
  struct stat info {};
  if (stat(path_.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return Error{"API socket " + path_ + ": exists, is no socket"};
    if (is_in_use(io_, path_)) {
      return Error{"API socket " + path_ + ": another control plane listens there"};
    }
    unlink(path_.c_str());
  }
  error_code error;
  acceptor_.open(stream_protocol(), error);
  if (!error) {
    // Born with its mode: between a bind and a chmod, anybody could connect.
    const mode_t before = umask(0117);
    acceptor_.bind(stream_protocol::endpoint(path_), error);
    umask(before);
  }
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    errno = error.value();
    return os::path_error("API socket " + path_, path_);
  }
  identity_ = os::identity_of(path_);
  // Who may use it: the group of the directory, also after a run by hand.
  const auto directory = os::File::open(std::filesystem::absolute(path_).parent_path(), O_PATH);
  const auto socket = os::File::open(path_, O_PATH | O_NOFOLLOW);
  if (directory && socket) os::give_to_group_of(*directory, *socket);
  return ok();
}

Status ApiServer::Acceptor::reopen() {
  error_code ignored;  // nobody can reach it any more
  acceptor_.close(ignored);
  retry_.cancel();
  if (Status opened = open(); !opened) return opened;
  accept();
  return ok();
}

void ApiServer::Acceptor::accept() {
  acceptor_.async_accept(
      [self = shared_from_this()](const error_code& error, stream_protocol::socket socket) {
        self->handle_accept(error, std::move(socket));
      });
}

void ApiServer::Acceptor::handle_accept(const error_code& error, stream_protocol::socket socket) {
  if (is_stopped_ || error == asio::error::operation_aborted) return;  // closed by ourselves
  if (error) return wait_for_room(error);
  const bool is_full = sessions_.size() >= limits_.clients_max && !close_idlest({});
  auto session = std::make_shared<Session>(std::move(socket), parts_, limits_,
                                           [weak = weak_from_this()](Session* ended) {
                                             if (const auto self = weak.lock())
                                               self->sessions_.erase(ended->shared_from_this());
                                           });
  if (is_full) {
    // Beyond the limit a client costs one short answer; it is not kept.
    session->refuse("more than " + std::to_string(limits_.clients_max) +
                    " clients at once; try again later");
  } else {
    sessions_.insert(session);
    session->start();
  }
  accept();
}

// Without descriptors accept() fails also when nobody comes: only who comes is to be made room for.
void ApiServer::Acceptor::wait_for_room(const error_code& why) {
  acceptor_.async_wait(stream_protocol::acceptor::wait_read,
                       [self = shared_from_this(), why](const error_code& closed) {
                         if (self->is_stopped_ || closed) return;
                         if (self->close_idlest(kIdleForSure)) return self->accept();
                         self->note_accept_error(why);
                         self->accept_after_pause();
                       });
}

void ApiServer::Acceptor::accept_after_pause() {
  retry_.expires_after(kAcceptRetry);
  retry_.async_wait([self = shared_from_this()](const error_code& cancelled) {
    if (!cancelled && !self->is_stopped_) self->accept();
  });
}

void ApiServer::Acceptor::note_accept_error(const error_code& error) {
  const auto now = Session::Clock::now();
  const bool is_news = !accept_failed_ || now - *accept_failed_ > kAcceptQuiet;
  accept_failed_ = now;
  if (!is_news) return;
  const bool is_full = error == asio::error::no_descriptors;
  spdlog::warn("API socket {}: clients wait: {}{}", path_, error.message(),
               is_full ? " (LimitNOFILE of the unit says how many there may be)" : "");
}

// Of those who have asked nothing for `idle`; false when there is none.
bool ApiServer::Acceptor::close_idlest(std::chrono::milliseconds idle) {
  std::shared_ptr<Session> idlest;
  for (const auto& session : sessions_) {
    const auto since = session->waiting_since();
    if (since && (!idlest || *since < *idlest->waiting_since())) idlest = session;
  }
  const auto now = Session::Clock::now();
  if (!idlest || now - *idlest->waiting_since() < idle) return false;
  idlest->close();
  sessions_.erase(idlest);
  return true;
}

void ApiServer::Acceptor::stop() {
  is_stopped_ = true;
  error_code ignored;  // closing cannot fail in a way that matters here
  acceptor_.close(ignored);
  retry_.cancel();
  for (const auto& session : sessions_) session->close();
  sessions_.clear();
  unlink(path_.c_str());
}

Result<std::unique_ptr<ApiServer>> ApiServer::listen(asio::io_context& io, const std::string& path,
                                                     ApiParts parts, ApiLimits limits) {
  auto acceptor = std::make_shared<Acceptor>(io, path, std::move(parts), limits);
  if (Status opened = acceptor->open(); !opened) return opened.error();
  acceptor->accept();
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(acceptor)));
}

ApiServer::ApiServer(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
// NOLINTNEXTLINE(bugprone-exception-escape): Asio declares that cancel() throws, it never does
ApiServer::~ApiServer() { acceptor_->stop(); }
Result<bool> ApiServer::renew_if_lost() {
  if (!acceptor_->is_lost()) return false;
  if (Status reopened = acceptor_->reopen(); !reopened) return reopened.error();
  return true;
}
std::size_t ApiServer::client_count() const { return acceptor_->client_count(); }

}  // namespace millrace::control

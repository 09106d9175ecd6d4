// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "dataplane/os/denied.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

std::string stuck_text(std::chrono::seconds patience) {
  return "no answer within " + std::to_string(patience.count()) +
         " seconds: millrace-controlplane is busy, stuck or stopped; the engine forwards "
         "meanwhile. Its log may say why (journalctl --unit millrace-controlplane). If it stays "
         "so, restart it: no flow is lost by that (systemctl restart millrace-controlplane)";
}

std::string denied_text(const std::string& path) {
  const os::Denial denial = os::denial_of(path);
  return "permission denied: " + denial.text + ". Use sudo" +
         (denial.group.empty() ? ""
                               : ", or become a member of the group (usermod --append --groups " +
                                     denial.group + " " + denial.user + ") and log in anew");
}

Error connect_error(const std::string& path, int error, std::chrono::seconds patience) {
  const std::string socket = "cannot reach the control plane at " + path + ": ";
  switch (error) {
    case ENOENT:
      return Error{socket +
                   "there is no such socket. Is millrace-controlplane running "
                   "(systemctl status millrace-controlplane)? Name another socket with --socket"};
    case ECONNREFUSED:
      if (std::error_code failure; !std::filesystem::is_socket(path, failure)) {
        return Error{socket + "this is no socket. Name the control plane's with --socket"};
      }
      return Error{socket +
                   "nobody listens there: millrace-controlplane has ended. Start it "
                   "(systemctl start millrace-controlplane)"};
    case EACCES:
      return Error{socket + denied_text(path)};
    case EAGAIN:  // it takes no more connections
      return Error{socket + stuck_text(patience)};
    default:
      return Error{socket + std::generic_category().message(error)};
  }
}

// 0, or errno of what failed.
int connect_socket(const os::File& socket, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  return ::connect(socket.fd(), generic, sizeof(address)) == 0 ? 0 : errno;
}

}  // namespace

bool ApiClient::is_nobody_there(const std::string& path) {
  const os::File socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int error = connect_socket(socket, path);
  return error == ENOENT || error == ECONNREFUSED;
}

Result<ApiClient> ApiClient::connect(const std::string& path, std::chrono::seconds patience) {
  os::File socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return connect_error(path, errno, patience);
  const timeval timeout{.tv_sec = patience.count(), .tv_usec = 0};
  setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  if (const int error = connect_socket(socket, path); error != 0) {
    return connect_error(path, error, patience);
  }
  return ApiClient(std::move(socket), patience);
}

Error ApiClient::broken(const char* what) const {
  const bool is_timeout = errno == EAGAIN || errno == EWOULDBLOCK;
  return Error{std::string(what) + ": " +
               (is_timeout ? stuck_text(patience_) : std::generic_category().message(errno))};
}

Result<json::value> ApiClient::call(const json::object& request) {
  const std::string line = json::serialize(request) + "\n";
  std::size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t n = send(socket_.fd(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    // Closed already: the answer that says why may be waiting.
    if (n < 0 && errno == EPIPE) break;
    if (n < 0) return broken("cannot send the request");
    sent += static_cast<std::size_t>(n);
  }
  std::string answer;
  std::array<char, 65536> chunk;
  while (answer.empty() || answer.back() != '\n') {
    const ssize_t n = recv(socket_.fd(), chunk.data(), chunk.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return broken("cannot read the answer");
    if (n == 0) return Error{"the control plane closed the connection without an answer"};
    answer.append(chunk.data(), static_cast<std::size_t>(n));
  }
  json::error_code error;
  json::value value = json::parse(answer, error);
  if (error || !value.is_object()) {
    return Error{"the control plane's answer is no JSON object; are both of the same version?"};
  }
  return value;
}

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// The socket: real unix sockets and real clients, good and bad.
#include "controlplane/api/server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

#include "controlplane/api/client.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/api/fake_controller.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

// The vptr check of UBSan opens a pipe to look at memory. Without descriptors it calls all wrong.
#ifdef __has_feature
constexpr bool kNeedsDescriptors = __has_feature(undefined_behavior_sanitizer);
#else
constexpr bool kNeedsDescriptors = false;
#endif
using std::chrono::milliseconds;

constexpr const char* kStatus = "{\"command\": \"status\"}\n";

// A client that does what the test says, no more.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : RawClient() { connect(path); }
  RawClient() : socket_(::socket(AF_UNIX, SOCK_STREAM, 0)) {}
  void connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    connected_ =
        ::connect(socket_.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  [[nodiscard]] bool connected() const { return connected_; }
  void send(const std::string& text) const {
    std::size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t n = ::send(socket_.fd(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
  }
  // Until the socket takes no more.
  void send_without_waiting(const std::string& text) const {
    while (::send(socket_.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
      continue;
  }
  void end_sending() const { shutdown(socket_.fd(), SHUT_WR); }
  // One line without its end; what there is when the server closed before.
  [[nodiscard]] std::string line() const {
    std::string text;
    char c = 0;
    while (recv(socket_.fd(), &c, 1, 0) == 1 && c != '\n') text += c;
    return text;
  }
  [[nodiscard]] bool has_answer_within(milliseconds time) const {
    pollfd waiting{.fd = socket_.fd(), .events = POLLIN, .revents = 0};
    return poll(&waiting, 1, static_cast<int>(time.count())) == 1;
  }
  [[nodiscard]] bool closed() const {
    char c = 0;
    return recv(socket_.fd(), &c, 1, 0) <= 0 && errno != EAGAIN;
  }

 private:
  os::File socket_;
  bool connected_ = false;
};

class ServerTest : public testing::Test {
 protected:
  // Serves while `clients` runs in a thread of its own.
  void serve(const std::function<void()>& clients, ApiLimits limits = {}) {
    auto listening = ApiServer::listen(io_, path_, node_.parts(), limits);
    ASSERT_TRUE(listening) << listening.error().message;
    server_ = std::move(*listening);
    std::thread thread([&] {
      clients();
      io_.stop();
    });
    io_.run();
    thread.join();
    server_.reset();
    io_.restart();
    io_.poll();  // lets the closed sessions' handlers run
  }
  static bool is_ok(const std::string& line) {
    json::error_code error;
    const json::value answer = json::parse(line, error);
    return !error && answer.is_object() && answer.at("ok").as_bool();
  }

  test::TempDir dir_;
  std::string path_ = dir_.file("api.sock");
  SmallNode node_;
  boost::asio::io_context io_;
  std::unique_ptr<ApiServer> server_;
};

TEST_F(ServerTest, answers_many_requests_of_one_client_in_order) {
  serve([&] {
    RawClient client(path_);
    for (int i = 0; i < 3; ++i) {
      client.send(kStatus);
      EXPECT_TRUE(is_ok(client.line()));
    }
    client.send(std::string(kStatus) + "nonsense\n" + kStatus);
    EXPECT_TRUE(is_ok(client.line()));
    EXPECT_FALSE(is_ok(client.line()));
    EXPECT_TRUE(is_ok(client.line()));
  });
}

TEST_F(ServerTest, takes_a_request_in_single_bytes_and_a_last_one_without_line_end) {
  serve([&] {
    RawClient client(path_);
    for (const char c : std::string(kStatus)) client.send(std::string(1, c));
    EXPECT_TRUE(is_ok(client.line()));
    client.send("{\"command\": \"listeners\"}");
    client.end_sending();
    EXPECT_TRUE(is_ok(client.line()));
    EXPECT_TRUE(client.closed());
  });
}

TEST_F(ServerTest, garbage_gets_an_error_and_hurts_nobody) {
  serve([&] {
    RawClient bad(path_);
    for (const std::string& text :
         {std::string("\n"), std::string("{\n"), std::string(1000, '\0') + "\n",
          std::string("\xff\xfe\n"), std::string(5000, '[') + "\n"}) {
      bad.send(text);
      EXPECT_FALSE(is_ok(bad.line()));
    }
    bad.send(kStatus);
    EXPECT_TRUE(is_ok(bad.line()));
  });
}

TEST_F(ServerTest, slow_and_silent_clients_do_not_hold_up_others) {
  serve([&] {
    RawClient silent(path_);
    RawClient half(path_);
    half.send("{\"command\":");
    RawClient deaf(path_);  // asks for much and takes nothing
    deaf.send_without_waiting(kStatus);
    RawClient good(path_);
    good.send(kStatus);
    EXPECT_TRUE(is_ok(good.line()));
    half.send(" \"status\"}\n");
    EXPECT_TRUE(is_ok(half.line()));
  });
}

TEST_F(ServerTest, client_that_does_not_finish_its_request_is_closed) {
  ApiLimits limits;
  limits.request_timeout = milliseconds(50);
  serve(
      [&] {
        RawClient client(path_);
        client.send("{\"command\":");
        EXPECT_TRUE(client.closed());
      },
      limits);
}

TEST_F(ServerTest, idle_client_is_closed) {
  ApiLimits limits;
  limits.idle_timeout = milliseconds(50);
  serve(
      [&] {
        RawClient client(path_);
        EXPECT_TRUE(client.closed());
      },
      limits);
}

TEST_F(ServerTest, request_that_is_too_long_is_refused) {
  ApiLimits limits;
  limits.request_bytes_max = 1000;
  serve(
      [&] {
        RawClient client(path_);
        client.send(std::string(1001, ' '));
        const std::string line = client.line();
        EXPECT_NE(line.find("longer than 1000 bytes"), std::string::npos) << line;
        EXPECT_TRUE(client.closed());
      },
      limits);
}

TEST_F(ServerTest, client_that_asked_nothing_for_the_longest_time_gives_way) {
  ApiLimits limits;
  limits.clients_max = 2;
  serve(
      [&] {
        RawClient busy(path_);
        busy.send(kStatus);
        EXPECT_TRUE(is_ok(busy.line()));
        RawClient idle(path_);
        idle.send("{\"command\":");  // and never the rest
        busy.send(kStatus);
        EXPECT_TRUE(is_ok(busy.line()));
        RawClient third(path_);
        third.send(kStatus);
        EXPECT_TRUE(is_ok(third.line()));
        EXPECT_TRUE(idle.closed());
        busy.send(kStatus);
        EXPECT_TRUE(is_ok(busy.line()));
      },
      limits);
}

TEST_F(ServerTest, idle_clients_however_many_keep_no_operator_out) {
  serve([&] {
    std::vector<std::unique_ptr<RawClient>> idle;
    for (std::size_t i = 0; i < 3 * ApiLimits{}.clients_max; ++i) {
      idle.push_back(std::make_unique<RawClient>(path_));
    }
    RawClient operator_(path_);
    operator_.send(kStatus);
    EXPECT_TRUE(is_ok(operator_.line()));
  });
}

TEST_F(ServerTest, server_may_end_while_clients_wait) {
  ApiLimits limits;
  limits.clients_max = 1;
  auto listening = ApiServer::listen(io_, path_, node_.parts(), limits);
  ASSERT_TRUE(listening);
  const RawClient served(path_);
  const RawClient refused(path_);
  served.send("{\"command\":");
  while ((*listening)->client_count() == 0) io_.run_one();
  io_.run_one();  // accepts the second one; its refusal is under way
  listening = Error{"ended"};
  io_.poll();
  EXPECT_TRUE(served.closed());
}

TEST_F(ServerTest, many_clients_come_and_go) {
  serve([&] {
    for (int i = 0; i < 300; ++i) {
      RawClient client(path_);
      client.send(kStatus);
      if (i % 3 == 0) continue;  // leaves before its answer
      EXPECT_TRUE(is_ok(client.line()));
    }
  });
}

TEST_F(ServerTest, socket_is_for_owner_and_group_and_goes_with_the_server) {
  serve([&] {
    struct stat info {};
    ASSERT_EQ(stat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777u, 0660u);
  });
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(ServerTest, socket_of_a_dead_process_is_replaced) {
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const os::File dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(bind(dead.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  serve([&] {
    RawClient client(path_);
    client.send(kStatus);
    EXPECT_TRUE(is_ok(client.line()));
  });
}

TEST_F(ServerTest, fault_92_socket_that_somebody_removes_is_made_again) {
  auto server = ApiServer::listen(io_, path_, node_.parts());
  ASSERT_TRUE(server);
  const Result<bool> untouched = (*server)->renew_if_lost();
  ASSERT_TRUE(untouched);
  EXPECT_FALSE(*untouched);
  RawClient before(path_);
  io_.poll();
  ASSERT_EQ(unlink(path_.c_str()), 0);
  const Result<bool> made = (*server)->renew_if_lost();
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(*made);
  std::thread clients([&] {
    RawClient after(path_);
    for (const RawClient* client : {&before, &after}) {
      client->send(kStatus);
      EXPECT_TRUE(is_ok(client->line()));
    }
    boost::asio::post(io_, [&] { io_.stop(); });
  });
  io_.run();
  clients.join();
  server->reset();
}

TEST_F(ServerTest, second_server_and_impossible_paths_are_refused) {
  serve([&] {
    boost::asio::io_context other;
    const auto second = ApiServer::listen(other, path_, node_.parts());
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("another control plane listens there"),
              std::string::npos);
  });
  std::ofstream(dir_.file("plain")) << "data";
  for (const std::string& path :
       {dir_.file("plain"), dir_.file("missing/api.sock"), dir_.file(std::string(200, 'x'))}) {
    const auto refused = ApiServer::listen(io_, path, node_.parts());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(path), std::string::npos);
  }
  EXPECT_EQ(access(dir_.file("plain").c_str(), F_OK), 0);
}

TEST_F(ServerTest, api_client_gets_whole_answers) {
  serve([&] {
    auto client = ApiClient::connect(path_);
    ASSERT_TRUE(client) << client.error().message;
    for (const char* command : {"status", "targets", "counters"}) {
      const auto answer = client->call({{"command", command}});
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_TRUE(answer->at("ok").as_bool());
    }
  });
}

TEST_F(ServerTest, api_client_hears_why_its_request_was_too_long) {
  ApiLimits limits;
  limits.request_bytes_max = 1000;
  serve(
      [&] {
        auto client = ApiClient::connect(path_);
        ASSERT_TRUE(client);
        const auto answer =
            client->call({{"command", "apply"}, {"text", std::string(4'000'000, 'x')}});
        ASSERT_TRUE(answer) << answer.error().message;
        EXPECT_FALSE(answer->at("ok").as_bool());
      },
      limits);
}

// No descriptor is free from its start to its end.
class NoDescriptors {
 public:
  NoDescriptors() {
    (void)getrlimit(RLIMIT_NOFILE, &before_);
    const os::File lowest_free(open("/dev/null", O_RDONLY));
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(lowest_free.fd());
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
  ~NoDescriptors() { (void)setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(ServerTest, without_descriptors_who_says_nothing_gives_way_to_who_asks) {
  if (kNeedsDescriptors) GTEST_SKIP() << "the sanitizer opens pipes";
  serve([&] {
    RawClient idle(path_);
    idle.send(kStatus);
    EXPECT_TRUE(is_ok(idle.line()));
    RawClient asks;
    const NoDescriptors limit;
    asks.connect(path_);
    asks.send(kStatus);
    EXPECT_TRUE(is_ok(asks.line()));
    EXPECT_TRUE(idle.closed());
  });
}

TEST_F(ServerTest, without_descriptors_who_asks_is_answered_as_soon_as_there_is_one) {
  if (kNeedsDescriptors) GTEST_SKIP() << "the sanitizer opens pipes";
  serve([&] {
    RawClient asks;
    {
      const NoDescriptors limit;
      asks.connect(path_);
      asks.send(kStatus);
      EXPECT_FALSE(asks.has_answer_within(milliseconds(300)));
    }
    EXPECT_TRUE(is_ok(asks.line()));
  });
}

TEST_F(ServerTest, api_client_says_what_to_do_when_nobody_is_there) {
  const auto missing = ApiClient::connect(path_);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find(path_), std::string::npos);
  EXPECT_NE(missing.error().message.find("Is millrace-controlplane running"), std::string::npos);
}

}  // namespace
}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/http_answer.h"

#include <gtest/gtest.h>

#include "tests/unit/health/answers.h"

namespace millrace::control {
namespace {

using Progress = HttpAnswer::Progress;
using test::SampleAnswer;

// What is made of `bytes` that arrive in pieces of `piece_bytes` at most, and of the end after
// them.
HttpAnswer read_in_pieces(std::string_view bytes, std::size_t piece_bytes) {
  HttpAnswer answer;
  while (!bytes.empty()) {
    (void)answer.read(bytes.substr(0, piece_bytes));  // read_end() says the same
    bytes.remove_prefix(std::min(piece_bytes, bytes.size()));
  }
  (void)answer.read_end();  // told by its code and its problem
  return answer;
}

std::string problem_of(std::string_view bytes) { return read_in_pieces(bytes, 4096).problem(); }

TEST(HttpAnswer, fault_84_final_code_is_found_however_the_bytes_arrive) {
  for (const SampleAnswer& sample : test::sample_answers()) {
    for (const std::size_t piece_bytes : {1U, 2U, 7U, 4096U, 1U << 20U}) {
      const HttpAnswer answer = read_in_pieces(sample.bytes, piece_bytes);
      const std::uint16_t code = answer.problem().empty() ? answer.status_code() : 0;
      EXPECT_EQ(code, sample.status_code) << sample.name << " in pieces of " << piece_bytes;
    }
  }
}

TEST(HttpAnswer, fault_84_header_is_the_verdict_and_no_byte_before) {
  const std::string bytes = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n";
  HttpAnswer answer;
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    ASSERT_EQ(answer.read(bytes.substr(i, 1)), Progress::incomplete) << i;
  }
  EXPECT_EQ(answer.read(bytes.substr(bytes.size() - 1)), Progress::complete);
  EXPECT_EQ(answer.read("HTTP/1.1 503 No\r\n\r\n"), Progress::complete);
  EXPECT_EQ(answer.read_end(), Progress::complete);
  EXPECT_EQ(answer.status_code(), 200);
}

TEST(HttpAnswer, what_is_no_http_is_known_at_its_first_bytes) {
  EXPECT_EQ(HttpAnswer().read("S"), Progress::not_http);
  EXPECT_EQ(HttpAnswer().read("HTP"), Progress::not_http);
  EXPECT_EQ(HttpAnswer().read("HTT"), Progress::incomplete);
  EXPECT_EQ(HttpAnswer().read(""), Progress::incomplete);
}

TEST(HttpAnswer, problem_is_told_in_a_network_engineers_words) {
  EXPECT_EQ(problem_of("SSH-2.0-OpenSSH_9.2\r\n"),
            "the answer is not HTTP: it begins with \"SSH-2.0-OpenSSH_9.2\"");
  EXPECT_EQ(problem_of("HTTP/1.1 2000 OK\r\n"),
            "the answer is not HTTP: it begins with \"HTTP/1.1 2000 OK\"");
  EXPECT_EQ(problem_of(std::string_view("\0\xff\"\n", 4)),
            "the answer is not HTTP: it begins with \"\\x00\\xff\\x22\"");
  EXPECT_EQ(problem_of("\x15\x03\x01"), "the answer is not HTTP but TLS");
  EXPECT_EQ(problem_of("HTTP/1.1 200 OK\r\nbroken\r\n"),
            "the answer is not HTTP: the line \"broken\" of its header has no colon");
  EXPECT_EQ(problem_of(""), "the target closed the connection without an answer");
  // curl takes the second for an answer; but it decides nothing.
  for (const char* cut : {"HTTP/1.1 20", "HTTP/1.1 100 Continue\r\nA: b\r\n"}) {
    EXPECT_EQ(problem_of(cut), "the target closed the connection before its answer was complete");
  }
  EXPECT_EQ(problem_of("HTTP/1.1 200 OK\r\nA:" + std::string(kAnswerHeaderBytesMax, 'b')),
            "the header of the answer is longer than 300 KiB");
  EXPECT_LT(problem_of(std::string(4096, '\1')).size(), 300U);
}

}  // namespace
}  // namespace millrace::control

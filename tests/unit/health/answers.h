// SPDX-License-Identifier: Apache-2.0
//
// HTTP answers of every kind that was met, and what is to be made of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millrace::test {

struct SampleAnswer {
  std::string name;
  std::string bytes;          // after which the target closes
  std::uint16_t status_code;  // 0: no HTTP answer
  // curl reports a fault of the body or its framing, which a probe does not look at.
  bool is_body_broken = false;
};

inline std::string repeated(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

inline std::vector<SampleAnswer> sample_answers() {
  const std::string end = "Content-Length: 0\r\n\r\n";
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  return {
      {"plain", ok + end, 200},
      {"body", ok + "Content-Length: 2\r\n\r\nok", 200},
      {"unavailable", "HTTP/1.1 503 No\r\n" + end, 503},
      {"highest code", "HTTP/1.1 999 Odd\r\n" + end, 999},
      {"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", 200},
      {"no reason", "HTTP/1.1 200\r\n" + end, 200},
      {"empty reason", "HTTP/1.1 200 \r\n" + end, 200},
      {"no space before the reason", "HTTP/1.1 200OK\r\n" + end, 200},
      {"spaces before the code", "HTTP/1.1   200 OK\r\n" + end, 200},
      {"small letters", "http/1.1 200 OK\r\n" + end, 200},
      {"HTTP/2 by name", "HTTP/2 200\r\n" + end, 200},
      {"lines end in LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200},
      {"lines end in either", "HTTP/1.1 200 OK\r\nA: b\n" + end, 200},
      {"a shell's echo ends lines twice", "HTTP/1.1 206 OK\r\n\nContent-Type: a\r\n\n\r\n", 206},
      {"no header lines", ok + "\r\n", 200},
      {"100 before", "HTTP/1.1 100 Continue\r\n\r\n" + ok + end, 200},
      {"103 before", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\n" + end,
       503},
      {"102 and 103 before", "HTTP/1.1 102 P\n\nHTTP/1.1 103 E\n\n" + ok + end, 200},
      {"thousand interim answers", repeated("HTTP/1.1 100 C\r\n\r\n", 1000) + ok + end, 200},
      {"101 is final", "HTTP/1.1 101 Switching Protocols\r\n\r\n" + ok + end, 101},
      {"only an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", 0},
      {"greeting after an interim answer", "HTTP/1.1 100 C\r\n\r\nhello\r\n\r\n", 0},
      {"folded line", ok + "A: b\r\n c\r\n\td\r\n" + end, 200},
      {"space before a colon", ok + "A : b\r\n" + end, 200},
      {"line without a colon", ok + "broken header\r\n" + end, 0},
      {"zero byte in the header", ok + std::string("A: b\0c\r\n", 8) + end, 0},
      {"end within the header", ok + "Server: x\r\n", 200},
      {"end within a header line", ok + "Server: x", 200},
      {"end after the first line", "HTTP/1.1 200 OK\n", 200},
      {"end within the first line", "HTTP/1.1 200 OK", 0},
      {"code of two digits", "HTTP/1.1 20 OK\r\n" + end, 0},
      {"code of four digits", "HTTP/1.1 2000 OK\r\n" + end, 0},
      {"code below 100", "HTTP/1.1 099 OK\r\n" + end, 0},
      {"code in letters", "HTTP/1.1 abc OK\r\n" + end, 0},
      {"no code", "HTTP/1.1\r\n" + end, 0},
      {"no version", "HTTP 200 OK\r\n" + end, 0},
      {"unknown version", "HTTP/1.2 200 OK\r\n" + end, 0},
      {"far version", "HTTP/9.1 200 OK\r\n" + end, 0},
      {"tabulator before the code", "HTTP/1.1\t200 OK\r\n" + end, 0},
      {"empty line first", "\r\n" + ok + end, 0},
      {"lines end in CR", "HTTP/1.1 200 OK\rA: b\r\r", 0},
      {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 0},
      {"TLS alert", std::string("\x15\x03\x01\0\x02\x02\x0a", 7), 0},
      {"HTTP/2 frame", std::string("\0\0\x12\x04\0\0\0\0\0", 9), 0},
      {"nothing", "", 0},
      {"line of 64 KiB", ok + "A: " + std::string(65000, 'x') + "\r\n" + end, 200},
      {"header of 200 KiB", ok + repeated("A: " + std::string(1000, 'x') + "\r\n", 200) + end, 200},
      {"header of 400 KiB", ok + repeated("A: " + std::string(1000, 'x') + "\r\n", 400) + end, 0},
      {"length in letters", ok + "Content-Length: abc\r\n\r\n", 200, true},
      {"chunk without a length", ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 200, true},
      {"body cut short", ok + "Content-Length: 1000000\r\n\r\nsome", 200, true},
  };
}

}  // namespace millrace::test

// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/http_answer.h"

#include <algorithm>
#include <array>
#include <utility>

namespace millrace::control {
namespace {

constexpr std::string_view kPrefix = "HTTP/";
// Of a line; a status line's reason is of no concern. Also what a message shows of an answer.
constexpr std::size_t kLineBytesKept = 48;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "HTTP/1.1 200 OK", "HTTP/1.0 200", "HTTP/2 200"; 0: no status line. In a status code of three
// digits the first is no 0.
std::uint16_t status_code_of(std::string_view line) {
  static constexpr std::array<std::string_view, 5> kVersions = {"1.1", "1.0", "2", "2.0", "3"};
  line.remove_prefix(std::min(line.size(), kPrefix.size()));
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return 0;
  const std::string_view version = line.substr(0, space);
  if (std::find(kVersions.begin(), kVersions.end(), version) == kVersions.end()) return 0;
  line.remove_prefix(std::min(line.find_first_not_of(' ', space), line.size()));
  if (line.size() < 3 || !std::all_of(line.begin(), line.begin() + 3, is_digit)) return 0;
  if (line[0] == '0' || (line.size() > 3 && is_digit(line[3]))) return 0;
  return static_cast<std::uint16_t>((line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0'));
}

// 101 ends the talk in HTTP; nothing of ours would follow it.
bool is_interim(std::uint16_t code) { return code >= 100 && code < 200 && code != 101; }

// A TLS record: alert or handshake, version 3.x.
bool is_tls(std::string_view bytes) {
  return bytes.size() >= 2 && (bytes[0] == 0x15 || bytes[0] == 0x16) && bytes[1] == 0x03;
}

constexpr std::string_view kHexDigits = "0123456789abcdef";

// As text of one line, with what cannot be shown as \xNN.
std::string quoted(std::string_view bytes) {
  std::string text = "\"";
  for (const char c : bytes) {
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      text += c;
      continue;
    }
    const auto value = static_cast<unsigned char>(c);
    text += std::string("\\x") + kHexDigits[value / 16] + kHexDigits[value % 16];
  }
  return text + '"';
}

}  // namespace

HttpAnswer::Progress HttpAnswer::read(std::string_view bytes) {
  if (progress_ != Progress::incomplete) return progress_;
  for (const char byte : bytes) {
    progress_ = read_byte(byte);
    if (progress_ != Progress::incomplete) return progress_;
  }
  if (status_code_ != 0 || can_begin_answer()) return progress_;
  return progress_ = refuse("the answer is not HTTP" + beginning());
}

HttpAnswer::Progress HttpAnswer::read_end() {
  if (progress_ != Progress::incomplete) return progress_;
  if (bytes_ == 0) return progress_ = refuse("the target closed the connection without an answer");
  const bool has_final_code = status_code_ != 0 && !is_interim(status_code_);
  if (has_final_code) return progress_ = Progress::complete;
  return progress_ = refuse("the target closed the connection before its answer was complete");
}

HttpAnswer::Progress HttpAnswer::read_byte(char byte) {
  if (++bytes_ > kAnswerHeaderBytesMax) {
    return refuse("the header of the answer is longer than " +
                  std::to_string(kAnswerHeaderBytesMax / 1024) + " KiB");
  }
  if (byte == '\n') {
    if (ends_in_cr_) --line_bytes_;
    if (line_.size() > line_bytes_) line_.resize(line_bytes_);
    const Progress progress = read_line();
    line_.clear();
    line_bytes_ = 0;
    has_colon_ = ends_in_cr_ = false;
    return progress;
  }
  if (byte == '\0' && status_code_ != 0) return refuse("the header of the answer has a zero byte");
  if (line_.size() < kLineBytesKept) line_ += byte;
  ++line_bytes_;
  has_colon_ = has_colon_ || byte == ':';
  ends_in_cr_ = byte == '\r';
  return Progress::incomplete;
}

HttpAnswer::Progress HttpAnswer::read_line() {
  if (status_code_ == 0) return read_status_line();
  if (line_bytes_ == 0 && !is_interim(status_code_)) return Progress::complete;
  if (line_bytes_ == 0) {
    status_code_ = 0;  // the next answer follows
    return Progress::incomplete;
  }
  const bool goes_on = line_.front() == ' ' || line_.front() == '\t';
  if (has_colon_ || goes_on) return Progress::incomplete;
  return refuse("the answer is not HTTP: the line " + quoted(line_) +
                " of its header has no colon");
}

HttpAnswer::Progress HttpAnswer::read_status_line() {
  status_code_ = status_code_of(line_);
  if (status_code_ != 0 && can_begin_answer()) return Progress::incomplete;
  return refuse("the answer is not HTTP" + beginning());
}

HttpAnswer::Progress HttpAnswer::refuse(std::string problem) {
  problem_ = std::move(problem);
  return Progress::not_http;
}

std::string HttpAnswer::beginning() const {
  if (is_tls(line_)) return " but TLS";
  return ": it begins with " + quoted(line_);
}

// Before the line is complete: what is no HTTP need not be waited for.
bool HttpAnswer::can_begin_answer() const {
  const std::string_view seen = std::string_view(line_).substr(0, kPrefix.size());
  const auto is_same = [](char a, char b) { return a == b || a - 'a' + 'A' == b; };
  return std::equal(seen.begin(), seen.end(), kPrefix.begin(), is_same);
}

}  // namespace millrace::control

// SPDX-License-Identifier: Apache-2.0
//
// Finds the status code of an HTTP answer while its bytes arrive. Cold and pure: no sockets, and no
// more of the answer is kept than the beginning of one line.
//
// A probe asks for nothing but the status code, and whoever tries the same by hand uses curl. So an
// answer is read as generously as curl reads it (RFC 9112, sections 2.2, 4 and 5.2; RFC 9110,
// section 15.2): interim answers (1xx) are read past, lines may end in LF alone, header lines may
// be folded, the reason may be missing. The body and its framing are not looked at: they would
// delay the verdict. tests/unit/health compares the two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::control {

// Header bytes of all answers to one probe, interim ones among them: curl's limit
// (MAX_HTTP_RESP_HEADER_SIZE). Nothing is buffered, so that it only bounds the work.
inline constexpr std::size_t kAnswerHeaderBytesMax = std::size_t{300} * 1024;

class HttpAnswer {
 public:
  enum class Progress : std::uint8_t {
    incomplete,  // more bytes, or the end of the stream, decide
    complete,    // status_code() is that of the final answer
    not_http,    // problem() says why
  };

  // The next bytes of the stream. What follows the header of the final answer is ignored.
  Progress read(std::string_view bytes);
  // The target sends no more. Enough that the final answer's first line is there, as for curl:
  // scripts leave out the empty line.
  Progress read_end();

  [[nodiscard]] std::uint16_t status_code() const { return status_code_; }
  // For a network engineer, e.g. `the answer is not HTTP: it begins with "SSH-2.0-OpenSSH_9.2"`.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  Progress read_byte(char byte);
  Progress read_line();
  Progress read_status_line();
  Progress refuse(std::string problem);
  [[nodiscard]] std::string beginning() const;
  [[nodiscard]] bool can_begin_answer() const;

  Progress progress_ = Progress::incomplete;
  std::uint16_t status_code_ = 0;  // of the answer whose header is read; 0: before its first line
  std::size_t bytes_ = 0;          // of all headers
  std::string line_;               // beginning of the current line
  std::size_t line_bytes_ = 0;     // without the line's end
  bool has_colon_ = false;         // the current line
  bool ends_in_cr_ = false;        // likewise, so far
  std::string problem_;
};

}  // namespace millrace::control

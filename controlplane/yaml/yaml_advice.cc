// SPDX-License-Identifier: Apache-2.0
#include "controlplane/yaml/yaml_advice.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "controlplane/yaml/reader.h"

namespace millrace::control {
namespace {

constexpr std::string_view kSpace = " \t\r";

// Where a line begins: with a key or value, or before it with the "-" of an entry. "  - id: x"
// begins in the columns 3, with an entry, and 5.
struct Start {
  std::size_t column = 0;  // from 1
  bool is_entry = false;
};

struct Line {
  std::string_view text;
  std::size_t number = 0;     // from 1
  std::vector<Start> starts;  // none in an empty line or a comment

  [[nodiscard]] std::string_view content() const { return text.substr(starts.back().column - 1); }
  [[nodiscard]] bool is_indented_by_tabs() const {
    return text.substr(0, text.find_first_not_of(kSpace)).find('\t') != std::string_view::npos;
  }
};

Line read_line(std::string_view text, std::size_t number) {
  Line line{
      .text = text.substr(0, text.find_last_not_of(kSpace) + 1), .number = number, .starts = {}};
  std::size_t at = line.text.find_first_not_of(kSpace);
  while (at != std::string_view::npos && line.text[at] != '#') {
    const bool is_entry = line.text.substr(at, 2) == "- " || line.text.substr(at) == "-";
    line.starts.push_back({at + 1, is_entry});
    if (!is_entry) break;
    at = line.text.find_first_not_of(kSpace, at + 1);
  }
  return line;
}

std::string column_text(std::size_t column) { return "column " + std::to_string(column); }
std::string line_text(const Line& line) { return "line " + std::to_string(line.number); }

class Advice {
 public:
  Advice(std::string_view text, const YamlPlace& place) : place_(place) {
    std::size_t begin = 0;
    for (std::size_t number = 1; number <= place.line && begin <= text.size(); ++number) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      lines_.push_back(read_line(text.substr(begin, end - begin), number));
      if (number == place.line) before_ = text.substr(0, std::min(begin + place.column - 1, end));
      begin = end + 1;
    }
  }

  [[nodiscard]] std::string on_indentation() const;
  [[nodiscard]] std::string on_key() const;
  [[nodiscard]] std::string on_entry() const;
  [[nodiscard]] std::string on_brackets() const;
  [[nodiscard]] std::string on_first_character() const;

 private:
  struct Bracket {
    char kind = 0;
    YamlPlace place;
  };
  [[nodiscard]] const Line& line() const { return lines_.back(); }
  [[nodiscard]] const Line* line_before() const;
  [[nodiscard]] std::vector<Start> open_starts() const;
  [[nodiscard]] std::optional<Bracket> open_bracket() const;

  YamlPlace place_;
  std::vector<Line> lines_;  // up to the one of `place`
  std::string_view before_;  // the text before `place`
};

constexpr const char* kTabs = "the line is indented by a tab; YAML takes spaces alone";
constexpr const char* kQuotes = "a text with `: ` in it must stand in quotes";

const Line* Advice::line_before() const {
  const auto found = std::find_if(lines_.rbegin() + 1, lines_.rend(),
                                  [](const Line& line) { return !line.starts.empty(); });
  return found == lines_.rend() ? nullptr : &*found;
}

// Where a line may begin: each map and list that is not over before this line.
std::vector<Start> Advice::open_starts() const {
  std::vector<Start> open;
  for (auto line = lines_.rbegin() + 1; line != lines_.rend(); ++line) {
    for (auto start = line->starts.rbegin(); start != line->starts.rend(); ++start) {
      if (open.empty() || start->column < open.back().column) open.push_back(*start);
    }
  }
  return open;
}

// A line that belongs to no map or list above it.
std::string Advice::on_indentation() const {
  if (line().is_indented_by_tabs()) return kTabs;
  if (line().starts.empty() || place_.column != line().starts.front().column) {
    return "a value has ended before this; put it into quotes if this belongs to it";
  }
  const Start& own = line().starts.front();
  std::string columns;
  for (const Start& start : open_starts()) {
    columns = std::to_string(start.column) + (columns.empty() ? "" : ", ") + columns;
    if (start.column != own.column || start.is_entry == own.is_entry) continue;
    return start.is_entry ? "the lines above that begin in " + column_text(own.column) +
                                " are entries of a list, which begin with `- `"
                          : "the lines above that begin in " + column_text(own.column) +
                                " are keys, among which there can be no entry of a list (`- `)";
  }
  return "the line begins in " + column_text(own.column) +
         ", where nothing above does that it could belong to; lines of one map or list begin in "
         "one "
         "column (possible here: " +
         columns + ")";
}

// A key behind, or below, a value that goes on as text.
std::string Advice::on_key() const {
  if (line().is_indented_by_tabs()) return kTabs;
  const Line* above = line_before();
  if (line().starts.empty() || above == nullptr) return kQuotes;
  const std::size_t key = line().starts.back().column - 1;  // where it begins in the line
  const std::string_view to_place = line().text.substr(0, place_.column - 1);
  const bool is_second = to_place.find(": ", key) != std::string_view::npos;
  if (is_second) return kQuotes;
  const std::string_view content = above->content();
  const bool has_key = content.find(": ") != std::string_view::npos || content.ends_with(':');
  if (!has_key && above->starts.size() == 1) {
    return line_text(*above) + ", " + quote(content) + ", is no key: it needs a colon and a space";
  }
  const std::size_t column = line().starts.front().column;
  if (column > above->starts.back().column) {
    return "the line begins in " + column_text(column) + ", further right than " +
           line_text(*above) + ", whose value is complete; keys of one map begin in one column";
  }
  return kQuotes;
}

std::string Advice::on_entry() const {
  if (open_bracket()) return on_brackets();
  return line().is_indented_by_tabs() ? kTabs : "an entry of a list (`- `) where none can be";
}

std::string Advice::on_brackets() const {
  const std::optional<Bracket> bracket = open_bracket();
  if (!bracket) return "a list in [ ] or a map in { } does not end, or lacks a comma";
  const bool is_list = bracket->kind == '[';
  return std::string(is_list ? "in the list [" : "in the map {") + " of line " +
         std::to_string(bracket->place.line) + ", " + column_text(bracket->place.column) +
         ": a comma is missing before this, or its " + (is_list ? "]" : "}");
}

std::string Advice::on_first_character() const {
  const std::size_t at = place_.column - 1;
  if (at >= line().text.size()) return "a value must stand in quotes here";
  return "a value that begins with " + quote(line().text.substr(at, 1)) + " must stand in quotes";
}

// The innermost one before the place. Brackets and quotes mean something where a value may begin,
// and brackets also within others.
std::optional<Advice::Bracket> Advice::open_bracket() const {
  std::vector<Bracket> open;
  YamlPlace place;
  char last = '\n';  // that is no space
  char quote = 0;
  bool is_comment = false;
  char previous = '\n';
  for (const char c : before_) {
    const bool begins = std::string_view("\n[{,:-").find(last) != std::string_view::npos;
    if (c == '\n') {
      is_comment = false;
    } else if (is_comment || quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '#' && kSpace.find(previous) != std::string_view::npos) {
      is_comment = true;
    } else if (begins && (c == '\'' || c == '"')) {
      quote = c;
    } else if ((c == '[' || c == '{') && (begins || !open.empty())) {
      open.push_back({c, place});
    } else if ((c == ']' || c == '}') && !open.empty()) {
      open.pop_back();
    }
    previous = c;
    if (!is_comment && kSpace.find(c) == std::string_view::npos) last = c;
    place.column = c == '\n' ? 1 : place.column + 1;
    if (c == '\n') ++place.line;
  }
  if (open.empty()) return std::nullopt;
  return open.back();
}

}  // namespace

std::string explain_yaml_error(std::string_view text, const YamlPlace& place,
                               const std::string& said) {
  using Explain = std::string (*)(const Advice&);
  struct Known {
    std::string_view said;  // or how it begins
    Explain explain;
  };
  static constexpr Known kKnown[] = {
      {"end of map not found", [](const Advice& a) { return a.on_indentation(); }},
      {"end of sequence not found", [](const Advice& a) { return a.on_indentation(); }},
      {"illegal map value", [](const Advice& a) { return a.on_key(); }},
      {"illegal block entry", [](const Advice& a) { return a.on_entry(); }},
      {"illegal tab", [](const Advice&) { return std::string(kTabs); }},
      {"end of sequence flow", [](const Advice& a) { return a.on_brackets(); }},
      {"end of map flow", [](const Advice& a) { return a.on_brackets(); }},
      {"illegal flow end",
       [](const Advice&) { return std::string("a ] or } that ends nothing; one too many?"); }},
      {"unknown token", [](const Advice& a) { return a.on_first_character(); }},
      {"unknown escape character",
       [](const Advice&) {
         return std::string(
             "a \\ in \"double quotes\" begins a special character; write \\\\, or "
             "'single quotes', which take it as it is");
       }},
      {"the referenced anchor",
       [](const Advice&) {
         return std::string(
             "* means a value that was named by & further up, and there is none of "
             "that name; a text that begins with * must stand in quotes");
       }},
      {"illegal EOF in scalar",
       [](const Advice&) { return std::string("a text in quotes does not end"); }},
  };
  for (const Known& known : kKnown) {
    if (said.starts_with(known.said)) return known.explain(Advice(text, place));
  }
  return said;
}

}  // namespace millrace::control
